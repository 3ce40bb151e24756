"""Decoders of single HDF5 filters, on plain buffers.

They run outside HDF5, so without its lock, and the codec libraries release the GIL. Each writes into a buffer of the
declared size and raises DamagedError for data that decode to any other size. Sizes in the data never decide how much
memory is allocated. Codec libraries are imported where they are called.
"""

from __future__ import annotations

import bz2
import struct
import zlib
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from h5bound.buffers import Bytes, DamagedError, Rows
from h5bound.codecs.lz4_blocks import find_frames, unpack_full, unpack_one_by_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized

    from h5bound.codecs.lz4_blocks import Frames


class FilterInput(NamedTuple):
    """The input of one decoder."""

    source: Bytes
    """Encoded bytes. A decoder that overwrites them restores them."""
    nbytes: int
    """Decoded size in bytes; -1 if unknown."""
    out: Bytes | None
    """Buffer for the decoded bytes; None for a new one."""
    options: tuple[int, ...]
    """Client data values of the filter."""
    limit: int = 0
    """Largest decoded size in bytes if `nbytes` is -1."""

    def target(self) -> Bytes:
        """Return the buffer to decode into: `out`, or a new one of `nbytes`, or of the source's size if that is -1."""
        if self.out is not None:
            return self.out
        return np.empty(self.source.size if self.nbytes < 0 else self.nbytes, np.uint8)


@contextmanager
def damaged(problem: str) -> Iterator[None]:
    """Turn the errors of codec libraries into DamagedError."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise DamagedError(f"{problem}: {error}") from error


def undo_deflate(step: FilterInput) -> Bytes:
    """Inflate a zlib stream and check its Adler-32: with libdeflate, or with zlib, which takes twice as long."""
    problem = f"is not a zlib stream of {step.nbytes} bytes"
    try:
        import deflate
    except ModuleNotFoundError:
        deflate = None  # type: ignore[assignment]
    if step.nbytes < 0 or deflate is None:
        limit = step.limit if step.nbytes < 0 else step.nbytes
        data = _decompress_stream(zlib.decompressobj(), step.source, limit=limit, name="zlib")
        if step.nbytes not in (-1, data.size):
            raise DamagedError(problem)
        return data
    try:
        return np.frombuffer(deflate.zlib_decompress(step.source, step.nbytes), np.uint8)
    except deflate.DeflateError as error:
        raise DamagedError(problem) from error


def _decompress_stream(unpacker: Any, source: Bytes, *, limit: int, name: str) -> Bytes:
    """Decompress a stream of at most `limit` bytes, without allocating more than one byte beyond."""
    with damaged(f"is not a {name} stream"):
        data = unpacker.decompress(source, limit + 1)
    if len(data) > limit or not unpacker.eof:
        raise DamagedError(f"is not a {name} stream of at most {limit} bytes")
    return np.frombuffer(data, np.uint8)


def undo_shuffle(step: FilterInput) -> Bytes:
    """Undo the byte shuffle.

    numpy's strided copies do this at 3 GB/s without the GIL, which numcodecs holds. Bytes after the last whole element
    are not shuffled (H5Zshuffle.c).
    """
    out = step.target()
    if out.size != step.source.size:
        raise DamagedError(f"has {step.source.size} bytes where {out.size} are declared")
    unshuffle(step.source, out, step.options[0])
    return out


def unshuffle(source: Rows, out: Rows, size: int) -> None:
    """Unshuffle elements of `size` bytes, in one chunk or in each row of chunks."""
    whole = out.shape[-1] // size * size
    rows = out.shape[:-1]
    planes, elements = source[..., :whole].reshape(*rows, size, -1), out[..., :whole].reshape(*rows, -1, size)
    for k in range(size):
        elements[..., k] = planes[..., k, :]
    out[..., whole:] = source[..., whole:]


def undo_fletcher32(step: FilterInput) -> Bytes:
    """Check and remove the checksum, the last four bytes."""
    if step.source.size < 4:
        raise DamagedError("is too short for its checksum")
    data = step.source[:-4]
    stored = int.from_bytes(step.source[-4:].tobytes(), "little")
    computed = fletcher32(data)
    # HDF5 up to 1.6.2 on little-endian machines swapped the bytes of either half (H5Zfletcher32.c).
    swapped = (computed & 0x00FF00FF) << 8 | (computed & 0xFF00FF00) >> 8
    if stored not in (computed, swapped):
        raise DamagedError(f"has the Fletcher-32 checksum {computed:#010x} where {stored:#010x} is stored")
    return data


def fletcher32(data: Bytes) -> int:
    """Return HDF5's Fletcher-32 checksum of `data`.

    The two sums run over big-endian 16-bit words modulo 65535, with 65535 in place of 0 unless every word is 0. An odd
    last byte is the high byte of a word (H5checksum.c, `H5_checksum_fletcher32`). They are computed from the sums of
    the rows and columns of a matrix of the words: 4 GB/s in numpy, without the GIL.

    >>> hex(fletcher32(np.arange(1, 6, dtype=np.uint8)))
    '0xe0e0906'
    """
    first = second = 0
    words = data[: data.size // 2 * 2].view("<u2")
    for start in range(0, words.size, WORDS_AT_ONCE):
        total, weighted = _sum_words(words[start : start + WORDS_AT_ONCE])
        second += first * min(words.size - start, WORDS_AT_ONCE) + weighted
        first += total
    # The words were read with their bytes swapped. Modulo 65535, multiplying by 256 swaps them back.
    first, second = first * 256, second * 256
    if data.size % 2:
        first += int(data[-1]) << 8
        second += first
    return _fold(second) << 16 | _fold(first)


WORDS_AT_ONCE = 1 << 24
"""Words that are summed at once: no row or column of their matrix overflows 32 bits."""


def _sum_words(words: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> tuple[int, int]:
    """Return the sum of at most `WORDS_AT_ONCE` words, and the sum of its running totals."""
    width = 2048
    height = words.size // width
    matrix = words[: height * width].reshape(height, width)
    rows = matrix.sum(axis=1, dtype=np.uint32).astype(np.uint64)
    columns = matrix.sum(axis=0, dtype=np.uint32).astype(np.uint64)
    last = words[height * width :].astype(np.uint64)
    before = words.size - np.arange(height, dtype=np.uint64) * width
    weighted = int((rows * before).sum()) - int((columns * np.arange(width, dtype=np.uint64)).sum())
    weighted += int((last * np.arange(last.size, 0, -1, dtype=np.uint64)).sum())
    return int(rows.sum()) + int(last.sum()), weighted


def _fold(total: int) -> int:
    """Return `total` modulo 65535 as end-around carries leave it: 65535, not 0, unless the total is 0."""
    return (total - 1) % 65535 + 1 if total else 0


def undo_zstd(step: FilterInput) -> Bytes:
    """Decompress a Zstandard frame. Its header must hold its size, as HDF5's plugin requires."""
    from numcodecs import zstd

    problem = f"is not a Zstandard frame of {step.nbytes} bytes"
    if zstd_header(step.source[:18].tobytes())[1] != step.nbytes:
        raise DamagedError(problem)
    out = step.target()
    with damaged(problem):
        zstd.decompress(step.source, out)
    return out


