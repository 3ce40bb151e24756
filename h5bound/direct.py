"""Reading with little help from HDF5: what is stored in chunks, and what is stored in one piece."""

from __future__ import annotations

import itertools
import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d, h5i

from h5bound.decoders import Bytes, DamagedError
from h5bound.errors import CorruptChunkError, UnsupportedError
from h5bound.fallback import READ_ERRORS, Block, Region, name_of, read_through_h5py
from h5bound.filters import decoder_for
from h5bound.records import read_edge_unfiltered, read_filters
from h5bound.stored import ChunkGrid, ChunkTable, LocalFile, Overlap, Stored, bytes_of, list_chunks, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py
    from h5py import h5p

    from h5bound.filters import Decoder

LISTED_AT_ONCE = 1024
"""A grid of at most so many chunks is listed at the first read: 2 ms."""
LISTED_AFTER = 8
"""A larger one is listed once a chunk in so many was looked up, which has taken as long by then."""

SMALL_PLAIN = 256 << 10
"""Chunks without a filter and of fewer bytes are left to HDF5, once they are known to be of full size: outside it each
costs 20 µs of Python. Filtered ones are not: HDF5 gives what was left in memory for one that inflates to too little."""


class ContiguousReader:
    """Reads a dataset that is stored in one piece."""

    def __init__(self, dataset: h5py.Dataset, local: LocalFile | None) -> None:
        self._dataset = dataset
        self._shape = dataset.shape
        self._dtype = dataset.dtype
        self._offset = dataset.id.get_offset()
        self._owns = local is None
        self._local = LocalFile(h5i.get_file_id(dataset.id)) if local is None else local

    def read(self, region: Region) -> Block:
        """Give the region, which is not empty; runs too short to be read one by one go through h5py."""
        block, cells = _new_block(tuple(s.stop - s.start for s in region), self._dtype)
        try:
            whole = read_runs(self._local, self._offset, self._shape, region, cells)
        except DamagedError as error:
            raise CorruptChunkError(f"{name_of(self._dataset)}: {error}") from error
        return block if whole else read_through_h5py(self._dataset, region)

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._owns:
            self._local.close()


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """The stored chunks that a region meets: what can be held of it, in less memory, while the file is closed."""

    name: str
    """of the dataset and its file"""
    decoder: Decoder
    chunks: tuple[int, ...]
    """shape of a chunk"""
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    """of the region"""
    parts: tuple[tuple[Overlap, int, Bytes], ...]
    """of each chunk: where it meets the region, its filter mask and its stored bytes"""

    def decode(self) -> Block:
        """Give the region.

        Raises
        ------
        CorruptChunkError
            A chunk does not decode to what is declared.
        """
        block, cells = _new_block(self.shape, self.dtype)
        scratch: Block | None = None
        for overlap, mask, data in self.parts:
            target = cells[overlap.in_block]
            whole = target.shape == self.chunks and target.flags.c_contiguous
            if not whole and scratch is None:
                scratch = np.empty(self.chunks, cells.dtype)
            out = target if whole or scratch is None else scratch
            with explained(self.name, overlap):
                self.decoder.decode(data, bytes_of(out), mask)
            if out is scratch:
                target[...] = scratch[overlap.in_chunk]
        return block

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self.decode(),)


@contextmanager
def explained(name: str, overlap: Overlap) -> Iterator[None]:
    """Say which chunk of which dataset is damaged."""
    try:
        yield
    except DamagedError as error:
        raise CorruptChunkError(f"{name}, chunk at {overlap.origin}: {error}") from error


