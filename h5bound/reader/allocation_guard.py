"""What is looked at before HDF5 is asked to read by itself: that it would not take more memory than is declared.

HDF5 unpacks a chunk to whatever it unpacks to. Values of variable length stand elsewhere in the file, and an element
only says how many bytes it has there: a few elements may all name the same large object, or say that they have 2^32
bytes. So the chunks are decoded here first, to buffers of their declared size, and what their elements say is added up.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5d, h5i, h5t

from h5bound.buffers import DamagedError
from h5bound.errors import CorruptChunkError, UnsafeSourceError, UnsupportedError
from h5bound.files.local import LocalFile
from h5bound.h5py_compat import READ_ERRORS
from h5bound.reader.chunked import ChunkedReader
from h5bound.reader.via_h5py import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from h5bound.buffers import Region
    from h5bound.files.protocols import FileBytes


LENGTH = "length"
"""The field of a stored element of variable length that says how many it has (HDF5 File Format Specification, VIII)."""


def make_guard(dataset: h5py.Dataset, stored: FileBytes | None) -> Guard | None:
    """Give what looks at a dataset before h5py reads it; None where there is nothing to look at, or no way to."""
    plist = dataset.id.get_create_plist()
    if dataset.is_virtual or plist.get_external_count() or dataset.shape is None:
        return None
    try:
        cell = stored_dtype(dataset.id.get_type(), h5i.get_file_id(dataset.id).get_create_plist().get_sizes()[0])
        if plist.get_layout() == h5d.CHUNKED and (plist.get_nfilters() or cell.base.names):
            return Guard(dataset, cell, ChunkedReader(dataset, stored, cell), stored)
        if plist.get_layout() == h5d.CONTIGUOUS and cell.base.names and dataset.id.get_storage_size():
            return Guard(dataset, cell, None, stored)
    except READ_ERRORS:
        return None
    return None


def stored_dtype(tid: h5t.TypeID, address: int) -> np.dtype[Any]:
    """Give an element as it stands in the file: its size, and fields for what is of variable length.

    Parameters
    ----------
    tid
        Of the dataset, as HDF5 gives it: with the sizes that elements of variable length have in memory.
    address
        Bytes of an address in the file.

    Raises
    ------
    UnsupportedError
        HDF5 does not tell what a reference looks like in the file.
    """
    found = tid.get_class()
    if is_variable(tid):
        return np.dtype({"names": [LENGTH], "formats": ["<u4"], "offsets": [0], "itemsize": 4 + address + 4})
    if found == h5t.REFERENCE and not (tid.equal(h5t.STD_REF_OBJ) or tid.equal(h5t.STD_REF_DSETREG)):
        raise UnsupportedError("a reference of another kind than to an object or a region")
    if found == h5t.ARRAY:
        return np.dtype((stored_dtype(tid.get_super(), address), tid.get_array_dims()))
    if found != h5t.COMPOUND:
        return np.dtype(("V", tid.get_size()))
    names, formats, offsets, grown = [], [], [], 0
    for i in sorted(range(tid.get_nmembers()), key=tid.get_member_offset):
        member = tid.get_member_type(i)
        inner = stored_dtype(member, address)
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
    """Tell whether an element of a type stands elsewhere in the file."""
    return tid.get_class() == h5t.VLEN or (isinstance(tid, h5t.TypeStringID) and tid.is_variable_str())


def count_claimed(raw_view: np.ndarray[Any, Any], tid: h5t.TypeID, address: int) -> int:
    """Give how many bytes elements of variable length say that they have elsewhere."""
    if is_variable(tid):
        size = stored_dtype(tid.get_super(), address).itemsize if tid.get_class() == h5t.VLEN else 1
        return int(raw_view[LENGTH].sum(dtype=np.uint64)) * size
    if tid.get_class() == h5t.ARRAY:
        return count_claimed(raw_view, tid.get_super(), address)
    return sum(
        count_claimed(raw_view[name], tid.get_member_type(int(name)), address) for name in raw_view.dtype.names or ()
    )


class Guard:
    """Looks at what is stored of a region of one dataset.

    Parameters
    ----------
    dataset
        An open dataset.
    cell
        An element as it stands in the file.
    chunks
        Reads it where it is stored in chunks.
    stored
        The bytes of its file, to share.
    """

    __slots__ = ("_address", "_bytes", "_cell", "_chunks", "_dataset", "_owns", "_size", "_type")

    def __init__(
        self, dataset: h5py.Dataset, cell: np.dtype[Any], chunks: ChunkedReader | None, stored: FileBytes | None
    ) -> None:
        file = h5i.get_file_id(dataset.id)
        self._dataset = dataset
        self._cell = cell
        self._chunks = chunks
        self._type = dataset.id.get_type()
        self._address = file.get_create_plist().get_sizes()[0]
        self._size = file.get_filesize()
        self._owns = stored is None and chunks is None
        self._bytes = LocalFile(file) if self._owns else stored

    def check(self, region: Region) -> None:
        """Look at a region, which is not empty.

        Raises
        ------
        CorruptChunkError
            A chunk does not decode to its declared size.
        UnsafeSourceError
            Its elements say that they have more bytes than the file.
        """
        claimed = 0
        for raw_view in self._read(region):
            if self._cell.base.names:
                claimed += count_claimed(raw_view, self._type, self._address)
            if claimed > self._size:
                at = tuple(s.start for s in region)
                raise UnsafeSourceError(
                    f"{name_of(self._dataset)}: the values of variable length in the block at {at} say that they have "
                    f"{claimed:,} bytes or more, and the whole file has {self._size:,}"
                )

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._chunks is not None:
            self._chunks.close()
        if self._owns and self._bytes is not None:
            self._bytes.close()

    def _read(self, region: Region) -> Iterator[np.ndarray[Any, Any]]:
        """Give the elements of a region as they stand in the file, in pieces."""
        if self._chunks is not None:
            yield from self._chunks.read_stored(region)
            return
        assert self._bytes is not None
        shape = self._dataset.shape
        start, stop = (region[0].start, region[0].stop) if region else (0, 1)
        row = prod(shape[1:]) * self._cell.itemsize
        try:
            raw = self._bytes.read(self._dataset.id.get_offset() + start * row, (stop - start) * row)
        except DamagedError as error:
            raise CorruptChunkError(f"{name_of(self._dataset)}: {error}") from error
        raw_view = np.ndarray((stop - start, *shape[1:]) if shape else (), self._cell, buffer=raw)
        yield raw_view[(slice(None), *region[1:])] if region else raw_view
