"""Decoders of many small chunks at once.

A call of a codec library holds Python's lock for a microsecond or more, and on two threads waits for it much longer: as
long as a small chunk takes to decode. So the chunks become one buffer of the same format that one call decodes::

    zstd                frames may follow one another
    blosc               a header, the place of each block, the blocks wherever they are
    LZ4, bitshuffle     a header, the blocks

A buffer that a library would refuse for one chunk must not be accepted for many: the sizes within each chunk are
checked here, so that no block takes bytes of another chunk. Each function returns None where chunks cannot be decoded
in this way, since their settings differ or they may be damaged: they are then decoded one by one.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import Bytes, Pieces
from h5bound.codecs.decoders import damaged, unpack_lz4, unpack_shuffled, unshuffle, unshuffle_bits, zstd_header
from h5bound.codecs.lz4_blocks import HEAD, LENGTH, Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Options = tuple[int, ...]


MAX_BLOCKS = 256
"""Most blocks of a chunk that are looked at here; chunks of more are decoded one by one."""

ZSTD_HEAD = 18
"""Most bytes of the header of a Zstandard frame."""

BLOSC_HEAD = 16
"""Bytes of the header of a Blosc buffer."""


def unshuffle_all(pieces: Pieces, nbytes: int, options: Options) -> Pieces | None:
    """Undo the byte shuffle."""
    if nbytes < 0:
        return None
    out = np.empty((len(pieces), nbytes), np.uint8)
    unshuffle(pieces.rows(nbytes), out, options[0])
    return Pieces.of(out)


def check_all(pieces: Pieces, _nbytes: int, _options: Options) -> Pieces | None:
    """Check and remove Fletcher-32 checksums, as `h5bound.codecs.decoders.fletcher32` computes them."""
    sizes = pieces.sizes - 4
    if (sizes <= 0).any():
        return None
    rows = pieces.rows(int(sizes[0]), head=True) if (sizes == sizes[0]).all() and not sizes[0] % 2 else None
    if rows is None:
        padding = np.zeros(1, np.uint8)
        parts = [part for piece in pieces for part in ((piece[:-4], padding) if piece.size % 2 else (piece[:-4],))]
        rows = np.concatenate(parts)
    words = np.ascontiguousarray(rows).reshape(-1).view("<u2").astype(np.uint64)
    counts = (sizes + 1) // 2
    starts = np.cumsum(counts) - counts
    first = np.add.reduceat(words, starts).astype(np.int64)
    words *= np.arange(words.size, dtype=np.uint64)
    second = first * (starts + counts) - np.add.reduceat(words, starts).astype(np.int64)
    high, low = (np.where(total, (total % 65535 * 256 - 1) % 65535 + 1, 0) for total in (second, first))
    stored = _read_numbers(pieces.source, pieces.starts + sizes, "<u4")
    return (
        Pieces(source=pieces.source, starts=pieces.starts, sizes=sizes) if (stored == high << 16 | low).all() else None
    )


def decompress_zstd(pieces: Pieces, nbytes: int, _options: Options) -> Pieces | None:
    """Decompress Zstandard frames of one header (RFC 8878, section 3.1.1)."""
    from numcodecs import zstd

    if nbytes < 0 or (pieces.sizes < ZSTD_HEAD).any() or not _takes_frames():
        return None
    heads = pieces.rows(ZSTD_HEAD, head=True)
    length, declared = zstd_header(heads[0].tobytes())
    if declared != nbytes or (heads[:, :length] != heads[0, :length]).any():
        return None
    places, stops = pieces.starts + length, pieces.starts + pieces.sizes - 4 * (heads[0, 4] >> 2 & 1)
    going = np.arange(len(pieces))  # chunks with another block
    for _ in range(MAX_BLOCKS):
        if (places[going] + 3 > stops[going]).any():
            return None
        head = _read_numbers(pieces.source, places[going] - 1, "<u4") >> 8
        places[going] += 3 + np.where(head & 6 == 2, 1, head >> 3)
        going = going[head & 1 == 0]
        if not going.size:
            break
    if going.size or (places != stops).any():
        return None
    out = np.empty((len(pieces), nbytes), np.uint8)
    with damaged("does not decompress"):
        zstd.decompress(pieces.join(), out.reshape(-1))
    return Pieces.of(out)


@cache
def _takes_frames() -> bool:
    """Return whether this numcodecs decompresses several Zstandard frames."""
    from numcodecs import zstd

    try:
        return len(zstd.decompress(2 * zstd.compress(bytes(100)))) == 200
    except RuntimeError:
        return False


def decompress_blosc(pieces: Pieces, nbytes: int, _options: Options) -> Pieces | None:
    """Decompress Blosc 1 buffers of equal settings and whole blocks (c-blosc, README_CHUNK_FORMAT)."""
    from numcodecs import blosc

    if nbytes < 0 or (pieces.sizes < BLOSC_HEAD).any():
        return None
    heads = np.ascontiguousarray(pieces.rows(BLOSC_HEAD, head=True)).view("<u4")
    _, _, flags, typesize = heads[0, :1].tobytes()
    _, declared, block, _ = heads[0].tolist()
    count = nbytes // block if 0 < block <= nbytes else 0
    same = (heads[:, :3] == heads[0, :3]).all() and (heads[:, 3] == pieces.sizes).all()
    if not same or declared != nbytes or flags & 2 or not typesize or count * block != nbytes or count > MAX_BLOCKS:
        return None
    splits = typesize if not flags & 0x10 and typesize <= 16 and block // typesize >= 128 else 1
    begins = np.empty((len(pieces), count), np.int64)
    for i in range(count):
        if (pieces.sizes < BLOSC_HEAD + 4 * count).any():
            return None
        places = begins[:, i] = _read_numbers(pieces.source, pieces.starts + BLOSC_HEAD + 4 * i, "<u4")
        for _ in range(splits):
            if (places + 4 > pieces.sizes).any():
                return None
            places = places + 4 + _read_numbers(pieces.source, pieces.starts + places, "<u4")
        if (places > pieces.sizes).any():
            return None
    begins += (BLOSC_HEAD + 4 * begins.size + pieces.starts)[:, None]
    size = BLOSC_HEAD + 4 * begins.size + pieces.source.size
    head = struct.pack("<4sIII", heads[0, :1].tobytes(), nbytes * len(pieces), block, size)
    parts = np.frombuffer(head, np.uint8), begins.astype("<u4").reshape(-1).view(np.uint8), pieces.source
    out = np.empty((len(pieces), nbytes), np.uint8)
    with damaged("does not decompress"):
        blosc.decompress(np.concatenate(parts), out.reshape(-1))
    return Pieces.of(out)


def decompress_lz4(pieces: Pieces, nbytes: int, _options: Options) -> Pieces | None:
    """Decompress HDF5's LZ4 framing."""
    frames = join_frames(pieces, nbytes)
    if frames is None:
        return None
    out = np.empty((len(pieces), nbytes), np.uint8)
    unpack_lz4(frames, out.reshape(-1))
    return Pieces.of(out)


