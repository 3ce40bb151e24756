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
from math import prod
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

    cell: int | None
    """Number of the cell; None if it holds no stored data, and has no file."""
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

    def cut_cell(self, coords: Sequence[int]) -> Iterator[Piece]:
        """Yield the pieces of a cell that belong to boxes with keys."""
        region = region_of(tuple(coords), self.shape, self.cell)
        extents, number = measure_region(region), number_chunk(coords, self.shape, self.cell)
        for overlap in ChunkGrid(self.shape, self.box).overlaps(region):
            if has(self.boxes, number_chunk(overlap.chunk_coords, self.shape, self.box)):
                offset = find_offset(overlap.in_block, extents)
                yield Piece(cell=number, offset=offset, region=overlap.region, inside=overlap.in_block)

    def cut_box(self, coords: Sequence[int]) -> Iterator[Piece]:
        """Yield the pieces of a box."""
        region = region_of(tuple(coords), self.shape, self.box)
        for overlap in ChunkGrid(self.shape, self.cell).overlaps(region):
            number = number_chunk(overlap.chunk_coords, self.shape, self.cell)
            extents = measure_region(region_of(overlap.chunk_coords, self.shape, self.cell))
            offset = find_offset(overlap.in_chunk, extents)
            cell = number if has(self.cells, number) else None
            yield Piece(cell=cell, offset=offset, region=overlap.region, inside=overlap.in_block)


def find_offset(part: Region, extents: Shape) -> int:
    """Return the elements before a piece, where a block of these extents is stored piece after piece.

    A piece comes after those that lie before it along the first axis where they differ:

    >>> block = (4, 6)  # cut into pieces of 2 x 3
    >>> [find_offset((slice(i, i + 2), slice(j, j + 3)), block) for i in (0, 2) for j in (0, 3)]
    [0, 6, 12, 18]
    """
    offset, before = 0, 1
    for axis, positions in enumerate(part):
        offset += before * positions.start * prod(extents[axis + 1 :])
        before *= positions.stop - positions.start
    return offset


def measure_region(region: Region) -> Shape:
    """Return the shape of a region."""
    return tuple(part.stop - part.start for part in region)


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


def has(numbers: NDArray[np.int64], number: int) -> bool:
    """Return whether a number is among ascending ones."""
    position = int(np.searchsorted(numbers, number))
    return position < len(numbers) and int(numbers[position]) == number
