"""The report of a check: what of a file is damaged, and what can be said of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.reports.digest import Digest, Table
from h5bound.reports.entries import REPORT_VERSION, ReportNote, Skipped, count_skipped, make_fact
from h5bound.reports.remarks import Fact, Section, group_facts, merge_sections
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, name_some, plural, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of a file that cannot be read, or does not match its checksum."""

    path: str
    """Path of the object, from /."""
    reason: str
    region: str = ""
    """Elements of a dataset that are lost, as a slice of Python; empty for all of an object."""
    offset: int | None = None
    """Where the stored bytes begin in the file; None if they are in no single place."""
    nbytes: int = 0
    """Stored bytes from there on."""
    attribute: str | None = None
    """Name of the attribute, if only an attribute is damaged; "*" if the attributes cannot be listed."""
    file: str = ""
    """The other file that has the object, where an external link leads to it; empty if it is the file itself."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        named: dict[str, object] = {"path": self.path}
        named |= {} if self.attribute is None else {"attribute": self.attribute}
        named |= {"slice": self.region} if self.region else {}
        named |= {} if self.offset is None else {"offset": self.offset, "bytes": self.nbytes}
        named |= {"file": self.file} if self.file else {}
        return named | {"reason": self.reason}

    def to_fact(self) -> Fact:
        """Return what the text forms say."""
        reason = f"{self.reason}; in {self.file}" if self.file else self.reason
        if self.region:
            return Fact.of("object", f"{self.path}{self.region}", reason)
        return make_fact(self.path, self.attribute, reason)

    def __str__(self) -> str:
        return str(self.to_fact())


@dataclass(frozen=True, slots=True)
class ChunkCount:
    """A number of chunks, or of pieces of data without chunks."""

    chunks: int = 0
    nbytes: int = 0
    """Bytes of their values."""

    def __add__(self, other: ChunkCount) -> ChunkCount:
        return ChunkCount(self.chunks + other.chunks, self.nbytes + other.nbytes)

    def to_dict(self) -> dict[str, int]:
        """Return the JSON object."""
        return {"chunks": self.chunks, "bytes": self.nbytes}


@dataclass(frozen=True, slots=True, repr=False)
class CheckReport(Report):
    """The result of checking an HDF5 file."""

    source: str
    """Path or URL of the file."""
    seconds: float
    h5bound: str
    """Version of h5bound that checked it."""
    groups: int
    """Groups that were opened."""
    datasets: int
    """Datasets that were found."""
    attributes: int
    """Attributes that were read."""
    summed: ChunkCount
    """Chunks with a checksum: any change of their bytes is found."""
    decoded: ChunkCount
    """Chunks that are compressed without a checksum: most changes are found when they are decoded, not all."""
    plain: ChunkCount
    """Chunks, and data without chunks, that are stored as they are: they can be read, and nothing tells if they are
    right."""
    damages: tuple[Damage, ...] = ()
    """What is damaged: metadata, then the chunks of each dataset in C order."""
    unnamed: int = 0
    """Further damaged chunks of datasets that have very many of them, which `damages` does not list."""
    unchecked: tuple[Skipped, ...] = ()
    """What was not checked, or not to its end, and why; also what include or exclude left out."""
    notes: tuple[ReportNote, ...] = ()
    """External links that were not followed, or were."""

    @property
    def whole(self) -> bool:
        """Whether nothing that was checked is damaged."""
        return not self.damages

    @property
    def exit_code(self) -> int:
        """0 if all is whole, 1 if something is damaged, 3 if something was not checked that was not left out."""
        if self.damages:
            return 1
        return 0 if all(item.asked for item in self.unchecked) else 3

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes."""
        return {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "seconds": round(self.seconds, 3),
            "source": self.source,
            "whole": self.whole,
            "groups": self.groups,
            "datasets": self.datasets,
            "attributes": self.attributes,
            "checksum": self.summed.to_dict(),
            "decoded": self.decoded.to_dict(),
            "plain": self.plain.to_dict(),
            "damages": [item.to_dict() for item in self.damages],
            "unnamed": self.unnamed,
            "unchecked": [item.to_dict() for item in self.unchecked],
            "notes": [item.to_dict() for item in self.notes],
        }

    def summary(self) -> str:
        """Return one line: whole or not, and what was read."""
        count = len(self.damages) + self.unnamed
        verdict = f"damaged in {plural(count, 'place')}" if count else "no damage found" if self.exit_code else "whole"
        read = [
            plural(self.datasets, "dataset"), plural(self.groups, "group"), plural(self.attributes, "attribute"),
        ]  # fmt: skip
        left = [text.replace("skipped", "not checked") for text in count_skipped(self.unchecked)]
        return "; ".join([verdict, f"{', '.join(read)} read in {self.seconds:.2f} s", *left])

    def describe_values(self) -> str:
        """Return how much data has checksums, is only decoded, or is only read; "" if there is none."""
        kinds = (
            (self.summed, "match their checksums" if self.whole else "have checksums"),
            (self.decoded, "can be decoded, and have no checksum" if self.whole else "are compressed without checksum"),
            (self.plain, "can only be read: nothing tells whether they are right"),
        )
        shown = [
            f"{plural(counted.chunks, 'chunk')} ({format_nbytes(counted.nbytes)}) {words}"
            for counted, words in kinds
            if counted.chunks
        ]
        return "; ".join(shown)

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_check(self)


