"""Every scheduler: who opens and closes a source, in which order, and what stays open after a failure."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster, wait

from h5bound import from_hdf5, from_resource
from h5bound.errors import SourceChangedError
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.source import H5Source
from tests.support.recorder import FileReader, Log, eventually, install_counters

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

GRID = ((2,) * 8, (3,) * 8)  # 64 blocks of 48 bytes
TOTAL = 6 * sum(i + j for i in range(8) for j in range(8))


def make_dask_array(reader: FileReader, **options: Any) -> da.Array:
    return from_resource(reader, reader.read_block, chunks=GRID, dtype="int64", **options)


@pytest.fixture
def reader(tmp_path: Path) -> FileReader:
    return FileReader(tmp_path / "log")


# The question that started it all.


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("options", [{}, {"barrier": False}, {"window": 480}], ids=str)
def test_a_reader_that_must_be_open_works_as_a_plain_array(
    reader: FileReader, scheduler: str, options: dict[str, Any]
) -> None:
    array = make_dask_array(reader, **options)
    assert type(array) is da.Array
    assert reader.log.lines() == []
    with dask.config.set(scheduler=scheduler):
        assert array.sum().compute() == TOTAL
        assert array[3, 4].compute() == 2
    assert reader.log.count("read") == 64 + 1
    assert reader.log.count("open") == reader.log.count("close")
    assert reader.log.order()[0] == "open"
    assert reader.log.order()[-1] == "close"


def test_block_keywords_are_those_of_map_blocks(reader: FileReader) -> None:
    seen = {}

    def read(block_id: tuple[int, ...], block_info: dict[Any, Any]) -> Any:
        seen[block_id] = block_info[None]
        return np.zeros(block_info[None]["chunk-shape"])

    expected = {}

    def mapped(block_id: tuple[int, ...], block_info: dict[Any, Any]) -> Any:
        expected[block_id] = block_info[None]
        return np.zeros(block_info[None]["chunk-shape"])

    chunks = ((2, 3), (4, 1))
    from_resource(reader, read, chunks=chunks, dtype="f8").compute()
    da.map_blocks(mapped, chunks=chunks, dtype="f8", meta=np.empty((0, 0))).compute()
    assert seen == expected


def test_a_reader_may_take_no_keyword(reader: FileReader) -> None:
    array = from_resource(reader, lambda: np.ones(4), chunks=(4,), dtype="f8")
    assert array.sum().compute() == 4


def test_a_reader_of_any_keywords_takes_those_of_a_block(reader: FileReader) -> None:
    array = from_resource(reader, lambda **keywords: np.full(1, len(keywords)), chunks=((1, 1),), dtype="i8")
    assert array.compute().tolist() == [2, 2]


def test_a_plain_number_is_one_block(reader: FileReader) -> None:
    assert from_resource(reader, np.ones, chunks=(4, (1, 2)), dtype="f8").chunks == ((4,), (1, 2))


def test_what_cannot_be_a_resource_is_refused_at_once(reader: FileReader) -> None:
    for resource, read in ((object(), np.ones), (reader, 3)):
        with pytest.raises(TypeError, match=r"needs the methods open|must be a function"):
            from_resource(resource, read, chunks=(4,), dtype="f8")  # type: ignore[arg-type]
    for chunks in (4, "auto", ((-1, 2),), ((),), ((1.5,),)):
        with pytest.raises(ValueError, match="chunks="):
            from_resource(reader, np.ones, chunks=chunks, dtype="f8")
    for window in (True, [1], "0 B", "much"):
        with pytest.raises(ValueError, match="window="):
            from_resource(reader, np.ones, chunks=(4,), dtype="f8", window=window)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_two_ways_to_read_one_object_are_not_mixed_up(tmp_path: Path, scheduler: str) -> None:
    class TwoWays(FileReader):
        def ones(self) -> Any:
            self.read_block((0, 0))
            return np.ones(2)

        def twos(self, block_info: Any) -> Any:
            self.read_block((0, 0))
            return np.full(2, 2.0)

    reader = TwoWays(tmp_path / "log", slow=0.005)
    ones = from_resource(reader, reader.ones, chunks=((2,) * 8,), dtype="f8")
    twos = from_resource(reader, reader.twos, chunks=((2,) * 8,), dtype="f8")
    with dask.config.set(scheduler=scheduler):
        assert dask.compute(ones.sum(), twos.sum()) == (16, 32)
        assert (twos - ones).sum().compute() == 16
    assert reader.log.count("open") == reader.log.count("close")


def test_an_object_is_not_pickled_unless_it_has_to_travel() -> None:
    class Unwilling:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def __reduce__(self) -> Any:
            raise AssertionError("pickled")

        def open(self) -> None:
            self.seen.append("open")

        def close(self) -> None:
            self.seen.append("close")

        def one(self) -> Any:
            return np.ones(1)

    unwilling = Unwilling()
    array = from_resource(unwilling, unwilling.one, chunks=((1, 1),), dtype="f8")
    assert array.sum().compute(scheduler="threads") == 2
    assert unwilling.seen == ["open", "close"]


# One process.


def test_downstream_sees_blocks_after_the_close(reader: FileReader) -> None:
    class Target:
        def __setitem__(self, region: object, block: object) -> None:
            reader.log.add("write")

    da.store(make_dask_array(reader), Target(), lock=False, scheduler="threads")
    assert reader.log.order() == ["open", *["read"] * 64, "close", *["write"] * 64]


def test_overlapping_computes_share_the_object(tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log", slow=0.002)
    array = make_dask_array(reader)
    threads = [threading.Thread(target=lambda: array.sum().compute(scheduler="threads")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.log.count("read") == 3 * 64
    assert reader.log.count("open") == reader.log.count("close") <= 3
    dask.compute(dask.delayed(np.sum)(array), array.max(), scheduler="threads", num_workers=4)
    assert reader.log.count("open") == reader.log.count("close")


def test_a_compute_that_begins_during_another_opens_once_for_two_copies(tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log")
    array = make_dask_array(reader)
    prepared = dask.optimize(dask.delayed(np.sum)(array), array.max())

    class Outer:
        def open(self) -> None: ...
        def close(self) -> None: ...
        def read(self) -> Any:
            return np.array([dask.compute(*prepared, scheduler="sync", optimize_graph=False)[0]])

    outer = Outer()
    nested = from_resource(outer, outer.read, chunks=((1,),), dtype="int64")
    assert nested.compute(scheduler="threads") == TOTAL
    assert (reader.log.count("open"), reader.log.count("close")) == (1, 1)


def count_left(live: Live) -> int:
    """Return the blocks that live once the threads of the pool have let go of their last ones."""
    for _ in range(50):
        if not live.now:
            break
        gc.collect()
        time.sleep(0.02)
    return live.now


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("slow", [0, 0.001])
@pytest.mark.parametrize("downstream", ["sum", "to_zarr"])
def test_a_window_and_a_few_blocks_live_at_the_peak(workers: int, slow: float, downstream: str) -> None:
    peaks = []
    for _ in range(3):  # a thread that the system holds up, on a busy machine, lets the others read on
        live = Live(slow)
        array = from_resource(live, live.read, chunks=((20,) * 32, (20,) * 16), dtype="f8", window=32 * 3200)
        with dask.config.set(scheduler="threads", num_workers=workers):
            if downstream == "sum":
                assert array.sum().compute() == array.size
            else:
                array.to_zarr(zarr.storage.MemoryStore())
        assert count_left(live) == 0
        peaks.append(live.peak)
        if live.peak <= 32 + 6 * workers:
            break
    assert 32 <= min(peaks) <= 32 + 6 * workers


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_while_a_file_is_being_closed_no_more_of_it_is_read(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, peaks = H5Source.close, []

    def close_slowly(source: H5Source, opened: Any) -> None:
        time.sleep(0.02)
        close(source, opened)

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.ones((640, 320)), chunks=(20, 20))
    monkeypatch.setattr(H5Source, "close", close_slowly)
    for _ in range(5):  # as above
        live = Live(0.0)
        array = from_hdf5(tmp_path / "a.h5", "x", chunks={}, window=32 * 3200)
        monkeypatch.setattr(DatasetReader, "read_encoded", live.read_encoded)
        with dask.config.set(scheduler="threads", num_workers=workers):
            assert array.sum().compute() == array.size
        peaks.append(live.peak)
        if live.peak <= 32 + 8 * workers:
            break
    assert 32 <= min(peaks) <= 32 + 8 * workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_without_a_barrier_a_few_blocks_live_at_the_peak(workers: int) -> None:
    live = Live(0.001)
    array = from_resource(live, live.read, chunks=((20,) * 32, (20,) * 16), dtype="f8", barrier=False)
    with dask.config.set(scheduler="threads", num_workers=workers):
        assert array.sum().compute() == array.size
    assert live.peak <= 16 + 6 * workers
    assert count_left(live) == 0


class Live:
    """A resource that counts the blocks in memory."""

    def __init__(self, slow: float) -> None:
        self.now = self.peak = 0
        self.slow = slow  # seconds that a block takes
        self._lock = threading.Lock()

    def __dask_tokenize__(self) -> int:
        return id(self)

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self) -> Any:
        live = self

        class Block(np.ndarray[Any, Any]):
            def __del__(self) -> None:
                if self.base is None:
                    live.count(-1)

        self.count(1)
        time.sleep(self.slow)
        block = np.ndarray.__new__(Block, (20, 20))
        block[:] = 1
        return block

    def read_encoded(self, *_args: object) -> Any:
        """Read a block in place of `DatasetReader.read_encoded`."""
        return self.read()

    def count(self, step: int) -> None:
        with self._lock:
            self.now += step
            self.peak = max(self.peak, self.now)


def test_a_graph_that_was_made_before_its_cluster_gives_the_same_values(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    values = np.arange(64 * 1024).reshape(64, 1024) % 97
    made = []
    for name, options in {"lz4": hdf5plugin.LZ4(), "bitshuffle": hdf5plugin.Bitshuffle()}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("x", data=values, chunks=(4, 256), **options)
        array = from_hdf5(tmp_path / f"{name}.h5", "x", chunks={})
        made += [dask.optimize(array.sum())[0], dask.delayed(np.sum)(array)]
    log = Log(tmp_path / "log")
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(install_counters, log)
        assert [item.compute() for item in made] == [values.sum()] * 4
        assert eventually(lambda: log.count("open") == log.count("close") > 0)


# Failure.


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("barrier", [True, False])
def test_a_block_that_raises_closes_and_keeps_its_error(tmp_path: Path, scheduler: str, barrier: bool) -> None:
    reader = FileReader(tmp_path / "log", slow=0.001, fail_at=(3, 4))
    array = make_dask_array(reader, barrier=barrier)
    with pytest.raises(ZeroDivisionError, match=r"block \(3, 4\)") as caught:
        array.compute(scheduler=scheduler)
    assert eventually(lambda: reader.log.count("open") == reader.log.count("close"))
    assert caught.value is not None  # which keeps the whole compute alive: it was not collected to be closed


def test_an_error_at_the_close_after_a_failure_does_not_hide_it() -> None:
    class Stuck:
        def open(self) -> None:
            pass

        def close(self) -> None:
            raise OSError("stuck")

        def read(self) -> None:
            raise ZeroDivisionError("the block")

    stuck = Stuck()
    with pytest.raises(ZeroDivisionError, match="the block") as caught:
        from_resource(stuck, stuck.read, chunks=((1,),), dtype="f8").compute(scheduler="sync")
    assert any("stuck" in note for note in caught.value.__notes__)


def test_an_error_at_the_open_is_the_compute_s(tmp_path: Path) -> None:
    class Closed:
        def open(self) -> None:
            raise FileNotFoundError("nothing there")

        def close(self) -> None:
            raise AssertionError("was never open")

    for scheduler in ("sync", "threads"):
        with pytest.raises(FileNotFoundError, match="nothing there"):
            from_resource(Closed(), np.zeros, chunks=((1,),), dtype="f8").compute(scheduler=scheduler)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_keyboard_interrupt_in_a_block_closes(tmp_path: Path, scheduler: str) -> None:
    class Interrupted(FileReader):
        def read_block(self, block_id: tuple[int, ...]) -> Any:
            if block_id == (2, 2):
                raise KeyboardInterrupt
            return super().read_block(block_id)

    reader = Interrupted(tmp_path / "log", slow=0.001)
    with pytest.raises(KeyboardInterrupt):
        make_dask_array(reader).compute(scheduler=scheduler)
    assert eventually(lambda: reader.log.count("open") == reader.log.count("close"))


def test_a_keyboard_interrupt_between_blocks_closes_while_its_traceback_is_kept(
    tmp_path: Path, interruptible: None
) -> None:
    class Interrupting(FileReader):
        def read_block(self, block_id: tuple[int, ...]) -> Any:
            if block_id == (2, 2):
                _thread.interrupt_main()
            return super().read_block(block_id)

    reader = Interrupting(tmp_path / "log", slow=0.01)
    with pytest.raises(KeyboardInterrupt) as caught:
        make_dask_array(reader).compute(scheduler="threads")
    assert eventually(lambda: reader.log.count("open") == reader.log.count("close"))
    assert caught.value is not None


def test_a_real_interrupt_leaves_nothing_open(tmp_path: Path, interruptible: None) -> None:
    script = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from h5bound import from_resource
        from tests.support.recorder import FileReader
        reader = FileReader(Path({str(tmp_path / "log")!r}), slow=0.05)
        array = from_resource(reader, reader.read_block, chunks=((2,) * 80, (3,) * 8), dtype="int64")
        print("ready", flush=True)
        try:
            array.compute(scheduler="threads")
        except KeyboardInterrupt as error:
            kept = error
            time.sleep(0.5)
            print(reader.log.count("open") - reader.log.count("close"), reader.log.count("read") < 640)
    """
    log = Log(tmp_path / "log")
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert eventually(lambda: log.count("read") > 3)
        child.send_signal(signal.SIGINT)
        assert child.stdout.read().split() == ["0", "True"]


