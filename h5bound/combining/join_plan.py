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
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import (
    check_count,
    count_chunks,
    cut_batches,
    find_starts,
    list_chunk_coords,
    list_overlapping,
    sort_chunk_coords,
)
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.planning.pieces import IN_STORE
from h5bound.planning.plan import ArrayPlan, drop_fill_v2, order_by_shard, plan_node
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

BOXES_AT_ONCE = 1 << 14
"""Stored chunks that are decoded, of which it is found at once in which chunks of the store they are."""


KEYS_AT_ONCE = 1 << 20
"""Chunks of the store with elements of these that are listed in any case; each may be listed many times."""


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
    files: NDArray[np.int32]
    """The number of the file of each."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredChunks:
    """Stored chunks that can be chunks of the store, a row for each, in the order of the files and of their grids."""

    manifest: ChunkManifest
    files: NDArray[np.int32]
    """Number of the file."""
    coords: ChunkCoords
    """Coordinates in the store."""

    @classmethod
    def make(cls, manifests: Sequence[ChunkManifest], ndim: int) -> StoredChunks:
        """Return room for the rows of manifests, whose masks are 0. What is not written to takes no memory.

        `ndim` are the axes of the array.
        """
        count, coords = sum(len(item.nbytes) for item in manifests), [item.chunk_coords for item in manifests]
        axes = max((item.shape[1] for item in coords), default=0)
        largest = max((int(item.max(initial=0)) for item in coords), default=0)
        manifest = ChunkManifest(
            chunk_coords=np.empty((count, axes), np.int32 if largest < 1 << 31 else np.int64),
            offsets=np.empty(count, np.int64),
            nbytes=np.empty(count, np.int64),
            masks=np.zeros(count, np.int64),
        )
        return cls(manifest, np.empty(count, np.int32), np.empty((count, ndim), np.int64))

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> StoredChunks:
        """Return some of the rows; no copy of all that a mask selects."""
        if isinstance(rows, np.ndarray) and rows.dtype == bool and rows.all():
            return self
        return StoredChunks(self.manifest.take(rows), self.files[rows], self.coords[rows])


class SeamFinder:
    """The keys of a store with elements of boxes, which are added one after another."""

    def __init__(self, node: ArrayNode, limit: int) -> None:
        self._node, self._limit = node, limit
        self._boxes: list[tuple[ChunkCoords, ChunkCoords]] = []
        self._keys: list[ChunkCoords] = []
        self._count = 0

    def add(self, starts: ChunkCoords, stops: ChunkCoords) -> None:
        """Add boxes by their first elements and ends. Raise UnsafeSourceError if there may be too many keys."""
        if len(starts):
            self._boxes.append((starts, stops))
            self._count += len(starts)
        if self._count > BOXES_AT_ONCE:
            self._collect()

    def find(self) -> ChunkCoords:
        """Return the coordinates of the keys, each once, in their order."""
        self._collect()
        keys = sort_chunk_coords(np.concatenate([np.zeros((0, len(self._node.shape)), np.int64), *self._keys]))
        check_count(len(keys), self._node.write_shape, self._limit)
        return keys

    def _collect(self) -> None:
        if self._boxes:
            starts, stops = (np.concatenate(parts) for parts in zip(*self._boxes, strict=True))
            room = max(self._limit, KEYS_AT_ONCE)  # boxes share keys, too
            self._keys.append(list_overlapping(starts, stops, chunks=self._node.write_shape, limit=room))
            if sum(map(len, self._keys)) > 2 * self._limit:  # perhaps the same ones: files share keys
                self._keys = [sort_chunk_coords(np.concatenate(self._keys))]
                check_count(len(self._keys[0]), self._node.write_shape, self._limit)
        self._boxes, self._count = [], 0


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


def list_stored(
    pieces: Pieces, files: Mapping[int, FileChunks], node: ArrayNode, *, finder: SeamFinder, can_copy: bool
) -> StoredChunks:
    """Return the stored chunks of all files that can be chunks of the store; `finder` gets all others."""
    numbers = [(number, file) for number, file in enumerate(pieces.files.tolist()) if file >= 0]
    manifests = [manifest for _, file in numbers if (manifest := files[file].manifest) is not None]
    stored, stop = StoredChunks.make(manifests, len(node.shape)), 0
    for number, file in numbers:
        manifest = files[file].manifest
        if manifest is None or not len(manifest.nbytes):
            continue
        starts, stops, is_whole = list_boxes(pieces, number, files[file], node=node)
        is_whole &= can_copy
        rows: Any = slice(None) if is_whole.all() else is_whole
        first, stop = stop, stop + int(np.count_nonzero(is_whole))
        own, part = stored.take(slice(first, stop)), manifest.take(rows)
        own.manifest.chunk_coords[:], own.files[:] = part.chunk_coords, file
        own.manifest.offsets[:], own.manifest.nbytes[:] = part.offsets, part.nbytes
        np.floor_divide(starts[rows], np.asarray(node.chunks, np.int64), out=own.coords)
        if stop - first < len(is_whole):
            others = ~is_whole & (starts < stops).all(axis=1)
            finder.add(starts[others], stops[others])
    return stored.take(slice(stop))


def list_boxes(
    pieces: Pieces, number: int, own: FileChunks, *, node: ArrayNode
) -> tuple[ChunkCoords, ChunkCoords, NDArray[np.bool_]]:
    """Return first elements and ends of the stored chunks of the file of one piece, as far as they are in it.

    The last array says which can be chunks of the store: all of it is in the array, from a corner of the grid on.
    """
    manifest, axis, shape, ndim = own.manifest, pieces.axis, node.shape, len(node.shape)
    assert manifest is not None
    coords, chunks = manifest.chunk_coords, own.chunks or ()
    if pieces.is_new:
        coords, chunks = np.insert(coords, axis, 0, axis=1), (*chunks[:axis], 1, *chunks[axis:])
    if coords.shape[1] < ndim:  # axes of an HDF5 array type
        coords = np.pad(coords, ((0, 0), (0, ndim - coords.shape[1])))
    sizes = (*chunks, *shape[len(chunks) :])
    low, high = np.zeros(ndim, np.int64), np.asarray(shape, np.int64)  # corners of the piece in the array
    low[axis], high[axis] = pieces.bounds[number], pieces.bounds[number + 1]
    starts = coords * np.asarray(sizes, np.int64)
    starts[:, axis] += low[axis] - pieces.skipped[number]
    stops = starts + np.asarray(sizes, np.int64)
    is_whole = (manifest.masks == 0) & (own.is_same and sizes == node.chunks)
    if is_whole.any():
        is_whole &= (starts % np.asarray(node.chunks, np.int64) == 0).all(axis=1) & (starts >= low).all(axis=1)
        ends_all = high[axis] == shape[axis] and starts[:, axis].max() < high[axis] <= stops[:, axis].max()
        is_whole &= (stops[:, axis] <= high[axis]) | ends_all
        is_whole &= (starts < high).all(axis=1)
    return np.maximum(starts, low), np.minimum(stops, high), is_whole


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
