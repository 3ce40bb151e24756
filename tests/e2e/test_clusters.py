"""Convert, verify and compute on clusters of real processes, some of which are killed."""

from __future__ import annotations

import _thread
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster, wait
from distributed.comm.tcp import TCP

import h5bound
from h5bound import convert, from_hdf5, from_resource, verify
from h5bound.cli.main import run_command
from h5bound.conversion import transfer
from h5bound.errors import (
    CorruptChunkError,
    H5BoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    TargetError,
    UnsupportedError,
)
from h5bound.execution import cluster as cluster_execution
from h5bound.execution import windows
from h5bound.execution.cluster import is_running, plan_throttle, take_window
from h5bound.execution.run import run_units
from h5bound.execution.work import Work, WorkUnit
from h5bound.files import local
from h5bound.files.open import open_file
from h5bound.planning.work_units import Unit
from h5bound.reader.open_file import OpenFile
from h5bound.reader.source import H5Source
from h5bound.resource import ObjectSource
from h5bound.stores.lock import MARKER
from h5bound.verification import values as comparison
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support.recorder import FileReader, Log, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals and /proc")]
SECONDS = 60
"""Time after which a test fails, so that none hangs."""

WINDOW = 384 << 10
NBYTES = 6 << 20
"""Bytes of the values of the file: six windows."""


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """Fail a test that hangs."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"the test did not end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def data() -> NDArray[np.uint32]:
    """Return values that no codec compresses."""
    return np.random.default_rng(0).integers(0, 2**32, (192, 64, 128), np.uint32)


@pytest.fixture(scope="module")
def source(data: NDArray[np.uint32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a dataset of 6 MiB in 192 chunks, and a small dataset for each other strategy."""
    path = tmp_path_factory.mktemp("source") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=(1, 64, 128), compression="gzip", compression_opts=1)
        file["group/contiguous"] = np.arange(1000.0)
        file["text"] = [f"line {i}" for i in range(50)]
        file["sequences"] = np.array([np.arange(i) for i in range(5)], object).astype(h5py.vlen_dtype("i4"))
        file["x"].attrs["units"] = "m"
    assert data.nbytes == NBYTES
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return the log of the workers of the shared cluster."""
    return Log(tmp_path_factory.mktemp("log") / "log")


@pytest.fixture(scope="module")
def shared(log: Log) -> Iterator[Client]:
    """Yield a client of three worker processes that log what they do; no test may kill one."""
    with (
        LocalCluster(n_workers=3, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(record, log)
        yield client


@pytest.fixture
def client(shared: Client, log: Log) -> Client:
    """Return the shared client, with an empty log."""
    log.clear()
    return shared


def record(log: Log) -> None:
    """Log every open and close of this process, and every unit that it reads and uses."""
    vars(local)["open_file"] = recorded(log, open_file, "open")
    OpenFile.close = recorded(log, OpenFile.close, "close")  # type: ignore[method-assign]
    transfer.get_unit = recorded(log, transfer.get_unit, "get")
    transfer.write_unit = recorded(log, transfer.write_unit, "use")
    comparison.compare_unit = recorded(log, comparison.compare_unit, "get")
    comparison.report_unit = recorded(log, comparison.report_unit, "use")


def recorded(log: Log, function: Any, what: str) -> Any:
    """Return the function with its begin and end logged, each with the thread and the bytes of its unit."""

    def call(*args: Any, **options: Any) -> Any:
        position = {"get": 2, "use": 1}.get(what)
        unit = None if position is None else args[position]
        detail = f"{threading.get_ident()} {getattr(unit, 'nbytes', 0)}"
        log.add(what, detail)
        result = function(*args, **options)
        log.add(f"{what}-end", detail)
        return result

    return call


def lives(log: Log) -> list[str]:
    """Return what each thread of each process did with the file and with units: one letter each, in order."""
    letters = {"open": "o", "close": "c", "get": "g", "use": "u"}
    found: dict[tuple[str, str], str] = {}
    for what, process, detail in log.lines():
        if what in letters:
            thread = detail.split()[0]
            key = (process, thread)
            found[key] = found.get(key, "") + letters[what]
    return list(found.values())


def assert_equal(source: Path, target: Path) -> None:
    """Compare a store with h5py itself, in this process."""
    with h5py.File(source) as file, quiet_zarr():
        group: Any = zarr.open_group(target, mode="r")
        for name in ("x", "group/contiguous"):
            assert np.array_equal(group[name][:], file[name][:])
        assert group["text"][:].tolist() == file["text"].asstr()[:].tolist()
        assert group["x"].attrs["units"] == "m"


def holders(path: Path) -> list[str]:
    """Return the processes that have a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == path:
                found.append(link.parts[2])
        except OSError:
            continue
    return found


