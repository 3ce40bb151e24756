"""Where the stored chunks of a dataset are."""

from __future__ import annotations

import array
import itertools
import math
import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from h5py import h5d, h5i, h5s

from h5bound.errors import CorruptChunkError
from h5bound.library import ask, find_chunks
from h5bound.records import BTREE_1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from h5bound.buffers import Bytes


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
    >>> [overlap.in_chunk[0] for overlap in grid.meet((slice(3, 6), slice(0, 1)))]
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

    def meet(self, region: tuple[slice, ...]) -> Iterator[Overlap]:
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


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one chunk."""

    offset: int
    """of its first byte in the file"""
    nbytes: int
    """how many there are"""
    mask: int
    """bit i: filter i of the pipeline was skipped"""
    data: Bytes | None = None
    """the bytes, where HDF5 has handed them over; `offset` means nothing then"""


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where every stored chunk of a dataset is: a row each, ordered by number."""

    numbers: NDArray[np.int64]
    """place of the chunk in row-major order"""
    offsets: NDArray[np.int64]
    """of its first byte in the file"""
    nbytes: NDArray[np.int64]
    """of what is stored"""
    masks: NDArray[np.int64]
    """bit i: filter i of the pipeline was skipped"""

    def find(self, number: int) -> Stored | None:
        """Give what is stored of a chunk; None if it was never written."""
        row = int(np.searchsorted(self.numbers, number))
        if row == self.numbers.size or self.numbers[row] != number:
            return None
        return Stored(int(self.offsets[row]), int(self.nbytes[row]), int(self.masks[row]))

    def find_all(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the row of each chunk; -1 if it was never written."""
        if not self.numbers.size:
            return np.full(numbers.shape, -1)
        rows = np.minimum(np.searchsorted(self.numbers, numbers), self.numbers.size - 1)
        return np.where(self.numbers[rows] == numbers, rows, -1)


def check_tree(dataset: h5d.DatasetID, origins: NDArray[np.int64], nbytes: NDArray[np.int64]) -> None:
    """Make sure that HDF5 finds each chunk that it lists.

    Its first kind of B-tree has no checksum. Where a key is damaged, HDF5 still lists a chunk, but does not find it any
    more, and gives the fill value without a word.

    Raises
    ------
    CorruptChunkError
        It does not.
    """
    found = find_chunks(dataset, origins.astype(np.uint64))
    if found is None:
        return
    plain = not dataset.get_create_plist().get_nfilters()  # then it says what is declared, not what is stored
    lost = found == 0 if plain else found != nbytes.astype(np.uint64)
    for row in np.flatnonzero(lost)[:1]:
        name, origin = os.fsdecode(h5i.get_name(dataset) or b""), tuple(origins[row].tolist())
        raise CorruptChunkError(f"{name}: its index is damaged: a chunk at {origin} is listed, and not found there")


def list_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ChunkTable | None:
    """Give the table of all chunks: about 1.5 µs and 32 bytes a chunk, under HDF5's lock.

    HDF5 finds one chunk by its coordinates in time linear in their number (`H5Dget_chunk_info_by_coord`: 2 to
    5 ms among 100,000), so that more than a few are better listed.

    None means that the list cannot be trusted. HDF5 (2.0 and before) lists wrong coordinates where its index is an
    extensible array and the one unlimited axis is not the first: it goes on counting along that axis, so that
    every chunk is said to lie at 0 along the axes before. Only a list with another place there is no such list.
    """
    places, rows = array.array("q"), array.array("q")

    most = 3 * math.prod(grid.counts)

    def note(info: h5d.StoreInfo) -> bool | None:
        places.extend(info.chunk_offset)
        rows.extend((info.byte_offset, info.size, info.filter_mask))
        return True if len(rows) > most else None  # one chunk may be told again and again

    dataset.chunk_iter(note)
    origins = np.frombuffer(places, np.int64).reshape(-1, len(grid.shape))
    index = origins // np.array(grid.chunks, np.int64)
    limits = dataset.get_space().get_simple_extent_dims(maxdims=True)
    unlimited = [axis for axis, limit in enumerate(limits) if limit == h5s.UNLIMITED]
    if len(unlimited) == 1 and unlimited[0] and not index[:, : unlimited[0]].any():
        return None
    if ask("H5Dget_chunk_index_type", dataset) == BTREE_1:
        check_tree(dataset, origins, np.frombuffer(rows, np.int64).reshape(-1, 3)[:, 1])
    numbers = index @ np.array(grid.strides, np.int64)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    if (index >= np.array(grid.counts, np.int64)).any() or (numbers[1:] == numbers[:-1]).any():
        return None
    offsets, nbytes, masks = np.frombuffer(rows, np.int64).reshape(-1, 3)[order].T.copy()
    return ChunkTable(numbers, offsets, nbytes, masks)
