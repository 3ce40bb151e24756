"""Cut the arrays of a store into work units: some chunks of one array, read by one task and written by another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import bound_chunks, count_chunks, cut_batches, find_starts, group_chunks
from h5bound.planning.read_boxes import measure
from h5bound.zarr_model.array_spec import estimate_itemsize, shard_counts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.spill_layout import SpillLayout


UNIT_NBYTES = 8 * 2**20
"""Most bytes of a unit, unless one chunk has more or there would be too many units."""

COPIED_FACTOR = 2
"""How many times as large a unit of copied chunks may be: its tasks take a tenth of the time of copying 8 MiB."""

MANY_UNITS = 100_000
"""Number of units above which units get larger: dask takes 0.1 ms and 1 KiB for each."""

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
    files: NDArray[np.int32] | None = None
    """Copied from several files: number of the file of each chunk."""
    values_interval: tuple[int, int] = (0, 0)
    """Sequences: interval of the array `values`, half-open."""
    first_sequence: int = 0
    """Sequences: number of the first one that is read, in C order of the dataset."""
    sequence_ends: NDArray[np.int64] | None = None
    """Sequences: where each one that is read ends in `values`."""
    planned_values: NDArray[Any] | None = None
    """Planned: the values themselves."""


def choose_unit_nbytes(window: int, total: int) -> int:
    """Return the most bytes of a unit: a sixteenth of what may be in memory, so that threads share it.

    `window` is the most bytes of the units that are in memory, `total` the bytes of all units.

    >>> choose_unit_nbytes(2**30, 10**9), choose_unit_nbytes(1600, 10**9), choose_unit_nbytes(2**30, 10**12)
    (8388608, 100, 10000000)
    """
    return min(max(UNIT_NBYTES, total // MANY_UNITS), max(window // 16, 1))


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


def plan_cells(number: int, layout: SpillLayout, dtype: np.dtype[Any]) -> list[Unit]:
    """Return the units of the first of two passes over an array: a cell each."""
    coords = np.stack(np.unravel_index(layout.cells, count_chunks(layout.shape, layout.cell)), axis=1)
    nbytes = measure(layout.cell, layout.shape, estimate_itemsize(dtype))
    return [Unit(number, coords[row : row + 1], nbytes) for row in range(len(coords))]


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
