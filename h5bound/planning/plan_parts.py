"""Plan the arrays of a dataset: one, or the columns and sequences that it becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.chunk_grid import list_chunk_coords, plan_auto_chunks
from h5bound.planning.array_options import choose_chunks
from h5bound.planning.plan import ArrayPlan, plan_array
from h5bound.planning.scan_parts import PartScan
from h5bound.zarr_model.array_spec import ArrayNode, estimate_itemsize
from h5bound.zarr_model.codec_options import plan_chain
from h5bound.zarr_model.dimension_names import name_by_length
from h5bound.zarr_model.fill_values import FillValue, fill_to_json, make_zero

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.chunk_grid import Shape
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.zarr_model.parts import Part


def plan_arrays(dataset_scan: DatasetScan, settings: Settings, limit: int) -> list[ArrayPlan]:
    """Return the plans of the arrays that a dataset becomes.

    Raise UnsafeSourceError if they would have more chunks than `limit`.
    """
    plans: list[ArrayPlan] = []
    for scan in list_array_scans(dataset_scan):
        if isinstance(scan, PartScan):
            plans.append(plan_flat(dataset_scan, scan, settings=settings, limit=limit))
        else:
            plans.append(plan_array(scan, settings, limit))
        limit -= len(plans[-1].chunk_coords)
    return plans


def list_array_scans(dataset_scan: DatasetScan) -> Iterator[DatasetScan | PartScan]:
    """Yield the scans of the arrays of a dataset: those with its axes as if each were a dataset."""
    if not dataset_scan.parts:
        yield dataset_scan
    for item in dataset_scan.parts:
        part = item.part
        if part.flat:
            yield item
            continue
        yield replace(
            dataset_scan,
            type=part.type,
            target=f"{dataset_scan.target}/{part.target}",
            copy_chain=None,
            no_copy_reason="",
            fill=item.fill,
            attributes=item.attributes,
            dimension_names=name_axes_of(dataset_scan, part),
            parts=(),
            part=part,
        )


def name_axes_of(dataset_scan: DatasetScan, part: Part) -> tuple[str, ...]:
    """Return the names of the axes of a column: those of the dataset, and by its length for one of an array type."""
    shape = dataset_scan.rows + part.type.element_shape
    names = [str(name) for name in dataset_scan.dimension_names or ()]
    own = part.target.rpartition("/")[2]
    return name_by_length(shape, [] if own in names and len(shape) > 1 else names)


def plan_flat(dataset_scan: DatasetScan, scan: PartScan, *, settings: Settings, limit: int) -> ArrayPlan:
    """Return the plan of the elements of sequences, end to end, or of the offsets at which each begins."""
    record, part = dataset_scan.record, scan.part
    assert scan.ends is not None
    count = int(scan.ends[-1]) if len(scan.ends) else 0
    shape = (count, *part.type.element_shape) if scan.offsets is None else scan.offsets.shape
    target = f"{dataset_scan.target}/{part.target}"
    node = plan_flat_array(record.path, target, shape, scan=scan, settings=settings)
    return ArrayPlan(
        path=record.path,
        node=node,
        strategy="sequences" if scan.offsets is None else "planned",
        reasons=(dataset_scan.type.reason,),
        stored_nbytes=record.stored_nbytes,
        chunk_coords=list_chunk_coords(node.shape, node.chunks, limit),
        part=part,
        sequence_ends=scan.ends if scan.offsets is None else None,
        planned_values=scan.offsets,
    )


def plan_flat_array(path: str, target: str, shape: Shape, *, scan: PartScan, settings: Settings) -> ArrayNode:
    """Return the array of the elements or offsets of sequences."""
    dtype = scan.part.type.dtype
    chunks = choose_chunks(settings, path, shape, dtype=dtype) or plan_auto_chunks(shape, estimate_itemsize(dtype))
    zero = make_zero(dtype)
    json, exact = fill_to_json(zero, settings.zarr_format)
    if settings.zarr_format == 2:  # every chunk is written, and xarray would mask the zeros
        json = None
    return ArrayNode(
        target=target,
        dtype=dtype,
        shape=shape,
        chunks=chunks,
        shards=None,
        chain=plan_chain(settings.codecs, dtype, chunks=chunks, zarr_format=settings.zarr_format),
        fill=FillValue(zero, json, exact),
        attributes=scan.attributes,
        dimension_names=name_by_length(shape),
    )
