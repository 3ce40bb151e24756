"""The stored chunks of many files in terms of an array that is joined from them: whole chunks of it, and seams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import check_count, list_overlapping, sort_chunk_coords
from h5bound.hdf5.chunk_index import ChunkManifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.pieces import Pieces
    from h5bound.zarr_model.array_spec import ArrayNode

BOXES_AT_ONCE = 1 << 14
"""Stored chunks that are decoded, of which it is found at once in which chunks of the store they are."""

BATCH = 1 << 11
"""Stored chunks of several files that are compared with the grid of the store at once."""

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

    @property
    def is_read_whole(self) -> bool:
        """Whether all of it is read: nothing says where it has other values than the fill value of the array."""
        return not self.has_fill or (self.is_stored and self.manifest is None)


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


def list_stored(
    pieces: Pieces, files: Mapping[int, FileChunks], node: ArrayNode, *, finder: SeamFinder, can_copy: bool
) -> StoredChunks:
    """Return the stored chunks of all files that can be chunks of the store; `finder` gets all others."""
    found = [(number, files[file]) for number, file in enumerate(pieces.files.tolist()) if file >= 0]
    manifests = [file.manifest for _, file in found if file.manifest is not None]
    stored, stop = StoredChunks.make(manifests, len(node.shape)), 0
    for batch in batch_alike(found):
        own_manifests = [file.manifest for _, file in batch if file.manifest is not None]
        manifest, numbers = join_manifests(own_manifests), np.array([number for number, _ in batch])
        if len(batch) > 1:
            numbers = np.repeat(numbers, [len(item.nbytes) for item in own_manifests])
        starts, stops, is_whole = list_boxes(pieces, numbers, batch[0][1], manifest=manifest, node=node)
        is_whole &= can_copy
        rows: Any = slice(None) if is_whole.all() else is_whole
        first, stop = stop, stop + int(np.count_nonzero(is_whole))
        own, part = stored.take(slice(first, stop)), manifest.take(rows)
        own.manifest.chunk_coords[:] = part.chunk_coords
        own.files[:] = np.broadcast_to(pieces.files[numbers], is_whole.shape)[rows]
        own.manifest.offsets[:], own.manifest.nbytes[:] = part.offsets, part.nbytes
        np.floor_divide(starts[rows], np.asarray(node.chunks, np.int64), out=own.coords)
        if stop - first < len(is_whole):
            others = ~is_whole & (starts < stops).all(axis=1)
            finder.add(starts[others], stops[others])
    return stored.take(slice(stop))


def batch_alike(found: Iterable[tuple[int, FileChunks]]) -> Iterator[list[tuple[int, FileChunks]]]:
    """Yield the files that have chunks, each with the number of its piece: those of one form together, but not many."""
    batch: list[tuple[int, FileChunks]] = []
    count = 0
    for number, file in found:
        size = 0 if file.manifest is None else len(file.manifest.nbytes)
        if not size:
            continue
        is_alike = batch and (file.chunks, file.is_same) == (batch[0][1].chunks, batch[0][1].is_same)
        if batch and (not is_alike or count + size > BATCH):
            yield batch
            batch, count = [], 0
        batch.append((number, file))
        count += size
    if batch:
        yield batch


def join_manifests(manifests: Sequence[ChunkManifest]) -> ChunkManifest:
    """Return one manifest of all rows of several; that of one file is not copied."""
    if len(manifests) == 1:
        return manifests[0]
    names = ("chunk_coords", "offsets", "nbytes", "masks")
    return ChunkManifest(**{name: np.concatenate([getattr(item, name) for item in manifests]) for name in names})


def list_boxes(
    pieces: Pieces, numbers: NDArray[np.int64], own: FileChunks, *, manifest: ChunkManifest, node: ArrayNode
) -> tuple[ChunkCoords, ChunkCoords, NDArray[np.bool_]]:
    """Return first elements and ends of the stored chunks of the files of some pieces, as far as they are in them.

    `manifest` has the chunks, in the order of their pieces, `numbers` the piece of each, or of all, and `own` is one of
    the files, whose chunks all have the same form. The last array says which can be chunks of the store: all of it is
    in the array, from a corner of the grid on.
    """
    axis, shape, ndim = pieces.axis, node.shape, len(node.shape)
    coords, chunks = manifest.chunk_coords, own.chunks or ()
    if pieces.is_new:
        coords, chunks = np.insert(coords, axis, 0, axis=1), (*chunks[:axis], 1, *chunks[axis:])
    if coords.shape[1] < ndim:  # axes of an HDF5 array type
        coords = np.pad(coords, ((0, 0), (0, ndim - coords.shape[1])))
    sizes = (*chunks, *shape[len(chunks) :])
    low, high = pieces.bounds[numbers], pieces.bounds[numbers + 1]  # of each piece along the axis
    starts = coords * np.asarray(sizes, np.int64)
    starts[:, axis] += low - pieces.skipped[numbers]
    stops = starts + np.asarray(sizes, np.int64)
    is_whole = (manifest.masks == 0) & (own.is_same and sizes == node.chunks)
    if is_whole.any():
        is_whole &= (starts % np.asarray(node.chunks, np.int64) == 0).all(axis=1) & (starts[:, axis] >= low)
        is_last = np.broadcast_to(high == shape[axis], is_whole.shape)
        ends = is_last.any() and starts[is_last, axis].max() < shape[axis] <= stops[is_last, axis].max()
        is_whole &= (stops[:, axis] <= high) | (is_last & ends)
        is_whole &= (starts < shape).all(axis=1) & (starts[:, axis] < high)
    stops = np.minimum(stops, shape)
    starts[:, axis], stops[:, axis] = np.maximum(starts[:, axis], low), np.minimum(stops[:, axis], high)
    return starts, stops, is_whole
