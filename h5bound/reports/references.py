"""The report of references that were made to a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from h5bound.reports.conversion import count_kinds, describe_forms, list_told
from h5bound.reports.digest import Digest, Table
from h5bound.reports.entries import REPORT_VERSION, Link, ReportNote, Skipped, SourceInfo, count_skipped
from h5bound.reports.forms import count_forms
from h5bound.reports.many_files import list_differences, name_source
from h5bound.reports.remarks import Fact, Section, group_facts
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, plural, printable
from h5bound.reports.tree import Grid, Leaf

if TYPE_CHECKING:
    from h5bound.reports.forms import Kind
    from h5bound.reports.many_files import BadFile, Difference

RARE_CODEC = "readers need {}, which zarr-python has with numcodecs, and others may not have"
"""What is said of an array, with the names of codecs."""


@dataclass(frozen=True, slots=True)
class Referred:
    """An array of the store that references make."""

    path: str
    """Path of its dataset in the source, from /."""
    target: str
    """Path in the store, without a leading slash."""
    ranges: int
    """Chunks that are ranges of the file."""
    encoded: int
    """Chunks that were encoded anew and are held beside the references."""
    encoded_nbytes: int
    reasons: tuple[str, ...]
    """Why chunks are no ranges."""
    codecs: tuple[str, ...]
    """Codecs that not all readers have."""
    grid: Grid | None = None
    """Its type, shape and chunks."""

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return {
            "path": self.path,
            "target": self.target,
            "ranges": self.ranges,
            "encoded": self.encoded,
            "encoded_bytes": self.encoded_nbytes,
            "reasons": list(self.reasons),
            "codecs": list(self.codecs),
            **({} if self.grid is None else self.grid.to_dict()),
        }


@dataclass(frozen=True, slots=True, repr=False)
class ReferenceReport(Report):
    """What became of each object of an HDF5 file in the references to it."""

    source: SourceInfo
    target: str
    """Path or URL of the references; empty if they were returned."""
    zarr_format: int
    seconds: float
    h5bound: str
    """Version of h5bound that made the references."""
    groups: int
    """Number of groups."""
    arrays: tuple[Referred, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[ReportNote, ...] = ()
    files: tuple[str, ...] = ()
    """Paths of many files in the order in which they are joined; `source` is the first one."""
    differences: tuple[Difference, ...] = ()
    """What differs between them, and was decided by an option."""
    bad: tuple[BadFile, ...] = ()
    """Those that were left out, since they cannot be read."""

    @property
    def exit_code(self) -> int:
        """0 if everything was referred to, 3 if files or objects were left out that nobody asked to leave out."""
        return 0 if all(item.asked for item in self.skipped) and not self.bad else 3

    @property
    def forms(self) -> Counter[Kind]:
        """The number of things that have another form in the store, by kind."""
        return count_kinds(self.notes, self.links)

    @property
    def codecs(self) -> Counter[str]:
        """The number of arrays that need each codec that not all readers have."""
        return Counter(codec for array in self.arrays for codec in array.codecs)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes."""
        return {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "seconds": round(self.seconds, 3),
            "source": asdict(self.source),
            "target": self.target,
            "zarr_format": self.zarr_format,
            "groups": self.groups,
            "arrays": [item.to_dict() for item in self.arrays],
            "skipped": [item.to_dict() for item in self.skipped],
            "links": [item.to_dict() for item in self.links],
            "notes": [item.to_dict() for item in self.notes],
            "forms": describe_forms(self.forms),
            "codecs": dict(sorted(self.codecs.items())),
            "files": list(self.files),
            "differences": [item.to_dict() for item in self.differences],
            "bad_files": [item.to_dict() for item in self.bad],
        }

    def summary(self) -> str:
        """Return one line: arrays and groups, what their chunks are, what has another form, what is skipped."""
        ranges, encoded = sum(a.ranges for a in self.arrays), sum(a.encoded for a in self.arrays)
        nbytes = format_nbytes(sum(a.encoded_nbytes for a in self.arrays))
        datasets = len({array.path for array in self.arrays})  # one that became several arrays counts once
        parts = [plural(len(self.files), "file")] if self.files else []
        parts += [f"{plural(len(self.bad), 'file')} left out"] if self.bad else []
        parts += [f"{plural(datasets, 'dataset')}, {plural(self.groups, 'group')}"]
        parts += [f"{plural(ranges, 'chunk')} as ranges of the file{'s' if self.files else ''}"]
        parts += [f"{plural(encoded, 'chunk')} encoded anew ({nbytes})"] if encoded else []
        parts += [*count_forms(self.forms), *count_skipped(self.skipped), f"Zarr format {self.zarr_format}"]
        return "; ".join([*parts, f"{self.seconds:.2f} s"])

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_references(self)


def make_leaf(array: Referred) -> Leaf:
    """Return an array for a tree, with the size of its values."""
    grid = array.grid or Grid(type="", shape=())
    return Leaf(
        path=f"/{array.target}",
        grid=grid,
        nbytes=grid.nbytes or 0,
        how="" if not array.ranges + array.encoded else "ranges" if array.ranges else "encoded",
        facts=lambda: {
            "ranges": f"{array.ranges:,}",
            "encoded anew": f"{array.encoded:,} ({format_nbytes(array.encoded_nbytes)})" if array.encoded else "",
            "why": "; ".join(array.reasons),
            "codecs": ", ".join(array.codecs),
        },
    )


def digest_references(report: ReferenceReport) -> Digest:
    """Return the report in short."""
    source = name_source(report.source.path, len(report.files))
    subject = f"{source} -> {printable(report.target)}" if report.target else source
    encoded = (Fact.of("dataset", a.path, "; ".join(a.reasons)) for a in report.arrays if a.encoded)
    codecs = (Fact.of("dataset", a.path, RARE_CODEC.format(", ".join(a.codecs))) for a in report.arrays if a.codecs)
    rows = (
        (printable(a.target), f"{a.ranges:,}", f"{a.encoded:,}", format_nbytes(a.encoded_nbytes)) for a in report.arrays
    )
    return Digest(
        kind="ReferenceReport",
        subject=subject,
        summary=report.summary(),
        table=Table(("array", "ranges", "encoded", "bytes"), tuple(rows)),
        figures=(
            ("arrays", f"{len(report.arrays):,}"),
            ("chunks as ranges", f"{sum(a.ranges for a in report.arrays):,}"),
            ("encoded anew", f"{sum(a.encoded for a in report.arrays):,}"),
            ("encoded bytes", format_nbytes(sum(a.encoded_nbytes for a in report.arrays))),
            ("Zarr format", f"{report.zarr_format}"),
            ("time", f"{report.seconds:.2f} s"),
            ("h5bound", report.h5bound),
        ),
        leaves=tuple(map(make_leaf, report.arrays)),
        sections=(
            Section("left out", group_facts(item.to_fact() for item in report.bad)),
            *list_differences(report.differences),
            *list_told(report.skipped, report.links, report.notes),
            Section("encoded", group_facts(dict.fromkeys(encoded))),
            Section("codec", group_facts(dict.fromkeys(codecs))),
        ),
    )
