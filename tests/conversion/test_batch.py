"""Many sources into one folder: names, failures, resuming, progress and the report."""

from __future__ import annotations

import inspect
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import OptionError, TargetError, convert
from h5bound.conversion.folder import name_stem
from h5bound.conversion.keywords import Options
from h5bound.execution.progress import Meter, Step
from h5bound.stores.lock import MARKER
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.full((8, 8), value, "i4"), chunks=(4, 8), compression="gzip")
    return path


def read(store: Path) -> int:
    with quiet_zarr():
        return int(zarr.open_group(store, mode="r")["x"][0, 0])  # type: ignore[index, arg-type]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "in" / f"{name}.h5", value) for value, name in enumerate("abc")]


def test_each_source_becomes_a_store_of_its_name(tmp_path: Path, sources: list[Path]) -> None:
    other = write(tmp_path / "run.1.nc", 7)
    with h5py.File(tmp_path / "open", "w") as file:
        file["x"] = np.full((2, 2), 9)
        report = convert([*map(str, sources), other, file], tmp_path / "out", verify=True)
    names = ["a.zarr", "b.zarr", "c.zarr", "run.1.zarr", "open.zarr"]
    assert [Path(item.target).name for item in report.conversions] == names
    assert [read(tmp_path / "out" / name) for name in names] == [0, 1, 2, 7, 9]
    assert report.complete
    assert report.exit_code == 0
    assert all(item.verification is not None and item.verification.equal for item in report.conversions)
    assert "5 of 5 files converted, 5 datasets" in repr(report)


