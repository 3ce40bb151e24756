"""Where the stored chunks of a dataset are."""

from __future__ import annotations

import array
import math
import os
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from h5py import h5d, h5i, h5s

from h5bound.chunk_grid import ChunkGrid
from h5bound.errors import CorruptChunkError
from h5bound.h5py_compat import READ_ERRORS, call_getter, read_chunk_sizes
from h5bound.hdf5.dataset import BTREE_1

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import h5py
    from numpy.typing import NDArray

    from h5bound.buffers import Bytes, Region
    from h5bound.chunk_grid import ChunkCoords, ChunkGrid, Overlap


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
    found = read_chunk_sizes(dataset, origins.astype(np.uint64))
    if found is None:
        return
    plain = not dataset.get_create_plist().get_nfilters()  # then it says what is declared, not what is stored
    lost = found == 0 if plain else found != nbytes.astype(np.uint64)
    for row in np.flatnonzero(lost)[:1]:
        name, origin = os.fsdecode(h5i.get_name(dataset) or b""), tuple(origins[row].tolist())
        raise CorruptChunkError(f"{name}: its index is damaged: a chunk at {origin} is listed, and not found there")


def index_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ChunkTable | None:
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
    if call_getter("H5Dget_chunk_index_type", dataset) == BTREE_1:
        check_tree(dataset, origins, np.frombuffer(rows, np.int64).reshape(-1, 3)[:, 1])
    numbers = index @ np.array(grid.strides, np.int64)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    if (index >= np.array(grid.counts, np.int64)).any() or (numbers[1:] == numbers[:-1]).any():
        return None
    offsets, nbytes, masks = np.frombuffer(rows, np.int64).reshape(-1, 3)[order].T.copy()
    return ChunkTable(numbers, offsets, nbytes, masks)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkManifest:
    """Where the encoded bytes of some chunks of one dataset are, a row for each chunk."""

    chunk_coords: ChunkCoords
    """Positions in the chunk grid."""
    offsets: NDArray[np.int64]
    """Bytes from the start of the file, its user block included."""
    nbytes: NDArray[np.int64]
    """Encoded bytes."""
    masks: NDArray[np.int64]
    """Filter masks: bit i says that filter i was not applied."""

    def take(self, rows: Any) -> ChunkManifest:
        """Return some of the rows: a slice of them, or those of an index array in its order."""
        return ChunkManifest(
            chunk_coords=self.chunk_coords[rows],
            offsets=self.offsets[rows],
            nbytes=self.nbytes[rows],
            masks=self.masks[rows],
        )


class IndexingRule(NamedTuple):
    """When the chunks of a dataset are listed, all at once, rather than looked up one by one."""

    size: int
    """a grid of at most so many chunks is listed at the first read"""
    share: int
    """a larger one, once more than a chunk in so many was wanted: to look up these takes as long"""


INDEXING = IndexingRule(1024, 16)
"""For a local file, of which 1024 chunks are listed in 2 ms."""

REMOTE_INDEXING = IndexingRule(64, 256)
"""Where HDF5 asks a server for its index: a node of it holds up to 64 chunks (H5Pset_istore_k, 32 by default), and may
be a request of its own. A look-up takes a few nodes, and brings the chunk under HDF5's lock."""

GATHERED_NBYTES = 64 << 20
"""Of so many stored bytes, of one block, a server is asked at once."""

GATHERED_CHUNKS = 4096
"""So many chunks, those that are not stored among them, are looked for before the first of them is read."""


class ChunkFinder:
    """Finds the stored chunks of one dataset, for any number of threads.

    Parameters
    ----------
    dataset
        An open dataset.
    listing
        When all chunks are listed; None where the file may change meanwhile.
    edge_mask
        The filter mask of the chunks that the shape cuts off, where their own does not tell; else 0.
    """

    def __init__(self, dataset: h5py.Dataset, listing: IndexingRule | None, edge_mask: int) -> None:
        self._dataset, self._listing, self._edge_mask = dataset, listing, edge_mask
        self._table: ChunkTable | None = None
        self._listable = listing is not None
        self._wanted = 0  # chunks, as far as they were not found in a list
        self._lock = threading.Lock()

    @property
    def table(self) -> ChunkTable | None:
        """Where all chunks are, once they were listed, so that it is known which were never written."""
        return self._table

    @property
    def whole_table(self) -> ChunkTable | None:
        """The list of all chunks, where it says all of each."""
        return None if self._edge_mask else self._table

    def note_access(self, grid: ChunkGrid, regions: Iterable[Region], *, again: bool = False) -> None:
        """Take notice of regions that are about to be looked up; list all chunks if that is worth it by now.

        Those that will be told `again`, one by one, are not counted yet.
        """
        if self._listing is not None and self._listable and self._table is None:
            wanted = self._wanted + sum(map(grid.count, regions))
            if not again:
                self._wanted = wanted
            if math.prod(grid.counts) <= max(self._listing.size, self._listing.share * (wanted - 1)):
                self._list(grid)

    def overlaps(self, grid: ChunkGrid, region: Region) -> Iterator[tuple[Overlap, Stored | None]]:
        """Give the chunks that a region meets, and what is stored of each."""
        for overlap in grid.overlaps(region):
            yield overlap, self._find(grid, overlap)

    def _find(self, grid: ChunkGrid, overlap: Overlap) -> Stored | None:
        """Give what is stored of a chunk; None if nothing is, or HDF5 does not say."""
        if self._table is not None:
            stored = self._table.find(grid.number(overlap.place))
        else:
            try:
                mask, data = self._dataset.id.read_direct_chunk(overlap.origin)
            except (*READ_ERRORS, SystemError):  # of a chunk that is not there h5py may take its size from nowhere
                return None
            stored = Stored(-1, len(data), mask, np.frombuffer(data, np.uint8))
        if stored is not None and self._edge_mask and grid.cuts(overlap.place):
            return replace(stored, mask=self._edge_mask)
        return stored

    def _list(self, grid: ChunkGrid) -> None:
        with self._lock:
            if self._table is not None or not self._listable:
                return
            try:
                self._table = index_chunks(self._dataset.id, grid)
            except CorruptChunkError:
                raise
            except READ_ERRORS:  # the index is damaged somewhere; HDF5 may still find chunks in the rest of it
                self._table = None
            self._listable = self._table is not None


def cut_batches(found: Iterable[tuple[Overlap, Stored | None]]) -> Iterator[list[tuple[Overlap, Stored | None]]]:
    """Give chunks in batches that are to be read at once."""
    batch: list[tuple[Overlap, Stored | None]] = []
    nbytes = 0
    for overlap, stored in found:
        batch.append((overlap, stored))
        nbytes += 0 if stored is None else stored.nbytes
        if nbytes >= GATHERED_NBYTES or len(batch) >= GATHERED_CHUNKS:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch
