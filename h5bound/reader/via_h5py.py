"""Read datasets through h5py that cannot be read directly."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from h5py import h5z

from h5bound.errors import CorruptChunkError, H5BoundError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.dataset import read_filters

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import h5py
    import numpy as np

    from h5bound.buffers import Block, Region
    from h5bound.codecs.filters import Filter


_VARIABLE_LENGTH = threading.Lock()  # reading it through two handles at once can crash: h5py#2920


def read_through_h5py(dataset: h5py.Dataset, region: Region) -> Block:
    """Return a region as h5py reads it; variable-length data is read under one lock for all files.

    Raise UnsupportedError if the dataset has a null dataspace, or a filter that HDF5 does not have, and
    CorruptChunkError if HDF5 cannot read it.
    """
    if dataset.shape is None:
        raise UnsupportedError(f"{name_of(dataset)} has a null dataspace: there is nothing to read")
    try:
        with lock_variable_length(dataset.dtype):
            block: Block = dataset[region or ...]
    except READ_ERRORS as error:
        explained = _explain(dataset, region, error)
        if explained is None:
            raise
        raise explained from error
    return block


def lock_variable_length(dtype: np.dtype[np.generic]) -> AbstractContextManager[object]:
    """Return the lock under which variable-length data is read; for other types no lock."""
    return _VARIABLE_LENGTH if dtype.hasobject else nullcontext()


def _explain(dataset: h5py.Dataset, region: Region, error: Exception) -> H5BoundError | None:
    """Return the error that says why h5py could not read a region; None if h5py's own error says it."""
    for entry in read_filters(dataset.id):
        if not h5z.filter_avail(entry.id):
            return UnsupportedError(
                f"{name_of(dataset)}: HDF5 has no filter {entry.id} ({entry.name}); install hdf5plugin, or "
                "another package that registers it"
            )
    block = f"the block at {tuple(s.start for s in region)}"
    if "no appropriate function for conversion path" in str(error):
        return UnsupportedError(
            f"{name_of(dataset)}: h5py cannot convert {block} to the type that it has for it: {error}"
        )
    if isinstance(error, OSError):
        return CorruptChunkError(f"{name_of(dataset)}: HDF5 cannot read a chunk of {block}: {error}")
    return None


def load_plugins(filters: tuple[Filter, ...]) -> None:
    """Import hdf5plugin, if installed, when HDF5 lacks one of the filters: the import registers its filters."""
    missing = any(not h5z.filter_avail(entry.id) for entry in filters)
    if missing and importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")


def name_of(dataset: h5py.Dataset) -> str:
    """Return the dataset and the file as errors name them."""
    return f"{os.fsdecode(dataset.name)} in {dataset.file.filename}"
