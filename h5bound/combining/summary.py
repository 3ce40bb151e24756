"""The report of a combination."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from h5bound.conversion.summary import make_report
from h5bound.reports.combination import CombinationReport
from h5bound.reports.text import plural
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.combining.combination import Combination
    from h5bound.combining.join_plan import JoinPlan
    from h5bound.execution.work import UnitResult
    from h5bound.planning.store_plan import Unit
    from h5bound.reports.combination import BadFile
    from h5bound.reports.entries import Converted
    from h5bound.stores.target import Target
    from h5bound.zarr_model.array_spec import ArrayNode


def make_combination_report(
    combination: Combination,
    target: Target,
    *,
    written: Iterable[UnitResult],
    complete: bool,
    window: int,
    bad: Sequence[BadFile],
    kept: int,
    units: Sequence[Unit],
    added: int | None = None,
) -> CombinationReport:
    """Return the report of a combination, without its duration.

    `window` are the bytes that the user allows, `units` what this run writes, or would without `dry_run`.
    """
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
        copied_nbytes=sum(int(unit.manifest.nbytes[unit.manifest.masks == 0].sum()) for unit in units if unit.manifest),
        decoded_nbytes=sum(measure_decoded(unit, combination.plan.arrays[unit.array].node) for unit in units),
    )


def measure_decoded(unit: Unit, node: ArrayNode) -> int:
    """Return the bytes of the values of the chunks, or shards, that are decoded."""
    if unit.manifest is None:
        return len(unit.chunk_coords) * prod(node.write_shape) * estimate_itemsize(node.dtype)
    return int((unit.manifest.masks != 0).sum()) * prod(node.chunks) * estimate_itemsize(node.dtype)


def describe_join(entry: Converted, join: JoinPlan) -> Converted:
    """Return the report's entry of an array, with how its chunks are made."""
    copied, decoded = len(join.files), len(join.array.chunk_coords)
    if not copied:
        return entry
    share = f"{decoded:,} of {plural(copied + decoded, 'chunk')} decoded"
    reason = f"{share}: they lie across files, or in files whose chunks, filters or values differ"
    return replace(entry, how="mixed" if decoded else "copied", reasons=(reason,) if decoded else ())
