"""from_hdf5 and H5Store: arrays equal what h5py reads, and the file is open only while blocks are read."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dask
import dask.array as da
import dask.graph_manipulation
import h5py
import numpy as np
import pytest
import zarr
from dask.utils import key_split
from h5py import h5d, h5s, h5t

import h5bound
from h5bound import H5BoundError, H5Store, from_hdf5, from_resource
from h5bound.errors import (
    DatasetNotFoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.hdf5.chunk_index import ChunkIndex
from h5bound.reader.dataset_reader import DatasetReader
from tests.conftest import open_objects
from tests.support.recorder import Log, count_files, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SHAPE, CHUNKS = (40, 30), (5, 10)  # 24 blocks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two chunked datasets, one of them in a group."""
    path = tmp_path / "a.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name in ("x", "group/y"):
            file.create_dataset(name, data=rng.integers(0, 99, SHAPE), chunks=CHUNKS, compression="gzip", shuffle=True)
    return path


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    return log


def values(path: Path, name: str) -> Any:
    with h5py.File(path) as file:
        return file[name][()]


def test_the_array_is_a_plain_dask_array_and_the_file_is_closed(path: Path, log: Log) -> None:
    array = from_hdf5(path, "x", chunks={})
    assert type(array) is da.Array
    assert (array.shape, array.dtype, array.chunksize) == (SHAPE, np.dtype("int64"), CHUNKS)
    assert log.order() == ["open", "close"]
    assert open_objects() == 0


