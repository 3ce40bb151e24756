"""What becomes of every dataset: pure functions from what was read of a file to what is written.

::

    DatasetScan (one dataset) ──► ArrayPlan: chunks, shards, codecs, copy or decode, and why
                                │
                                ▼
                            Unit, Unit, …   some chunks each: read at once, written at once

A dataset is *copied* where the array of the store can have the chunk grid of the dataset and codecs that read
the very bytes that HDF5 stored. It is *decoded* otherwise, and each reason stands in the report. Either way a unit
covers whole chunks (or shards) of the store, so that units can be written in any order, by any number of writers.

Nothing here touches a file. Chunks are rows of arrays, never objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.chunk_grid import (
    count_chunks,
    list_chunk_coords,
    list_overlapping,
    map_chunk_coords,
    plan_auto_chunks,
    plan_shards,
)
from h5bound.errors import OptionError, UnsafeSourceError
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.planning.selection import match_shape
from h5bound.zarr_model.array_spec import ArrayNode, plan_chain, shard_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.zarr_model.dtypes import ZarrType


Strategy = Literal["copy", "decode", "sequences", "given"]
"""sequences: `values` of variable-length sequences; given: the values stand in the plan."""

UNFILTERED_MASK = 2**32 - 1
"""The mask of a chunk that did not go through the filter pipeline at all."""

MAX_UNWRITTEN = 2**28
"""Bytes that are written for chunks that are not there, whatever is stored beside them."""

MAX_SHARE = 1032
"""As many times what is stored may be declared: deflate packs no better."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPlan:
    """What becomes of one dataset, or of one of the two arrays of a variable-length one."""

    path: str
    """in the source"""
    node: ArrayNode
    type: ZarrType
    strategy: Strategy
    reasons: tuple[str, ...]
    """why stored chunks are not kept; empty where they are"""
    stored_nbytes: int
    """bytes in the source"""
    chunk_coords: ChunkCoords
    """what is written: chunks where copied, else keys of the store (shards or chunks)"""
    manifest: ChunkManifest | None = None
    """of the cells, where copied; those with a mask other than 0 are encoded anew"""
    given: NDArray[Any] | None = None
    """the values, where they stand in the plan"""
    ends: NDArray[np.int64] | None = None
    """sequences: where each one ends in `values`"""


def plan_array(dataset_scan: DatasetScan, settings: Settings, limit: int) -> ArrayPlan:
    """Give the plan of one dataset that is not of variable-length sequences.

    Parameters
    ----------
    facts
        Of the dataset.
    settings
        The options.
    limit
        How many chunks it may have.

    Raises
    ------
    UnsafeSourceError
        It would be more.
    """
    node, reasons = plan_node(dataset_scan, settings)
    record = dataset_scan.record
    if reasons:
        chunk_coords = plan_chunk_coords(dataset_scan, node, limit)
        node = without_mask(node, dataset_scan, settings, len(chunk_coords))
        return ArrayPlan(record.path, node, dataset_scan.type, "decode", reasons, record.stored_nbytes, chunk_coords)
    manifest = order_by_shard(plan_copies(dataset_scan, node, limit), node)
    node = without_mask(node, dataset_scan, settings, len(manifest.chunk_coords))
    return ArrayPlan(
        record.path, node, dataset_scan.type, "copy", (), record.stored_nbytes, manifest.chunk_coords, manifest
    )


def without_mask(node: ArrayNode, dataset_scan: DatasetScan, settings: Settings, count: int) -> ArrayNode:
    """Give the array without a fill value where a reader would take it for a missing value that nobody meant.

    xarray masks what is equal to the fill value of an array of format 2. Where every chunk is there, and the source
    has no ``_FillValue``, the array needs none.
    """
    every = prod(count_chunks(node.shape, node.chunks))
    if settings.zarr_format == 3 or count < every or "_FillValue" in dataset_scan.attributes:
        return node
    return replace(node, fill=replace(node.fill, json=None))


