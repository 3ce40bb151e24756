"""Conversions that fail or are killed at every operation on their files, after SQLite's rule, and are then resumed.

``SQLite`` fails the k-th operation for k = 1, 2, … until a run is clean, once with that one failure and once failing
for ever. So it is done here, and with SIGKILL too; after each the store is refused, and resumed it is byte for byte
that of an uninterrupted run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import convert, verify
from h5bound.errors import TargetError
from h5bound.stores.lock import MARKER
from tests.support.saboteur import NOTHING, Sabotage, Saboteur

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.saboteur import How, Run

    Content = dict[str, bytes]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, /proc, tmpfs"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr"),  # raised by zarr 3.1 in several threads
]

SERVERS = 2
DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata", "h5bound.json")


def write_source(path: Path) -> None:
    """Write a little of each: kept chunks, some of them to be in shards, decoded ones, none, scalars, sequences."""
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "all kinds"
        data = file.create_dataset(
            "g/x", data=np.arange(32, dtype="<i4").reshape(4, 8), chunks=(2, 4), compression="gzip"
        )
        data.attrs["units"] = "m"
        file.create_dataset("y", data=np.arange(5.0), chunks=(3,))
        file["s"] = 1.5
        file["t"] = ["a", "bc"]
        sequences = file.create_dataset("v", (2,), h5py.vlen_dtype(np.dtype("i4")))
        sequences[0] = [1, 2]
        file.create_dataset("none", (9,), "i2", chunks=(3,), fillvalue=7)
        file.create_dataset("bad", data=np.arange(8.0), chunks=(4,), compression="gzip")
        where = file["bad"].id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(bytes(where.size))


@dataclass(frozen=True)
class Case:
    """A conversion, as the command line has it."""

    name: str
    options: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


DONE = {0, 3}
"""Exit codes of a conversion that succeeded, the second with an object that cannot be read."""

KEPT = Case("kept, some in shards", ("--shards", "/g/x=4,4", "--exclude", "/bad"))
ENCODED = Case(
    "v2, encoded, one that cannot be read",
    ("--codecs", "zstd", "--zarr-format", "2", "--window", "256 B", "--include", "/bad", "--include", "/g"),
)


@pytest.fixture(scope="module")
def saboteurs() -> Iterator[SimpleQueue[Saboteur]]:
    """Give some processes that run the command line."""
    idle: SimpleQueue[Saboteur] = SimpleQueue()
    with ThreadPoolExecutor(SERVERS) as pool:
        servers = list(pool.map(lambda _: Saboteur(), range(SERVERS)))
    for server in servers:
        idle.put(server)
    yield idle
    for server in servers:
        with server:
            pass


@dataclass(frozen=True)
class Trial:
    """Conversions of one file, and what an uninterrupted one gives."""

    source: Path
    options: tuple[str, ...]
    idle: SimpleQueue[Saboteur]
    whole: Content = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    operations: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, case: Case, folder: Path, idle: SimpleQueue[Saboteur]) -> Trial:
        """Convert once without a fault."""
        source = folder / "a.h5"
        write_source(source)
        trial = cls(source, (*case.options, "--on-unsupported", "skip"), idle)
        run = trial.run(folder / "whole.zarr", Sabotage(str(folder / "whole.zarr")))
        assert run.code in DONE, run.error
        assert verify(source, folder / "whole.zarr").equal
        trial.operations.extend(run.operations)
        trial.whole.update(read_store(folder / "whole.zarr"))
        trial.report.update(trial.read_report(folder / "whole.zarr"))
        return trial

    def run(self, target: Path, sabotage: Sabotage, *options: str, workers: int = 1) -> Run:
        """Run the command line in whatever process is idle."""
        report = ["--report", str(self.report_of(target)), "--workers", str(workers)]
        server = self.idle.get()
        try:
            return server.run(["convert", str(self.source), str(target), *report, *self.options, *options], sabotage)
        finally:
            self.idle.put(server)

    def report_of(self, target: Path) -> Path:
        """Give where the report of a conversion is: not on the disk that may be full."""
        return self.source.parent / f"{target.stem}.json"

    def read_report(self, target: Path) -> dict[str, Any]:
        """Give what a report says but for the time that it took, and where."""
        report: dict[str, Any] = json.loads(self.report_of(target).read_text())
        return {key: value for key, value in report.items() if key not in ("seconds", "target")}

    def check_refused(self, target: Path) -> None:
        """Make sure that what an interrupted conversion left is not taken for a store, whichever that was."""
        left = read_store(target)
        if MARKER not in left:  # killed before the first key, or while the report of a complete store was made
            assert left in ({}, self.whole)
            return
        with pytest.raises(TargetError, match="unfinished"):
            verify(self.source, target)
        if is_begun(left):
            with pytest.raises(TargetError, match="unfinished"):
                convert(self.source, target)
        if {"zarr.json", ".zgroup"} & left.keys():
            assert {key: data for key, data in left.items() if key != MARKER} == self.whole

    def check_resumed(self, target: Path, *options: str) -> None:
        """Make sure that the conversion goes on, doing nothing again, to what it would have been."""
        before = read_places(target)
        run = self.run(target, Sabotage(), *(options or ("--resume",)))
        assert run.code in DONE, run.error
        assert read_store(target) == self.whole
        assert self.read_report(target) == self.report
        after = read_places(target)
        if "--overwrite" not in options:  # of what can be read in part nothing is kept
            assert all(after.get(key, place) == place for key, place in before.items())

    def each(self, act: Callable[[int], bool]) -> int:
        """Act for 1, 2, … until that gives False; gives how often it did not, and says so (``pytest -rP``)."""
        batch = SERVERS * 4
        with ThreadPoolExecutor(SERVERS) as pool:
            for start in count(1, batch):
                done = sum(pool.map(act, range(start, start + batch)))
                if done < batch:
                    print(f"{start - 1 + done} points")
                    return start - 1 + done
        raise AssertionError


def read_store(target: Path) -> Content:
    """Give all keys and their bytes."""
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def is_begun(content: Content) -> bool:
    """Tell whether there is more than a marker that does not say whose it is."""
    return content.keys() != {MARKER} or (b"fingerprint" in content[MARKER] and content[MARKER].endswith(b"}"))


def read_places(target: Path) -> dict[str, tuple[int, int]]:
    """Give inode and time of the chunks that are there."""
    return {
        path.relative_to(target).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in target.rglob("*")
        if path.is_file() and path.name not in DOCUMENTS and path.name != MARKER
    }


@pytest.mark.parametrize(
    ("how", "case"),
    [("fail", KEPT), ("fail on", KEPT), ("kill", KEPT), ("fail", ENCODED), ("kill", ENCODED)],
    ids=str,
)
def test_whichever_operation_fails_or_is_the_last_the_conversion_is_resumed(
    how: How, case: Case, tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(case, tmp_path, saboteurs)

    def fail_at(number: int) -> bool:
        target = tmp_path / f"{number}.zarr"
        run = trial.run(target, Sabotage(str(target), how, number))
        if run.code in DONE:
            assert read_store(target) == trial.whole
            return len(run.operations) >= number
        assert run.code == (-9 if how == "kill" else 1), run
        if how != "kill":
            assert "sabotage" in run.error
            assert "Traceback" not in run.error
        trial.check_refused(target)
        trial.check_resumed(target)
        shutil.rmtree(target)
        return True

    assert trial.each(fail_at) > len(trial.operations) / 2


def write_other(path: Path) -> None:
    """Write a file whose store has a group where the other's has an array, and an array where it has a group."""
    with h5py.File(path, "w") as file:
        file.create_dataset("g", data=np.arange(4), chunks=(2,))
        file.create_dataset("y/c", data=np.arange(4), chunks=(2,))


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "unfinished"])
def test_a_store_that_is_being_replaced_is_the_old_one_or_none(
    complete: bool, tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    write_other(tmp_path / "old.h5")
    first = Trial(tmp_path / "old.h5", (), saboteurs)
    operations = first.run(tmp_path / "old.zarr", Sabotage(str(tmp_path / "old.zarr"))).operations
    if not complete:
        shutil.rmtree(tmp_path / "old.zarr")
        first.run(tmp_path / "old.zarr", Sabotage(str(tmp_path / "old.zarr"), "kill", len(operations) - 2))
    old = read_store(tmp_path / "old.zarr")
    chunks = {key for key in old if key.rpartition("/")[2] not in (*DOCUMENTS, MARKER)}

    def kill_at(number: int) -> bool:
        target = tmp_path / f"{number}.zarr"
        shutil.copytree(tmp_path / "old.zarr", target)
        run = trial.run(target, Sabotage(str(target), "kill", number), "--overwrite")
        assert run.code == -9, run
        left = read_store(target)
        condemned = MARKER in left and b"fingerprint" not in left[MARKER]
        if condemned:
            with pytest.raises(TargetError, match="unfinished"):
                verify(tmp_path / "old.h5", target)
            if is_begun(left):
                with pytest.raises(TargetError, match="unfinished"):
                    convert(tmp_path / "old.h5", target)
            assert left.keys() >= chunks or not any(key.rpartition("/")[2] in DOCUMENTS for key in left)
        trial.check_resumed(target, "--resume" if condemned and number % 2 else "--overwrite")
        return condemned or left == old  # else all goes on as in an empty folder

    assert trial.each(kill_at) > 20


def test_a_resumed_conversion_that_is_killed_is_resumed(tmp_path: Path, saboteurs: SimpleQueue[Saboteur]) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    target = tmp_path / "killed.zarr"
    assert trial.run(target, Sabotage(str(target), "kill", len(trial.operations) // 2)).code == -9

    def kill_at(number: int) -> bool:
        again = tmp_path / f"{number}.zarr"
        shutil.copytree(target, again)
        run = trial.run(again, Sabotage(str(again), "kill", number), "--resume")
        if run.code in DONE:
            return len(run.operations) >= number
        trial.check_refused(again)
        trial.check_resumed(again)
        return True

    assert trial.each(kill_at) > len(trial.operations) / 4


def test_a_conversion_in_several_threads_that_is_killed_at_any_time_is_resumed(
    tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    started = time.perf_counter()
    trial.run(tmp_path / "timed.zarr", NOTHING, workers=2)
    seconds = time.perf_counter() - started
    times = random.Random(5)

    def kill_after(number: int) -> int:
        target = tmp_path / f"{number}.zarr"
        run = trial.run(target, Sabotage(how="kill later", at=times.uniform(0, seconds)), workers=2)
        left = read_store(target)
        if MARKER in left or not left:
            trial.check_refused(target)
            trial.check_resumed(target, "--resume")
        else:  # it had ended but for its report
            assert left == trial.whole
        return run.code

    with ThreadPoolExecutor(SERVERS) as pool:
        codes = list(pool.map(kill_after, range(50)))
    print(f"{codes.count(-9)} of {len(codes)} killed")
    assert set(codes) <= {-9, *DONE}
    assert -9 in codes


@pytest.mark.parametrize("how", ["touch", "append", "replace", "truncate"])
def test_a_source_that_changes_before_the_mark_is_written_is_noticed(
    how: How, tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    content = trial.source.read_bytes()
    places = [path for _, path in trial.operations]
    mark = next(number for number, path in enumerate(places, 1) if path.count("/") == 1 and path.endswith(".partial"))
    stat = trial.source.stat()
    every = 1 if how == "touch" else 7

    def change_at(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        victim, target = folder / "a.h5", folder / "a.zarr"
        victim.write_bytes(content)
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        sabotage = Sabotage(str(target), how, number, str(victim))
        run = Trial(victim, trial.options, trial.idle).run(target, sabotage)
        if number >= mark:
            assert run.code in DONE, run
            return
        assert run.code == 1, number
        assert "changed" in run.error
        with pytest.raises(TargetError, match=r"unfinished|no Zarr store"):
            verify(trial.source, target)

    with ThreadPoolExecutor(SERVERS) as pool:
        print(f"{len(list(pool.map(change_at, range(1, mark + 2, every))))} points")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Give what mounts a small file system, or alters its size in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(nbytes: int) -> Path:
        options = f"size={nbytes}{',remount' if folder.is_mount() else ''}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_conversion_that_fills_its_disk_is_resumed_when_there_is_room(
    disk: Callable[[int], Path], tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    for pages in count(1):
        target = disk(pages * 4096) / f"{pages}.zarr"
        run = trial.run(target, NOTHING)
        if run.code in DONE:
            break
        assert "No space left" in run.error
        trial.check_refused(target)
        disk(1 << 20)
        trial.check_resumed(target)
        shutil.rmtree(target)
    print(f"{pages - 1} sizes")
    assert pages > 10


def test_a_zip_that_fills_its_disk_leaves_nothing(disk: Callable[[int], Path], tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        file["x"] = np.random.default_rng(0).random(100_000)
    target = disk(1 << 18) / "a.zip"
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            convert(source, target)
        assert caught.value.__notes__ == [f"{target}: nothing was written; convert again"]
        assert list(target.parent.iterdir()) == []
    disk(1 << 22)
    assert convert(source, target, verify=True).complete


def test_a_conversion_that_ends_in_the_midst_of_a_file_is_resumed(
    tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    ends: tuple[tuple[How, int], ...] = (("full", 1), ("kill full", -signal.SIGXFSZ))
    chunks = {len(data) for key, data in trial.whole.items() if not key.endswith(DOCUMENTS)}
    for nbytes in sorted({1, 20, *chunks, 1000}):  # of the marker, of each kind of chunk, and of the documents
        for how, code in ends:
            target = tmp_path / f"{how} {nbytes}.zarr"
            run = trial.run(target, Sabotage(how=how, at=nbytes - 1))
            assert run.code == code
            assert how != "full" or "File too large" in run.error
            trial.check_refused(target)
            before = read_places(target)
            assert trial.run(target, Sabotage(how=how, at=0), "--resume").code == code
            trial.check_resumed(target)
            after = read_places(target)
            assert all(after[key] == place for key, place in before.items() if not key.endswith(".partial"))


def test_a_zip_that_is_killed_at_any_operation_is_the_old_one_or_the_new_one(
    tmp_path: Path, saboteurs: SimpleQueue[Saboteur]
) -> None:
    trial = Trial.of(KEPT, tmp_path, saboteurs)
    write_other(tmp_path / "old.h5")
    convert(tmp_path / "old.h5", tmp_path / "old.zip")

    def kill_at(number: int) -> bool:
        folder = tmp_path / str(number)
        folder.mkdir()
        target = folder / "a.zip"
        if number % 2:
            shutil.copyfile(tmp_path / "old.zip", target)
        run = trial.run(target, Sabotage(str(target), "kill", number), "--overwrite")
        assert run.code in {-9, *DONE}, run
        if target.exists():
            assert verify(trial.source, target).equal or (number % 2 and verify(tmp_path / "old.h5", target).equal)
        else:
            assert not number % 2
            assert run.code == -9
        assert trial.run(target, NOTHING, "--overwrite").code in DONE
        assert verify(trial.source, target).equal
        assert [path.name for path in folder.iterdir()] == ["a.zip"]
        return run.code == -9

    assert trial.each(kill_at) > 1
