"""Plan in which boxes an array is read whose chunks are not those of its source: pure, over integers.

A *key* is a chunk or shard of the array. Where a chunk of the source overlaps several keys, these are cut from one
read, so that the chunk is decoded once::

    one pass     chunks ──read a box──► keys                       a box is whole chunks and whole keys

    two passes   chunks ──read a cell──► spill ──read a box──► keys      a cell is whole chunks, a box whole keys

There are two passes where the least box of whole chunks and whole keys takes more memory than it may.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod
from typing import TYPE_CHECKING

from h5bound.chunk_grid import count_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.chunk_grid import Shape


CELLS = 16
"""Least number of cells and boxes of two passes, so that several threads have some, and keys are written soon."""


SMALL_NBYTES = 2 << 20
"""Bytes up to which cells and boxes may have twice the limit: smaller ones make so many pieces that these cost more
than all else."""


ROW_NBYTES = 32 << 10
"""Bytes from which on adjacent data is read about as fast in pieces as at once."""


@dataclass(frozen=True, slots=True)
class ReadBoxes:
    """The boxes in which an array is read. All boxes and cells lie on grids that begin at the first element."""

    box: Shape
    """Elements along each axis of the keys that are made at once; whole keys."""
    cell: Shape | None = None
    """Elements along each axis that the first of two passes reads at once, whole chunks; None for one pass."""

    @property
    def passes(self) -> int:
        """How often the values are read: from the source, and from the spill if there is one."""
        return 1 if self.cell is None else 2

    def count_keys(self, key: Shape) -> Shape:
        """Return the number of keys of this shape in a box, along each axis."""
        return count_chunks(self.box, key)


def plan_read_boxes(
    shape: Shape, *, source: Shape, target: Shape, itemsize: int, nbytes: int, limit: int
) -> ReadBoxes | None:
    """Return the boxes in which to read an array; None if no chunk of the source overlaps several keys.

    `source` and `target` are the shapes of a chunk and of a key. A box has about `nbytes`, and at most `limit`. Cells
    and boxes of two passes have at most half of `limit`, or twice as much as it if that is small, or as much as one
    chunk or one key.

    Examples
    --------
    64 images of 512 x 512 two-byte integers, an image in a chunk, into keys of 64 x 32 x 32: every chunk overlaps 256
    keys, which together have 32 MiB. Where that is allowed, they are read as one box:

    >>> images = {"shape": (64, 512, 512), "source": (1, 512, 512), "itemsize": 2, "nbytes": 2**22}
    >>> plan_read_boxes(**images, target=(64, 32, 32), limit=2**25)
    ReadBoxes(box=(64, 512, 512), cell=None)

    In 8 MiB, 8 images fit into a cell of 4 MiB, and 2 rows of keys into a box. Each box then takes 8 pieces of
    8 x 64 x 512 elements from the spill:

    >>> plan_read_boxes(**images, target=(64, 32, 32), limit=2**23)
    ReadBoxes(box=(64, 64, 512), cell=(8, 512, 512))

    An image is also cut into keys of its own, and 8 of them make a box of `nbytes`. A key of 8 images has whole
    chunks:

    >>> plan_read_boxes(**images, target=(1, 128, 128), limit=2**25)
    ReadBoxes(box=(8, 512, 512), cell=None)
    >>> plan_read_boxes(**images, target=(8, 512, 512), limit=2**25)

    Chunks of 6 and keys of 4 elements meet every 12 elements:

    >>> plan_read_boxes((100,), source=(6,), target=(4,), itemsize=1, nbytes=30, limit=50)
    ReadBoxes(box=(24,), cell=None)
    """
    axes = list(zip(shape, source, target, strict=True))
    if all(key % chunk == 0 or key >= length for length, chunk, key in axes):
        return None
    least = tuple(cap(lcm(chunk, key), length, key) for length, chunk, key in axes)
    if measure(least, shape, itemsize) <= limit:
        return ReadBoxes(grow(least, shape, caps=[shape], axes=range(len(shape))[::-1], room=nbytes // itemsize))
    total = prod(shape) * itemsize
    most = max(
        limit // 2, min(2 * limit, SMALL_NBYTES), measure(source, shape, itemsize), measure(target, shape, itemsize)
    )
    room = min(max(nbytes, total // CELLS), most) // itemsize
    longer = [min(key, length) / min(chunk, length) for length, chunk, key in axes]  # a key than a chunk
    last_first = range(len(shape))[::-1]
    by_ratio = sorted(last_first, key=lambda axis: longer[axis])
    return ReadBoxes(
        box=grow(target, shape, caps=[source, shape], axes=by_ratio, room=room),
        cell=grow(source, shape, caps=[target, shape], axes=sorted(last_first, key=lambda i: -longer[i]), room=room),
    )


def cap(size: int, length: int, step: int) -> int:
    """Return a size, at most that of the whole axis in steps.

    >>> cap(4, 10, 4), cap(20, 10, 4)
    (4, 12)
    """
    return min(size, -(-length // step) * step)


def measure(box: Shape, shape: Shape, itemsize: int) -> int:
    """Return the bytes of a box at the start of an array."""
    return prod(map(min, box, shape)) * itemsize


def grow(step: Shape, shape: Shape, *, caps: Iterable[Shape], axes: Iterable[int], room: int) -> Shape:
    """Return a box of whole steps with at most `room` elements, at least one step.

    It grows along one axis after another, in the order of `axes`, up to the first cap, then up to the next.

    >>> grow((1, 8), (100, 32), caps=[(4, 16), (100, 32)], axes=[0, 1], room=200)
    (12, 16)
    """
    box, order = list(step), list(axes)
    for most in caps:
        for axis in order:
            others = prod(
                min(size, length) for i, (size, length) in enumerate(zip(box, shape, strict=True)) if i != axis
            )
            fit = room // max(others, 1) // step[axis] * step[axis]
            if others * shape[axis] <= room:
                fit = shape[axis]  # the last step may be cut off by the end of the array
            wanted = min(fit, most[axis])
            box[axis] = max(box[axis], cap(-(-wanted // step[axis]) * step[axis], shape[axis], step[axis]))
    return tuple(box)


def plan_rows(shape: Shape, target: Shape, itemsize: int) -> Shape:
    """Return the shape in which to read data in C order that has no chunks: at least `ROW_NBYTES` that are adjacent.

    It is whole keys of shape `target` along the axis that is cut, and everything along the axes after it.

    >>> plan_rows((64, 512, 512), (64, 32, 32), 2), plan_rows((1000, 10**6), (1000, 500), 8)
    ((1, 32, 512), (1, 4500))
    >>> plan_rows((1000, 10**6), (1, 5000), 8)
    (1, 5000)
    """
    chunk, row = [1] * len(shape), itemsize
    for axis in reversed(range(len(shape))):
        if shape[axis] * row <= ROW_NBYTES:
            chunk[axis], row = shape[axis], row * shape[axis]
            continue
        is_adjacent = all(key >= length for key, length in zip(target[axis + 1 :], shape[axis + 1 :], strict=True))
        key = target[axis]
        chunk[axis] = key if is_adjacent and key * row >= ROW_NBYTES else -(-ROW_NBYTES // (row * key)) * key
        break
    return tuple(chunk)
