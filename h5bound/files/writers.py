"""The files that h5py has open in this process, above all those that it writes to."""

from __future__ import annotations

import ctypes
import multiprocessing
import os

import h5py
from h5py import h5f, h5fd, h5i, h5o
from h5py._objects import phil

from h5bound.h5py_compat import find_library

PROCESS = os.getpid()
"""Process that imported this module; a child made by ``os.fork`` has another number."""


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