WAYS = [
    pytest.param({}, False, id="kept"),
    pytest.param({}, True, id="an address"),
    pytest.param({"codecs": "zstd:1"}, False, id="encoded"),
    pytest.param({"shards": "128 KiB"}, False, id="shards"),
    pytest.param({"zarr_format": 2}, False, id="format 2"),
]


@pytest.mark.parametrize(("options", "address"), WAYS)
def test_workers_convert_and_verify_what_each_reads_itself(
    client: Client, source: Path, tmp_path: Path, log: Log, options: dict[str, Any], address: bool
) -> None:
    target = tmp_path / "a.zarr"
    scheduler = client.scheduler.address if address else None
    report = convert(source, target, window=WINDOW, scheduler=scheduler, **options)
    assert report.complete
    assert_equal(source, target)
    check_lives(client, log)
    log.clear()
    assert verify(source, target, window=WINDOW, scheduler=scheduler).equal
    check_lives(client, log)
    assert holders(source) == []


def check_lives(client: Client, log: Log) -> None:
    """Check that each thread opens, reads, closes and then uses, that work is shared, and that memory is bounded."""
    found = lives(log)
    assert all(re.fullmatch("(og+cu+)+", life) for life in found), found
    assert any("gg" in life for life in found)
    processes = set(map(str, client.run(os.getpid).values()))
    assert set(log.processes("open")) == processes
    counts = [log.processes("get").count(process) for process in processes]
    assert min(counts) >= sum(counts) / 12
    held = dict.fromkeys(processes, 0)
    for what, process, detail in log.lines():
        if what in ("get", "use-end"):
            held[process] += int(detail.split()[1]) * (1 if what == "get" else -1)
            assert held[process] <= WINDOW
    assert not any(held.values())


