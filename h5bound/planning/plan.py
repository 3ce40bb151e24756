"""Plan the arrays of a store: pure functions from the scan of a dataset to its Zarr array.

::

    DatasetScan (one dataset) ──► ArrayPlan: chunks, shards, codecs, copy or decode, and why
                                │
                                ▼
                            Unit, Unit, …   some chunks each: read at once, written at once

A dataset is *copied* where the array can have the chunk grid of the dataset, and codecs that decode the encoded bytes
of HDF5 as they are. Otherwise it is *decoded*, and the report lists every reason. A unit covers whole target chunks (or
shards), so units can be written in any order, by any number of writers. Chunks are rows of arrays, not objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.chunk_grid import (
    AUTO_NBYTES,
    count_chunks,
    list_chunk_coords,
    list_overlapping,
    map_chunk_coords,
    plan_auto_chunks,
    plan_shards,
)
from h5bound.errors import UnsafeSourceError
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.planning.array_options import choose_chunks, choose_shards
from h5bound.planning.declared_sizes import MAX_RATIO
from h5bound.planning.read_boxes import plan_rows
from h5bound.zarr_model.array_spec import ArrayNode, estimate_itemsize, shard_counts
from h5bound.zarr_model.codec_options import describe_codecs, plan_chain
from h5bound.zarr_model.dimension_names import name_by_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.options import Settings
    from h5bound.planning.read_boxes import ReadBoxes
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.spill_layout import SpillLayout
    from h5bound.zarr_model.parts import Part


Strategy = Literal["copy", "decode", "sequences", "planned"]
"""How an array is made; sequences: elements of sequences, end to end; planned: the values are in the plan."""

UNFILTERED_MASK = 2**32 - 1
"""The mask of a chunk that did not go through the filter pipeline at all."""

MAX_UNWRITTEN = 2**28
"""Bytes that may always be written for chunks that were never written."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArrayPlan:
    """The plan of one Zarr array: of a dataset, or one of several that a dataset becomes."""

    path: str
    """Path of the dataset in reports."""
    node: ArrayNode
    """The Zarr array."""
    strategy: Strategy
    """How the array is made."""
    reasons: tuple[str, ...]
    """Why the encoded bytes are not copied; empty if they are."""
    stored_nbytes: int
    """Encoded bytes in the source."""
    chunk_coords: ChunkCoords
    """Coordinates of the chunks to write: in HDF5's grid if they are copied, else of target chunks or shards."""
    manifest: ChunkManifest | None = None
    """Copied: the encoded bytes of the chunks; those with a mask other than 0 are re-encoded."""
    part: Part | None = None
    """Which of the arrays of the dataset it is, if that becomes several."""
    sequence_ends: NDArray[np.int64] | None = None
    """Sequences: where the elements of each element of the dataset end in the array."""
    planned_values: NDArray[Any] | None = None
    """Planned: the values themselves."""
    source_chunks: Shape | None = None
    """Decoded: shape of what is decoded or read at once; None where HDF5 decides that."""
    source_coords: ChunkCoords | None = None
    """Decoded: coordinates of `source_chunks` that are stored; None for all of them."""
    boxes: ReadBoxes | None = None
    """Decoded: how chunks that overlap the same chunks of the source are read; None if no two do."""
    spill: SpillLayout | None = None
    """Decoded in two passes: where the elements are between them."""

    @property
    def is_column(self) -> bool:
        """Whether it is a column of compounds, with the rows of its dataset."""
        return self.part is not None and not self.part.flat


def plan_array(dataset_scan: DatasetScan, settings: Settings, limit: int) -> ArrayPlan:
    """Return the plan of an array that has the axes of its dataset.

    Raise UnsafeSourceError if the array would have more chunks than `limit`.
    """
    node, reasons = plan_node(dataset_scan, settings)
    if reasons:
        manifest, chunk_coords = None, plan_chunk_coords(dataset_scan, node, limit)
    else:
        manifest = plan_copies(dataset_scan, node, limit)
        manifest = manifest if node.shards is None else manifest.take(order_by_shard(manifest.chunk_coords, node))
        chunk_coords = manifest.chunk_coords
    return ArrayPlan(
        path=dataset_scan.record.path,
        node=drop_fill_v2(node, dataset_scan, settings, count=len(chunk_coords)),
        strategy="decode" if manifest is None else "copy",
        reasons=reasons,
        stored_nbytes=dataset_scan.record.stored_nbytes,
        chunk_coords=chunk_coords,
        manifest=manifest,
        part=dataset_scan.part,
        **({} if manifest is not None else find_source_chunks(dataset_scan, node)),
    )


