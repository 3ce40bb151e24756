"""What undoes single HDF5 filters, on plain buffers.

A decoder works outside HDF5, so outside HDF5's lock, and the codecs that it calls give up Python's lock while
they work. It writes into a buffer of the size that the data are declared to have: data that decode to anything
else are refused, and no size that stands in the data is trusted with an allocation. Codec libraries are imported
where they are called.
"""

from __future__ import annotations

import bz2
import struct
import zlib
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.buffers import Bytes, DamagedError, Rows
from h5bound.codecs.lz4_blocks import find_frames, join_frames, unpack_full, unpack_one_by_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class FilterInput(NamedTuple):
    """What one filter has to undo."""

    source: Bytes
    """the bytes as the filter left them; where a codec may write to them, it leaves them as they were"""
    nbytes: int
    """how many bytes there were before the filter; -1 where that is not known beforehand"""
    out: Bytes | None
    """where to put them; None for a buffer of the decoder's own"""
    options: tuple[int, ...]
    """the filter's client data values"""
    limit: int = 0
    """the most bytes that there may have been, where how many is not known"""

    def target(self) -> Bytes:
        """Give the buffer to decode into: `out`, or a new one of `nbytes`."""
        return np.empty(self.nbytes, np.uint8) if self.out is None else self.out


def undo_deflate(task: FilterInput) -> Bytes:
    """Inflate a zlib stream; libdeflate checks its Adler-32. What it unpacks to is known, or has a limit."""
    import deflate

    if task.nbytes < 0:
        return inflate_within(task.source, task.limit)
    try:
        return np.frombuffer(deflate.zlib_decompress(task.source, task.nbytes), np.uint8)
    except deflate.DeflateError as error:
        raise DamagedError(f"is not a zlib stream of {task.nbytes} bytes") from error


def inflate_within(source: Bytes, limit: int) -> Bytes:
    """Inflate a zlib stream of any size up to a limit, allocating no more."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(source, limit + 1)
    except zlib.error as error:
        raise DamagedError(f"is not a zlib stream: {error}") from error
    if len(data) > limit or not unpacker.eof:
        raise DamagedError(f"is not a zlib stream of at most {limit} bytes")
    return np.frombuffer(data, np.uint8)


def undo_shuffle(task: FilterInput) -> Bytes:
    """Put byte k of every element back beside the element's other bytes.

    numpy's strided copies do this at 3 GB/s without Python's lock, which numcodecs keeps. What is left over
    after the last whole element was never shuffled (H5Zshuffle.c).
    """
    size = task.options[0]
    out = np.empty(task.source.size, np.uint8) if task.out is None else task.out
    if out.size != task.source.size:
        raise DamagedError(f"has {task.source.size} bytes where {out.size} are declared")
    unshuffle(task.source, out, size)
    return out


def unshuffle(source: Rows, out: Rows, size: int) -> None:
    """Put the bytes of elements of `size` back together, in one chunk or in each row of chunks."""
    whole = out.shape[-1] // size * size
    rows = out.shape[:-1]
    planes, elements = source[..., :whole].reshape(*rows, size, -1), out[..., :whole].reshape(*rows, -1, size)
    for k in range(size):
        elements[..., k] = planes[..., k, :]
    out[..., whole:] = source[..., whole:]


def undo_fletcher32(task: FilterInput) -> Bytes:
    """Check the four bytes of checksum at the end and take them off."""
    if task.source.size < 4:
        raise DamagedError("is too short for its checksum")
    data = task.source[:-4]
    stored = int.from_bytes(task.source[-4:].tobytes(), "little")
    computed = fletcher32(data)
    # HDF5 up to 1.6.2 on little-endian machines swapped the bytes of either half (H5Zfletcher32.c).
    swapped = (computed & 0x00FF00FF) << 8 | (computed & 0xFF00FF00) >> 8
    if stored not in (computed, swapped):
        raise DamagedError(f"has the Fletcher-32 checksum {computed:#010x} where {stored:#010x} is stored")
    return data


def fletcher32(data: Bytes) -> int:
    """Give HDF5's Fletcher-32 checksum of `data`.

    The two sums run over big-endian 16-bit words modulo 65535, with 65535 in place of 0 unless every word is
    0; an odd last byte is the high byte of a word (H5checksum.c, `H5_checksum_fletcher32`). They are had from
    the sums of the rows and columns of a matrix of the words: 4 GB/s in numpy, without Python's lock.

    Examples
    --------
    >>> hex(fletcher32(np.arange(1, 6, dtype=np.uint8)))
    '0xe0e0906'
    """
    first = second = 0
    words = data[: data.size // 2 * 2].view("<u2")
    for start in range(0, words.size, WORDS_AT_ONCE):
        total, weighted = sum_words(words[start : start + (WORDS_AT_ONCE)])
        second += first * min(words.size - start, WORDS_AT_ONCE) + weighted
        first += total
    # The words were read with their bytes swapped; modulo 65535 a multiplication by 256 swaps them back.
    first, second = first * 256, second * 256
    if data.size % 2:
        first += int(data[-1]) << 8
        second += first
    return wrapped(second) << 16 | wrapped(first)


WORDS_AT_ONCE = 1 << 24
"""Of so many 16-bit words neither a row nor a column of the matrix overflows 32 bits."""


def sum_words(words: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> tuple[int, int]:
    """Give the sum of at most `WORDS_AT_ONCE` words, and the sum of what it has been after each of them."""
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


def wrapped(total: int) -> int:
    """Give `total` modulo 65535 as end-around carries leave it: 65535, not 0, unless the total is 0."""
    return (total - 1) % 65535 + 1 if total else 0


def undo_zstd(task: FilterInput) -> Bytes:
    """Decompress a Zstandard frame whose header says its size, as HDF5's plugin asks for."""
    from numcodecs import zstd

    if zstd_nbytes(task.source[:18].tobytes()) != task.nbytes:
        raise DamagedError(f"is not a Zstandard frame of {task.nbytes} bytes")
    out = task.target()
    try:
        zstd.decompress(task.source, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"is not a Zstandard frame of {task.nbytes} bytes: {error}") from error
    return out


