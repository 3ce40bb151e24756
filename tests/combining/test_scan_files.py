"""Scans of many files: in their order, from the cache, with all bad files told at once."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest

from h5bound.combining import scan_files as module
from h5bound.combining.file_names import expand_sources
from h5bound.combining.found_files import FoundFiles
from h5bound.combining.scan_files import scan_files
from h5bound.combining.scan_form import ScanDecoder, encode_scan
from h5bound.combining.scan_one import Scanned, ScanOptions, scan_one
from h5bound.combining.scan_worker import scan_in_processes
from h5bound.errors import H5BoundError, OptionError
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import Settings
from tests.combining.test_file_scan import scan, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from h5bound.combining.file_scan import FileScan

OPTIONS = ScanOptions(dim="time", settings=Settings(), limits=Limits())


def make(folder: Path, count: int) -> list[str]:
    """Write files that were not changed just now."""
    paths = []
    for i in range(count):
        path = folder / f"{i}.h5"
        write(path, 4 * i)
        os.utime(path, (1e9 + i, 1e9 + i))
        paths.append(str(path))
    return paths


def run(files: list[Any], options: ScanOptions = OPTIONS, **others: Any) -> tuple[FileScan, ...]:
    return scan_files(FoundFiles(files, options), **others)[0]


@pytest.fixture
def count_scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """Return how many files were opened since the last call; the cache is a folder of the test."""
    opened: list[str] = []

    def note_scan(file: Any, options: ScanOptions) -> Scanned:
        opened.append(file.path)
        return scan_one(file, options)

    monkeypatch.setattr(module, "scan_one", note_scan)
    dask.config.set({"h5bound.cache": str(tmp_path / "cache")})

    def count() -> int:
        number = len(opened)
        opened.clear()
        return number

    return count


@pytest.fixture(autouse=True)
def keep_settings() -> Any:
    with dask.config.set({"h5bound.cache": False}):
        yield


def same(one: FileScan, two: FileScan) -> None:
    assert encode_scan(one) == encode_scan(two)
    assert one.state == two.state


def test_a_record_is_the_same_from_its_text_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["nan"] = np.nan
        file["link"] = h5py.SoftLink("/lat")
        file.create_dataset("names", data=["a", "b"])
    found = scan(tmp_path / "a.h5")
    restored = ScanDecoder().decode(encode_scan(found), found.path, found.state)
    same(found, restored)
    one, two = found.variables["/g/t2m"], restored.variables["/g/t2m"]
    assert one.schema == two.schema
    assert one.manifest is not None
    assert two.manifest is not None
    np.testing.assert_array_equal(one.manifest.offsets, two.manifest.offsets)
    assert restored.links == found.links


def test_files_are_scanned_in_their_order_and_share_what_is_equal(tmp_path: Path) -> None:
    paths = make(tmp_path, 3)
    found = run(paths[::-1])
    assert [item.path for item in found] == paths[::-1]
    for item in found:
        same(item, scan(tmp_path / item.path, dim="time"))
    assert found[0].variables["/g/t2m"].schema is found[1].variables["/g/t2m"].schema
    assert found[0].variables["/g/t2m"].attributes is found[1].variables["/g/t2m"].attributes


def test_files_that_did_not_change_are_not_opened_again(tmp_path: Path, count_scans: Callable[[], int]) -> None:
    paths = make(tmp_path, 3)
    first = run(paths)
    assert count_scans() == 3
    second = run(paths)
    assert count_scans() == 0
    for one, two in zip(first, second, strict=True):
        same(one, two)
    write(tmp_path / "1.h5", 100)
    os.utime(paths[1], (1.5e9, 1.5e9))
    assert run(paths)[1].variables["/time"].values is not None
    assert count_scans() == 1
    before = (tmp_path / "1.h5").stat()
    write(tmp_path / "1.h5", 104)
    os.utime(paths[1], ns=(before.st_mtime_ns, before.st_mtime_ns))  # as cp -p of a file with the same time
    after = (tmp_path / "1.h5").stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    values = run(paths)[1].variables["/time"].values
    assert values is not None
    assert values[0] == 104
    assert count_scans() == 1
    run(paths, cache=False)
    assert count_scans() == 3
    run(paths, options=ScanOptions(dim="lat", settings=Settings(), limits=Limits()))
    assert count_scans() == 3


def test_a_file_that_was_written_just_now_is_scanned_again(tmp_path: Path, count_scans: Callable[[], int]) -> None:
    write(tmp_path / "a.h5")
    run([str(tmp_path / "a.h5")])
    run([str(tmp_path / "a.h5")])
    assert count_scans() == 2


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    paths = make(tmp_path, 4)
    (tmp_path / "1.h5").write_bytes((tmp_path / "1.h5").read_bytes()[:1000])
    (tmp_path / "2.h5").write_bytes(b"CDF\x01 and so on")
    paths.append(str(tmp_path / "gone.h5"))
    with pytest.raises(H5BoundError) as caught:
        run(paths)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 5 files cannot be read; skip_bad=True leaves them out"
    assert "truncated" in lines[1]
    assert "netCDF-3" in lines[2]
    assert "no such file" in lines[3]
    found, bad = scan_files(FoundFiles(paths, OPTIONS), skip_bad=True)
    assert [item.path for item in found] == [paths[0], paths[3]]
    assert [item.path for item in bad] == [paths[1], paths[2], paths[4]]


def test_many_bad_files_are_counted(tmp_path: Path) -> None:
    with pytest.raises(H5BoundError, match="… and 90 more"):
        run([str(tmp_path / f"{i}.h5") for i in range(100)], skip_bad=True)


def test_a_file_is_named_once(tmp_path: Path) -> None:
    (path,) = make(tmp_path, 1)
    (tmp_path / "other.h5").symlink_to(path)
    with pytest.raises(OptionError, match="are one file; name each file once"):
        run([path, str(tmp_path / "other.h5")])


def test_open_files_are_scanned_as_they_are(tmp_path: Path) -> None:
    (path,) = make(tmp_path, 1)
    with h5py.File(path, "a") as file:
        file["new"] = [1, 2]
        (found,) = run([file])
    assert "/new" in found.variables


def test_patterns_are_expanded_in_the_order_of_names(tmp_path: Path) -> None:
    make(tmp_path, 3)
    (tmp_path / "odd[1].h5").touch()
    assert expand_sources(str(tmp_path / "[0-9].h5")) == [str(tmp_path / f"{i}.h5") for i in range(3)]
    assert expand_sources(tmp_path / "odd[1].h5") == [str(tmp_path / "odd[1].h5")]
    assert expand_sources(["a.h5", tmp_path / "?.h5"])[:2] == ["a.h5", str(tmp_path / "0.h5")]
    with pytest.raises(OptionError, match="no file matches"):
        expand_sources(str(tmp_path / "*.nc"))
    with pytest.raises(OptionError, match="name at least one"):
        expand_sources([])
    with pytest.raises(OptionError, match="pass a list"):
        expand_sources(3)


def test_a_hundred_thousand_names_are_looked_at_quickly(tmp_path: Path) -> None:
    started = time.process_time()
    names = expand_sources([str(tmp_path / f"{i}.h5") for i in range(100_000)])
    assert len(names) == 100_000
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_processes_scan_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 1)
    monkeypatch.setattr(module, "BATCH", 2)
    paths = make(tmp_path, 5)
    (tmp_path / "3.h5").write_bytes(b"")
    shown: list[tuple[int, int]] = []
    found, bad = scan_files(
        FoundFiles(paths, OPTIONS), workers=2, skip_bad=True, progress=lambda *done: shown.append(done)
    )
    assert [item.path for item in found] == [path for i, path in enumerate(paths) if i != 3]
    assert [item.path for item in bad] == [paths[3]]
    assert sorted(shown) == [(i + 1, 5) for i in range(5)]
    for item in found:
        same(item, scan(tmp_path / item.path, dim="time"))


@pytest.mark.slow
def test_options_that_no_process_can_take_end_the_scan(tmp_path: Path) -> None:
    paths = make(tmp_path, 1)
    options = replace(OPTIONS, storage_options={"made": lambda: None})
    with pytest.raises(H5BoundError, match="DASK_NUM_WORKERS=1 in the environment, scans all files in this process"):
        list(scan_in_processes([paths], options, 1))


@pytest.mark.slow
def test_a_cluster_scans_the_same(tmp_path: Path) -> None:
    from distributed import Client

    paths = make(tmp_path, 3)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        found = run(paths)
    for item in found:
        same(item, scan(tmp_path / item.path, dim="time"))
