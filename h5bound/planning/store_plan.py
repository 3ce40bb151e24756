"""A whole store: planned from a survey, and finished with its documents and the mark."""

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
    """What becomes of a whole file."""

    arrays: tuple[ArrayPlan, ...]
    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]


def plan_store(scan: SourceScan, settings: Settings, limits: Limits, window: int) -> StorePlan:
    """Give the plan of a whole file, read in windows of so many bytes: pure."""
    arrays: list[ArrayPlan] = []
    skipped = list(scan.skipped)
    room = limits.max_chunks
    for dataset_scan in scan.datasets:
        try:
            sequences = dataset_scan.ends is not None
            plans = (
                plan_sequences(dataset_scan, settings, room)
                if sequences
                else (plan_array(dataset_scan, settings, room),)
            )
            room -= sum(len(plan.chunk_coords) for plan in plans)
            arrays += plans
        except UnsafeSourceError as error:
            skipped.append(Skipped(dataset_scan.record.path, str(error), unsafe=True))
    return StorePlan(tuple(arrays), tuple(plan_units(arrays, window)), tuple(skipped))


def refuse(file: str, skipped: Iterable[Skipped]) -> None:
    """Raise if anything cannot be carried, listing all of it.

    Raises
    ------
    UnsafeSourceError
        The first such thing lies outside the file, or passes a limit.
    UnsupportedError
        The first such thing has no form in Zarr, or cannot be read.
    """
    found = [item for item in skipped if not item.asked]
    if not found:
        return
    kind = UnsafeSourceError if found[0].unsafe else UnsupportedError
    way = "on_unsupported='skip' leaves it out and lists it"
    raise kind(f"{file}: {'; '.join(map(str, found))} ({way})")
