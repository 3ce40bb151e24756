"""What became of a conversion, as its report says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from h5bound.reports import Converted, Skipped, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from h5bound.execution.work import UnitResult
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.reports import Strategy


def list_skipped(plan: StorePlan, failed: Mapping[str, str]) -> tuple[Skipped, ...]:
    """Give everything that is not in the store."""
    return (*plan.skipped, *(Skipped(path, reason) for path, reason in failed.items()))


def list_converted(
    scan: SourceScan, plan: StorePlan, written: Iterable[UnitResult], failed: Mapping[str, str]
) -> tuple[Converted, ...]:
    """Give the report's entry of each group and dataset that is in the store, by path."""
    chunks, nbytes = [0] * len(plan.arrays), [0] * len(plan.arrays)
    for item in written:
        chunks[item.array] += item.chunks
        nbytes[item.array] += item.nbytes
    numbers: dict[str, list[int]] = {}
    for number, array in enumerate(plan.arrays):
        numbers.setdefault(array.path, []).append(number)
    entries = [Converted(group.path, group.target) for group in scan.groups]
    for dataset_scan in scan.datasets:
        path = dataset_scan.record.path
        if path in numbers and path not in failed:
            mine = numbers[path]
            first = plan.arrays[mine[0]]
            count, size = sum(chunks[i] for i in mine), sum(nbytes[i] for i in mine)
            entries.append(
                Converted(
                    path, dataset_scan.target, find_strategy(first), count, first.stored_nbytes, size, explain(first)
                )
            )
    return tuple(sorted(entries, key=lambda entry: entry.path.split("/")))


def find_strategy(plan: ArrayPlan) -> Strategy:
    """Give the word of the report for the way that a dataset went."""
    if not len(plan.chunk_coords):
        return "metadata"
    if plan.manifest is None:
        return "decoded"
    return "mixed" if plan.manifest.masks.any() else "copied"


def explain(plan: ArrayPlan) -> tuple[str, ...]:
    """Give the reasons why stored chunks were not kept."""
    if plan.manifest is None or not plan.manifest.masks.any():
        return plan.reasons
    anew = plan.manifest.masks != 0
    counts = {
        "encoded anew: HDF5 stored them otherwise": int((anew & (plan.manifest.nbytes > 0)).sum()),
        "never written: given their fill value": int((anew & (plan.manifest.nbytes == 0)).sum()),
    }
    return tuple(f"{count:,} of {len(plan.chunk_coords):,} chunks {what}" for what, count in counts.items() if count)


def describe_source(scan: SourceScan) -> SourceInfo:
    """Give the report's entry of the source."""
    index = scan.hierarchy
    return SourceInfo(index.file, index.size, index.mtime_ns, h5py.version.hdf5_version)
