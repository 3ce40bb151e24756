"""The xarray engine: datasets equal those of h5netcdf, and the file is open only while values are read."""

from __future__ import annotations

import gc
import io
import pickle
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from h5bound import from_hdf5
from h5bound.errors import (
    H5BoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.lifecycle import open_limit
from tests.conftest import open_objects
from tests.support.http_server import Behaviour, serve
from tests.support.netcdf_files import NETCDF_FILES
from tests.support.odd_files import write_external_links
from tests.support.raw_sequences import write_elements
from tests.support.recorder import Log, count_files, eventually, install_counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # of xarray and h5netcdf, about odd files
FILES = pytest.mark.parametrize("made", NETCDF_FILES, indirect=True)
NAMES = ("a", "b", "c")
BLOCKS = 16


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare values, types, attributes and encodings, and their order."""
    assert list(found.variables) == list(expected.variables)
    assert found.encoding == expected.encoding
    for name in expected.variables:
        one, other = found[name].variable, expected[name].variable
        assert one.chunks == other.chunks
        assert one.dtype == other.dtype
        assert type(one.values) is type(other.values)
        assert {key: str(value) for key, value in one.encoding.items()} == {
            key: str(value) for key, value in other.encoding.items()
        }
    xr.testing.assert_identical(found.compute(), expected.compute())


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "file.nc"
    NETCDF_FILES[request.param](path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of three packed variables in 16 chunks each, along a time and two other dimensions."""
    path = tmp_path / "chunks.nc"
    rng = np.random.default_rng(0)
    dataset = xr.Dataset(
        {name: (("time", "lat", "lon"), rng.normal(280, 5, (64, 6, 8)).round(1)) for name in NAMES},
        {
            "time": np.datetime64("2020-01-01", "ns") + np.arange(64) * np.timedelta64(6, "h"),
            "lat": np.arange(6.0),
            "lon": np.arange(8.0),
        },
    )
    packing = {"dtype": "i4", "scale_factor": 0.1, "_FillValue": -1, "zlib": True, "chunksizes": (4, 6, 8)}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=dict.fromkeys(NAMES, packing))
    return path


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    return log


def counts(log: Log) -> tuple[int, int, int]:
    """Return the numbers of opens, closes and blocks read since the last call, and check that nothing is open."""
    assert open_objects() == 0
    numbers = log.count("open"), log.count("close"), log.count("read")
    log.clear()
    return numbers


# Equal to h5netcdf.


@FILES
@pytest.mark.parametrize("options", [{}, {"decode_cf": False}, {"chunks": {}}, {"phony_dims": "sort"}], ids=str)
def test_a_dataset_is_the_one_that_h5netcdf_gives(made: Path, options: dict[str, Any]) -> None:
    with xr.open_dataset(made, engine="h5netcdf", **options) as expected:
        found = xr.open_dataset(made, engine="h5bound", **options)
        assert_same(found, expected)


@pytest.mark.parametrize("made", ["conventions"], indirect=True)
@pytest.mark.parametrize(
    "options",
    [
        {"mask_and_scale": False},
        {"decode_times": False, "concat_characters": False},
        {"decode_coords": "all"},
        {"drop_variables": ["area", "packed"]},
        {"create_default_indexes": False},
        {"chunks": "auto", "drop_variables": "name"},
        {"chunks": {"time": 3, "lat": 2}},
    ],
    ids=str,
)
def test_an_option_does_what_it_does_for_h5netcdf(made: Path, options: dict[str, Any]) -> None:
    test_a_dataset_is_the_one_that_h5netcdf_gives(made, options)


@FILES
def test_groups_and_trees_are_those_that_h5netcdf_gives(made: Path) -> None:
    expected = xr.open_groups(made, engine="h5netcdf")
    found = xr.open_groups(made, engine="h5bound")
    assert list(found) == list(expected)
    for name in expected:
        assert_same(found[name], expected[name])
        group = xr.open_dataset(made, engine="h5bound", group=name)
        with xr.open_dataset(made, engine="h5netcdf", group=name) as same:
            assert_same(group, same)
    with xr.open_datatree(made, engine="h5netcdf") as tree:
        xr.testing.assert_identical(xr.open_datatree(made, engine="h5bound"), tree)
        xr.testing.assert_identical(xr.open_datatree(made, engine="h5bound", chunks={}).compute(), tree)
    for dataset in expected.values():
        dataset.close()


