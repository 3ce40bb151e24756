"""Chunks that are copied into a directory while the source is open: none of them is a key before its close."""

from __future__ import annotations

import os
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import combine, convert, verify
from h5bound.conversion import spill
from h5bound.conversion.transfer import TRANSFER
from h5bound.errors import SourceChangedError, TargetError
from h5bound.reader.many_files import OpenFiles
from h5bound.reader.open_file import OpenFile
from h5bound.stores.local import HeldKeys
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX
from tests.combining.test_combine import write_days

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of 16 chunks of 80 bytes, and one in which a chunk was not filtered."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(160), chunks=(10,))
        mixed = file.create_dataset("mixed", data=np.arange(20), chunks=(10,), compression="gzip")
        mixed.id.write_direct_chunk((10,), np.arange(10, 20).tobytes(), 1)
    return path


def list_chunks(target: Path) -> list[str]:
    """Return the names of the files below ``c``."""
    return [path.name for path in target.glob("*/c/*")]


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_are_written_while_the_source_is_open_and_appear_after_the_close(
    source: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    target, at_close = source.with_suffix(".zarr"), []
    close: Callable[[OpenFile], None] = OpenFile.close

    def look(opened: OpenFile) -> None:
        close(opened)
        at_close.append(list_chunks(target))

    monkeypatch.setattr(OpenFile, "close", look)
    convert(source, target, window=4000, workers=workers)
    monkeypatch.undo()
    assert len(at_close[-1]) == 18
    assert all(name.endswith(PARTIAL_SUFFIX) for name in at_close[-1])
    assert sorted(map(int, list_chunks(target))) == sorted([*range(16), 0, 1])
    assert verify(source, target).equal


@pytest.mark.parametrize("held", [False, True])
def test_chunks_of_many_files_are_written_while_they_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """No key appears before all files of its window are closed, also of a file that the caller holds open."""
    paths, target, at_read = [tmp_path / f"{i}.h5" for i in range(4)], tmp_path / "out.zarr", []
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.arange(40) + 40 * number, chunks=(10,), maxshape=(None,))
            file["time"] = np.arange(40) + 40 * number
            file["time"].make_scale("time")
            file["x"].dims[0].attach_scale(file["time"])

    def get(opened: Any, job: Any, unit: Any) -> Any:
        result = TRANSFER.read(opened, job, unit)
        if job.node.target == "x":
            at_read.append((isinstance(opened, OpenFiles), [path.name for path in target.glob("x/c/*")]))
        return result

    monkeypatch.setattr(spill, "TRANSFER", replace(TRANSFER, read=get))
    with h5py.File(paths[1], "r+") if held else nullcontext():
        report = combine(paths, target, dim="time", workers=1, window=2000)
        assert verify(paths, target).equal
    windows = [names for many, names in at_read if many]
    assert len(windows) > 1
    assert windows[0]
    assert all(name.endswith(PARTIAL_SUFFIX) for name in windows[0])
    assert report.complete
    assert sorted(int(path.name) for path in target.glob("x/c/*")) == list(range(16))


def spoil_second(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[], object]) -> None:
    """Do something after the second unit was read."""
    read = []

    def get(*args: Any) -> Any:
        result = TRANSFER.read(*args)
        read.append(result)
        if len(read) == 2:
            spoil()
        return result

    monkeypatch.setattr(spill, "TRANSFER", replace(TRANSFER, read=get))


def test_nothing_appears_of_a_window_whose_source_changed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.with_suffix(".zarr")
    spoil_second(monkeypatch, lambda: os.utime(source))
    with pytest.raises(SourceChangedError):
        convert(source, target, workers=2)
    assert list_chunks(target) == []


def test_a_store_that_is_deleted_meanwhile_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.with_suffix(".zarr")
    spoil_second(monkeypatch, lambda: target.rename(source.with_suffix(".moved")))
    with pytest.raises(TargetError, match=r"a\.zarr: deleted, or replaced by another conversion, while this one ran"):
        convert(source, target, workers=2)


def test_a_write_that_fails_is_no_fault_of_the_source(tmp_path: Path) -> None:
    """Else the dataset would be skipped as unreadable."""
    resource = pytest.importorskip("resource")
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file.create_dataset("x", data=np.arange(2**16), chunks=(2**12,))
        file.create_dataset("y", data=np.arange(2**16), chunks=(2**15,))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            convert(source, target, on_unsupported="skip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "is unfinished" in caught.value.__notes__[0]
    assert list_chunks(target) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_append_that_fails_leaves_no_chunk_that_has_not_appeared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    paths, target = write_days(tmp_path, [4] * 4), tmp_path / "out.zarr"
    combine(paths[:2], target, dim="time")
    before = {*target.rglob("c/*")}
    spoil_second(monkeypatch, lambda: os.utime(paths[2]))
    with pytest.raises(SourceChangedError):
        combine(paths, target, dim="time", append=True, workers=workers)
    monkeypatch.undo()
    assert list(target.rglob(f"*{PARTIAL_SUFFIX}")) == []
    assert {*target.rglob("c/*")} >= before
    assert combine(paths, target, dim="time", append=True, verify=True).verification.equal  # type: ignore[union-attr]


def test_a_chunk_that_has_not_appeared_takes_few_bytes_in_memory(tmp_path: Path) -> None:
    """A window has as many as fit into it: of small chunks, that may be a million."""
    root, count = tmp_path.joinpath(*["folder"] * 20), 1000
    with HeldKeys(root) as keys:
        keys.write("x/c/0/0", b"")
        tracemalloc.start()
        for number in range(count):
            keys.write(f"x/c/{number + 1}/0", b"")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    keys.appear()
    assert taken < 100 * count
    assert len(list(root.glob("x/c/*/0"))) == count + 1


@pytest.mark.parametrize("as_path", [True, False])
def test_a_file_that_this_process_writes_to_meanwhile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_path: bool
) -> None:
    paths = write_days(tmp_path, [4] * 3)
    with h5py.File(paths[1], "r+") as file:
        name = next(name for name, item in file.items() if item.ndim > 1)

        def write() -> None:
            file[name][:] = file[name][:][::-1]

        spoil_second(monkeypatch, write)
        with pytest.raises(SourceChangedError, match=r"001\.nc: the file changed while it was read"):
            combine([paths[0], paths[1] if as_path else file, paths[2]], tmp_path / "out.zarr", dim="time")