def zstd_header(head: bytes) -> tuple[int, int]:
    """Return the bytes of a Zstandard frame's header, and its content size (RFC 8878, section 3.1.1.1), -1 if none."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return 0, -1
    single, flag = head[4] & 0x20, head[4] >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[head[4] & 3]
    size = head[start : start + width]
    if not width or len(size) < width:
        return 0, -1
    return start + width, int.from_bytes(size, "little") + (256 if width == 2 else 0)


def undo_bzip2(step: FilterInput) -> Bytes:
    """Decompress a bzip2 stream."""
    return _decompress_stream(bz2.BZ2Decompressor(), step.source, limit=step.nbytes, name="bzip2")


def undo_blosc(step: FilterInput) -> Bytes:
    """Decompress a Blosc 1 buffer, after checking the sizes in its header."""
    from numcodecs import blosc

    if step.source.size < 16:
        raise DamagedError("is too short for a Blosc buffer")
    nbytes, _, encoded_nbytes = struct.unpack("<III", step.source[4:16].tobytes())
    if nbytes != step.nbytes or encoded_nbytes != step.source.size:
        raise DamagedError(
            f"is a Blosc buffer of {encoded_nbytes} bytes for {nbytes} by its header, where {step.source.size} are "
            f"stored for {step.nbytes}"
        )
    out = step.target()
    with damaged("does not decompress"):
        blosc.decompress(step.source, out)
    return out


def undo_lz4(step: FilterInput) -> Bytes:
    """Decompress HDF5's LZ4 framing. A block as long as its content is stored uncompressed (H5Zlz4.c)."""
    out = step.target()
    unpack_lz4(find_frames(step.source, out.size, out.size), out)
    return out


