"""What the HDF5 library tells, and h5py has no getter for."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5p
from h5py._objects import phil

if TYPE_CHECKING:
    from h5py import h5d, h5f
    from numpy.typing import NDArray


def call_getter(function: str, of: h5p.PropDCID | h5d.DatasetID) -> int | None:
    """Give the unsigned int of a getter that h5py lacks, None if it cannot be asked."""
    library = _find_library()
    if library is None:
        return None
    answer = ctypes.c_uint()
    with phil:
        status = library[function](ctypes.c_int64(of.id), ctypes.byref(answer))
    return answer.value if status >= 0 else None


def read_file_end(file: h5f.FileID) -> int | None:
    """Give where HDF5 takes a file to end, which may be before its last byte; None if it cannot be asked."""
    library = _find_library()
    answer = ctypes.c_uint64()
    if library is None or not hasattr(library, "H5Fget_eoa"):
        return None
    with phil:
        status = library.H5Fget_eoa(ctypes.c_int64(file.id), ctypes.byref(answer))
    return answer.value if status >= 0 else None


def read_chunk_sizes(dataset: h5d.DatasetID, origins: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
    """Give the stored bytes of chunks as HDF5 finds each by itself, 0 where it does not; None if it cannot be asked.

    Takes about 2.5 µs a chunk.

    Parameters
    ----------
    dataset
        An open dataset.
    origins
        The first element of each chunk, a row each.
    """
    library = _find_library()
    if library is None:
        return None
    find = library.H5Dget_chunk_storage_size
    find.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    origins = np.ascontiguousarray(origins, np.uint64)
    sizes = np.zeros(len(origins), np.uint64)
    identifier, first, row, out = dataset.id, origins.ctypes.data, origins.strides[0], sizes.ctypes.data
    with phil:
        for i in range(len(origins)):
            find(identifier, first + i * row, out + 8 * i)
    return sizes


@functools.cache
def _find_library() -> ctypes.CDLL | None:
    """Give the HDF5 library that h5py runs on: another copy would not know h5py's identifiers."""
    # A loaded extension module answers for what it is linked to, except on Windows; there the name of a DLL
    # that is loaded already gives that very DLL.
    places = [Path(h5p.__file__)]
    if sys.platform == "win32":
        home = Path(h5py.__file__).parent
        places = [*home.glob("hdf5*.dll"), *home.with_name("h5py.libs").glob("hdf5*.dll")]
    for place in places:
        try:
            library = ctypes.CDLL(str(place))
        except OSError:
            continue
        if hasattr(library, "H5Pget_chunk_opts") and hasattr(library, "H5Dget_chunk_index_type"):
            return library
    return None


READ_ERRORS = (TypeError, ValueError, OSError, RuntimeError, LookupError, ArithmeticError, MemoryError)
"""What h5py raises for objects that it cannot read: damaged ones, unknown types. UnsupportedError is among them."""


def describe(error: BaseException) -> str:
    """Give what h5py says of an object that it cannot read, in one line.

    >>> describe(KeyError("Unable to open object"))
    'Unable to open object'
    >>> describe(KeyError(2))
    'KeyError: 2'
    """
    words = str(error.args[0]).split() if error.args else []
    return " ".join(words if len(words) > 1 else [f"{type(error).__name__}:", *words])