def test_a_handle_that_is_collected_closes(reader: FileReader) -> None:
    graph = dict(make_dask_array(reader).__dask_graph__())
    opened = next(key for key in graph if str(key).startswith("open"))
    read = next(key for key in graph if key[0].startswith("read"))
    handle = graph[opened]()
    graph[read]({opened: handle})
    assert reader.log.order() == ["open", "read"]
    del handle
    gc.collect()
    assert reader.log.order() == ["open", "read", "close"]


def test_a_forked_child_opens_for_itself(tmp_path: Path) -> None:
    script = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from h5bound import from_resource
        from tests.support.recorder import FileReader
        reader = FileReader(Path({str(tmp_path / "log")!r}))
        array = from_resource(reader, reader.read_block, chunks=((2,) * 8, (3,) * 8), dtype="int64")
        graph = dict(array.__dask_graph__())
        opened = next(key for key in graph if str(key).startswith("open"))
        read = next(key for key in graph if key[0].startswith("read"))
        handle = graph[opened]()
        graph[read]({{opened: handle}})
        child = os.fork()
        if not child:
            reader._open = False  # the child's copy is not open there
            del handle
            assert array.sum().compute(scheduler="sync") == {TOTAL}
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        del handle
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], check=True)
    log = Log(tmp_path / "log")
    assert len(set(log.processes("open"))) == 2
    assert log.processes("open") == log.processes("close")