def test_a_tree_may_begin_at_a_group(tmp_path: Path) -> None:
    NETCDF_FILES["groups"](tmp_path / "a.nc")
    with xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf", group="/g") as expected:
        xr.testing.assert_identical(xr.open_datatree(tmp_path / "a.nc", engine="h5bound", group="/g"), expected)
    assert list(xr.open_groups(tmp_path / "a.nc", engine="h5bound", group="g")) == [".", "h"]
    with pytest.raises(OSError, match=r"group not found: /g/none; .*a\.nc does not"):
        xr.open_dataset(tmp_path / "a.nc", engine="h5bound", group="/g/none")


@pytest.mark.parametrize("made", ["groups", "short", "text", "conventions", "invalid", "plain"], indirect=True)
def test_an_indexed_variable_is_the_one_that_h5netcdf_gives(made: Path) -> None:
    keys: list[Any] = [
        0,
        -1,
        slice(1, None),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(3, 1),
        [1, 0],
        [1, 1],
        [],
        np.array([-1, 0]),
    ]
    options: dict[str, Any] = {"cache": False, "decode_times": False}  # of no times at all it raises
    with xr.open_dataset(made, engine="h5netcdf", **options) as expected:
        found = xr.open_dataset(made, engine="h5bound", **options)
        for name, same in expected.variables.items():
            for first in keys if same.ndim else ():
                if isinstance(first, slice) or max(np.ravel(first), default=0) < same.shape[0]:
                    xr.testing.assert_identical(found.variables[name][first], same[first])
            if same.ndim > 1:
                pair = {same.dims[0]: [1, 0], same.dims[1]: [0, -1]}
                xr.testing.assert_identical(found[name].isel(pair), expected[name].isel(pair))
                points = {dimension: xr.DataArray([1, 0, 1], dims="point") for dimension in same.dims[:2]}
                xr.testing.assert_identical(found[name].isel(points), expected[name].isel(points))
                inner = found[name][1:][:, ::2][0]
                xr.testing.assert_identical(inner, expected[name][1:][:, ::2][0])


def test_text_may_be_left_as_bytes(tmp_path: Path) -> None:
    NETCDF_FILES["plain"](tmp_path / "a.h5")
    options: dict[str, Any] = {"decode_vlen_strings": False}
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf", **options) as expected:
        assert_same(xr.open_dataset(tmp_path / "a.h5", engine="h5bound", **options), expected)


@pytest.mark.parametrize("chunks", [None, {}])
def test_sequences_in_attributes_have_the_values_of_the_file_in_each_byte_order(
    tmp_path: Path, chunks: dict[str, int] | None
) -> None:
    xr.Dataset({"a": ("x", [1, 2])}).to_netcdf(tmp_path / "a.h5", engine="h5netcdf")
    sequence = h5py.vlen_dtype(np.dtype(">i4"))
    compound = np.zeros(1, np.dtype([("n", ">i4"), ("s", sequence)]))
    compound[0] = 5, np.array([1, 2], ">i4")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for item in (file, file["a"]):
            for name, values in (("two", [[1, 2], [3]]), ("one", [[1, 2]]), ("single", [[7]])):
                sequences = np.empty(len(values), object)
                sequences[:] = [np.array(value, ">i4") for value in values]
                item.attrs.create(name, sequences, dtype=sequence)
            item.attrs["compound"] = compound
            item.attrs["plain"] = np.array([1, 2], ">i4")
    dataset = xr.open_dataset(tmp_path / "a.h5", engine="h5bound", chunks=chunks)
    for attributes in (dataset.attrs, dataset["a"].attrs):
        assert [value.tolist() for value in attributes["two"]] == [[1, 2], [3]]
        assert (attributes["one"].tolist(), attributes["single"].tolist()) == ([1, 2], [7])
        assert (attributes["compound"]["n"], attributes["compound"]["s"].tolist()) == (5, [1, 2])
        assert attributes["plain"].tolist() == [1, 2]


# When the file is open.


def test_opening_opens_the_file_once_and_leaves_nothing_open(path: Path, log: Log) -> None:
    choices: list[dict[str, Any]] = [{}, {"chunks": {}}, {"decode_cf": False}]
    for options in choices:
        dataset = xr.open_dataset(path, engine="h5bound", **options)
        assert counts(log)[:2] == (1, 1)
        assert dataset.indexes.keys() == {"time", "lat", "lon"}
    xr.open_datatree(path, engine="h5bound")
    assert counts(log)[:2] == (1, 1)


