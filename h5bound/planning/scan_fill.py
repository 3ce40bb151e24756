"""Choose the fill value of an array: in format 2 readers take data that equals it for missing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from h5py import h5d

from h5bound.chunk_grid import count_chunks
from h5bound.hdf5.virtual_mappings import list_boxes
from h5bound.reports.text import format_nbytes
from h5bound.zarr_model.array_spec import estimate_itemsize
from h5bound.zarr_model.fill_values import FillValue, choose_fill_v2, make_fill_value, read_shown_fill
from h5bound.zarr_model.parts import take_members

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.scan_context import ScanContext
    from h5bound.zarr_model.attributes import AttributesRecord
    from h5bound.zarr_model.dtypes import ZarrType


MAX_HOLES = 10_000
"""Chunks never written that are always written in format 2."""

MAX_HOLES_NBYTES = 1 << 24
"""Bytes of chunks never written that are always written in format 2, where xarray would mask their value."""


def read_fill(
    context: ScanContext,
    dataset: h5py.Dataset,
    record: DatasetRecord,
    *,
    zarr_type: ZarrType,
    attributes: AttributesRecord,
    manifest: ChunkManifest | None,
    steps: tuple[Any, ...] = (),
) -> FillValue:
    """Read the fill value, of a column that of a member; in format 2 choose one that xarray does not take for data."""
    zarr_format = context.settings.zarr_format
    shown = take_members(read_shown_fill(dataset), steps)
    fill = make_fill_value(zarr_type.convert(shown, context.resolve), zarr_format)
    if zarr_format == 3:
        return fill
    holes = count_unwritten(record, manifest, read_boxes(dataset, record))
    return choose_fill(context, record, zarr_type=zarr_type, holes=holes, fill=fill, attributes=attributes)


def choose_fill(
    context: ScanContext,
    record: DatasetRecord,
    *,
    zarr_type: ZarrType,
    holes: tuple[int, int],
    fill: FillValue,
    attributes: AttributesRecord,
) -> FillValue:
    """Return the fill value in format 2, where xarray masks all that equals it; note where it will mask data.

    Without a ``_FillValue`` in the source there is none if the chunks never written can be written: `holes` are their
    number and their elements.
    """
    chunks, elements = holes
    nbytes = elements * prod(zarr_type.element_shape) * estimate_itemsize(zarr_type.dtype)
    few = chunks <= max(MAX_HOLES, record.stored_chunks) and nbytes <= max(MAX_HOLES_NBYTES, record.stored_nbytes)
    if attributes.fill is not None or few:
        return choose_fill_v2(fill, attributes.fill)
    bare = attributes.dimensions is not None and attributes.dimensions.bare
    if fill.exact and not bare and fill.json != "NaN":
        xarray = "cannot open it" if zarr_type.dtype.names else f"masks every element that equals {fill.json!r}"
        text = f"{format_nbytes(nbytes)} were never written: in format 2 xarray {xarray} unless it is told"
        context.log.note(record.path, f"{text} mask_and_scale=False; format 3 has no such rule")
    return fill


def read_boxes(dataset: h5py.Dataset, record: DatasetRecord) -> NDArray[np.int64] | None:
    """Return the boxes of the parts of a virtual dataset; None for another, or if no fill value is defined."""
    if record.layout != "virtual" or not record.shape:
        return None
    plist = dataset.id.get_create_plist()
    is_defined = plist.fill_value_defined() != h5d.FILL_VALUE_UNDEFINED
    return list_boxes(plist, record.shape) if is_defined else None


def count_unwritten(
    record: DatasetRecord, manifest: ChunkManifest | None, boxes: NDArray[np.int64] | None
) -> tuple[int, int]:
    """Return how many chunks were never written, and their elements; 0 chunks unless the dataset is chunked.

    `boxes` are the parts of a virtual dataset, of which elements outside of all are counted, if these do not overlap.
    """
    shape, stored = record.shape or (), record.stored_nbytes
    if boxes is not None:
        return 0, max(prod(shape) - sum(prod(sides) for sides in (boxes[:, 1] - boxes[:, 0]).tolist()), 0)
    if manifest is None or record.chunks is None:
        return 0, 0 if stored or record.shape is None or record.layout == "virtual" else prod(shape)
    chunks = prod(count_chunks(shape, record.chunks)) - len(manifest.chunk_coords)
    return chunks, chunks * prod(record.chunks)
