"""Output of the commands: trees and tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from h5bound.cli.messages import name_options
from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from h5bound.cli.listing import Entry
    from h5bound.reports.batch import BatchReport
    from h5bound.reports.conversion import ConversionReport
    from h5bound.reports.verification import VerificationReport


MAX_PATH_WIDTH = 40
"""Characters of the longest path that a table shows in one line."""

PLAIN_WIDTH = 10_000
"""Columns of output that is not a terminal, where lines are not wrapped."""

STYLES = {
    "copied": "green", "mixed": "yellow", "decoded": "cyan", "metadata": "dim", "": "default",
    "skipped": "yellow", "note": "dim", "differs": "red", "failed": "red",
}  # fmt: skip


def make_console() -> Console:
    """Return the console to print to: as wide as the terminal, or without wrapping."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PLAIN_WIDTH, soft_wrap=True)


def show_tree(console: Console, title: str, entries: Sequence[Entry]) -> None:
    """Print the objects and links of a file as a tree, and the number of groups and datasets."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(printable(title), style="bold"))
    nodes = {"/": root}
    styles = {"group": "bold blue", "dataset": "green", "link": "cyan", "type": "magenta", "problem": "red"}
    for entry in entries:
        if entry.path == "/":
            continue
        parent, _, name = entry.path.rpartition("/")
        line = Text(printable(name), style=styles[entry.kind])
        line.append(f"  {printable(entry.text)}" if entry.kind != "group" else "/", style="default")
        nodes[entry.path] = nodes.get(parent or "/", root).add(line)
    console.print(root)
    counts = {kind: sum(entry.kind == kind for entry in entries) for kind in ("group", "dataset")}
    console.print(f"{plural(counts['group'], 'group')}, {plural(counts['dataset'], 'dataset')}")


def show_conversion(console: Console, report: ConversionReport) -> None:
    """Print a table of the datasets, the notes, what was skipped, and the summary."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    fold = max((len(printable(entry.path)) for entry in report.arrays), default=0) > MAX_PATH_WIDTH
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("dataset", no_wrap=not fold, overflow="fold")
    table.add_column("how", no_wrap=True)
    for column in ("chunks", "stored", "written"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why not copied")
    for entry in report.arrays:
        table.add_row(
            Text(printable(entry.path)),
            Text(entry.how or "", style=STYLES[entry.how or ""]),
            f"{entry.chunks:,}",
            format_nbytes(entry.stored_nbytes),
            format_nbytes(entry.written_nbytes) if report.complete else "",
            Text(printable(name_options("; ".join(entry.reasons)))),
        )
    if report.arrays:
        console.print(table)
    show_list(console, "note", [f"{printable(item.path)}: {printable(item.note)}" for item in report.notes])
    show_list(console, "skipped", [str(item) for item in report.skipped if not item.asked])
    console.print(Text(report.summary(), style="bold"))
    if report.verification is not None:
        show_verification(console, report.verification)


def show_batch(console: Console, report: BatchReport) -> None:
    """Print a table of the sources, a row for each that failed, and the summary; of one source, all about it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if len(report.conversions) == 1 and not report.failed:
        show_conversion(console, report.conversions[0])
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("file", overflow="fold")
    for column in ("arrays", "stored", "written", "skipped"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in report.conversions:
        table.add_row(
            Text(printable(one.source.path)),
            f"{len(one.arrays):,}",
            format_nbytes(sum(entry.stored_nbytes for entry in one.arrays)),
            format_nbytes(sum(entry.written_nbytes for entry in one.arrays)) if one.complete else "",
            f"{len(one.skipped):,}" if one.skipped else "",
        )
    if report.conversions:
        console.print(table)
    for one in report.conversions:
        if one.verification is not None:
            name = printable(one.source.path)
            show_list(console, "differs", [f"{name}: {item}" for item in one.verification.differences])
    show_list(console, "failed", list(map(str, report.failed)))
    console.print(Text(report.summary(), style="bold red" if report.exit_code == 1 else "bold"))


def show_verification(console: Console, report: VerificationReport) -> None:
    """Print every difference, and the summary."""
    from rich.text import Text

    show_list(console, "differs", list(map(str, report.differences)))
    console.print(Text(report.summary(), style="bold green" if report.equal else "bold red"))


def show_list(console: Console, title: str, lines: list[str]) -> None:
    """Print lines, each after a title."""
    from rich.text import Text

    for line in lines:
        console.print(Text(f"{title}: {name_options(line)}", style=STYLES[title]))