def test_a_variable_without_dask_opens_the_file_when_it_is_loaded(path: Path, log: Log) -> None:
    dataset = xr.open_dataset(path, engine="h5bound")
    assert not dataset.chunks
    counts(log)
    first = dataset.a[5:6, 2].values
    assert "(slice(5, 6, None), slice(2, 3, None), slice(0, 8, None))" in log.lines()[1][2]
    assert counts(log) == (1, 1, 1)
    assert np.array_equal(dataset.a.values[5:6, 2], first, equal_nan=True)
    assert counts(log) == (1, 1, 1)
    assert dataset.a.values.shape == (64, 6, 8)  # xarray has cached it
    assert counts(log) == (0, 0, 0)
    dataset.load()
    assert counts(log) == (2, 2, 2)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_compute_opens_the_file_once_for_all_variables(path: Path, log: Log, scheduler: str) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    counts(log)
    with dask.config.set(scheduler=scheduler):
        computed = dataset.compute()
        assert counts(log) == (1, 1, 3 * BLOCKS)
        (dataset.a.mean("time") - dataset.b.max("time")).compute()
        assert counts(log) == (1, 1, 2 * BLOCKS)
        dataset.c[0, 0, 0].compute()
        assert counts(log) == (1, 1, 1)
        dataset.a.isel(time=slice(4, 12)).compute()
        assert counts(log) == (1, 1, 2)
        dataset.compute(optimize_graph=False)
        assert counts(log) == (1, 1, 3 * BLOCKS)
        xr.open_datatree(path, engine="h5bound", chunks={}).compute()
        assert counts(log)[:2] == (2, 2)
    with xr.open_dataset(path, engine="h5netcdf") as expected:
        xr.testing.assert_identical(computed, expected)


def test_a_compute_that_does_not_show_its_variables_opens_the_file_for_each_block(path: Path, log: Log) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={}, inline_array=True)
    counts(log)
    dataset.compute(scheduler="sync")
    assert counts(log) == (3 * BLOCKS, 3 * BLOCKS, 3 * BLOCKS)


def test_many_files_are_not_held_open_at_once(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{i}.nc" for i in range(4)]
    for i, path in enumerate(paths):
        xr.Dataset({"a": (("time", "x"), np.full((2, 3), i))}).to_netcdf(path, engine="h5netcdf")
    dataset = xr.open_mfdataset(paths, engine="h5bound", combine="nested", concat_dim="time", chunks={"time": 1})
    counts(log)
    assert int(dataset.a.sum().compute(scheduler="sync")) == 6 * 6
    assert counts(log) == (4, 4, 8)
    monkeypatch.setattr(open_limit, "MOST_DESCRIPTORS", 2 * 3)
    assert int(dataset.a.sum().compute(scheduler="sync")) == 6 * 6
    opened = np.cumsum([{"open": 1, "close": -1}.get(event, 0) for event in log.order()])
    assert opened.max() == 3
    assert counts(log)[2] == 8


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_compute_that_fails_leaves_nothing_open(path: Path, log: Log, scheduler: str) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})

    def fail(block: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        xr.apply_ufunc(fail, dataset.a, dask="parallelized", output_dtypes=["f8"]).compute(scheduler=scheduler)
    assert eventually(lambda: log.count("open") == log.count("close"))
    assert eventually(lambda: open_objects() == 0)


def test_overlapping_computes_share_the_file(path: Path, log: Log) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    expected = dataset.compute()
    counts(log)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: xr.open_dataset(path, engine="h5bound").load(), range(8)):
            xr.testing.assert_identical(found, expected)
        for found in pool.map(lambda _: dataset.compute(scheduler="threads"), range(8)):
            xr.testing.assert_identical(found, expected)
    opened, closed, _ = counts(log)
    assert opened == closed
    dataset.compute()
    assert counts(log) == (1, 1, 3 * BLOCKS)  # dask would have lost its callbacks meanwhile


