"""Gaps of h5py: calls of HDF5 that it lacks, byte orders that it forgets, and the list of errors that it raises.

The calls use the private lock ``h5py._objects.phil``, since the HDF5 library is not thread-safe, and h5py's own copy of
the library, since another copy would not know h5py's identifiers.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import h5py
import numpy as np
from h5py import h5f, h5fd, h5i, h5o, h5p, h5t
from h5py._objects import phil

if TYPE_CHECKING:
    from h5py import h5d, h5s
    from numpy.typing import NDArray


PROCESS = os.getpid()
"""Process that imported this module; a child made by ``os.fork`` has another number."""


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


def restore_byte_order(values: NDArray[Any] | np.generic, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array or a scalar that h5py read as `dtype`, with the byte order of the file in its sequences.

    Members of compounds are in the order of `dtype`: h5py has them as HDF5 does, which may sort them at any read.
    h5py 3.16 returns a sequence of a big-endian type unswapped under a native type: 1 as int16 reads 256. Sequences in
    compounds, in array types and in sequences are found as well. Nothing is copied or changed but Python objects.
    """
    dtype = dtype.base
    values = order_members(np.asarray(values), dtype)
    if not dtype.hasobject or not _h5py_drops_order():
        return values
    if dtype.names is not None:
        for name in dtype.names:
            if dtype[name].hasobject:
                values[name][...] = restore_byte_order(values[name], dtype[name])
        return values
    base = h5py.check_vlen_dtype(dtype)
    return _restore_sequences(values, base) if isinstance(base, np.dtype) else values  # text has str or bytes


def order_members(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values with the members of compounds in the order of `dtype`; their types stay as h5py has them."""
    base = h5py.check_vlen_dtype(dtype)
    if isinstance(base, np.dtype) and (base.base.names or base.hasobject):
        ordered = np.empty(values.shape, object)
        for index, sequence in np.ndenumerate(values):
            ordered[index] = order_members(sequence, base.base) if isinstance(sequence, np.ndarray) else sequence
        return ordered
    names, actual = dtype.names, values.dtype
    if names is None or actual.names is None or (actual == dtype and not dtype.hasobject):
        return values
    members = [order_members(values[name], dtype[name].base) for name in names]
    formats = [(member.dtype, actual[name].shape) for name, member in zip(names, members, strict=True)]
    offsets = [cast("Any", actual.fields)[name][1] for name in names]
    layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": actual.itemsize}
    ordered = np.zeros(values.shape, np.dtype(layout))
    for name, member in zip(names, members, strict=True):
        ordered[name] = member
    return ordered


def _restore_sequences(values: NDArray[Any], base: np.dtype[Any]) -> NDArray[Any]:
    """Return sequences, or a single one of them; `base` is the type of their elements."""
    if base.isnative and not base.hasobject:
        return values
    if not values.dtype.hasobject:
        is_dropped = values.dtype != base and values.dtype == base.newbyteorder("=")
        return values.view(base) if is_dropped else values
    sequences = np.empty(values.size, object)
    for i, sequence in enumerate(values.ravel()):
        sequences[i] = restore_byte_order(sequence, base) if base.hasobject else _restore_sequences(sequence, base)
    return sequences.reshape(values.shape)


@functools.cache
def _h5py_drops_order() -> bool:
    """Return whether this h5py has the fault."""
    order = np.dtype("i2").newbyteorder("S")
    with memory_file() as file:
        dataset = file.create_dataset("d", (1,), h5py.vlen_dtype(order))
        dataset[0] = np.ones(1, order)
        return int(dataset[0][0]) != 1


def refresh(dataset: h5py.Dataset) -> None:
    """Refresh a dataset that another program writes to in SWMR mode, unless it is open twice in this process.

    HDF5 2.0 then reads wrong chunks through both after ``H5Drefresh``: the first chunk in place of others.
    """
    with phil:
        if len(list_handles(dataset)) == 1:
            dataset.refresh()


def list_handles(dataset: h5py.Dataset) -> list[int]:
    """Return the numbers (``dataset.id.id``) under which a dataset is open in this process."""
    with phil:
        address = h5o.get_info(dataset.id).addr
        opened = h5f.get_obj_ids(h5i.get_file_id(dataset.id), h5f.OBJ_DATASET)
        return [item.id for item in opened if h5o.get_info(item).addr == address]


def find_open_file(identifier: int) -> h5py.File | None:
    """Return the file with this number (``file.id.id``) if it is still open, else None. HDF5 never reuses a number.

    It is open as long as someone else holds it: a weak reference to what `h5py.Dataset.file` and `h5py.File` share.
    """
    with phil:
        file_id = h5f.FileID(identifier)
        if not file_id.valid or h5i.get_type(file_id) != h5i.FILE:
            return None
        h5i.inc_ref(file_id)  # for `file_id`, which gives it back
        return h5py.File(file_id)


def find_writer(path: str) -> h5py.File | None:
    """Return the local file at a path if h5py has it open for writing in this process, else None.

    A forked process has copies of its parent's handles, which are no longer those of the file; there, return None.
    """
    spawned = isinstance(multiprocessing.current_process(), multiprocessing.get_context("spawn").Process)
    if os.getpid() != PROCESS or (multiprocessing.parent_process() is not None and not spawned):
        return None
    stat = os.stat(path)  # noqa: PTH116 - it is asked for each file that is opened, and a `Path` takes longer
    with phil:
        for file in list_writers():
            if file.get_access_plist().get_driver() == h5fd.SEC2:
                opened = os.fstat(file.get_vfd_handle())
                if (opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino):
                    return h5py.File(file)
    return None


_read_only: frozenset[int] = frozenset()


def list_writers() -> list[h5f.FileID]:
    """Return the files that h5py has open for writing; the caller holds the lock.

    Of a file that is open for reading it asks HDF5 once: HDF5 never reuses a number, and to make an object of h5py for
    each of many takes as long as to read a small file.
    """
    global _read_only
    numbers = list_open_files()
    if numbers is None:
        return [file for file in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE) if file.get_intent() & h5f.ACC_RDWR]
    unknown = [number for number in numbers if number not in _read_only]
    writers = []
    for number in unknown:
        file = h5f.FileID(number)
        h5i.inc_ref(file)  # for `file`, which gives it back
        if file.get_intent() & h5f.ACC_RDWR:
            writers.append(file)
    _read_only = frozenset(numbers) - {file.id for file in writers}
    return writers


def list_open_files() -> list[int] | None:
    """Return the numbers of all open files; None if HDF5 cannot be asked. The caller holds the lock."""
    library = find_library()
    if library is None:
        return None
    every, kind = ctypes.c_int64(h5f.OBJ_ALL), ctypes.c_uint(h5f.OBJ_FILE)
    numbers = (ctypes.c_int64 * max(library.H5Fget_obj_count(every, kind), 0))()
    count = library.H5Fget_obj_ids(every, kind, ctypes.c_size_t(len(numbers)), numbers)
    return numbers[:count] if count >= 0 else None


def find_named_writer(name: str) -> h5py.File | None:
    """Return the file of this name if h5py has it open for writing, in memory or with another driver of HDF5."""
    path = os.path.realpath(name)
    with phil:
        for file in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE):
            is_other = file.get_intent() & h5f.ACC_RDWR and file.get_access_plist().get_driver() != h5fd.SEC2
            if is_other and os.path.realpath(os.fsdecode(file.name)) == path:
                return h5py.File(file)
    return None


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