class ChunkedReader:
    """Reads a dataset that is stored in chunks."""

    def __init__(self, dataset: h5py.Dataset, local: LocalFile | None) -> None:
        plist = dataset.id.get_create_plist()
        filters = read_filters(dataset)
        edges = read_edge_unfiltered(plist, dataset.shape, dataset.chunks) if filters else False
        if edges is None:
            raise UnsupportedError("whether its edge chunks are filtered cannot be found out")
        self._dataset = dataset
        self._dtype = dataset.dtype
        self._name = name_of(dataset)
        self._grid = ChunkGrid(dataset.shape, dataset.chunks)
        self._all_skipped = (1 << len(filters)) - 1
        self._edge_mask = self._all_skipped if edges else 0
        self._decoder = decoder_for(filters, math.prod(dataset.chunks) * self._dtype.itemsize)
        self._small = not filters and self._decoder.nbytes < SMALL_PLAIN
        self._fill = _read_fill(plist, self._dtype)
        self._owns = local is None
        self._local = local or _open_local(dataset)
        self._table: ChunkTable | None = None
        self._listable = True
        self._lookups = itertools.count(1)
        self._listing = threading.Lock()

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._owns and self._local is not None:
            self._local.close()

    def read(self, region: Region) -> Block:
        """Give the region, which is not empty."""
        grid = self._grid
        if self._local is None:  # it may be open for writing, and have grown
            grid = ChunkGrid(self._dataset.shape, grid.chunks)
        if self._small and self._are_full(grid):
            return read_through_h5py(self._dataset, region)
        block, cells = _new_block(tuple(s.stop - s.start for s in region), self._dtype)
        scratch: Block | None = None
        for overlap in grid.meet(region):
            target = cells[overlap.in_block]
            stored = self._find(grid, overlap)
            with explained(self._name, overlap):
                if stored is None:
                    self._read_missing(overlap, target)
                elif target.shape == grid.chunks and target.flags.c_contiguous:
                    self._decode(stored, bytes_of(target))
                elif not self._read_part(stored, grid, overlap, target):
                    scratch = np.empty(grid.chunks, cells.dtype) if scratch is None else scratch
                    self._decode(stored, bytes_of(scratch))
                    target[...] = scratch[overlap.in_chunk]
        return block

    def fetch(self, region: Region) -> Block | Fetched:
        """Give the stored chunks of a region, which is not empty, or the region where they are no smaller."""
        if self._local is None or not self._all_skipped:
            return self.read(region)
        shape = tuple(s.stop - s.start for s in region)
        found = [(overlap, self._find(self._grid, overlap)) for overlap in self._grid.meet(region)]
        filtered = [
            (overlap, stored)
            for overlap, stored in found
            if stored is not None and stored.mask & self._all_skipped != self._all_skipped
        ]
        nbytes = sum(stored.nbytes for _, stored in filtered)
        if len(filtered) < len(found) or nbytes > math.prod(shape) * self._dtype.itemsize:
            return self.read(region)
        parts = tuple((overlap, stored.mask, self._load(stored)) for overlap, stored in filtered)
        return Fetched(self._name, self._decoder, self._grid.chunks, self._dtype, shape, parts)

    def _are_full(self, grid: ChunkGrid) -> bool:
        """Tell whether all chunks were listed, and have the size that is declared."""
        table = self._list(grid)
        return table is not None and bool((table.nbytes == self._decoder.nbytes).all())

    def _find(self, grid: ChunkGrid, overlap: Overlap) -> Stored | None:
        """Give what is stored of a chunk; None if nothing is, or HDF5 does not say."""
        table = self._list(grid)
        if table is not None:
            stored = table.find(grid.number(overlap.place))
        else:
            try:
                mask, data = self._dataset.id.read_direct_chunk(overlap.origin)
            except READ_ERRORS:
                return None
            stored = Stored(-1, len(data), mask, np.frombuffer(data, np.uint8))
        if stored is not None and self._edge_mask and grid.cuts(overlap.place):
            return replace(stored, mask=self._edge_mask)
        return stored

    def _list(self, grid: ChunkGrid) -> ChunkTable | None:
        """Give the table of all chunks, once making it costs less than looking up chunk after chunk."""
        if self._table is None and self._local is not None:
            worth = max(LISTED_AT_ONCE, LISTED_AFTER * next(self._lookups))
            if self._listable and math.prod(grid.counts) <= worth:
                with self._listing:
                    self._table = self._table or self._make_table(grid)
        return self._table

    def _make_table(self, grid: ChunkGrid) -> ChunkTable | None:
        try:
            table = list_chunks(self._dataset.id, grid)
        except READ_ERRORS:  # the index is damaged somewhere; HDF5 may still find chunks in the rest of it
            table = None
        self._listable = table is not None
        return table

    def _decode(self, stored: Stored, out: Bytes) -> None:
        """Decode a chunk into a buffer of its size."""
        plain = stored.mask & self._all_skipped == self._all_skipped
        if plain and stored.nbytes != out.size:
            raise DamagedError(f"{stored.nbytes} bytes are stored where {out.size} are declared")
        if plain and stored.data is None and self._local is not None:
            self._local.read_into(stored.offset, out)
            return
        self._decoder.decode(self._load(stored), out, stored.mask)

    def _load(self, stored: Stored) -> Bytes:
        """Give the stored bytes of a chunk."""
        if stored.data is not None:
            return stored.data
        assert self._local is not None
        return self._local.read(stored.offset, stored.nbytes)

    def _read_part(self, stored: Stored, grid: ChunkGrid, overlap: Overlap, target: Block) -> bool:
        """Read a part of an unfiltered chunk straight to where it belongs; False if that cannot be done."""
        plain = stored.mask & self._all_skipped == self._all_skipped
        if not plain or stored.data is not None or self._local is None or not target.flags.c_contiguous:
            return False
        if stored.nbytes != self._decoder.nbytes:
            raise DamagedError(f"{stored.nbytes} bytes are stored where {self._decoder.nbytes} are declared")
        return read_runs(self._local, stored.offset, grid.chunks, overlap.in_chunk, target)

    def _read_missing(self, overlap: Overlap, target: Block) -> None:
        """Fill in the fill value, or what h5py gives where HDF5 does not promise one."""
        if self._fill is not None and self._table is not None:
            target[...] = self._fill
            return
        block = read_through_h5py(self._dataset, overlap.region)
        target[...] = np.ndarray(target.shape, target.dtype, buffer=block)


def _open_local(dataset: h5py.Dataset) -> LocalFile | None:
    try:
        return LocalFile(h5i.get_file_id(dataset.id))
    except UnsupportedError:
        return None


def _read_fill(plist: h5p.PropDCID, dtype: np.dtype[np.generic]) -> Block | None:
    """Give the fill value as one opaque cell; None where HDF5 leaves it open what is unwritten."""
    if plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED or plist.get_fill_time() == h5d.FILL_TIME_NEVER:
        return None
    if dtype.subdtype is not None:
        return None
    value = np.zeros((), dtype)
    plist.get_fill_value(value)
    return np.ndarray((), _cell(dtype), buffer=value)


def _new_block(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[Block, Block]:
    """Give a new array, and a view of it with one opaque cell for each element, to copy bytes exactly."""
    block = np.empty(shape, dtype)
    return block, np.ndarray(shape, _cell(dtype), buffer=block)


def _cell(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    size = dtype.itemsize
    return np.dtype(f"u{size}" if size in (1, 2, 4, 8) else f"V{size}")