def test_a_source_that_fails_is_one_entry_and_resume_does_the_rest(tmp_path: Path, sources: list[Path]) -> None:
    bad = tmp_path / "in" / "bad.h5"
    bad.write_bytes(b"no HDF5")
    missing = tmp_path / "in" / "missing.h5"
    everything = [bad, sources[0], missing, *sources[1:]]
    document = tmp_path / "out" / "report.json"
    report = convert(everything, tmp_path / "out", report=document)
    assert [Path(item.source).name for item in report.failed] == ["bad.h5", "missing.h5"]
    assert [Path(item.source.path).name for item in report.conversions] == ["a.h5", "b.h5", "c.h5"]
    assert report.exit_code == 1
    assert not report.complete
    assert "2 files failed" in report.summary()
    assert repr(report).count("bad.h5") == 1
    entry = json.loads(document.read_text())
    assert entry == json.loads(report.to_json())
    assert [item["target"] for item in entry["failed"]] == [str(tmp_path / f"out/{n}.zarr") for n in ("bad", "missing")]
    assert [item["complete"] for item in entry["conversions"]] == [True] * 3

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    write(bad, 5)
    write(missing, 6)
    report = convert(everything, tmp_path / "out", resume=True)
    assert report.complete
    assert read(tmp_path / "out" / "bad.zarr") == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_interruption_leaves_one_unfinished_store_and_says_how_to_go_on(tmp_path: Path, sources: list[Path]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total // 3:  # the first source is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        convert(sources, tmp_path / "out", progress=interrupt, workers=1)
    assert caught.value.__notes__ == [
        f"{tmp_path / 'out' / 'b.zarr'} is unfinished",
        "1 of 3 sources converted; resume=True converts the rest",
    ]
    out = tmp_path / "out"
    assert [(out / f"{name}.zarr" / "zarr.json").exists() for name in "abc"] == [True, False, False]
    assert (out / "b.zarr" / MARKER).exists()
    assert not (out / "c.zarr").exists()
    assert convert(sources, out, resume=True).complete
    assert [read(out / f"{name}.zarr") for name in "abc"] == [0, 1, 2]


def test_failures_of_one_reason_are_one_line(tmp_path: Path, sources: list[Path]) -> None:
    out = tmp_path / "out"
    convert(sources[:2], out)
    report = convert(sources, out, resume=True)
    assert report.summary().startswith("1 of 3 files converted, 2 already complete, 3 datasets; ")
    there = convert(sources, out)
    assert "failed: 3 files: this store exists; resume=True accepts it if it is complete" in repr(there)
    nothing = convert(sources, tmp_path / "none", exclude=["*"])
    assert "failed: 3 files: exclude=['*']: leaves nothing to convert in the source (" in repr(nothing)
    for number, source in enumerate(sources, 1):
        source.write_bytes(source.read_bytes() + bytes(number))
        os.utime(source, (number, number))
    for planned, title in ((False, "failed"), (True, "refused")):
        changed = repr(convert(sources, out, resume=True, dry_run=planned))
        line = f"{title}: 3 files: cannot resume: the source changed since the store was begun; convert again with "
        assert line in " ".join(changed.split())


def test_the_target_of_one_source_that_ends_in_a_slash_is_a_folder_unless_it_is_a_store(
    tmp_path: Path, sources: list[Path]
) -> None:
    out, store = f"{tmp_path / 'out'}/", tmp_path / "out" / "b.zarr"
    report = convert(sources[1], out, verify=True)
    assert Path(report.target) == store
    assert report.verification is not None
    assert report.verification.equal
    assert convert(sources[1], f"{store}/", resume=True).remark == "already complete"
    assert convert(sources[1], out, resume=True).remark == "already complete"
    assert Path(convert(sources[1], f"{tmp_path / 'b.zip'}/").target) == tmp_path / "b.zip"
    (store / "zarr.json").rename(store / MARKER)  # unfinished
    with pytest.raises(TargetError, match="unfinished conversion"):
        convert(sources[1], f"{store}/")
    assert Path(convert(sources[1], "memory://one-source/").target.partition("//")[2]) == Path("one-source/b.zarr")


def test_a_folder_without_a_store_is_named_with_the_way_to_convert_into_it(tmp_path: Path, sources: list[Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("keep")
    for options in ({}, {"resume": True}):
        with pytest.raises(TargetError, match=r"out: this is a folder that is not a Zarr store; end it with a slash"):
            convert(sources[0], tmp_path / "out", **options)  # type: ignore[call-overload]  # as a mapping has them
    with pytest.raises(TargetError, match="out: not a Zarr store, so it stays as it is, also with overwrite=True"):
        convert(sources[0], tmp_path / "out", overwrite=True)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as other:
        other.writestr("notes.txt", "keep")
    with pytest.raises(TargetError, match=r"a\.zip: not a Zarr store, so it stays as it is"):
        convert(sources[0], tmp_path / "a.zip")
    assert convert(sources[0], f"{tmp_path / 'out'}/").complete


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(["a.h5", "x/a.h5"], "would become one store", id="same-name"),
        pytest.param(["run.1.h5", "run.1.nc"], "would become one store", id="other-suffix"),
        pytest.param(["A.h5", "x/a.h5"], "would become one store", id="case"),
        pytest.param(["x/e\u0301.h5", "\u00e9.h5"], "would become one store", id="normal-form"),
        pytest.param(["a.h5", "b.h5", "x/../a.h5"], "named 2 times", id="twice"),
    ],
)
def test_sources_that_would_become_one_store_are_refused(names: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in names:
        write(tmp_path / name)
    with pytest.raises(OptionError, match=words):
        convert([tmp_path / name for name in names], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_is_no_folder_is_refused(tmp_path: Path, sources: list[Path]) -> None:
    convert(sources[0], tmp_path / "store.zarr")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / MARKER).write_text("{}")
    targets: Sequence[tuple[Any, str]] = [
        (tmp_path / "store.zarr", "this is a Zarr store"),
        (tmp_path / "unfinished", "this is a Zarr store"),
        (sources[0], "is a file"),
        (sources[0] / "below", "is a file"),
        (tmp_path / "all.zip", "a zip file holds one store"),
        (zarr.storage.MemoryStore(), "need a folder"),
    ]
    for target, words in targets:
        with pytest.raises(OptionError, match=words):
            convert(sources, target)
    with pytest.raises(OptionError, match="at least one"):
        convert([], tmp_path / "out")
    with h5py.File(sources[0]) as closed:
        pass
    with pytest.raises(OptionError, match="no name"):
        convert([closed, sources[1]], tmp_path / "out")
    with pytest.raises(OptionError, match="no name"):
        convert([3, sources[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_and_the_report_are_judged_before_the_first_source(tmp_path: Path, sources: list[Path]) -> None:
    with pytest.raises(OptionError, match="codecs"):
        convert(sources, tmp_path / "out", codecs="nosuch")
    out = tmp_path / "out"
    for report in (sources[1], out / "b.zarr" / "report.json", out / "b.zarr", tmp_path / "none" / "report.json"):
        with pytest.raises(OptionError, match="report"):
            convert(sources, out, report=report)
    with pytest.raises(OptionError, match="matches nothing"):
        convert(sources, out, include=["nosuch"], report=out / "report.json")
    assert not out.exists()


def test_the_report_may_be_in_the_folder_though_all_fail(tmp_path: Path) -> None:
    report = convert([tmp_path / "none.h5"], tmp_path / "out", report=tmp_path / "out" / "report.json")
    assert report.exit_code == 1
    assert json.loads((tmp_path / "out" / "report.json").read_text())["complete"] is False


def test_a_report_that_cannot_be_written_is_no_success_of_those_that_failed(
    tmp_path: Path, sources: list[Path]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is full")
    sources[1].write_bytes(b"")
    with pytest.raises(TargetError, match=r"No space left on device; 2 of 3 files converted, .*; 1 file failed"):
        convert(sources, tmp_path / "out", report="/dev/full")


def test_a_dry_run_lists_all_and_writes_nothing(tmp_path: Path, sources: list[Path]) -> None:
    report = convert(sources, tmp_path / "out", dry_run=True)
    assert [len(item.arrays) for item in report.conversions] == [1, 1, 1]
    assert "dry run: nothing written" in report.summary()
    assert not (tmp_path / "out").exists()


def test_the_progress_counts_all_sources_and_never_goes_back(tmp_path: Path, sources: list[Path]) -> None:
    calls: list[tuple[int, int]] = []
    missing = tmp_path / "missing.h5"
    convert([missing, *sources], tmp_path / "out", verify=True, progress=lambda *call: calls.append(call))
    total = sum(source.stat().st_size for source in sources)
    assert calls == sorted(calls)
    assert {call[1] for call in calls} == {total}
    assert calls[-1] == (total, total)


def test_the_bar_says_which_file_is_in_hand(tmp_path: Path, sources: list[Path]) -> None:
    steps: list[Step] = []
    convert(sources, tmp_path / "out", progress=Meter(steps.append))
    phases = [step.phase for step in steps if step.total is not None]
    assert list(dict.fromkeys(phases)) == [f"file {i} of 3" for i in (1, 2, 3)]
    assert steps[-1].done == steps[-1].total == sum(path.stat().st_size for path in sources)


def test_options_of_a_url_serve_the_sources_that_are_urls(tmp_path: Path, sources: list[Path]) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/batch/d.h5", sources[2].read_bytes())
    report = convert(
        [sources[0], "memory://batch/d.h5"], tmp_path / "out", storage_options={"skip_instance_cache": True}
    )
    assert report.complete
    assert [read(tmp_path / "out" / f"{name}.zarr") for name in "ad"] == [0, 2]
    report = convert(sources, "memory://batch-out/")
    assert report.complete
    assert sorted(fs.ls("/batch-out", detail=False)) == [f"/batch-out/{name}.zarr" for name in "abc"]
    with pytest.raises(OptionError, match="this is a Zarr store"):
        convert(sources, "memory://batch-out/a.zarr")


def test_a_url_without_the_name_of_a_file_is_refused() -> None:
    with pytest.raises(OptionError, match="does not end in the name of a file"):
        name_stem("https://host/")


def test_the_overloads_have_the_keywords_of_the_function() -> None:
    parameters = inspect.signature(convert).parameters.values()
    keywords = {item.name: item.annotation for item in parameters if item.kind is item.KEYWORD_ONLY}
    assert {name: getattr(kind, "__forward_arg__", kind) for name, kind in Options.__annotations__.items()} == keywords


def test_a_relative_folder_may_be_that_of_the_sources(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "in")
    assert convert([source.name for source in sources], ".").complete
    assert sorted(os.listdir()) == sorted(f"{name}.{kind}" for name in "abc" for kind in ("h5", "zarr"))  # noqa: PTH208


@pytest.mark.slow
def test_a_cluster_has_one_client_for_all_sources(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    clients = []

    class Counted(distributed.Client):  # type: ignore[misc, name-defined]
        """A client that is counted."""

        def __init__(self, *args: Any, **options: Any) -> None:
            clients.append(self)
            super().__init__(*args, **options)

    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster:
        monkeypatch.setattr(distributed, "Client", Counted)
        out = tmp_path / "out"
        report = convert([*sources, tmp_path / "no.h5"], out, scheduler=cluster.scheduler_address, verify=True)
    assert [Path(item.source).name for item in report.failed] == ["no.h5"]
    assert [read(out / f"{name}.zarr") for name in "abc"] == [0, 1, 2]
    assert all(item.verification is not None and item.verification.equal for item in report.conversions)
    assert len(clients) == 1
