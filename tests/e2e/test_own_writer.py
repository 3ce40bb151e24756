"""Files that are read by a compute while h5py writes its results into them, in the same process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

from h5bound import H5Store, SourceChangedError, convert, from_hdf5

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(400.0).reshape(40, 10)

OPTIONS = [{}, {"barrier": False}, {"window": "2 KiB"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a netCDF file with one variable in 10 chunks."""
    path = tmp_path / "a.nc"
    encoding = {"a": {"chunksizes": (4, 10), "zlib": True}}
    xr.Dataset({"a": (("t", "x"), VALUES)}).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_xarray_adds_to_the_file_what_is_computed_from_it(path: Path, scheduler: str) -> None:
    import dask

    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * 2
    with dask.config.set(scheduler=scheduler):
        dataset[["c"]].to_netcdf(path, mode="a", engine="h5netcdf")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["c"][...], VALUES * 2)
        np.testing.assert_array_equal(file["a"][...], VALUES)


@pytest.mark.parametrize("options", OPTIONS)
def test_dask_adds_to_the_file_what_is_computed_from_it(path: Path, options: dict[str, Any]) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10), **options)
    da.to_hdf5(path, "/y", array * 2 + H5Store(path, **options)["a"][::-1])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["y"][...], VALUES * 2 + VALUES[::-1])


@pytest.mark.parametrize("options", OPTIONS)
def test_a_dataset_is_not_overwritten_by_what_is_computed_from_it(path: Path, options: dict[str, Any]) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10), **options)
    with pytest.raises(SourceChangedError, match=r"'/a' of .*a\.nc: it is open for writing elsewhere in this process"):
        da.to_hdf5(path, "/a", array[::-1])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["a"][...], VALUES)


def test_the_path_of_a_file_that_is_open_for_writing_is_that_file(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["a"][0] = 7
        assert from_hdf5(path, "a")[0].compute().tolist() == [7] * 10
        report = convert(path, tmp_path / "a.zarr", verify=True)
        assert report.verification is not None
        assert report.verification.equal
        file["a"][0] = 8
    assert from_hdf5(path, "a")[0].compute().tolist() == [8] * 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are open")
def test_another_library_that_writes_in_this_process_is_named_with_the_way_out(path: Path) -> None:
    pytest.importorskip("netCDF4")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * 2
    with pytest.raises(SourceChangedError, match="engine='h5netcdf', or load the values"):
        dataset[["c"]].to_netcdf(path, mode="a", engine="netcdf4")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    (dataset[["a"]] * 2).rename(a="d").load().to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(xr.open_dataset(path, engine="h5bound").d, VALUES * 2)