def test_writing_and_replacing_the_file_needs_no_close(path: Path) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    mean = float(dataset.a.mean())
    with h5py.File(path, "r+") as file:  # HDF5 would refuse it if the file was open in this process
        file.attrs["note"] = 1
    dataset.close()
    assert float(xr.open_dataset(path, engine="h5bound").a.mean()) == pytest.approx(mean)
    with pytest.raises(SourceChangedError, match="make the array or store again"):
        dataset.a.compute()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        dataset.a.compute()


def test_files_that_are_opened_together_are_closed_together(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.nc"
    other.write_bytes(path.read_bytes())
    with xr.open_mfdataset([path, other], engine="h5bound", combine="nested", concat_dim="number") as dataset:
        total = dataset.a.sum().compute()
    with xr.open_mfdataset([path, other], engine="h5netcdf", combine="nested", concat_dim="number") as wanted:
        assert float(total) == pytest.approx(float(wanted.a.sum()))


def test_closing_does_no_harm(path: Path) -> None:
    with xr.open_dataset(path, engine="h5bound") as dataset:
        pass
    dataset.close()
    assert dataset.a.shape == dataset.a.values.shape


# Other processes.


@pytest.mark.slow
def test_a_dataset_pickles_and_a_pool_reads_it(path: Path) -> None:
    for chunks in (None, {"time": 32}):
        dataset = xr.open_dataset(path, engine="h5bound", chunks=chunks)
        copy = pickle.loads(pickle.dumps(dataset))
        xr.testing.assert_identical(copy, dataset)
        assert dask.base.tokenize(copy.chunk().a.data.name) == dask.base.tokenize(dataset.chunk().a.data.name)
    assert float(copy.a.mean().compute(scheduler="processes")) == pytest.approx(float(dataset.a.mean()))


@pytest.mark.slow
@pytest.mark.parametrize("compute", ["compute", "persist"])
def test_every_worker_opens_the_file_and_closes_it(path: Path, tmp_path: Path, compute: str) -> None:
    log = Log(tmp_path / "log")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    expected = dataset.compute()
    known_at_once = {
        "distributed.scheduler.worker-saturation": float("inf"),
        "distributed.scheduler.work-stealing": False,
    }
    with (
        dask.config.set(known_at_once),  # a worker knows of all blocks that it will read of a variable before the first
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(install_counters, log)
        kept = getattr(dataset, compute)()
        xr.testing.assert_identical(kept.compute(), expected)
        assert eventually(lambda: log.count("open") == log.count("close") > 0)
        assert eventually(lambda: not any(client.run(open_objects).values()))
    assert log.count("read") == 3 * BLOCKS
    assert log.processes("open") == log.processes("close")
    assert len(log.processes("open")) < BLOCKS  # one a worker, or one for each variable if these come one by one


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def read_in_a_task(path: Path, how: str, given: xr.Dataset) -> float:
    """Read one variable in one of the ways of a task's own code, and write to the file at once."""
    if how == "given":
        total = float(given.a.values.sum())
    elif how == "plain":
        with xr.open_dataset(path, engine="h5bound") as dataset:
            total = float(dataset.a.values.sum())
    else:
        total = float(xr.open_dataset(path, engine="h5bound", chunks={}).a.load(scheduler=how).sum())
    with h5py.File(path, "a") as file:
        file.attrs["total"] = total
    return total


@pytest.mark.parametrize("how", ["plain", "given", "sync", "threads"])
def test_a_file_that_a_task_reads_itself_can_be_written_at_once(path: Path, client: Client, how: str) -> None:
    given = xr.open_dataset(path, engine="h5bound")
    total = client.submit(read_in_a_task, path, how, given).result()
    assert total == pytest.approx(float(xr.open_dataset(path, engine="h5bound").a.sum()))


def test_the_result_of_a_cluster_comes_after_the_close_in_every_compute(path: Path, client: Client, log: Log) -> None:
    computes: list[Callable[[xr.Dataset], object]] = [
        lambda dataset: dataset.compute(),
        lambda dataset: dataset.a.sum("time").compute(),
        lambda dataset: (dataset.b - dataset.c.mean()).compute(),
    ]
    for compute in 5 * computes:
        compute(xr.open_dataset(path, engine="h5bound", chunks={}))
        with h5py.File(path, "a") as file:
            file.attrs["seen"] = 1
    assert log.count("open") == log.count("close") < log.count("read")


def test_a_worker_closes_a_file_that_it_keeps_for_tasks_which_never_run(path: Path, client: Client) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})

    def fail(block: Any) -> Any:
        raise ZeroDivisionError

    failed = client.compute(xr.apply_ufunc(fail, dataset.a, dask="parallelized", output_dtypes=["f8"]))
    assert isinstance(failed.exception(), ZeroDivisionError)
    assert eventually(lambda: open_objects() == 0)
    assert failed.status == "error"  # with its traceback, the future keeps what the tasks have used


