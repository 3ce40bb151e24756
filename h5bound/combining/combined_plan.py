"""Plan the whole store of many files: arrays that are joined, and those of the first file."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.combining.join_plan import cut_units, plan_join
from h5bound.errors import UnsafeSourceError
from h5bound.planning.plan_parts import plan_arrays
from h5bound.planning.store_plan import BOXES, StorePlan, plan_boxes, plan_boxes_of
from h5bound.planning.work_units import choose_unit_nbytes, chunk_nbytes, plan_units
from h5bound.reports.entries import Skipped
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.combining.join_plan import Grid, JoinPlan
    from h5bound.combining.stored_chunks import FileChunks
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.work_units import Unit

    Grids = Mapping[str, Grid]

LOGGER = logging.getLogger(__name__)


def plan_combined(
    scan: SourceScan,
    files: Mapping[str, Mapping[int, FileChunks]],
    settings: Settings,
    *,
    limits: Limits,
    grids: Grids,
    window: int,
    threads: int,
) -> tuple[StorePlan, list[JoinPlan]]:
    """Return the plan of a store, and that of each array that is joined, which come first in it.

    `files` has what each file stores of the datasets that are joined, by their paths. `grids` are chunks and shards of
    arrays that the store has already, by their paths in it. `window` is the bytes between one
    open and its close, which threads share.
    """
    joins: list[JoinPlan] = []
    arrays: list[ArrayPlan] = []
    skipped = list(scan.skipped)
    left = limits.max_chunks
    for dataset_scan in scan.datasets:
        path = dataset_scan.record.path
        try:
            if dataset_scan.pieces is not None:
                join = plan_join(dataset_scan, files[path], settings, grid=grids.get(dataset_scan.target), limit=left)
                left -= len(join.files) + len(join.array.chunk_coords)
                joins.append(join)
            else:
                plans = plan_arrays(dataset_scan, settings, left)
                left -= sum(len(plan.chunk_coords) for plan in plans)
                arrays += plans
        except UnsafeSourceError as error:
            skipped.append(Skipped(path, str(error), unsafe=True))
    nbytes = choose_unit_nbytes(window, sum(map(measure, joins)))
    limit = window // (BOXES * max(threads, 2))
    joins = [replace(join, array=plan_boxes_of(join.array, nbytes, limit)) for join in joins]
    units = sort_units(joins, nbytes)
    arrays = plan_boxes(arrays, window, threads)
    units += [replace(unit, array=unit.array + len(joins)) for unit in plan_units(arrays, window)]
    copied, decoded = (
        sum(map(len, counts)) for counts in ([j.files for j in joins], [j.array.chunk_coords for j in joins])
    )
    LOGGER.info("plan: %s joined; %s to copy, %s to decode", plural(len(joins), "array"), f"{copied:,}", f"{decoded:,}")
    return StorePlan((*(join.array for join in joins), *arrays), tuple(units), tuple(skipped)), joins


def measure(join: JoinPlan) -> int:
    """Return the bytes in memory of all chunks of an array."""
    return int(join.manifest.nbytes.sum()) + int(chunk_nbytes(join.array).sum())


def sort_units(joins: Sequence[JoinPlan], nbytes: int) -> list[Unit]:
    """Return the units of all arrays in the order of the files, so that each is opened for few windows."""
    placed = [item for number, join in enumerate(joins) for item in cut_units(number, join, nbytes)]
    return [unit for _, unit in sorted(placed, key=lambda item: item[0])]
