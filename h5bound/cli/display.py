"""Output of the commands: trees and tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from h5bound.cli.messages import name_options
from h5bound.reports.remarks import fit_sections
from h5bound.reports.text import SCREEN_ROWS, count_rows, cut, fold_phrases

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from h5bound.reports.digest import Digest, Table
    from h5bound.reports.report import Report


FEW_ARRAYS, FEW_REMARKS = 12, 3
"""Arrays of a conversion that have a row each, if so many remarks of each kind fit below them."""

HEAD_ROWS, COLUMN_GAP = 2, 3
"""Rows above those of a table, and columns between those of a table."""

MIN_NAME_WIDTH = 12
"""Characters of a name that is cut."""

PLAIN_WIDTH = 10_000
"""Columns of output that is not a terminal, where lines are not wrapped."""

STYLES = {
    "copied": "green", "mixed": "yellow", "decoded": "cyan", "metadata": "dim", "equal": "green", "different": "red",
    "skipped": "yellow", "warning": "yellow", "not compared": "yellow", "differs": "red", "failed": "red",
    "damaged": "red", "not checked": "yellow",
}  # fmt: skip


def make_console() -> Console:
    """Return the console to print to: as wide as the terminal, or without wrapping."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PLAIN_WIDTH, soft_wrap=True)


def show_report(console: Console, report: Report, *, verbose: bool) -> None:
    """Print a report: of many arrays or objects the numbers, at most a screen, or with `verbose` each of them."""
    from rich.text import Text

    width, used = console.width, 0
    words = cache(name_options)  # there are many facts and few reasons
    digest = report.digest()
    digest = replace(digest, sections=tuple(section.reword(words) for section in digest.sections))
    styles = ("bold red" if digest.failed else "bold", "bold red" if digest.failed else "bold green")
    for line, style in zip((digest.summary, digest.verdict), styles, strict=True):
        for part in fold_phrases(name_options(line), width) if line else ():
            console.print(Text(part, style=style))
            used += count_rows(part, width)
    table, lines = digest.table, [line for section in digest.sections for line in section.list_all()]
    if not verbose:
        table, lines = choose_rows(digest, height=SCREEN_ROWS - used, width=width)
        if width >= PLAIN_WIDTH:  # no screen to fill: each reason, with a few of the objects
            lines = [line for section in digest.sections for line in section.list_lines(len(section.remarks), width)]
    if table.rows:
        console.print(make_table(table, width, fold=verbose))
    for line in lines:
        console.print(Text(line, style=STYLES.get(line.partition(":")[0], "default")))
    if table is not digest.table or (not verbose and any("…" in line for line in lines)):
        console.print(Text("--verbose lists all", style="dim"))


def choose_rows(digest: Digest, *, height: int, width: int) -> tuple[Table, list[str]]:
    """Return the table and the lines that fit on a screen: each array has a row if there are few."""
    height -= 1  # the line that names --verbose
    few = [line for section in digest.sections for line in section.list_lines(FEW_REMARKS, width)]
    rows = len(digest.table.rows) + HEAD_ROWS + sum(count_rows(line, width) for line in few)
    table = digest.table if len(digest.table.rows) <= FEW_ARRAYS and rows <= height else digest.totals
    used = len(table.rows) + HEAD_ROWS if table.rows else 0
    return table, fit_sections(digest.sections, height=height - used, width=width)


def make_table(table: Table, width: int, *, fold: bool) -> RichTable:
    """Return a table that is as wide as the terminal at most: long names are folded, or cut in the middle.

    Where even that does not fit, the last columns are left out.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    columns = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(map(len, column)) + COLUMN_GAP for column in columns[1:]]
    while sum(widths) > max(width - MIN_NAME_WIDTH, 0):
        widths.pop()
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, title in enumerate(table.columns[: len(widths) + 1]):
        side: Literal["left", "right"] = "left" if number < table.texts else "right"
        shown.add_column(title, justify=side, no_wrap=number > 0, overflow="fold")
    for name, *cells in table.rows:
        first = name if fold else cut(name, max(width - sum(widths), MIN_NAME_WIDTH))
        texts = [first, *cells[: len(widths)]]
        shown.add_row(*(Text(text, style=STYLES.get(text, "default")) for text in texts))
    return shown
