"""Find datasets whose values cannot be converted, before anything is written.

Text may not be UTF-8, and references may have no target: only the values show that. If such a value would end the
conversion, the values are read once before it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.execution.work import UnitResult, Work, list_problems
from h5bound.planning.source_values import (
    SourceValues,
    cut_units,
    describe_values,
    list_rows,
    read_or_explain,
    read_unit_values,
)
from h5bound.reports.entries import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan, Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.dtypes import ZarrType


def find_unsupported(
    scan: SourceScan, plan: StorePlan, *, run: Callable[..., list[UnitResult]], window: int
) -> list[Skipped]:
    """Return the datasets whose values cannot be converted, with reasons. `run` is `run_units` with its options."""
    arrays = {array.path: array for array in reversed(plan.arrays)}  # of sequences the first, `values`
    values, chunk_coords = [], []
    for dataset_scan in scan.datasets:
        array = arrays.get(dataset_scan.record.path)
        if array is not None and may_be_unsupported(dataset_scan.type):
            values.append(describe_values(scan, dataset_scan, array, write_shape=array.node.write_shape))
            is_sequences = dataset_scan.sequence_ends is not None
            chunk_coords.append(list_rows(dataset_scan.record.shape) if is_sequences else array.chunk_coords)
    units = cut_units(values, chunk_coords, window)
    results = run(PROBE, values, units) if units else []
    return [Skipped(path, problem) for path, problem in list_problems(values, results).items()]


def may_be_unsupported(zarr_type: ZarrType) -> bool:
    """Return whether a type may have values that Zarr cannot hold; the scan has read all references."""
    if zarr_type.form == "object_reference":
        return False
    return zarr_type.source.hasobject if zarr_type.values is None else may_be_unsupported(zarr_type.values)


def probe_unit(opened: OpenFile, values: SourceValues, unit: Unit) -> str:
    """Read a unit, and return why it cannot be converted; "" if it can."""
    return read_or_explain(opened, values, lambda: read_unit_values(opened, values, unit)).problem


def report_unit(_values: SourceValues, unit: Unit, problem: str) -> UnitResult:
    """Return the result of reading a unit: nothing is written."""
    return UnitResult(unit.array, problem=problem, unreadable=bool(problem))


PROBE = Work("probe", read=probe_unit, use=report_unit)
"""The work of each unit before a conversion."""
