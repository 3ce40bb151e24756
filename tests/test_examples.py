"""The examples of the README and of all pages run, and print what the pages show: see ``tests/support/pages.py``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from tests.support.pages import PAGES, ROOT, RUN, SHOWN, Run, read_blocks

if TYPE_CHECKING:
    from pathlib import Path


def write_scan(folder: Path) -> None:
    """Write the files that the README reads."""
    (folder / "in").mkdir()
    for path in (folder / "scan.h5", folder / "in/a.h5", folder / "in/b.h5"):
        with h5py.File(path, "w") as file:
            for dataset in ("temperature", "a", "b"):
                file.create_dataset(f"entry/{dataset}", data=np.arange(400.0).reshape(20, 20), chunks=(5, 20))


OWN_TESTS = {"docs/explanation/format.md", "docs/reference/reports.md"}
"""Pages that tests of `tests/test_docs.py` run with more files, and compare with h5py."""


NEEDS = {"docs/how-to/views.md": ("fastparquet", "kerchunk", "icechunk")}
"""Libraries that have no wheels for every Python, without which a page is not run."""

SETUPS = {"README.md": write_scan}
"""What has to be there before a page runs that does not write it itself."""


def name(page: Path) -> str:
    """Return the path of a page from the root."""
    return page.relative_to(ROOT).as_posix()


def has_examples(page: Path) -> bool:
    """Return whether there is something to run."""
    return name(page) not in OWN_TESTS and any(block.language in RUN for block in read_blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if has_examples(page)], ids=name)
@pytest.mark.filterwarnings("ignore")  # of xarray about consolidated metadata, of s3fs at the end
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for library in NEEDS.get(name(page), ()):
        pytest.importorskip(library)
    if name(page) in SETUPS:
        SETUPS[name(page)](tmp_path)
    Run(capsys).page(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_a_page_is_run_or_is_no_code(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = list(read_blocks(page))
    assert {block.language for block in blocks} <= RUN | SHOWN
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * sum(
        not text.splitlines()[block.line - 2].startswith("<!--") for block in blocks
    )
    for block in blocks:
        if block.language == "text":
            before = text.splitlines()[block.line - 4 : block.line - 1]
            assert any(line.startswith("<!-- not run: ") for line in before), f"{block}: text without a reason"
