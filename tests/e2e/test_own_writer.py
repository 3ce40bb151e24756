"""Files that are read by a compute while h5py writes its results into them, in the same process."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

from h5bound import H5Store, SourceChangedError, convert, from_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

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


# what is computed from `a`, and whether all orders of the blocks give it when it is written to `a`
IN_PLACE: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "elementwise": (lambda a: a * 2, True),
    "of_all_blocks": (lambda a: a - a.mean(), True),
    "reversed": (lambda a: a[::-1], False),
    "reversed_and_added": (lambda a: a + a[::-1], True),
    "moved": (lambda a: a[[*range(7, 40), *range(7)]], False),
}


def read(path: Path, name: str = "a") -> NDArray[Any]:
    """Return the values that h5py reads."""
    with h5py.File(path) as file:
        values: NDArray[Any] = file[name][...]
    return values


@pytest.mark.parametrize("write", ["to_hdf5", "to_netcdf"])
@pytest.mark.parametrize("options", [*OPTIONS, None])
@pytest.mark.parametrize(("compute", "ordered"), IN_PLACE.values(), ids=IN_PLACE)
def test_a_variable_is_overwritten_only_in_an_order_that_gives_right_values(
    path: Path, write: str, options: dict[str, Any] | None, compute: Callable[[Any], Any], *, ordered: bool
) -> None:
    if options is None:
        array = xr.open_dataset(path, engine="h5bound", chunks={}).a.data
    else:
        array = from_hdf5(path, "a", chunks=(4, 10), **options)
        ordered = ordered or not options  # with a barrier and one window, all is read before the first write
    result = compute(array)
    refused = pytest.raises(SourceChangedError, match=r"'/a' of .*a\.nc: it would be overwritten")
    with nullcontext() if ordered else refused:
        if write == "to_hdf5":
            da.to_hdf5(path, "/a", result)
        else:
            xr.Dataset({"a": (("t", "x"), result)}).to_netcdf(path, mode="a", engine="h5netcdf")
    np.testing.assert_allclose(read(path), compute(VALUES) if ordered else VALUES)


def test_coordinates_are_written_again_while_other_variables_are_computed_from_them(path: Path) -> None:
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        dataset = dataset.load().assign_coords(lat=(("t", "x"), VALUES + 1))
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"lat": {"chunksizes": (4, 10)}})
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * dataset.lat.data[::-1]
    dataset[["c"]].to_netcdf(path, mode="a", engine="h5netcdf")
    np.testing.assert_array_equal(read(path, "c"), VALUES * (VALUES + 1)[::-1])
    np.testing.assert_array_equal(read(path, "lat"), VALUES + 1)


def test_two_variables_are_not_exchanged_but_may_be_in_another_group(path: Path) -> None:
    xr.Dataset({"b": (("t", "x"), -VALUES)}).to_netcdf(path, mode="a", engine="h5netcdf")
    exchanged = xr.open_dataset(path, engine="h5bound", chunks={"t": 4}).rename(a="b", b="a")
    with pytest.raises(SourceChangedError, match="it would be overwritten"):
        exchanged.to_netcdf(path, mode="a", engine="h5netcdf")
    np.testing.assert_array_equal(read(path), VALUES)
    exchanged.to_netcdf(path, mode="a", engine="h5netcdf", group="g")
    np.testing.assert_array_equal(read(path, "g/a"), -VALUES)
    np.testing.assert_array_equal(read(path, "g/b"), VALUES)


def test_a_variable_is_not_overwritten_while_another_is_computed_from_it(path: Path) -> None:
    in_place = from_hdf5(path, "a", chunks=(4, 10), barrier=False) * 2
    other = from_hdf5(path, "a", chunks=(8, 10), barrier=False)[::-1]
    with h5py.File(path, "a") as file, pytest.raises(SourceChangedError, match="it would be overwritten"):
        da.store([in_place, other], [file["a"], file.create_dataset("c", VALUES.shape, "f8")])
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("mask", [False, True])
def test_a_file_that_is_written_anew_is_not_read_as_what_it_was(path: Path, *, mask: bool) -> None:
    values = np.random.default_rng(0).normal(size=(40, 10))
    encoding = {"a": {"chunksizes": (4, 10), "zlib": True}}
    xr.Dataset({"a": (("t", "x"), values)}).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * 2
    if mask:
        dataset["a"] = dataset.a.copy(data=np.zeros(dataset.a.shape))
    with pytest.raises(SourceChangedError, match="size"):
        dataset.to_netcdf(path, engine="h5netcdf")


@pytest.mark.parametrize(("inline", "later"), [(True, False), (False, True)])
@pytest.mark.parametrize(("compute", "ordered"), [IN_PLACE["elementwise"], IN_PLACE["reversed"]])
def test_variables_that_are_hidden_in_tasks_are_seen(
    path: Path, compute: Callable[[Any], Any], *, ordered: bool, inline: bool, later: bool
) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={}, inline_array=inline)
    dataset["a"] = compute(dataset.a)
    with nullcontext() if ordered else pytest.raises(SourceChangedError, match="it would be overwritten"):
        write = dataset.to_netcdf(path, mode="a", engine="h5netcdf", compute=not later)
        if write is not None:
            write.compute()
    np.testing.assert_array_equal(read(path), compute(VALUES) if ordered else VALUES)


def test_a_dataset_that_dask_reads_from_the_open_file_is_no_target(path: Path) -> None:
    with h5py.File(path, "a") as file:
        result = from_hdf5(path, "a", barrier=False)[::-1] + da.from_array(file["a"], chunks=(4, 10))
        da.store(result, file.create_dataset("c", VALUES.shape, "f8"))
    np.testing.assert_array_equal(read(path, "c"), VALUES + VALUES[::-1])


def test_the_path_of_a_file_that_is_open_for_writing_is_that_file(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["a"][0] = 7
        assert from_hdf5(path, "a")[0].compute().tolist() == [7] * 10
        report = convert(path, tmp_path / "a.zarr", verify=True)
        assert report.verification is not None
        assert report.verification.equal
        file["a"][0] = 8
    assert from_hdf5(path, "a")[0].compute().tolist() == [8] * 10


def test_a_file_that_is_closed_in_the_middle_of_a_compute_is_read_on_where_it_is_not_written(path: Path) -> None:
    file = h5py.File(path)
    array = from_hdf5(file, "a", chunks=(4, 10), barrier=False)

    def close(block: Any) -> Any:
        file.close()
        return block

    found = array.map_blocks(close, dtype=float, meta=np.empty((0, 0))).compute(scheduler="sync")
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("passed", [False, True])
def test_a_file_that_is_closed_in_the_middle_of_a_compute_is_named(path: Path, *, passed: bool) -> None:
    array = None if passed else from_hdf5(path, "a", chunks=(4, 10), barrier=False)
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    file = h5py.File(path, "a")
    if array is None:
        array = from_hdf5(file, "a", chunks=(4, 10), barrier=False)

    def close(block: Any) -> Any:
        file.close()
        return block

    for read in (array, dataset.a.data):
        file = file or h5py.File(path, "a")
        with file:
            closing = read.map_blocks(close, dtype=float, meta=np.empty((0, 0)))
            with pytest.raises(SourceChangedError, match=r"a\.nc: this process closed the file while it was read"):
                closing.compute(scheduler="sync")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are open")
def test_another_library_that_writes_in_this_process_is_named_with_the_way_out(path: Path) -> None:
    pytest.importorskip("netCDF4")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    with pytest.raises(SourceChangedError, match="engine='h5netcdf', or load the values"):
        (dataset[["a"]] * 2).to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(read(path), VALUES)
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    (dataset[["a"]] * 2).rename(a="d").load().to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(xr.open_dataset(path, engine="h5bound").d, VALUES * 2)