def test_nothing_of_the_data_travels(client: Client, source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    sent: list[int] = []
    monkeypatch.setattr(TCP, "write", counting(TCP.write, sent))  # of this client, and of the scheduler
    client.run(count_sent)
    convert(source, tmp_path / "a.zarr", window=WINDOW, codecs="zstd:1")
    assert verify(source, tmp_path / "a.zarr", window=WINDOW).equal
    assert sum(sent) + sum(client.run(stop_counting).values()) < NBYTES / 5


def test_two_passes_leave_the_data_where_it_is(client: Client, source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    options: Any = {"window": WINDOW, "chunks": {"/x": (192, 8, 8)}}
    sent: list[int] = []
    monkeypatch.setattr(TCP, "write", counting(TCP.write, sent))
    client.run(count_sent)
    convert(source, tmp_path / "a.zarr", **options)
    converting = sum(sent)
    assert verify(source, tmp_path / "a.zarr", window=WINDOW).equal
    verifying = sum(sent) - converting + sum(client.run(stop_counting).values())
    assert converting < NBYTES / 5
    assert verifying < NBYTES / 3, "more than digests, of 16 bytes for each 256, travel four times"
    assert_equal(source, tmp_path / "a.zarr")
    assert [path.name for path in (tmp_path / "a.zarr").iterdir() if path.name.endswith(".partial")] == []
    (tmp_path / "temporary").mkdir()
    obstore = pytest.importorskip("obstore.store")
    (tmp_path / "b.zarr").mkdir()
    store: Any = zarr.storage.ObjectStore(obstore.LocalStore(tmp_path / "b.zarr"))
    with pytest.raises(OptionError, match="name one with temporary="):
        convert(source, store, **options)
    assert list((tmp_path / "b.zarr").iterdir()) == []
    convert(source, store, **options, temporary=tmp_path / "temporary")
    assert_equal(source, tmp_path / "b.zarr")
    assert list((tmp_path / "temporary").iterdir()) == []


def counting(write: Any, sent: list[int]) -> Any:
    async def counted(*args: Any, **options: Any) -> int:
        sent.append(await write(*args, **options))
        return sent[-1]

    return counted


def count_sent(dask_worker: Any) -> None:
    dask_worker.counted = TCP.write, []
    TCP.write = counting(*dask_worker.counted)


def stop_counting(dask_worker: Any) -> int:
    write, sent = dask_worker.counted
    TCP.write = write
    return sum(sent)


def test_a_task_for_each_window_and_none_for_a_unit() -> None:
    jobs: Any = [FakeJob(0), FakeJob(1)]
    units: deque[WorkUnit] = deque(
        Unit(number // 90_000, np.zeros((8, 3), np.int64), 8 << 20) for number in range(100_000)
    )
    nbytes, _ = plan_throttle(1 << 30, 100_000 * (8 << 20), [(4, 16 << 30)] * 100)
    taken = []
    while units:
        taken.append(take_window(units, jobs, nbytes))
    assert len(taken) == 100_000 / 32 + 1
    assert sum(map(len, taken)) == 100_000
    assert all(len({unit.array for unit in window}) == 1 for window in taken)


def test_the_window_of_a_worker_does_not_grow_with_the_threads_of_the_client(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """96 chunks: a sixteenth of them is for the two threads of a worker."""
    monkeypatch.setattr(windows, "MIN_WINDOW", 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(96 << 10, "u1"), chunks=(1 << 10,))
    with caplog.at_level(logging.INFO, logger="h5bound"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", codecs="zstd", window=15 << 10, workers=50)
    assert any(message.startswith("32 windows done") for message in caplog.messages)


@dataclass
class FakeJob:
    origin: int
    path: str = "/x"


@pytest.mark.parametrize("at", [1, 10])
def test_what_one_attempt_wrote_is_not_written_again(at: int, client: Client, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"

    def stop(done: int, total: int) -> None:
        told.append(done)
        if len(told) == at:
            raise KeyboardInterrupt

    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, window=WINDOW, progress=stop)
    settled = snapshot(target)
    chunks = [key for key in settled if "/x/c/" in key]
    assert at <= len(chunks) < 192
    time.sleep(0.2)
    assert snapshot(target) == settled
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)
    assert convert(source, target, window=WINDOW, resume=True).complete
    whole = snapshot(target)
    assert [whole[key] for key in chunks] == [settled[key] for key in chunks]
    assert_equal(source, target)
    assert holders(source) == []


def snapshot(target: Path) -> dict[str, int]:
    """Return when each key of a store was written."""
    return {str(path): path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}


def test_progress_is_told_window_by_window(client: Client, source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = convert(source, tmp_path / "a.zarr", window=WINDOW, progress=lambda *at: told.append(at), verify=True)
    assert report.complete
    assert told == sorted(told)
    assert told[-1] == (told[0][1], told[0][1])
    for half in (0, 1):
        assert sum(half < 2 * done / total < half + 1 for done, total in told) > 2


def test_the_command_line_converts_and_verifies_on_a_cluster(
    client: Client, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, address = str(tmp_path / "a.zarr"), client.scheduler.address
    options = ["--scheduler", address, "--window", "1 MiB"]
    assert run_command(["convert", str(source), target, "--workers", "2", *options]) == 0
    assert run_command(["verify", str(source), target, *options]) == 0
    assert capsys.readouterr().err == ""
    assert run_command(["convert", str(source), target, "--overwrite", "--verify", *options]) == 0


def test_workers_limits_what_is_worked_on_at_once(client: Client, source: Path, tmp_path: Path, log: Log) -> None:
    convert(source, tmp_path / "a.zarr", window=WINDOW, workers=1)
    busy: set[str] = set()
    assert log.count("get") > 1
    for what, process, detail in log.lines():
        if what in ("get", "use"):
            busy.add(f"{process} {detail.split()[0]}")
        elif what.endswith("-end"):
            busy.discard(f"{process} {detail.split()[0]}")
        assert len(busy) <= 1


def test_paths_need_not_be_absolute(
    client: Client, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers stay where they were started
    here = os.path.relpath(source)
    assert convert(here, "a.zarr", window=WINDOW).complete
    assert verify(here, "a.zarr", window=WINDOW).equal
    assert_equal(source, tmp_path / "a.zarr")


def test_a_task_may_convert(client: Client, source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.h5"
    with h5py.File(small, "w") as file:
        file["x"] = np.arange(100)
    targets = [tmp_path / f"{number}.zarr" for number in range(12)]  # twice as many as there are threads
    for report in client.gather(client.map(lambda target: convert(small, target), targets, pure=False)):
        assert report.complete
    assert all(verify(small, target).equal for target in targets)


def test_threads_can_be_asked_for_beside_a_cluster(client: Client, source: Path, tmp_path: Path, log: Log) -> None:
    with dask.config.set(scheduler="threads"):
        assert convert(source, tmp_path / "a.zarr").complete
    assert log.lines() == []


# Errors.


@pytest.fixture
def damaged(source: Path, tmp_path: Path) -> Path:
    """Return a copy of the file in which one chunk does not decode."""
    path = tmp_path / "damaged.h5"
    path.write_bytes(source.read_bytes())
    with h5py.File(path) as file:
        at = file["x"].id.get_chunk_info(100).byte_offset
    with path.open("r+b") as binary:
        binary.seek(at)
        binary.write(bytes(64))
    return path


def test_an_error_of_a_worker_comes_back_as_it_is(
    client: Client, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.zarr"
    with pytest.raises(CorruptChunkError, match=r"dataset '/x' of .*damaged.h5: chunk at "):
        convert(damaged, target, codecs="zstd:1", window=WINDOW)
    settled = snapshot(target)
    address = client.scheduler.address
    arguments = ["convert", str(damaged), str(target), "--codecs", "zstd:1", "--scheduler", address, "--overwrite"]
    assert run_command(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("h5bound: error: dataset '/x' of ")
    assert settled
    assert holders(damaged) == []


def test_what_cannot_be_read_is_skipped_on_a_cluster_as_well(client: Client, damaged: Path, tmp_path: Path) -> None:
    report = convert(damaged, tmp_path / "a.zarr", codecs="zstd:1", window=WINDOW, on_unsupported="skip")
    assert [item.path for item in report.skipped] == ["/x"]
    assert verify(damaged, tmp_path / "a.zarr", window=WINDOW).equal


def test_a_source_that_a_worker_does_not_see_is_named_with_the_worker(
    client: Client, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gone.h5"
    path.write_bytes(source.read_bytes())
    with pytest.raises(SourceNotFoundError, match=r"worker tcp://.* of .*gone.h5: no such file"):
        convert(path, tmp_path / "a.zarr", window=WINDOW, progress=lambda *_: path.unlink(missing_ok=True))


def test_what_was_read_of_a_source_that_changed_is_not_used(client: Client, tmp_path: Path) -> None:
    path, log = tmp_path / "a.h5", Log(tmp_path / "log")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    work = Work("touch", touch, lambda *_: log.add("used"))
    sources: Any = [H5Source.of(path)]
    with pytest.raises(SourceChangedError, match=r"worker tcp://.*the file changed "):
        run_units(work, [FakeJob(0)], [Unit(0, np.zeros((1, 1), np.int64), 8)], sources=sources, window=64)
    assert log.lines() == []
    assert holders(path) == []


def touch(opened: Any, _job: object, _unit: Unit) -> None:
    os.utime(opened.file.filename, (1, 1))


def test_a_store_that_a_worker_does_not_see_is_named_with_the_worker(
    client: Client, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.zarr"
    with pytest.raises(TargetError, match=r"worker tcp://.*a.zarr: not visible to this worker"):
        convert(source, target, window=WINDOW, progress=lambda *_: (target / MARKER).unlink(missing_ok=True))
    target = tmp_path / "b.zarr"
    convert(source, target)
    with pytest.raises(TargetError, match=r"worker tcp://.*finds no array there"):
        verify(source, target, window=WINDOW, progress=lambda *_: (target / "x/zarr.json").unlink(missing_ok=True))


def test_what_lives_in_one_process_is_refused(client: Client, source: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = np.arange(10)
        with pytest.raises(UnsupportedError, match="cannot be sent to another"):
            convert(file, tmp_path / "a.zarr")
    with pytest.raises(H5BoundError):
        convert(source, "memory://a.zarr")


@pytest.mark.parametrize(
    ("address", "reason", "code"),
    [
        ("tcp://127.0.0.1:1", "no dask scheduler", 1),
        ("nonsense", "pass the address", 2),
        ("gopher://127.0.0.1:1", "no dask scheduler", 1),
    ],
)
def test_an_address_without_a_scheduler_is_an_error_before_the_first_write(
    address: str, reason: str, code: int, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        with pytest.raises(H5BoundError, match=f"scheduler='{address}': {reason}"):
            convert(source, tmp_path / "a.zarr", scheduler=address)
        assert run_command(["convert", str(source), str(tmp_path / "a.zarr"), "--scheduler", address]) == code
    assert capsys.readouterr().err.startswith(f"h5bound: error: --scheduler {address}: {reason}")
    assert not (tmp_path / "a.zarr").exists()
    assert convert(source, tmp_path / "a.zarr").complete  # no broken client is left to be used


def test_another_version_on_a_worker_is_refused(client: Client, source: Path, tmp_path: Path) -> None:
    client.run(pretend_version, "0.0.1")
    try:
        with pytest.raises(H5BoundError, match=r"worker tcp://.*h5bound 0.0.1 there, "):
            convert(source, tmp_path / "a.zarr")
    finally:
        client.run(pretend_version, h5bound.__version__)


def pretend_version(number: str) -> None:
    vars(cluster_execution)["read_version"] = lambda: number


# Arrays.


def test_overlapping_computes_of_different_slices_read_what_is_open(
    client: Client, source: Path, data: NDArray[np.uint32], log: Log
) -> None:
    array = from_hdf5(source, "x", chunks=(4, 64, 128), window="512 KiB")
    parts = [slice(0, 120), slice(60, 192), slice(30, 40), slice(0, 192)]
    futures = [client.compute(array[part].map_blocks(slowly, dtype=array.dtype).sum()) for part in parts]
    assert client.gather(futures) == [data[part].sum() for part in parts]
    assert eventually(lambda: log.processes("open-end") == log.processes("close-end"))
    assert holders(source) == []


def slowly(block: Any) -> Any:
    time.sleep(0.005)
    return block


@pytest.mark.parametrize("barrier", [True, False])
def test_a_persisted_array_leaves_no_file_open(
    client: Client, source: Path, data: NDArray[np.uint32], log: Log, barrier: bool
) -> None:
    kept = client.persist(from_hdf5(source, "x", chunks={}, window="512 KiB", barrier=barrier))
    wait(kept)
    assert eventually(lambda: log.processes("open-end") == log.processes("close-end"))
    assert set(log.processes("open")) == set(map(str, client.run(os.getpid).values()))
    assert holders(source) == []
    assert np.array_equal(kept[100].compute(), data[100])


# Deaths.


@pytest.fixture
def mortal() -> Iterator[Client]:
    """Yield a client of two worker processes that may be killed."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def kill_one(client: Client) -> int:
    """Kill the worker with the most tasks, and return its process."""
    processes = client.run(os.getpid)
    address = max(processes, key=lambda address: len(client.processing()[address]))
    os.kill(processes[address], signal.SIGKILL)
    return int(processes[address])


class Once:
    """Progress that does something when it is called for the first time."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.done = act, False

    def __call__(self, done: int, total: int) -> None:
        if not self.done:
            self.done = True
            self.act()


def test_a_worker_killed_in_mid_conversion_changes_nothing(
    mortal: Client, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, kill = tmp_path / "a.zarr", Once(lambda: kill_one(mortal))

    def die_while_writing(done: int, total: int) -> None:
        kill(done, total)
        (target / "x/c/0a1b.partial").write_bytes(b"what a worker leaves that dies while it writes")

    with caplog.at_level(logging.INFO, logger="h5bound"):
        assert convert(source, target, window=WINDOW, progress=die_while_writing).complete
    assert "is lost: others repeat its windows" in caplog.text
    assert_equal(source, target)
    assert holders(source) == []
    mortal.wait_for_workers(2)
    assert verify(source, target, window=WINDOW, progress=Once(lambda: kill_one(mortal))).equal
    assert holders(source) == []


def test_a_cluster_lost_in_mid_conversion_is_an_error_and_the_rest_can_be_done(
    mortal: Client, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.zarr"
    with pytest.raises(H5BoundError, match=r"the cluster was restarted, or is gone; .*resume=True"):
        convert(source, target, window=WINDOW, progress=Once(mortal.restart))
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)
    mortal.cluster.scheduler.allowed_failures = 0
    with pytest.raises(
        H5BoundError, match=r"1 worker died while processing the same window, the last of them tcp://.*resume=True"
    ):
        convert(source, target, window=WINDOW, overwrite=True, progress=Once(lambda: kill_one(mortal)))
    assert convert(source, target, window=WINDOW, resume=True).complete
    assert_equal(source, target)
    assert holders(source) == []


def test_a_worker_killed_in_mid_compute_changes_nothing(
    mortal: Client, source: Path, data: NDArray[np.uint32], tmp_path: Path
) -> None:
    reader, log = FileReader(tmp_path / "reads", slow=0.02), Log(tmp_path / "log")
    blocks = from_resource(reader, reader.read_block, chunks=((2,) * 8, (3,) * 8), dtype="int64", window=480)
    array = from_hdf5(source, "x", chunks=(4, 64, 128), window="512 KiB").map_blocks(logged, log, dtype="u4")
    futures = [mortal.compute(item.sum()) for item in (blocks, array)]
    assert eventually(lambda: reader.log.count("read") > 10 and log.count("seen") > 10)
    killed = str(kill_one(mortal))
    assert mortal.gather(futures) == [6 * sum(i + j for i in range(8) for j in range(8)), data.sum()]
    del futures
    assert eventually(lambda: holders(source) == [])

    def open_now() -> list[str]:
        opened = reader.log.processes("open")
        for process in reader.log.processes("close"):
            opened.remove(process)
        return [process for process in opened if process != killed]

    assert eventually(lambda: open_now() == [])


def logged(block: Any, log: Log) -> Any:
    log.add("seen")
    return slowly(block)


def test_a_worker_that_leaves_takes_no_open_file_with_it(
    mortal: Client, source: Path, data: NDArray[np.uint32]
) -> None:
    array = from_hdf5(source, "x", chunks=(4, 64, 128), window="512 KiB")
    kept = mortal.persist(array.map_blocks(slowly, dtype="u4"))
    assert eventually(lambda: len(mortal.who_has(kept)) > 0)
    mortal.cluster.scale(1)
    assert kept.sum().compute() == data.sum()
    assert eventually(lambda: len(mortal.nthreads()) == 1)
    assert kept.sum().compute() == data.sum()
    assert eventually(lambda: holders(source) == [])


class FailingOnce(FileReader):
    """Fails at one block, the first time."""

    def read_block(self, block_id: tuple[int, ...]) -> Any:
        marker = self.log.path.with_suffix(".failed")
        if block_id == (3,) and not marker.exists():
            marker.touch()
            raise ZeroDivisionError("once")
        return super().read_block(block_id)


def read_block(read: Any, _job: object, unit: Unit) -> Any:
    return read(tuple(unit.chunk_coords[0]))


def add_up(_job: object, _unit: Unit, block: Any) -> int:
    return int(block.sum())


def test_a_window_that_fails_once_is_done_again_where_retries_are_asked_for(client: Client, tmp_path: Path) -> None:
    reader = FailingOnce(tmp_path / "log")
    work = Work("try", read_block, add_up)
    sources: Any = [ObjectSource(reader, reader.read_block)]
    units = [Unit(0, np.array([[number]]), 8) for number in range(8)]
    with dask.annotate(retries=2):
        assert run_units(work, [FakeJob(0)], units, sources=sources, window=64) == [6 * number for number in range(8)]
    assert reader.log.processes("open") == reader.log.processes("close")
    (tmp_path / "log.failed").unlink(missing_ok=True)
    with pytest.raises(ZeroDivisionError, match="once"):
        run_units(work, [FakeJob(0)], units, sources=sources, window=64)


def test_a_window_that_nobody_waits_for_is_not_done_to_its_end(
    client: Client, tmp_path: Path, interruptible: None
) -> None:
    reader = FileReader(tmp_path / "log", slow=0.1)
    work = Work("stop", read_block, add_up)
    sources: Any = [ObjectSource(reader, reader.read_block)]
    units = [Unit(0, np.array([[number]]), 8) for number in range(240)]  # of which each thread has begun 10

    def interrupt() -> None:
        assert eventually(lambda: reader.log.count("read") > 2)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_units(work, [FakeJob(0)], units, sources=sources, window=1 << 20)
    thread.join()
    assert reader.log.count("read") < 40
    assert reader.log.processes("open") == reader.log.processes("close")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_nothing_is_written_once_the_client_was_interrupted(
    client: Client, source: Path, tmp_path: Path, interruptible: None, number: signal.Signals
) -> None:
    target = tmp_path / "a.zarr"
    options = ["--codecs", "zstd:19", "--window", "1 MiB", "--scheduler", client.scheduler.address]
    script = f"from h5bound.cli.main import main; main({['convert', str(source), str(target), *options]!r})"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as child:
        assert eventually(lambda: len(list(target.glob("x/c/*"))) > 3)
        child.send_signal(number)
        assert child.stderr is not None
        error = child.stderr.read()
    if number == signal.SIGINT:
        assert error.splitlines()[-1].startswith("h5bound: error: interrupted")
        assert child.returncode == -signal.SIGINT
    else:
        assert eventually(lambda: not any(client.run(is_running, "write").values()))
    settled = snapshot(target)
    time.sleep(0.5)
    assert snapshot(target) == settled
    assert len(list(target.glob("x/c/*"))) < 192
    assert holders(source) == []
    assert convert(source, target, codecs="zstd:19", window=WINDOW, resume=True).complete
    assert_equal(source, target)


# Other clusters.


def test_an_adaptive_cluster_starts_workers_for_a_conversion_and_stops_them(
    source: Path, tmp_path: Path, data: NDArray[np.uint32]
) -> None:
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
        assert convert(source, tmp_path / "a.zarr", window=WINDOW).complete
        assert from_hdf5(source, "x").sum().compute() == data.sum()
        assert eventually(lambda: not client.nthreads())
    assert holders(source) == []


PRELOAD = """
import h5py
class File(h5py.File):
    def __init__(self, name, *args, **options):
        open({log!r}, "a").write(f"{{name}}\\n")
        super().__init__(name, *args, **options)
h5py.File = File
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a scheduler process that logs the files that it opens, with two workers, and its address."""
    (tmp_path / "preload.py").write_text(PRELOAD.format(log=str(tmp_path / "opened")))
    where = tmp_path / "scheduler.json"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*python, "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    last = ["--scheduler-file", str(where)]
    folder = ["--local-directory", str(tmp_path)]
    commands = [[*scheduler, "--preload", str(tmp_path / "preload.py"), *last], *[[*worker, *folder, *last]] * 2]
    started = [subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL) for command in commands]
    try:
        assert eventually(lambda: where.exists() and where.read_text().endswith("}"))
        yield started[0], json.loads(where.read_text())["address"]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_scheduler_in_another_process_needs_the_package_and_never_the_file(
    processes: tuple[subprocess.Popen[bytes], str], source: Path, tmp_path: Path, data: NDArray[np.uint32]
) -> None:
    scheduler, address = processes
    target = tmp_path / "a.zarr"
    with Client(address) as client:
        client.wait_for_workers(2, timeout=SECONDS)
        assert from_hdf5(source, "x").sum().compute() == data.sum()
        assert np.array_equal(from_hdf5(source, "x", window="512 KiB")[:9].compute(), data[:9])
        assert convert(source, target, window=WINDOW, verify=True).exit_code == 0
    assert_equal(source, target)
    assert not (tmp_path / "opened").exists()
    with pytest.raises(H5BoundError, match="the cluster was restarted, or is gone"):
        convert(source, target, window=WINDOW, overwrite=True, scheduler=address, progress=Once(scheduler.kill))
    assert eventually(lambda: holders(source) == [])
    assert convert(source, target, window=WINDOW, resume=True).complete
    assert_equal(source, target)
