"""Read regions of one dataset, outside HDF5's lock where that is exact.

HDF5 reads and decodes under one lock for the whole process. `DatasetReader` asks HDF5 only where the encoded bytes
are, reads them itself, and decodes them in the calling thread::

    region ─► chunks it overlaps ─► offset, nbytes, filter mask ─► pread ─► decode ─► block
                                    (indexed once)               (no lock) (no lock)

This is done where it is proven to give the values of h5py: the type in the file is byte for byte the one in memory,
every filter is in the table of `h5bound.codecs.filters`, and the file is a local or remote one that is open for reading
only. If only the last condition fails, HDF5 reads the encoded bytes of each chunk under its lock (`H5Dread_chunk`), and
they are still decoded outside it. Everything else is read by h5py.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import h5py
from h5py import h5d, h5i, h5t

from h5bound.errors import UnsupportedError
from h5bound.files.local import LocalFile
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.dataset import read_filters
from h5bound.hdf5.datatypes import SIMPLE, read_type
from h5bound.hdf5.element_types import holds_bytes, memory_type, read_dtype, replace_bitfields
from h5bound.reader.byte_ranges import ContiguousReader
from h5bound.reader.steps import join_steps, split_steps
from h5bound.reader.via_h5py import H5pyReader, load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.buffers import Block, Region
    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import ChunkManifest, Tables
    from h5bound.reader.allocation_guard import Guard
    from h5bound.reader.chunked import ChunkedReader
    from h5bound.reader.encoded import EncodedBlock

    _Parts = tuple[H5pyReader, ChunkedReader | ContiguousReader | None, Guard | None]


class DatasetReader:
    """Reader of regions of one open dataset, for any number of threads.

    Peak memory of a read: the block, the encoded bytes of one chunk, up to two decoded chunks between filters, and one
    more chunk where the block does not cover whole chunks. Contiguous data: the block, and 512 KiB where it covers
    parts of rows. Remote: at most 64 MiB of encoded bytes are requested at once.

    The file must stay open until `close`. `file_bytes` are its bytes, which the reader does not close; by default it
    has a descriptor of its own. A region is a slice for each axis with 0 <= start <= stop <= extent and no step.
    `strategy` is "direct", or "h5py" where every read goes through h5py; `reason` then says why.
    """

    __slots__ = ("__weakref__", "_is_remote", "_parts", "reason", "strategy")

    def __init__(self, dataset: h5py.Dataset, file_bytes: FileBytes | None = None) -> None:
        self.strategy, self.reason = "direct", ""
        direct, guard = None, None
        if file_bytes is None:
            with suppress(UnsupportedError):
                file_bytes = LocalFile.of(h5i.get_file_id(dataset.id))
        try:
            direct = _choose_reader(dataset, file_bytes)
        except READ_ERRORS as error:
            from h5bound.reader.allocation_guard import make_guard

            self.strategy, self.reason = "h5py", str(error)
            guard = make_guard(dataset, file_bytes)
            load_plugins(read_filters(dataset.id))
        self._is_remote = file_bytes is not None and file_bytes.is_remote
        self._parts: _Parts | None = H5pyReader(dataset), direct, guard

    def share_index(self, found: list[Tables]) -> None:
        """Take the chunk index that another reader of the dataset has found, or leave it in the list for others."""
        direct = self._get_parts()[1]
        if direct is not None and not isinstance(direct, ContiguousReader):
            direct.share_index(found)

    def read(self, region: Region) -> Block:
        """Return ``dataset[region]`` as a new writable C-contiguous array.

        An array type adds its axes at the end; a scalar dataset gives an array of no dimensions. Raise
        CorruptChunkError if a stored chunk does not decode to its declared size or h5py refuses it, UnsafeSourceError
        if the values claim more bytes than the file has, UnsupportedError if a filter is not installed, and ValueError
        if the reader is closed.
        """
        via_h5py, direct, guard = self._get_parts()
        if any(s.start == s.stop for s in region):
            return via_h5py.read(region)
        if direct is not None:
            return direct.read(region)
        if guard is not None:
            guard.check(region)
        return via_h5py.read(region)

    def read_steps(self, region: Region) -> Block:
        """Return ``dataset[region]`` for a region with steps; raise the errors of `read`."""
        via_h5py, _, _ = self._get_parts()
        dataset, itemsize = via_h5py.dataset, via_h5py.elements.dtype.itemsize
        unit = dataset.chunks or (1,) * dataset.ndim
        parts, axis = split_steps(region, dataset.shape, unit=unit, itemsize=itemsize)
        return join_steps(self.read, region, parts=parts, axis=axis)

    def read_encoded(self, region: Region) -> Block | EncodedBlock:
        """Return the block, or an `EncodedBlock`, which takes less memory and is decoded without the file.

        Raise the errors of `read`; `EncodedBlock.decode` raises for chunks that cannot be decoded.
        """
        _, direct, _ = self._get_parts()
        if direct is not None and all(s.start != s.stop for s in region):
            return direct.read_encoded(region)
        return self.read(region)

    def read_via_h5py(self, region: Region) -> Block:
        """Read through h5py itself, after a check of all sizes: HDF5 would decode a bomb.

        For a remote file, or if HDF5 does not have a filter, do as `read` does. Raise the errors of `read`.
        """
        via_h5py, direct, _ = self._get_parts()
        if direct is None or self._is_remote or any(s.start == s.stop for s in region):
            return self.read(region)
        direct.check(region)
        load_plugins(read_filters(via_h5py.dataset.id))
        with suppress(UnsupportedError):
            return via_h5py.read(region)
        return direct.read(region)

    def check(self, region: Region) -> None:
        """Raise CorruptChunkError or UnsafeSourceError if h5py would take more memory for a region than is declared."""
        _, _, guard = self._get_parts()
        if guard is not None and all(s.start != s.stop for s in region):
            guard.check(region)

    def find_damaged(self, chunks: ChunkManifest) -> Iterator[tuple[int, str]] | None:
        """Return the rows of stored chunks that are damaged, and why; None if only `read` can find them."""
        _, direct, _ = self._get_parts()
        if direct is None or isinstance(direct, ContiguousReader) or not direct.is_direct:
            return None
        return direct.find_damaged(chunks)

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Announce regions that will be read, each once: their encoded bytes are then requested together."""
        _, direct, _ = self._get_parts()
        if direct is not None:
            direct.prefetch(regions)

    def close(self) -> None:
        """Release the dataset once the last read has ended, and refuse further reads. May be called twice."""
        self._parts = None

    def _get_parts(self) -> _Parts:
        parts = self._parts
        if parts is None:
            raise ValueError("the reader of this dataset is closed")
        return parts


