"""The report of a conversion."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from h5bound.reports.digest import Digest, Table
from h5bound.reports.entries import (
    REPORT_VERSION,
    Converted,
    Link,
    ReportNote,
    Skipped,
    SourceInfo,
    Strategy,
    count_skipped,
)
from h5bound.reports.forms import FORMS, READER, count_forms
from h5bound.reports.remarks import Fact, Section, group_facts
from h5bound.reports.report import Report
from h5bound.reports.text import format_nbytes, plural, printable
from h5bound.reports.tree import Grid, Leaf, list_empty_groups
from h5bound.reports.verification import VerificationReport, list_differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.reports.forms import Kind

STRATEGIES: tuple[Strategy, ...] = ("copied", "mixed", "decoded", "metadata")
"""In the order in which reports have them."""

ALREADY_COMPLETE = "already complete"
"""The remark of a conversion that finds its store complete."""

SERVED = "served without a copy"
"""The remark on a file that is seen as a store."""

REFUSED = "the conversion would be refused: "
"""Begins the remark of a dry run, before the error."""

SIZES = ("chunks", "stored", "written")
"""Titles of the sizes of arrays."""

UNWRITTEN = "no values are stored in the file"

LAYOUTS = {"contiguous": "contiguous in the file, without chunks", "compact": "compact in the file, without chunks"}
"""Reasons that are a word of HDF5, as people read them."""


@dataclass(frozen=True, slots=True, repr=False)
class ConversionReport(Report):
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
    windows: int = 0
    """Windows in which values are read, on threads: each from one open of the source to its close."""

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

    @property
    def forms(self) -> Counter[Kind]:
        """The number of things that have another form in the store, by kind."""
        return count_kinds(self.notes, self.links)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that `--report` writes."""
        entry: dict[str, object] = {
            "version": REPORT_VERSION,
            "h5bound": self.h5bound,
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "source": asdict(self.source),
            "target": self.target,
            **({"windows": self.windows} if self.windows else {}),
            "converted": [item.to_dict() for item in self.converted],
            "skipped": [item.to_dict() for item in self.skipped],
            "links": [item.to_dict() for item in self.links],
            "notes": [item.to_dict() for item in self.notes],
            "forms": describe_forms(self.forms),
        }
        if self.remark and not self.complete:  # the report of a resumed conversion is that of a whole one
            entry["remark"] = self.remark
        if self.verification is not None:
            entry["verification"] = self.verification.to_dict()
        return entry

    def summary(self) -> str:
        """Return one line: arrays by strategy, groups, bytes and seconds, what has another form, what is skipped."""
        arrays = self.arrays
        counts = Counter(entry.how for entry in arrays)
        strategies = ", ".join(f"{counts[how]:,} {how}" for how in STRATEGIES if counts[how])
        nodes = [f"{plural(len(arrays), 'dataset')} ({strategies})" if arrays else "no datasets"]
        nodes.append(plural(len(self.converted) - len(arrays), "group"))
        parts = [", ".join(nodes)]
        resumed = self.complete and self.remark != ""
        if arrays:
            stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
            done = "in the store" if resumed else f"written in {self.seconds:.2f} s"
            parts.append(
                f"{format_nbytes(stored)} stored" + (f", {format_nbytes(written)} {done}" if self.complete else "")
            )
        return "; ".join([*parts, *self.describe_end()])

    def describe_end(self) -> list[str]:
        """Return the end of the summary: what has another form, what is skipped, and whether the store is complete."""
        parts = [*count_forms(self.forms), *count_skipped(self.skipped)]
        if self.complete:
            return [*parts, *([self.remark, "nothing written"] if self.remark else ["complete"])]
        state = [] if self.remark == SERVED else ["dry run: nothing written"]
        return [*parts, *state, *filter(None, [self.remark])]

    def __repr__(self) -> str:
        return str(digest_text(self))

    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""
        return digest_conversion(self)


def digest_conversion(report: ConversionReport) -> Digest:
    """Return the report in short."""
    return replace(
        digest_text(report),
        table=Table(
            ("dataset", "how", *size_columns(report)),
            tuple((printable(a.path), a.how or "", *describe_sizes(report, [a])) for a in report.arrays),
            texts=2,
        ),
        totals=total_arrays(report),
        figures=list_figures(report),
        leaves=list_leaves(report),
    )


def digest_text(report: ConversionReport) -> Digest:
    """Return the report in short without its tables, which the text form does not show: they take long to make."""
    compared = report.verification
    return Digest(
        kind="ConversionReport",
        subject=f"{printable(report.source.path)} -> {printable(report.target)}",
        summary=report.summary(),
        verdict="" if compared is None else f"verified: {compared.describe_values()}",
        failed=report.exit_code == 1,
        sections=(*([] if compared is None else [list_differences(compared)]), *list_sections(report)),
    )


def list_figures(report: ConversionReport) -> tuple[tuple[str, str], ...]:
    """Return the numbers of a conversion: how much, how small, how fast."""
    arrays = report.arrays
    stored, written = sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays)
    values = sum(a.grid.nbytes or 0 for a in arrays if a.grid is not None)
    figures = {
        "datasets": f"{len(arrays):,}",
        "groups": f"{len(report.converted) - len(arrays):,}",
        "chunks": f"{sum(a.chunks for a in arrays):,}",
        "file": format_nbytes(report.source.size),
        "stored": format_nbytes(stored),
        "written": format_nbytes(written) if report.complete else "nothing: a dry run",
        "values": format_nbytes(values),
        "compression": f"{values / written:.1f} : 1" if report.complete and written and values else "",
        "time": f"{report.seconds:.2f} s" if report.seconds and not report.remark else "",
        "speed": f"{format_nbytes(int(stored / report.seconds))}/s" if is_new(report) and report.seconds else "",
        "windows": f"{report.windows:,}" if report.windows else "",
        "skipped": f"{sum(not item.asked for item in report.skipped):,}",
        "h5bound": report.h5bound,
        "HDF5": report.source.hdf5,
    }
    return tuple((name, text) for name, text in figures.items() if text)