# Many processes.


def test_in_a_process_pool_every_block_opens_and_closes(reader: FileReader) -> None:
    array = make_dask_array(reader)[:6, :6]
    with dask.config.set(scheduler="processes", num_workers=2):
        assert array.sum().compute() == 6 * sum(i + j for i in range(3) for j in range(2))
    assert reader.log.count("read") == 6
    assert reader.log.count("open") >= 1
    assert reader.log.processes("open") == reader.log.processes("close")
    assert str(os.getpid()) not in reader.log.processes("open")


def test_a_file_in_a_process_pool_is_read_as_h5py_reads_it(tmp_path: Path) -> None:
    data = np.arange(100.0).reshape(10, 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=data, chunks=(5, 5), compression="gzip")
    with dask.config.set(scheduler="processes", num_workers=2):
        assert np.array_equal(from_hdf5(tmp_path / "a.h5", "x", chunks={}).compute(), data)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_every_worker_that_reads_opens_and_closes_once(client: Client, reader: FileReader) -> None:
    array = make_dask_array(reader)
    for compute, reads in ((array.sum, 64), (lambda: array[3, 4], 1), (lambda: array[:4].mean(axis=0), 16)):
        reader.log.clear()
        compute().compute()
        assert reader.log.count("read") == reads
        readers = sorted(set(reader.log.processes("read")))
        assert reader.log.processes("open") == reader.log.processes("close") == readers