CASES = {
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j, 3 - 4j]),
    "big-endian": np.arange(5, dtype=">i4"),
    "float16": np.arange(5, dtype="f2"),
    "nan-payload": np.array([0x7FC00001, 0x7F800001], "u4").view("f4"),
    "fixed-string": np.array([b"a", b"bcd"]),
    "compound": np.array([(1, 2.5)], [("a", "i2"), ("b", "f8")]),
    "datetime": np.array(["2020-01-01"], "M8[s]").astype(h5py.opaque_dtype(np.dtype("M8[s]"))),
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 4)),
    "cube": np.arange(24).reshape(2, 3, 4),
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_what_is_read_is_what_h5py_reads(tmp_path: Path, data: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = data
    array = from_hdf5(tmp_path / "a.h5", "x")
    expected = np.asarray(values(tmp_path / "a.h5", "x"))
    result = array.compute()
    assert (array.shape, array.dtype) == (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert result.tobytes() == expected.tobytes()


def test_strings_of_any_length_are_what_h5py_reads(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=["a", "", "grüße"] * 10, chunks=(7,))
        file["scalar"] = "one"
    for name in ("x", "scalar"):
        array = from_hdf5(tmp_path / "a.h5", name, chunks={})
        expected = values(tmp_path / "a.h5", name)
        assert array.compute().tolist() == (expected.tolist() if name == "x" else expected)


def test_array_types_add_their_axes_at_the_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (7,), np.dtype(("f4", (3, 2))), chunks=(4,))
        dataset[:] = np.arange(42, dtype="f4").reshape(7, 3, 2)
    array = from_hdf5(tmp_path / "a.h5", "x", chunks={})
    assert array.chunks == ((4, 3), (3,), (2,))
    assert np.array_equal(array[1:6, 1].compute(), values(tmp_path / "a.h5", "x")[1:6, 1])


def test_array_types_of_array_types_add_all_their_axes(tmp_path: Path) -> None:
    kind = h5t.array_create(h5t.array_create(h5t.STD_I16LE, (2,)), (3,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = h5d.create(file.id, b"x", kind, h5s.create_simple((4,)))
        dataset.write(h5s.ALL, h5s.ALL, np.arange(24, dtype="<i2"), kind)
        want = file["x"][()]
    array = from_hdf5(tmp_path / "a.h5", "x", chunks=2)
    assert (array.shape, array.dtype) == (want.shape, want.dtype) == ((4, 3, 2), np.dtype("<i2"))
    np.testing.assert_array_equal(array.compute(), want)


def compute_all(array: da.Array) -> object:
    return array.compute()


def compute_unoptimized(array: da.Array) -> object:
    return array.compute(optimize_graph=False)


def to_zarr(array: da.Array) -> object:
    return array.to_zarr(zarr.storage.MemoryStore())


def store(array: da.Array) -> object:
    return da.store(array, np.zeros(array.shape), lock=False)


COMPUTES: dict[str, tuple[Callable[[da.Array], object], int]] = {
    "compute": (compute_all, 24),
    "one element": (lambda array: array[7, 7].compute(), 1),
    "slice across chunks": (lambda array: array[4:6, 9:11].compute(), 4),
    "sum": (lambda array: array.sum().compute(), 24),
    "mean of an axis": (lambda array: array[:5].mean(axis=0).compute(), 3),
    "persist": (lambda array: array.persist(), 24),
    "optimize_graph=False": (compute_unoptimized, 24),
    "store": (store, 24),
    "to_zarr": (to_zarr, 24),
    "delayed": (lambda array: dask.delayed(np.sum)(array[:5]).compute(), 3),
    "to_delayed": (lambda array: dask.compute(*array[:5].to_delayed().ravel()), 3),
    "delayed and array": (lambda array: dask.compute(array.to_delayed()[0, 0], array.sum()), 24),
    "clone": (lambda array: dask.graph_manipulation.clone(array).sum().compute(), 24),
    "bind": (lambda array: dask.graph_manipulation.bind(array, dask.delayed(1)).sum().compute(), 24),
    "wait_on": (lambda array: dask.graph_manipulation.wait_on(array[:5]).sum().compute(), 3),
    "rechunk": (lambda array: array.rechunk((40, 3)).sum().compute(), 24),
    "map_overlap": (lambda array: array.map_overlap(lambda block: block, depth=1).sum().compute(), 24),
    "itself transposed": (lambda array: (array[:30] + array[:30].T).sum().compute(), 18),
}


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("case", COMPUTES.values(), ids=COMPUTES)
def test_one_open_one_close_and_the_needed_blocks(
    path: Path, log: Log, case: tuple[Callable[[da.Array], object], int], scheduler: str
) -> None:
    compute, reads = case
    array = from_hdf5(path, "x", chunks={})
    log.clear()
    with dask.config.set(scheduler=scheduler):
        compute(array)
    assert (log.count("open"), log.count("read"), log.count("close")) == (1, reads, 1)
    assert log.order()[0] == "open"
    assert log.order()[-1] == "close"
    assert open_objects() == 0


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("barrier", [True, False])
def test_a_delayed_call_and_an_array_have_one_open_between_them(
    path: Path, log: Log, scheduler: str, barrier: bool
) -> None:
    array = from_hdf5(path, "x", chunks={}, barrier=barrier)
    log.clear()
    delayed = array[:3].to_delayed().ravel()[0]
    again, total, part = dask.compute(array.sum(), dask.delayed(np.sum)(array), delayed, scheduler=scheduler)
    assert total == again == values(path, "x").sum()
    assert np.array_equal(part, values(path, "x")[:3, : part.shape[1]])
    assert (log.count("open"), log.count("close")) == (1, 1)
    assert log.order()[-1] == "close"
    assert open_objects() == 0


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("barrier", [True, False])
def test_a_graph_that_is_not_culled_has_one_open_for_all_arrays(
    path: Path, log: Log, scheduler: str, barrier: bool
) -> None:
    store = H5Store(path, chunks={}, barrier=barrier)
    log.clear()
    with dask.config.set(scheduler=scheduler):
        x, y = dask.compute(store["x"].sum(), store["group/y"].max(), optimize_graph=False)
    assert (x, y) == (values(path, "x").sum(), values(path, "group/y").max())
    assert (log.count("open"), log.count("close")) == (1, 1)


def test_a_failure_between_two_closes_of_one_compute_closes(path: Path, log: Log) -> None:
    def fail(_block: object) -> None:
        raise ZeroDivisionError("downstream")

    array = from_hdf5(path, "x", chunks={})
    log.clear()
    with pytest.raises(ZeroDivisionError, match="downstream"):
        dask.compute(dask.delayed(fail)(array), array.sum(), scheduler="sync")
    assert open_objects() == 0
    assert log.count("open") == log.count("close") == 1
    assert array.sum().compute(scheduler="sync") == values(path, "x").sum()
    assert log.count("open") == log.count("close") == 2


def test_the_datasets_of_a_store_share_one_open_and_one_close(path: Path, log: Log) -> None:
    store = H5Store(path, chunks={})
    log.clear()
    for scheduler in ("sync", "threads"):
        x, y = dask.compute(store["x"].sum(), store["group/y"][:10].mean(), scheduler=scheduler)
        assert (x, y) == (values(path, "x").sum(), values(path, "group/y")[:10].mean())
        assert (log.count("open"), log.count("read"), log.count("close")) == (1, 24 + 6, 1)
        log.clear()


def test_two_arrays_of_one_file_share_one_open_and_one_close(path: Path, log: Log) -> None:
    x, y = from_hdf5(path, "x", chunks={}), from_hdf5(path, "group/y", chunks={})
    log.clear()
    difference = (x - y).sum().compute()
    assert difference == values(path, "x").sum() - values(path, "group/y").sum()
    assert (log.count("open"), log.count("read"), log.count("close")) == (1, 48, 1)


def test_a_store_is_written_with_one_open_and_closed_before_the_first_write(path: Path, log: Log) -> None:
    class Target:
        def __setitem__(self, region: object, block: object) -> None:
            log.add("write")

    store = H5Store(path, chunks={})
    log.clear()
    da.store([store["x"], store["group/y"]], [Target(), Target()], lock=False)
    assert log.order() == ["open", *["read"] * 48, "close", *["write"] * 48]


def test_two_threads_that_compute_one_array_share_it(path: Path, log: Log) -> None:
    array = from_hdf5(path, "x", chunks={})
    log.clear()
    results: list[int] = []
    gate = threading.Barrier(2)

    def compute() -> None:
        gate.wait()
        results.append(int(array.sum().compute(scheduler="threads")))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [values(path, "x").sum()] * 2
    assert log.count("open") == log.count("close") <= 2
    assert log.count("read") == 48
    assert open_objects() == 0


@pytest.mark.slow
def test_two_hundred_computes_leave_no_descriptor(path: Path) -> None:
    array = from_hdf5(path, "x", chunks={})
    array.compute()
    for _ in range(200):
        array[3:9].sum().compute(scheduler="sync")
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert str(path.resolve()) not in opened


def test_without_a_barrier_the_file_is_closed_before_compute_returns(path: Path, log: Log) -> None:
    array = from_hdf5(path, "x", chunks={}, barrier=False)
    for region in (np.s_[:], np.s_[3:9, 4]):
        log.clear()
        assert np.array_equal(array[region].compute(), values(path, "x")[region])
        assert (log.count("open"), log.count("close")) == (1, 1)
        assert open_objects() == 0


def test_every_window_opens_and_closes_the_file(path: Path, log: Log) -> None:
    array = from_hdf5(path, "x", chunks={}, window=6 * 400)
    log.clear()
    for scheduler in ("sync", "threads"):
        assert array.sum().compute(scheduler=scheduler) == values(path, "x").sum()
        assert (log.count("open"), log.count("read"), log.count("close")) == (4, 24, 4)
        log.clear()


def test_the_default_window_is_a_dask_setting(path: Path, log: Log) -> None:
    with dask.config.set({"h5bound.window": "2400 B"}):
        array = from_hdf5(path, "x", chunks={})
    log.clear()
    array.compute(scheduler="sync")
    assert log.count("open") == 4
    with pytest.raises(ValueError, match="window=0"):
        from_hdf5(path, "x", window=0)
    with dask.config.set({"h5bound.window": "much"}), pytest.raises(OptionError, match=r"^h5bound.window='much' is no"):
        from_hdf5(path, "x")


@pytest.mark.slow
def test_query_planning_gives_the_same_values_with_one_open_and_one_close(path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import dask
        dask.config.set({{"array.query-planning": True}})
        import dask.array as da, h5py
        from h5bound import H5Store, from_hdf5
        from tests.support.recorder import Log, install_counters
        from pathlib import Path
        log = Log(Path({str(path.parent / "log")!r}))
        install_counters(log)
        array = from_hdf5({str(path)!r}, "x", chunks={{}})
        assert type(array) is da.Array and hasattr(array, "expr")
        with h5py.File({str(path)!r}) as file:
            x = file["x"][()]
        store = H5Store({str(path)!r}, chunks={{}})
        both = lambda: sum(dask.compute(store["x"].sum(), store["x"].max(), scheduler="sync"))
        for compute in (lambda: (array + 1).sum().compute(), lambda: array[3:9, 4].compute().sum(), both):
            log.clear()
            print(int(compute()), log.count("open"), log.count("close"))
        print(int((x + 1).sum()), int(x[3:9, 4].sum()), int(x.sum() + x.max()))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    *found, expected = (line.split() for line in done.stdout.splitlines())
    assert found == [[value, "1", "1"] for value in expected]


# A File that the caller holds.


def test_a_file_that_the_caller_holds_stays_open(path: Path, log: Log) -> None:
    with h5py.File(path) as file:
        array = from_hdf5(file, "x", chunks={})
        assert array.sum().compute() == file["x"][()].sum()
        assert file
        assert log.count("open") == 0


def test_a_file_closed_since_is_opened_by_name_and_closed(path: Path, log: Log) -> None:
    with h5py.File(path) as file:
        array = from_hdf5(file, "x", chunks={})
    assert array.sum().compute() == values(path, "x").sum()
    assert (log.count("open"), log.count("close")) == (1, 1)


def test_a_file_held_for_writing_is_read_and_may_then_be_closed(tmp_path: Path, log: Log) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,))
        array = from_hdf5(file, "x", chunks={})
        assert array.sum().compute() == 4950
    assert array.sum().compute() == 4950
    assert (log.count("open"), log.count("close")) == (1, 1)


def test_a_dataset_reshaped_by_whoever_held_the_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,), maxshape=(None,))
        array, gone = from_hdf5(file, "x", chunks={}), from_hdf5(file, "x", chunks=7)
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        file["x"].resize((50,))
    with pytest.raises(SourceChangedError, match=r"shape \(100,\).*has \(50,\)"):
        array[:5].compute()
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["x"]
    with pytest.raises(SourceChangedError, match="is gone"):
        gone[:5].compute()


