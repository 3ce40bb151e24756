"""A report in short, which the text form, the terminal and HTML show: a headline, tables, and remarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h5bound.reports.remarks import Section, fit_sections
from h5bound.reports.text import SCREEN_ROWS, SCREEN_WIDTH, count_rows

if TYPE_CHECKING:
    from h5bound.reports.tree import Leaf

INDENT = "  "
"""Before the lines of a text form, but the first."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. Names are printable."""

    columns: tuple[str, ...]
    """Titles. Columns of numbers follow those of text."""
    rows: tuple[tuple[str, ...], ...] = ()
    texts: int = 1
    """Number of columns of text."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A report in short."""

    kind: str
    """Name of its class."""
    subject: str
    """Source and target."""
    summary: str
    verdict: str = ""
    """Result of the comparison of store and source; empty if they were not compared."""
    failed: bool = False
    """Whether there is a difference, or a failure."""
    table: Table = field(default_factory=lambda: Table(()))
    """A row for each array, or for each file."""
    totals: Table = field(default_factory=lambda: Table(()))
    """A row for each kind of them; without rows if there are no kinds."""
    figures: tuple[tuple[str, str], ...] = ()
    """Numbers with titles, for a page."""
    leaves: tuple[Leaf, ...] = ()
    """The arrays, for the tree of HTML; none where the table has something else."""
    sections: tuple[Section, ...] = ()

    def list_lines(self) -> tuple[str, ...]:
        """Return the lines above the tables."""
        return tuple(line for line in (self.summary, self.verdict) if line)

    def __str__(self) -> str:
        lines = [f"<{self.kind} {self.subject}", *self.list_lines()]
        used = sum(count_rows(line, SCREEN_WIDTH) for line in lines)
        lines += fit_sections(self.sections, height=SCREEN_ROWS - used, width=SCREEN_WIDTH - len(INDENT))
        return f"\n{INDENT}".join(lines) + ">"