def test_on_a_cluster_the_close_comes_before_the_first_write(client: Client, reader: FileReader) -> None:
    make_dask_array(reader).map_blocks(logged, reader.log, dtype="int64").sum().compute()
    order = reader.log.order()
    assert order.count("write") == 64
    assert max(i for i, what in enumerate(order) if what in ("read", "close")) < order.index("write")


def logged(block: Any, log: Log) -> Any:
    if block.size:
        log.add("write")
    return block


def test_without_a_barrier_each_worker_opens_once_and_closes_after_the_last_read(
    client: Client, reader: FileReader
) -> None:
    array = make_dask_array(reader, barrier=False)
    for compute, total in ((array.sum, TOTAL), (lambda: array[::-1, ::-1].sum(), TOTAL), (lambda: array[3, 4], 2)):
        reader.log.clear()
        assert compute().compute() == total
        assert eventually(lambda: reader.log.processes("open") == reader.log.processes("close"))
        assert reader.log.processes("open") == sorted(set(reader.log.processes("read")))


def test_blocks_are_not_gathered_for_the_close(client: Client, reader: FileReader) -> None:
    before = moved(client)
    array = make_dask_array(reader).persist()
    wait(array)
    assert moved(client) - before < 64 * 48  # tokens and handles travel, blocks do not
    assert len({holder for holders in client.who_has(array).values() for holder in holders}) == 2


