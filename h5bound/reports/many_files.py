"""What reports say of many files: where they differ, and which are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from h5bound.reports.remarks import Fact, Section, group_facts
from h5bound.reports.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TITLES = {"decided": "decided", "note": "between files"}
"""Titles of the sections of a report by the kind of their differences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something in which files differ, or that is odd in how they follow each other."""

    kind: Literal["refused", "decided", "note"]
    """refused: nothing is joined; decided: an option says what to do; note: values are the same in any case."""
    variable: str
    """Path of the variable or group; "" for the files as such."""
    what: str
    """What differs."""
    files: str
    """The files that differ from the first one, as ranges."""
    action: str
    """What to do, or what is done."""
    option: bool = True
    """Refused: whether an option decides it."""

    def to_dict(self) -> dict[str, str]:
        """Return the JSON object."""
        names = ("kind", "variable", "what", "files", "action")
        return {name: getattr(self, name) for name in names}

    def to_fact(self) -> Fact:
        """Return the line of the report."""
        action = self.action and f": {self.action}"
        files = self.files and f"; in {self.files}"
        return Fact.of("object", self.variable or "files", f"{self.what}{action}{files}")


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that was left out, since it cannot be read."""

    path: str
    error: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON object."""
        return {"path": self.path, "error": self.error}

    def to_fact(self) -> Fact:
        """Return the line of the report, without the path that the error begins with."""
        name, colon, reason = self.error.partition(": ")
        is_named = colon and name.endswith(self.path.removeprefix("./"))
        return Fact.of("file", self.path, reason if is_named else self.error)


def list_differences(differences: Sequence[Difference]) -> Iterator[Section]:
    """Yield what reports say of how files differ: what options decided, then what changes no value."""
    for kind, title in TITLES.items():
        yield Section(title, group_facts(item.to_fact() for item in differences if item.kind == kind))


def name_source(path: str, count: int) -> str:
    """Return how reports name their source, the first of many files.

    >>> name_source("a.nc", 3), name_source("a.nc", 0)
    ('a.nc and 2 more', 'a.nc')
    """
    return f"{printable(path)}{f' and {count - 1:,} more' if count > 1 else ''}"
