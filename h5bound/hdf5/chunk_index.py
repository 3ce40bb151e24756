"""The positions of the chunks of a dataset in its file."""

from __future__ import annotations

import array
import itertools
import math
import operator
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from h5py import h5d, h5f, h5fd, h5i, h5s

from h5bound.errors import CorruptChunkError
from h5bound.h5py_compat import READ_ERRORS, call_getter, read_chunk_sizes, read_driver, read_encoded_chunk
from h5bound.hdf5.chunk_btree import ListedChunks, read_btree
from h5bound.hdf5.dataset import BTREE_1

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import Box, ChunkCoords, ChunkGrid, Overlap

    Tables = tuple[NDArray[np.int64], NDArray[np.int64]]  # as `ChunkIndex` has them: the numbers and the rows


@dataclass(frozen=True, slots=True, eq=False)
class ChunkManifest:
    """The places of the encoded bytes of some chunks of one dataset, one row for each chunk."""

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

    def mask_partial(self, shape: tuple[int, ...], chunks: tuple[int, ...], mask: int) -> NDArray[np.int64]:
        """Return the filter masks, with another one for the chunks that extend past the shape."""
        partial = ((self.chunk_coords + 1) * np.array(chunks, np.int64) > np.array(shape, np.int64)).any(axis=1)
        return np.where(partial, mask, self.masks)


MAX_ADDED = 10_000
"""A writer in SWMR mode may add as many chunks as the grid has, and so many more: then the index is not read whole."""


FEW_CHUNKS = 16
"""Chunks of a grid that HDF5 finds or lists sooner than the index is read from the file."""


def index_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ChunkManifest | None:
    """Return the manifest of all stored chunks in C order. It takes 0.2 to 2 µs a chunk.

    HDF5 finds one chunk by its coordinates in time linear in their number (`H5Dget_chunk_info_by_coord`: 2 to 5 ms
    among 100,000), so it is faster to index all of them than to ask for more than a few.

    Return None if the list of HDF5 cannot be trusted. HDF5 2.0 and before list wrong coordinates where the index is an
    extensible array and the only unlimited axis is not the first one: every chunk is listed at 0 along the axes before
    it. A list with any other position there is correct. In a file that is read in SWMR mode, chunks that a writer has
    added outside of the grid are left out. In a file of several parts (the drivers split and multi) a chunk has no
    position in a file.

    Raise CorruptChunkError if the index is damaged.
    """
    if read_driver(h5i.get_file_id(dataset)) == h5fd.MULTI:
        return None
    count = math.prod(grid.counts)
    found = find_chunks(dataset, grid) if count <= FEW_CHUNKS else None
    if found is not None:
        return found
    listed = (None if count <= FEW_CHUNKS else read_btree(dataset, grid)) or list_chunks(dataset, grid)
    if listed is None:
        return None
    chunk_coords = listed.origins // np.array(grid.chunks, np.int64)
    if (chunk_coords >= np.array(grid.counts, np.int64)).any():
        return None
    numbers = chunk_coords @ np.array(grid.strides, np.int64)
    manifest = ChunkManifest(
        chunk_coords=chunk_coords, offsets=listed.offsets, nbytes=listed.nbytes, masks=listed.masks
    )
    if not (numbers[1:] > numbers[:-1]).all():
        order = np.argsort(numbers, kind="stable")
        manifest, numbers = manifest.take(order), numbers[order]
    return None if (numbers[1:] == numbers[:-1]).any() else manifest


def find_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ChunkManifest | None:
    """Return the chunks of a small grid by their coordinates; None unless HDF5 lists all of them there."""
    rows = []
    coords = list(itertools.product(*map(range, grid.counts)))
    for place in coords:
        found = dataset.get_chunk_info_by_coord(tuple(map(operator.mul, place, grid.chunks)))
        if found.byte_offset is None:
            return None
        rows.append((found.byte_offset, found.size, found.filter_mask))
    offsets, nbytes, masks = np.array(rows, np.int64).reshape(-1, 3).T
    chunk_coords = np.array(coords, np.int64).reshape(-1, len(grid.shape))
    check_btree(dataset, chunk_coords * np.array(grid.chunks, np.int64), nbytes)
    return ChunkManifest(chunk_coords=chunk_coords, offsets=offsets, nbytes=nbytes, masks=masks)


