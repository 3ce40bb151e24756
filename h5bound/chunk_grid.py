"""Chunk grids, pure: which chunks of the store meet what HDF5 has stored, and how they are put into batches.

A cell is one position of a grid, counted in chunks along each axis. ChunkCoords are rows of an integer array of shape
(cells, axes), so that a million of them is one object.
"""

from __future__ import annotations

import itertools
import math
import operator
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.errors import UnsafeSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Shape = tuple[int, ...]
    ChunkCoords = NDArray[np.int64]


AUTO_NBYTES = 4 * 2**20
"""Bytes of a chunk where HDF5 has none to go by."""


def plan_auto_chunks(shape: Shape, itemsize: int, nbytes: int = AUTO_NBYTES) -> Shape:
    """Give a chunk shape of at most ``nbytes`` (one element at the least) whose elements lie together in C order.

    The last axes stay whole as long as they fit, since data without chunks is stored in that order.

    Examples
    --------
    >>> plan_auto_chunks((1000, 1000), 8, 100_000), plan_auto_chunks((3, 1000), 8, 1000), plan_auto_chunks((), 8)
    ((12, 1000), (1, 125), ())
    """
    room = max(nbytes // max(itemsize, 1), 1)
    chunks = []
    for length in reversed(shape):
        size = max(min(length, room), 1)
        chunks.append(size)
        room = max(room // size, 1) if size == length else 1
    return tuple(reversed(chunks))


def plan_shards(shape: Shape, chunks: Shape, itemsize: int, nbytes: int) -> Shape:
    """Give a shard shape of whole chunks, about ``nbytes`` before compression, not larger than the array needs.

    Examples
    --------
    >>> plan_shards((100, 100), (10, 10), 8, 16_000)
    (20, 100)
    """
    room = max(nbytes // max(prod(chunks) * itemsize, 1), 1)
    shards = []
    for length, chunk in zip(reversed(shape), reversed(chunks), strict=True):
        whole = max(-(-length // chunk), 1)
        count = min(whole, room)
        shards.append(count * chunk)
        room = max(room // count, 1) if count == whole else 1
    return tuple(reversed(shards))


def count_chunks(shape: Shape, chunks: Shape) -> Shape:
    """Give how many chunks there are along each axis.

    >>> count_chunks((10, 0, 8), (4, 2, 4))
    (3, 0, 2)
    """
    return tuple(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))


def check_count(total: int, chunks: Shape, limit: int) -> None:
    """Refuse more than ``limit`` chunks, before they are listed.

    Raises
    ------
    UnsafeSourceError
        There are more.
    """
    if total > limit:
        raise UnsafeSourceError(
            f"{total:,} chunks of shape {chunks} are more than {limit:,}; pass larger chunks, or raise max_chunks"
        )


def list_chunk_coords(shape: Shape, chunks: Shape, limit: int) -> ChunkCoords:
    """Give every cell of a grid in C order.

    Raises
    ------
    UnsafeSourceError
        There are more than ``limit``: found before they are listed.
    """
    counts = count_chunks(shape, chunks)
    total = prod(counts)
    check_count(total, chunks, limit)
    if not counts:
        return np.zeros((1, 0), dtype=np.int64)
    return np.stack(np.unravel_index(np.arange(total), counts), axis=1).astype(np.int64, copy=False)


def map_chunk_coords(chunk_coords: ChunkCoords, shape: Shape, source: Shape, target: Shape, limit: int) -> ChunkCoords:
    """Give the cells of the grid of ``target`` chunks that meet these cells of the grid of ``source`` chunks.

    They come without repetition and in C order.

    Raises
    ------
    UnsafeSourceError
        There may be more than ``limit``.

    Examples
    --------
    >>> map_chunk_coords(np.array([[1]]), (10,), (4,), (3,), 100).tolist()
    [[1], [2]]
    """
    if source == target:
        return sort_chunk_coords(chunk_coords)
    lengths, old = (np.asarray(values, dtype=np.int64) for values in (shape, source))
    return list_overlapping(chunk_coords * old, np.minimum((chunk_coords + 1) * old, lengths), target, limit)


def list_overlapping(starts: ChunkCoords, stops: ChunkCoords, chunks: Shape, limit: int) -> ChunkCoords:
    """Give the cells of a grid that meet any of these boxes, in elements, none of which is empty.

    They come without repetition and in C order.

    Raises
    ------
    UnsafeSourceError
        There may be more than ``limit``.

    Examples
    --------
    >>> list_overlapping(np.array([[0], [5]]), np.array([[1], [7]]), (3,), 100).tolist()
    [[0], [1], [2]]
    """
    size = np.asarray(chunks, dtype=np.int64)
    first = starts // size
    counts = (stops - 1) // size - first + 1
    total = int(np.prod(counts, axis=1, dtype=np.float64).sum())
    check_count(total, chunks, limit)
    return sort_chunk_coords(_expand(first, counts))


def _expand(first: ChunkCoords, counts: ChunkCoords) -> ChunkCoords:
    """Give all cells of the boxes that start at ``first`` and have ``counts`` cells along each axis."""
    totals = np.prod(counts, axis=1)
    box = np.repeat(np.arange(len(first)), totals)
    rest = np.arange(len(box)) - np.repeat(np.cumsum(totals) - totals, totals)
    chunk_coords = np.empty((len(box), first.shape[1]), dtype=np.int64)
    for axis in reversed(range(first.shape[1])):
        rest, chunk_coords[:, axis] = np.divmod(rest, counts[box, axis])
    return chunk_coords + first[box]


def sort_chunk_coords(chunk_coords: ChunkCoords) -> ChunkCoords:
    """Give the cells in C order, each once.

    >>> sort_chunk_coords(np.array([[1, 0], [0, 2], [1, 0]])).tolist()
    [[0, 2], [1, 0]]
    """
    if chunk_coords.shape[1] == 0:
        return chunk_coords[:1]
    ordered = chunk_coords[np.lexsort(chunk_coords.T[::-1])]
    keep = np.ones(len(ordered), dtype=bool)
    keep[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[keep]


def find_absent(chunk_coords: ChunkCoords, counts: Shape) -> tuple[int, ...] | None:
    """Give the first cell of a grid that is not among these, which are in C order; None if all are.

    >>> find_absent(np.array([[0, 0], [0, 1], [1, 1]]), (2, 2)), find_absent(np.array([[0], [1]]), (2,))
    ((1, 0), None)
    """
    number = np.arange(len(chunk_coords) + 1)
    all_cells = np.empty((len(number), len(counts)), np.int64)
    for axis in reversed(range(len(counts))):
        all_cells[:, axis] = number % max(counts[axis], 1)
        number //= max(counts[axis], 1)
    differ = np.flatnonzero((chunk_coords != all_cells[:-1]).any(axis=1))
    first = int(differ[0]) if differ.size else len(chunk_coords)
    return tuple(all_cells[first].tolist()) if first < prod(counts) else None


def region_of(coords: tuple[int, ...], shape: Shape, chunks: Shape) -> tuple[slice, ...]:
    """Give the region of the array that a cell covers, cut off at the array's end.

    >>> region_of((2,), (10,), (4,))
    (slice(8, 10, None),)
    """
    return tuple(
        slice(i * chunk, min((i + 1) * chunk, length)) for i, length, chunk in zip(coords, shape, chunks, strict=True)
    )


def cut_batches(sizes: NDArray[np.int64], nbytes: int, count: int) -> list[tuple[int, int]]:
    """Cut a run of sizes into half-open intervals of at most ``nbytes`` and ``count`` members, one at the least.

    Examples
    --------
    >>> cut_batches(np.array([3, 3, 3, 10, 1]), 6, 100)
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    batches = []
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + nbytes, side="right"))
        stop = max(min(stop, start + count), start + 1)
        batches.append((start, stop))
        start = stop
    return batches


class Overlap(NamedTuple):
    """Where a region meets one chunk, in elements."""

    place: tuple[int, ...]
    """place of the chunk along each axis of the grid"""
    origin: tuple[int, ...]
    """its first element in the dataset"""
    region: tuple[slice, ...]
    """what they share, in the dataset"""
    in_chunk: tuple[slice, ...]
    """the same, from the chunk's origin"""
    in_block: tuple[slice, ...]
    """the same, from the region's start"""


class ChunkGrid:
    """The regular grid of a dataset's chunks.

    Parameters
    ----------
    shape
        Extent of the dataset in elements.
    chunks
        Extent of a chunk in elements; it may exceed the dataset's.

    Examples
    --------
    >>> grid = ChunkGrid((10, 10), (4, 8))
    >>> [overlap.in_chunk[0] for overlap in grid.overlaps((slice(3, 6), slice(0, 1)))]
    [slice(3, 4, None), slice(0, 2, None)]
    """

    __slots__ = ("chunks", "counts", "shape", "strides")

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self.shape = shape
        self.chunks = chunks
        self.counts = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))  # chunks along each axis
        self.strides = tuple(math.prod(self.counts[axis + 1 :]) for axis in range(len(shape)))

    def number(self, place: tuple[int, ...]) -> int:
        """Give the place of a chunk in row-major order, from its place along each axis."""
        return sum(map(operator.mul, place, self.strides))

    def cuts(self, place: tuple[int, ...]) -> bool:
        """Tell whether the dataset ends within the chunk."""
        return any((i + 1) * c > n for i, c, n in zip(place, self.chunks, self.shape, strict=True))

    def number_all(self, box: tuple[range, ...]) -> NDArray[np.int64]:
        """Give the places of all chunks of a box, in row-major order, from its places along each axis."""
        numbers = np.zeros((), np.int64)
        for places, stride in zip(box, self.strides, strict=True):
            numbers = np.add.outer(numbers, np.arange(places.start, places.stop) * stride)
        return numbers.ravel()

    def places(self, region: tuple[slice, ...]) -> list[range]:
        """Give the places of the chunks that a region meets, along each axis."""
        return [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self.chunks, strict=True)]

    def count(self, region: tuple[slice, ...]) -> int:
        """Give how many chunks a region meets."""
        return math.prod(map(len, self.places(region)))

    def overlaps(self, region: tuple[slice, ...]) -> Iterator[Overlap]:
        """Give the chunks that a region meets, in row-major order."""
        axes = [_meet_axis(s.start, s.stop, c) for s, c in zip(region, self.chunks, strict=True)]
        for sides in itertools.product(*axes):
            yield Overlap(*zip(*sides, strict=True))


def _meet_axis(start: int, stop: int, chunk: int) -> list[tuple[int, int, slice, slice, slice]]:
    """Give what an `Overlap` holds, along one axis."""
    sides = []
    for i in range(start // chunk, -(-stop // chunk)):
        origin = i * chunk
        a, b = max(origin, start), min(origin + chunk, stop)
        sides.append((i, origin, slice(a, b), slice(a - origin, b - origin), slice(a - start, b - start)))
    return sides
