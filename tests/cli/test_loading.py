"""What a command loads, how it is started, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import h5bound

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"dask", "distributed", "h5py", "numpy", "zarr", "numcodecs", "fsspec", "rich", "xarray"}


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in another process."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


COMPLETING = {"_H5BOUND_COMPLETE": "bash_complete", "COMP_WORDS": "h5bound convert a", "COMP_CWORD": "2"}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--version"], {}),
        (["--help"], {}),
        (["convert", "--help"], {}),
        ([], {"_H5BOUND_COMPLETE": "bash_source"}),
        ([], COMPLETING),
        (["convert"], {}),
    ],
    ids=["version", "help", "help of convert", "completion script", "completion", "bad use"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(arguments: list[str], environment: dict[str, str]) -> None:
    script = f"""
import sys
from h5bound.cli.main import main
try:
    main({arguments!r})
finally:
    print("loaded", *sorted({HEAVY!r} & set(sys.modules)))
"""
    done = run(script, **environment)
    assert done.stdout.splitlines()[-1] == "loaded"
    assert "Traceback" not in done.stderr
    assert len(done.stdout + done.stderr) > len("loaded\n")


def test_a_conversion_on_threads_does_not_load_distributed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(2**21, "u1")
    script = f"""
import sys
from h5bound.cli.main import main
try:
    main(["convert", {str(tmp_path / "a.h5")!r}, {str(tmp_path / "a.zarr")!r}, "--verify"])
except SystemExit as end:
    print("loaded", end.code, *sorted({{"distributed", "zarr"}} & set(sys.modules)))
"""
    assert run(script).stdout.splitlines()[-1] == "loaded 0 zarr"


@pytest.mark.parametrize("module", ["h5bound", "h5bound.cli", "h5bound.cli.main"])
def test_modules_that_run_are_the_command(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert h5bound.__version__ in done.stdout
    assert done.stdout.startswith("h5bound")


def test_output_that_cannot_be_encoded_is_escaped(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["größe"] = [1]
    for arguments in (["ls", "a.h5"], ["convert", "a.h5", "a.zarr", "--verify"]):
        done = subprocess.run(
            [sys.executable, "-m", "h5bound", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            cwd=tmp_path,
            check=True,
        )
        assert r"gr\xf6\xdfe" in done.stdout


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("ls a", "file"),
        ("convert a", "file"),
        ("convert a.h5 b", "file"),
        ("verify a.h5 b", "file"),
        ("convert a.h5 b --report c", "file"),
        ("convert a.h5 b --storage-options c", "file"),
        ("verify a.h5 b --allow-external c", "dir"),
        ("demo d", "dir"),
    ],
)
def test_paths_are_left_to_the_shell(words: str, kind: str) -> None:
    count = len(words.split())
    done = run(
        "from h5bound.cli.main import main; main()",
        _H5BOUND_COMPLETE="bash_complete",
        COMP_WORDS=f"h5bound {words}",
        COMP_CWORD=str(count),
    )
    assert done.stdout.split(",")[0] == kind


def test_commands_and_options_are_completed() -> None:
    for words, found in (("conv", "convert"), ("convert --on", "--on-unsupported"), ("verify --sch", "--scheduler")):
        done = run(
            "from h5bound.cli.main import main; main()",
            _H5BOUND_COMPLETE="bash_complete",
            COMP_WORDS=f"h5bound {words}",
            COMP_CWORD=str(len(words.split())),
        )
        assert done.stdout == f"plain,{found}\n"


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_bash_completes_paths(tmp_path: Path) -> None:
    (tmp_path / "scan 1.h5").touch()
    (tmp_path / "scan.zarr").mkdir()
    wrapper = tmp_path / "bin" / "h5bound"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m h5bound "$@"\n')
    wrapper.chmod(0o755)
    script = """
compopt() { options="$options $*"; }  # only allowed inside of a completion
eval "$(_H5BOUND_COMPLETE=bash_source h5bound)"
COMP_WORDS=(h5bound convert scan) COMP_CWORD=2
_h5bound_completion h5bound scan convert
echo "${COMPREPLY[*]}|$options"
"""
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["|", "-o", "default"]
    assert not done.stderr