def zstd_nbytes(head: bytes) -> int:
    """Give the content size in a Zstandard frame's header, -1 if it has none (RFC 8878, section 3.1.1.1)."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    single, flag = head[4] & 0x20, head[4] >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[head[4] & 3]
    size = head[start : start + width]
    if not width or len(size) < width:
        return -1
    return int.from_bytes(size, "little") + (256 if width == 2 else 0)


def undo_bzip2(task: FilterInput) -> Bytes:
    """Decompress a bzip2 stream, reading at most one byte more than there should be."""
    unpacker = bz2.BZ2Decompressor()
    try:
        data = unpacker.decompress(task.source, task.nbytes + 1)
    except (OSError, EOFError) as error:
        raise DamagedError(f"is not a bzip2 stream: {error}") from error
    if len(data) != task.nbytes or not unpacker.eof:
        raise DamagedError(f"is not a bzip2 stream of {task.nbytes} bytes")
    return np.frombuffer(data, np.uint8)


def undo_blosc(task: FilterInput) -> Bytes:
    """Decompress a Blosc 1 buffer whose header has the sizes right."""
    from numcodecs import blosc

    if task.source.size < 16:
        raise DamagedError("is too short for a Blosc buffer")
    nbytes, _, stored = struct.unpack("<III", task.source[4:16].tobytes())
    if nbytes != task.nbytes or stored != task.source.size:
        raise DamagedError(
            f"is a Blosc buffer that says it has {stored} bytes for {nbytes}, where {task.source.size} are "
            f"stored for {task.nbytes}"
        )
    out = task.target()
    try:
        blosc.decompress(task.source, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"does not decompress: {error}") from error
    return out


HEAD_NBYTES = 16
"""Bytes of the header of a Blosc buffer."""


def blosc_sizes(heads: Rows, stored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the sizes in the headers of Blosc 1 buffers; -1 where one says another size for itself than is stored.

    >>> head = np.array([[2, 1, 0x21, 4, 80, 0, 0, 0, 80, 0, 0, 0, 50, 0, 0, 0]], np.uint8)
    >>> blosc_sizes(head, np.array([50])), blosc_sizes(head, np.array([51]))
    (array([80]), array([-1]))
    """
    words = np.ascontiguousarray(heads[:, 4:16]).view("<u4").astype(np.int64)
    return np.where(words[:, 2] == stored, words[:, 0], -1)


def undo_lz4(task: FilterInput) -> Bytes:
    """Decompress HDF5's LZ4 framing; a block as long as what it holds is stored as it is (H5Zlz4.c)."""
    out = task.target()
    frames = find_frames(task.source, out.size, out.size)
    done = unpack_full(frames, out, plain=True) if len(frames.lengths) > 1 and has_imagecodecs() else 0
    unpack_one_by_one(frames, out, unpack_lz4, plain=True, done=done)
    return out


