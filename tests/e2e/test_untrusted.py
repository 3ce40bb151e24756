"""Files that name other files: these are refused unless they are allowed, and only allowed files are ever opened."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr
from h5py import h5d, h5p, h5s, h5t

from h5bound import H5Store, ZarrStore, check, convert, from_hdf5, references, verify
from h5bound.cli.demo_file import write_demo
from h5bound.errors import (
    H5BoundError,
    OptionError,
    SourceNotFoundError,
    TargetError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.listing.entries import list_file
from h5bound.zarr_model.array_spec import WRITTEN_CODECS, list_codecs
from h5bound.zarr_model.codec_options import CODECS
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support.odd_files import record_opens
from tests.support.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are opened")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the warnings of zarr."""
    with quiet_zarr():
        yield


@dataclass(frozen=True, slots=True)
class Folders:
    """The directories of a test."""

    main: Path
    """Directory of the file that is read."""
    near: Path
    """Directory that may be allowed."""
    secret: Path
    """Directory that is not allowed."""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Return three directories; `near` and `secret` hold ``d.h5`` with a dataset ``d`` and ``raw`` with its values."""
    return make_folders(tmp_path)


def make_folders(above: Path) -> Folders:
    found = Folders(above / "main", above / "near", above / "near_secret")
    found.main.mkdir()
    for number, folder in enumerate((found.near, found.secret), 1):
        folder.mkdir()
        values = np.arange(4, dtype="i8") + 10 * number
        values.tofile(folder / "raw")
        with h5py.File(folder / "d.h5", "w") as file:
            file.create_dataset("d", data=values, maxshape=(None,), chunks=(2,))
            file["group/d"] = values
            file["d0"], file["d1"] = values, values + 1
        for i in range(2):
            shutil.copy(folder / "d.h5", folder / f"{i}.h5")
    return found


def map_source(
    file: h5py.File, name: str, source: Path | str, path: str = "d", *, grows: bool = False, part: int = 4
) -> None:
    """Write a virtual dataset of the first `part` values of a source, or of all if it grows."""
    limit = None if grows else part
    stop = h5s.UNLIMITED if grows else part
    layout = h5py.VirtualLayout((part,), "i8", maxshape=(limit,))
    layout[0:stop] = h5py.VirtualSource(str(source), path, shape=(4,), maxshape=(limit,))[0:stop]
    file.create_virtual_dataset(name, layout, fillvalue=-1)


def map_pattern(file: h5py.File, name: str, source: str, path: str) -> None:
    """Write a virtual dataset of any number of sources, with ``%b`` in their names."""
    plist = h5p.create(h5p.DATASET_CREATE)
    space = h5s.create_simple((4,), (h5s.UNLIMITED,))
    space.select_hyperslab((0,), (h5s.UNLIMITED,), (4,), (4,))
    plist.set_virtual(space, source.encode(), path.encode(), h5s.create_simple((4,)))
    h5d.create(file.id, name.encode(), h5t.NATIVE_INT64, space, plist)


def store_outside(file: h5py.File, name: str, *raw: Path | str) -> None:
    """Write a dataset whose values are in other files, the same number in each."""
    size = 32 // len(raw)
    file.create_dataset(name, (4,), "i8", external=[(str(part), 0, size) for part in raw])


def link(file: h5py.File, name: str, source: Path | str, path: str = "d") -> None:
    file[name] = h5py.ExternalLink(str(source), path)


def in_near(name: str, write: Callable[..., None], target: str) -> Callable[[Folders, h5py.File], None]:
    """Return a writer of a virtual dataset whose source, in the allowed directory, leads out of that directory."""

    def make(where: Folders, file: h5py.File) -> None:
        with h5py.File(where.near / "mid.h5", "w") as mid:
            write(mid, name, where.secret / target)
        map_source(file, "x", where.near / "mid.h5", name)

    return make


def link_to_a_link(where: Folders, file: h5py.File) -> None:
    with h5py.File(where.near / "mid.h5", "w") as mid:
        link(mid, "on", where.secret / "d.h5", "/")
    link(file, "x", where.near / "mid.h5", "/on/group/d")


def virtual_through_link(where: Folders, file: h5py.File) -> None:
    link(file, "there", where.secret / "d.h5", "/")
    map_source(file, "x", ".", "/there/d")


def virtual_through_soft_link(where: Folders, file: h5py.File) -> None:
    link(file, "there", where.secret / "d.h5", "/")
    file["soft"] = h5py.SoftLink("/there/group/d")
    map_source(file, "x", ".", "soft")


def virtual_of_virtual(where: Folders, file: h5py.File) -> None:
    map_source(file, "inner", where.secret / "d.h5")
    map_source(file, "x", ".", "inner")


def soft_to_external(where: Folders, file: h5py.File) -> None:
    link(file, "g/there", where.secret / "d.h5", "/group")
    file["x"] = h5py.SoftLink("g/there/d")


def through_symbolic_link(where: Folders, file: h5py.File) -> None:
    (where.near / "innocent.h5").symlink_to(where.secret / "d.h5")
    map_source(file, "x", where.near / "innocent.h5")


def through_symbolic_folder(where: Folders, file: h5py.File) -> None:
    (where.near / "sub").symlink_to(where.secret)
    store_outside(file, "x", where.near / "sub" / "raw")


def pattern_elsewhere(where: Folders, file: h5py.File) -> None:
    (where.near / "1.h5").unlink()
    (where.near / "1.h5").symlink_to(where.secret / "1.h5")
    map_pattern(file, "x", f"{where.near}/%b.h5", "d")


@dataclass(frozen=True, slots=True)
class Escape:
    """A kind of file that makes HDF5 open another file."""

    id: str
    write: Callable[[Folders, h5py.File], None]
    target: str = "secret/d.h5"
    """What the error has to name."""
    name: str = "x"
    """Path of what is read."""


ESCAPES = [
    Escape("storage", lambda w, f: store_outside(f, "x", w.secret / "raw"), "secret/raw"),
    Escape("storage, relative", lambda w, f: store_outside(f, "x", os.path.relpath(w.secret / "raw")), "secret/raw"),
    Escape("storage, second", lambda w, f: store_outside(f, "x", w.main / "raw", w.secret / "raw"), "raw"),
    Escape("storage, symbolic link", through_symbolic_folder, "near/sub/raw"),
    Escape("link", lambda w, f: link(f, "x", w.secret / "d.h5")),
    Escape("link, relative", lambda w, f: link(f, "x", "../near/../near_secret/d.h5")),
    Escape("link, first of a path", lambda w, f: link(f, "there", w.secret / "d.h5", "/"), name="there/group/d"),
    Escape("link, within a path", lambda w, f: link(f, "a/b", w.secret / "d.h5", "/group"), name="a/b/d"),
    Escape("link, behind a soft one", soft_to_external),
    Escape("link to a link", link_to_a_link, "near/mid.h5"),
    Escape("virtual", lambda w, f: map_source(f, "x", w.secret / "d.h5")),
    Escape("virtual, relative", lambda w, f: map_source(f, "x", "../near_secret/d.h5")),
    Escape("virtual, growing", lambda w, f: map_source(f, "x", w.secret / "d.h5", grows=True)),
    Escape("virtual, of a virtual one", virtual_of_virtual),
    Escape("virtual, through a link", virtual_through_link),
    Escape("virtual, through a soft link", virtual_through_soft_link),
    Escape("virtual, symbolic link", through_symbolic_link, "near/innocent.h5"),
    Escape("virtual, of a virtual one elsewhere", in_near("y", map_source, "d.h5"), "near/mid.h5"),
    Escape("virtual, of storage elsewhere", in_near("y", store_outside, "raw"), "near/mid.h5"),
    Escape("virtual, of a link elsewhere", in_near("y", link, "d.h5"), "near/mid.h5"),
    Escape("virtual, files by pattern", lambda w, f: map_pattern(f, "x", f"{w.secret}/%b.h5", "d"), "secret/0.h5"),
    Escape("virtual, datasets by pattern", lambda w, f: map_pattern(f, "x", f"{w.secret}/d.h5", "d%b")),
    Escape("virtual, files by pattern elsewhere", pattern_elsewhere, "near/"),
]
escapes = pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.id)


def write_escape(where: Folders, escape: Escape) -> Path:
    shutil.copy(where.near / "raw", where.main / "raw")
    path = where.main / "a.h5"
    with h5py.File(path, "w") as file:
        escape.write(where, file)
    return path


def list_ways(path: Path, name: str, allowed: list[Path]) -> list[Callable[[], object]]:
    """Return every call that reads a dataset."""
    return [
        lambda: from_hdf5(path, name, allow_external=allowed),
        lambda: H5Store(path, allow_external=allowed)[name],
        lambda: convert(path, path.with_suffix(".zarr"), allow_external=allowed),
        lambda: convert(path, path.with_suffix(".zarr"), allow_external=allowed, dry_run=True),
        lambda: ZarrStore(path, allow_external=allowed),
        lambda: references(path, allow_external=allowed),
    ]


@on_linux
@escapes
@pytest.mark.parametrize("allowed", ["nothing", "near"])
def test_what_lies_outside_is_refused_and_never_opened(folders: Folders, escape: Escape, allowed: str) -> None:
    path = write_escape(folders, escape)
    folder = [folders.near, folders.main] if allowed == "near" else []
    is_link = escape.id.startswith("link")  # a conversion keeps it as a link
    ways = list_ways(path, escape.name, folder)
    with record_opens(folders.secret) as opened:
        for way in ways[:2] if is_link else ways:
            with pytest.raises(UnsafeSourceError) as caught:
                way()
            assert escape.target in str(caught.value)
            assert escape.name.split("/")[0] in str(caught.value)
        list_file(path)
        checked = check(path, allow_external=folder)
        report = convert(path, path.with_suffix(".zarr"), allow_external=folder, on_unsupported="skip", verify=True)
    assert opened == set()
    assert any(escape.target in str(item) for item in (checked.notes if is_link else checked.unchecked))
    assert report.verification is not None
    assert report.verification.equal
    if is_link:
        assert report.exit_code == 0
        assert any(escape.target in str(item) for item in report.links if item.kind == "external")
    else:
        assert report.exit_code == 3
    with record_opens(folders.secret) as opened, h5py.File(path) as file:
        file[escape.name][()]
    assert opened, "h5py opens it, or the test shows nothing"


@escapes
def test_what_is_allowed_is_read_as_h5py_reads_it(folders: Folders, escape: Escape) -> None:
    path = write_escape(folders, escape)
    allowed = [folders.secret, folders.near, folders.main]
    with h5py.File(path) as file:
        expected = file[escape.name][()]
    assert from_hdf5(path, escape.name, allow_external=allowed).compute().tolist() == expected.tolist()
    assert H5Store(path, allow_external=allowed)[escape.name].compute().tolist() == expected.tolist()
    report = convert(path, path.with_suffix(".zarr"), allow_external=allowed, verify=True)
    assert report.exit_code == 0
    with record_opens(folders.secret) as opened:
        assert not verify(path, path.with_suffix(".zarr")).equal
    assert opened == set()


@on_linux
@escapes
def test_the_xarray_engine_opens_nothing_that_is_not_allowed(folders: Folders, escape: Escape) -> None:
    xr = pytest.importorskip("xarray")
    path = write_escape(folders, escape)
    for allowed in ([], [folders.near, folders.main]):
        with record_opens(folders.secret) as opened, pytest.raises(UnsafeSourceError, match=r"a\.h5") as caught:
            xr.open_dataset(path, engine="h5bound", phony_dims="sort", allow_external=allowed)
        assert opened == set()
        assert "near" in str(caught.value) or "raw" in str(caught.value)
    if not escape.id.startswith("link") and "through" not in escape.id:
        everywhere = [folders.main, folders.near, folders.secret]
        found = xr.open_dataset(path, engine="h5bound", phony_dims="sort", allow_external=everywhere)
        with h5py.File(path) as file:
            assert found["x"].values.tolist() == file["x"][()].tolist()


TRACED = """
import sys
from pathlib import Path
from tests.e2e.test_untrusted import ESCAPES, list_ways, make_folders, write_escape