def test_close_closes_a_file_that_a_compute_holds(path: Path, log: Log) -> None:
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    expected = dataset.a.mean("time").load()
    others = [xr.open_dataset(path, engine="h5bound") for _ in range(BLOCKS)]
    counts(log)

    def close(block: Any) -> Any:
        others.pop().close()  # a dataset calls what closes it only once
        assert open_objects() == 0
        return block

    closing = dataset.a.copy(data=dataset.a.data.map_blocks(close, dtype=float, meta=np.empty((0, 0, 0))))
    xr.testing.assert_identical(closing.mean("time").compute(scheduler="sync"), expected)
    assert counts(log) == (BLOCKS, BLOCKS, BLOCKS)


# What may be opened.


def test_a_path_is_spelled_as_h5netcdf_spells_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "link").symlink_to(path.parent)
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    for spelling in ("link/chunks.nc", "link/../chunks.nc", "~/link/chunks.nc", path.parent / "link" / "chunks.nc"):
        with xr.open_dataset(spelling, engine="h5netcdf") as expected:
            assert_same(xr.open_dataset(spelling, engine="h5bound"), expected)


def test_a_url_is_asked_once_a_block_and_tells_no_secret(path: Path, log: Log) -> None:
    with serve(path.parent) as server, xr.open_dataset(path, engine="h5netcdf") as expected:
        server.behaviour = Behaviour(user="me:sEcReT")
        url = f"{server.url.replace('//', '//me:sEcReT@')}/{path.name}"
        dataset = xr.open_dataset(url, engine="h5bound", chunks={})
        shown = [dataset.encoding, [variable.encoding for variable in dataset.variables.values()], dataset]
        assert "sEcReT" not in repr(shown)
        key = {"headers": {"Authorization": f"Basic {b64encode(b'me:sEcReT').decode()}"}}
        tree = xr.open_datatree(f"{server.url}/{path.name}", engine="h5bound", storage_options=key)
        xr.testing.assert_identical(tree.to_dataset(), expected)
        server.forget()
        log.clear()
        xr.testing.assert_identical(dataset.compute(), expected)
        assert log.count("open") == log.count("close") == 1
        assert server.count("GET") <= 3 * BLOCKS + 10
        assert server.count("HEAD") <= 2  # at the open and at the close
        path.touch()
        with pytest.raises(SourceChangedError):
            dataset.a.compute()
        with pytest.raises(H5BoundError, match="access is denied"):
            xr.open_dataset(f"{server.url}/{path.name}", engine="h5bound")


def test_a_file_that_is_held_open_is_used_and_left_open(path: Path, log: Log) -> None:
    with xr.open_dataset(path, engine="h5netcdf") as expected:
        values = expected.load()
    with h5py.File(path) as file:
        dataset = xr.open_dataset(file, engine="h5bound", chunks={})
        xr.testing.assert_identical(dataset.compute(), values)
        assert file
        assert log.count("open") == 0
    xr.testing.assert_identical(dataset.compute(), values)  # by its path
    with h5py.File(io.BytesIO(path.read_bytes())) as file:
        dataset = xr.open_dataset(file, engine="h5bound")
        xr.testing.assert_identical(dataset.load(), values)
    gc.collect()


