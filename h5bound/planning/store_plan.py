"""Plan a whole store from the scan of its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.errors import UnsafeSourceError, UnsupportedError
from h5bound.planning.plan import plan_array, plan_sequences
from h5bound.planning.work_units import plan_units
from h5bound.reports import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.work_units import Unit


@dataclass(frozen=True, slots=True, eq=False)
class StorePlan:
    """What is written of a whole file."""

    arrays: tuple[ArrayPlan, ...]
    """Arrays; the two of a dataset of sequences one after the other."""
    units: tuple[Unit, ...]
    """Chunks of all arrays, cut into work units."""
    skipped: tuple[Skipped, ...]
    """Objects, links and attributes that are left out."""


def plan_store(scan: SourceScan, settings: Settings, limits: Limits, window: int) -> StorePlan:
    """Return the plan of a whole file, which is read in windows of so many bytes."""
    arrays: list[ArrayPlan] = []
    skipped = list(scan.skipped)
    left = limits.max_chunks
    for dataset_scan in scan.datasets:
        try:
            if dataset_scan.ends is None:
                plans: tuple[ArrayPlan, ...] = (plan_array(dataset_scan, settings, left),)
            else:
                plans = plan_sequences(dataset_scan, settings, left)
        except UnsafeSourceError as error:
            skipped.append(Skipped(dataset_scan.record.path, str(error), unsafe=True))
            continue
        left -= sum(len(plan.chunk_coords) for plan in plans)
        arrays += plans
    return StorePlan(tuple(arrays), tuple(plan_units(arrays, window)), tuple(skipped))


def refuse(file: str, skipped: Iterable[Skipped]) -> None:
    """Raise one error that lists everything that cannot be converted, except what exclude and include leave out.

    It is an UnsafeSourceError if the first lies outside the file or passes a limit, else an UnsupportedError.
    """
    unsupported = [item for item in skipped if not item.asked]
    if not unsupported:
        return
    error_type = UnsafeSourceError if unsupported[0].unsafe else UnsupportedError
    lines = "; ".join(map(str, unsupported))
    raise error_type(f"{file}: {lines} (on_unsupported='skip' leaves it out and lists it)")
