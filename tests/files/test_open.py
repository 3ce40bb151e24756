"""Files that cannot be opened: the errors say what to do, and name the version of HDF5."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import H5Store, convert, from_hdf5, verify
from h5bound.errors import H5BoundError, SourceNotFoundError
from h5bound.listing.entries import list_file
from tests.support.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions, and no such pipes")

VERSION = rf"HDF5 {h5py.version.hdf5_version}"

WRITER = """
import h5py, sys
file = h5py.File(sys.argv[1], "w", libver="latest")
file.create_dataset("x", data=range(8), chunks=(4,), maxshape=(None,))
file.flush()
if int(sys.argv[2]):
    file.swmr_mode = True
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def writing(path: Path, *, swmr: bool = False, locking: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Let another process write to a file; kill it at the end."""
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE" if locking else "FALSE"}
    command = [sys.executable, "-c", WRITER, str(path), str(int(swmr))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        yield writer
        writer.kill()


def list_ways(path: Path) -> list[Callable[[], Any]]:
    """Return the calls that open a file to read data."""
    return [
        lambda: from_hdf5(path, "x"),
        lambda: H5Store(path),
        lambda: convert(path, path.with_suffix(".zarr")),
    ]


def check_refused(path: Path, message: str, *, is_listed: bool = False) -> None:
    for way in list_ways(path) + [lambda: list_file(path)] * (not is_listed):
        with pytest.raises(H5BoundError, match=message) as caught:
            way()
        assert str(path.resolve()) in str(caught.value)


def test_a_file_that_another_process_writes_names_the_lock(tmp_path: Path) -> None:
    with writing(tmp_path / "a.h5"):
        check_refused(tmp_path / "a.h5", r"close it there, or set HDF5_USE_FILE_LOCKING=FALSE")


@pytest.mark.parametrize("swmr", [False, True], ids=["", "swmr"])
def test_the_mark_of_a_writer_that_was_killed_names_h5clear(tmp_path: Path, swmr: bool) -> None:
    path = tmp_path / "a.h5"
    with writing(path, swmr=swmr):
        pass
    check_refused(path, r"swmr=True.*h5clear -s FILE", is_listed=swmr)


def test_a_file_that_is_written_for_readers_is_read_as_the_message_says(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with writing(path, swmr=True):
        check_refused(path, r"swmr=True", is_listed=True)
        assert [entry.path for entry in list_file(path).entries] == ["/", "/x"]
        with h5py.File(path, "r", swmr=True) as file:
            assert from_hdf5(file, "x", chunks={}).sum().compute() == 28


@on_posix
def test_a_file_in_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(8), chunks=(4,), compression="gzip")
    (folder / "a.h5").chmod(0o444)
    folder.chmod(0o555)
    open_above(tmp_path)
    try:
        with unprivileged():
            assert from_hdf5(folder / "a.h5", "x").sum().compute() == 28
            assert sorted(path.name for path in folder.iterdir()) == ["a.h5"]
        convert(folder / "a.h5", tmp_path / "a.zarr")
        assert verify(folder / "a.h5", tmp_path / "a.zarr").equal
    finally:
        folder.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as a user without all permissions, also where the tests run as root."""
    before = os.geteuid() if hasattr(os, "geteuid") else 1
    if not before:
        os.seteuid(65534)
    try:
        yield
    finally:
        if not before:
            os.seteuid(before)


def open_above(folder: Path) -> None:
    """Let other users enter the directories of a test."""
    for above in (folder, *folder.parents[:3]):
        if above.stat().st_uid == os.getuid():
            above.chmod(above.stat().st_mode | 0o011)


@on_posix
def test_a_file_that_may_not_be_read_names_the_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    path.chmod(0)
    open_above(tmp_path)
    with unprivileged():
        check_refused(path, r"chmod \+r FILE")


def cut(path: Path, size: int) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(1000)
    os.truncate(path, size)


def age(path: Path) -> None:
    cut(path, 10_048)
    raw = bytearray(path.read_bytes())
    raw[8] = 77  # HDF5 File Format Specification, II.A: version of the superblock
    path.write_bytes(raw)


def write_store(path: Path) -> None:
    zarr.open_group(path, mode="w")


def write_netcdf3(path: Path) -> None:
    import netCDF4

    netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET").close()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b")