def test_a_file_in_memory_is_read_while_it_is_open(log: Log) -> None:
    with h5py.File(BytesIO(), "w") as file:
        file["x"] = np.arange(10)
        array = from_hdf5(file, "x")
        assert array.sum().compute() == 45
        with pytest.raises(UnsupportedError, match="cannot be sent to another"):
            pickle.dumps(array)
    with pytest.raises(H5BoundError, match="keep it open"):
        array.compute()


def test_a_closed_file_cannot_be_described(path: Path) -> None:
    file = h5py.File(path)
    file.close()
    with pytest.raises(H5BoundError, match="pass its path"):
        from_hdf5(file, "x")


# An open dataset or group.


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_an_open_dataset_is_read_through_the_file_of_the_caller(path: Path, mode: str, closed: bool, log: Log) -> None:
    with h5py.File(path, mode) as file:
        array, other = from_hdf5(file["group/y"]), from_hdf5(file["group"], "y")
        assert array.name == other.name == from_hdf5(file, "group/y").name
        assert array.name == from_hdf5(file["group"], "/group/y").name == from_hdf5(file, b"group/y").name  # type: ignore[arg-type]
        if not closed:
            np.testing.assert_array_equal(array.compute(), file["group/y"][()])
            assert file
            assert log.count("open") == 0
    if closed:
        np.testing.assert_array_equal(array.compute(), values(path, "group/y"))
        assert (log.count("open"), log.count("close")) == (1, 1)
    assert open_objects() == 0