def list_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ListedChunks | None:
    """Return the chunks that HDF5 lists; None if its list cannot be trusted, as `index_chunks` says."""
    origins, rows = array.array("q"), array.array("q")
    is_live = h5i.get_file_id(dataset).get_intent() & h5f.ACC_SWMR_READ  # a writer may have added chunks
    limit = 3 * (2 * math.prod(grid.counts) + MAX_ADDED if is_live else math.prod(grid.counts))  # against damage

    def add_row(info: h5d.StoreInfo) -> bool | None:
        origins.extend(info.chunk_offset)
        rows.extend((info.byte_offset, info.size, info.filter_mask))
        return True if len(rows) > limit else None

    dataset.chunk_iter(add_row)
    chunk_origins = np.frombuffer(origins, np.int64).reshape(-1, len(grid.shape))
    table = np.frombuffer(rows, np.int64).reshape(-1, 3)
    extents = dataset.get_space().get_simple_extent_dims(maxdims=True)
    unlimited = [axis for axis, extent in enumerate(extents) if extent == h5s.UNLIMITED]
    if len(unlimited) == 1 and unlimited[0] and not chunk_origins[:, : unlimited[0]].any():
        return None
    if is_live:
        if len(rows) > limit:
            return None
        inside = (chunk_origins // np.array(grid.chunks, np.int64) < np.array(grid.counts, np.int64)).all(axis=1)
        chunk_origins, table = chunk_origins[inside], table[inside]
    check_btree(dataset, chunk_origins, table[:, 1])
    return ListedChunks(chunk_origins, *table.T)


def check_btree(dataset: h5d.DatasetID, origins: NDArray[np.int64], nbytes: NDArray[np.int64]) -> None:
    """Raise CorruptChunkError if HDF5 lists a chunk that it does not find.

    The B-tree of version 1 has no checksum. If a key is damaged, HDF5 lists the chunk, but reads the fill value.
    """
    is_btree = call_getter("H5Dget_chunk_index_type", dataset) == BTREE_1
    sizes = read_chunk_sizes(dataset, origins.astype(np.uint64)) if is_btree else None
    if sizes is None:
        return
    lost = sizes != nbytes.astype(np.uint64)
    if lost.any() and not dataset.get_create_plist().get_nfilters():  # HDF5 then reports the declared size
        lost = sizes == 0
    for row in np.flatnonzero(lost)[:1]:
        name, origin = os.fsdecode(h5i.get_name(dataset) or b""), tuple(origins[row].tolist())
        raise CorruptChunkError(
            f"{name}: the chunk index is damaged: HDF5 lists a chunk at {origin}, but does not find it"
        )


class IndexingRule(NamedTuple):
    """The rule when all chunks of a dataset are indexed at once, rather than looked up one by one."""

    size: int
    """Most chunks of a grid that is indexed at the first read."""
    share: int
    """A larger grid is indexed once more than 1/share of its chunks was read: looking these up takes as long."""


INDEXING = IndexingRule(1024, 16)
"""For a local file: 1024 chunks are indexed in 2 ms."""

REMOTE_INDEXING = IndexingRule(64, 256)
"""For a remote file. A node of the index holds up to 64 chunks (H5Pset_istore_k, 32 by default) and may be one request.
A look-up reads a few nodes, and then the chunk, under HDF5's lock."""


class ChunkIndex:
    """The chunk index of one dataset, for any number of threads.

    `rule` says when all chunks are indexed; it is None where the file may change. `edge_mask` is the filter mask
    of partial chunks where HDF5 leaves these unfiltered without recording it in their masks; else 0. `found` gets the
    tables of all chunks; readers of the same state of the file share the list, so that these are found once.
    """

    def __init__(self, dataset: h5d.DatasetID, rule: IndexingRule | None, edge_mask: int) -> None:
        self.is_indexed = False  # whether all chunks are indexed
        self._dataset, self._rule, self._edge_mask = dataset, rule, edge_mask
        self._accessed = 0  # chunks that were looked up one by one
        self._numbers = np.zeros(0, np.int64)  # of the chunks, counted in C order of the grid
        self._rows = np.zeros((0, 3), np.int64)  # offset, nbytes and mask of each, and a row for chunks never written
        self._lock = threading.Lock()
        self.found: list[Tables] = []

    def note_access(self, grid: ChunkGrid, regions: Iterable[Region], *, again: bool = False) -> None:
        """Count the chunks of regions that will be read, and index all chunks once that saves time.

        With `again`, the regions will be noted once more when they are read, and are not added to the count yet.
        """
        if self._rule is None or self.is_indexed:
            return
        accessed = self._accessed + sum(map(grid.count, regions))
        if not again:
            self._accessed = accessed
        if self.found or math.prod(grid.counts) <= max(self._rule.size, self._rule.share * (accessed - 1)):
            with self._lock:
                if self._rule is not None and not self.is_indexed:
                    self._index(grid)

    def _index(self, grid: ChunkGrid) -> None:
        if not self.found:
            tables = self._find(grid)
            if tables is None:
                self._rule = None
                return
            self.found.append(tables)
        self._numbers, self._rows = self.found[0]
        self.is_indexed = True

    def _find(self, grid: ChunkGrid) -> Tables | None:
        """Return the tables of all chunks, None if HDF5's list of them cannot be used."""
        try:
            manifest = index_chunks(self._dataset, grid)
        except CorruptChunkError:
            raise
        except READ_ERRORS:  # a part of the index is damaged; HDF5 may still find chunks in the rest of it
            manifest = None
        if manifest is None:
            return None
        masks = manifest.mask_partial(grid.shape, grid.chunks, self._edge_mask) if self._edge_mask else manifest.masks
        numbers = np.append(manifest.chunk_coords @ np.array(grid.strides, np.int64), -1)
        return numbers, np.vstack([np.stack([manifest.offsets, manifest.nbytes, masks], axis=1), [[-1, 0, 0]]])

    def locate(self, grid: ChunkGrid, box: Box) -> NDArray[np.int64]:
        """Return the offset, encoded bytes and filter mask of each chunk of a box, a row for each, in C order.

        All chunks must have been indexed. The offset of a chunk that was never written is -1.
        """
        numbers = grid.linear_numbers(box)
        rows = self._numbers[:-1].searchsorted(numbers)
        return self._rows[np.where(self._numbers[rows] == numbers, rows, -1)]

    def look_up(self, grid: ChunkGrid, overlap: Overlap) -> tuple[int, bytes] | None:
        """Read one chunk through HDF5: its filter mask and encoded bytes; None if HDF5 does not find it."""
        try:
            mask, encoded = read_encoded_chunk(self._dataset, overlap.origin)
        except (*READ_ERRORS, SystemError):  # of a chunk that does not exist, h5py may return an arbitrary size
            return None
        return (self._edge_mask if self._edge_mask and grid.is_partial(overlap.chunk_coords) else mask), encoded
