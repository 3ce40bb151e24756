"""What cannot be carried because of its values, found before anything is written.

Text may not be UTF-8, and references may lead nowhere: only the values tell. Where that ends a conversion, the values
are read once before it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.execution.work import Work
from h5bound.planning.source_values import SourceValues, cut_units, describe_values, list_rows, read_values
from h5bound.reports import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.dtypes import ZarrType


@dataclass(frozen=True, slots=True)
class Probed:
    """What reading a work unit gave."""

    path: str
    """of the dataset"""
    problem: str
    """why its values cannot be carried; "" if they can"""


def find_unsupported(
    scan: SourceScan, plan: StorePlan, run: Callable[..., list[Probed]], window: int
) -> Iterator[Skipped]:
    """Yield each dataset whose values cannot be carried, with the reason.

    Parameters
    ----------
    survey
        Of the source.
    plan
        Of the store.
    run
        `run_units`, with all that it takes but for the work, the jobs and the units.
    window
        Bytes.
    """
    dataset_scan = {item.record.path: item for item in scan.datasets}
    values, chunk_coords, seen = [], [], set[str]()
    for array in plan.arrays:
        told = dataset_scan[array.path]
        if array.path in seen or not may_be_unsupported(told.type):
            continue
        seen.add(array.path)
        values.append(describe_values(scan, told, array, array.node.write_shape))
        chunk_coords.append(array.chunk_coords if told.ends is None else list_rows(told.record.shape))
    units = cut_units(values, chunk_coords, window)
    problems: dict[str, str] = {}
    for item in run(PROBE, values, units) if units else []:
        if item.problem:
            problems.setdefault(item.path, item.problem)
    for path, problem in problems.items():
        yield Skipped(path, problem)


def may_be_unsupported(zarr_type: ZarrType) -> bool:
    """Return whether values of a type may be such that Zarr does not hold them."""
    return zarr_type.source.hasobject if zarr_type.values is None else may_be_unsupported(zarr_type.values)


def probe_unit(opened: OpenFile, values: SourceValues, unit: Unit) -> Probed:
    """Read a work unit, and return what is wrong with it."""
    return Probed(values.path, read_values(opened, values, unit, read=opened.read, convert=True)[1])


def keep(probed: Probed) -> Probed:
    """Return what reading gave: there is nothing to write."""
    return probed


def leave(_values: SourceValues) -> None:
    """Check and tidy nothing: nothing is written."""


PROBE = Work("probe", probe_unit, keep, leave, leave)
"""What is done with each unit before a conversion."""
