"""Work units on the local scheduler."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback, normalize_callback
from dask.diagnostics import Profiler

from h5bound import convert, verify
from h5bound.conversion import spill
from h5bound.conversion.transfer import TRANSFER
from h5bound.execution import run, windows
from h5bound.execution.scheduler import count_threads, runs_on_threads
from h5bound.hdf5 import chunk_index

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,))
        file.create_dataset("y", data=np.arange(100), chunks=(10,), compression="gzip")
    return tmp_path / "a.h5"


def test_progress_counts_what_is_in_the_store(source: Path) -> None:
    """Windows of one chunk: at each call the chunks that are counted have been written."""
    target, told = source.with_suffix(".zarr"), []

    def progress(done: int, total: int) -> None:
        written = sum(len(list(target.glob(f"{name}/c/*"))) for name in "xy")
        told.append((done, total, written))

    convert(source, target, codecs="zstd", window=80, workers=1, progress=progress)
    assert [call[:2] for call in told] == [(80 * n, 1600) for n in range(1, 21)]
    assert all(80 * written >= done for done, _, written in told)
    assert told[0][2] < 20


def test_a_verification_is_the_second_half_of_one_progress(source: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(source, source.with_suffix(".zarr"), verify=True, progress=lambda *at: told.append(at))
    assert told == sorted(told)
    assert {total for _, total in told} == {told[-1][0]}
    whole, told[:] = told[-1], []
    convert(source, source.with_suffix(".zarr"), verify=True, resume=True, progress=lambda *at: told.append(at))
    assert told == sorted(told)
    assert told[-1] == (1600, 1600)  # nothing was written, all was compared
    assert whole[1] < 3200  # copied chunks count as they are stored


def test_callbacks_of_the_user_hear_of_a_conversion_in_the_main_thread_alone(source: Path) -> None:
    with Profiler() as profiler:
        convert(source, source.with_suffix(".zarr"))
    assert {str(result.key[0])[:5] for result in profiler.results if isinstance(result.key, tuple)} >= {
        "read-",
        "write",
    }
    with Profiler() as profiler, ThreadPoolExecutor(1) as pool:
        assert pool.submit(verify, source, source.with_suffix(".zarr")).result().equal
    assert not profiler.results


def test_a_conversion_leaves_the_callbacks_of_the_process_as_they_are(source: Path) -> None:
    seen: list[set[Any]] = []
    with Callback(start=[].append) as own:
        before = run.users_callbacks()
        convert(source, source.with_suffix(".zarr"), progress=lambda *_: seen.append(run.users_callbacks()))
    assert before == {normalize_callback(own)}
    assert seen
    assert all(callbacks == before for callbacks in seen)


def test_a_scheduler_that_knows_no_callbacks_is_told_of_at_the_end(source: Path) -> None:
    def get(graph: Any, keys: Any) -> Any:
        return dask.get(graph, keys)

    told: list[tuple[int, int]] = []
    with dask.config.set(scheduler=get):
        assert not runs_on_threads(None)
        convert(source, source.with_suffix(".zarr"), progress=lambda *at: told.append(at))
    assert told[-1][0] == told[-1][1] > 0
    assert verify(source, source.with_suffix(".zarr")).equal


def test_of_a_pool_of_the_user_the_size_is_used() -> None:
    with ThreadPoolExecutor(3) as executor, ThreadPool(5) as pool:
        for setting in ({"scheduler": executor}, {"pool": executor}, {"num_workers": 3}):
            with dask.config.set(setting):
                assert count_threads() == 3
                assert runs_on_threads(None)
        with dask.config.set(pool=pool):
            assert count_threads() == 5
    with dask.config.set(scheduler="processes"):
        assert count_threads() == 0


def test_stores_are_the_same_whether_units_run_at_once_in_threads_or_as_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,))
        file["y"] = np.arange(50.0)
    used: list[str] = []

    def note(name: str) -> None:
        function = getattr(run, name)

        def noted(*args: Any, **options: Any) -> list[Any]:
            used.append(name)
            result: list[Any] = function(*args, **options)
            return result

        monkeypatch.setattr(run, name, noted)

    for name in ("run_directly", "run_in_threads", "run_here"):
        note(name)
    xr.open_dataset(tmp_path / "a.h5", engine="h5bound").close()  # its callback is not one of the user's
    stores: list[dict[str, bytes]] = []
    convert(tmp_path / "a.h5", tmp_path / "0.zarr", verify=True)
    convert(tmp_path / "a.h5", tmp_path / "1.zarr", verify=True, workers=4)
    with Profiler():
        convert(tmp_path / "a.h5", tmp_path / "2.zarr", verify=True)
    assert used == ["run_directly"] * 2 + ["run_in_threads"] * 2 + ["run_here"] * 2
    for number in range(3):
        target = tmp_path / f"{number}.zarr"
        files = [path for path in target.rglob("*") if path.is_file()]
        stores.append({path.relative_to(target).as_posix(): path.read_bytes() for path in files})
    assert stores[0] == stores[1] == stores[2]


def test_keys_are_written_long_before_all_is_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 MiB in units of 8: by default a window has 64 MiB, far less than the setting."""
    with h5py.File(source, "w") as file:
        file["x"] = np.zeros((16, 2**20))
    events: list[str] = []

    def noted(name: str, function: Any) -> Any:
        def act(*args: Any) -> Any:
            events.append(name)
            return function(*args)

        return act

    noting = replace(TRANSFER, read=noted("read", TRANSFER.read), use=noted("write", TRANSFER.use))
    monkeypatch.setattr(spill, "TRANSFER", noting)
    convert(source, source.with_suffix(".zarr"), codecs="none", workers=2)
    assert events.count("read") == events.count("write") == 16
    assert events.index("write") < 12


def test_chunks_are_located_once_for_all_windows(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    located, index_chunks = [], chunk_index.index_chunks

    def note(*args: Any) -> Any:
        located.append(args)
        return index_chunks(*args)

    monkeypatch.setattr(chunk_index, "index_chunks", note)
    convert(source, source.with_suffix(".zarr"), codecs="zstd", window=160, workers=1)
    assert len(located) == 2  # of two datasets, beside the scan
    assert verify(source, source.with_suffix(".zarr")).equal


@pytest.mark.parametrize(("workers", "count"), [(1, 16), (4, 8), (100, 4)])
def test_a_window_is_a_share_of_the_data_and_has_a_unit_for_each_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, workers: int, count: int
) -> None:
    """32 chunks of 1 KiB: a sixteenth, a chunk for each thread, and at most half of 16 KiB; `verify` keeps nothing."""
    monkeypatch.setattr(windows, "MIN_WINDOW", 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(4096), chunks=(128,))
    options: Any = {"window": 16 << 10, "workers": workers}
    with caplog.at_level(logging.INFO, logger="h5bound.execution"):
        report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", codecs="zstd", **options)
        assert (report.windows, len(caplog.messages)) == (count, count)
        caplog.clear()
        assert verify(tmp_path / "a.h5", tmp_path / "a.zarr", **options).equal
        assert len(caplog.messages) == 2