def digest_check(report: CheckReport) -> Digest:
    """Return the report in short."""
    chunks = [item for item in report.damages if item.region]
    rows = (
        (
            printable(item.path),
            item.region,
            "-" if item.offset is None else f"{item.offset:,}",
            format_nbytes(item.nbytes),
        )
        for item in chunks
    )
    counts: dict[str, int] = {}
    for item in chunks:
        counts[item.path] = counts.get(item.path, 0) + 1
    first = group_facts(item.to_fact() for item in report.damages if item.path == "/" and item.attribute is None)
    facts = [item.to_fact() for item in report.damages if item.path != "/" or item.attribute is not None]
    more = [Fact.of("object", "more", f"{report.unnamed:,} chunks that are not listed")] if report.unnamed else []
    return Digest(
        kind="CheckReport",
        subject=printable(report.source),
        summary=report.summary(),
        verdict=report.describe_values(),
        failed=not report.whole,
        figures=(
            ("result", name_result(report)),
            ("datasets", f"{report.datasets:,}"),
            ("attributes", f"{report.attributes:,}"),
            ("with checksums", format_nbytes(report.summed.nbytes)),
            ("without checksum", format_nbytes(report.decoded.nbytes)),
            ("only read", format_nbytes(report.plain.nbytes)),
            ("time", f"{report.seconds:.2f} s"),
        ),
        table=Table(("dataset", "slice", "offset", "stored"), tuple(rows), texts=2) if chunks else Table(()),
        totals=Table(("dataset", "damaged chunks"), tuple((printable(p), f"{n:,}") for p, n in counts.items())),
        sections=(
            Section("damaged", (*first, *group_facts([*facts, *more]))),
            Section("not checked", group_facts(item.to_fact() for item in report.unchecked if not item.asked)),
            Section("note", group_facts(item.to_fact() for item in report.notes)),
        ),
    )


def name_result(report: CheckReport) -> str:
    """Return the word for what was found."""
    return "damaged" if report.damages else "no damage found" if report.exit_code else "whole"


def digest_checks(reports: Sequence[CheckReport], failed: Mapping[str, str]) -> Digest:
    """Return the reports of several files in one. `failed` are the errors of those that cannot be opened."""
    if len(reports) == 1 and not failed:
        return reports[0].digest()
    unopened = group_facts(Fact.of("file", file, error) for file, error in failed.items())
    named = ((printable(report.source), report.digest().sections) for report in reports)
    rows = [(printable(report.source), name_result(report), f"{report.datasets:,}") for report in reports]
    damaged = sum(not report.whole for report in reports)
    total = len(reports) + len(failed)
    return Digest(
        kind="CheckReport",
        subject=plural(total, "file"),
        summary=summarize_checks(reports, list(failed)),
        failed=bool(damaged or failed),
        table=Table(("file", "result", "datasets"), tuple(rows), texts=2),
        figures=(("files", f"{total:,}"), ("damaged", f"{damaged:,}"), ("cannot be opened", f"{len(failed):,}")),
        sections=(Section("failed", unopened), *merge_sections(named)),
    )


def summarize_checks(reports: Sequence[CheckReport], unopened: Sequence[str]) -> str:
    """Return one line on several files: how many are whole, and which are not."""
    total = len(reports) + len(unopened)
    kinds = {
        "damaged": [report.source for report in reports if report.damages],
        "not checked to the end": [report.source for report in reports if report.exit_code == 3],
        "cannot be opened": unopened,
    }
    whole = f"{total - sum(map(len, kinds.values())):,} of {plural(total, 'file')} whole"
    others = [(what, [path.rstrip("/").rpartition("/")[2] for path in paths]) for what, paths in kinds.items() if paths]
    return "; ".join([whole, *(f"{len(names):,} {what} ({printable(name_some(names))})" for what, names in others)])
