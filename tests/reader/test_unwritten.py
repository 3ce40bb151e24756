"""Values of variable length with a fill value, in chunks that were never written: HDF5 itself cannot read them."""

from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import zarr

import h5bound


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with text of which a few chunks are written."""
    path = tmp_path / "holes.h5"
    with h5py.File(path, "w") as file:
        text = file.create_dataset(
            "text", (7, 3), h5py.string_dtype(), fillvalue="nöne", chunks=(2, 2), compression="gzip"
        )
        text[:2] = [["a", "b", "c"], ["d", "é", "f"]]
        text[6, 2] = "z"
    return path


EXPECTED = np.full((7, 3), "nöne", object)
EXPECTED[:2] = [["a", "b", "c"], ["d", "é", "f"]]
EXPECTED[6, 2] = "z"


def test_chunks_never_written_have_the_fill_value(path: Path) -> None:
    with h5py.File(path) as file, pytest.raises(OSError, match="no write intent"):  # if HDF5 reads it, delete our way
        file["text"][:]
    array = h5bound.from_hdf5(path, "text")
    np.testing.assert_array_equal(decode(array.compute()), EXPECTED)
    np.testing.assert_array_equal(decode(array[3:7:3, 1:].compute()), EXPECTED[3:7:3, 1:])
    assert array[4, 0].compute() == "nöne".encode()


def decode(values: Any) -> Any:
    return np.vectorize(bytes.decode, otypes=[object])(values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_they_are_converted_and_verified(path: Path, tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    report = h5bound.convert(path, tmp_path / "a.zarr", zarr_format=zarr_format, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", path="text")[...], EXPECTED)
