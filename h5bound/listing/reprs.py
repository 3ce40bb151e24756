"""The reprs of `H5Store`: at most a screen of text, and a tree of bounded size for notebooks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.attributes import read_values
from h5bound.hdf5.type_names import describe_type
from h5bound.listing.values import format_value
from h5bound.listing.words import describe_filter, describe_shape
from h5bound.reports.digest import Digest
from h5bound.reports.html import render
from h5bound.reports.text import cut, plural, printable
from h5bound.reports.tree import Grid, Leaf, list_empty_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.listing.entries import DatasetEntry, EntryReader

MAX_LINES = 20
"""Datasets that the text shows."""

MAX_NAME = 40
"""Columns of a path in the text."""

MAX_LINE = 79
"""Columns of a line of the text, but for the path of the file."""

MAX_READ = 400
"""Datasets whose dimensions and units are read for the tree."""


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
    lack: str = ""
    """In how many of many files the dataset is, if not in all."""


def read_row(reader: EntryReader, row: Row) -> Row:
    """Read what a row shows beside the record of a dataset."""
    record = row.dataset.record
    try:
        item = reader.opened.open_object(record.path)
        units = read_values(item, reader.resolve, only=[b"units"]).get("units", "")
        return replace(row, dataset=reader.read_dataset(item, record, with_access=False), units=units)
    except (H5BoundError, *READ_ERRORS):
        return row


def render_text(title: str, rows: Sequence[Row], *, total: Count) -> str:
    """Return the numbers of datasets, groups and links, and a line for each of the first datasets."""
    shown = rows[:MAX_LINES]
    names = [cut(printable(row.name), MAX_NAME) for row in shown]
    width = max(map(len, names), default=0)
    lines = [f"<H5Store of {printable(title)}: {total}"]
    for name, row in zip(names, shown, strict=True):
        lack = row.lack and f", {row.lack}"
        described = f"{describe_shape(row.dataset)} {describe_type(row.dataset.record.dtype)}{lack}"
        lines.append(cut(f"  {name:<{width}}  {printable(described)}", MAX_LINE))
    if total.datasets > len(shown):
        lines.append(f"  … and {total.datasets - len(shown):,} more")
    return "\n".join(lines) + ">"


def render_html(title: str, rows: Sequence[Row], groups: Iterable[str], *, total: Count, problem: str = "") -> str:
    """Return a tree of all datasets and groups, of which as many are shown as fit into a bounded size."""
    digest = Digest(
        kind="H5Store",
        subject=printable(title),
        summary=str(total),
        verdict=printable(problem),
        leaves=(*list_empty_groups(groups, (f"/{row.name}" for row in rows)), *map(make_leaf, rows)),
    )
    return render(digest)


def make_leaf(row: Row) -> Leaf:
    """Return a dataset as a leaf of the tree."""
    record, nbytes = row.dataset.record, row.dataset.nbytes
    return Leaf(
        path=row.name,
        grid=Grid(
            type=describe_type(record.dtype),
            shape=record.shape,
            chunks=record.chunks,
            nbytes=nbytes,
            dims=row.dataset.dimensions,
        ),
        nbytes=nbytes or 0,
        facts=lambda: {
            "files": row.lack,
            "units": row.units if isinstance(row.units, str) else format_value(row.units, limit=MAX_NAME),
            "layout": "" if record.chunks is not None else record.layout,
            "filters": " + ".join(map(describe_filter, record.filters)),
        },
    )
