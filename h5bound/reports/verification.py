"""The report of a verification."""

from __future__ import annotations

from dataclasses import dataclass

from h5bound.reports.digest import Digest
from h5bound.reports.entries import REPORT_VERSION, Difference, Skipped, count_skipped, describe_foreign
from h5bound.reports.remarks import Section, group_facts
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, plural, printable


@dataclass(frozen=True, slots=True, repr=False)
class VerificationReport(Report):
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
    foreign: tuple[str, ...] = ()
    """Files of other programs in the store, which no reader of Zarr reads; they are no differences."""
    remark: str = ""
    """That the source is another file than the store was made from: also the first of the differences."""

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
            **({"foreign": list(self.foreign)} if self.foreign else {}),
        }

    def summary(self) -> str:
        """Return one line: equal or not, what was compared, and what the conversion skipped."""
        return "; ".join([self.describe_values(), *count_skipped(self.skipped, " by the conversion")])

    def describe_values(self) -> str:
        """Return whether all is equal, and what was compared."""
        compared = (
            f"{plural(self.arrays, 'dataset')}, {plural(self.attributes, 'attribute')}, "
            f"{format_nbytes(self.nbytes)} compared in {self.seconds:.2f} s"
        )
        verdict = "equal" if self.equal else plural(len(self.differences), "difference")
        return f"{verdict}; {compared}"

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_verification(self)


def digest_verification(report: VerificationReport) -> Digest:
    """Return the report in short."""
    return Digest(
        kind="VerificationReport",
        subject=f"{printable(report.target)} compared with {printable(report.source)}",
        summary=report.remark,
        verdict=report.summary(),
        failed=not report.equal,
        figures=(
            ("result", "equal" if report.equal else "different"),
            ("datasets", f"{report.arrays:,}"),
            ("attributes", f"{report.attributes:,}"),
            ("values", format_nbytes(report.nbytes)),
            ("time", f"{report.seconds:.2f} s"),
        ),
        sections=(
            list_differences(report),
            Section("not compared", group_facts(item.to_fact() for item in report.skipped if not item.asked)),
            Section("note", group_facts(item.to_fact() for item in describe_foreign(report.foreign))),
        ),
    )


def list_differences(report: VerificationReport) -> Section:
    """Return what differs."""
    return Section("differs", group_facts(item.to_fact() for item in report.differences if item.what != report.remark))
