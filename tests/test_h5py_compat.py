"""What the calls around h5py rest on: each test fails if a version of h5py or HDF5 takes that away."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from h5py import h5p

from h5bound.h5py_compat import call_getter, find_library, read_chunk_sizes, read_file_end

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one dataset in three chunks, of which two are written."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape=(30,), dtype="i4", chunks=(10,), compression="gzip")
        dataset[:20] = np.arange(20)
    return path


def test_the_lock_of_h5py_is_where_it_was_and_is_a_context() -> None:
    from h5py._objects import phil

    with phil, phil:
        pass


def test_the_hdf5_library_of_h5py_is_found_and_is_the_one_that_h5py_uses() -> None:
    import ctypes

    library = find_library()
    assert library is not None
    version = [ctypes.c_uint() for _ in range(3)]
    assert library.H5get_libversion(*map(ctypes.byref, version)) >= 0
    assert tuple(number.value for number in version) == h5py.h5.get_libversion()


def test_hdf5_still_has_the_getters_that_h5py_lacks(path: Path) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((10,))
    assert call_getter("H5Pget_chunk_opts", plist) == 0
    with h5py.File(path) as file:
        assert call_getter("H5Dget_chunk_index_type", file["x"].id) is not None
        assert read_file_end(file.id) == path.stat().st_size


def test_hdf5_still_finds_each_chunk_by_its_first_element(path: Path) -> None:
    with h5py.File(path) as file:
        dataset = file["x"].id
        sizes = read_chunk_sizes(dataset, np.array([[0], [10], [20]], np.uint64))
        assert sizes is not None
        assert sizes.tolist() == [*(dataset.get_chunk_info(i).size for i in range(2)), 0]


READ_CHUNKS = """
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from h5bound.h5py_compat import read_encoded_chunk

with h5py.File(sys.argv[1]) as file, ThreadPoolExecutor(8) as threads:
    reads = [threads.submit(read_encoded_chunk, file["x"].id, (row, 0)) for row in [*range(400)] * 10]
    values = [np.frombuffer(read.result()[1], "i8") for read in reads]
    assert np.array_equal(values, np.tile(file["x"][:], (10, 1)))
"""


def test_threads_read_encoded_chunks_at_once(tmp_path: Path) -> None:
    """In a process of its own, which h5py before 3.16 would crash without the lock."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(10_000).reshape(400, 25), chunks=(1, 25))
    subprocess.run([sys.executable, "-c", READ_CHUNKS, str(tmp_path / "a.h5")], check=True)
