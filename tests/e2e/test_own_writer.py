"""Files that are read by a compute while h5py or netCDF4 writes its results into them, in the same process."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5netcdf
import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from dask import delayed

from h5bound import H5BoundError, H5Store, SourceChangedError, convert, from_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

VALUES = np.arange(400.0).reshape(40, 10)

WRITERS = ["h5netcdf", "netcdf4"]

OPTIONS = [{}, {"barrier": False}, {"window": "2 KiB"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a netCDF file with one variable in 10 chunks."""
    path = tmp_path / "a.nc"
    encoding = {"a": {"chunksizes": (4, 10), "zlib": True}}
    xr.Dataset({"a": (("t", "x"), VALUES)}).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


def read(path: Path, name: str = "a") -> NDArray[Any]:
    """Return the values that h5py reads."""
    with h5py.File(path) as file:
        values: NDArray[Any] = file[name][...]
    return values


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
@pytest.mark.parametrize("writer", [*WRITERS, None])
def test_xarray_adds_to_the_file_what_is_computed_from_it(path: Path, scheduler: str, writer: Any) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    with dask.config.set(scheduler=scheduler):
        for times, name in enumerate(["c", "d", "e"]):
            dataset[name] = dataset.a * times
            dataset[[name]].to_netcdf(path, mode="a", engine=writer)
    assert [read(path, name).tolist() for name in "acde"] == [(VALUES * i).tolist() for i in (1, 0, 1, 2)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("writer", WRITERS)
def test_xarray_adds_to_the_file_what_is_computed_from_arrays_of_it(
    path: Path, options: dict[str, Any], writer: Any
) -> None:
    result = from_hdf5(path, "a", chunks=(4, 10), **options) * 2 + H5Store(path, chunks={}, **options)["a"][::-1]
    xr.Dataset({"c": (("t", "x"), result)}).to_netcdf(path, mode="a", engine=writer)
    np.testing.assert_array_equal(read(path, "c"), VALUES * 2 + VALUES[::-1])


@pytest.mark.parametrize("options", OPTIONS)
def test_dask_stores_in_variables_of_netcdf4_what_is_computed_from_their_file(
    path: Path, options: dict[str, Any]
) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10), **options)
    with netCDF4.Dataset(path, "a") as file:
        group = file.createGroup("g")
        targets = [at.createVariable("c", "f8", ("t", "x"), zlib=True) for at in (file, group)]
        da.store([array * 2, array[::-1]], targets)
    np.testing.assert_array_equal(read(path, "c"), VALUES * 2)
    np.testing.assert_array_equal(read(path, "g/c"), VALUES[::-1])
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("same", [True, False])
def test_one_variable_of_netcdf4_takes_what_only_it_needs(
    path: Path, tmp_path: Path, options: dict[str, Any], *, same: bool
) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10), **options)
    target = path if same else tmp_path / "b.nc"
    with netCDF4.Dataset(target, "a" if same else "w") as file:
        if not same:
            for name, size in (("t", 40), ("x", 10)):
                file.createDimension(name, size)
        da.store(array[::-1], file.createVariable("c", "f8", ("t", "x")))
    np.testing.assert_array_equal(read(target, "c"), VALUES[::-1])


@pytest.mark.parametrize("options", OPTIONS)
def test_dask_adds_to_the_file_what_is_computed_from_it(path: Path, options: dict[str, Any]) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10), **options)
    da.to_hdf5(path, "/y", array * 2 + H5Store(path, chunks={}, **options)["a"][::-1])
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


@pytest.mark.parametrize("write", ["to_hdf5", "to_netcdf", "h5netcdf"])
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
        elif write == "h5netcdf":
            with h5netcdf.File(path, "a") as file:
                da.store(result, file["a"])
        else:
            xr.Dataset({"a": (("t", "x"), result)}).to_netcdf(path, mode="a", engine="h5netcdf")
    np.testing.assert_allclose(read(path), compute(VALUES) if ordered else VALUES)


# under which names of the file and the variable `a` is read
OTHER_NAMES = {
    "file": ("hard_link.nc", "a"),
    "hard_link": ("a.nc", "g/hard"),
    "soft_link": ("a.nc", "soft"),
    "virtual": ("a.nc", "virtual"),
    "virtual_by_name": ("a.nc", "virtual_by_name"),
    "link_to_virtual": ("hard_link.nc", "g/virtual"),
}


