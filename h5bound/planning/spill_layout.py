"""Where the elements of an array are between two passes: pure, over integers.

The first pass writes a file for each cell, the second one reads a box from the files of all cells that it overlaps::

    cell 0 ┐            ┌ box 0 ─► keys
    cell 1 ┼─► pieces ──┼ box 1 ─► keys         a piece is what a cell and a box share
    cell 2 ┘            └ box 2 ─► keys

A file has the pieces of its cell in the order of the boxes, and each has its elements in C order. So a piece is in one
place of the file, and nothing but the two grids says where.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.chunk_grid import ChunkGrid, count_chunks, region_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import ChunkCoords, Shape


class Piece(NamedTuple):
    """What a cell and a box share."""

    number: int | None
    """Number of the box that it is for; of a box, of the cell that has it, None if that holds no stored data."""
    offset: int
    """Elements before the piece in the file of the cell."""
    region: Region
    """Its elements in the array."""
    inside: Region
    """Its elements from the start of the cell or box that was cut."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SpillLayout:
    """The cells and boxes of an array: grids that begin at its first element."""

    shape: Shape
    """Shape of the array."""
    cell: Shape
    """Elements of a cell along each axis."""
    box: Shape
    """Elements of a box along each axis."""
    cells: NDArray[np.int64]
    """Numbers of the cells that hold stored data, ascending, in C order of their grid."""
    boxes: NDArray[np.int64]
    """Numbers of the boxes that hold keys, ascending."""

    def find_box(self, key: Sequence[int], shape: Shape) -> list[int]:
        """Return the coordinates of the box that a key is in, from those of the key; keys have this shape."""
        return [position // count for position, count in zip(key, count_chunks(self.box, shape), strict=True)]

    def cut_cell(self, coords: Sequence[int]) -> Iterator[Piece]:
        """Yield the pieces of a cell that belong to boxes with keys, in the order of its file."""
        region, grid = region_of(tuple(coords), self.shape, self.cell), ChunkGrid(self.shape, self.box)
        extents = [[part.stop - part.start] for part in region]
        sides = cut_axes(region, self.box)
        starts = [[part.start - whole.start for part in side] for side, whole in zip(sides, region, strict=True)]
        numbers = grid.linear_numbers(grid.box(region))
        wanted = has(self.boxes, numbers)
        pieces = list_pieces(region, sides, numbers=numbers.tolist(), offsets=find_offsets(sides, starts, extents))
        return (piece for piece, is_wanted in zip(pieces, wanted.tolist(), strict=True) if is_wanted)

    def cut_box(self, coords: Sequence[int]) -> Iterator[Piece]:
        """Yield the pieces of a box."""
        region, grid = region_of(tuple(coords), self.shape, self.box), ChunkGrid(self.shape, self.cell)
        sides = cut_axes(region, self.cell)
        starts = [[part.start % size for part in side] for side, size in zip(sides, self.cell, strict=True)]
        extents = [
            [min(size, length - (part.start - start)) for part, start in zip(side, begins, strict=True)]
            for side, begins, size, length in zip(sides, starts, self.cell, self.shape, strict=True)
        ]
        numbers = grid.linear_numbers(grid.box(region))
        known = np.where(has(self.cells, numbers), numbers, -1).tolist()
        cells = [None if i < 0 else i for i in known]
        return list_pieces(region, sides, numbers=cells, offsets=find_offsets(sides, starts, extents))


def cut_axes(region: Region, step: Shape) -> list[list[slice]]:
    """Return the parts of a region along each axis, cut where a grid has an edge.

    >>> cut_axes((slice(3, 9),), (4,))
    [[slice(3, 4, None), slice(4, 8, None), slice(8, 9, None)]]
    """
    return [
        [
            slice(max(i * size, part.start), min((i + 1) * size, part.stop))
            for i in range(part.start // size, -(-part.stop // size))
        ]
        for part, size in zip(region, step, strict=True)
    ]


def list_pieces(
    region: Region, sides: list[list[slice]], *, numbers: Sequence[int | None], offsets: NDArray[np.int64]
) -> Iterator[Piece]:
    """Yield the pieces of a region in C order, from their extents along each axis, numbers and offsets."""
    inside = [
        [slice(part.start - whole.start, part.stop - whole.start) for part in side]
        for side, whole in zip(sides, region, strict=True)
    ]
    return map(Piece, numbers, offsets.tolist(), product(*sides), product(*inside))


def find_offsets(sides: list[list[slice]], starts: list[list[int]], extents: list[list[int]]) -> NDArray[np.int64]:
    """Return the elements before each piece in the file of its cell, in C order of the pieces.

    `starts` has where the parts of an axis start in their cells, `extents` those of the cells. A piece comes after
    those that lie before it along the first axis where they differ. A cell of 4 x 6, cut into pieces of 2 x 3:

    >>> sides = [[slice(0, 2), slice(2, 4)], [slice(0, 3), slice(3, 6)]]
    >>> find_offsets(sides, [[0, 2], [0, 3]], [[4], [6]]).tolist()
    [0, 6, 12, 18]
    """
    offsets, after = np.zeros(1, np.int64), np.ones(1, np.int64)  # after: elements of a cell along the later axes
    for side, begins, lengths in zip(reversed(sides), reversed(starts), reversed(extents), strict=True):
        sizes = np.array([part.stop - part.start for part in side])
        offsets = (np.multiply.outer(np.array(begins), after) + np.multiply.outer(sizes, offsets)).ravel()
        after = np.multiply.outer(np.broadcast_to(np.array(lengths), len(side)), after).ravel()
    return offsets


def number_chunk(coords: Sequence[int], shape: Shape, chunks: Shape) -> int:
    """Return the number of a chunk in C order of its grid.

    >>> number_chunk((1, 2), (4, 9), (2, 3))
    5
    """
    number = 0
    for position, count in zip(coords, count_chunks(shape, chunks), strict=True):
        number = number * count + position
    return number


def number_chunks(chunk_coords: ChunkCoords, shape: Shape, chunks: Shape) -> NDArray[np.int64]:
    """Return the numbers of chunks in C order of their grid, ascending, each once."""
    return np.unique(np.ravel_multi_index(tuple(chunk_coords.T), count_chunks(shape, chunks)))


def has(numbers: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which numbers are among ascending ones.

    >>> has(np.array([2, 5]), np.array([1, 2, 9])).tolist()
    [False, True, False]
    """
    rows = np.searchsorted(numbers, wanted)
    present = rows < len(numbers)
    present[present] = numbers[rows[present]] == wanted[present]
    return present
