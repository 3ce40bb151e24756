"""How large windows are, and what they and the blocks of several files keep in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import dask.system
import h5py
import numpy as np
import pytest
from distributed import Client, LocalCluster

from bench.live_blocks import NBYTES, OPERATIONS, count_live, open_array
from h5bound import from_hdf5, from_resource
from h5bound.hdf5 import chunk_index
from tests.support.recorder import FileReader, Log, count_files

if TYPE_CHECKING:
    from pathlib import Path

MiB = 2**20
FILES, BLOCKS = 12, 32


def count(options: dict[str, Any] | None, operation: str) -> int:
    return count_live(options, operation, files=FILES, blocks=BLOCKS)


@pytest.mark.parametrize("options", [{"window": NBYTES}, {"window": NBYTES * BLOCKS // 4}, {"barrier": False}], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_blocks_of_several_files_are_read_in_the_order_in_which_they_are_combined(
    operation: str, options: dict[str, Any]
) -> None:
    with dask.config.set(scheduler="threads", num_workers=2):
        assert count(options, operation) <= 2 * count(None, operation)


@pytest.mark.parametrize("options", [{"window": NBYTES}, {"barrier": False}], ids=str)
def test_a_cluster_combines_blocks_of_several_files_in_the_same_order(options: dict[str, Any]) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        assert count(options, "mean of blocks") <= 4 * FILES


def test_files_that_are_read_together_share_a_window() -> None:
    window = 24 * NBYTES
    arrays = [open_array({"window": window}, BLOCKS) for _ in range(FILES)]
    assert count_closes(arrays[0]) == 2
    assert count_closes(da.stack(arrays)) == FILES * BLOCKS // (24 // FILES)
    assert count_closes(da.stack(arrays)[3]) == 2  # the others are not read
    assert count_closes(da.stack(arrays)[:, :24]) == FILES  # what fits into a window is read at once
    assert count_closes(da.stack([open_array({"window": 32 * NBYTES}, 64) for _ in range(20)])) == 20 * 64 // 2
    with dask.config.set(scheduler="threads", num_workers=2):
        assert count({"window": window}, "mean of blocks") <= FILES * 2 + 12


def count_closes(array: da.Array) -> int:
    """Return the number of windows of a compute."""
    (graph,) = dask.optimize(array)
    return sum(str(key).startswith("close") for key in graph.__dask_graph__())


def test_a_compute_of_a_prepared_graph_that_failed_can_be_repeated(tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log", fail_at=(3, 3))
    array = from_resource(reader, reader.read_block, chunks=((2,) * 8, (3,) * 8), dtype="int64", window=4 * 48)
    (prepared,) = dask.optimize(array)
    with pytest.raises(ZeroDivisionError):
        prepared.compute(scheduler="threads")
    reader.fail_at = None
    for _ in range(2):
        assert prepared.sum().compute(scheduler="threads") == 2 * 3 * sum(i + j for i in range(8) for j in range(8))
        assert reader.log.count("open") == reader.log.count("close")
    reader.log.clear()
    assert prepared[0, 0].compute(scheduler="threads") == 0
    assert (reader.log.count("open"), reader.log.count("close")) == (1, 1)


@pytest.mark.parametrize(
    ("nbytes", "options", "windows"),
    [
        (128 * MiB, {}, 1),
        (130 * MiB, {}, 2),
        (130 * MiB, {"window": "1 GiB"}, 1),
        (32 * 128 * MiB, {}, 16),
        (32 * 2048 * MiB, {}, 64),
        (130 * MiB, {"barrier": False}, 1),
    ],
)
def test_the_default_window_is_a_share_of_what_a_compute_reads(
    nbytes: int, options: dict[str, Any], windows: int, tmp_path: Path
) -> None:
    reader = FileReader(tmp_path / "log")
    sizes = (nbytes // MiB,)
    count = sizes[0] // 2 if sizes[0] < 10_000 else sizes[0] // 64
    array = from_resource(reader, reader.read_block, chunks=((nbytes // count,) * count,), dtype="u1", **options)
    with dask.config.set(num_workers=2):
        assert count_closes(array) == windows


@pytest.mark.parametrize("setting", ["num_workers", "pool", "scheduler"])
@pytest.mark.parametrize(("threads", "windows"), [(1, 24), (2, 12), (3, 8), (30, 3)])
def test_each_thread_has_a_large_block_in_a_window(tmp_path: Path, setting: str, threads: int, windows: int) -> None:
    """24 blocks of 100 MiB: 10 of them fit into 1 GiB."""
    reader = FileReader(tmp_path / "log")
    array = from_resource(reader, reader.read_block, chunks=((100 * MiB,) * 24,), dtype="u1")
    with (
        ThreadPoolExecutor(threads) as pool,
        dask.config.set({setting: threads if setting == "num_workers" else pool}),
    ):
        assert count_closes(array) == windows


def test_several_sources_together_have_a_large_block_for_each_thread(tmp_path: Path) -> None:
    readers = [FileReader(tmp_path / f"{number}") for number in range(4)]
    arrays = [from_resource(one, one.read_block, chunks=((100 * MiB,) * 8,), dtype="u1") for one in readers]
    for threads, windows in ((2, 32), (8, 16), (30, 16)):  # two blocks of each: 256 MiB are its share of 1 GiB
        with dask.config.set(num_workers=threads):
            assert count_closes(da.stack(arrays)) == windows


def test_the_chunks_of_a_dataset_are_located_once_for_all_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(4096), chunks=(16,))
    array = from_hdf5(tmp_path / "a.h5", "x", chunks=256, window=2048)
    found: list[int] = []
    find = chunk_index.index_chunks

    def find_counted(*args: Any) -> Any:
        found.append(1)
        return find(*args)

    monkeypatch.setattr(chunk_index, "index_chunks", find_counted)
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    for scheduler in ("sync", "threads"):
        log.clear()
        found.clear()
        assert array.sum().compute(scheduler=scheduler) == 4096 * 4095 // 2
        assert log.count("open") == log.count("close") == 16
        assert 1 <= len(found) <= dask.system.CPU_COUNT  # by the windows that are read at the same time