@pytest.fixture
def named_path(path: Path) -> Path:
    """Return the netCDF file with `a` under OTHER_NAMES."""
    with h5py.File(path, "a") as file:
        file["g/hard"] = file["a"]
        file["soft"] = h5py.SoftLink("/g/hard")
        for name, source in (("virtual", "."), ("virtual_by_name", "a.nc")):
            layout = h5py.VirtualLayout(VALUES.shape, "f8")
            layout[...] = h5py.VirtualSource(source, "a", VALUES.shape)
            file.create_virtual_dataset(name, layout)
        file["g/virtual"] = file["virtual"]
    (path.parent / "hard_link.nc").hardlink_to(path)
    return path


@pytest.mark.parametrize("write", ["to_hdf5", "netCDF4"])
@pytest.mark.parametrize(("file", "name"), OTHER_NAMES.values(), ids=OTHER_NAMES)
@pytest.mark.parametrize(("compute", "ordered"), [IN_PLACE["of_all_blocks"], IN_PLACE["reversed"]])
def test_data_is_known_by_all_its_names(
    named_path: Path, write: str, file: str, name: str, compute: Callable[[Any], Any], *, ordered: bool
) -> None:
    array = from_hdf5(named_path.parent / file, name, chunks=(4, 10), barrier=False)
    refused = pytest.raises(SourceChangedError, match=rf"' of .*{file}: it would be overwritten")
    with nullcontext() if ordered else refused:
        if write == "to_hdf5":
            da.to_hdf5(named_path, "/a", compute(array))
        else:
            with netCDF4.Dataset(named_path, "a") as target:
                da.store(compute(array), target["a"])
    np.testing.assert_allclose(read(named_path), compute(VALUES) if ordered else VALUES)


@pytest.mark.parametrize("written", ["g/hard", "soft", "virtual"])
def test_data_that_is_overwritten_is_known_by_all_its_names(named_path: Path, written: str) -> None:
    array = from_hdf5(named_path, "a", chunks=(4, 10), barrier=False)
    with h5py.File(named_path, "a") as file:
        if written != "virtual":
            da.store(array * 2, file[written])  # each block where it was read
        with pytest.raises(SourceChangedError, match=r"'/a' of .*: it would be overwritten"):
            da.store(array[::-1], file[written])
    np.testing.assert_array_equal(read(named_path), VALUES * (1 if written == "virtual" else 2))


@pytest.mark.parametrize("options", [*OPTIONS, None])
@pytest.mark.parametrize("compute", [compute for compute, _ in IN_PLACE.values()], ids=IN_PLACE)
def test_netcdf4_overwrites_what_was_read_before(
    path: Path, options: dict[str, Any] | None, compute: Callable[[Any], Any]
) -> None:
    if options is None:
        array = xr.open_dataset(path, engine="h5bound", chunks={}).a.data
    else:
        array = from_hdf5(path, "a", chunks=(4, 10), **options)
    result = xr.Dataset({"a": (("t", "x"), compute(array))})
    works = not options or compute is IN_PLACE["of_all_blocks"][0]  # all is read before the first write
    with nullcontext() if works else pytest.raises(SourceChangedError, match=r"'/a' of .*: it would be overwritten"):
        result.to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_allclose(read(path), compute(VALUES) if works else VALUES)


def test_netcdf4_does_not_overwrite_what_is_too_large_to_be_read_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h5bound.xarray_backend.backend_array.LOADED_NBYTES", VALUES.nbytes - 1)
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    with pytest.raises(SourceChangedError, match=r"it would be overwritten .* write with engine='h5netcdf'"):
        (dataset * 2).to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("index", [(0, slice(9, 2, -3)), (slice(None), 3), ([1, 5, 30], slice(None)), (-1, [0, 2])])
