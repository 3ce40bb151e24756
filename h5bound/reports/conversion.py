"""The report of a conversion."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from h5bound.reports.entries import REPORT_VERSION, Converted, Link, ReportNote, Skipped, SourceInfo
from h5bound.reports.text import format_list, format_nbytes, plural, printable

if TYPE_CHECKING:
    from h5bound.reports.verification import VerificationReport


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
    remark: str = ""
    """What there is to say of the run as a whole: the store was complete already, or would be refused."""

    @property
    def exit_code(self) -> int:
        """0 if everything was converted, 3 if something was skipped, 1 if the comparison found a difference.

        What include or exclude left out is not counted as skipped.
        """
        if self.verification is not None and not self.verification.equal:
            return 1
        return 0 if all(item.asked for item in self.skipped) else 3

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
        if self.remark and not self.complete:  # the report of a resumed conversion is that of a whole one
            entry["remark"] = self.remark
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
        asked = sum(item.asked for item in self.skipped)
        left_out = f"{plural(asked, 'object')} left out by include or exclude; " if asked else ""
        skipped = f"{plural(len(self.skipped) - asked, 'thing')} skipped; " if len(self.skipped) > asked else ""
        if self.complete and self.remark:
            state = f"{format_nbytes(written)} in the store; {left_out}{skipped}{self.remark}; nothing written"
            return f"{counted}, {groups}; {format_nbytes(stored)} stored, {state}"
        state = "complete" if self.complete else "; ".join(["dry run: nothing written", *filter(None, [self.remark])])
        return (
            f"{counted}, {groups}; {format_nbytes(stored)} stored, {format_nbytes(written)} written "
            f"in {self.seconds:.2f} s; {left_out}{skipped}{state}"
        )

    def __repr__(self) -> str:
        lines = [f"<ConversionReport {printable(self.source.path)} -> {printable(self.target)}", f"  {self.summary()}"]
        lines += format_list("skipped", [str(item) for item in self.skipped if not item.asked])
        decoded = [a for a in self.arrays if a.how in ("decoded", "mixed")]
        lines += format_list("not copied", [f"{printable(a.path)}: {', '.join(a.reasons)}" for a in decoded])
        if self.verification is not None:
            lines.append(f"  verified: {self.verification.summary()}")
        return "\n".join(lines) + ">"
