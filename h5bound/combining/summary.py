"""The report of a combination."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.conversion.summary import make_report
from h5bound.reports.combination import CombinationReport
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.combining.combination import Combination
    from h5bound.combining.join_plan import JoinPlan
    from h5bound.execution.work import UnitResult
    from h5bound.reports.combination import BadFile
    from h5bound.reports.entries import Converted
    from h5bound.stores.target import Target


def make_combination_report(
    combination: Combination,
    target: Target,
    *,
    written: Iterable[UnitResult],
    complete: bool,
    window: int,
    bad: Sequence[BadFile],
    kept: int,
    added: int | None = None,
) -> CombinationReport:
    """Return the report of a combination, without its duration; `window` are the bytes that the user allows."""
    conversion = make_report(
        combination.scan, combination.plan, target, written=written, failed={}, complete=complete, window=window
    )
    joins = {join.array.path: join for join in combination.joins}
    entries = (
        describe_join(entry, joins[entry.path]) if entry.path in joins else entry for entry in conversion.converted
    )
    return CombinationReport(
        files=tuple(file.path for file in combination.files),
        dim=combination.joined.dim,
        conversion=replace(conversion, converted=tuple(entries)),
        differences=combination.joined.differences,
        bad=tuple(bad),
        copied=sum(len(join.files) for join in combination.joins),
        decoded=sum(len(join.array.chunk_coords) for join in combination.joins),
        kept=kept,
        added_nbytes=added,
    )


def describe_join(entry: Converted, join: JoinPlan) -> Converted:
    """Return the report's entry of an array, with how its chunks are made."""
    copied, decoded = len(join.files), len(join.array.chunk_coords)
    if not copied:
        return entry
    share = f"{decoded:,} of {plural(copied + decoded, 'chunk')} decoded"
    reason = f"{share}: they lie across files, or in files whose chunks, filters or values differ"
    return replace(entry, how="mixed" if decoded else "copied", reasons=(reason,) if decoded else ())
