"""Gaps of h5py: calls of HDF5 that it lacks, and the list of errors that it raises.

The calls use the private lock ``h5py._objects.phil``, since the HDF5 library is not thread-safe, and h5py's own copy of
the library, since another copy would not know h5py's identifiers.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import h5py
import numpy as np
from h5py import h5f, h5i, h5o, h5p, h5t
from h5py._objects import phil

if TYPE_CHECKING:
    from h5py import h5d, h5s
    from numpy.typing import NDArray


COMPLEX: int = getattr(h5t, "COMPLEX", -2)
"""Class of complex numbers, which HDF5 has since 2.0; before, h5py has none, and no type is of this class."""


def call_getter(
    function: str,
    of: h5p.PropDCID | h5d.DatasetID | h5f.FileID,
    result: type[ctypes.c_uint | ctypes.c_uint64] = ctypes.c_uint,
) -> int | None:
    """Return the unsigned integer of a getter of HDF5, None if it cannot be called."""
    library = find_library()
    if library is None or not hasattr(library, function):
        return None
    answer = result()
    with phil:
        status = library[function](ctypes.c_int64(of.id), ctypes.byref(answer))
    return answer.value if status >= 0 else None


def read_type_number(function: str, tid: h5t.TypeID) -> int | None:
    """Return what a getter of HDF5 that h5py does not have says of a type; None if it cannot be called."""
    library = find_library()
    if library is None or not hasattr(library, function):
        return None
    with phil:
        return int(library[function](ctypes.c_int64(tid.id)))


def read_member_value(tid: h5t.TypeEnumID, number: int) -> bytes:
    """Return the bytes of a value of an enumeration, for which h5py has no room above 8 bytes; b"" if it has none."""
    library = find_library()
    if library is None:
        return b""
    value = ctypes.create_string_buffer(tid.get_size())
    with phil:
        library.H5Tget_member_value(ctypes.c_int64(tid.id), ctypes.c_uint(number), value)
    return value.raw


def reclaim(values: NDArray[Any], tid: h5t.TypeID, space: h5s.SpaceID) -> None:
    """Free what HDF5 allocated for elements of variable length that it read into an array."""
    library = find_library()
    assert library is not None
    with phil:
        identifiers = (ctypes.c_int64(number) for number in (tid.id, space.id, 0))
        library.H5Dvlen_reclaim(*identifiers, ctypes.c_void_p(values.ctypes.data))


def read_driver(file: h5f.FileID) -> int:
    """Return the number of HDF5's driver of an open file, as those of :mod:`h5py.h5fd`."""
    return _read_driver(file.id)


@functools.lru_cache(64)
def _read_driver(number: int) -> int:
    """Return the driver of the file with this number: HDF5 never reuses one, and takes long to describe a file."""
    file = h5f.FileID(number)
    h5i.inc_ref(file)  # for `file`, which gives it back
    return int(file.get_access_plist().get_driver())


def read_file_end(file: h5f.FileID) -> int | None:
    """Return the byte at which a file ends for HDF5, perhaps before its last one; None if HDF5 cannot be asked."""
    return call_getter("H5Fget_eoa", file, ctypes.c_uint64)


def has_cache_image(file: h5f.FileID) -> bool:
    """Return whether metadata of a file is in an image of HDF5's cache, and perhaps stale at its own addresses."""
    library = find_library()
    if library is None or not hasattr(library, "H5Fget_mdc_image_info"):
        return False  # HDF5 before 1.10 refuses such files
    address, size = ctypes.c_uint64(), ctypes.c_uint64()
    with phil:
        status = library.H5Fget_mdc_image_info(ctypes.c_int64(file.id), ctypes.byref(address), ctypes.byref(size))
    return status < 0 or size.value > 0


def read_address(item: h5o.ObjectID) -> int | None:
    """Return the address of the object header of a dataset, group or type; None if HDF5 cannot be asked.

    h5py's ``h5o.get_info`` asks for all that HDF5 knows, for which it reads the chunk index; damaged ones can crash it.
    """
    library = find_library()
    if library is None or not hasattr(library, "H5Oget_info3"):
        return None
    info = ctypes.create_string_buffer(512)  # H5O_info2_t: the number of the file, the token, and more
    with phil:
        status = library.H5Oget_info3(ctypes.c_int64(item.id), info, ctypes.c_uint(1))  # H5O_INFO_BASIC
    return int.from_bytes(info.raw[8:16], "little") if status >= 0 else None


def read_encoded_chunk(dataset: h5d.DatasetID, origin: tuple[int, ...]) -> tuple[int, bytes]:
    """Return the filter mask and the encoded bytes of the chunk at an element.

    h5py before 3.16 does this without its lock: HDF5 then crashes where several threads call it at once.
    """
    with phil:
        mask, encoded = dataset.read_direct_chunk(origin)
    return mask, encoded


def read_chunk_sizes(dataset: h5d.DatasetID, origins: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
    """Return the encoded bytes of chunks by their first elements, a row each; None if HDF5 cannot be asked.

    A chunk that HDF5 does not find has 0 bytes. Takes about 2.5 µs for each chunk.
    """
    library = find_library()
    if library is None:
        return None
    get_size = library.H5Dget_chunk_storage_size
    get_size.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    origins = np.ascontiguousarray(origins, np.uint64)
    sizes = np.zeros(len(origins), np.uint64)
    identifier, stride = dataset.id, origins.strides[0]
    row_address, size_address = origins.ctypes.data, sizes.ctypes.data
    with phil:
        for i in range(len(origins)):
            get_size(identifier, row_address + i * stride, size_address + 8 * i)
    return sizes


def memory_file() -> h5py.File:
    """Return a new file in memory. Its name is unique, since HDF5 does not open a name twice."""
    return h5py.File(f"h5bound-{uuid4()}", "w", driver="core", backing_store=False)


@functools.cache
def find_library() -> ctypes.CDLL | None:
    """Return the HDF5 library that h5py uses, None if it is not found."""
    # A loaded extension module also has the symbols of what it is linked to, except on Windows. There, the name of a
    # DLL that is already loaded gives that DLL.
    candidates = [Path(h5p.__file__)]
    if sys.platform == "win32":
        package = Path(h5py.__file__).parent
        candidates = [*package.glob("hdf5*.dll"), *package.with_name("h5py.libs").glob("hdf5*.dll")]
    for candidate in candidates:
        try:
            library = ctypes.CDLL(str(candidate))
        except OSError:
            continue
        if hasattr(library, "H5Pget_chunk_opts") and hasattr(library, "H5Dget_chunk_index_type"):
            return library
    return None


READ_ERRORS = (TypeError, ValueError, OSError, RuntimeError, LookupError, ArithmeticError, MemoryError)
"""Errors that h5py raises for damaged objects and unknown types. UnsupportedError is a RuntimeError."""


def describe(error: BaseException) -> str:
    """Return the message of an error in one line, with its class if the message is a single word.

    >>> describe(KeyError("Unable to open object"))
    'Unable to open object'
    >>> describe(KeyError(2))
    'KeyError: 2'
    """
    words = str(error.args[0]).split() if error.args else []
    return " ".join(words if len(words) > 1 else [f"{type(error).__name__}:", *words])
