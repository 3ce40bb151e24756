"""Check, before HDF5 reads a region by itself, that it will not take more memory than is declared.

HDF5 does not limit how many bytes a chunk decodes to. Values of variable length are stored elsewhere in the file, and
an element only says how many bytes it has there: a few elements may all name the same large object, or claim 2^32
bytes. So the chunks are first decoded here into buffers of their declared size, and the claimed bytes are summed, with
those of values within values where the file is local. From some damaged heaps of such values HDF5 never returns, so
these are looked at first, too.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from h5py import h5d, h5i, h5t

from h5bound.buffers import DamagedError
from h5bound.errors import CorruptChunkError, UnsafeSourceError, UnsupportedError, naming
from h5bound.files.local import LocalFile
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.datatypes import read_type
from h5bound.reader.chunked import ChunkedReader
from h5bound.reader.heaps import ADDRESS, LENGTH, NUMBER, Heaps
from h5bound.reader.via_h5py import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import h5py

    from h5bound.buffers import Region
    from h5bound.files.protocols import FileBytes


Elements: TypeAlias = "np.ndarray[Any, Any]"
"""Elements as they are in the file."""


def make_guard(dataset: h5py.Dataset, file_bytes: FileBytes | None) -> Guard | None:
    """Return the guard of a dataset that h5py reads; None if nothing has to be checked, or nothing can be."""
    plist = dataset.id.get_create_plist()
    if dataset.is_virtual or plist.get_external_count() or dataset.shape is None:
        return None
    try:
        element = on_disk_dtype(read_type(dataset.id), h5i.get_file_id(dataset.id).get_create_plist().get_sizes()[0])
        if plist.get_layout() == h5d.CHUNKED and (plist.get_nfilters() or element.base.names):
            return Guard(dataset, element, ChunkedReader(dataset, file_bytes, element), file_bytes=file_bytes)
        contiguous = plist.get_layout() == h5d.CONTIGUOUS and dataset.id.get_storage_size()
        if contiguous and element.base.names and file_bytes is not None:
            return Guard(dataset, element, file_bytes, file_bytes=file_bytes)
    except READ_ERRORS:
        return None
    return None


def on_disk_dtype(tid: h5t.TypeID, address_nbytes: int) -> np.dtype[Any]:
    """Return the type of an element in the file: its size, with fields for values of variable length.

    `tid` is the type of the dataset as HDF5 reports it, in which elements of variable length have their size in memory.
    Raise UnsupportedError if HDF5 does not say what a reference looks like in the file.
    """
    type_class = tid.get_class()
    if is_variable(tid):
        return np.dtype([(LENGTH, "<u4"), (ADDRESS, f"<u{address_nbytes}"), (NUMBER, "<u4")])
    if type_class == h5t.REFERENCE and not (tid.equal(h5t.STD_REF_OBJ) or tid.equal(h5t.STD_REF_DSETREG)):
        raise UnsupportedError("a reference that is neither to an object nor to a region")
    if type_class == h5t.ARRAY:
        return np.dtype((on_disk_dtype(tid.get_super(), address_nbytes), tid.get_array_dims()))
    if type_class != h5t.COMPOUND:
        return np.dtype(("V", tid.get_size()))
    names, formats, offsets, grown = [], [], [], 0
    for i in sorted(range(tid.get_nmembers()), key=tid.get_member_offset):
        member = tid.get_member_type(i)
        inner = on_disk_dtype(member, address_nbytes)
        if inner.base.names:
            names.append(str(i))
            formats.append(inner)
            offsets.append(tid.get_member_offset(i) + grown)
        grown += inner.itemsize - member.get_size()
    size = tid.get_size() + grown
    if not names:
        return np.dtype(("V", size))
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def is_variable(tid: h5t.TypeID) -> bool:
    """Return whether the value of an element is elsewhere in the file."""
    return tid.get_class() == h5t.VLEN or (isinstance(tid, h5t.TypeStringID) and tid.is_variable_str())


def find_variable(elements: Elements, tid: h5t.TypeID) -> Iterator[tuple[Elements, h5t.TypeID]]:
    """Yield the values of variable length in elements of a type, as the file has them, with their types.

    Those that are within such values are not among them.
    """
    if is_variable(tid):
        yield elements[elements[LENGTH] > 0], tid
    elif tid.get_class() == h5t.ARRAY:
        yield from find_variable(elements, tid.get_super())
    else:
        for name in elements.dtype.names or ():
            yield from find_variable(elements[name], tid.get_member_type(int(name)))


class Guard:
    """The check of regions of one dataset before h5py reads them.

    `element` is the type of an element in the file. `on_disk` reads the chunks of the dataset; where it is
    contiguous, it is the file's bytes. Heaps are checked where the file is local.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        element: np.dtype[Any],
        on_disk: ChunkedReader | FileBytes,
        *,
        file_bytes: FileBytes | None,
    ) -> None:
        file = h5i.get_file_id(dataset.id)
        self._dataset = dataset
        self._element = element
        self._on_disk = on_disk
        self._type = read_type(dataset.id)
        plist = file.get_create_plist()
        self._address_nbytes, size_nbytes = plist.get_sizes()
        self._heaps = None
        if isinstance(file_bytes, LocalFile):
            self._heaps = Heaps(file_bytes, size_nbytes=size_nbytes, base=plist.get_userblock())
        self._file_nbytes = file.get_filesize()

    def check(self, region: Region) -> None:
        """Check a region that is not empty.

        Raise CorruptChunkError if a chunk does not decode to its declared size, or a heap is damaged as `Heaps`
        finds it, and UnsafeSourceError if the elements claim more bytes than the file has.
        """
        claimed = 0
        for elements in self._read(region):
            for nbytes in self._list_claimed(elements, self._type):
                claimed += nbytes
                if claimed > self._file_nbytes:
                    start = tuple(s.start for s in region)
                    raise UnsafeSourceError(
                        f"{name_of(self._dataset)}: the values of variable length in the block at {start} claim "
                        f"{claimed:,} bytes or more, but the whole file has {self._file_nbytes:,}"
                    )

    def _list_claimed(self, elements: Elements, tid: h5t.TypeID) -> Iterator[int]:
        """Yield numbers of bytes that elements claim to have elsewhere in the file, then check the heaps named."""
        for values, kind in find_variable(elements, tid):
            inner = None if kind.get_class() != h5t.VLEN else on_disk_dtype(kind.get_super(), self._address_nbytes)
            yield int(values[LENGTH].sum(dtype=np.uint64)) * (1 if inner is None else inner.itemsize)
            if self._heaps is None:
                continue
            with naming(name_of(self._dataset), CorruptChunkError):
                self._heaps.check(np.unique(values[ADDRESS]).tolist())
            if inner is not None and inner.base.names:
                yield from self._list_claimed(self._heaps.read_elements(values, inner), kind.get_super())

    def _read(self, region: Region) -> Iterable[np.ndarray[Any, Any]]:
        """Return the elements of a region in the form of the file, in parts."""
        if isinstance(self._on_disk, ChunkedReader):
            return self._on_disk.read_on_disk(region)
        shape = self._dataset.shape
        start, stop = (region[0].start, region[0].stop) if region else (0, 1)
        row = prod(shape[1:]) * self._element.itemsize
        span = self._dataset.id.get_offset() + start * row, (stop - start) * row
        with naming(name_of(self._dataset), DamagedError, raising=CorruptChunkError):
            raw = self._on_disk.gather([span]).read(*span)
        elements = np.ndarray((stop - start, *shape[1:]) if shape else (), self._element, buffer=raw)
        return [elements[(slice(None), *region[1:])] if region else elements]