def moved(client: Client) -> int:
    """Return the bytes of task results that workers received from one another."""
    return sum(client.run(lambda dask_worker: sum(log["total"] for log in dask_worker.transfer_incoming_log)).values())


def test_a_plain_repeat_logs_no_warning(client: Client, reader: FileReader, caplog: pytest.LogCaptureFixture) -> None:
    array = make_dask_array(reader)
    for _ in range(3):
        array.sum().compute()
    kept = array.persist()
    assert array.compute().sum() == TOTAL
    assert kept is not None
    assert not [record for record in caplog.records if "run_spec" in record.message]


def test_a_retried_block_closes(client: Client, tmp_path: Path) -> None:
    reader = FailingOnce(tmp_path / "log")
    (future,) = client.compute([make_dask_array(reader).sum()], retries=2)
    assert future.result() == TOTAL
    assert reader.log.processes("open") == reader.log.processes("close")


class FailingOnce(FileReader):
    """A reader that fails at one block, the first time."""

    def read_block(self, block_id: tuple[int, ...]) -> Any:
        marker = self.log.path.with_suffix(".failed")
        if block_id == (4, 4) and not marker.exists():
            marker.touch()
            raise ZeroDivisionError("once")
        return super().read_block(block_id)


def test_a_failed_compute_leaves_no_worker_with_the_resource_open(client: Client, tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log", slow=0.005, fail_at=(3, 3))
    with pytest.raises(ZeroDivisionError, match=r"block \(3, 3\)"):
        make_dask_array(reader).compute()
    assert eventually(lambda: reader.log.processes("open") == reader.log.processes("close"))


def test_a_task_that_fails_after_its_read_leaves_no_worker_with_the_resource_open(
    client: Client, reader: FileReader
) -> None:
    """Its error keeps what was open in a reference cycle, since dask fuses the task with the read."""

    def fail(block: Any) -> Any:
        raise ZeroDivisionError(block.shape)

    array = make_dask_array(reader, barrier=False)
    client.run(gc.disable)
    try:
        with pytest.raises(ZeroDivisionError):
            array.map_blocks(fail, dtype=array.dtype).compute()
        assert eventually(lambda: reader.log.processes("open") == reader.log.processes("close"))
    finally:
        client.run(gc.enable)


def test_a_cancelled_compute_leaves_no_worker_with_the_resource_open(client: Client, tmp_path: Path) -> None:
    reader = FileReader(tmp_path / "log", slow=0.05)
    future = client.compute(make_dask_array(reader).sum())
    assert eventually(lambda: reader.log.count("read") > 4)
    future.cancel()
    assert eventually(lambda: reader.log.processes("open") == reader.log.processes("close"))
    assert reader.log.count("read") < 64


def test_a_graph_made_here_may_run_there(client: Client, reader: FileReader) -> None:
    total, again = dask.compute(dask.delayed(np.sum)(make_dask_array(reader)), make_dask_array(reader).sum())
    assert total == again == TOTAL
    assert reader.log.processes("open") == reader.log.processes("close")


def test_no_worker_has_the_file_open_afterwards(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    data = np.arange(4096.0).reshape(64, 64)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=(8, 8), compression="gzip")
    log = Log(tmp_path / "log")
    client.run(install_counters, log)
    array = from_hdf5(path, "x", chunks={})
    log.clear()
    assert array.sum().compute() == data.sum()
    readers = sorted(set(log.processes("read")))
    assert log.processes("open") == log.processes("close") == readers
    assert array[9, 9].compute() == data[9, 9]
    array.to_zarr(str(tmp_path / "a.zarr"))
    assert np.array_equal(zarr.open_array(str(tmp_path / "a.zarr"))[:], data)
    assert not any(client.run(has_open, str(path)).values())
    with h5py.File(path, "r+") as file:
        file["x"][0, 0] = -1
    with pytest.raises(SourceChangedError, match="changed"):
        array.compute()
    assert not any(client.run(has_open, str(path)).values())


def has_open(path: str) -> bool:
    return any(os.path.realpath(link) == path for link in Path("/proc/self/fd").iterdir())


def test_workers_in_one_process_share_one_open(reader: FileReader) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        assert make_dask_array(reader).sum().compute() == TOTAL
        assert make_dask_array(reader, barrier=False).sum().compute() == TOTAL
    assert reader.log.count("read") == 128
    assert reader.log.count("open") == reader.log.count("close") == 2