for number, escape in enumerate(ESCAPES):
    above = Path(sys.argv[1]) / str(number)
    above.mkdir()
    where = make_folders(above)
    path = write_escape(where, escape)
    Path("/begin").exists()
    for way in list_ways(path, escape.name, [where.near, where.main]):
        try:
            way()
        except PermissionError:
            continue
        assert escape.id.startswith("link"), escape.id  # a conversion keeps it as a link
    Path("/end").exists()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace tells of every file that a process opens")
def test_no_call_of_the_system_ever_names_what_is_not_allowed(tmp_path: Path) -> None:
    log, calls = tmp_path / "log", "trace=open,openat,openat2,creat,execve,stat,access,newfstatat"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", calls, "-o", str(log)]
    command += [sys.executable, "-W", "ignore", "-c", TRACED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    judged = re.findall(r'"/begin"(.*?)"/end"', log.read_text(), re.DOTALL)
    assert len(judged) == len(ESCAPES)
    opens = [line for part in judged for line in part.splitlines() if re.search(r"(open|creat)\w*\(.* = \d", line)]
    assert sum("main/a.h5" in line for line in opens) >= 4 * len(ESCAPES)
    assert sum("near/mid.h5" in line for line in opens) >= 8
    assert [line for line in opens if "near_secret" in line] == []


@on_linux
@pytest.mark.parametrize("options", [{}, {"on_unsupported": "skip"}, {"include": ["/data"]}], ids=str)
def test_a_name_with_a_slash_is_no_way_through_a_link(folders: Folders, options: dict[str, Any]) -> None:
    path = folders.main / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"], file["zQgroup"] = [1, 2], [3]
        file["z"] = h5py.ExternalLink(str(folders.secret / "d.h5"), "/")
    path.write_bytes(path.read_bytes().replace(b"zQgroup", b"z/group"))
    calls: list[Callable[[], object]] = [
        lambda: convert(path, folders.main / "a.zarr", **options),
        lambda: list_file(path),
        lambda: sorted(H5Store(path)),
        lambda: pytest.importorskip("xarray").open_dataset(path, engine="h5bound"),
    ]
    with record_opens(folders.secret) as opened:
        for call in calls:
            with suppress(UnsafeSourceError, UnsupportedError):
                call()
    assert not opened


def test_a_virtual_dataset_is_judged_where_its_blocks_are_read(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(folders.main / "a.h5", "w") as file:
        map_source(file, "x", folders.near / "0.h5")
        map_source(file, "relative", "1.h5")
    monkeypatch.chdir(folders.near)
    arrays = [from_hdf5(folders.main / "a.h5", name, allow_external=[folders.near]) for name in ("x", "relative")]
    assert [array.compute().tolist() for array in arrays] == [[10, 11, 12, 13]] * 2
    monkeypatch.chdir(folders.main)
    with pytest.raises(UnsafeSourceError, match=r"'/relative' of .*a\.h5: virtual source '1\.h5'"):
        arrays[1].compute()
    (folders.near / "0.h5").unlink()
    with pytest.raises(SourceNotFoundError, match=r"'/x' of .*a\.h5: virtual source .*no such file"):
        arrays[0].compute()


def test_external_storage_that_is_too_short_is_refused(folders: Folders) -> None:
    with h5py.File(folders.main / "a.h5", "w") as file:
        file.create_dataset("x", (4,), "i8", external=[(str(folders.near / "raw"), 0, 32)])
        file.create_dataset("unlimited", (4,), "i8", external=[(str(folders.near / "raw"), 0, h5py.h5f.UNLIMITED)])
    assert from_hdf5(folders.main / "a.h5", "x", allow_external=[folders.near])[3].compute() == 13
    os.truncate(folders.near / "raw", 24)
    for name in ("x", "unlimited"):
        with pytest.raises(UnsupportedError, match="the file has fewer than 32 bytes"):
            from_hdf5(folders.main / "a.h5", name, allow_external=[folders.near])
    with pytest.raises(UnsupportedError, match=r"fewer than 32 bytes[^:]*:\s+/unlimited\s+/x$"):
        convert(folders.main / "a.h5", folders.main / "a.zarr", allow_external=[folders.near])


def test_a_folder_without_a_name_allows_nothing(folders: Folders) -> None:
    with h5py.File(folders.main / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(OptionError, match="for the current one pass"):
        from_hdf5(folders.main / "a.h5", "x", allow_external=[""])


def test_a_folder_whose_name_only_begins_like_an_allowed_one_is_not_allowed(folders: Folders) -> None:
    (folders.main / "b").mkdir()
    (folders.main / "bc").mkdir()
    shutil.copy(folders.near / "d.h5", folders.main / "bc" / "d.h5")
    with h5py.File(folders.main / "a.h5", "w") as file:
        map_source(file, "x", "bc/d.h5")
        map_source(file, "y", "b/../bc/d.h5")
    others = [folders.main / name for name in ("b", "B", "bc/d", "b/...")]
    for allowed in others:
        allowed.mkdir(exist_ok=True)
        for name in "xy":
            with pytest.raises(UnsafeSourceError, match=r"not under allow_external; allow_external=\[.*bc'\] reads it"):
                from_hdf5(folders.main / "a.h5", name, allow_external=[allowed])
    for allowed in (folders.main / "bc", folders.main / "b" / ".." / "bc", folders.main / "bc" / "", folders.main):
        assert from_hdf5(folders.main / "a.h5", "y", allow_external=[allowed]).compute().tolist() == [10, 11, 12, 13]


def test_a_link_into_an_allowed_folder_is_as_good_as_the_file(folders: Folders) -> None:
    (folders.main / "in.h5").symlink_to(folders.near / "d.h5")
    (folders.main / "folder").symlink_to(folders.near)
    with h5py.File(folders.main / "a.h5", "w") as file:
        map_source(file, "x", "in.h5")
        store_outside(file, "y", folders.main / "folder" / "raw")
    for name in "xy":
        for allowed in (folders.near, folders.main / "folder"):
            found = from_hdf5(folders.main / "a.h5", name, allow_external=[allowed])
            assert found.compute().tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("call", [from_hdf5, convert, verify], ids=["from_hdf5", "convert", "verify"])
def test_one_folder_in_place_of_a_list_is_an_error(folders: Folders, call: Any) -> None:
    with h5py.File(folders.main / "a.h5", "w") as file:
        map_source(file, "x", folders.secret / "d.h5")
    target = "x" if call is from_hdf5 else folders.main / "a.zarr"
    if call is verify:
        convert(folders.main / "a.h5", target, on_unsupported="skip")
    for allowed in (str(folders.near), folders.near):
        with pytest.raises(OptionError, match="pass a list"):
            call(folders.main / "a.h5", target, allow_external=allowed)


def test_a_file_that_is_held_open_by_a_symbolic_link_is_judged_by_what_hdf5_opens(folders: Folders) -> None:
    with h5py.File(folders.near / "a.h5", "w") as file:
        map_source(file, "x", "d.h5")
    (folders.secret / "a.h5").symlink_to(folders.near / "a.h5")
    with h5py.File(folders.secret / "a.h5") as file:
        assert file["x"][0] == 20, "HDF5 looks beside the link first"
        with pytest.raises(UnsafeSourceError, match=r"d\.h5"):
            from_hdf5(file, "x", allow_external=[folders.near])
    assert from_hdf5(folders.near / "a.h5", "x", allow_external=[folders.near])[0].compute() == 10


PREFIXED = """
import sys
from pathlib import Path
import h5py
from h5bound import from_hdf5

path, name, *allowed = sys.argv[1:]
try:
    found = from_hdf5(path, name, allow_external=allowed)[0].compute()
    with h5py.File(path) as file:
        assert found == file[name][0]
except Exception as error:
    found = type(error).__name__
print(found)
"""


@pytest.mark.parametrize(
    ("variable", "prefix", "name"),
    [
        ("HDF5_VDS_PREFIX", "{secret}", "virtual"),
        ("HDF5_VDS_PREFIX", "/nowhere:{secret}", "virtual"),
        ("HDF5_VDS_PREFIX", "${ORIGIN}/../near_secret", "virtual"),
        ("HDF5_EXTFILE_PREFIX", "{secret}", "storage"),
        ("HDF5_EXTFILE_PREFIX", "${ORIGIN}/../near_secret", "storage"),
        ("HDF5_EXT_PREFIX", "/nowhere:{secret}", "link"),
        ("OTHER", "", "virtual"),
    ],
)
def test_names_are_looked_for_where_hdf5_has_been_told_to(
    folders: Folders, variable: str, prefix: str, name: str
) -> None:
    path = folders.near / "a.h5"
    with h5py.File(path, "w") as file:
        map_source(file, "virtual", "d.h5")
        store_outside(file, "storage", "raw")
        link(file, "link", "d.h5")

    def run(*allowed: Path) -> str:
        environment = {**os.environ, variable: prefix.replace("{secret}", str(folders.secret))}
        command = [sys.executable, "-c", PREFIXED, str(path), name, *map(str, allowed)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    if prefix:
        assert (run(folders.near), run(folders.near, folders.secret)) == ("UnsafeSourceError", "20")
    else:
        assert (run(folders.secret), run(folders.near)) == ("UnsafeSourceError", "10")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX has such files")
@pytest.mark.parametrize("make", [make_pipe, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_opened(folders: Folders, make: Callable[[Path], None]) -> None:
    make(folders.near / "odd")
    with h5py.File(folders.main / "a.h5", "w") as file:
        map_source(file, "virtual", folders.near / "odd")
        store_outside(file, "storage", folders.near / "odd")
        link(file, "link", folders.near / "odd")
    with Worker(60, 4 << 30) as worker:  # one that opens a pipe would wait for ever
        for name in ("virtual", "storage", "link"):
            outcome = worker.call(open_array, folders.main / "a.h5", name, [folders.near, Path("/dev")])
            assert outcome.died == ""
            assert outcome.error.startswith("UnsafeSourceError")
            assert outcome.error.endswith("not a regular file")


def open_array(path: Path, name: str, allowed: list[Path]) -> Any:
    return from_hdf5(path, name, allow_external=allowed).compute().tolist()


# Virtual datasets that HDF5 would make something up for.


def shrink(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["d"].resize((3,))


def give_more_axes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["d"] = np.zeros((2, 2), "i8")


def drop(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["d"]


def put_a_group(path: Path) -> None:
    drop(path)
    with h5py.File(path, "r+") as file:
        file.create_group("d")


CHANGES: list[Any] = [
    pytest.param(Path.unlink, SourceNotFoundError, "no such file", id="file gone"),
    pytest.param(drop, UnsupportedError, "no such dataset", id="dataset gone"),
    pytest.param(put_a_group, UnsupportedError, "not a dataset", id="a group"),
    pytest.param(shrink, UnsupportedError, "does not hold the selected elements", id="shorter"),
    pytest.param(give_more_axes, UnsupportedError, "does not hold the selected elements", id="other axes"),
    pytest.param(lambda path: path.write_bytes(b"no HDF5"), UnsupportedError, "cannot be opened", id="no HDF5 file"),
    pytest.param(lambda path: path.write_bytes(b""), UnsupportedError, "cannot be opened", id="empty"),
]


@pytest.mark.parametrize(("change", "kind", "message"), CHANGES)
def test_a_virtual_dataset_without_its_source_is_refused(
    folders: Folders, change: Callable[[Path], None], kind: type[H5BoundError], message: str
) -> None:
    path = folders.near / "a.h5"
    with h5py.File(path, "w") as file:
        map_source(file, "x", "d.h5")
        file["good"] = [1, 2]
    assert from_hdf5(path, "x", allow_external=[folders.near]).sum().compute() == 46
    change(folders.near / "d.h5")
    with pytest.raises(kind, match=rf"'x' of .*a\.h5: virtual source 'd\.h5', 'd': .*{message}"):
        from_hdf5(path, "x", allow_external=[folders.near])
    with pytest.raises(kind, match=message):
        H5Store(path, allow_external=[folders.near])["x"]
    report = convert(path, folders.main / "a.zarr", allow_external=[folders.near], on_unsupported="skip", verify=True)
    assert [item.path for item in report.skipped] == ["/x"]
    assert message in report.skipped[0].reason


def map_without_check(file: h5py.File, name: str, source: str, length: int) -> None:
    """Make a virtual dataset of the first elements of ``d``; h5py itself would write a period for the file's name."""
    plist, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple((length,))
    plist.set_virtual(space, os.fsencode(source), b"d", space)
    h5d.create(file.id, name.encode(), h5t.NATIVE_INT64, space, plist)


def test_a_source_in_the_file_itself_needs_no_permission_by_whatever_name(folders: Folders) -> None:
    path = folders.near / "a.h5"
    (folders.near / "link.h5").symlink_to("a.h5")
    with h5py.File(path, "w") as file:
        file["d"] = np.arange(5)
        for name, source in (("relative", "a.h5"), ("absolute", str(path)), ("link", "link.h5")):
            map_without_check(file, name, source, length=5)
    store = H5Store(path)
    for name in ("relative", "absolute", "link"):
        assert store[name].compute().tolist() == [0, 1, 2, 3, 4]
        assert xr.open_dataset(path, engine="h5bound", phony_dims="sort")[name].values.tolist() == [0, 1, 2, 3, 4]
    report = convert(path, folders.main / "a.zarr", verify=True)
    assert report.verification is not None
    assert report.verification.equal


def test_a_source_of_which_nothing_is_read_is_not_asked_for(folders: Folders) -> None:
    path = folders.near / "a.h5"
    layout = h5py.VirtualLayout((6,), "i8")
    layout[:4] = h5py.VirtualSource("d.h5", "d", (4,))
    layout[4:4] = h5py.VirtualSource("gone.h5", "d", (4,))[0:0]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout, fillvalue=-1)
        map_without_check(file, "nothing", "gone.h5", length=0)
    with h5py.File(path) as file:
        expected = file["x"][()].tolist()
    assert from_hdf5(path, "x", allow_external=[folders.near]).compute().tolist() == expected
    assert from_hdf5(path, "nothing").compute().tolist() == []
    dataset = xr.open_dataset(path, engine="h5bound", phony_dims="sort", allow_external=[folders.near])
    assert dataset.x.values.tolist() == expected
    report = convert(path, folders.main / "a.zarr", allow_external=[folders.near], verify=True)
    assert report.verification is not None
    assert report.verification.equal


def test_a_pattern_ends_where_hdf5_ends_it(folders: Folders) -> None:
    path = folders.near / "a.h5"
    with h5py.File(path, "w") as file:
        map_pattern(file, "files", "%b.h5", "d")
        map_pattern(file, "datasets", "d.h5", "d%b")
        map_pattern(file, "both", "%b.h5", "d%b")
        map_pattern(file, "own", ".", "own%b")
        map_pattern(file, "none", "none%b.h5", "d")
        map_source(file, "percent", "d.h5", "100%%")
        file["own0"] = np.arange(4)
    with h5py.File(folders.near / "d.h5", "r+") as file:
        file["100%"] = np.arange(4)
    for name, count in (("files", 8), ("datasets", 8), ("both", 8), ("own", 4), ("percent", 4)):
        with h5py.File(path) as file:
            expected = file[name][()].tolist()
        assert len(expected) == count
        assert from_hdf5(path, name, allow_external=[folders.near]).compute().tolist() == expected
    assert from_hdf5(path, "none", allow_external=[folders.near]).shape == (0,)  # as h5py reads it
    (folders.near / "1.h5").unlink()
    (folders.near / "1.h5").write_bytes(b"no HDF5")
    with pytest.raises(UnsupportedError, match=r"1\.h5.*cannot be opened"):
        from_hdf5(path, "files", allow_external=[folders.near])


def test_a_virtual_dataset_of_a_source_that_has_grown_is_read(folders: Folders) -> None:
    with h5py.File(folders.near / "a.h5", "w") as file:
        map_source(file, "fixed", "d.h5", part=3)
        map_source(file, "growing", "d.h5", grows=True)
    with h5py.File(folders.near / "d.h5", "r+") as file:
        file["d"].resize((6,))
    for name in ("fixed", "growing"):
        with h5py.File(folders.near / "a.h5") as file:
            expected = file[name][()].tolist()
        assert from_hdf5(folders.near / "a.h5", name, allow_external=[folders.near]).compute().tolist() == expected


def test_an_odd_name_of_another_file_is_an_error_of_ours(folders: Folders) -> None:
    (folders.near / "loop").symlink_to("loop")
    names = [
        "x" * 5000,
        "a/" * 2000,
        str(folders.near / "loop"),
        "d.h5/inside",
        "~/x",
        "file:///etc/passwd",
        "s3://b/x",
    ]
    with h5py.File(folders.main / "a.h5", "w") as file:
        for i, name in enumerate(names):
            map_source(file, f"v{i}", name)
            store_outside(file, f"s{i}", name)
            link(file, f"l{i}", name)
    for i in range(len(names)):
        for kind in "vsl":
            with pytest.raises((UnsafeSourceError, SourceNotFoundError)):
                from_hdf5(folders.main / "a.h5", f"{kind}{i}", allow_external=[folders.near])
    report = convert(
        folders.main / "a.h5", folders.main / "a.zarr", allow_external=[folders.near], on_unsupported="skip"
    )
    assert len(report.skipped) == 2 * len(names)
    assert sum(item.kind == "external" for item in report.links) == len(names)


def test_a_python_object_has_no_other_files(folders: Folders) -> None:
    with h5py.File(folders.near / "a.h5", "w") as file:
        file["d"] = np.full(4, 7)
        map_source(file, "x", folders.near / "d.h5")
    with (folders.near / "a.h5").open("rb") as raw, h5py.File(raw) as file:
        assert file["x"][0] == 7, "HDF5 takes this very file for the other one"
        with pytest.raises(UnsafeSourceError, match="Python object"):
            from_hdf5(file, "x", allow_external=[folders.near])


# Code.


@on_linux
def test_a_filter_that_is_not_installed_loads_nothing(folders: Folders) -> None:
    with h5py.File(folders.main / "a.h5", "w") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        h5d.create(file.id, b"x", h5t.STD_I32LE, h5s.create_simple((4,)), plist)
        file["x"].id.write_direct_chunk((0,), b"12345678")
    for place in (folders.main, folders.near):
        shutil.copy(h5py.h5z.__file__, place / "libh5evil.so")
    script = "import sys; from h5bound import convert; convert(*sys.argv[1:], on_unsupported='skip', verify=True)"
    command = [sys.executable, "-W", "ignore", "-c", script, str(folders.main / "a.h5")]
    opened = {}
    for plugins in (folders.near, folders.secret):
        environment = {**os.environ, "HDF5_PLUGIN_PATH": str(plugins)}
        target = str(folders.main / plugins.name)
        with record_opens(folders.main) as beside, record_opens(folders.near) as near:
            subprocess.run([*command, target], env=environment, cwd=folders.main, timeout=120, check=True)
        assert "libh5evil.so" not in beside
        opened[plugins] = near
    assert opened == {folders.near: {"", "libh5evil.so"}, folders.secret: set()}, (
        "what the user has set, and that alone"
    )
    with pytest.raises(UnsupportedError, match=r"'/x'.*filter 32999|x in .*filter 32999"):
        from_hdf5(folders.main / "a.h5", "x").compute()


class Harmful:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def edit_document(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("place", ["compressor", "filter"])
def test_a_store_that_names_pickle_is_refused_unread(tmp_path: Path, zarr_format: Literal[2, 3], place: str) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["x"] = ["a", "b"]
    convert(source, target, zarr_format=zarr_format)
    codec = {"id": "pickle"} if zarr_format == 2 else {"name": "numcodecs.pickle", "configuration": {}}

    def edit(document: dict[str, Any]) -> None:
        if zarr_format == 3:
            document["codecs"].append(codec)
        elif place == "compressor":
            document["compressor"] = codec
        else:
            document["filters"].append(codec)

    edit_document(target / "x" / (".zarray" if zarr_format == 2 else "zarr.json"), edit)
    chunk = target / "x" / ("0" if zarr_format == 2 else "c/0")
    chunk.write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with pytest.raises(TargetError, match=r"codec '.*pickle' is not one that h5bound writes"):
        verify(source, target)
    assert not (tmp_path / "harm").exists()
    pickle.loads(chunk.read_bytes())  # it is our own
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_store_has_a_codec_that_verify_refuses(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    write_demo(tmp_path / "a.h5")
    for codecs in ("keep", *CODECS):
        target = tmp_path / f"{codecs}.zarr"
        convert(tmp_path / "a.h5", target, codecs=codecs, zarr_format=zarr_format, overwrite=True)
        names = {
            name
            for document in target.rglob(".zarray" if zarr_format == 2 else "zarr.json")
            for name in list_codecs(json.loads(document.read_text()))
        }
        assert names <= WRITTEN_CODECS
        assert not any("pickle" in name for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory this way")
def test_the_command_of_the_security_page_converts_a_file_and_stops_a_bomb(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "SECURITY.md"
    command = page.read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run() -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", command]
        return subprocess.run(
            shell, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    with h5py.File(tmp_path / "untrusted.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(30,), compression="gzip")
    done = run()
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout
    shutil.rmtree(tmp_path / "untrusted.zarr")
    with h5py.File(tmp_path / "untrusted.h5", "w") as file:
        file["x"] = 1
        file["x"].attrs["long"] = "abc"
    raw = bytearray((tmp_path / "untrusted.h5").read_bytes())
    at = raw.index(b"\x03\0\0\0", raw.index(b"long\0"))
    raw[at : at + 4] = b"\xff\xff\xff\xff"  # a text of 2^32 - 1 bytes, of which HDF5 makes room first
    (tmp_path / "untrusted.h5").write_bytes(raw)
    done = run()
    assert done.returncode == 1
    assert "memory allocation failed" in done.stderr


def test_every_test_that_the_security_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    page = (root / "SECURITY.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py"))
    named, files = re.findall(r"`(test_\w+)`", page), re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert named or files
    assert all(f"def {name}(" in tests for name in named)
    assert all((root / name).exists() for name in files)