def test_a_file_that_is_held_open_may_change_but_not_its_variables(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = file.create_dataset("x", data=np.arange(4), maxshape=(None,))
        dataset = xr.open_dataset(file, engine="h5bound", chunks={})
        values[0] = 7
        assert dataset.x.values.tolist() == [7, 1, 2, 3]
        values.resize((5,))
        with pytest.raises(SourceChangedError, match=r"had shape \(4,\)"):
            dataset.x.load()


def test_the_bytes_of_a_file_are_read_and_what_is_no_file_is_refused(path: Path) -> None:
    expected = xr.open_dataset(path, engine="h5bound")
    for content in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert xr.open_dataset(content, engine="h5bound").identical(expected)
    with pytest.raises(OptionError, match="give a path"):
        xr.open_dataset(5, engine="h5bound")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no such file"):
        xr.open_dataset(path.with_name("none.nc"), engine="h5bound")
    path.write_bytes(b"no HDF5 at all")
    with pytest.raises(H5BoundError, match="not an HDF5 file"):
        xr.open_dataset(path, engine="h5bound")


def test_options_of_other_engines_are_taken_where_they_make_no_difference(path: Path) -> None:
    expected = xr.open_dataset(path, engine="h5bound")
    assert xr.open_dataset(path, engine="h5bound", mode="r", autoclose=True, clobber=False).identical(expected)
    with pytest.raises(OptionError, match=r"mode='a': engine h5bound only reads"):
        xr.open_dataset(path, engine="h5bound", mode="a")
    with pytest.raises(TypeError, match="diskfull"):
        xr.open_dataset(path, engine="h5bound", diskfull=True)


def test_without_h5netcdf_the_error_names_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5netcdf", None)  # as Python does for a package that cannot be imported
    with pytest.raises(ImportError, match=r"h5netcdf: pip install 'h5bound\[xarray\]'"):
        xr.open_dataset(path, engine="h5bound")


def test_a_link_out_of_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_external_links(path)
    with h5py.File(path, "r+") as file:
        file["inside"] = np.arange(3)
        file["outside"] = h5py.ExternalLink("other.h5", "/secret/data")
        del file["there"], file["behind"]
    with pytest.raises(UnsafeSourceError, match="external link"):
        xr.open_dataset(path, engine="h5bound")


def test_the_engine_is_taken_by_its_name_only(path: Path) -> None:
    engine = xr.backends.list_engines()["h5bound"]
    assert not engine.guess_can_open(path)
    with xr.open_dataset(path) as dataset, xr.open_dataset(path, engine="netcdf4") as expected:
        assert dataset.a.encoding.keys() == expected.a.encoding.keys()
    tree = xr.open_datatree(path)
    tree.close()


@pytest.mark.slow
def test_the_private_names_of_xarray_do_what_the_engine_needs_of_them() -> None:
    from xarray.core import indexing

    class Squares(xr.backends.BackendArray):
        shape, dtype, keys = (9,), np.dtype("i8"), list[Any]()

        def __getitem__(self, key: Any) -> Any:
            support = indexing.IndexingSupport.OUTER_1VECTOR
            return indexing.explicit_indexing_adapter(key, self.shape, support, self.read)

        def read(self, key: tuple[Any, ...]) -> Any:
            self.keys.append(key)
            return np.arange(9)[key] ** 2

    squares = Squares()
    variable = xr.Variable(("x",), indexing.LazilyIndexedArray(squares))[2:][1:]
    assert squares.keys == []  # indexed lazily
    assert variable.values.tolist() == [9, 16, 25, 36, 49, 64]
    assert squares.keys == [(slice(3, 9, 1),)]


@pytest.mark.slow
def test_h5bound_works_without_xarray() -> None:
    code = """
import sys
sys.modules["xarray"] = sys.modules["h5netcdf"] = None
import h5bound, h5bound.cli.main
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    lazy = "{'h5netcdf', 'h5bound.xarray_backend.backend'}"
    code = f"import sys, h5bound, h5bound.cli.main; assert not {lazy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_external_files_of_a_variable_are_checked_again_when_it_is_read(tmp_path: Path) -> None:
    main, part, raw = tmp_path / "main.h5", tmp_path / "part.h5", tmp_path / "raw"
    np.arange(10).tofile(raw)
    with h5py.File(part, "w") as file:
        file["x"] = np.arange(10)
    with h5py.File(main, "w") as file:
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource("part.h5", "x", (10,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (10,), "i8", external=[(str(raw), 0, 80)])

    def open_it(**options: Any) -> xr.Dataset:
        return xr.open_dataset(main, engine="h5bound", allow_external=[tmp_path], phony_dims="sort", **options)

    before, lazy, whole = open_it(), open_it(chunks={}), open_it()
    assert whole.virtual.values.tolist() == whole.external.values.tolist() == list(range(10))
    part.rename(tmp_path / "gone.h5")
    raw.write_bytes(bytes(8))
    for dataset in (before, lazy):
        with pytest.raises(SourceNotFoundError, match="virtual"):
            dataset.virtual.compute()
        with pytest.raises(UnsupportedError, match="external"):
            dataset.external.compute()


def test_more_links_than_are_looked_at_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(20):
            file[f"k{i:02}"] = np.arange(2)
    xr.open_dataset(path, engine="h5bound", phony_dims="sort").close()
    monkeypatch.setattr("h5bound.xarray_backend.checked_file.MAX_OBJECTS", 10)
    with pytest.raises(UnsafeSourceError, match=r"a\.h5: more than 10 objects and links"):
        xr.open_dataset(path, engine="h5bound", phony_dims="sort")


@pytest.mark.parametrize("writer", ["h5netcdf", "netcdf4"])
def test_a_cluster_that_writes_to_the_file_that_it_reads_says_what_is_left_and_what_to_do(
    path: Path, client: Client, writer: Any
) -> None:
    assert client.scheduler_info()["workers"]
    dataset = xr.open_dataset(path, engine="h5bound", chunks={})
    array = from_hdf5(path, "a")
    before = dataset.a.values
    message = r"dataset '/a': .*\.nc: .* a cluster cannot: its new variables .* empty; load the .*scheduler='threads'"
    for computed in (dataset.a.variable * 2, xr.Variable(dataset.a.dims, array * 2)):
        for name in ("new", "a"):
            with pytest.raises(SourceChangedError, match=message):
                xr.Dataset({name: computed}).to_netcdf(path, mode="a", engine=writer)
    copy = path.with_name("copy.nc")  # of a file that workers may have open
    copy.write_bytes(path.read_bytes())
    with xr.open_dataset(copy, engine="h5netcdf") as found:
        np.testing.assert_array_equal(found["a"], before)


def test_types_that_h5netcdf_does_not_have_are_opened_as_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    times = h5py.h5t.UNIX_D64LE
    pair = h5py.h5t.create(h5py.h5t.COMPOUND, 12)
    pair.insert(b"n", 0, h5py.h5t.STD_I32LE)
    pair.insert(b"t", 4, times)
    with h5py.File(path, "w") as file:
        write_elements(file, "t", times, [bytes([i] * 8) for i in range(6)], chunks=2)
        write_elements(file, "pairs", pair, [bytes([i, 0, 0, 0] + [9] * 8) for i in range(6)])
        file["x"] = [1.5, 2.5]
    with xr.open_dataset(path, engine="h5bound", chunks={}) as found:
        assert found["x"].values.tolist() == [1.5, 2.5]
        assert found["t"].values.tobytes() == b"".join(bytes([i] * 8) for i in range(6))
        assert found["pairs"].values["n"].tolist() == list(range(6))
    with xr.open_dataset(path, engine="h5bound") as found:
        assert [value.tobytes()[0] for value in found["t"][[4, 1]].values] == [4, 1]
        assert found["pairs"][::2].values["n"].tolist() == [0, 2, 4]
        assert int(found["pairs"][3].values["n"]) == 3


def test_sequences_that_xarray_cannot_open_are_named_with_a_way_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
        rows = file.create_dataset("rows", (2,), h5py.vlen_dtype("i4"))
        rows[:] = [[1, 2, 3], [4]]
    with pytest.raises(UnsupportedError, match=r"^/rows in .*a\.h5: xarray cannot open sequences") as error:
        xr.open_dataset(tmp_path / "a.h5", engine="h5bound", phony_dims="access")
    assert "drop_variables=['rows']" in str(error.value)
    with xr.open_dataset(tmp_path / "a.h5", engine="h5bound", drop_variables=["rows"]) as dataset:
        assert dataset["x"].values.tolist() == [1, 2]


def test_sequences_are_not_blamed_for_text_that_does_not_decode(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        rows = file.create_dataset("rows", (2,), h5py.vlen_dtype("i4"))
        rows[:] = [[1], [4]]
        file.create_dataset("text", data=[b"caf\xe9", b"a"], dtype=h5py.string_dtype())
    options: dict[str, Any] = {"phony_dims": "access", "decode_vlen_strings": False}
    with pytest.raises(UnicodeDecodeError, match="0xe9"):
        xr.open_dataset(tmp_path / "a.h5", engine="h5bound", **options)
    with xr.open_dataset(tmp_path / "a.h5", engine="h5bound", drop_variables="text", **options) as dataset:
        assert list(dataset) == ["rows"]
