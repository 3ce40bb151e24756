"""What the calls around h5py rest on: each test fails if a version of h5py or HDF5 takes that away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from h5py import h5p

from h5bound import convert, from_hdf5
from h5bound.h5py_compat import call_getter, find_library, find_writer, list_writers, read_chunk_sizes, read_file_end
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one dataset in three chunks, of which two are written."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape=(30,), dtype="i4", chunks=(10,), compression="gzip")
        dataset[:20] = np.arange(20)
    return path


def test_a_file_open_for_writing_is_found_among_many_that_are_read(path: Path, tmp_path: Path) -> None:
    readers = [tmp_path / f"{number}.h5" for number in range(3)]
    for reader in readers:
        reader.write_bytes(path.read_bytes())
    written = tmp_path / "written.h5"
    with h5py.File(readers[0]), h5py.File(written, "w") as writer, h5py.File(readers[1]):
        assert find_writer(str(written)) == writer
        with h5py.File(readers[2]):
            assert [file.name for file in list_writers()] == [str(written).encode()]
            assert find_writer(str(readers[2])) is None
            assert find_writer(str(written)) == writer
    assert find_writer(str(written)) is None
    with h5py.File(readers[0], "r+") as writer:  # it was open for reading before
        assert find_writer(str(readers[0])) == writer


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


SEQUENCE = h5py.vlen_dtype(np.dtype(">i4"))


def make_sequences(*values: list[complex], order: str = ">i4") -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    for i, items in enumerate(values):
        array[i] = np.array(items, order)
    return array


BIG_ENDIAN = {
    "integers": (SEQUENCE, make_sequences([1, 2], [])),
    "floats": (h5py.vlen_dtype(np.dtype(">f8")), make_sequences([0.5, 1], [1.5], order=">f8")),
    "complex": (h5py.vlen_dtype(np.dtype(">c8")), make_sequences([0.5, 1], [1j, 2, 3], order=">c8")),
    "array type": (np.dtype((SEQUENCE, (2,))), make_sequences([1], [2, 3], [4], []).reshape(2, 2)),
    "compound": (np.dtype([("a", ">i2"), ("s", SEQUENCE)]), make_sequences([1, 2], [3])),
}
"""Types of big-endian sequences, and values of two elements; of a compound those of its member."""


def list_items(values: NDArray[np.object_]) -> list[list[complex]]:
    return [sequence.tolist() for sequence in values.ravel()]


@pytest.mark.parametrize("name", BIG_ENDIAN)
def test_big_endian_sequences_have_the_values_that_were_written(name: str, path: Path) -> None:
    dtype, values = BIG_ENDIAN[name]
    with h5py.File(path, "a") as file:
        whole: Any = values
        if dtype.names:
            whole = np.zeros(2, dtype)
            whole["s"] = values
        file.create_dataset("sequences", (2,), dtype)[...] = whole
        file.create_dataset("one", (), dtype)[()] = whole[0]
    for key, expected in (("sequences", values), ("one", values[:1] if values.ndim == 1 else values[0])):
        block = from_hdf5(path, key).compute()
        assert list_items(block["s"] if dtype.names else block) == list_items(expected), key


def test_big_endian_sequences_are_right_in_conversions_attributes_and_in_xarray(path: Path, tmp_path: Path) -> None:
    values = make_sequences([1], [2, 3])
    with h5py.File(path, "a") as file:
        file.create_dataset("sequences", (2,), SEQUENCE)[...] = values
        file["x"].attrs.create("sequences", values, dtype=SEQUENCE)
    verification = convert(path, tmp_path / "a.zarr", verify=True).verification
    assert verification is not None
    assert verification.equal
    with quiet_zarr():
        group: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
        assert group["sequences/values"][:].tolist() == [1, 2, 3]
        assert "['[1]', '[2, 3]']" in str(dict(group.attrs) | dict(group["x"].attrs))
    dataset = xr.open_dataset(path, engine="h5bound", phony_dims="sort", decode_cf=False)
    assert list_items(dataset.sequences.values) == [[1], [2, 3]]
    assert list_items(dataset.sequences[1:].values) == [[2, 3]]
