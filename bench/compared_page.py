"""The tables of ``docs/compared.md``, written between two marks of the page."""

from __future__ import annotations

import platform
from itertools import groupby
from typing import TYPE_CHECKING

import h5py

from bench.converters import CONVERTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    Row = tuple[str, str, str, str, str]
    """Section, case, library, verdict, and what it rests on."""

BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->"

SHOWN = {
    "equal": "equal",
    "other form": "*other form*",
    "refused": "refused",
    "told": "*told*",
    "missing": "**missing**",
    "wrong": "**wrong**",
    "ended": "*ended*",
}
"""How a table shows each verdict."""

SILENT = ("missing", "wrong")
"""Verdicts that nothing tells the user of."""


def write_page(page: Path, rows: Sequence[Row], date: str) -> None:
    """Put the tables of all rows into a page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    tables = "\n".join(list_lines(rows, date))
    page.write_text(f"{head}{BEGIN}\n{tables}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def list_lines(rows: Sequence[Row], date: str) -> Iterator[str]:
    """Yield the lines of the tables, of the counts, and of what was wrong or missing in silence."""
    versions = ", ".join(dict.fromkeys(text for one in CONVERTERS.values() if not one.missing for text in one.versions))
    yield f"Run on {date} with {versions} and HDF5 {h5py.version.hdf5_version}, Python {platform.python_version()}."
    yield from ("", "### In numbers", "", *list_counts(rows))
    for section, group in groupby(rows, lambda row: row[0]):
        yield from ("", f"### {section}", "", *list_table(list(group)))
    yield from ("", "### What was wrong or missing in silence", "", *list_faults(rows))


def list_counts(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of how often each library came to each verdict."""
    yield row_of("", *SHOWN)
    yield row_of(*["---"] * (len(SHOWN) + 1))
    for peer in list_peers(rows):
        found = [row[3] for row in rows if row[2] == peer]
        yield row_of(peer, *(str(found.count(verdict) or "") for verdict in SHOWN))


def list_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of one section."""
    peers = list_peers(rows)
    yield row_of("", *peers)
    yield row_of(*["---"] * (len(peers) + 1))
    for case, group in groupby(rows, lambda row: row[1]):
        verdicts = {row[2]: SHOWN[row[3]] for row in group}
        yield row_of(case, *(verdicts.get(peer, "") for peer in peers))


def list_faults(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a line for each case and library that was wrong or lost something in silence."""
    yield row_of("case", "library", "what it read")
    yield row_of("---", "---", "---")
    for section, case, peer, verdict, reason in rows:
        if verdict in SILENT:
            where = f"attribute: {case}" if section == "Attributes" else case
            yield row_of(where, peer, f"`{escape_code(reason)}`" if verdict == "wrong" else reason)


def list_peers(rows: Iterable[Row]) -> list[str]:
    """Return the libraries of some rows."""
    return list(dict.fromkeys(row[2] for row in rows))


def row_of(*cells: str) -> str:
    """Return the line of a table."""
    return f"| {' | '.join(cells)} |"


def escape_code(text: str) -> str:
    """Return text that can stand in a table, between backticks."""
    return text.replace("`", "'").replace("|", "\\|")
