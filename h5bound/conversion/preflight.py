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


def find_unsupported(
    scan: SourceScan, plan: StorePlan, *, run: Callable[..., list[UnitResult]], window: int
) -> list[Skipped]:
    """Return the datasets whose values cannot be converted, with reasons. `run` is `run_units` with its options."""
    scans = {dataset_scan.record.path: dataset_scan for dataset_scan in scan.datasets}
    values, chunk_coords = [], []
    for array in plan.arrays:
        described = describe_values(scan, scans[array.path], array, write_shape=array.node.write_shape)
        if array.strategy != "planned" and described.type.form == "plain" and described.type.source.hasobject:
            values.append(described)
            chunk_coords.append(list_rows(described.shape) if described.flat else array.chunk_coords)
    units = cut_units(values, chunk_coords, window)
    results = run(PROBE, values, units) if units else []
    return [Skipped(path, problem) for path, problem in list_problems(values, results).items()]


def probe_unit(opened: OpenFile, values: SourceValues, unit: Unit) -> str:
    """Read a unit, and return why it cannot be converted; "" if it can."""
    return read_or_explain(opened, values, lambda: read_unit_values(opened, values, unit)).problem


def report_unit(_values: SourceValues, unit: Unit, problem: str) -> UnitResult:
    """Return the result of reading a unit: nothing is written."""
    return UnitResult(unit.array, problem=problem, unreadable=bool(problem))


PROBE = Work("probe", read=probe_unit, use=report_unit)
"""The work of each unit before a conversion."""
