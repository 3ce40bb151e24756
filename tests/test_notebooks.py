"""The notebooks run, and hold what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.html import CheckedHtml
from tests.support.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def list_outputs(path: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each cell of code."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) <= 60_000
    assert "/tmp" not in text
    outputs = [output for cell in list_outputs(path) for output in cell]
    assert len(outputs) >= 5
    for output in outputs:
        assert output.get("name") != "stderr"
        html = "".join(output.get("data", {}).get("text/html", ""))
        if "h5b" in html:
            CheckedHtml(html)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_has_the_outputs_that_it_shows(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/run_notebook.py", path, tmp_path / "run.ipynb"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]

    def list_kinds(path: Path) -> list[list[Any]]:
        return [
            [sorted(output.get("data", {})) or output["name"] for output in cell if output.get("name") != "stderr"]
            for cell in list_outputs(path)  # without the warnings that other versions give
        ]

    assert list_kinds(tmp_path / "run.ipynb") == list_kinds(path)
