"""The report of a conversion of many sources into one folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from h5bound.reports.entries import REPORT_VERSION
from h5bound.reports.text import format_list, format_nbytes, plural, printable

if TYPE_CHECKING:
    from h5bound.reports.conversion import ConversionReport


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be converted."""

    source: str
    """Path or URL of the source."""
    target: str
    """Path or URL of its store, which is missing, unfinished, or as it was before."""
    error: str
    """The message, perhaps with a line for each thing that cannot be converted."""

    def __str__(self) -> str:
        prefix = "" if self.error.startswith(self.source) else f"{self.source}: "
        return printable(f"{prefix}{self.error.partition(chr(10))[0]}")


@dataclass(frozen=True, slots=True)
class BatchReport:
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

    def to_json(self) -> str:
        """Return the JSON text. Bytes that are not UTF-8 are lone surrogates."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Return one line: the numbers of files and arrays, the bytes and the seconds, and what is missing."""
        arrays = [entry for report in self.conversions for entry in report.arrays]
        stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
        total = len(self.conversions) + len(self.failed)
        planned = any(not report.complete for report in self.conversions)
        skipped = sum(len(report.skipped) for report in self.conversions)
        different = sum(report.exit_code == 1 for report in self.conversions)
        compared = any(report.verification is not None for report in self.conversions)
        parts = [
            f"{len(self.conversions):,} of {plural(total, 'file')} {'can be ' if planned else ''}converted, "
            f"{plural(len(arrays), 'array')}; {format_nbytes(stored)} stored, {format_nbytes(written)} written "
            f"in {self.seconds:.2f} s"
        ]
        parts += [f"{plural(len(self.failed), 'file')} failed"] if self.failed else []
        parts += [f"{plural(skipped, 'thing')} skipped"] if skipped else []
        if compared:
            parts.append(f"{plural(different, 'store')} differ" if different else "all equal to their sources")
        return "; ".join([*parts, "dry run: nothing written"] if planned else parts)

    def __repr__(self) -> str:
        lines = [f"<BatchReport {printable(self.target)}", f"  {self.summary()}"]
        lines += format_list("failed", list(map(str, self.failed)))
        lines += format_list(
            "skipped",
            [f"{printable(report.source.path)}: {item}" for report in self.conversions for item in report.skipped],
        )
        lines += format_list(
            "differs",
            [
                f"{printable(report.source.path)}: {item}"
                for report in self.conversions
                if report.verification is not None
                for item in report.verification.differences
            ],
        )
        return "\n".join(lines) + ">"
