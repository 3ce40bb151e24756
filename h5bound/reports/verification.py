"""The report of a verification."""

from __future__ import annotations

import json
from dataclasses import dataclass

from h5bound.reports.entries import REPORT_VERSION, Difference, Skipped
from h5bound.reports.text import format_list, format_nbytes, plural, printable


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
        asked = sum(item.asked for item in self.skipped)
        skipped = f"; {plural(asked, 'object')} left out by include or exclude" if asked else ""
        if len(self.skipped) > asked:
            skipped += f"; {plural(len(self.skipped) - asked, 'thing')} skipped by the conversion"
        verdict = "equal" if self.equal else plural(len(self.differences), "difference")
        return f"{verdict}; {compared}{skipped}"

    def __repr__(self) -> str:
        lines = [f"<VerificationReport {printable(self.source)} vs {printable(self.target)}", f"  {self.summary()}"]
        lines += format_list("differs", [str(item) for item in self.differences])
        return "\n".join(lines) + ">"
