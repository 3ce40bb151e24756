"""ScanContext what is stored in chunks with little help from HDF5: it is asked where they are."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d, h5i, h5z

from h5bound.buffers import Block, Bytes, DamagedError, Region, bytes_of, new_block, raw_dtype, reuse_freed
from h5bound.chunk_grid import ChunkGrid, Overlap
from h5bound.codecs.filters import make_decoder
from h5bound.errors import CorruptChunkError, UnsupportedError
from h5bound.files.local import LocalFile
from h5bound.hdf5.chunk_index import INDEXING, REMOTE_INDEXING, ChunkFinder, Stored, cut_batches
from h5bound.hdf5.dataset import read_edge_unfiltered, read_filters
from h5bound.reader.byte_ranges import plan_spans, read_spans
from h5bound.reader.small_chunks import are_whole, is_small, read_boxes
from h5bound.reader.via_h5py import name_of, read_through_h5py

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import h5py
    from h5py import h5p

    from h5bound.codecs.filters import Decoder, Filter
    from h5bound.files.protocols import FileBytes, Readable


LEFT_NBYTES = 256 << 10
"""Chunks of fewer bytes are left to HDF5 where they are sure to have their declared size, and are no work for a
processor: outside HDF5 each costs some 20 µs of Python. HDF5 gives what was left in memory for one that decodes to too
little. Of the compressors only Blosc says the size first and keeps to that or fails: the plugins of Zstandard, LZ4 and
bitshuffle give memory of the process where what comes after a good header is damaged."""


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
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    """held while a codec may write to the stored bytes"""

    def decode(self) -> Block:
        """Give the region.

        Raises
        ------
        CorruptChunkError
            A chunk does not decode to what is declared.
        """
        block, raw_view = new_block(self.shape, self.dtype)
        scratch: Block | None = None
        for overlap, mask, stored in self.parts:
            target = raw_view[overlap.in_block]
            whole = target.shape == self.chunks and target.flags.c_contiguous
            if not whole and scratch is None:
                scratch = np.empty(self.chunks, raw_view.dtype)
            out = target if whole or scratch is None else scratch
            with self.lock, explained(self.name, overlap):
                self.decoder.decode(stored, bytes_of(out), mask)
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
    """Reads a dataset that is stored in chunks.

    Parameters
    ----------
    dataset
        An open dataset.
    stored
        The bytes of its file, to share.
    cell
        Type of an element as it stands in the file, for `read_stored`; None where that is the one in memory.
    """

    def __init__(
        self, dataset: h5py.Dataset, stored: FileBytes | None, cell: np.dtype[np.generic] | None = None
    ) -> None:
        plist = dataset.id.get_create_plist()
        filters = read_filters(dataset)
        edges = read_edge_unfiltered(plist, dataset.shape, dataset.chunks) if filters else False
        if edges is None:
            raise UnsupportedError("whether its edge chunks are filtered cannot be found out")
        self._dataset = dataset
        self._dtype = dataset.dtype if cell is None else cell
        self._name = name_of(dataset)
        self._grid = ChunkGrid(dataset.shape, dataset.chunks)
        self._all_skipped = (1 << len(filters)) - 1
        self._decoder = make_decoder(filters, math.prod(dataset.chunks) * self._dtype.itemsize)
        self._fill = _read_fill(plist, self._dtype) if cell is None else None
        self._owns = stored is None
        self._bytes = stored or _open_local(dataset)
        is_remote = self._bytes is not None and self._bytes.is_remote
        self._left = (
            not is_remote and self._decoder.nbytes < LEFT_NBYTES and self._decoder.tells_sizes and _has_all(filters)
        )
        listing = None if self._bytes is None else REMOTE_INDEXING if is_remote else INDEXING
        self._finder = ChunkFinder(dataset, listing, self._all_skipped if edges else 0)
        reuse_freed(3 * self._decoder.nbytes)

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._owns and self._bytes is not None:
            self._bytes.close()

    def read(self, region: Region) -> Block:
        """Give the region, which is not empty."""
        grid = self._grid
        if self._bytes is None:  # it may be open for writing, and have grown
            grid = ChunkGrid(self._dataset.shape, grid.chunks)
        self._finder.note_access(grid, (region,))
        return self._read(grid, region)

    def _read(self, grid: ChunkGrid, region: Region) -> Block:
        if self._left and self._are_whole(grid, region):
            with suppress(CorruptChunkError):  # read one by one, the chunk has a name
                return read_through_h5py(self._dataset, region)
        block, raw_view = new_block(tuple(s.stop - s.start for s in region), self._dtype)
        if is_small(grid, region, self._decoder.nbytes) and self._read_together(grid, region, raw_view):
            return block
        scratch: Block | None = None
        for overlap, stored, source in self._gather(grid, region):
            target = raw_view[overlap.in_block]
            with explained(self._name, overlap):
                if stored is None:
                    self._read_missing(overlap, target)
                elif target.shape == grid.chunks and target.flags.c_contiguous:
                    self._decode(stored, source, bytes_of(target))
                elif not self._read_part(stored, grid, overlap, target):
                    scratch = np.empty(grid.chunks, raw_view.dtype) if scratch is None else scratch
                    self._decode(stored, source, bytes_of(scratch))
                    target[...] = scratch[overlap.in_chunk]
        return block

    def _are_whole(self, grid: ChunkGrid, region: Region) -> bool:
        """Tell whether all chunks of a region have their declared size, where that takes less than to decode them."""
        table = self._finder.whole_table
        if table is None or self._bytes is None or (self._all_skipped and grid.count(region) == 1):
            return False
        try:
            return are_whole(self._bytes, table, grid, self._decoder, region)
        except DamagedError:
            return False

    def _read_together(self, grid: ChunkGrid, region: Region, raw_view: Block) -> bool:
        """Read small chunks of a local file many at once; False if they have to be read one by one."""
        table = self._finder.whole_table
        if table is None or self._bytes is None or self._bytes.is_remote:
            return False
        try:
            return read_boxes(self._bytes, table, grid, self._decoder, self._fill, region, raw_view)
        except DamagedError:  # read one by one, the chunk has a name
            return False

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Take notice of regions that will be read, each once, if they are enough for their chunks to be listed."""
        if self._bytes is None:
            return
        self._finder.note_access(self._grid, regions, again=True)
        if self._finder.table is None:
            return
        found = (stored for region in regions for _, stored in self._finder.overlaps(self._grid, region))
        self._bytes.prefetch((stored.offset, stored.nbytes) for stored in found if stored is not None)

    def fetch(self, region: Region) -> Block | Fetched:
        """Give the stored chunks of a region, which is not empty, or the region where they are no smaller."""
        if self._bytes is None or not self._all_skipped or is_small(self._grid, region, self._decoder.nbytes):
            return self.read(region)
        self._finder.note_access(self._grid, (region,))
        shape = tuple(s.stop - s.start for s in region)
        found = list(self._finder.overlaps(self._grid, region))
        filtered = [(overlap, stored) for overlap, stored in found if stored is not None and not self._is_plain(stored)]
        nbytes = sum(stored.nbytes for _, stored in filtered)
        if len(filtered) < len(found) or nbytes > math.prod(shape) * self._dtype.itemsize:
            return self._read(self._grid, region)
        source = self._bytes.gather((stored.offset, stored.nbytes) for _, stored in filtered if stored.data is None)
        parts = []
        for overlap, stored in filtered:
            with explained(self._name, overlap):
                parts.append((overlap, stored.mask, _load(stored, source)))
        return Fetched(self._name, self._decoder, self._grid.chunks, self._dtype, shape, tuple(parts))

    def read_stored(self, region: Region) -> Iterator[Block]:
        """Give what is stored of a region in one chunk after another, as its elements stand in the file."""
        self._finder.note_access(self._grid, (region,))
        scratch = np.empty(self._grid.chunks, raw_dtype(self._dtype))
        for overlap, stored, source in self._gather(self._grid, region):
            if stored is not None:
                with explained(self._name, overlap):
                    self._decode(stored, source, bytes_of(scratch))
                yield np.ndarray(self._grid.chunks, self._dtype, buffer=scratch)[overlap.in_chunk]

    def _gather(self, grid: ChunkGrid, region: Region) -> Iterator[tuple[Overlap, Stored | None, Readable | None]]:
        """Give the chunks that a region meets, what is stored of each, and what that can be read from."""
        found = self._finder.overlaps(grid, region)
        if self._bytes is None or not self._bytes.is_remote:
            for overlap, stored in found:
                yield overlap, stored, self._bytes
            return
        for batch in cut_batches(found):
            source = self._bytes.gather(
                (stored.offset, stored.nbytes) for _, stored in batch if stored is not None and stored.data is None
            )
            for overlap, stored in batch:
                yield overlap, stored, source

    def _is_plain(self, stored: Stored) -> bool:
        """Tell whether a chunk went through no filter."""
        return stored.mask & self._all_skipped == self._all_skipped

    def _decode(self, stored: Stored, source: Readable | None, out: Bytes) -> None:
        """Decode a chunk into a buffer of its size."""
        plain = self._is_plain(stored)
        if plain and stored.nbytes != out.size:
            raise DamagedError(f"{stored.nbytes} bytes are stored where {out.size} are declared")
        if plain and stored.data is None and source is not None:
            source.read_into(stored.offset, out)
            return
        self._decoder.decode(_load(stored, source), out, stored.mask)

    def _read_part(self, stored: Stored, grid: ChunkGrid, overlap: Overlap, target: Block) -> bool:
        """Read a part of an unfiltered chunk straight to where it belongs; False if that cannot be done."""
        plain = self._is_plain(stored)
        if not plain or stored.data is not None or self._bytes is None or not target.flags.c_contiguous:
            return False
        if self._bytes.is_remote:  # all of it was gathered
            return False
        if stored.nbytes != self._decoder.nbytes:
            raise DamagedError(f"{stored.nbytes} bytes are stored where {self._decoder.nbytes} are declared")
        spans = plan_spans(stored.offset, grid.chunks, overlap.in_chunk, target.itemsize)
        if spans is None:
            return False
        read_spans(self._bytes, spans, target)
        return True

    def _read_missing(self, overlap: Overlap, target: Block) -> None:
        """Fill in the fill value, or what h5py gives where HDF5 does not promise one."""
        if self._fill is not None and self._finder.table is not None:
            target[...] = self._fill
            return
        block = read_through_h5py(self._dataset, overlap.region)
        target[...] = np.ndarray(target.shape, target.dtype, buffer=block)


def _load(stored: Stored, source: Readable | None) -> Bytes:
    """Give the stored bytes of a chunk."""
    if stored.data is not None:
        return stored.data
    assert source is not None
    return source.read(stored.offset, stored.nbytes)


def _open_local(dataset: h5py.Dataset) -> LocalFile | None:
    try:
        return LocalFile(h5i.get_file_id(dataset.id))
    except UnsupportedError:
        return None


def _has_all(filters: tuple[Filter, ...]) -> bool:
    """Tell whether HDF5 has all of these filters."""
    return all(h5z.filter_avail(entry.id) for entry in filters)


def _read_fill(plist: h5p.PropDCID, dtype: np.dtype[np.generic]) -> Block | None:
    """Give the fill value as one opaque cell; None where HDF5 leaves it open what is unwritten."""
    if plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED or plist.get_fill_time() == h5d.FILL_TIME_NEVER:
        return None
    if dtype.subdtype is not None:
        return None
    value = np.zeros((), dtype)
    plist.get_fill_value(value)
    return np.ndarray((), raw_dtype(dtype), buffer=value)
