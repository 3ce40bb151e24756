"""The report of a combination."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.conversion.summary import make_report
from h5bound.planning.pieces import find_pieces
from h5bound.reports.combination import ArrayWork, ChunkCounts, CombinationReport
from h5bound.reports.text import plural
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.combining.append import Appended
    from h5bound.combining.combination import Combination
    from h5bound.combining.join_plan import JoinPlan
    from h5bound.execution.work import UnitResult
    from h5bound.planning.work_units import Unit
    from h5bound.reports.entries import Converted
    from h5bound.reports.many_files import BadFile
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
    appended: Appended | None = None,
) -> CombinationReport:
    """Return the report of a combination, without its duration.

    `window` is the bytes of a window, `units` what this run writes, or would without `dry_run`. `kept` and `added` are
    those of the report, `appended` is what was done to a store that was there.
    """
    conversion = make_report(
        combination.scan, combination.plan, target, written=written, failed={}, complete=complete, window=window
    )
    joins = {join.array.path: join for join in combination.joins}
    entries = (
        describe_join(entry, joins[entry.path]) if entry.path in joins else entry for entry in conversion.converted
    )
    work = list_work(combination, units, appended)
    return CombinationReport(
        files=tuple(file.path for file in combination.files),
        dim=combination.joined.dim,
        conversion=replace(conversion, converted=tuple(entries)),
        differences=combination.joined.differences,
        bad=tuple(bad),
        copied=sum(len(join.files) for join in combination.joins),
        decoded=sum(map(count_decoded, combination.joins)),
        kept=kept,
        added=added,
        added_nbytes=None if added is None else 0 if appended is None else appended.nbytes,
        chunks=None if appended is None else ChunkCounts.total(appended.chunks),
        copied_nbytes=sum(item.copied_nbytes for item in work),
        decoded_nbytes=sum(item.decoded_nbytes for item in work),
        work=work,
    )


def count_decoded(join: JoinPlan) -> int:
    """Return how many chunks of an array are decoded; where it has shards, all chunks in those that are."""
    node, coords = join.array.node, join.array.chunk_coords
    if node.shards is None:
        return len(coords)
    shape, shards, chunks = (np.asarray(sizes, np.int64) for sizes in (node.shape, node.shards, node.chunks))
    extents = np.minimum(shards, shape - coords * shards)
    return int((-(-extents // chunks)).prod(axis=1).sum())


def list_work(combination: Combination, units: Sequence[Unit], appended: Appended | None) -> tuple[ArrayWork, ...]:
    """Return what units write of each array, and what was done to its chunks if it was there."""
    by_array: dict[int, list[Unit]] = {number: [] for number in range(len(combination.plan.arrays))}
    totals = Counter[int]()
    for unit in units:
        by_array[unit.array].append(unit)
    for unit in combination.plan.units:
        totals[unit.array] += len(unit.chunk_coords)
    joins = {join.array.path: join for join in combination.joins}
    found = []
    for number, own in by_array.items():
        array = combination.plan.arrays[number]
        copies = [unit.manifest.nbytes[unit.manifest.masks == 0] for unit in own if unit.manifest is not None]
        decoded = [unit for unit in own if unit.manifest is None]
        join = joins.get(array.path)
        found.append(
            ArrayWork(
                path=array.path,
                copied=sum(map(len, copies)),
                copied_nbytes=sum(int(nbytes.sum()) for nbytes in copies),
                decoded=sum(len(unit.chunk_coords) for unit in decoded),
                decoded_nbytes=sum(measure_decoded(unit, array.node) for unit in own),
                seams=0 if join is None else sum(count_seams(join, unit) for unit in decoded),
                kept=totals[number] - sum(len(unit.chunk_coords) for unit in own),
                chunks=None if appended is None else appended.chunks[number],
            )
        )
    return tuple(found)


def count_seams(join: JoinPlan, unit: Unit) -> int:
    """Return how many chunks, or shards, of a unit have elements of several files."""
    axis = join.pieces.axis
    coords, size = unit.chunk_coords[:, axis], join.array.node.write_shape[axis]
    first, stop = find_pieces(join.pieces.bounds, coords, size=size)
    return int((stop - first > 1).sum())


def measure_decoded(unit: Unit, node: ArrayNode) -> int:
    """Return the bytes of the values of the chunks, or shards, that are decoded."""
    if unit.manifest is None:
        return len(unit.chunk_coords) * prod(node.write_shape) * estimate_itemsize(node.dtype)
    return int((unit.manifest.masks != 0).sum()) * prod(node.chunks) * estimate_itemsize(node.dtype)


def describe_join(entry: Converted, join: JoinPlan) -> Converted:
    """Return the report's entry of an array, with how its chunks are made."""
    copied, decoded = len(join.files), count_decoded(join)
    if not copied:
        return entry
    share = f"{decoded:,} of {plural(copied + decoded, 'chunk')} decoded"
    reason = f"{share}: they lie across files, or in files whose chunks, filters or values differ"
    return replace(entry, how="mixed" if decoded else "copied", reasons=(reason,) if decoded else ())
