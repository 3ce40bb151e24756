"""Plan a whole store from the scan of its source: its arrays, cut into work units.

A work unit is some chunks of one array, read by one task and written by another.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import bound_chunks, count_chunks, cut_batches, find_starts, group_chunks, list_chunk_coords
from h5bound.errors import UnsafeSourceError, UnsupportedError
from h5bound.planning.plan_parts import plan_arrays
from h5bound.planning.read_boxes import measure, plan_read_boxes
from h5bound.planning.spill_layout import SpillLayout, number_chunks
from h5bound.reports.entries import Skipped, list_by_reason
from h5bound.reports.text import format_nbytes, plural
from h5bound.zarr_model.array_spec import estimate_itemsize, shard_counts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.zarr_model.array_spec import ArrayNode

LOGGER = logging.getLogger(__name__)


UNIT_NBYTES = 8 * 2**20
"""Most bytes of a unit, unless one chunk has more or there would be too many units."""

COPIED_FACTOR = 2
"""How many times as large a unit of copied chunks may be: its tasks take a tenth of the time of copying 8 MiB."""

MANY_UNITS = 100_000
"""Number of units above which units get larger: dask takes 0.1 ms and 1 KiB for each."""

BOXES = 2
"""Least number of boxes that fit into a window for each thread: one is read while another one is written."""

COLUMN_CHUNKS = 4
"""Most chunks of a unit of a column: the rows of one are held until the other columns of the dataset are read."""

UNIT_CHUNKS = 4096
"""Most chunks of a unit: each costs a few Python objects while it is read or written."""


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Some chunks of one array."""

    array: int
    """Number of the array among the plans."""
    chunk_coords: ChunkCoords
    """Coordinates of the chunks (or shards) that are written."""
    nbytes: int
    """Bytes in memory once read; an estimate for text."""
    manifest: ChunkManifest | None = None
    """Copied: the encoded bytes of these chunks."""
    files: NDArray[np.int64] | None = None
    """Copied from several files: number of the file of each chunk."""
    values_interval: tuple[int, int] = (0, 0)
    """Sequences: interval of the array `values`, half-open."""
    first_sequence: int = 0
    """Sequences: number of the first one that is read, in C order of the dataset."""
    sequence_ends: NDArray[np.int64] | None = None
    """Sequences: where each one that is read ends in `values`."""
    planned_values: NDArray[Any] | None = None
    """Planned: the values themselves."""


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


