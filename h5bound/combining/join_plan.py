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

from h5bound.chunk_grid import count_chunks, cut_batches, find_starts, list_chunk_coords, list_overlapping
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.planning.pieces import IN_STORE
from h5bound.planning.plan import ArrayPlan, drop_fill_v2, plan_node
from h5bound.planning.work_units import COPIED_FACTOR, UNIT_CHUNKS, Unit, cut_plan, unit_nbytes
from h5bound.zarr_model.array_spec import estimate_itemsize, shard_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.options import Settings
    from h5bound.planning.pieces import Pieces
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.zarr_model.array_spec import ArrayNode

    Grid = tuple[Shape, Shape | None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FileChunks:
    """What one file stores of an array."""

    manifest: ChunkManifest | None
    """Its chunks; None if it is not chunked, or its chunks have no known places."""
    chunks: Shape | None
    """Shape of its chunks."""
    is_stored: bool
    """Whether it stores anything; elsewhere its elements have the fill value."""
    is_same: bool
    """Whether its chunks can be copied: of the type, filters, chunks and fill value of the array, and not converted."""
    has_fill: bool
    """Whether elements that it does not store have the fill value of the array."""


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
    files: NDArray[np.int64]
    """The number of the file of each."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredChunks:
    """All stored chunks of an array, a row for each, in the order of the files and of their grids."""

    manifest: ChunkManifest
    files: NDArray[np.int64]
    """Number of the file."""
    starts: ChunkCoords
    """First element in the array."""
    stops: ChunkCoords
    """Element after the last one."""
    is_whole: NDArray[np.bool_]
    """Whether it can be a chunk of the store: all of it is in the array, from a corner of the grid on."""

    def take(self, rows: NDArray[np.bool_]) -> StoredChunks:
        """Return some of the rows."""
        return StoredChunks(
            manifest=self.manifest.take(rows),
            files=self.files[rows],
            starts=self.starts[rows],
            stops=self.stops[rows],
            is_whole=self.is_whole[rows],
        )


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
    stored = list_stored(pieces, files, node.shape, grid=node.chunks)
    stored = replace(stored, is_whole=stored.is_whole & (not reasons))
    if dataset_scan.fill.exact:
        whole = list_whole_pieces(pieces, files, node.shape)
        seams = list_seams(stored, whole, pieces, node=node, limit=limit)
        copies = stored.take(stored.is_whole & ~is_among(stored.starts, seams, node))
    else:  # all chunks are written
        every = list_chunk_coords(node.shape, node.write_shape, limit)
        copies = stored.take(stored.is_whole & (node.shards is None))
        copied = copies.starts // np.asarray(node.write_shape, np.int64)
        seams = every[~is_among(every * node.write_shape, copied, node)]
    array = ArrayPlan(
        path=dataset_scan.record.path,
        node=drop_fill_v2(node, dataset_scan, settings, count=len(seams) + count_keys(copies, node)),
        strategy="decode",
        reasons=reasons,
        stored_nbytes=dataset_scan.record.stored_nbytes,
        chunk_coords=seams,
        source_chunks=dataset_scan.chunks if reasons else None,
    )
    coords = copies.starts // np.asarray(node.chunks, np.int64)
    return order_by_shard(
        JoinPlan(array=array, pieces=pieces, manifest=copies.manifest, coords=coords, files=copies.files)
    )


def plan_grid(dataset_scan: DatasetScan, settings: Settings, grid: Grid | None) -> tuple[ArrayNode, tuple[str, ...]]:
    """Return the array, with the chunks and shards of `grid` if there is one, and why no chunk can be copied."""
    if grid is not None and len(grid[0]) != len(dataset_scan.record.shape or ()) + len(dataset_scan.type.element_shape):
        grid = None  # that of an array without the new dimension, which cannot be kept
    node, reasons = plan_node(dataset_scan, settings, None if grid is None else grid[0])
    return node if grid is None else replace(node, shards=grid[1]), reasons


def list_seams(
    stored: StoredChunks,
    whole: tuple[ChunkCoords, ChunkCoords],
    pieces: Pieces,
    *,
    node: ArrayNode,
    limit: int,
) -> ChunkCoords:
    """Return the chunks, or shards, that are decoded: those with elements of chunks that cannot be copied.

    `whole` are first elements and ends of pieces of which all is read.
    """
    others = stored.take(~stored.is_whole)
    starts, stops = np.concatenate([whole[0], others.starts]), np.concatenate([whole[1], others.stops])
    seams = list_overlapping(starts, stops, chunks=node.write_shape, limit=limit)
    if node.shards is None or IN_STORE not in pieces.files:
        return seams
    return add_stored_shards(seams, stored.starts[stored.is_whole], pieces, shards=node.shards)


def add_stored_shards(seams: ChunkCoords, copied: ChunkCoords, pieces: Pieces, *, shards: Shape) -> ChunkCoords:
    """Return the shards that are decoded, with those in which the store has elements beside chunks that are copied.

    `copied` are the first elements of these.
    """
    coords = copied // np.asarray(shards, np.int64)
    coords = coords[pieces.have_files(coords[:, pieces.axis], shards[pieces.axis], in_store=True)]
    return np.unique(np.concatenate([seams, coords]), axis=0)


def list_stored(pieces: Pieces, files: Mapping[int, FileChunks], shape: Shape, grid: Shape) -> StoredChunks:
    """Return the stored chunks of all files. `grid` is the shape of a chunk of the store."""
    parts = [
        list_stored_of(pieces, number, files[file], shape=shape, grid=grid)
        for number, file in enumerate(pieces.files.tolist())
        if file >= 0
    ]
    ndim = len(shape)
    nothing, no_rows = np.zeros(0, np.int64), np.zeros((0, ndim), np.int64)
    empty = ChunkManifest(chunk_coords=no_rows, offsets=nothing, nbytes=nothing, masks=nothing)
    none = StoredChunks(manifest=empty, files=nothing, starts=no_rows, stops=no_rows, is_whole=nothing.astype(bool))
    return join_rows([part for part in parts if part is not None] or [none])


def list_stored_of(pieces: Pieces, number: int, own: FileChunks, *, shape: Shape, grid: Shape) -> StoredChunks | None:
    """Return the stored chunks of the file of one piece that are in it; None if their places are not known."""
    manifest, axis, ndim = own.manifest, pieces.axis, len(shape)
    if manifest is None or not len(manifest.nbytes):
        return None
    coords, chunks = manifest.chunk_coords, own.chunks or ()
    if pieces.is_new:
        coords, chunks = np.insert(coords, axis, 0, axis=1), (*chunks[:axis], 1, *chunks[axis:])
    if coords.shape[1] < ndim:  # axes of an HDF5 array type
        coords = np.pad(coords, ((0, 0), (0, ndim - coords.shape[1])))
    sizes = np.asarray((*chunks, *shape[len(chunks) :]), np.int64)
    low, high = np.zeros(ndim, np.int64), np.asarray(shape, np.int64)  # corners of the piece in the array
    low[axis], high[axis] = pieces.bounds[number], pieces.bounds[number + 1]
    starts = coords * sizes
    starts[:, axis] += low[axis] - pieces.skipped[number]
    stops = starts + sizes
    is_on_grid = (starts % np.asarray(grid, np.int64) == 0).all(axis=1) & (tuple(sizes.tolist()) == grid)
    ends_all = high[axis] == shape[axis] and starts[:, axis].max(initial=0) < high[axis] <= stops[:, axis].max()
    is_inside = (starts >= low).all(axis=1) & ((stops[:, axis] <= high[axis]) | ends_all)
    stored = StoredChunks(
        manifest=manifest,
        files=np.full(len(coords), pieces.files[number]),
        starts=np.maximum(starts, low),
        stops=np.minimum(stops, high),
        is_whole=is_on_grid & is_inside & (manifest.masks == 0) & own.is_same,
    )
    return stored.take((stored.starts < stored.stops).all(axis=1))


def join_rows(parts: Sequence[StoredChunks]) -> StoredChunks:
    """Return the rows of several tables as one."""
    fields = ("chunk_coords", "offsets", "nbytes", "masks")
    manifests = {name: np.concatenate([getattr(part.manifest, name) for part in parts]) for name in fields}
    rows = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("files", "starts", "stops", "is_whole")
    }
    return StoredChunks(manifest=ChunkManifest(**manifests), **rows)


def list_whole_pieces(pieces: Pieces, files: Mapping[int, FileChunks], shape: Shape) -> tuple[ChunkCoords, ChunkCoords]:
    """Return first elements and ends of pieces of which all is read, since their files do not say what they store."""
    starts, stops = [], []
    for number, file in enumerate(pieces.files.tolist()):
        own = files.get(file)
        if own is None:  # the fill value
            continue
        if not own.has_fill or (own.is_stored and own.manifest is None):
            low, high = [0] * len(shape), list(shape)
            low[pieces.axis], high[pieces.axis] = int(pieces.bounds[number]), int(pieces.bounds[number + 1])
            if all(high):
                starts.append(low)
                stops.append(high)
    form = (-1, len(shape))
    return np.array(starts, np.int64).reshape(form), np.array(stops, np.int64).reshape(form)


def is_among(starts: ChunkCoords, keys: ChunkCoords, node: ArrayNode) -> NDArray[np.bool_]:
    """Return whether chunks that begin at these elements are in one of these keys of the store."""
    if not starts.shape[1]:
        return np.full(len(starts), bool(len(keys)))
    counts = count_chunks(node.shape, node.write_shape)
    if not prod(counts) or not len(starts):
        return np.zeros(len(starts), bool)
    numbers = np.ravel_multi_index(tuple((starts // np.asarray(node.write_shape, np.int64)).T), counts)
    return np.isin(numbers, np.ravel_multi_index(tuple(keys.T), counts))


def count_keys(copies: StoredChunks, node: ArrayNode) -> int:
    """Return how many keys of the store copied chunks are in."""
    if node.shards is None:
        return len(copies.files)
    return len(np.unique(copies.starts // np.asarray(node.shards, np.int64), axis=0))


def order_by_shard(plan: JoinPlan) -> JoinPlan:
    """Return the plan with the copied chunks of one shard together."""
    node = plan.array.node
    if node.shards is None:
        return plan
    shards = plan.coords // shard_counts(node)
    order = np.lexsort(np.concatenate([shards, plan.coords], axis=1).T[::-1])
    return replace(plan, manifest=plan.manifest.take(order), coords=plan.coords[order], files=plan.files[order])


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
    starts = np.arange(len(sizes)) if node.shards is None else find_starts(plan.coords // shard_counts(node))
    bounds = np.append(starts, len(sizes))
    batches = cut_batches(np.add.reduceat(sizes, starts), most, UNIT_CHUNKS) if len(starts) else []
    for start, stop in batches:
        rows = slice(int(bounds[start]), int(bounds[stop]))
        manifest = plan.manifest.take(rows)
        size = max(int(manifest.nbytes.sum()), 1)
        yield Unit(array=number, chunk_coords=plan.coords[rows], nbytes=size, manifest=manifest, files=plan.files[rows])
