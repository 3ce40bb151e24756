"""HDF5's framing of LZ4 (H5Zlz4.c), which bitshuffle uses too (bshuf_h5filter.c).

A framed buffer is the decoded size, the size of a block, and the blocks, each after its encoded size, all big-endian.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.buffers import Bytes, DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable


HEAD = struct.Struct(">QI")
LENGTH = struct.Struct(">I")


class Frames(NamedTuple):
    """The blocks of a framed buffer."""

    source: Bytes
    block: int
    """Decoded bytes of each block but the last."""
    lengths: list[int]
    """Encoded bytes of each block, without the four bytes before it."""

    def end(self, count: int) -> int:
        """Return the offset behind the first `count` blocks."""
        return HEAD.size + sum(islice(self.lengths, count)) + LENGTH.size * count


def find_frames(source: Bytes, nbytes: int, packed: int) -> Frames:
    """Return the blocks of a buffer of `nbytes` decoded bytes; its blocks have the first `packed` bytes.

    Raise DamagedError if its header has another size, or it ends within a block.
    """
    if source.size < HEAD.size or HEAD.unpack_from(source)[0] != nbytes:
        raise DamagedError(f"is not a framed buffer of {nbytes} bytes")
    block = HEAD.unpack_from(source)[1] or 1
    if -(-packed // block) * (LENGTH.size + 1) > source.size:  # before a list of more blocks than the buffer can have
        raise DamagedError("ends within a block")
    unpack_length, view, offset = LENGTH.unpack_from, memoryview(source), HEAD.size
    lengths = []
    try:
        for _ in range(0, packed, block):
            (length,) = unpack_length(view, offset)
            lengths.append(length)
            offset += LENGTH.size + length
    except struct.error:
        raise DamagedError("ends within a block") from None
    if offset > source.size or 0 in lengths:
        raise DamagedError("ends within a block")
    return Frames(source, block, lengths)


def unpack_one_by_one(
    frames: Frames, out: Bytes, unpack: Callable[[Bytes, Bytes], object], *, plain: bool = False, done: int = 0
) -> None:
    """Decompress the blocks after the first `done` into `out`; raise DamagedError if one has another size.

    `unpack` gets the four bytes before a block too and may overwrite them; they are restored. With `plain`, a block as
    long as its content is stored uncompressed.
    """
    source, stop = frames.source, frames.end(done)
    if done < len(frames.lengths) and not source.flags.writeable:
        source = source.copy()
    for i, nbytes in enumerate(islice(frames.lengths, done, None), done):
        start, stop = stop, stop + LENGTH.size + nbytes
        frame, piece = source[start:stop], out[i * frames.block : (i + 1) * frames.block]
        if plain and nbytes == piece.size:
            piece[:] = frame[LENGTH.size :]
            continue
        length = frame[: LENGTH.size].copy()
        try:
            unpack(frame, piece)
        except (RuntimeError, ValueError) as error:
            raise DamagedError(f"does not decompress: {error}") from error
        finally:
            frame[: LENGTH.size] = length


def unpack_full(frames: Frames, out: Bytes, *, plain: bool = False) -> int:
    """Decompress all LZ4 blocks of full size into `out` in one call, and return their number.

    imagecodecs copies a block that is as long as its content, as in HDF5's LZ4 filter (`plain`). bitshuffle also
    compresses a block of that length, so if there is one, none are decompressed here. Check the total size.
    """
    import imagecodecs

    count, block = out.size // frames.block, frames.block
    if not count or (not plain and block in frames.lengths[:count]):
        return 0
    framed = frames.source[: frames.end(count)]
    if not framed.flags.writeable:
        framed = framed.copy()
    head = framed[: HEAD.size].copy()
    framed[: HEAD.size] = np.frombuffer(HEAD.pack(count * block, block), np.uint8)
    try:
        nbytes = len(imagecodecs.lz4h5_decode(framed, out=memoryview(out[: count * block])))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"does not decompress: {error}") from error
    finally:
        framed[: HEAD.size] = head
    if nbytes != count * block:
        raise DamagedError(f"decompresses to {nbytes} bytes where {count * block} are declared")
    return count
