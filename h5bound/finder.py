"""Finding what is stored of the chunks that a region meets: in a list of all of them, or one by one."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.errors import CorruptChunkError
from h5bound.stored import Stored, list_chunks
from h5bound.unreadable import READ_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import h5py

    from h5bound.fallback import Region
    from h5bound.stored import ChunkGrid, ChunkTable, Overlap


class Listing(NamedTuple):
    """When the chunks of a dataset are listed, all at once, rather than looked up one by one."""

    size: int
    """a grid of at most so many chunks is listed at the first read"""
    share: int
    """a larger one, once more than a chunk in so many was wanted: to look up these takes as long"""


LISTED = Listing(1024, 16)
"""For a local file, of which 1024 chunks are listed in 2 ms."""

FAR_LISTED = Listing(64, 256)
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

    def __init__(self, dataset: h5py.Dataset, listing: Listing | None, edge_mask: int) -> None:
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

    def want(self, grid: ChunkGrid, regions: Iterable[Region], *, again: bool = False) -> None:
        """Take notice of regions that are about to be looked up; list all chunks if that is worth it by now.

        Those that will be told `again`, one by one, are not counted yet.
        """
        if self._listing is not None and self._listable and self._table is None:
            wanted = self._wanted + sum(map(grid.count, regions))
            if not again:
                self._wanted = wanted
            if math.prod(grid.counts) <= max(self._listing.size, self._listing.share * (wanted - 1)):
                self._list(grid)

    def meet(self, grid: ChunkGrid, region: Region) -> Iterator[tuple[Overlap, Stored | None]]:
        """Give the chunks that a region meets, and what is stored of each."""
        for overlap in grid.meet(region):
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
                self._table = list_chunks(self._dataset.id, grid)
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
