"""HDF5's framing of LZ4 (H5Zlz4.c), which bitshuffle took over (bshuf_h5filter.c).

It is the size of what it holds, the size of a block, then blocks that are each led by their own stored size, all
big-endian.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.buffers import Bytes, DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Frames(NamedTuple):
    """Where the blocks of a framed buffer stand."""

    source: Bytes
    block: int
    """bytes that each holds, but for the last"""
    places: NDArray[np.int64]
    """of each block, with the four bytes before it, and of what comes after the last"""


def find_frames(source: Bytes, nbytes: int, packed: int) -> Frames:
    """Give the blocks of a buffer that says that it holds `nbytes`, the first `packed` of them in blocks.

    Raises
    ------
    DamagedError
        It says otherwise, or ends within a block.
    """
    if source.size < 12 or int.from_bytes(source[:8].tobytes(), "big") != nbytes:
        raise DamagedError(f"is not a framed buffer of {nbytes} bytes")
    block = int.from_bytes(source[8:12].tobytes(), "big") or 1
    length, view, place = struct.Struct(">I").unpack_from, memoryview(source), 12
    found = [place]
    try:
        for _ in range(0, packed, block):
            place += 4 + length(view, place)[0]
            found.append(place)
    except struct.error:
        raise DamagedError("ends within a block") from None
    places = np.array(found)
    if place > source.size or (np.diff(places) < 5).any():
        raise DamagedError("ends within a block")
    return Frames(source, block, places)


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
    places = frames.places[done:].tolist()
    if len(places) < 2:
        return
    source = frames.source if frames.source.flags.writeable else frames.source.copy()
    for i, (start, stop) in enumerate(pairwise(places), done):
        frame, piece = source[start:stop], out[i * frames.block : (i + 1) * frames.block]
        if plain and frame.size == 4 + piece.size:
            piece[:] = frame[4:]
            continue
        length = frame[:4].copy()
        try:
            unpack(frame, piece)
        except (RuntimeError, ValueError) as error:
            raise DamagedError(f"does not decompress: {error}") from error
        finally:
            frame[:4] = length


def unpack_full(frames: Frames, out: Bytes) -> int:
    """Decompress the LZ4 blocks that are not cut short into `out`, all at once, and give how many they are.

    imagecodecs takes a block as long as what it holds for one that is stored as it is, which bitshuffle never
    does: if there is one, none are done. A block that holds too little shows in the sum.

    Raises
    ------
    DamagedError
        They do not decompress to what they should hold.
    """
    import imagecodecs

    count, block = out.size // frames.block, frames.block
    if not count or (np.diff(frames.places[: count + 1]) == 4 + block).any():
        return 0
    framed = frames.source[: frames.places[count]]
    size = np.frombuffer((count * block).to_bytes(8, "big"), np.uint8)
    if (framed[:8] != size).any():
        framed = framed.copy()
        framed[:8] = size
    try:
        got = len(imagecodecs.lz4h5_decode(framed, out=memoryview(out[: count * block])))
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"does not decompress: {error}") from error
    if got != count * block:
        raise DamagedError(f"decompresses to {got} bytes where {count * block} are declared")
    return count
