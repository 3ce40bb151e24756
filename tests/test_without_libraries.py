"""The library where optional libraries, or functions of an operating system, are missing: in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

USE = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))  # None: their import raises ModuleNotFoundError
import os
for name in {functions!r}:
    delattr(os, name)
import h5py, numpy as np, zarr
import h5bound
a, b, c = sys.argv[1:]
with h5py.File(a) as file:
    values, many = file["x"][()], file["many"][()]
assert (h5bound.from_hdf5(a, "x").compute() == values).all()
assert (h5bound.from_hdf5(a, "many").compute() == many).all()
assert "x" in repr(h5bound.H5Store(a)) and "x" in h5bound.H5Store(a)._repr_html_()
for options in {{}}, {{"codecs": "gzip:5", "shards": {{"/x": (20, 10)}}}}, {{"zarr_format": 2, "codecs": "gzip:5"}}:
    report = h5bound.convert(a, b, verify=True, progress=True, overwrite=True, **options)
    assert report.complete and report.verification.equal, report
    assert "a.h5" in repr(report) and "<table" in report._repr_html_()
    assert (zarr.open(b)["x"][()] == values).all()
view = zarr.open(h5bound.ZarrStore(a), mode="r")
assert (view["x"][()] == values).all() and (view["many"][()] == many).all()
h5bound.references(a, c)
assert h5bound.verify(a, b).equal
assert not any(sys.modules[name] for name in {missing!r})
"""

POSIX = ("preadv", "pread")
"""Functions that Windows does not have, nor old versions of macOS the first one."""


def run(arguments: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run Python on a file of compressed chunks."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = np.random.default_rng(0).integers(0, 9, (40, 30), "i4")
        file.create_dataset("x", data=values, chunks=(10, 10), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("many", data=np.arange(600), chunks=(1,))
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.parametrize(
    ("missing", "functions"),
    [
        pytest.param(["click", "rich", "deflate"], (), id="libraries"),
        pytest.param(["resource"], POSIX, id="POSIX"),
    ],
)
def test_the_library_works_without(missing: list[str], functions: tuple[str, ...], tmp_path: Path) -> None:
    script = USE.format(missing=missing, functions=functions)
    done = run(["-c", script, "a.h5", "a.zarr", "a.json"], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["h5bound", "h5bound.cli"])
def test_the_command_line_says_what_to_install(module: str, tmp_path: Path) -> None:
    script = f"import runpy, sys; sys.modules['rich'] = None; runpy.run_module({module!r}, run_name='__main__')"
    done = run(["-c", script, "ls", "a.h5"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == "h5bound: error: the command line needs rich: pip install 'h5bound[cli]'\n"


def test_a_stream_is_as_damaged_without_libdeflate(tmp_path: Path) -> None:
    script = """
import sys, zlib
sys.modules["deflate"] = None
import numpy as np
from h5bound.buffers import DamagedError
from h5bound.codecs.decoders import FilterInput, undo_deflate
for data, nbytes in (zlib.compress(bytes(81)), 80), (zlib.compress(bytes(79)), 80), (b"no stream", 80):
    try:
        undo_deflate(FilterInput(np.frombuffer(data, "u1"), nbytes, None, ()))
    except DamagedError as error:
        print(error)
"""
    done = run(["-c", script], tmp_path)
    assert done.stdout.count("is not a zlib stream") == 3, done.stderr + done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_progress_is_a_line_without_rich(tmp_path: Path) -> None:
    script = """
import os, pty, sys
sys.modules["rich"] = None
import h5bound
shown, terminal = pty.openpty()
os.dup2(terminal, 2)
h5bound.convert("a.h5", "a.zarr", progress=True)
os.set_blocking(shown, False)
try:
    while part := os.read(shown, 10000):
        sys.stdout.buffer.write(part)
except BlockingIOError:  # all was read
    pass
"""
    shown = run(["-c", script], tmp_path).stdout.splitlines()  # a carriage return ends a line as well
    assert shown[-3].startswith("converting ")
    assert not shown[-1].strip(), "nothing stays"