def write_zip_store(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(1000)
    convert(path, path.with_suffix(".zip"))
    path.with_suffix(".zip").rename(path)


def write_gzipped(path: Path) -> None:
    cut(path, 3000)
    path.write_bytes(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.touch(), r"this is empty, not an HDF5 file", id="empty"),
        pytest.param(lambda path: path.write_text("text" * 1000), r"not an HDF5 file", id="text"),
        pytest.param(lambda path: path.mkdir(), "a directory, not an HDF5 file", id="folder"),
        pytest.param(write_store, "a Zarr store, not an HDF5 file", id="store"),
        pytest.param(write_netcdf3, "netCDF-3, not an HDF5 file: `nccopy -k nc4", id="netCDF-3"),
        pytest.param(write_gzipped, "compressed with gzip, not an HDF5 file: `gunzip`", id="gzip"),
        pytest.param(write_zip, "a zip file, not an HDF5 file: unpack it", id="zip"),
        pytest.param(write_zip_store, "a Zarr store in a zip file, not an HDF5 file$", id="zip store"),
        pytest.param(lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64"), "'-v7.3'", id="MATLAB"),
        pytest.param(lambda path: path.write_text("<!DOCTYPE html><html>"), "a web page, not", id="web page"),
        pytest.param(lambda path: cut(path, 3000), r"truncated: .*fetch it again", id="truncated"),
        pytest.param(lambda path: cut(path, 40), rf"{VERSION} cannot open the file", id="truncated in its head"),
        pytest.param(age, rf"{VERSION} cannot open the file: .*superblock version", id="later version"),
    ],
)
def test_what_is_no_whole_file_is_refused_with_its_reason(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "a.h5")
    check_refused(tmp_path / "a.h5", message)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_member_of_a_family_names_the_way_to_open_all(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "a_%d.h5", "w", driver="family", memb_size=1024, libver=libver) as file:
        file["x"] = np.arange(1000)
    check_refused(tmp_path / "a_0.h5", r"a member of a family.*driver='family', memb_size=0\)")
    with h5py.File(tmp_path / "a_%d.h5", "r", driver="family", memb_size=0) as file:
        assert from_hdf5(file, "x")[-1].compute() == 999


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_of_a_split_pair_names_the_way_to_open_both(tmp_path: Path, libver: str) -> None:
    extensions = {"meta_ext": b"-s.h5", "raw_ext": b"-r.h5"}
    with h5py.File(tmp_path / "a", "w", driver="split", libver=libver, **extensions) as file:
        file["x"] = np.arange(1000)
    check_refused(tmp_path / "a-s.h5", r"one of several files .*driver='split'")
    with h5py.File(tmp_path / "a", "r", driver="split", **extensions) as file:
        assert from_hdf5(file, "x")[-1].compute() == 999


def test_a_file_with_the_number_zero_that_ends_early_may_be_one_of_a_family(tmp_path: Path) -> None:
    cut(tmp_path / "a_00000.h5", 3000)
    check_refused(tmp_path / "a_00000.h5", r"truncated: .*fetch it again, or, if it .*driver='family'")


def test_a_symbolic_link_to_nowhere_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.h5").symlink_to(tmp_path / "gone.h5")
    for way in list_ways(tmp_path / "a.h5"):
        with pytest.raises(SourceNotFoundError, match=r"gone\.h5: no such file"):
            way()


@on_posix
def test_a_folder_that_may_not_be_looked_into_is_an_error_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = 1
    open_above(tmp_path)
    folder.chmod(0)
    try:
        with unprivileged():
            check_refused(folder / "a.h5", "Permission denied")
    finally:
        folder.chmod(0o755)


def test_a_symbolic_link_to_itself_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.h5").symlink_to("a.h5")
    with pytest.raises(H5BoundError, match=r"a\.h5: the file cannot be accessed"):
        from_hdf5(tmp_path / "a.h5", "x")


@pytest.mark.slow
@on_posix
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.h5")
    with Worker(60, 4 << 30) as worker:
        outcome = worker.call(open_any, tmp_path / "a.h5")
    assert outcome.died == ""
    assert outcome.error.endswith("not a regular file, not an HDF5 file")


def open_any(path: Path) -> object:
    return from_hdf5(path, "x")
