"""Entries of the reports: what was converted, skipped, linked, noted or found different."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from h5bound.reports.forms import FORMS, READER, advise
from h5bound.reports.remarks import ARROW, Fact, group_facts
from h5bound.reports.text import format_nbytes, name_first, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.reports.forms import Kind
    from h5bound.reports.tree import Grid

REPORT_VERSION = 1
"""Version of the JSON form. It changes when the meaning of a field changes."""

Strategy = Literal["copied", "decoded", "mixed", "metadata"]
"""copied: as stored. mixed: some of them re-encoded. metadata: no chunks were stored."""

KEPT = "kept as a link, which few readers see"


@cache
def read_version() -> str:
    """Return the version of h5bound that is installed, read once: that takes as long as converting a dataset."""
    from importlib.metadata import version

    return version("h5bound")


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The file that was read."""

    path: str
    size: int
    """Size in bytes."""
    mtime_ns: int
    """Time of the last modification, in nanoseconds since 1970."""
    hdf5: str
    """Version of the HDF5 library that read the file."""


@dataclass(frozen=True, slots=True)
class Rechunking:
    """How an array is read whose chunks overlap the same chunks of the source. Sizes are in bytes."""

    passes: int
    """1, or 2 with temporary files between them."""
    memory: int
    """Most values that are held at a time."""
    read: int
    """Encoded bytes that are read from the source."""
    written: int
    """Values that are encoded and written to the store."""
    temporary: int
    """Values that are written to temporary files and read from them."""

    def to_dict(self) -> dict[str, int]:
        """Return the JSON object."""
        sizes = {"memory": self.memory, "read": self.read, "written": self.written, "temporary": self.temporary}
        return {"passes": self.passes, **{f"{name}_bytes": nbytes for name, nbytes in sizes.items()}}

    def __str__(self) -> str:
        passes = f"{self.passes} pass" if self.passes == 1 else f"{self.passes} passes"
        between = f", {format_nbytes(self.temporary)} to temporary files and back" if self.temporary else ""
        return (
            f"{passes}, {format_nbytes(self.memory)} in memory at a time; {format_nbytes(self.read)} to read{between}, "
            f"{format_nbytes(self.written)} to encode and write"
        )


@dataclass(frozen=True, slots=True)
class Converted:
    """A group (`how` is None) or dataset with a node in the store."""

    path: str
    """Path in the source, from /."""
    target: str
    """Path in the store, without a leading slash."""
    how: Strategy | None = None
    chunks: int = 0
    """Number of stored chunks: HDF5's where copied, the store's where decoded."""
    stored_nbytes: int = 0
    """Encoded bytes in the source."""
    written_nbytes: int = 0
    """Encoded bytes in the store."""
    reasons: tuple[str, ...] = ()
    """Reasons why stored chunks could not be copied."""
    rechunking: Rechunking | None = None
    """Dry run: how it will be read, if its chunks overlap the same chunks of the source."""
    grid: Grid | None = None
    """Type, shape and chunks of the array; None for a group. Without chunks if the dataset became several arrays."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        entry: dict[str, object] = {"path": self.path, "target": self.target}
        if self.how is None:
            return entry
        entry |= {
            "how": self.how,
            "chunks": self.chunks,
            "stored_bytes": self.stored_nbytes,
            "written_bytes": self.written_nbytes,
            "reasons": list(self.reasons),
            **({} if self.grid is None else self.grid.to_dict()),
        }
        return entry if self.rechunking is None else entry | {"rechunking": self.rechunking.to_dict()}


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object, a link or one attribute that is in the source but not in the store."""

    path: str
    reason: str
    attribute: str | None = None
    """Name of the attribute, if only an attribute is skipped."""
    unsafe: bool = False
    """Whether it lies outside the file. Not in the JSON."""
    asked: bool = False
    """Whether include or exclude left it out, on purpose. In the JSON only if it is true."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        asked = {"asked": True} if self.asked else {}
        return name_entry(self.path, self.attribute) | {"reason": self.reason} | asked

    def to_fact(self) -> Fact:
        """Return what the text forms say."""
        return make_fact(self.path, self.attribute, self.reason)

    def __str__(self) -> str:
        return str(self.to_fact())


@dataclass(frozen=True, slots=True)
class Link:
    """A link that the store holds as a link."""

    path: str
    kind: str
    """``hard``, ``soft`` or ``external``."""
    to: str
    """external: the path in the other file."""
    file: str | None = None
    """external: the file; None if what it leads to is in the store. In the JSON only if there is one."""
    target: str | None = None
    """Path in the source of what it leads to; None if it leads to nothing in the source. Not in the JSON."""
    note: str = ""
    """What is to say of it; empty for what holds for most links. Not in the JSON."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        entry: dict[str, object] = {"path": self.path, "kind": self.kind, "to": self.to}
        return entry if self.file is None else entry | {"file": self.file}

    def to_fact(self) -> Fact:
        """Return what the text forms say."""
        return Fact.of(f"{self.kind} link", f"{self.path}{ARROW}{self.to}", self.note or advise(KEPT, "link"))