def test_an_open_dataset_does_not_keep_its_file_open(path: Path) -> None:
    array = from_hdf5(h5py.File(path)["x"], chunks={})
    assert open_objects() == 0
    assert array.sum().compute() == values(path, "x").sum()


def test_an_open_dataset_of_a_file_in_memory_is_read(log: Log) -> None:
    with h5py.File(BytesIO(), "w") as file:
        file["x"] = np.arange(10)
        assert from_hdf5(file["x"]).sum().compute() == 45


def test_a_dataset_and_its_name_are_not_passed_both_or_not_at_all(path: Path) -> None:
    with h5py.File(path) as file:
        dataset = file["x"]
        with pytest.raises(OptionError, match=r"'/x' was passed itself; leave the name out"):
            from_hdf5(dataset, "x")
        with pytest.raises(OptionError, match=r"name=None: pass the path of a dataset"):
            from_hdf5(file)
        with pytest.raises(DatasetNotFoundError, match=r"nothing is at '/group/z'; its group holds 'y'"):
            from_hdf5(file["group"], "z")
    with pytest.raises(OptionError, match=r"name=None.*a\.h5"):
        from_hdf5(path)
    with pytest.raises(OptionError, match=r"name=3: the path of a dataset is text"):
        from_hdf5(path, 3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"name=None.*a\.h5") as caught:
        from_hdf5("https://user:secret@example.org/a.h5?sig=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(H5BoundError, match=r"the h5py\.Dataset is closed.*pass its path"):
        from_hdf5(dataset)
    with h5py.File(path, "r+") as file:
        unnamed = file.create_dataset(None, data=[1])
        with pytest.raises(OptionError, match=r"no path in its file"):
            from_hdf5(unnamed)


# The name of the array.


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("temperature", "wait_on:temperature"),
        ("entry/HT_2", "wait_on:HT_2"),
        ("a-b (m)", "wait_on:a_b_m"),
        ("grüße", "wait_on:grüße"),
        ("%%", "wait_on"),
        ("\udcff", "wait_on"),
        ("0" * 99, "wait_on:" + "0" * 30),
    ],
)
def test_the_name_of_an_array_tells_its_dataset(tmp_path: Path, name: str, label: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[os.fsencode(name)] = np.arange(6)
    array = from_hdf5(tmp_path / "a.h5", name)
    assert f"dask.array<{label}, shape=(6,)" in repr(array)
    assert key_split(array.name) == label
    assert array.name == from_hdf5(tmp_path / "a.h5", name).name
    assert key_split(from_hdf5(tmp_path / "a.h5", name, barrier=False).name) == label.replace("wait_on", "read")
    assert key_split(dask.graph_manipulation.clone(array).name) == label
    assert array.sum().compute() == 15


# A file that changes.


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def edit(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["x"][0, 0] += 1


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [replace, edit, truncate, Path.unlink])
def test_a_file_changed_before_the_compute_is_refused(path: Path, change: Callable[[Path], None]) -> None:
    array = from_hdf5(path, "x", chunks={})
    change(path)
    with pytest.raises((SourceChangedError, SourceNotFoundError), match=r"a\.h5"):
        array.compute()
    assert open_objects() == 0


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("barrier", [True, False], ids=["barrier", "no barrier"])
@pytest.mark.parametrize("change", [replace, truncate, Path.unlink])
def test_a_file_changed_during_the_compute_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], barrier: bool, scheduler: str
) -> None:
    method = "read_encoded" if barrier else "read"
    read = getattr(DatasetReader, method)
    reads: list[object] = []

    def change_at_the_third(reader: DatasetReader, region: Any) -> Any:
        reads.append(region)
        if len(reads) == 3:
            change(path)
        return read(reader, region)

    monkeypatch.setattr(DatasetReader, method, change_at_the_third)
    array = from_hdf5(path, "x", chunks={}, barrier=barrier)
    with pytest.raises((SourceChangedError, SourceNotFoundError), match=r"a\.h5"):
        array.compute(scheduler=scheduler)
    assert eventually(lambda: open_objects() == 0)  # with the last block in flight


