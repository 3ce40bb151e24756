"""Chunk grids, pure: which chunks of one grid overlap a region or the chunks of another grid.

Chunk coordinates are the position of a chunk in its grid, counted in chunks along each axis. `ChunkCoords` are the rows
of an integer array of shape (chunks, axes): a million of them are one object.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from h5bound.errors import UnsafeSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Shape = tuple[int, ...]
    ChunkCoords = NDArray[np.int64]
    Box = tuple[range, ...]  # positions of chunks along each axis


AUTO_NBYTES = 4 * 2**20
"""Bytes of a chunk of a dataset that is not chunked."""


def plan_auto_chunks(shape: Shape, itemsize: int, nbytes: int = AUTO_NBYTES) -> Shape:
    """Return a chunk shape of at most ``nbytes`` (at least one element) whose elements are adjacent in C order.

    The last axes stay whole as long as they fit, since data that is not chunked is stored in that order.

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


def plan_shards(shape: Shape, chunks: Shape, *, itemsize: int, nbytes: int) -> Shape:
    """Return a shard shape of whole chunks: about ``nbytes`` before compression, not larger than the array needs.

    >>> plan_shards((100, 100), (10, 10), itemsize=8, nbytes=16_000)
    (20, 100)
    """
    counts = tuple(max(count, 1) for count in count_chunks(shape, chunks))
    shards = plan_auto_chunks(counts, prod(chunks) * itemsize, nbytes)
    return tuple(count * chunk for count, chunk in zip(shards, chunks, strict=True))


def count_chunks(shape: Shape, chunks: Shape) -> Shape:
    """Return the number of chunks along each axis.

    >>> count_chunks((10, 0, 8), (4, 2, 4))
    (3, 0, 2)
    """
    return tuple(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))


def check_count(total: int, chunks: Shape, limit: int) -> None:
    """Raise UnsafeSourceError if ``total`` chunks are more than ``limit``, before memory is allocated for them."""
    if total > limit:
        raise UnsafeSourceError(
            f"{total:,} chunks of shape {chunks} are more than {limit:,}; pass larger chunks, or raise max_chunks"
        )


def list_chunk_coords(shape: Shape, chunks: Shape, limit: int) -> ChunkCoords:
    """Return the coordinates of all chunks of a grid in C order; raise UnsafeSourceError if they exceed ``limit``."""
    counts = count_chunks(shape, chunks)
    total = prod(counts)
    check_count(total, chunks, limit)
    if not counts:
        return np.zeros((1, 0), dtype=np.int64)
    return np.stack(np.unravel_index(np.arange(total), counts), axis=1).astype(np.int64, copy=False)


def map_chunk_coords(
    chunk_coords: ChunkCoords, *, shape: Shape, source: Shape, target: Shape, limit: int
) -> ChunkCoords:
    """Return the coordinates of the chunks of shape ``target`` that overlap these chunks of shape ``source``.

    They are in C order, each once. Raise UnsafeSourceError if they may exceed ``limit``.

    >>> map_chunk_coords(np.array([[1]]), shape=(10,), source=(4,), target=(3,), limit=100).tolist()
    [[1], [2]]
    """
    if source == target:
        return sort_chunk_coords(chunk_coords)
    lengths, sizes = (np.asarray(values, dtype=np.int64) for values in (shape, source))
    stops = np.minimum((chunk_coords + 1) * sizes, lengths)
    return list_overlapping(chunk_coords * sizes, stops, chunks=target, limit=limit)


def list_overlapping(starts: ChunkCoords, stops: ChunkCoords, *, chunks: Shape, limit: int) -> ChunkCoords:
    """Return the coordinates of the chunks that overlap any of these boxes of elements; no box is empty.

    They are in C order, each once. Raise UnsafeSourceError if they may exceed ``limit``.

    >>> list_overlapping(np.array([[0], [5]]), np.array([[1], [7]]), chunks=(3,), limit=100).tolist()
    [[0], [1], [2]]
    """
    size = np.asarray(chunks, dtype=np.int64)
    first_coords = starts // size
    counts = (stops - 1) // size - first_coords + 1
    if count_overlaps(counts) > 2 * len(counts):  # many boxes may overlap the same chunks
        boxes = sort_chunk_coords(np.concatenate([first_coords, counts], axis=1))
        first_coords, counts = boxes[:, : len(chunks)], boxes[:, len(chunks) :]
    check_count(count_overlaps(counts), chunks, limit)
    return sort_chunk_coords(_expand_boxes(first_coords, counts))


