"""What cannot be carried for what it holds, found before anything is written.

Text may not be UTF-8, and references may lead nowhere: only the values tell. Where that ends a conversion, they are
read once more, before it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.comparison import COMPARE, UNREADABLE, cell_nbytes, cut_comparison, list_differing, list_rows, make_job
from h5bound.report import Skipped
from h5bound.units import choose_unit_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from h5bound.comparison import Compared
    from h5bound.datatypes import ZarrType
    from h5bound.store import StorePlan
    from h5bound.survey import Survey


def find_refused(survey: Survey, plan: StorePlan, run: Callable[..., list[Compared]], window: int) -> Iterator[Skipped]:
    """Give each dataset whose values cannot be carried, with the reason.

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
    facts = {item.record.path: item for item in survey.datasets}
    jobs, cells, seen = [], [], set[str]()
    for array in plan.arrays:
        told = facts[array.path]
        if array.path in seen or not may_be_refused(told.type):
            continue
        seen.add(array.path)
        jobs.append(make_job(survey, told, array))
        cells.append(array.cells if told.ends is None else list_rows(told.record.shape))
    pairs = list(zip(jobs, cells, strict=True))
    nbytes = choose_unit_nbytes(window, sum(cell_nbytes(job) * len(found) for job, found in pairs))
    units = [unit for number, (job, found) in enumerate(pairs) for unit in cut_comparison(number, job, found, nbytes)]
    for path, what in list_differing(run(COMPARE, jobs, units) if units else []).items():
        yield Skipped(path, what.removeprefix(UNREADABLE))


def may_be_refused(kind: ZarrType) -> bool:
    """Tell whether values of a type may be such that Zarr does not hold them."""
    return kind.source.hasobject if kind.values is None else may_be_refused(kind.values)
