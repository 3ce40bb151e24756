"""The report of a conversion of many sources into one folder."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from h5bound.reports.conversion import ALREADY_COMPLETE, REFUSED
from h5bound.reports.digest import Digest, Table
from h5bound.reports.entries import REPORT_VERSION, count_skipped
from h5bound.reports.forms import count_forms
from h5bound.reports.remarks import Fact, Section, group_facts, merge_sections
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.reports.conversion import ConversionReport


COLUMNS = ("datasets", "skipped", "stored", "written")
"""Columns of a table of files; the last one only if all stores are complete."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be converted."""

    source: str
    """Path or URL of the source."""
    target: str
    """Path or URL of its store, which is missing, unfinished, or as it was before."""
    error: str
    """The message, perhaps with a line for each thing that cannot be converted."""

    def describe_error(self) -> str:
        """Return the error without the names of source and store: of several lines the first one, and one example."""
        error = self.error.removeprefix(f"{self.source}: ").removeprefix(f"{self.target}: ")
        error = error.replace(self.target, "the store")
        error = re.sub(rf"(?:the source |the )?{re.escape(self.source)}(?![\w.-])", "the source", error)
        first, *details = map(str.strip, error.splitlines() or [""])
        if details and details[0].endswith(":"):  # a reason, with the objects in the lines below it
            details[:2] = [" ".join(details[:2])]
        return ": ".join([first, *details[:1]]) + ("; …" if len(details) > 1 else "")

    def __str__(self) -> str:
        return str(Fact.of("file", self.source, self.describe_error()))


@dataclass(frozen=True, slots=True, repr=False)
class BatchReport(Report):
    """The result of a conversion of many sources into one folder."""

    target: str
    """Path or URL of the folder."""
    seconds: float
    h5bound: str
    """Version of h5bound that wrote the stores."""
    conversions: tuple[ConversionReport, ...] = ()
    """The report of each source that was converted, in the order of the sources."""
    failed: tuple[Failure, ...] = ()
    """The sources that could not be converted, in order."""

    @property
    def complete(self) -> bool:
        """Whether the stores of all sources are complete; False for a dry run."""
        return not self.failed and all(report.complete for report in self.conversions)

    @property
    def exit_code(self) -> int:
        """1 if a source could not be converted or a comparison found a difference, 3 if something was skipped, else 0.

        This is the exit code of ``h5bound convert``.
        """
        codes = {report.exit_code for report in self.conversions}
        return 1 if self.failed or 1 in codes else max(codes, default=0)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes."""
        return {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "target": self.target,
            "conversions": [report.to_dict() for report in self.conversions],
            "failed": [asdict(failure) for failure in self.failed],
        }

    def summary(self) -> str:
        """Return one line: the numbers of files and arrays, the bytes and the seconds, and what is missing."""
        refused = [report for report in self.conversions if name_result(report) == "refused"]
        ready = [report for report in self.conversions if name_result(report) != "refused"]
        arrays = [entry for report in ready for entry in report.arrays]
        stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
        total = len(self.conversions) + len(self.failed)
        planned = any(not report.complete for report in self.conversions)
        different = sum(report.exit_code == 1 for report in self.conversions)
        already = sum(report.remark == ALREADY_COMPLETE for report in self.conversions)
        done = "in the stores" if already else f"written in {self.seconds:.2f} s"
        compared = any(report.verification is not None for report in self.conversions)
        converted = f"{len(ready) - already:,} of {plural(total, 'file')} {'can be ' if planned else ''}converted"
        counts = [f"{plural(total, 'file')} {ALREADY_COMPLETE}"] if 0 < already == total else [converted]
        counts += [f"{already:,} {ALREADY_COMPLETE}"] if 0 < already < total else []
        parts = [
            f"{', '.join(counts)}, {plural(len(arrays), 'dataset')}; {format_nbytes(stored)} stored"
            f"{'' if planned else f', {format_nbytes(written)} {done}'}"
        ]
        parts += ["nothing written"] if 0 < already == total and not planned else []
        parts += [f"{plural(len(refused), 'file')} would be refused"] if refused else []
        parts += [f"{plural(len(self.failed), 'file')} failed"] if self.failed else []
        parts += count_forms(sum((report.forms for report in self.conversions), Counter()))
        parts += count_skipped([item for report in self.conversions for item in report.skipped])
        if compared:
            differ = "1 store differs" if different == 1 else f"{different:,} stores differ"
            parts.append(differ if different else "all stores equal to their sources")
        return "; ".join([*parts, "dry run: nothing written"] if planned else parts)

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_batch(self)


def digest_batch(report: BatchReport) -> Digest:
    """Return the report in short."""
    one = report.conversions[0] if len(report.conversions) == 1 and not report.failed else None
    if one is not None:
        return one.digest()
    conversions = report.conversions
    results = {name_result(conversion): None for conversion in conversions}
    end = len(COLUMNS) if all(conversion.complete for conversion in conversions) else len(COLUMNS) - 1
    groups = [(result, [item for item in conversions if name_result(item) == result]) for result in results]
    return Digest(
        kind="BatchReport",
        subject=printable(report.target),
        summary=report.summary(),
        failed=report.exit_code == 1,
        table=Table(
            ("file", "result", *COLUMNS[:end]),
            tuple((printable(item.source.path), name_result(item), *count_all([item])[:end]) for item in conversions),
            texts=2,
        ),
        totals=Table(
            ("result", "files", *COLUMNS[:end]),
            tuple((result, f"{len(group):,}", *count_all(group)[:end]) for result, group in groups),
        ),
        figures=(
            ("files", f"{len(conversions) + len(report.failed):,}"),
            ("failed", f"{len(report.failed):,}"),
            *zip(COLUMNS[:end], count_all(conversions)[:end], strict=True),
            ("time", f"{report.seconds:.2f} s"),
            ("h5bound", report.h5bound),
        ),
        sections=list_batch_sections(report),
    )


def name_result(report: ConversionReport) -> str:
    """Return the word for what became of a source."""
    if report.verification is not None:
        return "equal" if report.verification.equal else "different"
    if report.remark:
        return ALREADY_COMPLETE if report.complete or report.remark == ALREADY_COMPLETE else "refused"
    return "converted" if report.complete else "planned"


def count_all(reports: Sequence[ConversionReport]) -> tuple[str, ...]:
    """Return the numbers of `COLUMNS` for all the reports."""
    arrays = [entry for report in reports for entry in report.arrays]
    skipped = sum(not item.asked for report in reports for item in report.skipped)
    return (
        f"{len(arrays):,}",
        f"{skipped:,}",
        format_nbytes(sum(entry.stored_nbytes for entry in arrays)),
        format_nbytes(sum(entry.written_nbytes for entry in arrays)),
    )


def list_batch_sections(report: BatchReport) -> tuple[Section, ...]:
    """Return the errors, and the sections of all files by their titles, with the file before each name."""
    refused = (
        Failure(item.source.path, item.target, item.remark.removeprefix(REFUSED))
        for item in report.conversions
        if name_result(item) == "refused"
    )
    named = ((printable(PurePath(item.source.path).name), item.digest().sections) for item in report.conversions)
    return (
        *(
            Section(title, group_facts(Fact.of("file", item.source, item.describe_error()) for item in items))
            for title, items in (("failed", report.failed), ("refused", refused))
        ),
        *merge_sections(named),
    )