def count_overlaps(counts: NDArray[np.int64]) -> int:
    """Return the chunks in boxes of so many along each axis, rounded where they exceed 64 bits."""
    return int(np.prod(counts, axis=1, dtype=np.float64).sum())


def _expand_boxes(first_coords: ChunkCoords, counts: ChunkCoords) -> ChunkCoords:
    """Return the coordinates of all chunks of boxes, from the first chunk of each and its chunks along each axis."""
    totals = np.prod(counts, axis=1)
    box = np.repeat(np.arange(len(first_coords)), totals)
    rest = np.arange(len(box)) - np.repeat(np.cumsum(totals) - totals, totals)
    chunk_coords = np.empty((len(box), first_coords.shape[1]), dtype=np.int64)
    for axis in reversed(range(first_coords.shape[1])):
        rest, chunk_coords[:, axis] = np.divmod(rest, counts[box, axis])
    return chunk_coords + first_coords[box]


def sort_chunk_coords(chunk_coords: ChunkCoords) -> ChunkCoords:
    """Return chunk coordinates in C order, each once.

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
    """Return the first coordinates of a grid that are not among these, which are in C order; None if all are.

    >>> find_absent(np.array([[0, 0], [0, 1], [1, 1]]), (2, 2)), find_absent(np.array([[0], [1]]), (2,))
    ((1, 0), None)
    """
    number = np.arange(len(chunk_coords) + 1)
    all_coords = np.empty((len(number), len(counts)), np.int64)
    for axis in reversed(range(len(counts))):
        all_coords[:, axis] = number % max(counts[axis], 1)
        number //= max(counts[axis], 1)
    differ = np.flatnonzero((chunk_coords != all_coords[:-1]).any(axis=1))
    absent = int(differ[0]) if differ.size else len(chunk_coords)
    return tuple(all_coords[absent].tolist()) if absent < prod(counts) else None


def region_of(coords: tuple[int, ...], shape: Shape, chunks: Shape) -> tuple[slice, ...]:
    """Return the region of the array that a chunk covers, up to the end of the array.

    >>> region_of((2,), (10,), (4,))
    (slice(8, 10, None),)
    """
    return tuple(
        slice(i * chunk, min((i + 1) * chunk, length)) for i, length, chunk in zip(coords, shape, chunks, strict=True)
    )


def show_region(region: tuple[slice, ...]) -> str:
    """Return a region as it is written in Python.

    >>> show_region((slice(0, 2), slice(4, 8)))
    '[0:2, 4:8]'
    """
    return f"[{', '.join(f'{part.start}:{part.stop}' for part in region)}]"


def find_starts(groups: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Return the rows where another shard or box begins, for that of each chunk, a row for each chunk.

    >>> find_starts(np.array([[0, 0], [0, 0], [0, 1]])).tolist()
    [0, 2]
    """
    is_start = np.ones(len(groups), dtype=bool)
    is_start[1:] = (groups[1:] != groups[:-1]).any(axis=1)
    return np.flatnonzero(is_start)


def group_chunks(chunk_coords: ChunkCoords, counts: Shape) -> tuple[ChunkCoords, list[tuple[int, int]]]:
    """Return chunks in the order of boxes of `counts` chunks along each axis, and the interval of each box.

    >>> coords, intervals = group_chunks(np.array([[0, 0], [0, 1], [0, 2], [1, 1]]), (2, 2))
    >>> coords.tolist(), intervals
    ([[0, 0], [0, 1], [1, 1], [0, 2]], [(0, 3), (3, 4)])
    """
    boxes = chunk_coords // np.asarray(counts, np.int64)
    order = np.lexsort(boxes.T[::-1]) if counts else np.arange(len(boxes))  # stable
    bounds = [*find_starts(boxes[order]).tolist(), len(boxes)]
    return chunk_coords[order], list(itertools.pairwise(bounds))


