"""The bar in a notebook and a terminal, and the function of a user."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound import convert, verify
from h5bound.execution.progress import Step, show_progress

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = """
import sys
import nbclient, nbformat

cell = nbformat.v4.new_code_cell(sys.stdin.read())
notebook = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
for output in cell.outputs:
    print(output.output_type, output.get("data", output.get("text")))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1000), chunks=(100,), compression="gzip")
        file.create_dataset("contiguous", data=np.arange(1000))
    return path


@pytest.mark.slow
def test_a_notebook_shows_a_bar_without_further_packages(source: Path) -> None:
    """It is the output of the cell, also in the saved notebook; a dry run leaves nothing."""
    cell = f"""
import h5bound
h5bound.convert({str(source)!r}, {str(source.with_suffix(".zarr"))!r}, verify=True, progress=True)
h5bound.convert({str(source)!r}, {str(source.with_suffix(".dry"))!r}, dry_run=True, progress=True)
None
"""
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], input=cell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    converting, comparing, planning = done.stdout.splitlines()
    for line, phase in ((converting, "converting"), (comparing, "comparing")):
        assert line.startswith("display_data")
        assert f"<div>{phase} <progress value=" in line
    assert "planning" not in planning
    assert "<progress" not in planning


def test_where_neither_a_terminal_nor_a_notebook_is_nothing_is_shown(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    target = source.with_suffix(".zarr")
    assert convert(source, target, progress=True, verify=True).exit_code == 0
    assert verify(source, target, progress=True).equal
    assert capfd.readouterr() == ("", "")


def test_a_function_is_told_only_what_has_a_size() -> None:
    told: list[tuple[int, int]] = []
    with show_progress(lambda *at: told.append(at)) as meter:
        meter.begin("planning")
        meter.begin("converting")
        meter(1, 2)
        with show_progress(meter) as same:
            assert same is meter
        meter(2, 2)
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        pytest.param(Step("planning"), "", id="no size yet"),
        pytest.param(
            Step("scanning", done=50, total=2000, seconds=40.0, noun="files"),
            "50 of 2,000 files, 26:00 left",
            id="files",
        ),
        pytest.param(Step("converting", done=0, total=2048, seconds=1.0), "0 B of 2.0 KiB", id="nothing done yet"),
        pytest.param(Step("converting", done=0, total=0, seconds=1.0), "0 B of 0 B", id="nothing to do"),
        pytest.param(
            Step("converting", done=1024, total=2048, seconds=100.0),
            "1.0 KiB of 2.0 KiB, 10 B/s, 1:40 left",
            id="half",
        ),
        pytest.param(
            Step("converting", done=1024, total=2048, seconds=1.0), "1.0 KiB of 2.0 KiB, 1.0 KiB/s", id="too early"
        ),
        pytest.param(Step("converting", done=1, total=2048, seconds=10.0), "1 B of 2.0 KiB, 0 B/s", id="too little"),
        pytest.param(
            Step("converting", done=100, total=10000, seconds=30.0), "100 B of 9.8 KiB, 3 B/s, 49:30 left", id="slow"
        ),
        pytest.param(
            Step("converting", done=2048, total=2048, seconds=2.0), "2.0 KiB of 2.0 KiB, 1.0 KiB/s, 2.0 s", id="done"
        ),
    ],
)
def test_a_step_says_how_much_how_fast_and_how_long(step: Step, text: str) -> None:
    assert step.describe() == text