def unpack_lz4(frames: Frames, out: Bytes) -> None:
    """Decompress the blocks of HDF5's LZ4 framing."""
    done = unpack_full(frames, out, plain=True) if len(frames.lengths) > 1 and has_imagecodecs() else 0
    unpack_one_by_one(frames, out, _unpack_lz4, plain=True, done=done)


@cache
def has_imagecodecs() -> bool:
    """Return whether imagecodecs is installed."""
    return find_spec("imagecodecs") is not None


def _unpack_lz4(frame: Bytes, out: Bytes) -> None:
    """Decompress one LZ4 block. numcodecs reads its size from the four bytes before it, which are overwritten."""
    from numcodecs import lz4

    frame[:4].view("<u4")[0] = out.size
    lz4.decompress(frame, out)


def _unpack_zstd(frame: Bytes, out: Bytes) -> None:
    """Decompress one Zstandard frame that follows four bytes."""
    undo_zstd(FilterInput(frame[4:], out.size, out=out, options=()))


def undo_bitshuffle(step: FilterInput) -> Bytes:
    """Undo the bit shuffle, and before it the compression that the filter may include.

    Bits are shuffled in groups of eight elements. Elements after the last group follow unchanged (bitshuffle.c).
    Compressed data have the framing of LZ4 (bshuf_h5filter.c).
    """
    _, _, size, elements, packer = (*step.options, 0)[:5]
    nbytes = step.source.size if step.nbytes < 0 else step.nbytes
    packed = nbytes // (8 * size) * (8 * size)
    bits, rest = step.source[:packed], step.source[packed:]
    if packer:
        frames = find_frames(step.source, nbytes, packed)
        bits, rest = np.empty(packed, np.uint8), step.source[frames.end(len(frames.lengths)) :]
        elements = frames.block // size
        unpack_shuffled(frames, bits, packer)
    if bits.size + rest.size != nbytes:
        raise DamagedError(f"has {bits.size + rest.size} bytes where {nbytes} are declared")
    out = step.target()
    out[packed:] = rest
    unshuffle_bits(bits, out[:packed], size=size, elements=elements)
    return out


def unpack_shuffled(frames: Frames, bits: Bytes, packer: int) -> None:
    """Decompress the blocks of a bitshuffle buffer: of LZ4 if `packer` is 2, else of Zstandard."""
    if packer == 2:
        unpack_one_by_one(frames, bits, _unpack_lz4, done=unpack_full(frames, bits))
    else:
        unpack_one_by_one(frames, bits, _unpack_zstd)


def unshuffle_bits(bits: Bytes, out: Bytes, *, size: int, elements: int) -> None:
    """Unshuffle the bits of elements of `size` bytes, in blocks of so many elements."""
    import imagecodecs

    element = f"V{size}"
    with damaged("does not unshuffle"):
        imagecodecs.bitshuffle_decode(bits.view(element), blocksize=elements, out=out.view(element))


def undo_lzf(step: FilterInput) -> Bytes:
    """Decompress an LZF stream."""
    import imagecodecs

    out = step.target()
    with damaged("is not an LZF stream"):
        data = imagecodecs.lzf_decode(step.source, out=memoryview(out))
    return _check_full(data, out)


def undo_szip(step: FilterInput) -> Bytes:
    """Decompress a SZIP stream that follows its little-endian size (H5Zszip.c)."""
    import imagecodecs

    out = step.target()
    if step.source.size < 5 or int.from_bytes(step.source[:4].tobytes(), "little") != out.size:
        raise DamagedError(f"is not a SZIP buffer of {out.size} bytes")
    mask, per_block, bits, per_line = step.options
    with damaged("is not a SZIP stream"):
        data = imagecodecs.szip_decode(step.source[4:], mask, per_block, bits, per_line, out=memoryview(out))
    return _check_full(data, out)


def _check_full(data: Sized, out: Bytes) -> Bytes:
    if len(data) != out.size:
        raise DamagedError(f"decodes to {len(data)} bytes where {out.size} are declared")
    return out