def choose_unit_nbytes(window: int, total: int) -> int:
    """Return the most bytes of a unit: an eighth of a window, so that threads share the window.

    `window` is the bytes between one open and its close, `total` the bytes of all units.

    >>> choose_unit_nbytes(2**30, 10**9), choose_unit_nbytes(1000, 10**9), choose_unit_nbytes(2**30, 10**13)
    (8388608, 125, 100000000)
    """
    return min(max(UNIT_NBYTES, total // MANY_UNITS), max(window // 8, 1))


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


def plan_cells(number: int, layout: SpillLayout | None, dtype: np.dtype[Any]) -> list[Unit]:
    """Return the units of the first of two passes over an array: a cell each."""
    assert layout is not None
    coords = np.stack(np.unravel_index(layout.cells, count_chunks(layout.shape, layout.cell)), axis=1)
    nbytes = measure(layout.cell, layout.shape, estimate_itemsize(dtype))
    return [Unit(number, coords[row : row + 1], nbytes) for row in range(len(coords))]


def plan_units(arrays: Sequence[ArrayPlan], window: int) -> list[Unit]:
    """Cut the chunks of all arrays into units; a unit has at least one key of the store. `window` is in bytes."""
    sizes = [chunk_nbytes(plan) for plan in arrays]
    nbytes = choose_unit_nbytes(window, sum(int(item.sum()) for item in sizes))
    units = [
        make_unit(number, plan, start=start, stop=stop, nbytes=unit_nbytes(plan, item[start:stop], start=start))
        for number, (plan, item) in enumerate(zip(arrays, sizes, strict=True))
        for start, stop in cut_plan(plan, item, nbytes if plan.manifest is None else nbytes * COPIED_FACTOR)
    ]
    return order_units(units, [plan.path if plan.is_column else None for plan in arrays])


def order_units(units: Sequence[Unit], datasets: Sequence[Hashable | None]) -> list[Unit]:
    """Return units in order, but those of columns of one dataset by their rows.

    `datasets` has for each array the dataset whose column it is, None if it is none.
    """
    first: dict[Hashable, int] = {}
    for number, dataset in enumerate(datasets):
        first.setdefault(number if dataset is None else (dataset,), number)

    def place(unit: Unit) -> tuple[int, tuple[int, ...]]:
        dataset = datasets[unit.array]
        if dataset is None:
            return unit.array, ()
        return first[(dataset,)], tuple(unit.chunk_coords[0].tolist()[:1])

    return sorted(units, key=place)


def unit_nbytes(plan: ArrayPlan, sizes: NDArray[np.int64], start: int) -> int:
    """Return the bytes in memory of chunks of these sizes: those of the box around them if they are read together."""
    if plan.boxes is None:
        return int(sizes.sum())
    box = bound_chunks(plan.chunk_coords[start : start + len(sizes)], plan.node.shape, plan.node.write_shape)
    count: int = prod(part.stop - part.start for part in box)
    return count * estimate_itemsize(plan.node.dtype)


def chunk_nbytes(plan: ArrayPlan) -> NDArray[np.int64]:
    """Return the bytes in memory of each chunk of a plan."""
    node = plan.node
    size = prod(node.chunks if plan.manifest is not None else node.write_shape) * estimate_itemsize(node.dtype)
    if plan.manifest is None:
        return np.full(len(plan.chunk_coords), size, np.int64)
    return np.where(plan.manifest.masks == 0, plan.manifest.nbytes, size)


def cut_plan(plan: ArrayPlan, sizes: NDArray[np.int64], nbytes: int) -> list[tuple[int, int]]:
    """Cut the chunks of a plan into half-open intervals.

    Chunks of one box are one interval; chunks that are copied into one shard stay together.
    """
    if plan.boxes is not None:
        return group_chunks(plan.chunk_coords, plan.boxes.count_keys(plan.node.write_shape))[1]
    if plan.manifest is None or plan.node.shards is None:
        return cut_batches(sizes, nbytes, COLUMN_CHUNKS if plan.is_column else UNIT_CHUNKS)
    starts = find_starts(plan.chunk_coords // shard_counts(plan.node))
    if not starts.size:
        return []
    bounds = np.append(starts, len(plan.chunk_coords))
    batches = cut_batches(np.add.reduceat(sizes, starts), nbytes, UNIT_CHUNKS)
    return [(int(bounds[start]), int(bounds[stop])) for start, stop in batches]


def make_unit(number: int, plan: ArrayPlan, start: int, stop: int, *, nbytes: int) -> Unit:
    """Return the unit of some chunks of a plan, self-contained: workers do not receive the plan."""
    chunk_coords, nbytes = plan.chunk_coords[start:stop], max(nbytes, 1)
    if plan.manifest is not None:
        return Unit(number, chunk_coords, nbytes, manifest=plan.manifest.take(slice(start, stop)))
    if plan.strategy == "decode":
        return Unit(number, chunk_coords, nbytes)
    size, length = plan.node.chunks[0], plan.node.shape[0]
    interval = start * size, min(stop * size, length)
    if plan.planned_values is not None:
        values = plan.planned_values[slice(*interval)]
        return Unit(
            array=number, chunk_coords=chunk_coords, nbytes=nbytes, values_interval=interval, planned_values=values
        )
    ends = plan.sequence_ends
    assert ends is not None
    first = int(np.searchsorted(ends, interval[0], side="right"))
    last = int(np.searchsorted(ends, interval[1], side="left"))
    return Unit(
        array=number,
        chunk_coords=chunk_coords,
        nbytes=nbytes,
        values_interval=interval,
        first_sequence=first,
        sequence_ends=ends[first : last + 1],
    )


def select_chunks(unit: Unit, plan: ArrayPlan, selected: NDArray[np.bool_]) -> Iterator[Unit]:
    """Yield the unit with the chunks where `selected` is True, in pieces if its values must be one interval."""
    if selected.all():
        yield unit
        return
    nbytes = max(unit.nbytes * int(selected.sum()) // len(selected), 1)
    if plan.strategy in ("copy", "decode"):
        if selected.any():
            manifest = None if unit.manifest is None else unit.manifest.take(selected)
            files = None if unit.files is None else unit.files[selected]
            yield replace(unit, chunk_coords=unit.chunk_coords[selected], nbytes=nbytes, manifest=manifest, files=files)
        return
    before = unit.values_interval[0] // plan.node.chunks[0]
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], selected, [False]])))
    for start, stop in bounds.reshape(-1, 2).tolist():
        part = unit.nbytes * (stop - start) // len(selected)
        yield make_unit(unit.array, plan, start=before + start, stop=before + stop, nbytes=part)
