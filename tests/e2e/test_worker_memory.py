"""Workers with less memory than the data: what waits for a close must not fill it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask
import h5py
import pytest
from distributed import Client, LocalCluster

from h5bound import from_hdf5
from h5bound.graph import tasks
from h5bound.graph.clusters import largest_window
from tests.support.recorder import Log, count_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHOUT_SPILLING = {"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False}


def write_ones(path: Path, blocks: int) -> None:
    """Write a dataset of blocks of 4 MB, which take no room in the file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (blocks, 1000, 1000), "f4", chunks=(1, 1000, 1000), fillvalue=1)


@contextmanager
def one_worker(**options: Any) -> Iterator[tuple[Any, Client]]:
    """Yield a cluster of one worker, and its client."""
    with LocalCluster(n_workers=1, dashboard_address=":0", **options) as cluster, Client(cluster) as client:
        yield cluster, client


def spilled_nbytes(dask_worker: Any) -> int:
    return sum(getattr(dask_worker.data, "spilled_total", (0, 0)))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, WITHOUT_SPILLING], ids=["spilling", "without spilling"])
def test_a_compute_larger_than_the_memory_of_its_worker_ends(tmp_path: Path, settings: dict[str, Any]) -> None:
    write_ones(tmp_path / "a.h5", 100)
    with (
        dask.config.set({**settings, "distributed.worker.memory.terminate": False}),
        one_worker(threads_per_worker=2, processes=True, memory_limit="300 MB") as (_, client),
    ):
        array = from_hdf5(tmp_path / "a.h5", "x", chunks=(1, 1000, 1000), window="1 GiB")
        assert client.compute((array + 1).sum()).result(timeout=120) == 2 * array.size
        assert client.run(spilled_nbytes).popitem()[1] < 50e6


def test_a_window_is_at_most_a_quarter_of_the_memory_of_the_smallest_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ones(tmp_path / "a.h5", 10)
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    array = from_hdf5(tmp_path / "a.h5", "x", chunks=(1, 1000, 1000))
    with one_worker(threads_per_worker=1, processes=False, memory_limit="8 GB") as (cluster, _):
        assert largest_window(travelled=True) == largest_window(travelled=False) == 2_000_000_000
        cluster.scheduler.workers.values()[0].memory_limit = 32_000_000
        assert largest_window(travelled=True) == 8_000_000
        log.clear()
        assert array.sum().compute() == array.size
        assert log.count("open") == log.count("close") == 5


def test_a_block_that_a_worker_cannot_keep_is_read_after_the_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ones(tmp_path / "a.h5", 4)
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    array = from_hdf5(tmp_path / "a.h5", "x", chunks=(1, 1000, 1000))
    short = iter([False, True, False, True])
    monkeypatch.setattr(tasks, "is_short_of_memory", lambda: next(short))
    with one_worker(threads_per_worker=1, processes=False):
        log.clear()
        assert array.sum().compute() == array.size
    assert log.order() == ["open", "read", "read", "close", *["open", "read", "close"] * 2]