def plan_node(dataset_scan: DatasetScan, settings: Settings) -> tuple[ArrayNode, tuple[str, ...]]:
    """Give the array to make, and every reason why stored chunks cannot be kept in it."""
    path, shape, dtype = dataset_scan.record.path, dataset_scan.shape, dataset_scan.type.dtype
    itemsize = estimate_itemsize(dtype)
    wanted = match_shape(settings.chunks, path, len(shape))
    chunks = wanted if isinstance(wanted, tuple) else dataset_scan.chunks or plan_auto_chunks(shape, itemsize)
    reasons = explain_decoding(dataset_scan, settings, same_grid=chunks == dataset_scan.chunks)
    chain = dataset_scan.kept
    if reasons or chain is None:
        chain = plan_chain(
            settings.codecs, dtype, endian=dataset_scan.type.endian, chunks=chunks, zarr_format=settings.zarr_format
        )
    # zarr-python 3.1 cannot read a compound fill value in shards
    shards = choose_shards(settings, path, shape, chunks, itemsize) if dtype.names is None else None
    node = ArrayNode(
        dataset_scan.target,
        dtype,
        shape,
        chunks,
        shards,
        chain,
        dataset_scan.fill,
        dataset_scan.attributes,
        dataset_scan.dimension_names,
    )
    return node, reasons


def explain_decoding(dataset_scan: DatasetScan, settings: Settings, *, same_grid: bool) -> tuple[str, ...]:
    """Give every reason why the stored chunks cannot be kept; none where they can."""
    record = dataset_scan.record
    if record.layout != "chunked":
        return (record.layout,)
    found = (
        (settings.codecs != "keep", f"codecs={settings.codecs}"),
        (not same_grid, "other chunks were asked for"),
        (not dataset_scan.type.raw, dataset_scan.type.reason),
        (dataset_scan.kept is None, dataset_scan.kept_reason),
        (record.edge_unfiltered is None, "HDF5 does not tell whether its edge chunks are filtered"),
    )
    return tuple(reason for holds, reason in found if holds)


def plan_chunk_coords(dataset_scan: DatasetScan, node: ArrayNode, limit: int) -> ChunkCoords:
    """Give the keys to write where a dataset is decoded: those that meet something stored.

    Where the store cannot say the fill value, all of them.
    """
    nothing = np.zeros((0, len(node.shape)), dtype=np.int64)
    record = dataset_scan.record
    if record.shape is None:
        return nothing
    if not dataset_scan.fill.exact:
        check_unwritten(dataset_scan, node)
        return list_chunk_coords(node.shape, node.write_shape, limit)
    if dataset_scan.manifest is not None and dataset_scan.chunks is not None:
        chunk_coords = widen(dataset_scan.manifest.chunk_coords, len(node.shape))
        return map_chunk_coords(chunk_coords, node.shape, dataset_scan.chunks, node.write_shape, limit)
    if dataset_scan.boxes is not None:
        inner = dataset_scan.type.element_shape
        starts = widen(dataset_scan.boxes[:, 0], len(node.shape))
        stops = np.concatenate(
            [dataset_scan.boxes[:, 1], np.tile(np.asarray(inner, np.int64), (len(starts), 1))], axis=1
        )
        return list_overlapping(starts, stops, node.write_shape, limit)
    if record.stored_nbytes or record.layout in ("virtual", "external"):
        return list_chunk_coords(node.shape, node.write_shape, limit)
    return nothing


def plan_copies(dataset_scan: DatasetScan, node: ArrayNode, limit: int) -> ChunkManifest:
    """Give the chunks to copy; those that must be encoded anew have a mask that is not 0.

    These are chunks for which HDF5 skipped a filter, partial edge chunks that it left unfiltered
    (``H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS``), and chunks never written where the store cannot say the fill value.
    """
    manifest = dataset_scan.manifest
    assert manifest is not None
    chunk_coords = widen(manifest.chunk_coords, len(node.shape))
    masks = manifest.masks
    if dataset_scan.record.edge_unfiltered:
        ends = (chunk_coords + 1) * np.asarray(node.chunks, dtype=np.int64)
        partial = (ends > np.asarray(node.shape, dtype=np.int64)).any(axis=1)
        masks = np.where(partial, UNFILTERED_MASK, masks)
    copied = replace(manifest, chunk_coords=chunk_coords, masks=masks)
    counts = count_chunks(node.shape, node.chunks)
    if dataset_scan.fill.exact or len(chunk_coords) == prod(counts):
        return copied
    check_unwritten(dataset_scan, node)
    every = list_chunk_coords(node.shape, node.chunks, limit)
    rows = np.ravel_multi_index(tuple(chunk_coords.T), counts)
    nbytes, offsets = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    masks = np.full(len(every), UNFILTERED_MASK, np.int64)
    nbytes[rows], offsets[rows], masks[rows] = copied.nbytes, copied.offsets, copied.masks
    return ChunkManifest(chunk_coords=every, offsets=offsets, nbytes=nbytes, masks=masks)