def find_source_chunks(dataset_scan: DatasetScan, node: ArrayNode) -> dict[str, Any]:
    """Return the fields of a plan that say what is decoded at once, or which rows are read at once."""
    if dataset_scan.part is not None:  # a box of columns would be one of whole compounds while it is read
        return {}
    if dataset_scan.record.layout == "contiguous":
        return {"source_chunks": plan_rows(node.shape, node.write_shape, estimate_itemsize(node.dtype))}
    if dataset_scan.chunks is None or dataset_scan.manifest is None:
        return {"source_chunks": dataset_scan.chunks}
    coords = widen(dataset_scan.manifest.chunk_coords, len(node.shape))
    return {"source_chunks": dataset_scan.chunks, "source_coords": coords}


def drop_fill_v2(node: ArrayNode, dataset_scan: DatasetScan, settings: Settings, *, count: int) -> ArrayNode:
    """Drop the fill value of an array of format 2 if all chunks are written and the source has no ``_FillValue``.

    xarray masks every element that is equal to the fill value of an array of format 2.
    """
    total = prod(count_chunks(node.shape, node.chunks))
    if settings.zarr_format == 3 or count < total or "_FillValue" in dataset_scan.attributes:
        return node
    return replace(node, fill=replace(node.fill, json=None))


def plan_node(
    dataset_scan: DatasetScan, settings: Settings, chunks: Shape | None = None
) -> tuple[ArrayNode, tuple[str, ...]]:
    """Return the Zarr array, and every reason why it cannot have the encoded bytes of the dataset.

    `chunks` are those that it has already; None to choose them.
    """
    shape, dtype = dataset_scan.shape, dataset_scan.type.dtype
    asked = choose_chunks(settings, dataset_scan.record.path, shape, dtype=dtype, stored=dataset_scan.chunks)
    chunks = chunks or asked or plan_chunks(dataset_scan)
    reasons = explain_decoding(dataset_scan, settings, same_grid=chunks == dataset_scan.chunks)
    chain = dataset_scan.copy_chain
    if reasons or chain is None:
        chain = plan_chain(settings.codecs, dtype, chunks=chunks, zarr_format=settings.zarr_format)
    node = ArrayNode(
        target=dataset_scan.target,
        dtype=dtype,
        shape=shape,
        chunks=chunks,
        shards=choose_shards(settings, dataset_scan, chunks),
        chain=chain,
        fill=dataset_scan.fill,
        attributes=dataset_scan.attributes,
        dimension_names=dataset_scan.dimension_names or name_by_length(shape),
    )
    return node, reasons


def plan_chunks(dataset_scan: DatasetScan) -> Shape:
    """Return the chunks of an array for which none are asked: those of HDF5 if there are any.

    A column is read with all others of its rows: it has as many chunks of HDF5 in one as those that a dataset without
    chunks would have.
    """
    shape, record = dataset_scan.shape, dataset_scan.record
    if dataset_scan.part is None or record.shape is None or record.dtype is None:
        return dataset_scan.chunks or plan_auto_chunks(shape, estimate_itemsize(dataset_scan.type.dtype))
    itemsize = record.dtype.itemsize
    if record.chunks is None:
        rows = plan_auto_chunks(record.shape, itemsize)
    else:
        rows = plan_shards(record.shape, record.chunks, itemsize=itemsize, nbytes=AUTO_NBYTES)
    return rows + dataset_scan.type.element_shape


def explain_decoding(dataset_scan: DatasetScan, settings: Settings, *, same_grid: bool) -> tuple[str, ...]:
    """Return every reason why the encoded bytes cannot be copied; empty if they can."""
    record = dataset_scan.record
    if record.layout != "chunked":
        return ("never written" if record.layout == "contiguous" and not record.stored_nbytes else record.layout,)
    if dataset_scan.part is not None:
        return (dataset_scan.type.reason,)
    reasons = (
        (settings.codecs != "keep", f"codecs={describe_codecs(settings.codecs)}"),
        (not same_grid, "other chunks were asked for"),
        (dataset_scan.type.reason != "", dataset_scan.type.reason),
        (dataset_scan.copy_chain is None, dataset_scan.no_copy_reason),
        (record.edge_unfiltered is None, "HDF5 does not tell whether its edge chunks are filtered"),
    )
    return tuple(reason for holds, reason in reasons if holds)