def bound_chunks(chunk_coords: ChunkCoords, shape: Shape, chunks: Shape) -> tuple[slice, ...]:
    """Return the region around some chunks, of which there is at least one, up to the end of the array.

    >>> bound_chunks(np.array([[1, 0], [0, 2]]), (10, 10), (4, 4))
    (slice(0, 8, None), slice(0, 10, None))
    """
    first, last = chunk_coords.min(axis=0).tolist(), chunk_coords.max(axis=0).tolist()
    begins, ends = (region_of(tuple(corner), shape, chunks) for corner in (first, last))
    return tuple(slice(begin.start, end.stop) for begin, end in zip(begins, ends, strict=True))


def cut_batches(sizes: NDArray[np.int64], nbytes: int, count: int) -> list[tuple[int, int]]:
    """Cut a run of sizes into half-open intervals of at most ``nbytes`` and ``count`` members, at least one.

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
    """The overlap of a region with one chunk, in elements."""

    chunk_coords: tuple[int, ...]
    """Position in the chunk grid."""
    origin: tuple[int, ...]
    """First element of the chunk in the dataset."""
    region: tuple[slice, ...]
    """Shared elements in the dataset."""
    in_chunk: tuple[slice, ...]
    """Shared elements from the origin of the chunk."""
    in_block: tuple[slice, ...]
    """Shared elements from the start of the region."""


class ChunkGrid:
    """The regular grid of the chunks of a dataset; a chunk may be larger than the dataset.

    >>> grid = ChunkGrid((10, 10), (4, 8))
    >>> [overlap.in_chunk[0] for overlap in grid.overlaps((slice(3, 6), slice(0, 1)))]
    [slice(3, 4, None), slice(0, 2, None)]
    """

    __slots__ = ("chunks", "counts", "shape", "strides")

    def __init__(self, shape: Shape, chunks: Shape) -> None:
        self.shape = shape
        self.chunks = chunks
        self.counts = count_chunks(shape, chunks)
        self.strides = tuple(prod(self.counts[axis + 1 :]) for axis in range(len(shape)))

    def is_partial(self, chunk_coords: tuple[int, ...]) -> bool:
        """Return whether the dataset ends within a chunk."""
        return any((i + 1) * c > n for i, c, n in zip(chunk_coords, self.chunks, self.shape, strict=True))

    def box(self, region: tuple[slice, ...]) -> Box:
        """Return the box of the chunks that a region overlaps."""
        return tuple(range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self.chunks, strict=True))

    def count(self, region: tuple[slice, ...]) -> int:
        """Return how many chunks a region overlaps."""
        return prod(map(len, self.box(region)))

    def linear_numbers(self, box: Box) -> NDArray[np.int64]:
        """Return the numbers of the chunks of a box, counted in C order of the grid."""
        start, numbers = 0, np.zeros(1, np.int64)
        for positions, stride in zip(box, self.strides, strict=True):
            start += positions.start * stride
            if len(positions) != 1:  # most boxes have one chunk along most axes
                numbers = np.add.outer(numbers, np.arange(len(positions)) * stride).ravel()
        return numbers + start

    def overlaps(self, region: tuple[slice, ...]) -> Iterator[Overlap]:
        """Yield the overlap of a region with each chunk that it overlaps, in C order."""
        axes = []
        for span, chunk in zip(region, self.chunks, strict=True):
            sides = []
            for i in range(span.start // chunk, -(-span.stop // chunk)):
                origin = i * chunk
                start, stop = max(origin, span.start), min(origin + chunk, span.stop)
                in_chunk = slice(start - origin, stop - origin)
                sides.append((i, origin, slice(start, stop), in_chunk, slice(start - span.start, stop - span.start)))
            axes.append(sides)
        for chunk_sides in itertools.product(*axes):
            yield Overlap(*zip(*chunk_sides, strict=True))


def cut_boxes(box: Box, limit: int) -> Iterator[Box]:
    """Yield boxes of at most ``limit`` chunks (at least one) that make up a box; their chunks come in C order.

    >>> list(cut_boxes((range(0, 4), range(0, 2)), 4))
    [(range(0, 2), range(0, 2)), (range(2, 4), range(0, 2))]
    """
    if prod(map(len, box)) <= limit:
        return iter([box])
    steps = []
    for positions in reversed(box):
        steps.append(max(min(limit, len(positions)), 1))
        limit //= len(positions)
    axes = [
        [positions[i : i + step] for i in range(0, len(positions), step)]
        for positions, step in zip(box, reversed(steps), strict=True)
    ]
    return itertools.product(*axes)
