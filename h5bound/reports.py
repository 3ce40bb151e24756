"""What a conversion and a verification say about themselves: frozen records, JSON, and text to read.

`ConversionReport` is what `h5bound convert --report FILE.json` writes: every object of the source stands in
one of its lists, so that what is not in the store is known, with the reason, down to a single attribute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


REPORT_VERSION = 1
"""The version of the JSON form; it changes when a field changes its meaning."""

MAX_LISTED = 20
"""Strategy many entries of one list the text forms show before they say how many more there are."""

Strategy = Literal["copied", "decoded", "mixed", "metadata"]
"""copied: stored chunks kept; mixed: some of them re-encoded; metadata: nothing was stored."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The file that was read, as it was then."""

    path: str
    size: int
    """bytes"""
    mtime_ns: int
    """nanoseconds since 1970"""
    hdf5: str
    """version of the HDF5 library that read it"""

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        return {"path": self.path, "size": self.size, "mtime_ns": self.mtime_ns, "hdf5": self.hdf5}


@dataclass(frozen=True, slots=True)
class Converted:
    """A group (`how` is None) or dataset that has a node in the store."""

    path: str
    """in the source, from /"""
    target: str
    """in the store, without a leading slash"""
    how: Strategy | None = None
    chunks: int = 0
    """chunks (HDF5's where copied, the store's where decoded) that were stored"""
    stored_nbytes: int = 0
    """bytes in the source"""
    written_nbytes: int = 0
    """bytes in the store"""
    reasons: tuple[str, ...] = ()
    """why stored chunks could not be kept"""

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        entry: dict[str, object] = {"path": self.path, "target": self.target}
        if self.how is None:
            return entry
        return entry | {
            "how": self.how,
            "chunks": self.chunks,
            "stored_bytes": self.stored_nbytes,
            "written_bytes": self.written_nbytes,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object, a link or one attribute that the source has and the store has not."""

    path: str
    reason: str
    attribute: str | None = None
    """the attribute's name where only that is left out"""
    unsafe: bool = False
    """it lies outside the file; not written to JSON"""
    asked: bool = False
    """it was left out by include or exclude; not written to JSON"""

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        entry: dict[str, object] = {"path": self.path}
        if self.attribute is not None:
            entry["attribute"] = self.attribute
        return entry | {"reason": self.reason}

    def __str__(self) -> str:
        where = self.path if self.attribute is None else f"{self.path} attribute {self.attribute!r}"
        return f"{printable(where)}: {printable(self.reason)}"


@dataclass(frozen=True, slots=True)
class Link:
    """A link that the store holds as an entry of `_LINKS`."""

    path: str
    kind: str
    """hard or soft"""
    to: str

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        return {"path": self.path, "kind": self.kind, "to": self.to}


@dataclass(frozen=True, slots=True)
class ReportNote:
    """Something that is not lost, but looks different in the store."""

    path: str
    note: str

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        return {"path": self.path, "note": self.note}


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What became of every object of one HDF5 file."""

    source: SourceInfo
    target: str
    """path or URL of the store"""
    complete: bool
    """the store is whole and marked so; False for a dry run"""
    seconds: float
    h5bound: str
    """version of h5bound that wrote the store"""
    converted: tuple[Converted, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[ReportNote, ...] = ()
    verification: VerificationReport | None = field(default=None)
    """of `verify=True`; None where the store was not compared"""

    @property
    def exit_code(self) -> int:
        """0 when everything was converted, 3 when something was skipped, 1 when the comparison failed."""
        if self.verification is not None and not self.verification.equal:
            return 1
        return 3 if self.skipped else 0

    @property
    def arrays(self) -> tuple[Converted, ...]:
        """The converted datasets, without the groups."""
        return tuple(entry for entry in self.converted if entry.how is not None)

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object that `--report` writes."""
        entry: dict[str, object] = {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "source": self.source.to_dict(),
            "target": self.target,
            "converted": [item.to_dict() for item in self.converted],
            "skipped": [item.to_dict() for item in self.skipped],
            "links": [item.to_dict() for item in self.links],
            "notes": [item.to_dict() for item in self.notes],
        }
        if self.verification is not None:
            entry["verification"] = self.verification.to_dict()
        return entry

    def to_json(self) -> str:
        """Give the JSON text; bytes that are not UTF-8 are spelled as lone surrogates."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Give one line: how many arrays and groups, which way, how many bytes, how long."""
        arrays = self.arrays
        ways = [f"{count} {how}" for how, count in count_strategies(arrays).items()]
        stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
        counted = f"{plural(len(arrays), 'array')} ({', '.join(ways)})" if arrays else "no array"
        groups = plural(len(self.converted) - len(arrays), "group")
        state = "complete" if self.complete else "not written"
        return (
            f"{counted}, {groups}; {format_nbytes(stored)} stored, {format_nbytes(written)} written "
            f"in {self.seconds:.2f} s; {plural(len(self.skipped), 'thing')} skipped; {state}"
        )

    def __repr__(self) -> str:
        lines = [
            f"<ConversionReport {printable(self.source.path)} -> {printable(self.target)}",
            f"  {self.summary()}",
        ]
        lines += listed("skipped", [str(item) for item in self.skipped])
        decoded = [a for a in self.arrays if a.how in ("decoded", "mixed")]
        lines += listed("not kept", [f"{printable(a.path)}: {', '.join(a.reasons)}" for a in decoded])
        if self.verification is not None:
            lines.append(f"  verified: {self.verification.summary()}")
        return "\n".join(lines) + ">"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in which the store is not the source."""

    path: str
    """of the object in the source"""
    what: str
    attribute: str | None = None
    """the attribute's name where only that differs"""

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        entry: dict[str, object] = {"path": self.path}
        if self.attribute is not None:
            entry["attribute"] = self.attribute
        return entry | {"what": self.what}

    def __str__(self) -> str:
        where = self.path if self.attribute is None else f"{self.path} attribute {self.attribute!r}"
        return f"{printable(where)}: {printable(self.what)}"


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What a comparison of a store with its source found."""

    source: str
    target: str
    arrays: int
    """datasets compared"""
    attributes: int
    """attributes compared"""
    nbytes: int
    """bytes of values compared"""
    seconds: float
    differences: tuple[Difference, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    """what the conversion left out and said so; not compared"""

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return not self.differences

    @property
    def exit_code(self) -> int:
        """0 when the store is equal to the source, else 1."""
        return 0 if self.equal else 1

    def to_dict(self) -> dict[str, object]:
        """Give the JSON object."""
        return {
            "version": REPORT_VERSION,
            "equal": self.equal,
            "source": self.source,
            "target": self.target,
            "arrays": self.arrays,
            "attributes": self.attributes,
            "bytes": self.nbytes,
            "seconds": round(self.seconds, 3),
            "differences": [item.to_dict() for item in self.differences],
            "skipped": [item.to_dict() for item in self.skipped],
        }

    def to_json(self) -> str:
        """Give the JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Give one line: equal or not, and what was compared."""
        compared = (
            f"{plural(self.arrays, 'array')}, {plural(self.attributes, 'attribute')}, "
            f"{format_nbytes(self.nbytes)} compared in {self.seconds:.2f} s"
        )
        left_out = f"; {plural(len(self.skipped), 'thing')} left out by the conversion" if self.skipped else ""
        verdict = "equal" if self.equal else plural(len(self.differences), "difference")
        return f"{verdict}; {compared}{left_out}"

    def __repr__(self) -> str:
        lines = [
            f"<VerificationReport {printable(self.source)} = {printable(self.target)}",
            f"  {self.summary()}",
        ]
        lines += listed("differs", [str(item) for item in self.differences])
        return "\n".join(lines) + ">"


def count_strategies(arrays: Iterable[Converted]) -> dict[str, int]:
    """Count the arrays by the way they went, the commonest kinds first in the order of `Strategy`."""
    counts: dict[str, int] = dict.fromkeys(("copied", "mixed", "decoded", "metadata"), 0)
    for entry in arrays:
        if entry.how is not None:
            counts[entry.how] += 1
    return {how: count for how, count in counts.items() if count}


def listed(title: str, lines: list[str]) -> list[str]:
    """Give the indented lines of one list of a text form, cut off after `MAX_LISTED`."""
    shown = [f"  {title} {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"  {title} … and {len(lines) - MAX_LISTED} more")
    return shown


def plural(count: int, noun: str) -> str:
    """Give the count with its noun.

    >>> plural(1, "array"), plural(2_000, "array")
    ('1 array', '2,000 arrays')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_nbytes(nbytes: int) -> str:
    """Give the size as people read it, in powers of 1024.

    >>> format_nbytes(0), format_nbytes(1536), format_nbytes(3 * 2**30)
    ('0 B', '1.5 KiB', '3.0 GiB')
    """
    if nbytes < 1024:
        return f"{nbytes} B"
    size = float(nbytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} PiB"


def printable(text: str) -> str:
    r"""Give the text with what a terminal would act on, or could not encode, spelled as an escape.

    >>> printable("a\nb\udcff")
    'a\\nb\\udcff'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