def undo_bitshuffle_all(pieces: Pieces, nbytes: int, options: Options) -> Pieces | None:
    """Undo the bit shuffle of chunks of whole groups of elements, and the compression before it."""
    _, _, size, _, packer = (*options, 0)[:5]
    frames = join_frames(pieces, nbytes) if packer and nbytes > 0 and nbytes % (8 * size) == 0 else None
    if frames is None:
        return None
    bits, out = np.empty(len(pieces) * nbytes, np.uint8), np.empty((len(pieces), nbytes), np.uint8)
    unpack_shuffled(frames, bits, packer)
    unshuffle_bits(bits, out.reshape(-1), size=size, elements=frames.block // size)
    return Pieces.of(out)


def join_frames(pieces: Pieces, nbytes: int) -> Frames | None:
    """Return one framed buffer for several of `nbytes` decoded bytes, if their blocks are of one size."""
    if nbytes < 0 or (pieces.sizes < HEAD.size).any():
        return None
    heads = pieces.rows(HEAD.size, head=True)
    declared, block = HEAD.unpack(heads[0].tobytes())
    block = min(block, nbytes)
    if (heads != heads[0]).any() or declared != nbytes or not block or nbytes % block or nbytes // block > MAX_BLOCKS:
        return None
    places, stops = pieces.starts + HEAD.size, pieces.starts + pieces.sizes
    lengths = np.empty((len(pieces), nbytes // block), np.int64)
    for i in range(lengths.shape[1]):
        if (places + LENGTH.size > stops).any():
            return None
        lengths[:, i] = _read_numbers(pieces.source, places, ">u4")
        places = places + LENGTH.size + lengths[:, i]
    if (places != stops).any() or not lengths.all():
        return None
    head = np.frombuffer(HEAD.pack(nbytes * len(pieces), block), np.uint8)
    parts: list[Bytes] = [head, *(piece[HEAD.size :] for piece in pieces)]
    return Frames(np.concatenate(parts), block, lengths.ravel().tolist())


def _read_numbers(source: Bytes, places: Numbers, kind: str) -> Numbers:
    """Return the 32-bit numbers at these places."""
    windows = np.ndarray((source.size - 3, 4), np.uint8, source, strides=(1, 1))
    return windows[places].view(kind)[:, 0].astype(np.int64)