def check_unwritten(dataset_scan: DatasetScan, node: ArrayNode) -> None:
    """Make sure that it is not for nothing that all of a dataset has to be written.

    Raises
    ------
    UnsafeSourceError
        Far more is declared than stored.
    """
    declared, stored = prod(node.shape) * estimate_itemsize(node.dtype), dataset_scan.record.stored_nbytes
    outside = dataset_scan.record.layout in ("virtual", "external")
    if not outside and declared > max(MAX_UNWRITTEN, MAX_SHARE * stored):
        raise UnsafeSourceError(
            f"{declared:,} bytes are declared and {stored:,} stored, and Zarr cannot say its fill value, so that all "
            "of them would be written; leave it out with exclude"
        )


def order_by_shard(manifest: ChunkManifest, node: ArrayNode) -> ChunkManifest:
    """Give the chunks with those of one shard together, in C order within it."""
    if node.shards is None:
        return manifest
    keys = np.concatenate([manifest.chunk_coords // shard_counts(node), manifest.chunk_coords], axis=1)
    return manifest.take(np.lexsort(keys.T[::-1]))


def widen(chunk_coords: ChunkCoords, ndim: int) -> ChunkCoords:
    """Give the cells with the axes of an HDF5 array type, along which there is one chunk."""
    return np.pad(chunk_coords, ((0, 0), (0, ndim - chunk_coords.shape[1])))


def choose_shards(settings: Settings, path: str, shape: Shape, chunks: Shape, itemsize: int) -> Shape | None:
    """Give the shape of a shard, None where none were asked for.

    Raises
    ------
    OptionError
        It is not whole chunks.
    """
    wanted = match_shape(settings.shards, path, len(shape))
    if wanted is None or not shape:
        return None
    if isinstance(wanted, int):
        return plan_shards(shape, chunks, itemsize, wanted)
    if any(shard % chunk for shard, chunk in zip(wanted, chunks, strict=True)):
        raise OptionError(f"shards={wanted} for {path!r}: not whole chunks of {chunks}")
    return wanted


def plan_sequences(dataset_scan: DatasetScan, settings: Settings, limit: int) -> tuple[ArrayPlan, ArrayPlan]:
    """Give the plans of the two arrays that hold variable-length sequences: `values` and `offsets`.

    Sequence i of the dataset, in C order, is ``values[offsets[i]:offsets[i + 1]]``.
    """
    values, ends = dataset_scan.type.values, dataset_scan.ends
    assert values is not None
    assert ends is not None
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    length = (int(offsets[-1]), *values.element_shape)
    reasons = (dataset_scan.type.reason,)
    path = dataset_scan.record.path
    first = plan_sequence_array(dataset_scan, settings, "values", length, values.dtype, values.endian)
    second = plan_sequence_array(dataset_scan, settings, "offsets", offsets.shape, offsets.dtype, "little")
    chunk_coords = [list_chunk_coords(node.shape, node.chunks, limit) for node in (first, second)]
    stored_nbytes = dataset_scan.record.stored_nbytes
    return (
        ArrayPlan(path, first, dataset_scan.type, "sequences", reasons, stored_nbytes, chunk_coords[0], ends=ends),
        ArrayPlan(path, second, dataset_scan.type, "given", reasons, 0, chunk_coords[1], given=offsets),
    )


def plan_sequence_array(
    dataset_scan: DatasetScan, settings: Settings, name: str, shape: Shape, dtype: np.dtype[Any], endian: str
) -> ArrayNode:
    """Give one of the two arrays of variable-length sequences."""
    from h5bound.zarr_model.fill_values import FillValue, fill_to_json

    chunks = plan_auto_chunks(shape, estimate_itemsize(dtype))
    chain = plan_chain(settings.codecs, dtype, endian=endian, chunks=chunks, zarr_format=settings.zarr_format)
    zero = np.zeros((), dtype)
    json, exact = fill_to_json(zero, settings.zarr_format)
    fill = FillValue(zero, json, exact)
    return ArrayNode(f"{dataset_scan.target}/{name}", dtype, shape, chunks, None, chain, fill, {}, None)


def estimate_itemsize(dtype: np.dtype[Any]) -> int:
    """Give bytes of an element in memory, an estimate for text of variable length."""
    return 64 if dtype.kind == "T" else max(int(dtype.itemsize), 1)
