"""Units of work, pure: some chunks of one array each, read by one task and written by another."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import cut_batches
from h5bound.planning.plan import estimate_itemsize
from h5bound.zarr_model.array_spec import shard_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.plan import ArrayPlan


UNIT_NBYTES = 8 * 2**20
"""Bytes that one task reads and another writes, at most, unless one chunk has more or there would be too many."""

MANY_UNITS = 100_000
"""Units of more bytes are made of what would be more units than these: dask takes 0.1 ms and 1 KiB for each."""

UNIT_CHUNKS = 4096
"""Chunks of one unit at most: each costs a few Python objects while it is read or written."""


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Some chunks of one array."""

    array: int
    """number of the array among the plans"""
    chunk_coords: ChunkCoords
    """what is written"""
    nbytes: int
    """in memory, once read; an estimate for text"""
    manifest: ChunkManifest | None = None
    """of the cells, where copied"""
    span: tuple[int, int] = (0, 0)
    """half-open interval: of `values` where these are sequences, of the given values where these stand in the plan"""
    first: int = 0
    """sequences: number of the first one that is needed, in C order of the dataset"""
    ends: NDArray[np.int64] | None = None
    """sequences: where each one that is needed ends in `values`"""
    given: NDArray[Any] | None = None
    """the values, where they stand in the plan"""


def choose_unit_nbytes(window: int, total: int) -> int:
    """Give how many bytes a unit has at most: an eighth of a window, so that threads share it.

    Parameters
    ----------
    window
        Bytes that are read between one open and its close.
    total
        Bytes of all units.

    Examples
    --------
    >>> choose_unit_nbytes(2**30, 10**9), choose_unit_nbytes(1000, 10**9), choose_unit_nbytes(2**30, 10**13)
    (8388608, 125, 100000000)
    """
    return min(max(UNIT_NBYTES, total // MANY_UNITS), max(window // 8, 1))


def plan_units(arrays: Sequence[ArrayPlan], window: int) -> list[Unit]:
    """Cut what is written into units for windows of so many bytes, one key of the store at the least."""
    nbytes = choose_unit_nbytes(window, sum(int(cell_nbytes(plan).sum()) for plan in arrays))
    return [unit for number, plan in enumerate(arrays) for unit in cut_array(number, plan, nbytes)]


def cut_array(number: int, plan: ArrayPlan, nbytes: int) -> Iterator[Unit]:
    """Give the units of one plan."""
    if not len(plan.chunk_coords):
        return
    sizes = cell_nbytes(plan)
    intervals = cut_batches(sizes, nbytes, UNIT_CHUNKS)
    if plan.manifest is not None and plan.node.shards is not None:
        intervals = cut_between_shards(plan, sizes, nbytes)
    for start, stop in intervals:
        unit = Unit(number, plan.chunk_coords[start:stop], max(int(sizes[start:stop].sum()), 1))
        yield complete(unit, plan, start, stop)


def complete(unit: Unit, plan: ArrayPlan, start: int, stop: int) -> Unit:
    """Give the unit with what it needs of its plan, for it travels without it."""
    if plan.manifest is not None:
        return Unit(unit.array, unit.chunk_coords, unit.nbytes, manifest=plan.manifest.take(slice(start, stop)))
    if plan.strategy == "decode":
        return unit
    size, length = plan.node.chunks[0], plan.node.shape[0]
    span = start * size, min(stop * size, length)
    if plan.given is not None:
        return Unit(unit.array, unit.chunk_coords, unit.nbytes, span=span, given=plan.given[span[0] : span[1]])
    assert plan.ends is not None
    first = int(np.searchsorted(plan.ends, span[0], side="right"))
    last = int(np.searchsorted(plan.ends, span[1], side="left"))
    return Unit(unit.array, unit.chunk_coords, unit.nbytes, span=span, first=first, ends=plan.ends[first : last + 1])


def keep_chunks(unit: Unit, plan: ArrayPlan, kept: NDArray[np.bool_]) -> Iterator[Unit]:
    """Give the unit without those of its cells that need not be written: in pieces where its values are one run."""
    if kept.all():
        yield unit
        return
    part = int(kept.sum())
    nbytes = max(unit.nbytes * part // len(kept), 1)
    if part and unit.manifest is not None:
        yield Unit(unit.array, unit.chunk_coords[kept], nbytes, manifest=unit.manifest.take(kept))
    elif part and plan.strategy == "decode":
        yield Unit(unit.array, unit.chunk_coords[kept], nbytes)
    elif part:
        before = unit.span[0] // plan.node.chunks[0]
        bounds = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]])))
        for start, stop in bounds.reshape(-1, 2).tolist():
            piece = Unit(unit.array, unit.chunk_coords[start:stop], max(unit.nbytes * (stop - start) // len(kept), 1))
            yield complete(piece, plan, before + start, before + stop)


def cell_nbytes(plan: ArrayPlan) -> NDArray[np.int64]:
    """Give the bytes in memory of each cell of a plan."""
    node = plan.node
    size = prod(node.chunks if plan.manifest is not None else node.write_shape) * estimate_itemsize(node.dtype)
    if plan.manifest is None:
        return np.full(len(plan.chunk_coords), size, np.int64)
    return np.where(plan.manifest.masks == 0, plan.manifest.nbytes, size)


def cut_between_shards(plan: ArrayPlan, sizes: NDArray[np.int64], nbytes: int) -> list[tuple[int, int]]:
    """Cut cells that are in the order of their shards into half-open intervals of whole shards."""
    shards = plan.chunk_coords // shard_counts(plan.node)
    fresh = np.ones(len(shards), dtype=bool)
    fresh[1:] = (shards[1:] != shards[:-1]).any(axis=1)
    starts = np.flatnonzero(fresh)
    bounds = np.append(starts, len(shards))
    batches = cut_batches(np.add.reduceat(sizes, starts), nbytes, UNIT_CHUNKS)
    return [(int(bounds[start]), int(bounds[stop])) for start, stop in batches]