def is_new(report: ConversionReport) -> bool:
    """Return whether this run wrote the store."""
    return report.complete and not report.remark


def list_leaves(report: ConversionReport) -> tuple[Leaf, ...]:
    """Return the arrays for a tree, with their sizes in the store, or in the source if nothing was written."""
    leaves = list_empty_groups(
        (entry.path for entry in report.converted if entry.how is None), (entry.path for entry in report.arrays)
    )
    for entry in report.arrays:
        leaves.append(
            Leaf(
                path=entry.path,
                grid=entry.grid or Grid(type="", shape=()),
                nbytes=entry.written_nbytes if report.complete else entry.stored_nbytes,
                how=entry.how or "",
                facts=partial(list_facts, report, entry),
            )
        )
    return tuple(leaves)


def list_facts(report: ConversionReport, entry: Converted) -> dict[str, str]:
    """Return what there is to say of one array."""
    return {
        "why": "; ".join(LAYOUTS.get(reason, reason) for reason in entry.reasons),
        "in the store": entry.target if f"/{entry.target}" != entry.path else "",
        "values": "" if entry.grid is None or entry.grid.nbytes is None else format_nbytes(entry.grid.nbytes),
        **dict(zip(("stored chunks", *SIZES[1:]), describe_sizes(report, [entry]), strict=False)),
        "rechunked": "" if entry.rechunking is None else str(entry.rechunking),
    }


def total_arrays(report: ConversionReport) -> Table:
    """Return the table of all arrays, a row for each way in which they were converted."""
    groups = [[a for a in report.arrays if a.how == how] for how in STRATEGIES]
    rows = ((arrays[0].how or "", f"{len(arrays):,}", *describe_sizes(report, arrays)) for arrays in groups if arrays)
    return Table(("how", "datasets", *size_columns(report)), tuple(rows))


def size_columns(report: ConversionReport) -> tuple[str, ...]:
    """Return the titles of `describe_sizes`."""
    return SIZES if report.complete else SIZES[:2]


def describe_sizes(report: ConversionReport, arrays: Sequence[Converted]) -> tuple[str, ...]:
    """Return chunks and bytes of arrays; those written only if they are. What is decoded into shards counts as such."""
    chunks = f"{sum(a.chunks for a in arrays):,}"
    sharded = {a.how for a in arrays if a.grid is not None and a.grid.shards is not None} - {"copied"}
    only = sharded == {"decoded"} and all(a.grid is not None and a.grid.shards is not None for a in arrays)
    chunks += (" shard" if chunks == "1" else " shards") if only else " with shards" if sharded else ""
    stored, written = (sum(a.stored_nbytes for a in arrays), sum(a.written_nbytes for a in arrays))
    return (chunks, format_nbytes(stored), format_nbytes(written))[: len(size_columns(report))]


def list_sections(report: ConversionReport) -> tuple[Section, ...]:
    """Return what was not converted, what looks different in the store, and why chunks were not copied."""
    decoded = [
        Fact.of("dataset", a.path, "; ".join(LAYOUTS.get(reason, reason) for reason in a.reasons))
        for a in report.arrays
        if a.how in ("decoded", "mixed") and a.reasons
    ]
    return (
        *list_told(report.skipped, report.links, report.notes),
        Section("decoded", group_facts(decoded)),
        Section(
            "rechunked",
            group_facts(
                Fact.of("dataset", a.path, str(a.rechunking)) for a in report.arrays if a.rechunking is not None
            ),
        ),
        Section(
            "metadata", group_facts(Fact.of("dataset", a.path, UNWRITTEN) for a in report.arrays if a.how == "metadata")
        ),
    )


def list_told(skipped: Sequence[Skipped], links: Sequence[Link], notes: Sequence[ReportNote]) -> tuple[Section, ...]:
    """Return what is not in a store, and what looks different in it."""
    forms = [item.to_fact() for item in links if item.file is None]
    forms += [item.to_fact() for item in notes if item.kind in FORMS]
    return (
        Section("skipped", group_facts(item.to_fact() for item in skipped if not item.asked)),
        Section("warning", group_facts(item.to_fact() for item in notes if item.kind == READER)),
        Section("in another form", group_facts(forms)),
        Section("note", group_facts(item.to_fact() for item in notes if item.kind is None)),
    )


def count_kinds(notes: Sequence[ReportNote], links: Sequence[Link]) -> Counter[Kind]:
    """Return the number of things that have another form in a store, by kind."""
    kinds = Counter(item.kind for item in notes if item.kind is not None and item.kind in FORMS)
    return kinds + Counter({"link": sum(item.file is None for item in links)})


def describe_forms(forms: Mapping[Kind, int]) -> dict[str, object]:
    """Return the entry of a report with the numbers of things that have another form, and what to do about them."""
    return {
        kind: {"count": count} | ({"advice": FORMS[kind].advice} if FORMS[kind].advice else {})
        for kind, count in sorted(forms.items())
    }
