"""Run a notebook in a folder that is deleted afterwards, and write it with its outputs, by default in its own place.

``python docs/run_notebook.py NOTEBOOK [TARGET]``
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbclient
import nbformat

FOLDER = "/data"
"""What stands in outputs for the folder in which a notebook ran."""

WAIT = 120
"""Seconds that a cell may take."""


def run(path: Path, target: Path) -> None:
    """Run a notebook, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        nbclient.NotebookClient(
            notebook, timeout=WAIT, kernel_name="python3", resources={"metadata": {"path": str(place)}}
        ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    text = nbformat.writes(notebook).replace(str(place), FOLDER)
    target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[-1]))
