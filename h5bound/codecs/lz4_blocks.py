"""HDF5's framing of LZ4 (H5Zlz4.c), which bitshuffle took over (bshuf_h5filter.c).

It is the size of what it holds, the size of a block, then blocks that are each led by their own stored size, all
big-endian.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.buffers import Bytes, DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


HEAD = struct.Struct(">QI")

LENGTH = struct.Struct(">I")


class Frames(NamedTuple):
    """Where the blocks of a framed buffer stand."""

    source: Bytes
    block: int
    """bytes that each holds, but for the last"""
    lengths: list[int]
    """stored bytes of each, without the four before it"""

    def end(self, count: int) -> int:
        """Give where the first so many blocks end."""
        return HEAD.size + sum(islice(self.lengths, count)) + LENGTH.size * count


def find_frames(source: Bytes, nbytes: int, packed: int) -> Frames:
    """Give the blocks of a buffer that says that it holds `nbytes`, the first `packed` of them in blocks.

    Raises
    ------
    DamagedError
        It says otherwise, or ends within a block.
    """
    if source.size < HEAD.size or HEAD.unpack_from(source)[0] != nbytes:
        raise DamagedError(f"is not a framed buffer of {nbytes} bytes")
    block = HEAD.unpack_from(source)[1] or 1
    if -(-packed // block) * (LENGTH.size + 1) > source.size:  # so that no more are listed than there can be
        raise DamagedError("ends within a block")
    length, view, place = LENGTH.unpack_from, memoryview(source), HEAD.size
    lengths = []
    try:
        for _ in range(0, packed, block):
            (stored,) = length(view, place)
            lengths.append(stored)
            place += LENGTH.size + stored
    except struct.error:
        raise DamagedError("ends within a block") from None
    if place > source.size or 0 in lengths:
        raise DamagedError("ends within a block")
    return Frames(source, block, lengths)


def join_frames(parts: Sequence[Bytes], nbytes: int) -> Bytes | None:
    """Give one buffer of what several of `nbytes` hold; None where their blocks differ, or one is cut short.

    Raises
    ------
    DamagedError
        As `find_frames` does.
    """
    found = [find_frames(part, nbytes, nbytes) for part in parts]
    sizes = {min(frames.block, nbytes) for frames in found}
    block = sizes.pop()
    if sizes or nbytes % block or any(frames.end(len(frames.lengths)) != frames.source.size for frames in found):
        return None
    head = np.frombuffer(HEAD.pack(nbytes * len(parts), block), np.uint8)
    return np.concatenate([head, *(part[HEAD.size :] for part in parts)])


def unpack_one_by_one(
    frames: Frames, out: Bytes, unpack: Callable[[Bytes, Bytes], object], *, plain: bool = False, done: int = 0
) -> None:
    """Decompress block after block into `out`, but for the first that are `done`.

    Parameters
    ----------
    frames, out
        The blocks, and where all that they hold belongs.
    unpack
        Decompresses a block, with the four bytes before it, which it may overwrite: they are put back.
    plain
        Whether a block as long as what it holds is stored as it is.
    done
        Blocks to pass over.

    Raises
    ------
    DamagedError
        A block does not decompress to what it should hold.
    """
    source, stop = frames.source, frames.end(done)
    if done < len(frames.lengths) and not source.flags.writeable:
        source = source.copy()
    for i, stored in enumerate(islice(frames.lengths, done, None), done):
        start, stop = stop, stop + LENGTH.size + stored
        frame, piece = source[start:stop], out[i * frames.block : (i + 1) * frames.block]
        if plain and stored == piece.size:
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
    """Decompress the LZ4 blocks that are not cut short into `out`, all at once, and give how many they are.

    imagecodecs takes a block as long as what it holds for one that is stored as it is: where there are none such
    (`plain` is false; bitshuffle) and one has that length, none are done. A block that holds too little shows in the
    sum.

    Raises
    ------
    DamagedError
        They do not decompress to what they should hold.
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
        got = len(imagecodecs.lz4h5_decode(framed, out=memoryview(out[: count * block])))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"does not decompress: {error}") from error
    finally:
        framed[: HEAD.size] = head
    if got != count * block:
        raise DamagedError(f"decompresses to {got} bytes where {count * block} are declared")
    return count