@dataclass(frozen=True, slots=True)
class ReportNote:
    """A remark on something that looks different in the store, but is not lost."""

    path: str
    note: str
    kind: Kind | None = None
    """What has another form; None for what is as it was. In the JSON only if there is one."""
    attribute: str | None = None
    """Name of the attribute, if the note is on one. In the JSON only if there is one."""
    to: str | None = None
    """What became of the path, if that has another name. In the JSON only if there is one."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        optional = {"to": self.to, "kind": self.kind}
        entries = {name: value for name, value in optional.items() if value is not None}
        return name_entry(self.path, self.attribute) | {"note": self.note} | entries

    def to_fact(self) -> Fact:
        """Return what the text forms say."""
        if self.kind is None or self.kind == READER:
            return make_fact(self.path, self.attribute, self.note)
        name = self.path if self.to is None else f"{self.path}{ARROW}{self.to}"
        name = name if self.attribute is None else f"{self.attribute!r} of {name}"
        return Fact.of(FORMS[self.kind].noun, name, advise(self.note, self.kind))


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a store and its source."""

    path: str
    """Path of the object in the source."""
    what: str
    """The difference, as text."""
    attribute: str | None = None
    """Name of the attribute, if only an attribute differs."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return name_entry(self.path, self.attribute) | {"what": self.what}

    def to_fact(self) -> Fact:
        """Return what the text forms say."""
        return make_fact(self.path, self.attribute, self.what)

    def __str__(self) -> str:
        return str(self.to_fact())


def describe_foreign(keys: Sequence[str]) -> list[ReportNote]:
    """Return the note on files of other programs in a store; none if there are none.

    >>> describe_foreign([".DS_Store"])[0].note
    '1 file of another program, which no reader of Zarr reads: .DS_Store'
    """
    text = f"{plural(len(keys), 'file')} of another program, which no reader of Zarr reads: {name_first(keys)}"
    return [ReportNote("/", text)] if keys else []


def name_entry(path: str, attribute: str | None) -> dict[str, object]:
    """Return the keys of a JSON object that name an object or one of its attributes."""
    return {"path": path} if attribute is None else {"path": path, "attribute": attribute}


def make_fact(path: str, attribute: str | None, text: str) -> Fact:
    """Return what a report says of an object or of one of its attributes."""
    if attribute is None:
        return Fact.of("object", path, text)
    return Fact.of("attribute", f"{attribute!r} of {path}", text)


def count_skipped(skipped: Sequence[Skipped], by: str = "") -> list[str]:
    """Return phrases with the numbers of objects and attributes that are not in the store.

    >>> count_skipped([Skipped("/a", "odd"), Skipped("/b", "odd", attribute="units"), Skipped("/c", "", asked=True)])
    ['1 object left out by include or exclude', '1 object, 1 attribute skipped']
    """
    phrases = []
    for asked, verb in ((True, "left out by include or exclude"), (False, f"skipped{by}")):
        items = [item for item in skipped if item.asked is asked]
        attributes = sum(item.attribute is not None for item in items)
        counts = {"object": len(items) - attributes, "attribute": attributes}
        counted = ", ".join(plural(count, noun) for noun, count in counts.items() if count)
        phrases += [f"{counted} {verb}"] if items else []
    return phrases


def list_by_reason(skipped: Iterable[Skipped]) -> list[str]:
    """Return a line for each entry, those of one reason under one line that states it.

    >>> list_by_reason([Skipped("/a", "odd"), Skipped("/b", "gone"), Skipped("/c", "odd")])
    ['  odd:', '    /a', '    /c', '  /b: gone']
    """
    lines = []
    for remark in group_facts(Fact("object", item.to_fact().label, printable(item.reason)) for item in skipped):
        same = all(fact.reason == remark.reason for fact in remark.facts)
        members = [fact.label if same else str(fact) for fact in remark.facts]
        lines += (
            [f"  {remark.describe()}"]
            if len(members) == 1
            else [f"  {remark.reason}:", *(f"    {text}" for text in members)]
        )
    return lines