def plan_chunk_coords(dataset_scan: DatasetScan, node: ArrayNode, limit: int) -> ChunkCoords:
    """Return the coordinates of target chunks that overlap stored data; of all if Zarr has no exact fill value."""
    nothing = np.zeros((0, len(node.shape)), dtype=np.int64)
    record = dataset_scan.record
    if record.shape is None:
        return nothing
    if not dataset_scan.fill.exact:
        check_unwritten(dataset_scan, node)
        return list_chunk_coords(node.shape, node.write_shape, limit)
    if dataset_scan.manifest is not None and dataset_scan.chunks is not None:
        chunk_coords = widen(dataset_scan.manifest.chunk_coords, len(node.shape))
        return map_chunk_coords(
            chunk_coords, shape=node.shape, source=dataset_scan.chunks, target=node.write_shape, limit=limit
        )
    if dataset_scan.boxes is not None:
        starts = widen(dataset_scan.boxes[:, 0], len(node.shape))
        inner = np.tile(np.asarray(dataset_scan.type.element_shape, np.int64), (len(starts), 1))
        stops = np.concatenate([dataset_scan.boxes[:, 1], inner], axis=1)
        return list_overlapping(starts, stops, chunks=node.write_shape, limit=limit)
    if record.stored_nbytes or record.layout in ("virtual", "external"):
        return list_chunk_coords(node.shape, node.write_shape, limit)
    return nothing


def plan_copies(dataset_scan: DatasetScan, node: ArrayNode, limit: int) -> ChunkManifest:
    """Return the manifest of the chunks to copy; those that must be re-encoded have a mask that is not 0.

    These are chunks for which HDF5 skipped a filter, partial edge chunks that it left unfiltered
    (``H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS``), and chunks never written where Zarr cannot represent the fill value.
    """
    manifest = dataset_scan.manifest
    assert manifest is not None
    chunk_coords = widen(manifest.chunk_coords, len(node.shape))
    copied = replace(manifest, chunk_coords=chunk_coords)
    if dataset_scan.record.edge_unfiltered:
        copied = replace(copied, masks=copied.mask_partial(node.shape, node.chunks, UNFILTERED_MASK))
    counts = count_chunks(node.shape, node.chunks)
    if dataset_scan.fill.exact or len(chunk_coords) == prod(counts):
        return copied
    check_unwritten(dataset_scan, node)
    all_coords = list_chunk_coords(node.shape, node.chunks, limit)
    rows = np.ravel_multi_index(tuple(chunk_coords.T), counts)
    nbytes, offsets = np.zeros(len(all_coords), np.int64), np.zeros(len(all_coords), np.int64)
    masks = np.full(len(all_coords), UNFILTERED_MASK, np.int64)
    nbytes[rows], offsets[rows], masks[rows] = copied.nbytes, copied.offsets, copied.masks
    return ChunkManifest(chunk_coords=all_coords, offsets=offsets, nbytes=nbytes, masks=masks)


def check_unwritten(dataset_scan: DatasetScan, node: ArrayNode) -> None:
    """Raise UnsafeSourceError if writing the whole dataset would write far more bytes than the source stores."""
    itemsize, stored = estimate_itemsize(node.dtype), dataset_scan.record.stored_nbytes
    declared = prod(node.shape) * itemsize
    whole = prod(count_chunks(node.shape, node.write_shape)) * prod(node.write_shape)
    written = dataset_scan.record.stored_chunks * prod(dataset_scan.chunks or ())
    outside = dataset_scan.record.layout in ("virtual", "external")
    if not outside and (whole - written) * itemsize > max(MAX_UNWRITTEN, MAX_RATIO * stored):
        raise UnsafeSourceError(
            f"{declared:,} bytes are declared and {stored:,} stored, and Zarr cannot represent its fill value, so "
            "all of them would be written; skip it with exclude="
        )


def order_by_shard(chunk_coords: ChunkCoords, node: ArrayNode) -> NDArray[np.intp]:
    """Return the order in which the chunks of one shard are together, in C order within it."""
    return np.lexsort(np.concatenate([chunk_coords // shard_counts(node), chunk_coords], axis=1).T[::-1])


def widen(chunk_coords: ChunkCoords, ndim: int) -> ChunkCoords:
    """Return the coordinates with the axes of an HDF5 array type, along which there is one chunk."""
    more = ndim - chunk_coords.shape[1]
    return np.pad(chunk_coords, ((0, 0), (0, more))) if more else chunk_coords
