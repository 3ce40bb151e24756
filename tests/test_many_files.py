"""from_hdf5 of a list of files: one plain array, equal to the arrays of the files one after another."""

from __future__ import annotations

import os
import shutil
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5bound
from h5bound import H5BoundError, H5Store, from_hdf5
from h5bound.errors import (
    DatasetNotFoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.lifecycle.session import open_source
from h5bound.reader.source import H5Source
from tests.conftest import open_objects
from tests.support.http_server import serve
from tests.support.recorder import Log, count_files, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = (3, 0, 5, 1, 12)


def write(path: Path, data: Any, **options: Any) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset("g/x", data=data, **options)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files with 3, 0, 5, 1 and 12 rows, all rows different, in chunks of two rows and of other widths."""
    rows = np.arange(21 * 4 * 6, dtype="f4").reshape(21, 4, 6)
    return [
        write(
            tmp_path / f"{number}.h5", rows[stop - n : stop], chunks=(2, 4, 2 + number), maxshape=(None, 4, 6 + number),
            compression="gzip", shuffle=True,
        )
        for number, (n, stop) in enumerate(zip(LENGTHS, accumulate(LENGTHS), strict=True))
    ]  # fmt: skip


def values(paths: list[Path], axis: int = 0) -> Any:
    parts = []
    for path in paths:
        with h5py.File(path) as file:
            parts.append(file["g/x"][()])
    return np.concatenate(parts, axis)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    return log


CHUNKS: dict[str, Any] = {
    "default": None,
    "stored": {},
    "auto": "auto",
    "number": 2,
    "tuple": (3, 2, -1),
    "one axis": {-3: 4},
    "bytes": "100 B",
    "list": ((3, 4, 1, 1, 12), 4, (5, 1)),
}


@pytest.mark.parametrize("options", [{}, {"barrier": False}, {"window": 200}], ids=str)
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_blocks_and_slices_of_many_files_equal_those_of_one_array(
    paths: list[Path], chunks: Any, options: dict[str, Any]
) -> None:
    array, expected = from_hdf5(paths, "g/x", chunks=chunks, **options), values(paths)
    assert (type(array), array.shape, array.dtype) == (da.Array, expected.shape, expected.dtype)
    assert set(accumulate(LENGTHS)) <= set(accumulate(array.chunks[0], initial=0))  # no block spans two files
    np.testing.assert_array_equal(array.compute(), expected)
    for index in ((slice(2, 19, 3), 1), (slice(None, None, -2), slice(None), 5), (-1,), ([0, 20, 3],)):
        np.testing.assert_array_equal(array[index].compute(scheduler="sync"), expected[index])
    blocks = dask.compute(*array.to_delayed(optimize_graph=False).ravel())
    assert sum(block.size for block in blocks) == expected.size
    assert open_objects() == 0


def test_small_files_are_a_block_each_and_large_ones_several(tmp_path: Path) -> None:
    small = [write(tmp_path / f"s{i}.h5", np.zeros((n, 64, 64)), chunks=(1, 32, 32)) for i, n in enumerate((4, 2))]
    assert from_hdf5(small, "g/x").chunks == ((4, 2), (64,), (64,))
    large = [write(tmp_path / f"l{i}.h5", np.zeros((16, 128, 256)), chunks=(1, 128, 256)) for i in range(2)]
    assert from_hdf5(large, "g/x").chunks == ((8, 8, 8, 8), (128,), (256,))  # as one file of the size of both


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_compute_opens_the_files_that_its_blocks_need_once_and_closes_them_before_anything_else(
    paths: list[Path], log: Log, scheduler: str
) -> None:
    array = from_hdf5(paths, "g/x", chunks=2)
    log.clear()

    def look(block: Any) -> Any:
        assert open_objects() == 0
        return block

    array[3:8].map_blocks(look).compute(scheduler=scheduler)
    assert (log.count("open"), log.count("close")) == (1, 1)
    log.clear()
    array.map_blocks(look).compute(scheduler=scheduler)
    assert (log.count("open"), log.count("close")) == (4, 4)  # one has no elements


def test_many_files_share_a_window_so_that_few_blocks_wait_where_all_are_combined(paths: list[Path]) -> None:
    array = from_hdf5(paths, "g/x", chunks=(1, -1, -1), window=4 * 5 * 4 * 6 * 4)  # four blocks for each file
    keys = dask.optimize(array)[0].__dask_graph__()
    assert sum(str(key).startswith("close-") for key in keys) == 6  # of 21 blocks


def test_arrays_of_many_files_share_an_open_file(paths: list[Path], log: Log) -> None:
    many = from_hdf5(paths, "g/x")
    log.clear()
    with open_source(H5Source.of(paths[2]), shared=True):  # as arrays of one file do
        many[3:8].compute()
        assert log.count("open") == 1


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(bytes(10))], ids=["gone", "replaced"])
@pytest.mark.parametrize("barrier", [True, False])
def test_a_file_that_changed_is_named(paths: list[Path], change: Callable[[Path], object], *, barrier: bool) -> None:
    array = from_hdf5(paths, "g/x", barrier=barrier)
    change(paths[2])
    with pytest.raises((SourceChangedError, SourceNotFoundError), match=r"2\.h5"):
        array.sum().compute()
    assert eventually(lambda: open_objects() == 0)
    assert array[-1, 0, 0].compute() == values(paths[4:])[-1, 0, 0]  # the others are read


def test_every_file_can_be_written_to_right_after_a_compute(paths: list[Path]) -> None:
    from_hdf5(paths, "g/x", barrier=False).sum().compute()
    for path in paths:
        with h5py.File(path, "r+") as file:
            file["new"] = 1


KINDS: dict[str, Any] = {
    "big-endian": np.arange(4, dtype=">i8").reshape(2, 2),
    "compound": np.array([(1, 2.0)] * 3, dtype=[("a", "i2"), ("b", "f8")]),
    "text": np.array(["a", "bc"], dtype=h5py.string_dtype()),
    "sequences": np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype(np.dtype("i4"))),
    "nested": np.array([(b"a", 1), (b"b", 2)], dtype=[("a", h5py.string_dtype()), ("b", "i4")]),
    "enumeration": np.array([0, 1], dtype=h5py.enum_dtype({"off": 0, "on": 1}, "u1")),
    "array type": np.ones((2, 3), dtype="f4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_type_is_joined(tmp_path: Path, kind: str) -> None:
    data = KINDS[kind]
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    for path in paths:
        with h5py.File(path, "w") as file:
            dtype = np.dtype(("f4", (3,))) if kind == "array type" else data.dtype
            shape = data.shape[:1] if kind == "array type" else data.shape
            file.create_dataset("g/x", shape, dtype)[...] = data
    array, expected = from_hdf5(paths, "g/x", chunks=1), values(paths)
    for scheduler in ("sync", "threads"):
        for value, same in zip(array.compute(scheduler=scheduler), expected, strict=True):
            np.testing.assert_array_equal(value, same)
    assert array.dtype == from_hdf5(paths[0], "g/x").dtype


def test_another_axis_and_one_file_and_one_file_twice(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.h5", np.arange(2 * n).reshape(2, n)) for n in (3, 1)]
    for axis in (1, -1):
        np.testing.assert_array_equal(from_hdf5(paths, "g/x", axis=axis), values(paths, 1))
    np.testing.assert_array_equal(from_hdf5((paths[0],), "g/x"), values(paths[:1]))
    np.testing.assert_array_equal(from_hdf5([paths[0]] * 2, "g/x"), values([paths[0]] * 2))


def test_files_and_datasets_that_the_caller_holds_are_joined_and_stay_open(paths: list[Path]) -> None:
    with h5py.File(paths[0]) as first, h5py.File(paths[2], "r+") as second:
        array = from_hdf5([first, second, paths[3]], "g/x")
        np.testing.assert_array_equal(array, values([paths[i] for i in (0, 2, 3)]))
        np.testing.assert_array_equal(from_hdf5([first["g/x"], second["g/x"]]), array[:8])
        assert first
        assert second


def test_urls_and_paths_are_joined_and_each_file_is_asked_for_once(paths: list[Path], tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        places = [paths[0], f"{server.url}/2.h5", f"{server.url}/4.h5"]
        array = from_hdf5(places, "g/x", chunks=2, storage_options={})
        np.testing.assert_array_equal(array, values([paths[i] for i in (0, 2, 4)]))
        np.testing.assert_array_equal(array[4:6, 0], values([paths[i] for i in (0, 2)])[4:6, 0])


@settings(max_examples=12)
@given(data=st.data())
def test_many_files_equal_xarray_and_concatenated_arrays(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    width, dtype = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["i2", ">f4", "f8"]))
    chunks = data.draw(st.sampled_from([None, {}, "auto", 1, (2, -1), {0: 3}]))
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.nc" for number in range(len(lengths))]
        for number, (path, length) in enumerate(zip(paths, lengths, strict=True)):
            stored = data.draw(st.sampled_from([None, (1, 1), (length, width), (min(2, length), width)]))
            encoding = {"chunksizes": stored, "zlib": data.draw(st.booleans())} if stored else {}
            rows = (np.arange(length * width).reshape(length, width) + 100 * number).astype(dtype)
            xr.Dataset({"x": (("time", "y"), rows, {}, encoding)}).to_netcdf(path, engine="h5netcdf")
        array = from_hdf5(paths, "x", chunks=chunks)
        with xr.open_mfdataset(
            paths, engine="h5netcdf", combine="nested", concat_dim="time", mask_and_scale=False, decode_times=False
        ) as expected:
            np.testing.assert_array_equal(array, expected["x"].values)
        joined = da.concatenate([from_hdf5(path, "x") for path in paths])
        index = data.draw(st.tuples(st.slices(sum(lengths)), st.slices(width)))
        np.testing.assert_array_equal(array[index], joined[index])
        assert array.dtype == from_hdf5(paths[0], "x").dtype


@pytest.mark.slow
@pytest.mark.parametrize("processes", [True, False])
def test_workers_read_many_files_and_leave_none_open(paths: list[Path], *, processes: bool) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": processes, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        for more in ({}, {"barrier": False}, {"window": 300}):
            array = from_hdf5(paths, "g/x", chunks=2, **more)
            np.testing.assert_array_equal((array + 1).compute(), values(paths) + 1)
        assert set(client.run(open_objects).values()) == {0}


@pytest.mark.slow
def test_processes_read_many_files(paths: list[Path]) -> None:
    array = from_hdf5(paths, "g/x", chunks=2)
    np.testing.assert_array_equal(array.compute(scheduler="processes", num_workers=2), values(paths))


def test_a_compute_does_not_read_what_it_has_overwritten_in_one_of_many_files(paths: list[Path]) -> None:
    reverse = from_hdf5([paths[0], paths[4]], "g/x", chunks=2, barrier=False)[:2:-1]
    with h5py.File(paths[4], "r+") as file:
        with pytest.raises(SourceChangedError, match=r"4\.h5: it would be overwritten"):
            da.store(reverse, file["g/x"], lock=False)
        other = file.create_dataset("other", data=file["g/x"])
        da.store(reverse, other, lock=False)
        np.testing.assert_array_equal(other, file["g/x"][()][::-1])


@pytest.mark.parametrize("first", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "i2", "c8", "f2"])
def test_numbers_in_another_order_of_bytes_are_joined_bit_for_bit(tmp_path: Path, first: str, kind: str) -> None:
    bits = np.random.default_rng(5).integers(0, 256, (3, 6, 4, np.dtype(kind).itemsize), np.uint8)  # NaN of all kinds
    orders, whole = (first, "<" if first == ">" else ">", first), bits.view(f"<{kind}")[..., 0]
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    options: list[dict[str, Any]] = [{"chunks": (2, 4), "compression": "gzip"}, {}, {"chunks": (4, 3), "shuffle": True}]
    for path, order, values, own in zip(paths, orders, whole, options, strict=True):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=to_order(values, order), **own).attrs["_FillValue"] = np.array(
                [7], f"{order}{kind}"
            )
            file["x"].dims[0].label = "time"
    expected = to_order(whole.reshape(18, 4), first)
    for array in (from_hdf5(paths, "x", chunks=(5, 3)), H5Store(paths, dim="time")["x"]):
        assert array.dtype == expected.dtype
        for part in (np.s_[:], np.s_[4:16:5, ::2], np.s_[7]):
            found = array[part].compute()
            assert (found.dtype, found.tobytes()) == (expected.dtype, expected[part].tobytes())


def to_order(values: np.ndarray[Any, Any], order: str) -> np.ndarray[Any, Any]:
    """Return the same bits of little-endian numbers in an order of bytes."""
    return values.copy() if order == "<" else values.byteswap().view(values.dtype.newbyteorder(">"))


# What cannot be joined.

JOIN, ALIKE = "; ZarrStore and combine join them", "; leave out files, or make them alike"

OTHERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "type": (np.zeros((2, 2), "f8"), {}, f"its type is <f8, not <f4{JOIN} with promote=True"),
    "type of packed": (
        np.zeros((2, 2), "f8"),
        {"units": "km", "scale_factor": 2.0},
        f"<f8, not <f4{JOIN} with unpack='float64'",
    ),
    "type without all values": (np.zeros((2, 2), "i8"), {}, f"its type is <i8, not <f4{ALIKE}"),
    "text": (np.zeros((2, 2), "S4"), {}, rf"its type is \|S4, not <f4{ALIKE}"),
    "compound": (np.zeros((2, 2), [("a", "f4")]), {}, f"its type is a at 0.*{ALIKE}"),
    "shape": (np.zeros((2, 3), "f4"), {}, rf"its shape is \(2, 3\).*{ALIKE}"),
    "axes": (np.zeros((2, 2, 1), "f4"), {}, r"its shape is \(2, 2, 1\)"),
    "units": (np.zeros((2, 2), "f4"), {"units": "m"}, f"units is 'm', not 'km'{ALIKE}"),
    "packing": (
        np.zeros((2, 2), "f4"),
        {"units": "km", "scale_factor": 2.0},
        f"scale_factor is 2.0, not absent{JOIN} with unpack='float64'",
    ),
    "packing in words": (np.zeros((2, 2), "f4"), {"units": "km", "scale_factor": "2"}, f"scale_factor is '2'.*{ALIKE}"),
    "scalar": (np.float32(0), {"units": "km"}, "its shape is"),
    "null": (h5py.Empty("f4"), {"units": "km"}, "no elements"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_dataset_that_differs_is_refused_with_its_file(tmp_path: Path, other: str) -> None:
    data, attributes, message = OTHERS[other]
    paths = [write(tmp_path / "first.h5", np.zeros((2, 2), "f4"))] * 3 + [write(tmp_path / "other.h5", data)]
    for path, attrs in ((paths[0], {"units": "km"}), (paths[3], attributes or {"units": "km"})):
        with h5py.File(path, "r+") as file:
            file["g/x"].attrs.update(attrs)
    with pytest.raises(UnsupportedError, match=message) as caught:
        from_hdf5(paths, "g/x")
    assert "other.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("units", "advice"), [("days since 2000-01-01", "where that is exact"), ("m", "make them alike")]
)
def test_bounds_have_the_units_of_their_coordinate(tmp_path: Path, units: str, advice: str) -> None:
    paths = [tmp_path / "first.h5", tmp_path / "other.h5"]
    for path, unit in zip(paths, ("hours since 2000-01-01", units), strict=True):
        with h5py.File(path, "w") as file:
            file["g/t"] = np.arange(2.0)
            file["g/t"].attrs.update(units=unit, bounds="t_bounds")
            file["g/t_bounds"] = np.zeros((2, 2))
            file["g/t_bounds"].dims[0].label = "time"
            file["g/gone"] = h5py.ExternalLink("gone.h5", "/x")
    message = f"units of t is '{units}', not 'hours since 2000-01-01'.*{advice}"
    with pytest.raises(UnsupportedError, match=message):
        from_hdf5(paths, "g/t_bounds")
    with pytest.raises(UnsupportedError, match=message):
        H5Store(paths, dim="time")["g/t_bounds"]
    with h5py.File(paths[1], "a") as file:
        file["g/t"].attrs.update(units="hours since 2000-01-01", calendar="gregorian")  # the one without a name
    assert from_hdf5(paths, "g/t_bounds").shape == (4, 2)
    assert from_hdf5(paths, "g/t").shape == (4,)


def test_a_pattern_in_place_of_a_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"\*\.h5: no such file; pass the files of a pattern as a list"):
        from_hdf5(tmp_path / "*.h5", "x")
    with pytest.raises(SourceNotFoundError, match=r"\*\.h5: no such file; .* as a list: fsspec\.open_files"):
        from_hdf5("memory://nowhere/*.h5", "x")
    with pytest.raises(OptionError, match=r"dim='time': this is for a list of files.*; .* as a list: sorted\(glob"):
        H5Store(tmp_path / "*.h5", dim="time")


def test_bad_lists_are_one_clear_error(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not an HDF5 file")
    with h5py.File(tmp_path / "scalar.h5", "w") as file:
        file["g/x"] = 1
        file["g/away"] = h5py.ExternalLink("0.h5", "/g/x")
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        ([], {}, OptionError, "the list of paths is empty"),
        ([paths[0], tmp_path / "no.h5"], {}, SourceNotFoundError, "no.h5: no such file"),
        ([paths[0], tmp_path / "text.h5"], {}, H5BoundError, "text.h5.*not an HDF5 file"),
        ([tmp_path / "scalar.h5"], {}, OptionError, "scalar.h5.*it has no axes"),
        (paths, {"axis": 3}, OptionError, "axis=3: it has 3 axes"),
        (paths, {"axis": -4}, OptionError, "axis=-4"),
        (paths, {"axis": "time"}, OptionError, "axis='time'"),
        (paths[0], {"axis": 1}, OptionError, "for a list of files"),
        (paths, {"chunks": ((21,), 4, 6)}, OptionError, "no block ends at 3 of axis 0, where a file ends"),
        (paths, {"chunks": (1, 2)}, OptionError, "sizes for 2 axes"),
        (paths, {"storage_options": {"a": 1}}, OptionError, "local path"),
        (paths, {"name": "g"}, DatasetNotFoundError, "0.h5 is a group"),
        ([paths[0], tmp_path / "scalar.h5"], {"name": "g/away"}, DatasetNotFoundError, "0.h5"),
        ([tmp_path / "scalar.h5"], {"name": "g/away"}, UnsafeSourceError, "allow_external"),
    ]
    for place, options, error, message in cases:
        with pytest.raises(error, match=message):
            from_hdf5(place, **{"name": "g/x", **options})
    with h5py.File(paths[3], "r+") as file:
        del file["g/x"]
    with pytest.raises(DatasetNotFoundError, match=r"3\.h5.*; ZarrStore and combine fill it in .* missing='fill'"):
        from_hdf5(paths, "g/x")
    assert open_objects() == 0


def test_datasets_behind_external_links_are_joined(paths: list[Path], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["g/x"] = h5py.ExternalLink("2.h5", "/g/x")
    array = from_hdf5([paths[0], tmp_path / "links.h5"], "g/x", allow_external=[tmp_path])
    np.testing.assert_array_equal(array, values([paths[0], paths[2]]))


def test_a_file_that_was_scanned_before_is_not_opened_until_it_changes(tmp_path: Path, log: Log) -> None:
    paths = [write(tmp_path / f"{n}.h5", np.arange(n)) for n in (2, 3, 4)]
    for path in paths:
        os.utime(path, (10**9, 10**9))
    with dask.config.set({"h5bound.cache": str(tmp_path / "cache")}):
        first = from_hdf5(paths, "g/x")
        log.clear()
        again = from_hdf5(paths, "g/x")
        assert log.count("open") == 1  # the first file says what the type is
        assert again.name == first.name
        np.testing.assert_array_equal(again, values(paths))
        paths[1].unlink()
        write(paths[1], np.arange(7))
        np.testing.assert_array_equal(from_hdf5(paths, "g/x"), values(paths))
        shutil.copy(paths[2], paths[1])
        os.utime(paths[1], (10**9, 10**9))
        assert from_hdf5(paths, "g/x").shape == (10,)
    assert not list(Path(h5bound.__file__).parent.glob("*.sqlite"))


# Stores of many files.


def write_month(path: Path, days: int, first: int, **changes: Any) -> Path:
    rows = np.arange(first, first + days)
    variables = {
        "time": ("time", rows, {"units": "days since 2000-01-01"}),
        "lat": ("lat", np.linspace(-1, 1, 3)),
        "t2m": (("time", "lat"), rows[:, None] + np.zeros(3, "f4"), {"units": "K"}),
        "mask": (("lat", "time"), np.ones((3, days), "i1")),
        "crs": ((), np.int32(7)),
        **changes,
    }
    dataset = xr.Dataset({name: variable for name, variable in variables.items() if variable is not None})
    dataset.to_netcdf(path, engine="h5netcdf", unlimited_dims=["time"])
    return path


@pytest.fixture
def months(tmp_path: Path) -> list[Path]:
    return [write_month(tmp_path / f"{n}.nc", days, n * 40) for n, days in enumerate((31, 28, 30))]


def test_a_store_of_many_files_equals_xarray(months: list[Path], log: Log) -> None:
    store = H5Store(months, dim="time")
    log.clear()
    with xr.open_mfdataset(
        months, engine="h5netcdf", combine="nested", concat_dim="time", decode_cf=False,
        data_vars="minimal", coords="minimal", compat="equals", join="exact",
    ) as expected:  # fmt: skip
        assert {name: array.shape for name, array in store.items()} == {
            name: expected[name].shape for name in ("time", "lat", "t2m", "mask", "crs")
        }
        log.clear()
        computed = dask.compute(dict(store))[0]
        assert (log.count("open"), log.count("close")) == (3, 3)  # of all variables together
        for name, value in computed.items():
            np.testing.assert_array_equal(value, expected[name].values)
            assert value.dtype == expected[name].dtype
    log.clear()
    assert store["lat"].compute().tolist() == [-1, 0, 1]
    assert log.count("open") == 1
    assert (store.attrs("t2m")["units"], store.dims("mask")) == ("K", ("lat", "time"))
    assert store["t2m"].numblocks == (3, 1)
    assert "0.nc and 2 more" in repr(store)
    assert "(89, 3)" in repr(store)
    assert open_objects() == 0


def test_the_reprs_say_which_datasets_some_files_lack(months: list[Path]) -> None:
    with h5py.File(months[1], "a") as file:
        del file["t2m"]
    store = H5Store(months, dim="time")
    assert "(31, 3) float64, only in 2 of 3 files" in repr(store)
    assert repr(store).count("only in") == store._repr_html_().count("only in") == 1


DIFFERENT: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "missing": ("t2m", {"t2m": None}, DatasetNotFoundError, "t2m"),
    "units": ("time", {"time": ("time", np.arange(5), {"units": "days since 2001-1-1"})}, UnsupportedError, "2001-1-1"),
    "values": ("lat", {"lat": ("lat", [0.0, 1.0, 2.0])}, UnsupportedError, "its values differ"),
    "scalar": ("crs", {"crs": ((), np.int32(8))}, UnsupportedError, "its values differ"),
    "axes": ("mask", {"mask": (("time", "lat"), np.ones((5, 3), "i1"))}, UnsupportedError, "its shape|its dimensions"),
    "no dimension": ("t2m", {"t2m": (("lat",), np.ones(3))}, UnsupportedError, "its shape"),
    "type": ("mask", {"mask": (("lat", "time"), np.ones((3, 5), "i2"))}, UnsupportedError, "its type is <i2"),
}


@pytest.mark.parametrize("case", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_in_a_file_of_a_store_is_told_when_it_is_accessed(
    months: list[Path], tmp_path: Path, case: tuple[str, dict[str, Any], type[Exception], str]
) -> None:
    name, changes, error, message = case
    odd = write_month(tmp_path / "odd.nc", 5, 200, **changes)
    store = H5Store([*months, odd], dim="time")
    with pytest.raises(error, match=message) as caught:
        store[name]
    assert "odd.nc" in str(caught.value)
    other = next(key for key in store if key not in (name, "lat", "crs"))
    assert 94 in store[other].shape


def test_groups_and_links_of_many_files_are_joined(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.h5" for n in range(2)]
    for n, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["g/x"] = np.arange(n + 2)
            file["g/x"].dims[0].label = "row"
            file["g/soft"] = h5py.SoftLink("/g/x")
            file["away"] = h5py.ExternalLink(f"{1 - n}.h5", "/g/x")
            file["group"] = h5py.ExternalLink(f"{1 - n}.h5", "/g")
            file["text"] = "abc"
    store = H5Store(paths, dim="row", allow_external=[tmp_path])
    assert store["g"]["x"].compute().tolist() == store["g/soft"].compute().tolist() == [0, 1, 0, 1, 2]
    assert store["away"].compute().tolist() == [0, 1, 2, 0, 1]
    assert store["text"].compute() == b"abc"
    with pytest.raises(UnsupportedError, match="a group of another file"):
        store["group"]
    with pytest.raises(DatasetNotFoundError, match="similar names: 'g/x'"):
        store["x"]
    with h5py.File(paths[0]) as first, h5py.File(paths[1]) as second:
        assert H5Store([first["g"], second["g"]], dim="row")["x"].shape == (5,)
    assert open_objects() == 0


def test_bad_arguments_of_a_store_of_many_files_are_refused(months: list[Path]) -> None:
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (months, {}, OptionError, "dim=None: pass the name"),
        (months, {"dim": "day"}, OptionError, "no dataset of .*0.nc has a dimension of this name; there are lat, time"),
        (months[0], {"dim": "time"}, OptionError, "for a list of files"),
        ([], {"dim": "time"}, OptionError, "empty"),
        ([months[0], "no.nc"], {"dim": "time"}, SourceNotFoundError, "no.nc"),
    ]
    for place, options, error, message in cases:
        with pytest.raises(error, match=message):
            H5Store(place, **options)


def test_the_user_says_how_many_files_are_open_at_a_time(paths: list[Path]) -> None:
    array = from_hdf5(paths, "g/x", max_open=2)
    np.testing.assert_array_equal(array.compute(), values(paths))
    for wrong in (0, True, "many"):
        with pytest.raises(OptionError, match="max_open="):
            from_hdf5(paths, "g/x", max_open=wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="for a list of files"):
        from_hdf5(paths[0], "g/x", max_open=2)


def test_files_that_cannot_be_opened_are_left_out_and_listed(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(4)]
    for path in paths[1:]:
        with h5py.File(path, "w") as file:
            file["t"] = np.arange(3) + int(path.stem)
            file["t"].dims[0].label = "time"
    paths[2].write_bytes(b"not HDF5")
    with pytest.raises(H5BoundError):
        H5Store(paths, dim="time")
    store = H5Store(paths, dim="time", skip_bad=True, max_open=1)
    assert store["t"].compute().tolist() == [1, 2, 3, 3, 4, 5]
    assert [item.path for item in store.bad] == [str(paths[0]), str(paths[2])]
    assert "(2 left out)" in repr(store)
    with pytest.raises(SourceNotFoundError):
        H5Store(paths[:1], dim="time", skip_bad=True)
    with pytest.raises(OptionError, match="list of files"):
        H5Store(paths[1], skip_bad=True)