def _choose_reader(dataset: h5py.Dataset, file_bytes: FileBytes | None) -> ChunkedReader | ContiguousReader:
    """Return the direct reader of a dataset; raise UnsupportedError with the reason if it has none."""
    plist = dataset.id.get_create_plist()
    layout = plist.get_layout()
    if layout == h5d.VIRTUAL or plist.get_external_count():
        raise UnsupportedError("it is virtual" if layout == h5d.VIRTUAL else "it is stored in other files")
    if dataset.shape is None:
        raise UnsupportedError("it has no elements")
    file_type = read_type(dataset.id)
    if read_dtype(file_type).hasobject:
        raise UnsupportedError("text, sequences and references become Python objects")
    if not (_is_same(file_type.encode()) if file_type.get_class() in SIMPLE else _same_in_memory(file_type)):
        raise UnsupportedError("its values take another form in memory than in the file")
    if layout == h5d.CHUNKED:
        from h5bound.reader.chunked import ChunkedReader

        return ChunkedReader(dataset, file_bytes)
    # With a user block HDF5 returns an offset even for data never written.
    if layout == h5d.CONTIGUOUS and dataset.id.get_storage_size():
        if file_bytes is None:
            file_bytes = LocalFile.of(h5i.get_file_id(dataset.id))  # it raises the reason
        return ContiguousReader(dataset, file_bytes)
    raise UnsupportedError("it is compact" if layout == h5d.COMPACT else "it was never written")


@lru_cache(1024)
def _is_same(encoded: bytes) -> bool:
    """Return what `_same_in_memory` does for numbers or text by the bytes of their type."""
    return _same_in_memory(h5t.decode(encoded))


def _same_in_memory(file_type: h5t.TypeID) -> bool:
    """Return whether HDF5 copies the values unchanged, so that their bytes in the file are those in memory.

    h5py reads into `h5t.py_create(dtype)`. Where that drops the names of an enumeration, the type as it would be
    written has the same bytes. A compound must have the same members, or HDF5 does not copy the bytes between them.
    """
    dtype = read_dtype(file_type)
    if not dtype.itemsize:
        return False
    same = replace_bitfields(file_type).equal(memory_type(file_type))
    if holds_bytes(file_type):
        return bool(same)
    return bool(same or (dtype.names is None and file_type.equal(h5t.py_create(dtype, logical=True))))
