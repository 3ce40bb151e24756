"""The reprs of `H5Store`: at most a screen of text, and a table of bounded size for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.attributes import read_values
from h5bound.hdf5.links import open_object
from h5bound.hdf5.type_names import describe_type
from h5bound.listing.entries import DatasetEntry
from h5bound.listing.values import format_value
from h5bound.listing.words import describe_shape
from h5bound.reports.digest import Table
from h5bound.reports.html import MAX_HTML, STYLE, fold, render_table
from h5bound.reports.text import cut, format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.listing.entries import EntryReader

MAX_LINES = 20
"""Datasets that the text shows."""

MAX_NAME = 40
"""Columns of a path in the text."""

MAX_LINE = 79
"""Columns of a line of the text, but for the path of the file."""

MAX_ROWS = 400
"""Datasets that the table shows."""

MAX_OPEN_ROWS = 40
"""Rows of a table that are shown at once; of a longer one after a click."""


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers of what is in a group, itself among the groups, as `h5bound ls` counts."""

    datasets: int
    groups: int
    links: int
    """Links except the first hard link to each object, as in `Hierarchy`."""

    def __str__(self) -> str:
        links = [plural(self.links, "link")] if self.links else []
        return ", ".join([plural(self.groups, "group"), plural(self.datasets, "dataset"), *links])


@dataclass(frozen=True, slots=True)
class Row:
    """One dataset of a store."""

    name: str
    """Path in the store."""
    dataset: DatasetEntry
    units: object = ""
    """Value of the attribute ``units``."""


def read_row(reader: EntryReader, name: str, record: DatasetRecord) -> Row:
    """Read what a row shows beside the record of a dataset."""
    try:
        item = open_object(reader.opened.file, record.path)
        units = read_values(item, reader.resolve, only=[b"units"]).get("units", "")
        return Row(name, reader.read_dataset(item, record, with_access=False), units)
    except (H5BoundError, *READ_ERRORS):
        return Row(name, DatasetEntry(record=record))


def render_text(title: str, rows: Sequence[Row], *, total: Count) -> str:
    """Return the numbers of datasets, groups and links, and a line for each of the first datasets."""
    shown = rows[:MAX_LINES]
    names = [cut(printable(row.name), MAX_NAME) for row in shown]
    width = max(map(len, names), default=0)
    lines = [f"<H5Store of {printable(title)}: {total}"]
    for name, row in zip(names, shown, strict=True):
        described = f"{describe_shape(row.dataset)} {describe_type(row.dataset.record.dtype)}"
        lines.append(cut(f"  {name:<{width}}  {printable(described)}", MAX_LINE))
    if total.datasets > len(shown):
        lines.append(f"  … and {total.datasets - len(shown):,} more")
    return "\n".join(lines) + ">"


def render_html(title: str, rows: Sequence[Row], *, total: Count, problem: str = "") -> str:
    """Return a table with a row for each dataset, for as many as fit into a bounded size."""
    for limit in (MAX_ROWS, 200, 100, 50, 20, 10):
        html = _render_rows(title, rows[:limit], total=total, problem=problem)
        if len(html.encode()) <= MAX_HTML:
            break
    return html


def _render_rows(title: str, rows: Sequence[Row], *, total: Count, problem: str) -> str:
    """Return the HTML of these rows."""
    cells = [_make_cells(row) for row in rows]
    if total.datasets > len(rows):
        cells.append((f"… and {total.datasets - len(rows):,} more", "", "", "", "", ""))
    columns = ("dataset", "shape", "type", "chunks", "units", "size")
    table = render_table(Table(columns=columns, rows=tuple(cells), texts=5), len(cells))
    head = f"<b>H5Store</b> {escape(cut(printable(title), 240))}: {total}"
    body = fold(plural(total.datasets, "dataset"), table) if len(cells) > MAX_OPEN_ROWS else table
    note = f"<div>{escape(cut(printable(problem), 360))}</div>" if problem else ""
    return f'{STYLE}<div class="h5bound-report"><div>{head}</div>{note}{body}</div>'


def _make_cells(row: Row) -> tuple[str, ...]:
    record, nbytes = row.dataset.record, row.dataset.nbytes
    return (
        printable(row.name),
        printable(describe_shape(row.dataset)),
        printable(describe_type(record.dtype)),
        f"({', '.join(map(str, record.chunks))})" if record.chunks is not None else record.layout,
        printable(row.units if isinstance(row.units, str) else format_value(row.units, limit=MAX_NAME)),
        "" if nbytes is None else format_nbytes(nbytes),
    )
