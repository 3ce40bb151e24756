"""Plan a whole store from the scan of its source: its arrays, the boxes that they are read in, and what is skipped."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import count_chunks, group_chunks, list_chunk_coords
from h5bound.errors import UnsafeSourceError, UnsupportedError
from h5bound.planning.plan_parts import plan_arrays
from h5bound.planning.read_boxes import plan_read_boxes
from h5bound.planning.spill_layout import SpillLayout, number_chunks
from h5bound.planning.work_units import MANY_UNITS, UNIT_CHUNKS, choose_unit_nbytes, chunk_nbytes, plan_units
from h5bound.reports.entries import Skipped, list_by_reason
from h5bound.reports.text import format_nbytes, plural
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.work_units import Unit
    from h5bound.zarr_model.array_spec import ArrayNode

LOGGER = logging.getLogger(__name__)


BOXES = 2
"""Least number of boxes that fit into a window for each thread: one is read while another one is written."""


@dataclass(frozen=True, slots=True, eq=False)
class StorePlan:
    """The plan of a whole store."""

    arrays: tuple[ArrayPlan, ...]
    """Arrays; those of one dataset one after the other."""
    units: tuple[Unit, ...]
    """Chunks of all arrays, cut into work units."""
    skipped: tuple[Skipped, ...]
    """Objects, links and attributes that are skipped."""


def plan_store(scan: SourceScan, settings: Settings, limits: Limits, *, window: int, threads: int) -> StorePlan:
    """Return the plan of a whole store. `window` is the bytes between one open and its close, which threads share."""
    arrays, skipped = plan_all(scan, settings, limits)
    arrays = plan_boxes(arrays, window, threads)
    for array in arrays:
        LOGGER.debug("%s: %s, %s", array.path, array.strategy, "; ".join(array.reasons) or "as it is stored")
    units = tuple(plan_units(arrays, window))
    copied = sum(array.strategy == "copy" and len(array.chunk_coords) > 0 for array in arrays)
    empty = sum(not len(array.chunk_coords) for array in arrays)
    LOGGER.info(
        "plan: %s to copy, %s to decode, %s without chunks to write, %s",
        plural(copied, "array"),
        f"{len(arrays) - copied - empty:,}",
        f"{empty:,}",
        format_nbytes(sum(unit.nbytes for unit in units)),
    )
    return StorePlan(tuple(arrays), units, tuple(skipped))


def plan_all(scan: SourceScan, settings: Settings, limits: Limits) -> tuple[list[ArrayPlan], list[Skipped]]:
    """Return the plans of the arrays of a store, and what is skipped."""
    arrays: list[ArrayPlan] = []
    skipped = list(scan.skipped)
    left = limits.max_chunks
    for dataset_scan in scan.datasets:
        try:
            plans = plan_arrays(dataset_scan, settings, left)
        except UnsafeSourceError as error:
            skipped.append(Skipped(dataset_scan.record.path, str(error), unsafe=True))
            continue
        left -= sum(len(plan.chunk_coords) for plan in plans)
        arrays += plans
    return arrays, skipped


def refuse_skipped(file: str, skipped: Iterable[Skipped]) -> None:
    """Raise one error that lists everything that cannot be converted, except what exclude and include skip.

    It is an UnsafeSourceError if the first lies outside the file or passes a limit, else an UnsupportedError.
    """
    unsupported = [item for item in skipped if not item.asked]
    if not unsupported:
        return
    error_type = UnsafeSourceError if unsupported[0].unsafe else UnsupportedError
    if len(unsupported) == 1:
        raise error_type(f"{file}: {unsupported[0]} (on_unsupported='skip' skips and lists it)")
    lines = "\n".join(list_by_reason(unsupported))
    raise error_type(
        f"{file}: {len(unsupported):,} things cannot be converted (on_unsupported='skip' skips and lists them)\n{lines}"
    )


def plan_boxes(arrays: Sequence[ArrayPlan], window: int, threads: int) -> list[ArrayPlan]:
    """Return the plans with the boxes in which they are read, and their chunks in the order of these boxes."""
    nbytes = choose_unit_nbytes(window, sum(int(chunk_nbytes(plan).sum()) for plan in arrays))
    return [plan_boxes_of(plan, nbytes, window // (BOXES * max(threads, 2))) for plan in arrays]


def plan_boxes_of(plan: ArrayPlan, nbytes: int, limit: int) -> ArrayPlan:
    """Return the plan of an array with boxes of about `nbytes`, at most `limit`."""
    node, source = plan.node, plan.source_chunks
    if source is None or not len(plan.chunk_coords):
        return plan
    itemsize = estimate_itemsize(node.dtype)
    most = UNIT_CHUNKS * prod(node.write_shape) * itemsize
    boxes = plan_read_boxes(
        node.shape,
        source=source,
        target=node.write_shape,
        itemsize=itemsize,
        nbytes=min(nbytes, most),
        limit=max(limit, nbytes),
    )
    if boxes is None or (boxes.cell is not None and not can_spill(node, boxes.cell)):
        return plan
    ordered, _ = group_chunks(plan.chunk_coords, boxes.count_keys(node.write_shape))
    plan = replace(plan, boxes=boxes, chunk_coords=ordered)
    return plan if boxes.cell is None else replace(plan, spill=plan_spill(plan, boxes.box, boxes.cell))


def can_spill(node: ArrayNode, cell: Shape) -> bool:
    """Return whether elements have a fixed size in memory, and boxes and cells can be numbered."""
    is_fixed = node.dtype.kind != "T" and not node.dtype.hasobject
    return is_fixed and all(prod(count_chunks(node.shape, size)) < 2**62 for size in (cell, node.write_shape))


def plan_spill(plan: ArrayPlan, box: Shape, cell: Shape) -> SpillLayout:
    """Return where the elements of an array are between two passes."""
    node, source = plan.node, plan.source_chunks
    assert source is not None
    if plan.source_coords is None:
        coords = list_chunk_coords(node.shape, cell, MANY_UNITS * UNIT_CHUNKS)
    else:
        coords = np.unique(plan.source_coords // np.asarray(count_chunks(cell, source), np.int64), axis=0)
    return SpillLayout(
        shape=node.shape,
        cell=cell,
        box=box,
        cells=number_chunks(coords, node.shape, cell),
        boxes=number_chunks(plan.chunk_coords // np.asarray(count_chunks(box, node.write_shape)), node.shape, box),
    )