# Bad input.


def test_bad_input_is_one_clear_error_before_any_task(tmp_path: Path, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["null"] = h5py.Empty("f4")
        file["away"] = h5py.ExternalLink("other.h5", "/x")
        named = h5py.h5t.create(h5py.h5t.COMPOUND, 4)
        named.insert(b"\xff", 0, h5py.h5t.STD_I32LE)
        h5py.h5d.create(file.id, b"name", named, h5py.h5s.create_simple((2,)))
        file["type"] = np.dtype("f8")
    (tmp_path / "text.h5").write_text("not an HDF5 file")
    (tmp_path / "empty.h5").touch()
    cases: list[tuple[Any, str, type[Exception], str]] = [
        (tmp_path / "missing.h5", "x", SourceNotFoundError, "missing.h5: no such file"),
        (tmp_path, "x", H5BoundError, "a directory"),
        (tmp_path / "text.h5", "x", H5BoundError, "not an HDF5 file"),
        (tmp_path / "empty.h5", "x", H5BoundError, "not an HDF5 file"),
        ("nosuch://bucket/a.h5", "x", H5BoundError, "Protocol not known: nosuch"),
        (path, "z", DatasetNotFoundError, "'z'"),
        (path, "x/y", DatasetNotFoundError, "'x/y'"),
        (path, "group", DatasetNotFoundError, "is a group, not a dataset; it holds y"),
        (path, "type", DatasetNotFoundError, "a committed type"),
        (path, "null", UnsupportedError, "null dataspace"),
        (path, "name", UnsupportedError, "'/name'"),
        (path, "away", UnsafeSourceError, "other.h5"),
    ]
    for source, name, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            from_hdf5(source, name)
        assert isinstance(caught.value, H5BoundError)
        assert len(caught.value.args) == 1
    store = H5Store(path)
    with pytest.raises(DatasetNotFoundError, match="its group holds"):
        store["z"]
    assert open_objects() == 0


def test_a_virtual_dataset_is_read_and_refused_when_its_source_is_gone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["x"] = np.arange(10)
    layout = h5py.VirtualLayout((10,), "int64")
    layout[:] = h5py.VirtualSource("part.h5", "x", (10,))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_virtual_dataset("x", layout, fillvalue=-1)
    assert from_hdf5(tmp_path / "whole.h5", "x", allow_external=[tmp_path]).sum().compute() == 45
    assert H5Store(tmp_path / "whole.h5", allow_external=[tmp_path])["x"].sum().compute() == 45
    (tmp_path / "part.h5").unlink()
    with pytest.raises(SourceNotFoundError, match=r"part\.h5"):
        from_hdf5(tmp_path / "whole.h5", "x", allow_external=[tmp_path])


def test_a_file_locked_by_a_writer_names_the_way_out(path: Path) -> None:
    script = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(H5BoundError, match="HDF5_USE_FILE_LOCKING"):
            from_hdf5(path, "x")
        writer.communicate("")
    assert from_hdf5(path, "x", chunks={}).sum().compute() == values(path, "x").sum()


def test_a_file_of_a_quadrillion_declared_bytes_is_refused_and_one_of_many_chunks_is_not(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("x", (1 << 50,), "u1", chunks=(1 << 20,))
    with pytest.raises(UnsafeSourceError, match=r"bomb\.h5.*1,000,000.*auto"):
        from_hdf5(tmp_path / "bomb.h5", "x")
    assert from_hdf5(tmp_path / "bomb.h5", "x", chunks=1 << 40).shape == (1 << 50,)


def test_a_name_is_taken_as_it_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
        h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((2,)))
        file["group/\xe9t\xe9"] = np.arange(4)
    assert from_hdf5(tmp_path / "a.h5", "\udcff\udcfe").sum().compute() == 0
    assert H5Store(tmp_path / "a.h5")["\udcff\udcfe"].shape == (2,)
    assert from_hdf5(tmp_path / "a.h5", "group/\xe9t\xe9").sum().compute() == 6
    with pytest.raises(DatasetNotFoundError, match="a group"):
        from_hdf5(tmp_path / "a.h5", "/")
    with pytest.raises(DatasetNotFoundError, match="null character"):
        from_hdf5(tmp_path / "a.h5", "x\0y")
    assert from_hdf5(f"file://{tmp_path}/a.h5", "x").sum().compute() == 3
    assert from_hdf5(os.fsencode(tmp_path / "a.h5"), "x").sum().compute() == 3


# The store as a mapping.


def test_every_link_to_a_dataset_is_a_name_of_a_store(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperature"] = np.arange(3)
        file["alias"] = file["temperature"]
        file["soft"] = h5py.SoftLink("/temperature")
    store = H5Store(tmp_path / "a.h5")
    assert list(store) == ["alias"]
    for name in ("alias", "temperature", "soft", "./soft"):
        assert store[name].sum().compute() == 3


def test_a_store_is_a_mapping_of_paths(path: Path) -> None:
    store = H5Store(path, chunks={0: -1}, barrier=False)
    assert list(store) == ["group/y", "x"]
    assert len(store) == 2
    assert "x" in store
    assert "/x" in store
    assert 3 not in store  # type: ignore[comparison-overlap]
    assert store["/x"].name == store["x"].name
    assert store == store
    assert store != H5Store(path)
    assert {store: 1}[store] == 1
    assert {name: array.chunksize for name, array in store.items()} == {"x": (40, 30), "group/y": (40, 30)}
    assert "2 datasets" in repr(store)


def test_arrays_of_one_resource_that_are_read_otherwise_are_not_taken_for_each_other() -> None:
    class Named:
        def __dask_tokenize__(self) -> str:
            return "named"

        def open(self) -> None: ...
        def close(self) -> None: ...

    named = Named()
    zeros, ones = (
        from_resource(named, lambda value=value: np.full(2, value), chunks=((2, 2),), dtype="i8") for value in (0, 1)
    )
    assert zeros.name != ones.name
    assert dask.compute(zeros.sum(), ones.sum()) == (0, 4)
    assert (ones - zeros).sum().compute() == 4


def test_a_store_has_names_that_it_cannot_give_arrays_of(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["null"] = h5py.Empty("f4")
    store = H5Store(tmp_path / "a.h5")
    assert "null" in store
    assert "none" not in store
    with pytest.raises(UnsupportedError, match="null"):
        store["null"]


def test_a_compute_of_many_small_blocks_indexes_their_chunks_at_once(tmp_path: Path) -> None:
    values = np.arange(4000).reshape(40, 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 1))
    array = from_hdf5(tmp_path / "x.h5", "x", chunks=(1, 20))
    with patch.object(ChunkIndex, "look_up", autospec=True, side_effect=ChunkIndex.look_up) as asked:
        assert (array.compute() == values).all()
        assert not asked.called
        assert (array[3:5].compute() == values[3:5]).all()
        assert asked.call_count == 200  # of 4,000


def test_a_block_is_read_by_a_few_nested_calls(path: Path) -> None:
    array = from_hdf5(path, "x", chunks={})
    package = str(Path(h5bound.__file__).parent)

    def is_ours(frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(package)

    deepest: dict[str, list[list[str]]] = {"read_block": [], "wait_on": []}  # of each task, from the task on

    def record(frame: FrameType, event: str, _argument: object) -> None:
        calls: list[str] = []
        caller: FrameType | None = frame if event == "call" and is_ours(frame) else None
        while caller is not None:
            if is_ours(caller):
                calls.insert(0, caller.f_code.co_qualname)
            caller = caller.f_back
        tasks = deepest.get(calls[0], []) if calls else []
        if len(calls) == 1:
            tasks.append(calls)
        elif tasks:
            tasks[-1] = max(tasks[-1], calls, key=len)

    sys.setprofile(record)
    try:
        array.compute(scheduler="sync")
    finally:
        sys.setprofile(None)
    for tasks in deepest.values():
        assert len(tasks) == 24
        assert median(map(len, tasks)) <= 8, sorted(tasks, key=len)[12]  # the first block also makes the reader
