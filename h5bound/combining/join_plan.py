"""Plan an array that is joined from several files: which chunks are copied, and which are decoded.

::

    file 0            file 1            file 2
    |----|----|--|    |----|----|--|    |----|
    |----|----|----|----|----|----|          the grid of the store
     copy copy seam                          a chunk of file 1 is copied if it begins where one of the store does

A chunk of a file is copied if it is a whole chunk of the store, with the same codecs. All others that hold data are
decoded, with what other files have of the same chunk of the store: a seam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import count_chunks, cut_batches, find_starts, list_chunk_coords
from h5bound.combining.stored_chunks import SeamFinder, list_stored
from h5bound.planning.pieces import IN_STORE
from h5bound.planning.plan import ArrayPlan, drop_fill_v2, order_by_shard, plan_node
from h5bound.planning.work_units import COPIED_FACTOR, UNIT_CHUNKS, Unit, cut_plan, unit_nbytes
from h5bound.zarr_model.array_spec import estimate_itemsize, shard_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.combining.stored_chunks import FileChunks, StoredChunks
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.options import Settings
    from h5bound.planning.pieces import Pieces
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.zarr_model.array_spec import ArrayNode

    Grid = tuple[Shape, Shape | None]


@dataclass(frozen=True, slots=True, eq=False)
class JoinPlan:
    """The plan of an array that is joined from several files."""

    array: ArrayPlan
    """Its chunks that are decoded."""
    pieces: Pieces
    """The files of the array."""
    manifest: ChunkManifest
    """The chunks that are copied, with their coordinates in their files."""
    coords: ChunkCoords
    """Their coordinates in the store."""
    files: NDArray[np.int32]
    """The number of the file of each."""


def plan_join(
    dataset_scan: DatasetScan,
    files: Mapping[int, FileChunks],
    settings: Settings,
    *,
    grid: Grid | None = None,
    limit: int,
) -> JoinPlan:
    """Return the plan of an array; `files` has what each file stores, by its number.

    `grid` are the chunks and shards that it has already, if it has any. Raise UnsafeSourceError if it would have more
    chunks than `limit`.
    """
    node, reasons = plan_grid(dataset_scan, settings, grid)
    pieces = dataset_scan.pieces
    assert pieces is not None
    finder = SeamFinder(node, limit)
    stored = list_stored(pieces, files, node, finder=finder, can_copy=not reasons)
    if dataset_scan.fill.exact:
        finder.add(*list_whole_pieces(pieces, files, node.shape))
        seams = add_stored_shards(finder.find(), stored, pieces, node=node)
        copies = stored.take(~is_among(find_keys(stored, node), seams, node))
    else:  # all chunks are written
        every = list_chunk_coords(node.shape, node.write_shape, limit)
        copies = stored.take(slice(None if node.shards is None else 0))
        seams = every[~is_among(every, copies.coords, node)]
    array = ArrayPlan(
        path=dataset_scan.record.path,
        node=drop_fill_v2(node, dataset_scan, settings, count=len(seams) + count_keys(copies, node)),
        strategy="decode",
        reasons=reasons,
        stored_nbytes=dataset_scan.record.stored_nbytes,
        chunk_coords=seams,
        source_chunks=dataset_scan.chunks if reasons else None,
    )
    copies = copies if node.shards is None else copies.take(order_by_shard(copies.coords, node))
    return JoinPlan(array=array, pieces=pieces, manifest=copies.manifest, coords=copies.coords, files=copies.files)


def plan_grid(dataset_scan: DatasetScan, settings: Settings, grid: Grid | None) -> tuple[ArrayNode, tuple[str, ...]]:
    """Return the array, with the chunks and shards of `grid` if there is one, and why no chunk can be copied."""
    if grid is not None and len(grid[0]) != len(dataset_scan.record.shape or ()) + len(dataset_scan.type.element_shape):
        grid = None  # that of an array without the new dimension, which cannot be kept
    node, reasons = plan_node(dataset_scan, settings, None if grid is None else grid[0])
    return node if grid is None else replace(node, shards=grid[1]), reasons


def find_keys(stored: StoredChunks, node: ArrayNode) -> ChunkCoords:
    """Return the coordinates of the key that each chunk is in."""
    return stored.coords if node.shards is None else stored.coords // shard_counts(node)


def add_stored_shards(seams: ChunkCoords, stored: StoredChunks, pieces: Pieces, *, node: ArrayNode) -> ChunkCoords:
    """Return the shards that are decoded, with those in which the store has elements beside chunks that are copied."""
    if node.shards is None or IN_STORE not in pieces.files:
        return seams
    coords = find_keys(stored, node)
    coords = coords[pieces.have_files(coords[:, pieces.axis], node.shards[pieces.axis], in_store=True)]
    return np.unique(np.concatenate([seams, coords]), axis=0)


def list_whole_pieces(pieces: Pieces, files: Mapping[int, FileChunks], shape: Shape) -> tuple[ChunkCoords, ChunkCoords]:
    """Return first elements and ends of pieces of which all is read, since their files do not say what they store."""
    is_read_whole = [all(shape) and file in files and files[file].is_read_whole for file in pieces.files.tolist()]
    numbers = np.flatnonzero(np.array(is_read_whole, bool))
    starts, stops = (
        np.zeros((len(numbers), len(shape)), np.int64),
        np.tile(np.array(shape, np.int64), (len(numbers), 1)),
    )
    starts[:, pieces.axis], stops[:, pieces.axis] = pieces.bounds[numbers], pieces.bounds[numbers + 1]
    return starts, stops


def is_among(coords: ChunkCoords, keys: ChunkCoords, node: ArrayNode) -> NDArray[np.bool_]:
    """Return which of some keys of the store are among others."""
    counts = count_chunks(node.shape, node.write_shape)
    if not len(keys) or not len(coords) or not prod(counts):
        return np.zeros(len(coords), bool)
    if not counts:
        return np.ones(len(coords), bool)
    return np.isin(np.ravel_multi_index(tuple(coords.T), counts), np.ravel_multi_index(tuple(keys.T), counts))


def count_keys(copies: StoredChunks, node: ArrayNode) -> int:
    """Return how many keys of the store copied chunks are in."""
    if node.shards is None:
        return len(copies.files)
    return len(np.unique(find_keys(copies, node), axis=0))


def cut_units(number: int, plan: JoinPlan, nbytes: int) -> Iterator[tuple[int, Unit]]:
    """Yield the units of an array, of about `nbytes`, each with the number of the first piece that it needs."""
    for unit in cut_copies(number, plan, nbytes):
        assert unit.files is not None
        yield int(unit.files[0]), unit
    node, axis = plan.array.node, plan.pieces.axis
    sizes = np.full(len(plan.array.chunk_coords), prod(node.write_shape) * estimate_itemsize(node.dtype), np.int64)
    for start, stop in cut_plan(plan.array, sizes, nbytes):
        coords = plan.array.chunk_coords[start:stop]
        first = int(coords[0, axis]) * node.write_shape[axis]
        size = max(unit_nbytes(plan.array, sizes[start:stop], start=start), 1)
        yield int(np.searchsorted(plan.pieces.bounds, first, side="right")) - 1, Unit(number, coords, size)


def cut_copies(number: int, plan: JoinPlan, nbytes: int) -> Iterator[Unit]:
    """Yield the units of the chunks that are copied; the chunks of one shard stay together."""
    sizes, node, most = plan.manifest.nbytes, plan.array.node, nbytes * COPIED_FACTOR
    bounds = None
    if node.shards is not None and len(sizes):
        starts = find_starts(plan.coords // shard_counts(node))
        bounds, sizes = np.append(starts, len(sizes)), np.add.reduceat(sizes, starts)
    for start, stop in cut_batches(sizes, most, UNIT_CHUNKS):
        rows = slice(start, stop) if bounds is None else slice(int(bounds[start]), int(bounds[stop]))
        manifest = plan.manifest.take(rows)
        size = max(int(manifest.nbytes.sum()), 1)
        yield Unit(array=number, chunk_coords=plan.coords[rows], nbytes=size, manifest=manifest, files=plan.files[rows])
