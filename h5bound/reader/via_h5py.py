"""Read datasets through h5py that cannot be read directly."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5s, h5z

from h5bound.chunk_grid import ChunkGrid
from h5bound.codecs.filters import explain_missing
from h5bound.errors import CorruptChunkError, H5BoundError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe, memory_file, restore_byte_order
from h5bound.hdf5.dataset import read_filters
from h5bound.hdf5.datatypes import list_inner, read_type
from h5bound.hdf5.element_types import holds_bytes, memory_type, read_dtype
from h5bound.hdf5.raw_objects import needs_raw, read_raw
from h5bound.hdf5.type_names import describe_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.buffers import Block, Region
    from h5bound.codecs.pipeline import Filter


NO_WRITING = "no write intent on file"
"""What HDF5 says where a read would have to write to a file that is open for reading only."""

_VARIABLE_LENGTH = threading.Lock()  # reading it through two handles at once can crash: h5py#2920


def read_through_h5py(dataset: h5py.Dataset, region: Region) -> Block:
    """Return a region as h5py reads it, with sequences in the right byte order.

    Raise UnsupportedError if the dataset has a null dataspace, and the errors of `reading`.
    """
    if dataset.shape is None:
        raise UnsupportedError(f"{name_of(dataset)} has a null dataspace: there is nothing to read")
    with reading(dataset, tuple(s.start for s in region)):
        return read_elements(dataset, region)


def read_elements(dataset: h5py.Dataset, region: Region) -> Block:
    """Return a region as h5py reads it, or the bytes of the file where `h5bound.hdf5.element_types` says so.

    For a fill value of variable length in a chunk that was never written, HDF5 would first write it to the file.
    """
    try:
        return _read_elements(dataset, region)
    except OSError as error:
        if NO_WRITING not in str(error) or dataset.chunks is None:
            raise
    dtype = dtype_of(dataset)
    block = np.empty(tuple(s.stop - s.start for s in region) + dtype.shape, dtype.base)
    block[...] = dataset.fillvalue if h5py.check_string_dtype(dtype) else read_unwritten(dataset)
    overlaps = list(ChunkGrid(dataset.shape, dataset.chunks).overlaps(region))
    for overlap in overlaps if len(overlaps) > 1 else ():
        try:
            block[overlap.in_block] = _read_elements(dataset, overlap.region)
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
        element = _read_elements(copy, (slice(0, 1),))
    return element.reshape(element.shape[1:])


def _read_elements(dataset: h5py.Dataset, region: Region) -> Block:
    tid = read_type(dataset.id)
    dtype, raw = read_dtype(tid), needs_raw(tid)
    shape = tuple(s.stop - s.start for s in region)
    if not dataset.size:  # HDF5 fails to select from a virtual dataset without any source
        return np.zeros(shape + dtype.shape, dtype.base)
    if not raw and not holds_bytes(tid) and not list_inner(tid):  # h5py may have members in another order
        return restore_byte_order(dataset[region or ...], dtype)
    selected = dataset.id.get_space()
    if region:
        selected.select_hyperslab(tuple(s.start for s in region), shape)
    space = h5s.create_simple(shape) if region else selected
    read = partial(dataset.id.read, space, selected)
    if raw:
        return read_raw(read, tid, space)
    block: Block = np.zeros(shape + dtype.shape, dtype.base)
    read(block, memory_type(tid))
    return restore_byte_order(block, dtype)


@contextmanager
def reading(dataset: h5py.Dataset, start: tuple[Any, ...]) -> Iterator[None]:
    """Hold the lock for data of variable length, if the dataset has any, while h5py reads the block at `start`.

    Raise UnsupportedError if HDF5 does not have a filter or h5py cannot read the type, and CorruptChunkError if HDF5
    cannot read a chunk.
    """
    try:
        with _VARIABLE_LENGTH if dtype_of(dataset).hasobject else nullcontext():
            yield
    except (MemoryError, H5BoundError):
        raise
    except READ_ERRORS as error:
        raise _explain(dataset, start, error) from error


def _explain(dataset: h5py.Dataset, start: tuple[Any, ...], error: Exception) -> H5BoundError:
    """Return the error that says why h5py could not read a block."""
    for entry in read_filters(dataset.id):
        if not h5z.filter_avail(entry.id):
            return UnsupportedError(f"{name_of(dataset)}: {explain_missing(entry)}")
    no_conversion = "no appropriate function for conversion path" in str(error)
    if isinstance(error, OSError) and not no_conversion:
        return CorruptChunkError(f"{name_of(dataset)}: HDF5 cannot read a chunk of the block at {start}: {error}")
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
