"""Output of the commands: trees, tables and a progress bar, or plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from h5bound.cli.listing import Entry
    from h5bound.reports.conversion import ConversionReport
    from h5bound.reports.verification import VerificationReport


MAX_PATH_WIDTH = 40
"""Characters of the longest path that a table shows in one line."""

PLAIN_WIDTH = 10_000
"""Columns of output that is not a terminal, where lines are not wrapped."""

STYLES = {
    "copied": "green", "mixed": "yellow", "decoded": "cyan", "metadata": "dim", "": "default",
    "skipped": "yellow", "note": "dim", "differs": "red",
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


@contextmanager
def show_progress(console: Console, *phases: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the bytes done: as a bar on a terminal, elsewhere as lines on stderr.

    When the bytes done start again from the beginning, the next of the phases has begun.
    """
    if not console.is_terminal:
        yield PlainProgress(*phases)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=console, transient=True) as bar:
        task = bar.add_task(phases[0], total=None)
        titles = Phases(phases)

        def update(done: int, total: int) -> None:
            bar.update(task, description=titles.at(done), completed=done, total=total)

        yield update


class Phases:
    """The titles of phases, in order; the next one begins when the bytes done start again from the beginning."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.titles = list(titles)
        self.done = 0

    def at(self, done: int) -> str:
        """Return the title of the phase in which so many bytes are done."""
        if done < self.done and len(self.titles) > 1:
            self.titles.pop(0)
        self.done = done
        return self.titles[0]


class PlainProgress:
    """Progress as a line on stderr every few seconds."""

    SECONDS = 5.0

    def __init__(self, *phases: str) -> None:
        self.phases = Phases(phases)
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Print the bytes done and the total, if it is time for a line."""
        title, now = self.phases.at(done), time.monotonic()
        if now - self.last >= self.SECONDS:
            self.last = now
            click.echo(f"{title}: {format_nbytes(done)} of {format_nbytes(total)}", err=True)


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
            Text(printable("; ".join(entry.reasons))),
        )
    if report.arrays:
        console.print(table)
    show_list(console, "note", [f"{printable(item.path)}: {printable(item.note)}" for item in report.notes])
    show_list(console, "skipped", list(map(str, report.skipped)))
    console.print(Text(report.summary(), style="bold"))
    if report.verification is not None:
        show_verification(console, report.verification)


def show_verification(console: Console, report: VerificationReport) -> None:
    """Print every difference, and the summary."""
    from rich.text import Text

    show_list(console, "differs", list(map(str, report.differences)))
    console.print(Text(report.summary(), style="bold green" if report.equal else "bold red"))


def show_list(console: Console, title: str, lines: list[str]) -> None:
    """Print lines, each after a title."""
    from rich.text import Text

    for line in lines:
        console.print(Text(f"{title}: {line}", style=STYLES[title]))