def test_what_was_read_before_is_indexed_like_the_file(path: Path, index: tuple[Any, ...]) -> None:
    lazy = xr.open_dataset(path, engine="h5bound").a
    part = lazy[index].chunk().rename({name: f"part_{name}" for name in lazy[index].dims})
    xr.Dataset({"c": part, "a": lazy.chunk(t=4) * 2}).to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(read(path, "c"), VALUES[index])
    np.testing.assert_array_equal(read(path), VALUES * 2)


@pytest.mark.parametrize("writer", WRITERS)
def test_coordinates_are_written_again_while_other_variables_are_computed_from_them(path: Path, writer: Any) -> None:
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        dataset = dataset.load().assign_coords(lat=(("t", "x"), VALUES + 1))
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"lat": {"chunksizes": (4, 10)}})
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * dataset.lat.data[::-1]
    dataset[["c"]].to_netcdf(path, mode="a", engine=writer)
    np.testing.assert_array_equal(read(path, "c"), VALUES * (VALUES + 1)[::-1])
    np.testing.assert_array_equal(read(path, "lat"), VALUES + 1)


@pytest.mark.parametrize("reading", [{"chunks": {}}, {"chunks": {}, "decode_cf": False}], ids=str)
@pytest.mark.parametrize("writer", [*WRITERS, None])
def test_coordinates_without_dimensions_are_written_again(path: Path, writer: Any, reading: dict[str, Any]) -> None:
    scalars = {
        "height": ((), 2.0),
        "time": ((), np.datetime64("2020-01-01T12", "ns")),
        "flag": ((), np.int8(3)),
        "site": ((), "Åre"),
        "angle": ((), np.float32(0.5), {"units": "degrees"}),
    }
    xr.Dataset(coords=scalars).to_netcdf(path, mode="a", engine="h5netcdf")
    with h5py.File(path, "r+") as file:
        file["a"].attrs["coordinates"] = "height time flag site angle"
    before = {name: read(path, name).tolist() for name in scalars}
    dataset = xr.open_dataset(path, engine="h5bound", **reading)
    dataset["c"] = dataset.a * 2
    dataset[["c"]].to_netcdf(path, mode="a", engine=writer)
    assert (read(path, "c") == VALUES * 2).all()
    assert {name: read(path, name).tolist() for name in scalars} == before


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
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_written_anew_is_not_read_as_what_it_was(path: Path, writer: Any, *, mask: bool) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    dataset["c"] = dataset.a * 2
    if mask:
        dataset["a"] = dataset.a.copy(data=np.zeros(dataset.a.shape))
    # the new file is larger, and has a variable of the same name, shape and type
    encoding = {"a": {"zlib": False, "chunksizes": None, "contiguous": True}} if mask else {}
    with pytest.raises(SourceChangedError, match="it was truncated, to be written anew"):
        dataset.to_netcdf(path, engine=writer, encoding=encoding)


@pytest.mark.parametrize(("inline", "later"), [(True, False), (False, True)])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("compute", "ordered"), [IN_PLACE["elementwise"], IN_PLACE["reversed"]])
def test_variables_that_are_hidden_in_tasks_are_seen(
    path: Path, writer: Any, compute: Callable[[Any], Any], *, ordered: bool, inline: bool, later: bool
) -> None:
    ordered = ordered or writer == "netcdf4"
    dataset = xr.open_dataset(path, engine="h5bound", chunks={}, inline_array=inline)
    dataset["a"] = compute(dataset.a)
    with nullcontext() if ordered else pytest.raises(SourceChangedError, match="it would be overwritten"):
        write = dataset.to_netcdf(path, mode="a", engine=writer, compute=not later)
        if write is not None:
            write.compute()
    np.testing.assert_array_equal(read(path), compute(VALUES) if ordered else VALUES)


def test_a_dataset_that_dask_reads_from_the_open_file_is_no_target(path: Path) -> None:
    with h5py.File(path, "a") as file:
        result = from_hdf5(path, "a", chunks={}, barrier=False)[::-1] + da.from_array(file["a"], chunks=(4, 10))
        da.store(result, file.create_dataset("c", VALUES.shape, "f8"))
    np.testing.assert_array_equal(read(path, "c"), VALUES + VALUES[::-1])


