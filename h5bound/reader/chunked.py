"""Read chunked datasets: HDF5 says where the encoded bytes are, and they are read and decoded without HDF5."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from h5py import h5d

from h5bound.buffers import Block, Bytes, DamagedError, Region, bytes_of, new_block, raw_dtype, reuse_freed
from h5bound.chunk_grid import ChunkGrid, Overlap, cut_batches, cut_boxes
from h5bound.codecs.chunk_decoder import make_decoder
from h5bound.errors import UnsupportedError
from h5bound.files.local import LocalFile
from h5bound.hdf5.chunk_index import INDEXING, REMOTE_INDEXING, ChunkIndex
from h5bound.hdf5.dataset import read_edge_unfiltered, read_filters
from h5bound.hdf5.element_types import holds_bytes
from h5bound.reader.byte_ranges import plan_spans, read_spans
from h5bound.reader.encoded import ChunkInMemory, EncodedBlock, EncodedChunk, corrupt
from h5bound.reader.small_chunks import BOX_NBYTES, SMALL_NBYTES, is_small, read_ranges, read_small_chunks
from h5bound.reader.via_h5py import H5pyReader, dtype_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import h5py
    from h5py import h5p

    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import ChunkManifest, Tables


REQUEST_NBYTES = 64 << 20
"""Most encoded bytes of one block that are requested from a server at once."""

REQUEST_CHUNKS = 4096
"""Most chunks that are located, and requested from a server, at once."""


class ChunkedReader:
    """Reader of a chunked dataset.

    `file_bytes` is None where only HDF5 may read the file. `element` is the type of an element in the file,
    for `read_on_disk`; None where that is the one in memory.
    """

    def __init__(
        self, dataset: h5py.Dataset, file_bytes: FileBytes | None, element: np.dtype[np.generic] | None = None
    ) -> None:
        plist = dataset.id.get_create_plist()
        filters = read_filters(dataset.id, plist)
        chunks = tuple(map(int, plist.get_chunk()))
        edge_unfiltered = read_edge_unfiltered(plist, dataset.shape, chunks) if filters else False
        if edge_unfiltered is None:
            raise UnsupportedError("HDF5 does not say whether its edge chunks are filtered")
        self._dataset = dataset
        self._via_h5py = H5pyReader(dataset)
        self._dtype = dtype_of(dataset) if element is None else element
        self._name = name_of(dataset)
        self._grid = ChunkGrid(dataset.shape, chunks)
        self._unfiltered_mask = (1 << len(filters)) - 1
        self._decoder = make_decoder(filters, math.prod(chunks) * self._dtype.itemsize)
        has_fill = element is None and not holds_bytes(dataset.id.get_type())
        self._fill = _read_fill(plist, self._dtype) if has_fill else None
        self._bytes = file_bytes
        rule = None if file_bytes is None else REMOTE_INDEXING if file_bytes.is_remote else INDEXING
        self._index = ChunkIndex(dataset.id, rule, self._unfiltered_mask if edge_unfiltered else 0)
        reuse_freed(3 * self._decoder.nbytes)

    @property
    def is_direct(self) -> bool:
        """Whether chunks are read without HDF5."""
        return self._bytes is not None

    def share_index(self, found: list[Tables]) -> None:
        """Take the chunk index that another reader has found, or leave it for others: `ChunkIndex` says how."""
        self._index.found = found

    def read(self, region: Region, *, pooled: bool = False) -> Block:
        """Return a region that is not empty; `pooled` is that of `new_block`."""
        grid, file_bytes = self._grid, self._bytes
        if file_bytes is None:  # the file may be open for writing, and the dataset may have grown
            grid = ChunkGrid(self._dataset.shape, grid.chunks)
        self._index.note_access(grid, (region,))
        block, raw_view = new_block(tuple(s.stop - s.start for s in region), self._dtype, pooled=pooled)
        small = self._index.is_indexed and is_small(grid, region, self._decoder.nbytes)
        if small and isinstance(file_bytes, LocalFile):
            with suppress(DamagedError):  # read one by one, the error names the chunk
                if read_small_chunks(
                    file_bytes,
                    index=self._index,
                    grid=grid,
                    decoder=self._decoder,
                    fill=self._fill,
                    region=region,
                    raw_view=raw_view,
                ):
                    return block
        self._read_each(grid, region, raw_view)
        return block

    def _read_each(self, grid: ChunkGrid, region: Region, raw_view: Block) -> None:
        """Fill a block from one chunk after another."""
        scratch: Block | None = None
        for overlap, chunk in self._locate(grid, region):
            target = raw_view[overlap.in_block]
            try:
                if chunk is None:
                    self._read_missing(overlap, target)
                elif target.shape == grid.chunks and target.flags.c_contiguous:
                    self._decode(chunk, bytes_of(target))
                elif not self._read_part(chunk, overlap, target):
                    scratch = np.empty(grid.chunks, raw_view.dtype) if scratch is None else scratch
                    self._decode(chunk, bytes_of(scratch))
                    target[...] = scratch[overlap.in_chunk]
            except DamagedError as error:
                raise corrupt(self._name, overlap, error) from error

    def check(self, region: Region) -> None:
        """Raise CorruptChunkError if a stored chunk of a region that is not empty has another size than declared.

        It is decoded only as far as that takes.
        """
        grid = self._grid
        if self._bytes is None or is_small(grid, region, self._decoder.nbytes):
            self.read(region)
            return
        self._index.note_access(grid, (region,))
        for overlap, chunk in self._locate(grid, region):
            try:
                if chunk is not None and not self._is_unfiltered(chunk):
                    self._decoder.check(chunk.source.read(chunk.offset, chunk.nbytes), chunk.mask)
            except DamagedError as error:
                raise corrupt(self._name, overlap, error) from error

    def find_damaged(self, chunks: ChunkManifest) -> Iterator[tuple[int, str]]:
        """Yield the row of each chunk that cannot be decoded, or does not match its checksum, and why.

        The masks of chunks say what is left unfiltered. No block is made. The reader must be direct.
        """
        assert self._bytes is not None
        small = self._decoder.nbytes <= SMALL_NBYTES and isinstance(self._bytes, LocalFile)
        most = max(BOX_NBYTES // max(self._decoder.nbytes, 1), 1) if small else REQUEST_CHUNKS
        for start, stop in cut_batches(chunks.nbytes, REQUEST_NBYTES, min(most, REQUEST_CHUNKS)):
            part = chunks.take(slice(start, stop))
            if small and self._are_whole(part):
                continue
            spans = list(zip(part.offsets.tolist(), part.nbytes.tolist(), strict=True))
            source = self._bytes.gather(spans)
            for row, (span, mask) in enumerate(zip(spans, part.masks.tolist(), strict=True), start):
                try:
                    chunk = EncodedChunk(source, *span, mask)
                    encoded = source.read(chunk.offset, chunk.nbytes)
                    if not self._is_unfiltered(chunk):
                        self._decoder.check(encoded, chunk.mask)
                except DamagedError as error:
                    yield row, str(error)

    def _are_whole(self, chunks: ChunkManifest) -> bool:
        """Return whether all of some small chunks can be decoded."""
        assert isinstance(self._bytes, LocalFile)
        try:
            for mask in np.unique(chunks.masks).tolist():
                part = chunks.take(chunks.masks == mask)
                self._decoder.check_all(read_ranges(self._bytes, part.offsets, part.nbytes), mask)
        except DamagedError:  # read one by one, the error names the chunk
            return False
        return True

    def read_encoded(self, region: Region) -> Block | EncodedBlock:
        """Return the encoded chunks of a region that is not empty, or the region itself where it is not larger."""
        grid, file_bytes = self._grid, self._bytes
        if file_bytes is None or not self._unfiltered_mask or is_small(grid, region, self._decoder.nbytes):
            return self.read(region, pooled=True)
        self._index.note_access(grid, (region,), again=True)
        if not self._index.is_indexed:
            return self.read(region, pooled=True)
        located = self._index.locate(grid, grid.box(region))
        offsets, nbytes, masks = located.T
        shape = tuple(s.stop - s.start for s in region)
        unfiltered = masks & self._unfiltered_mask == self._unfiltered_mask
        if (offsets < 0).any() or unfiltered.any() or nbytes.sum() > math.prod(shape) * self._dtype.itemsize:
            return self.read(region, pooled=True)
        source = file_bytes.gather(map(tuple, located[:, :2].tolist()))
        parts = []
        for overlap, (offset, size, mask) in zip(grid.overlaps(region), located.tolist(), strict=True):
            try:
                parts.append((overlap, mask, source.read(offset, size)))
            except DamagedError as error:
                raise corrupt(self._name, overlap, error) from error
        return EncodedBlock(
            name=self._name,
            decoder=self._decoder,
            chunk_shape=grid.chunks,
            dtype=self._dtype,
            shape=shape,
            parts=tuple(parts),
        )

    def read_on_disk(self, region: Region) -> Iterator[Block]:
        """Yield the elements of a region in the form of the file, chunk by chunk without chunks never written.

        A yielded array is valid until the next one is yielded.
        """
        self._index.note_access(self._grid, (region,))
        scratch = np.empty(self._grid.chunks, raw_dtype(self._dtype))
        for overlap, chunk in self._locate(self._grid, region):
            if chunk is not None:
                try:
                    self._decode(chunk, bytes_of(scratch))
                except DamagedError as error:
                    raise corrupt(self._name, overlap, error) from error
                yield np.ndarray(self._grid.chunks, self._dtype, buffer=scratch)[overlap.in_chunk]

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Announce regions that will be read, each once, if they are so many that their chunks are indexed."""
        if self._bytes is None:
            return
        self._index.note_access(self._grid, regions, again=True)
        if self._index.is_indexed:
            located = (self._index.locate(self._grid, self._grid.box(region)) for region in regions)
            rows = (row for rows in located for row in rows.tolist())
            self._bytes.prefetch((offset, nbytes) for offset, nbytes, _ in rows if offset >= 0)

    def _locate(self, grid: ChunkGrid, region: Region) -> Iterator[tuple[Overlap, EncodedChunk | None]]:
        """Yield each overlap of a region with a chunk, and the place of the chunk; None if it was never written."""
        overlaps = grid.overlaps(region)
        if self._bytes is None or not self._index.is_indexed:
            for overlap in overlaps:
                mask_and_bytes = self._index.look_up(grid, overlap)
                if mask_and_bytes is None:
                    yield overlap, None
                    continue
                mask, encoded = mask_and_bytes
                yield overlap, EncodedChunk(source=ChunkInMemory(encoded), offset=0, nbytes=len(encoded), mask=mask)
            return
        for box in cut_boxes(grid.box(region), REQUEST_CHUNKS):
            located = self._index.locate(grid, box)
            batches = [(0, len(located))]
            if self._bytes.is_remote:
                batches = cut_batches(located[:, 1], REQUEST_NBYTES, REQUEST_CHUNKS)
            for start, stop in batches:
                rows = located[start:stop].tolist()
                source = self._bytes.gather((offset, nbytes) for offset, nbytes, _ in rows if offset >= 0)
                for row, overlap in zip(rows, overlaps, strict=False):  # the rows are the shorter side
                    yield overlap, EncodedChunk(source, *row) if row[0] >= 0 else None

    def _is_unfiltered(self, chunk: EncodedChunk) -> bool:
        """Return whether a chunk is unfiltered; raise DamagedError if it is and has another size than declared."""
        unfiltered = chunk.mask & self._unfiltered_mask == self._unfiltered_mask
        if unfiltered and chunk.nbytes != self._decoder.nbytes:
            raise DamagedError(f"{chunk.nbytes} bytes are stored where {self._decoder.nbytes} are declared")
        return unfiltered

    def _decode(self, chunk: EncodedChunk, out: Bytes) -> None:
        """Decode a chunk into a buffer of its size."""
        if self._is_unfiltered(chunk):
            chunk.source.read_into(chunk.offset, out)
        else:
            self._decoder.decode(chunk.source.read(chunk.offset, chunk.nbytes), out, chunk.mask)

    def _read_part(self, chunk: EncodedChunk, overlap: Overlap, target: Block) -> bool:
        """Read a part of an unfiltered chunk directly into the block; return False if that cannot be done."""
        # of a remote file only requested ranges can be read
        if not (isinstance(chunk.source, LocalFile) and target.flags.c_contiguous and self._is_unfiltered(chunk)):
            return False
        spans = plan_spans(overlap.in_chunk, offset=chunk.offset, shape=self._grid.chunks, itemsize=target.itemsize)
        if spans is None:
            return False
        read_spans(chunk.source, spans, target)
        return True

    def _read_missing(self, overlap: Overlap, target: Block) -> None:
        """Fill in the fill value, or the values that h5py reads where HDF5 does not define one."""
        if self._fill is not None and self._index.is_indexed:
            target[...] = self._fill
        else:
            block = self._via_h5py.read(overlap.region)
            target[...] = np.ndarray(target.shape, target.dtype, buffer=block)


def _read_fill(plist: h5p.PropDCID, dtype: np.dtype[np.generic]) -> Block | None:
    """Return the fill value as one raw element; None where HDF5 does not define the value of unwritten elements."""
    if plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED or plist.get_fill_time() == h5d.FILL_TIME_NEVER:
        return None
    if dtype.subdtype is not None:
        return None
    value = np.zeros((), dtype)
    plist.get_fill_value(value)
    return np.ndarray((), raw_dtype(dtype), buffer=value)
