"""Tests of values whose byte order h5py forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import convert, from_hdf5
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "a.h5"


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
    with h5py.File(path, "w") as file:
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
    with h5py.File(path, "w") as file:
        file.create_dataset("sequences", (2,), SEQUENCE)[...] = values
        file["x"] = [1]
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
