"""Read datasets through h5py that cannot be read directly."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5s, h5z

from h5bound.chunk_grid import ChunkGrid
from h5bound.codecs.filters import explain_missing
from h5bound.errors import CorruptChunkError, H5BoundError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe, memory_file
from h5bound.hdf5.byte_order import restore_byte_order
from h5bound.hdf5.dataset import read_filters
from h5bound.hdf5.datatypes import list_inner, read_type
from h5bound.hdf5.element_types import holds_bytes, memory_type, read_dtype
from h5bound.hdf5.raw_objects import needs_raw, read_raw
from h5bound.hdf5.type_names import describe_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from h5py import h5t

    from h5bound.buffers import Block, Region
    from h5bound.codecs.pipeline import Filter


IN_A_SOURCE = "; `h5bound check` says in which source"
"""End of the error of a virtual dataset that cannot be read."""

NO_WRITING = "no write intent on file"
"""What HDF5 says where a read would have to write to a file that is open for reading only."""

_VARIABLE_LENGTH = threading.Lock()  # reading it through two handles at once can crash: h5py#2920


@dataclass(frozen=True, slots=True)
class Elements:
    """How the elements of a dataset are read: what follows from its type."""

    tid: h5t.TypeID
    """Type in the file, with the members of compounds in order."""
    dtype: np.dtype[Any]
    """Type in memory."""
    raw: bool
    """Whether `read_raw` makes the values, since h5py cannot."""
    memory: h5t.TypeID | None
    """HDF5 type in memory; None where h5py chooses it, and for `raw`."""

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Elements:
        """Return how the elements of an open dataset are read; raise UnsupportedError if numpy has no type for them."""
        tid = read_type(dataset.id)
        dtype, raw = read_dtype(tid), needs_raw(tid)
        ordered = not raw and (holds_bytes(tid) or list_inner(tid))  # h5py may have members in another order
        return cls(tid=tid, dtype=dtype, raw=raw, memory=memory_type(tid) if ordered else None)


class H5pyReader:
    """Reader of an open dataset through h5py. What follows from its type is found once, at the first read."""

    __slots__ = ("_elements", "dataset")

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self._elements: Elements | None = None

    @property
    def elements(self) -> Elements:
        """How the elements are read; raise UnsupportedError if numpy has no type for them."""
        if self._elements is None:  # two threads find the same
            self._elements = Elements.of(self.dataset)
        return self._elements

    def read(self, region: Region) -> Block:
        """Return a region as h5py reads it, with sequences in the right byte order.

        Raise UnsupportedError if the dataset has a null dataspace, and the errors of `reading`.
        """
        dataset = self.dataset
        if dataset.shape is None:
            raise UnsupportedError(f"{name_of(dataset)} has a null dataspace: there is nothing to read")
        with explaining(dataset, tuple(s.start for s in region)), guarding(self.elements.dtype):
            return read_elements(dataset, region, self.elements)


def read_elements(dataset: h5py.Dataset, region: Region, elements: Elements) -> Block:
    """Return a region as h5py reads it, or the bytes of the file where `h5bound.hdf5.element_types` says so.

    For a fill value of variable length in a chunk that was never written, HDF5 would first write it to the file.
    """
    try:
        return _read_elements(dataset, region, elements)
    except OSError as error:
        if NO_WRITING not in str(error) or dataset.chunks is None:
            raise
    dtype = elements.dtype
    block = np.empty(tuple(s.stop - s.start for s in region) + dtype.shape, dtype.base)
    block[...] = dataset.fillvalue if h5py.check_string_dtype(dtype) else read_unwritten(dataset)
    overlaps = list(ChunkGrid(dataset.shape, dataset.chunks).overlaps(region))
    for overlap in overlaps if len(overlaps) > 1 else ():
        try:
            block[overlap.in_block] = _read_elements(dataset, overlap.region, elements)
        except OSError as error:
            if NO_WRITING not in str(error):
                raise
    return block


def read_unwritten(dataset: h5py.Dataset) -> Block:
    """Read an element never written from a file in memory: h5py returns the fill value of simple types only."""
    plist = dataset.id.get_create_plist()
    for position in reversed(range(plist.get_nfilters())):
        plist.remove_filter(plist.get_filter(position)[0])
    plist.set_chunk((1,))
    with memory_file() as file:
        copy = h5py.Dataset(h5d.create(file.id, b"d", read_type(dataset.id), h5s.create_simple((1,)), plist))
        element = _read_elements(copy, (slice(0, 1),), Elements.of(copy))
    return element.reshape(element.shape[1:])


def _read_elements(dataset: h5py.Dataset, region: Region, elements: Elements) -> Block:
    dtype, shape = elements.dtype, tuple(s.stop - s.start for s in region)
    if not dataset.size:  # HDF5 fails to select from a virtual dataset without any source
        return np.zeros(shape + dtype.shape, dtype.base)
    if not elements.raw and elements.memory is None:
        return restore_byte_order(dataset[region or ...], dtype)
    selected = dataset.id.get_space()
    if region:
        selected.select_hyperslab(tuple(s.start for s in region), shape)
    space = h5s.create_simple(shape) if region else selected
    read = partial(dataset.id.read, space, selected)
    if elements.raw:
        return read_raw(read, elements.tid, space)
    block: Block = np.zeros(shape + dtype.shape, dtype.base)
    read(block, elements.memory)
    return restore_byte_order(block, dtype)


@contextmanager
def reading(dataset: h5py.Dataset, start: tuple[Any, ...]) -> Iterator[None]:
    """Hold the lock for data of variable length, if the dataset has any, while h5py reads the block at `start`.

    Raise UnsupportedError if HDF5 does not have a filter or h5py cannot read the type, and CorruptChunkError if HDF5
    cannot read a chunk.
    """
    with explaining(dataset, start), guarding(dtype_of(dataset)):
        yield


@contextmanager
def explaining(dataset: h5py.Dataset, start: tuple[Any, ...]) -> Iterator[None]:
    """Raise the errors of `reading` for those of h5py."""
    try:
        yield
    except (MemoryError, H5BoundError):
        raise
    except READ_ERRORS as error:
        raise _explain(dataset, start, error) from error


def guarding(dtype: np.dtype[Any]) -> AbstractContextManager[object]:
    """Return the lock for data of variable length, or, for other data, a context that does nothing."""
    return _VARIABLE_LENGTH if dtype.hasobject else nullcontext()


def _explain(dataset: h5py.Dataset, start: tuple[Any, ...], error: Exception) -> H5BoundError:
    """Return the error that says why h5py could not read a block."""
    for entry in read_filters(dataset.id):
        if not h5z.filter_avail(entry.id):
            return UnsupportedError(f"{name_of(dataset)}: {explain_missing(entry)}")
    no_conversion = "no appropriate function for conversion path" in str(error)
    if isinstance(error, OSError) and not no_conversion:
        source = IN_A_SOURCE if dataset.is_virtual else ""
        return CorruptChunkError(
            f"{name_of(dataset)}: HDF5 cannot read a chunk of the block at {start}: {error}{source}"
        )
    return UnsupportedError(
        f"{name_of(dataset)}: h5py cannot read values of the type {describe_type(dtype_of(dataset))} in the block at "
        f"{start} ({describe(error)}); HDF5's own h5dump prints them"
    )


def dtype_of(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return the numpy type of an open dataset. Raise UnsupportedError if it has none."""
    return read_dtype(read_type(dataset.id))


def load_plugins(filters: tuple[Filter, ...]) -> None:
    """Import hdf5plugin, if installed, when HDF5 lacks one of the filters: the import registers its filters."""
    missing = any(not h5z.filter_avail(entry.id) for entry in filters)
    if missing and importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")


def name_of(dataset: h5py.Dataset) -> str:
    """Return the dataset and the file as errors name them."""
    return f"{os.fsdecode(dataset.name)} in {os.fsdecode(h5f.get_name(dataset.id))}"
