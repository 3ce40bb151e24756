"""The report of a conversion."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

import h5py

from h5bound.hdf5.type_names import describe_type
from h5bound.planning.read_boxes import measure
from h5bound.reports.conversion import ConversionReport
from h5bound.reports.entries import Converted, Rechunking, Skipped, SourceInfo, describe_foreign, read_version
from h5bound.reports.tree import Grid
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from h5bound.execution.work import UnitResult
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.reports.entries import Strategy
    from h5bound.stores.target import Target


def make_report(
    scan: SourceScan,
    plan: StorePlan,
    target: Target,
    *,
    written: Iterable[UnitResult],
    failed: Mapping[str, str],
    complete: bool,
    window: int,
    foreign: Sequence[str] = (),
) -> ConversionReport:
    """Return the report of a conversion, without its duration.

    `window` is the bytes of a window, `foreign` the files of other programs in the store.
    """
    file = scan.hierarchy
    return ConversionReport(
        source=SourceInfo(path=file.file, size=file.size, mtime_ns=file.mtime_ns, hdf5=h5py.version.hdf5_version),
        target=target.url,
        complete=complete,
        seconds=0.0,
        h5bound=read_version(),
        converted=list_converted(scan, plan, results=written, failed=failed, window=None if complete else window),
        skipped=list_skipped(plan, failed),
        links=scan.links,
        notes=(*scan.notes, *describe_foreign(foreign)),
    )


def list_skipped(plan: StorePlan, failed: Mapping[str, str]) -> tuple[Skipped, ...]:
    """Return the objects that are not in the store, with reasons: skipped by the plan, or unreadable."""
    return (*plan.skipped, *(Skipped(path, reason) for path, reason in failed.items()))


def list_converted(
    scan: SourceScan,
    plan: StorePlan,
    *,
    results: Iterable[UnitResult],
    failed: Collection[str],
    window: int | None,
) -> tuple[Converted, ...]:
    """Return the report's entry of each group and dataset that is in the store, ordered by path.

    With `window`, that of a dry run, an entry says how its array will be read.
    """
    chunks, nbytes = Counter[str](), Counter[str]()
    for result in results:
        path = plan.arrays[result.array].path
        chunks[path] += result.chunks
        nbytes[path] += result.nbytes
    arrays = {array.path: array for array in reversed(plan.arrays)}  # of sequences the first, `values`
    datasets = {item.record.path: item for item in scan.datasets}
    entries = [Converted(group.path, group.target) for group in scan.groups]
    for path, array in arrays.items():
        if path not in failed:
            entries.append(
                Converted(
                    path=path,
                    target=scan.targets[path],
                    how=find_strategy(array),
                    chunks=chunks[path],
                    stored_nbytes=array.stored_nbytes,
                    written_nbytes=nbytes[path],
                    reasons=explain_decoded(array),
                    rechunking=None if window is None else describe_rechunking(array, window),
                    grid=None if path not in datasets else describe_grid(datasets[path], array),
                )
            )
    return tuple(sorted(entries, key=lambda entry: entry.path.split("/")))


def describe_grid(item: DatasetScan, array: ArrayPlan) -> Grid:
    """Return type, shape and chunks of the array of a dataset; without chunks if it became several arrays."""
    names = () if item.dimensions is None else item.dimensions.names
    if array.part is not None or item.record.shape is None:
        shape, chunks, shards = item.record.shape, None, None
    else:
        shape, chunks, shards = array.node.shape, array.node.chunks, array.node.shards
    dtype = item.record.dtype
    varies = dtype is None or dtype.hasobject
    return Grid(
        type=describe_type(dtype),
        shape=shape,
        chunks=chunks,
        shards=shards,
        nbytes=None if dtype is None or varies else prod(item.rows) * dtype.itemsize,
        dims=names if len(names) == len(shape or ()) else (),
    )


def describe_rechunking(plan: ArrayPlan, window: int) -> Rechunking | None:
    """Return how an array is read in boxes, two windows or boxes in memory; None if it is not."""
    if plan.boxes is None:
        return None

    node, itemsize = plan.node, estimate_itemsize(plan.node.dtype)
    grids = [plan.boxes.box, *([] if plan.boxes.cell is None else [plan.boxes.cell])]
    total = prod(node.shape) * itemsize
    cells = 0 if plan.spill is None else len(plan.spill.cells) * measure(plan.spill.cell, node.shape, itemsize)
    return Rechunking(
        passes=plan.boxes.passes,
        memory=min(total, 2 * max(window, *(measure(grid, node.shape, itemsize) for grid in grids))),
        read=plan.stored_nbytes,
        written=min(total, len(plan.chunk_coords) * measure(node.write_shape, node.shape, itemsize)),
        temporary=min(total, cells),
    )


def find_strategy(plan: ArrayPlan) -> Strategy:
    """Return the report's word for how a dataset was converted."""
    if not len(plan.chunk_coords):
        return "metadata"
    if plan.manifest is None:
        return "decoded"
    return "mixed" if plan.manifest.masks.any() else "copied"


def explain_decoded(plan: ArrayPlan) -> tuple[str, ...]:
    """Return the reasons why chunks were not copied."""
    if plan.manifest is None or not plan.manifest.masks.any():
        return plan.reasons
    re_encoded = plan.manifest.masks != 0
    counts = {
        "re-encoded: HDF5 skipped a filter for them": int((re_encoded & (plan.manifest.nbytes > 0)).sum()),
        "never written: given their fill value": int((re_encoded & (plan.manifest.nbytes == 0)).sum()),
    }
    total = len(plan.chunk_coords)
    return tuple(f"{count:,} of {total:,} chunks {reason}" for reason, count in counts.items() if count)
