"""Resumed conversions, what they refuse, and what keeps a second conversion out."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import dask
import h5py
import numpy as np
import pytest
from zarr.storage import MemoryStore

from h5bound import convert, verify
from h5bound.cli.main import run_command
from h5bound.conversion.provenance import fingerprint
from h5bound.conversion.resume import decide_action
from h5bound.errors import OptionError, SourceChangedError, TargetError
from h5bound.stores.local import DirectoryKeys
from h5bound.stores.lock import MARKER
from h5bound.stores.resolve import open_target
from h5bound.zarr_model.node_names import OWN_KEY
from tests.support.recorder import Log, count_files
from tests.support.saboteur import Saboteur

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from h5bound.reports.conversion import ConversionReport
    from h5bound.stores.lock import Marker

Content = dict[str, bytes]


def write_source(path: Path, chunks: int = 8) -> Path:
    """Write one array of so many chunks in each of two groups."""
    with h5py.File(path, "w") as file:
        file.create_dataset("a/x", data=np.arange(chunks * 10), chunks=(10,))
        file.create_dataset("b/y", data=np.arange(chunks * 10.0), chunks=(10,)).attrs["units"] = "m"
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file to convert."""
    return write_source(tmp_path / "a.h5")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of its store."""
    return tmp_path / "a.zarr"


def read_store(target: Path) -> Content:
    """Return all keys and their bytes."""
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def interrupt(source: Any, target: Any, *, at: float = 0.5, **options: Any) -> None:
    """Interrupt a conversion when about this share of the bytes is written."""

    def stop(done: int, total: int) -> None:
        if done >= at * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, target, **{"workers": 1, "window": 640, "progress": stop, **options})


def test_chunks_that_are_written_are_neither_read_nor_written_again(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(source, tmp_path / "whole.zarr", codecs="zstd")
    interrupt(source, target, codecs="zstd")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in target.rglob("c/*")}
    assert 0 < len(before) < 16
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    convert(source, target, codecs="zstd", resume=True)
    assert log.count("read") == 16 - len(before)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    assert read_store(target) == read_store(tmp_path / "whole.zarr")


def test_the_report_of_a_resumed_conversion_is_that_of_a_whole_one(source: Path, target: Path, tmp_path: Path) -> None:
    def comparable(report: ConversionReport) -> dict[str, object]:
        return {**report.to_dict(), "seconds": 0, "target": ""}

    whole = comparable(convert(source, tmp_path / "whole.zarr", shards="160 B"))
    interrupt(source, target, shards="160 B")
    assert comparable(convert(source, target, shards="160 B", resume=True)) == whole
    assert comparable(convert(source, target, shards="160 B", resume=True)) == whole


def write_pieces(path: Path) -> Path:
    """Write a dataset for each strategy: copied, in shards, re-encoded, without axes, text, sequences."""
    with h5py.File(path, "w") as file:
        file.create_dataset("kept", data=np.arange(60).reshape(6, 10), chunks=(2, 3), compression="gzip")
        file.create_dataset("shards", data=np.arange(60).reshape(6, 10), chunks=(1, 5), compression="gzip")
        file.create_dataset("encoded", data=np.arange(20.0), chunks=(3,), compression="lzf")
        file["scalar"] = 5
        file.create_dataset("text", data=["a", "bc", "d"], chunks=(1,), dtype=h5py.string_dtype())
        sequences = file.create_dataset("sequences", (12,), h5py.vlen_dtype(np.dtype("i8")))
        for i in range(12):
            sequences[i] = np.arange(150_000 * (i % 3))
    return path


@pytest.mark.slow
def test_whichever_chunks_are_there_only_the_others_are_written(tmp_path: Path) -> None:
    source = write_pieces(tmp_path / "a.h5")
    options: Any = {"shards": {"/shards": (2, 10)}, "workers": 2}
    convert(source, tmp_path / "whole.zarr", **options)
    whole = read_store(tmp_path / "whole.zarr")
    chunks = sorted(key for key in whole if not key.endswith(".json"))
    assert sum(key.startswith("sequences/values") for key in chunks) > 3
    interrupt(source, tmp_path / "begun.zarr", at=0, **options)
    marker = (tmp_path / "begun.zarr" / MARKER).read_bytes()
    choice = random.Random(1)
    for number in range(12):
        target = tmp_path / f"{number}.zarr"
        for key in choice.sample(chunks, choice.randrange(1, len(chunks))):
            (target / key).parent.mkdir(parents=True, exist_ok=True)
            (target / key).write_bytes(whole[key])
        (target / MARKER).write_bytes(marker)
        before = {path: path.stat().st_ino for path in target.rglob("*") if path.is_file() and path.name != MARKER}
        convert(source, target, resume=True, window=choice.choice(["4 KiB", "1 MiB", "1 GiB"]), **options)
        assert read_store(target) == whole
        assert {path: path.stat().st_ino for path in before} == before


@pytest.mark.parametrize(
    "options",
    [
        {"codecs": "zstd"},
        {"chunks": {"/a/x": (5,)}},
        {"shards": "160 B"},
        {"include": ["/a"]},
        {"exclude": ["/a"]},
        {"zarr_format": 2},
        {"max_depth": 5},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("complete", [False, True], ids=["unfinished", "complete"])
def test_other_options_are_refused_and_named(
    options: dict[str, Any], source: Path, target: Path, complete: bool
) -> None:
    if complete:
        convert(source, target)
    else:
        interrupt(source, target)
    before = read_store(target)
    named = "format 2" if complete and "zarr_format" in options else next(iter(options))
    with pytest.raises(TargetError, match=rf"{named}.*overwrite=True") as refused:
        convert(source, target, resume=True, **options)
    planned = convert(source, target, resume=True, dry_run=True, **options)
    assert planned.remark == f"the conversion would be refused: {refused.value}"
    assert read_store(target) == before
    convert(source, target, overwrite=True, **options)
    assert verify(source, target).equal


@pytest.mark.parametrize("complete", [False, True], ids=["unfinished", "complete"])
def test_a_source_that_is_not_the_same_any_more_is_refused(source: Path, target: Path, complete: bool) -> None:
    if complete:
        convert(source, target)
    else:
        interrupt(source, target)
    os.utime(source)
    with pytest.raises(
        TargetError, match=r"the source a\.h5 changed \(modified \S+ → \S+ UTC\) since .* overwrite=True"
    ):
        convert(source, target, resume=True)
    source.rename(source.with_name("b.h5"))
    with pytest.raises(TargetError, match=r"source=a.h5, now source=b.h5"):
        convert(source.with_name("b.h5"), target, resume=True)


def test_work_of_another_version_is_refused(source: Path, target: Path) -> None:
    interrupt(source, target)
    marker = json.loads((target / MARKER).read_text())
    del marker["fingerprint"]
    marker["h5bound"] = "0.0.1"
    (target / MARKER).write_text(json.dumps({"fingerprint": fingerprint(marker), **marker}))
    with pytest.raises(TargetError, match=r"h5bound=0\.0\.1, now h5bound="):
        convert(source, target, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        {"source": 3},
        {"source": {"path": "a.h5"}},
        {"source": {"path": "a.h5", "size": "1", "mtime_ns": 2**80, "stamps": 5}},
        {"external": 7},
        {"external": [1, {"path": []}]},
    ],
    ids=str,
)
def test_a_damaged_marker_is_refused_as_the_work_of_another_conversion(
    damage: dict[str, Any], source: Path, target: Path
) -> None:
    interrupt(source, target)
    (target / MARKER).write_text(json.dumps({**json.loads((target / MARKER).read_text()), "fingerprint": "", **damage}))
    with pytest.raises(TargetError, match=r"cannot resume: .*overwrite=True"):
        convert(source, target, resume=True)


def test_work_by_other_rules_of_the_same_version_is_refused(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h5bound.conversion.provenance.PLANNING_VERSION", 1)
    interrupt(source, target)
    monkeypatch.undo()
    with pytest.raises(TargetError, match=r"cannot resume: .* a version between two releases"):
        convert(source, target, resume=True)


def test_a_conversion_with_other_external_files_is_another_one(tmp_path: Path, target: Path) -> None:
    np.arange(4, dtype="<i4").tofile(tmp_path / "raw.bin")
    source = write_source(tmp_path / "a.h5")
    with h5py.File(source, "a") as file:
        file.create_dataset("raw", (4,), "<i4", external=[(str(tmp_path / "raw.bin"), 0, 16)])
    interrupt(source, target, on_unsupported="skip")
    for _ in ("unfinished", "complete"):
        with pytest.raises(TargetError, match=r"data of no other file, now of .*raw\.bin"):
            convert(source, target, resume=True, allow_external=[tmp_path])
        convert(source, target, resume=True, on_unsupported="skip")
    assert verify(source, target).equal


def test_a_file_in_memory_is_not_resumed_since_it_may_be_another(target: Path) -> None:
    for values in (range(80), range(80, 160)):
        with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
            file.create_dataset("x", data=np.array(values), chunks=(10,))
            if not target.exists():
                interrupt(file, target)
                continue
            with pytest.raises(TargetError, match="no modification time"):
                convert(file, target, resume=True)
            convert(file, target, overwrite=True)
            with pytest.raises(TargetError, match="no modification time"):
                convert(file, target, resume=True)


def test_a_complete_store_is_left_as_it_is(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(source, target)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in target.rglob("*")}
    assert convert(source, target, resume=True, dry_run=True).remark == "already complete"
    assert run_command(["convert", str(source), str(target), "--resume", "--verify"]) == 0
    assert "equal" in capsys.readouterr().out
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in target.rglob("*")} == before
    next(target.rglob("c/3")).unlink()
    with pytest.raises(TargetError, match="1 chunk is missing"):
        convert(source, target, resume=True)
    assert "1 chunk is missing" in convert(source, target, resume=True, dry_run=True).remark


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_complete_store_without_a_metadata_document_is_not_complete(
    source: Path, target: Path, zarr_format: Literal[2, 3]
) -> None:
    convert(source, target, zarr_format=zarr_format)
    names = {".zgroup", ".zarray"} if zarr_format == 2 else {"zarr.json"}
    for document in sorted(path for path in target.rglob("*") if path.name in names and path.parent != target):
        data = document.read_bytes()
        document.unlink()
        with pytest.raises(TargetError, match=f"the store is complete, but {document.relative_to(target)} is missing"):
            convert(source, target, zarr_format=zarr_format, resume=True)
        document.write_bytes(data)
    assert convert(source, target, zarr_format=zarr_format, resume=True).complete


def test_a_store_without_a_dataset_that_cannot_be_read_is_complete(source: Path, target: Path) -> None:
    with h5py.File(source, "a") as file:
        bad = file.create_dataset("bad", data=np.arange(100), chunks=(50,), compression="gzip")
        info = bad.id.get_chunk_info(0)
    with source.open("r+b") as raw:
        raw.seek(info.byte_offset)
        raw.write(bytes(info.size))
    options: Any = {"codecs": "zstd", "on_unsupported": "skip"}
    first = convert(source, target, **options)
    again = convert(source, target, resume=True, **options)
    assert first.skipped == again.skipped
    assert first.converted == again.converted
    assert [item.path for item in again.skipped] == ["/bad"]


def test_a_complete_store_that_skipped_what_is_not_skipped_now_is_of_another_conversion(
    source: Path, target: Path
) -> None:
    with h5py.File(source, "a") as file:
        file.create_dataset("regions", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
    convert(source, target, on_unsupported="skip")
    assert convert(source, target, on_unsupported="skip", resume=True).skipped
    own = target / OWN_KEY
    own.write_text(own.read_text().replace("/regions", "/others"))
    with pytest.raises(TargetError, match="overwrite=True"):
        convert(source, target, on_unsupported="skip", resume=True)


def test_metadata_is_gone_first_where_a_store_is_replaced(source: Path, target: Path) -> None:
    convert(source, target)
    with patch.object(DirectoryKeys, "clear", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        convert(source, target, overwrite=True)
    assert not list(target.rglob("zarr.json"))


@pytest.mark.parametrize("place", ["none", "empty", "photos", "another's"])
def test_resume_starts_in_an_empty_place_and_touches_no_other_files(place: str, source: Path, target: Path) -> None:
    if place != "none":
        target.mkdir()
    if place == "photos":
        (target / "cat.jpg").write_bytes(b"meow")
        with pytest.raises(TargetError, match="not a Zarr store"):
            convert(source, target, resume=True)
        assert read_store(target) == {"cat.jpg": b"meow"}
    elif place == "another's":
        import zarr

        zarr.create_group(target)
        with pytest.raises(TargetError, match="not a store that h5bound wrote"):
            convert(source, target, resume=True)
        assert list(read_store(target)) == ["zarr.json"]
    else:
        assert convert(source, target, resume=True).complete
        assert verify(source, target).equal


def test_keys_that_are_not_in_the_plan_are_gone_after_resume(source: Path, target: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "whole.zarr")
    interrupt(source, target)
    for key in ("zarr.json", "a/x/zarr.json", "a/x/c/0.12ab.partial", "12.partial", "b/deep/er/c/0", "a/x/c/99"):
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        (target / key).write_bytes(b"left over")
    convert(source, target, resume=True)
    assert read_store(target) == read_store(tmp_path / "whole.zarr")
    assert not (target / "b" / "deep").exists()


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_files_of_other_programs_are_named_and_stay(source: Path, target: Path, zarr_format: Any) -> None:
    convert(source, target, zarr_format=zarr_format)
    names = [".DS_Store", "a/notes.txt", "a/x/.DS_Store"]
    for name in names:
        (target / name).write_bytes(b"foreign")
    compared = verify(source, target)
    assert (compared.equal, compared.foreign) == (True, tuple(names))
    words = "3 files of another program, which no reader of Zarr reads: .DS_Store, a/notes.txt, a/x/.DS_Store"
    assert f"note: /: {words}" in repr(compared)
    report = convert(source, target, zarr_format=zarr_format, resume=True)
    assert report.remark == "already complete"
    assert f"note: /: {words}" in repr(report)
    shutil.rmtree(target)
    interrupt(source, target, zarr_format=zarr_format)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(b"foreign")
    assert words in repr(convert(source, target, zarr_format=zarr_format, resume=True))
    assert all((target / name).read_bytes() == b"foreign" for name in names)


def test_a_chunk_that_another_program_added_is_a_difference(source: Path, target: Path) -> None:
    convert(source, target)
    (target / "a/x/c/99").write_bytes(b"foreign")
    assert not verify(source, target).equal
    with pytest.raises(TargetError, match="the store is complete, but a/x/c/99 was added by another program"):
        convert(source, target, resume=True)


def test_a_complete_store_with_a_marker_is_unfinished(source: Path, target: Path) -> None:
    convert(source, target)
    whole = read_store(target)
    interrupt(source, target, overwrite=True)
    for key, data in whole.items():
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        (target / key).write_bytes(data)
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)
    with pytest.raises(TargetError, match="unfinished"):
        convert(source, target)
    convert(source, target, resume=True)
    assert read_store(target) == whole


def test_chunks_of_an_overwritten_store_are_not_taken_for_new_ones(tmp_path: Path, target: Path) -> None:
    old, new = write_source(tmp_path / "old.h5"), tmp_path / "new.h5"
    with h5py.File(old) as file, h5py.File(new, "w") as other:
        for name in ("a/x", "b/y"):
            other.create_dataset(name, data=-file[name][:], chunks=(10,))
    convert(old, target)
    with lock(target) as marker:
        marker.write({})  # as an overwriting conversion does first
    with pytest.raises(TargetError, match="unfinished"):
        convert(new, target)
    convert(new, target, resume=True)
    assert verify(new, target).equal


@contextmanager
def lock(target: Path) -> Iterator[Marker]:
    """Lock a target as a conversion does."""
    with open_target(target, 3).begin("", overwrite=False) as (_, marker):
        yield marker


def hold(source: Any, target: Any, act: Callable[[], object], **options: Any) -> ConversionReport:
    """Convert, and act once in between."""
    acted: list[object] = []

    def progress(_done: int, _total: int) -> None:
        if not acted:
            acted.append(None)
            act()

    report: ConversionReport = convert(source, target, workers=1, window=640, progress=progress, **options)
    return report


SECONDS: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]


@pytest.fixture(scope="module")
def other() -> Iterator[Saboteur]:
    """Return another process that runs the command line."""
    with Saboteur() as process:
        yield process


def refuse_seconds(source: Path, target: Path, other: Saboteur) -> None:
    """Check that a second conversion is refused with the reason, in this and in another process."""
    for options in SECONDS:
        with pytest.raises(TargetError, match="another conversion"):
            convert(source, target, **options)
        second = other.run(["convert", str(source), str(target), *(f"--{name}" for name in options)])
        assert second.code == 1
        assert "another conversion is writing to it" in second.error


@pytest.mark.slow
@pytest.mark.parametrize("options", SECONDS, ids=["fresh", "resumed", "overwriting"])
@pytest.mark.parametrize("name", ["a.zarr", "a.zip"])
def test_a_second_conversion_is_refused_while_the_first_one_runs(
    name: str, options: dict[str, Any], source: Path, tmp_path: Path, other: Saboteur
) -> None:
    target = tmp_path / name
    if options:
        interrupt(source, target)
    assert hold(source, target, lambda: refuse_seconds(source, target, other), **options).complete
    assert verify(source, target).equal


def start_and_stop(source: Path, target: Path) -> subprocess.Popen[str]:
    """Return a process that waits within a conversion."""
    script = f"""
