"""The report of many files that were combined into one store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from h5bound.reports.digest import Table
from h5bound.reports.many_files import list_differences, name_source
from h5bound.reports.remarks import Section, group_facts
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from h5bound.reports.conversion import ConversionReport
    from h5bound.reports.digest import Digest
    from h5bound.reports.entries import Converted, Skipped
    from h5bound.reports.forms import Kind
    from h5bound.reports.many_files import BadFile, Difference
    from h5bound.reports.verification import VerificationReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCounts:
    """What became of the chunks of a store, or its shards, when files were added to it."""

    added: int = 0
    """Those that it did not have."""
    changed: int = 0
    """Those that were written again, with other bytes."""
    same: int = 0
    """Those that were made again, and stay since their bytes are the same."""
    untouched: int = 0
    """All others."""

    @classmethod
    def total(cls, counts: Iterable[ChunkCounts]) -> ChunkCounts:
        """Return the sums."""
        given = list(counts)
        return cls(**{name: sum(getattr(item, name) for item in given) for name in cls.__slots__})

    @property
    def kept(self) -> int:
        """Those that stay as they were."""
        return self.same + self.untouched

    def to_dict(self) -> dict[str, object]:
        """Return the fields of the JSON object."""
        return {"added_chunks": self.added, "changed_chunks": self.changed, "unchanged_chunks": self.kept}

    def __str__(self) -> str:
        return f"{plural(self.added, 'chunk')} added, {self.changed:,} changed, {self.kept:,} kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayWork:
    """What a run writes of one array, or would without `dry_run`."""

    path: str
    copied: int
    """Chunks that are copied as they are stored."""
    copied_nbytes: int
    """Their encoded bytes."""
    decoded: int
    """Chunks of the store, or shards, that are decoded and encoded again."""
    decoded_nbytes: int
    """Bytes of their values."""
    seams: int
    """Those of them that have elements of several files."""
    kept: int
    """Chunks, or shards, of these files that stay in the store as they are."""
    chunks: ChunkCounts | None = None
    """What became of the chunks of the array; None unless files were added to a store."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return {
            "path": self.path,
            "copied_chunks": self.copied,
            "copied_bytes": self.copied_nbytes,
            "decoded_chunks": self.decoded,
            "decoded_bytes": self.decoded_nbytes,
            "seams": self.seams,
            "kept_chunks": self.kept,
            **({} if self.chunks is None else self.chunks.to_dict()),
        }

    def list_cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        copied, decoded = format_nbytes(self.copied_nbytes), format_nbytes(self.decoded_nbytes)
        return printable(self.path), copied, decoded, f"{self.seams:,}", f"{self.kept:,}"

    def list_chunk_cells(self) -> tuple[str, ...]:
        """Return the row of a table of what became of its chunks."""
        chunks = self.chunks or ChunkCounts()
        return printable(self.path), f"{chunks.added:,}", f"{chunks.changed:,}", f"{chunks.kept:,}"


REDONE = ("dataset", "chunks added", "changed", "kept")
"""Titles of the columns of `ArrayWork.list_chunk_cells`, where elements that the store had were made again."""