def test_the_path_of_a_file_that_is_open_for_writing_is_that_file(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["a"][0] = 7
        assert from_hdf5(path, "a", chunks={})[0].compute().tolist() == [7] * 10
        report = convert(path, tmp_path / "a.zarr", verify=True)
        assert report.verification is not None
        assert report.verification.equal
        file["a"][0] = 8
    assert from_hdf5(path, "a", chunks={})[0].compute().tolist() == [8] * 10


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
def test_a_write_that_is_not_seen_is_named_with_the_way_out(path: Path) -> None:
    dataset = xr.open_dataset(path, engine="h5bound")
    with pytest.raises(SourceChangedError, match="engine='h5netcdf', or load the values"):
        dataset.rename(a="c").to_netcdf(path, mode="a", engine="netcdf4")  # no compute, so nothing can be prepared
    np.testing.assert_array_equal(read(path), VALUES)
    array = from_hdf5(path, "a", chunks=(4, 10))
    with netCDF4.Dataset(path, "a") as file:
        write = delayed(file.createVariable("e", "f8", ("t", "x")).__setitem__)(..., array)
        with pytest.raises(SourceChangedError, match="not with h5py: where that is netCDF4"):
            write.compute(scheduler="sync")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    (dataset[["a"]] * 2).rename(a="d").load().to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(xr.open_dataset(path, engine="h5bound").d, VALUES * 2)


def test_after_a_compute_that_wrote_with_netcdf4_changes_are_seen_again(path: Path) -> None:
    array = from_hdf5(path, "a", chunks=(4, 10))
    with netCDF4.Dataset(path, "a") as file:
        da.store(array * 2, file.createVariable("c", "f8", ("t", "x")))
        file["a"][...] = 0
        with pytest.raises(SourceChangedError, match="changed after it was first read"):
            array.compute()
    with pytest.raises(SourceChangedError, match="changed after it was first read"):
        array.compute()


@pytest.mark.parametrize("version", ["v108", "v110"])
def test_a_file_that_netcdf4_marks_as_open_is_refused(path: Path, version: str) -> None:
    with h5netcdf.File(path, "w", libver=(version, version)) as file:
        file.dimensions = {"t": 40, "x": 10}
        file.create_variable("a", ("t", "x"), data=VALUES, chunks=(4, 10))
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    refused = pytest.raises(H5BoundError, match=r"netCDF4 has marked the file as open .* and empty: write with engine=")
    # on threads, tasks in flight use the file after the error
    with refused if version == "v110" else nullcontext(), dask.config.set(scheduler="sync"):
        (dataset * 2).rename(a="c").to_netcdf(path, mode="a", engine="netcdf4")
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "group"), [(1, None), (1 << 24, "g")], ids=["chunks_written_at_once", "chunks_written_late"]
)
def test_many_variables_are_written_and_read_at_once(tmp_path: Path, cache: int, group: Any) -> None:
    random = np.random.default_rng(0)
    netCDF4.set_chunk_cache(cache, 101, 0.75)
    path = tmp_path / "many.nc"
    for _ in range(2):
        values = {f"a{i}": random.normal(size=(random.integers(5, 20), 30, 20)) for i in range(12)}
        lat = random.normal(size=(30, 20))
        made = xr.Dataset(
            {name: ((f"t_{name}", "y", "x"), value) for name, value in values.items()},
            {"lat": (("y", "x"), lat)},
            {f"note_{i}": "x" * 99 for i in range(40)},
        )
        encoding = {name: {"chunksizes": (1, 10, 20), "zlib": True} for name in values}
        made.to_netcdf(path, engine="netcdf4", group=group, unlimited_dims=["t_a0"], encoding=encoding)
        dataset = xr.open_dataset(path, engine="h5bound", group=group, chunks={})
        results = (dataset * dataset.lat).rename({name: f"c_{name}" for name in values})
        encoding = {f"c_{name}": {"chunksizes": (1, 7, 9), "zlib": True} for name in values}
        with dask.config.set(scheduler="threads", num_workers=8):
            results.to_netcdf(path, mode="a", engine="netcdf4", group=group, encoding=encoding)
        for name, value in values.items():
            np.testing.assert_array_equal(read(path, f"{group or ''}/{name}"), value)
            np.testing.assert_array_equal(read(path, f"{group or ''}/c_{name}"), value * lat)
        path.unlink()
