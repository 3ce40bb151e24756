"""Rows of a store as text and as HTML, in bounded room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound.hdf5.dataset import read_dataset
from h5bound.listing.entries import DatasetEntry
from h5bound.listing.reprs import MAX_LINE, MAX_LINES, Count, Row, render_html, render_text
from h5bound.reports.html import MAX_HTML

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def entry(tmp_path: Path) -> DatasetEntry:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        return DatasetEntry(record=read_dataset(file.create_dataset("x", data=np.zeros((2, 3)))))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (Count(datasets=0, groups=1, links=0), "1 group, 0 datasets"),
        (Count(datasets=1, groups=1, links=2), "1 group, 1 dataset, 2 links"),
        (Count(datasets=2000, groups=3, links=0), "3 groups, 2,000 datasets"),
    ],
)
def test_groups_are_counted_with_the_one_that_is_shown_and_links_if_there_are_any(count: Count, text: str) -> None:
    assert str(count) == text


def test_a_store_of_many_datasets_takes_a_screen_of_text(entry: DatasetEntry) -> None:
    rows = [Row(f"{i}\x1b{'long' * 60}", entry) for i in range(MAX_LINES + 5)]
    lines = render_text("a.h5", rows, total=Count(datasets=1000, groups=0, links=0)).splitlines()
    assert len(lines) == MAX_LINES + 2
    assert max(map(len, lines)) <= MAX_LINE
    assert lines[-1] == f"  … and {1000 - MAX_LINES} more>"
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("length", [1, 2000])
def test_html_has_as_many_rows_as_fit_and_no_markup_of_the_file(entry: DatasetEntry, length: int) -> None:
    rows = [Row(f"<script>{i}" + "é" * length, entry, "<b>") for i in range(1000)]
    html = render_html("<q>", rows, ["/"], total=Count(datasets=1000, groups=0, links=0), problem="<u>")
    assert len(html.encode()) <= MAX_HTML
    assert "not shown" in html
    assert not any(tag in html for tag in ("<script>", "<q>", "<u>"))
