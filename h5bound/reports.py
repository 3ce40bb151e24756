"""Reports of conversions and verifications: frozen records, JSON, and text for people.

`h5bound convert --report FILE.json` writes a `ConversionReport`. Every object of the source is in one of its lists, so
it also shows each object and attribute that is not in the store, with the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Literal

REPORT_VERSION = 1
"""Version of the JSON form. It changes when the meaning of a field changes."""

MAX_LISTED = 20
"""Most entries of one list in the text forms, which show only the number of the others."""

Strategy = Literal["copied", "decoded", "mixed", "metadata"]
"""copied: as stored. mixed: some of them re-encoded. metadata: no chunks were stored."""


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

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
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
    """An object, a link or one attribute that is in the source but not in the store."""

    path: str
    reason: str
    attribute: str | None = None
    """Name of the attribute, if only an attribute is skipped."""
    unsafe: bool = False
    """Whether it lies outside the file. Not in the JSON."""
    asked: bool = False
    """Whether include or exclude skipped it. Not in the JSON."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return _entry_for(self.path, self.attribute) | {"reason": self.reason}

    def __str__(self) -> str:
        return _describe_entry(self.path, self.attribute, self.reason)


@dataclass(frozen=True, slots=True)
class Link:
    """A link that the store holds as an entry of `_LINKS`."""

    path: str
    kind: str
    """``hard`` or ``soft``."""
    to: str


@dataclass(frozen=True, slots=True)
class ReportNote:
    """A remark on something that looks different in the store, but is not lost."""

    path: str
    note: str


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """The result of a conversion, for every object of one HDF5 file."""

    source: SourceInfo
    target: str
    """Path or URL of the store."""
    complete: bool
    """Whether the store is complete; False for a dry run."""
    seconds: float
    h5bound: str
    """Version of h5bound that wrote the store."""
    converted: tuple[Converted, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[ReportNote, ...] = ()
    verification: VerificationReport | None = None
    """Report of `verify=True`; None if the store was not compared."""

    @property
    def exit_code(self) -> int:
        """0 if everything was converted, 3 if something was skipped, 1 if the comparison found a difference."""
        if self.verification is not None and not self.verification.equal:
            return 1
        return 3 if self.skipped else 0

    @property
    def arrays(self) -> tuple[Converted, ...]:
        """The converted datasets, without the groups."""
        return tuple(entry for entry in self.converted if entry.how is not None)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes."""
        entry: dict[str, object] = {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "source": asdict(self.source),
            "target": self.target,
            "converted": [item.to_dict() for item in self.converted],
            "skipped": [item.to_dict() for item in self.skipped],
            "links": [asdict(item) for item in self.links],
            "notes": [asdict(item) for item in self.notes],
        }
        if self.verification is not None:
            entry["verification"] = self.verification.to_dict()
        return entry

    def to_json(self) -> str:
        """Return the JSON text. Bytes that are not UTF-8 are lone surrogates."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Return one line: the numbers of arrays by strategy and of groups, the bytes and the seconds."""
        arrays = self.arrays
        counts = Counter(entry.how for entry in arrays)
        strategies = [f"{counts[how]} {how}" for how in ("copied", "mixed", "decoded", "metadata") if counts[how]]
        stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
        counted = f"{plural(len(arrays), 'array')} ({', '.join(strategies)})" if arrays else "no arrays"
        groups = plural(len(self.converted) - len(arrays), "group")
        skipped = f"{plural(len(self.skipped), 'thing')} skipped; " if self.skipped else ""
        state = "complete" if self.complete else "dry run: nothing written"
        return (
            f"{counted}, {groups}; {format_nbytes(stored)} stored, {format_nbytes(written)} written "
            f"in {self.seconds:.2f} s; {skipped}{state}"
        )

    def __repr__(self) -> str:
        lines = [f"<ConversionReport {printable(self.source.path)} -> {printable(self.target)}", f"  {self.summary()}"]
        lines += _format_list("skipped", [str(item) for item in self.skipped])
        decoded = [a for a in self.arrays if a.how in ("decoded", "mixed")]
        lines += _format_list("not copied", [f"{printable(a.path)}: {', '.join(a.reasons)}" for a in decoded])
        if self.verification is not None:
            lines.append(f"  verified: {self.verification.summary()}")
        return "\n".join(lines) + ">"


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
        return _entry_for(self.path, self.attribute) | {"what": self.what}

    def __str__(self) -> str:
        return _describe_entry(self.path, self.attribute, self.what)


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The result of comparing a store with its source."""

    source: str
    target: str
    arrays: int
    """Number of datasets compared."""
    attributes: int
    """Number of attributes compared."""
    nbytes: int
    """Bytes of values compared."""
    seconds: float
    differences: tuple[Difference, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    """Objects and attributes that the conversion skipped; they were not compared."""

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return not self.differences

    @property
    def exit_code(self) -> int:
        """0 if the store is equal to the source, else 1."""
        return 0 if self.equal else 1

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
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
        """Return the JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Return one line: equal or not, and what was compared."""
        compared = (
            f"{plural(self.arrays, 'array')}, {plural(self.attributes, 'attribute')}, "
            f"{format_nbytes(self.nbytes)} compared in {self.seconds:.2f} s"
        )
        skipped = f"; {plural(len(self.skipped), 'thing')} skipped by the conversion" if self.skipped else ""
        verdict = "equal" if self.equal else plural(len(self.differences), "difference")
        return f"{verdict}; {compared}{skipped}"

    def __repr__(self) -> str:
        lines = [f"<VerificationReport {printable(self.source)} vs {printable(self.target)}", f"  {self.summary()}"]
        lines += _format_list("differs", [str(item) for item in self.differences])
        return "\n".join(lines) + ">"


def _entry_for(path: str, attribute: str | None) -> dict[str, object]:
    return {"path": path} if attribute is None else {"path": path, "attribute": attribute}


def _describe_entry(path: str, attribute: str | None, text: str) -> str:
    subject = path if attribute is None else f"attribute {attribute!r} of {path}"
    return f"{printable(subject)}: {printable(text)}"


def _format_list(title: str, lines: list[str]) -> list[str]:
    """Return indented lines for one list of a text form, cut off after `MAX_LISTED`."""
    shown = [f"  {title} {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"  {title} … and {len(lines) - MAX_LISTED} more")
    return shown


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "array"), plural(2_000, "array")
    ('1 array', '2,000 arrays')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_nbytes(nbytes: int) -> str:
    """Return a size in units of 1024 bytes.

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
    r"""Return text with escapes for control characters and for characters that a terminal cannot encode.

    >>> printable("a\nb\udcff")
    'a\\nb\\udcff'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