@cache
def has_imagecodecs() -> bool:
    """Tell whether imagecodecs is installed."""
    return find_spec("imagecodecs") is not None


def join_lz4(parts: Sequence[Bytes], nbytes: int, _options: tuple[int, ...]) -> Bytes | None:
    """Give what the LZ4 filter would have made of several chunks of `nbytes` as one; None where that is not sure."""
    return join_frames(parts, nbytes)


def unpack_lz4(frame: Bytes, out: Bytes) -> None:
    """Decompress one LZ4 block after four bytes, in which numcodecs is told the size as it wants it."""
    from numcodecs import lz4

    frame[:4].view("<u4")[0] = out.size
    lz4.decompress(frame, out)


def unpack_zstd(frame: Bytes, out: Bytes) -> None:
    """Decompress one Zstandard frame after four bytes."""
    undo_zstd(FilterInput(frame[4:], out.size, out, ()))


def undo_bitshuffle(task: FilterInput) -> Bytes:
    """Put the bits of every element back together, decompressing them before where that is asked for.

    Elements are taken eight at a time; what is left after the last eight stands as it is at the end
    (bitshuffle.c). Compressed, the framing is that of LZ4 (bshuf_h5filter.c).
    """
    import imagecodecs

    _, _, size, elements, packer = (*task.options, 0)[:5]
    nbytes = task.source.size if task.nbytes < 0 else task.nbytes
    packed = nbytes // (8 * size) * (8 * size)
    bits, left = task.source[:packed], task.source[packed:]
    if packer:
        bits, left, block = unpack_bits(task.source, nbytes, packed, packer)
        elements = block // size
    if bits.size + left.size != nbytes:
        raise DamagedError(f"has {bits.size + left.size} bytes where {nbytes} are declared")
    out = np.empty(nbytes, np.uint8) if task.out is None else task.out
    out[packed:] = left
    cell = f"V{size}"
    try:
        imagecodecs.bitshuffle_decode(bits.view(cell), blocksize=elements, out=out[:packed].view(cell))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"does not unshuffle: {error}") from error
    return out


def join_bitshuffle(parts: Sequence[Bytes], nbytes: int, options: tuple[int, ...]) -> Bytes | None:
    """Give what bitshuffle would have made of several chunks of `nbytes` as one; None where that is not sure."""
    _, _, size, _, packer = (*options, 0)[:5]
    return join_frames(parts, nbytes) if packer and nbytes % (8 * size) == 0 else None


def unpack_bits(source: Bytes, nbytes: int, packed: int, packer: int) -> tuple[Bytes, Bytes, int]:
    """Give the shuffled bits that bitshuffle compressed, the bytes after them, and the bytes of a block."""
    frames = find_frames(source, nbytes, packed)
    bits = np.empty(packed, np.uint8)
    if packer == 2:
        unpack_one_by_one(frames, bits, unpack_lz4, done=unpack_full(frames, bits))
    else:
        unpack_one_by_one(frames, bits, unpack_zstd)
    return bits, source[frames.end(len(frames.lengths)) :], frames.block


def undo_lzf(task: FilterInput) -> Bytes:
    """Decompress an LZF stream."""
    import imagecodecs

    out = task.target()
    try:
        data = imagecodecs.lzf_decode(task.source, out=memoryview(out))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"is not an LZF stream: {error}") from error
    if len(data) != out.size:
        raise DamagedError(f"decodes to {len(data)} bytes where {out.size} are declared")
    return out


def undo_szip(task: FilterInput) -> Bytes:
    """Decompress a SZIP stream led by its little-endian size (H5Zszip.c)."""
    import imagecodecs

    out = task.target()
    if task.source.size < 5 or int.from_bytes(task.source[:4].tobytes(), "little") != out.size:
        raise DamagedError(f"is not a SZIP buffer of {out.size} bytes")
    mask, per_block, bits, per_line = task.options
    try:
        data = imagecodecs.szip_decode(task.source[4:], mask, per_block, bits, per_line, out=memoryview(out))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"is not a SZIP stream: {error}") from error
    if len(data) != out.size:
        raise DamagedError(f"decodes to {len(data)} bytes where {out.size} are declared")
    return out