import sys
from h5bound import convert

def progress(done, total):
    if done > total / 3:
        print("here", flush=True)
        sys.stdin.read()

convert({str(source)!r}, {str(target)!r}, workers=1, window=640, progress=progress)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("way", "killed_by"),
    [("resume", "SIGKILL"), ("overwrite", "SIGKILL"), ("resume", "SIGTERM"), ("overwrite", "SIGINT")],
)
def test_a_conversion_that_was_killed_blocks_nobody(
    way: str, killed_by: str, source: Path, target: Path, tmp_path: Path, interruptible: None
) -> None:
    convert(source, tmp_path / "whole.zarr")
    with start_and_stop(source, target) as process:
        with pytest.raises(TargetError, match="another conversion"):
            convert(source, target, **{way: True})  # type: ignore[call-overload]  # one of two flags
        process.send_signal(signal.Signals[killed_by])
        process.communicate()
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)
    convert(source, target, **{way: True})  # type: ignore[call-overload]  # one of two flags
    assert read_store(target) == read_store(tmp_path / "whole.zarr")


def test_of_conversions_that_start_together_one_is_not_refused(source: Path, tmp_path: Path) -> None:
    for number in range(8):
        target, ends, barrier = tmp_path / f"{number}.zarr", list[object](), threading.Barrier(3)

        def run(target: Path = target, ends: list[object] = ends, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                ends.append(convert(source, target, workers=1).complete)
            except TargetError as error:
                ends.append(error)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends.count(True) == 1, ends
        assert verify(source, target).equal


def test_an_empty_marker_of_a_refused_conversion_is_deleted(source: Path, target: Path) -> None:
    convert(source, target)
    (target / MARKER).touch()  # by another conversion, which was refused since this one was the first to lock it
    with lock(target) as marker, pytest.raises(TargetError):
        decide_action(open_target(target, 3), marker, {}, resume=False, overwrite=False)
    assert verify(source, target).equal


def test_a_marker_that_is_deleted_before_it_is_locked_is_made_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5bound.stores.lock

    target.mkdir()
    (target / MARKER).write_bytes(b"{}")
    system_lock, late = h5bound.stores.lock.lock, [True]

    def lock_late(descriptor: int) -> None:
        if late.pop():
            (target / MARKER).unlink()  # as the conversion does that has finished meanwhile
            late.append(False)
        system_lock(descriptor)

    monkeypatch.setattr(h5bound.stores.lock, "lock", lock_late)
    with lock(target) as marker:
        assert marker.content is None
        assert marker.is_ours()


def test_where_there_are_no_locks_the_first_marker_counts(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import h5bound.stores.lock

    def no_lock(_descriptor: int) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(h5bound.stores.lock, "lock", no_lock)

    def second() -> None:
        with pytest.raises(TargetError, match="unfinished"):
            convert(source, target)

    assert hold(source, target, second).complete
    interrupt(source, target, overwrite=True)
    assert convert(source, target, resume=True).complete


def test_in_a_store_without_locks_a_second_conversion_is_refused_or_takes_over(source: Path) -> None:
    store = MemoryStore()

    def second() -> None:
        with pytest.raises(TargetError, match="unfinished"):
            convert(source, store)

    assert hold(source, store, second).complete

    def take_over() -> None:
        interrupt(source, store, overwrite=True)

    with pytest.raises(TargetError, match="replaced by another conversion"):
        hold(source, store, take_over, overwrite=True)
    assert convert(source, store, resume=True).complete
    assert verify(source, store).equal


def test_a_conversion_whose_marker_was_taken_over_writes_nothing_more(source: Path, tmp_path: Path) -> None:
    other, store = write_source(tmp_path / "other.h5", 3), MemoryStore()
    with dask.config.set(scheduler="sync"), pytest.raises(TargetError, match="replaced by another conversion"):
        hold(source, store, lambda: convert(other, store, overwrite=True))  # no key is being written meanwhile
    assert verify(other, store).equal


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need privileges there")
@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("there", ["a store", "nothing"])
def test_a_marker_that_is_a_link_is_not_written_through(
    source: Path, target: Path, tmp_path: Path, there: str, options: dict[str, bool]
) -> None:
    if there == "a store":
        convert(source, target)
    target.mkdir(exist_ok=True)
    (tmp_path / "precious").write_text("precious")
    (target / MARKER).symlink_to(tmp_path / "precious")
    with pytest.raises(TargetError):
        convert(source, target, **options)  # type: ignore[call-overload]  # as a mapping has them
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need privileges there")
def test_a_folder_of_a_store_that_is_a_link_is_not_written_through(source: Path, target: Path, tmp_path: Path) -> None:
    interrupt(source, target)
    folder = next(path for path in target.iterdir() if path.is_dir())
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = read_store(tmp_path / "elsewhere")
    with pytest.raises(TargetError, match="a symbolic link"):
        convert(source, target, resume=True)
    assert read_store(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_source_inside_its_target_is_not_deleted(source: Path, target: Path, option: str, unfinished: bool) -> None:
    interrupt(source, target) if unfinished else convert(source, target)
    inside = source.rename(target / "a.h5")
    with pytest.raises(TargetError, match=r"the source .*a\.h5 lies inside the target"):
        convert(inside, target, **{option: True})  # type: ignore[call-overload]  # as a mapping has them
    assert inside.stat().st_size


def test_the_report_does_not_overwrite_the_source(source: Path, target: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(OptionError, match="would overwrite a file that is read"):
        convert(source, target, report=source)
    assert source.read_bytes() == before


def test_an_open_file_is_not_taken_for_another_at_its_path(source: Path, target: Path, tmp_path: Path) -> None:
    other = write_source(tmp_path / "other.h5", 3)
    with h5py.File(source) as file:
        other.replace(source)
        with pytest.raises(SourceChangedError, match="the file was replaced after it was opened"):
            convert(file, target)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything can be written to")
def test_a_target_that_cannot_be_written_to_is_one_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(TargetError, match="cannot be written to"):
        convert(source, tmp_path / "closed" / "a.zarr")


def test_a_target_below_a_file_is_one_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="file"):
        convert(source, tmp_path / "file" / "a.zarr")


def test_a_target_that_is_deleted_meanwhile_is_not_marked_complete(source: Path, target: Path) -> None:
    with pytest.raises(TargetError, match="deleted"):
        hold(source, target, (target / MARKER).unlink)
    with pytest.raises(TargetError):
        verify(source, target)


def test_a_conversion_that_is_refused_leaves_no_marker(source: Path, target: Path) -> None:
    convert(source, target)
    whole = read_store(target)
    for options in ({}, {"resume": True, "codecs": "zstd"}):
        with pytest.raises(TargetError):
            convert(source, target, **options)  # type: ignore[call-overload]  # as a mapping has them
    assert read_store(target) == whole


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Return a file with external storage, and with a virtual dataset of a virtual dataset."""
    np.arange(4, dtype="<i4").tofile(tmp_path / "raw.bin")
    with h5py.File(tmp_path / "far.h5", "w") as file:
        file["p"] = np.arange(3)
    with h5py.File(tmp_path / "near.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), "<i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "far.h5"), "p", (3,))
        file.create_virtual_dataset("p", layout)
    with h5py.File(tmp_path / "parts.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), "<i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "near.h5"), "p", (3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (4,), "<i4", external=[(str(tmp_path / "raw.bin"), 0, 16)])
        file.create_dataset("x", data=np.arange(80), chunks=(10,))
    return tmp_path / "parts.h5"


@pytest.mark.parametrize("name", ["raw.bin", "near.h5", "far.h5"])
def test_changes_of_external_files_are_noticed(name: str, parts: Path, target: Path) -> None:
    folder = parts.parent
    with pytest.raises(SourceChangedError, match=name):
        hold(parts, target, lambda: os.utime(folder / name), allow_external=[folder])
    with pytest.raises(TargetError, match="unfinished"):
        verify(parts, target)
    with pytest.raises(TargetError, match=rf"the external file {name} changed \(modified \S+ → \S+ UTC\)"):
        convert(parts, target, resume=True, allow_external=[folder])
    convert(parts, target, overwrite=True, allow_external=[folder])
    assert verify(parts, target, allow_external=[folder]).equal


def test_a_file_that_the_caller_writes_to_meanwhile_is_noticed(source: Path, target: Path) -> None:
    with h5py.File(source, "a") as file:
        file["a/x"][0] = 7
        assert convert(file, target).complete

        def write(done: int, total: int) -> None:
            if done == total:
                file.attrs["late"] = 8  # it stays in the memory of HDF5 until a flush

        with pytest.raises(SourceChangedError):
            convert(file, target, overwrite=True, progress=write)


def test_changes_during_a_verification_are_noticed(source: Path, target: Path) -> None:
    convert(source, target)

    def replaced(_done: int, _total: int) -> None:
        convert(source, target, overwrite=True, codecs="zstd")

    with pytest.raises((TargetError, FileNotFoundError)):
        verify(source, target, progress=replaced)

    def touched(done: int, total: int) -> None:
        if done == total:
            os.utime(source)

    with pytest.raises(SourceChangedError):
        verify(source, target, progress=touched)


def test_the_error_for_an_unfinished_conversion_names_the_options(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(source, target)
    command = ["convert", str(source), str(target)]
    for options, message in (
        ([], "unfinished conversion; --resume goes on with it, --overwrite replaces it"),
        (["--resume", "--codecs", "zstd"], "--codecs keep, now --codecs zstd"),
    ):
        assert run_command([*command, *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"h5bound: error: {target}")
        assert message in line
    assert run_command([*command, "--resume", "--overwrite"]) == 2
    assert run_command([*command, "--resume"]) == 0