WORK, DONE = (("dataset", *titles, "seams", "kept") for titles in (("to copy", "to decode"), ("copied", "decoded")))
"""Titles of the columns of `ArrayWork.list_cells`: of what a run would write, and of what it wrote."""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CombinationReport(Report):
    """The result of combining many files into one store."""

    files: tuple[str, ...]
    """Paths of the files, in the order in which they are joined."""
    dim: str
    """The dimension along which they are joined."""
    conversion: ConversionReport
    """The report of the store; its source is the first file."""
    differences: tuple[Difference, ...] = ()
    """What differs between the files, and was decided by an option."""
    bad: tuple[BadFile, ...] = ()
    """Files that were left out."""
    copied: int = 0
    """Chunks that are copied as they are stored."""
    decoded: int = 0
    """Chunks of the store that are decoded and encoded again."""
    kept: int = 0
    """Files that were in the store before."""
    added: int | None = None
    """Files that were not in the store before; None unless files are added to a store."""
    chunks: ChunkCounts | None = None
    """What became of the chunks of the store; None unless files were added to one."""
    added_nbytes: int | None = None
    """Encoded bytes of the chunks that were added or have changed; None if no files were added to a store."""
    copied_nbytes: int = 0
    """Encoded bytes that are copied; with `append`, those for files that are new or changed."""
    decoded_nbytes: int = 0
    """Bytes of the values of chunks that are decoded, and encoded for the store; likewise."""
    work: tuple[ArrayWork, ...] = ()
    """The same for each array."""

    def complete_with(self, **fields: object) -> CombinationReport:
        """Return the report with other fields of that of the store."""
        changes: dict[str, Any] = fields
        return replace(self, conversion=replace(self.conversion, **changes))

    @property
    def redone(self) -> int:
        """Files that were in the store before, and are written again: they changed, or come to another place."""
        return 0 if self.added is None else len(self.files) - self.kept - self.added

    @property
    def complete(self) -> bool:
        """Whether the store is complete; False for a dry run."""
        return self.conversion.complete

    @property
    def arrays(self) -> tuple[Converted, ...]:
        """The arrays of the store."""
        return self.conversion.arrays

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What is not in the store."""
        return self.conversion.skipped

    @property
    def forms(self) -> Counter[Kind]:
        """The number of things that have another form in the store, by kind."""
        return self.conversion.forms

    @property
    def verification(self) -> VerificationReport | None:
        """Report of `verify=True`; None if the store was not compared."""
        return self.conversion.verification

    @property
    def exit_code(self) -> int:
        """0 if everything was combined, 3 if files or objects were left out, 1 if the comparison found a difference."""
        return self.conversion.exit_code or (3 if self.bad else 0)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes: that of a conversion, and what concerns the files."""
        return {
            **self.conversion.to_dict(),
            "files": list(self.files),
            "dim": self.dim,
            "copied_chunks": self.copied,
            "decoded_chunks": self.decoded,
            "kept_files": self.kept,
            **({} if self.added is None else {"added_files": self.added, "redone_files": self.redone}),
            **({} if self.chunks is None else self.chunks.to_dict()),
            **({} if self.added_nbytes is None else {"added_bytes": self.added_nbytes}),
            "copied_bytes": self.copied_nbytes,
            "decoded_bytes": self.decoded_nbytes,
            "work": [item.to_dict() for item in self.work],
            "differences": [item.to_dict() for item in self.differences],
            "bad_files": [item.to_dict() for item in self.bad],
        }

    def summary(self) -> str:
        """Return one line: the files, the chunks that were copied and decoded, and that of the conversion.

        Where files are added to a store, what comes to it, then what it has.
        """
        parts = [f"{plural(len(self.bad), 'file')} left out"] if self.bad else []
        if self.added is not None:
            return "; ".join([self._describe_added(self.added), *parts, *self.conversion.describe_end()])
        share = describe_chunks(self.copied, self.decoded)
        if not self.complete and self.copied_nbytes + self.decoded_nbytes:
            share += f"; {self._describe_plan()}"
        files = f"{plural(len(self.files), 'file')} along {self.dim}"
        return "; ".join([files, share, self.conversion.summary(), *parts])

    def _describe_plan(self) -> str:
        """Return how many bytes a dry run would copy and decode."""
        copy, decode = (format_nbytes(nbytes) for nbytes in (self.copied_nbytes, self.decoded_nbytes))
        return f"{copy} to copy, {decode} of values to decode"

    def _describe_added(self, added: int) -> str:
        """Return what comes to a store, and what it has then."""
        arrays, work, chunks = self.arrays, self.work, self.chunks or ChunkCounts()
        files = plural(added, "file")
        has = f"{plural(len(self.files), 'file')} along {self.dim}, {plural(len(arrays), 'dataset')}"
        if not self.complete:
            more = f", and {self.redone:,} again" if self.redone else ""
            return f"to add: {files}{more}: {self._describe_plan()}; the store would have {has}"
        nbytes = format_nbytes(sum(item.written_nbytes for item in arrays))
        if not self.added_nbytes and not self.redone:
            return f"added {files}; the store has {has}, {nbytes}"
        done = describe_chunks(sum(item.copied for item in work), sum(item.decoded for item in work))
        if self.redone or chunks.same:
            files, done = f"{files}, redid {self.redone:,}, kept {self.kept:,}", str(chunks)
        written = f"{format_nbytes(self.added_nbytes or 0)} written in {self.conversion.seconds:.2f} s"
        has += f", {plural(sum(item.chunks for item in arrays), 'chunk')}, {nbytes}"
        return f"added {files}: {done}, {written}; the store now has {has}"

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_combination(self)


def sum_work(work: Sequence[ArrayWork]) -> ArrayWork:
    """Return what a run writes of all arrays, with their number in place of a path."""
    names = ("copied", "copied_nbytes", "decoded", "decoded_nbytes", "seams", "kept")
    chunks = ChunkCounts.total(item.chunks for item in work if item.chunks is not None)
    sums = {name: sum(getattr(item, name) for item in work) for name in names}
    return ArrayWork(path=f"{len(work):,}", chunks=chunks, **sums)


def describe_chunks(copied: int, decoded: int) -> str:
    """Return how many chunks are written, and how many of them are decoded before."""
    return f"{plural(copied + decoded, 'chunk')}{f', {decoded:,} of them decoded' if decoded else ''}"


def digest_combination(report: CombinationReport) -> Digest:
    """Return the report in short."""
    digest = report.conversion.digest()
    sections = (
        Section("left out", group_facts(item.to_fact() for item in report.bad)),
        *list_differences(report.differences),
        *digest.sections,
    )
    source = name_source(report.conversion.source.path, len(report.files))
    subject = f"{source} -> {printable(report.conversion.target)}"
    figures = {
        "files": f"{len(report.files):,}",
        "dimension": report.dim,
        "chunks copied": f"{report.copied:,}",
        "chunks decoded": f"{report.decoded:,}",
    }
    if report.work and (report.added is not None or not report.complete):
        counts = report.complete and report.chunks is not None and (report.redone or report.chunks.same)
        titles = REDONE if counts else DONE if report.complete else WORK
        list_cells = ArrayWork.list_chunk_cells if counts else ArrayWork.list_cells
        digest = replace(
            digest,
            table=Table(titles, tuple(map(list_cells, report.work))),
            totals=Table((f"{titles[0]}s", *titles[1:]), (list_cells(sum_work(report.work)),)),
        )
    return replace(
        digest, kind="CombinationReport", subject=subject, summary=report.summary(), sections=sections,
        figures=(*figures.items(), *((name, text) for name, text in digest.figures if name not in ("chunks", "file"))),
    )  # fmt: skip
