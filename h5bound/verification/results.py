"""The differences that a comparison has found in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5bound.conversion.provenance import read_provenance
from h5bound.errors import TargetError
from h5bound.reports.entries import Difference
from h5bound.verification.values import list_differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from h5bound.execution.work import UnitResult
    from h5bound.stores.target import Target
    from h5bound.verification.tree import Comparison


def check_same_store(store: Target, document: Mapping[str, Any]) -> None:
    """Raise TargetError if a store is not the one with this provenance any more."""
    if read_provenance(store) != document:
        raise TargetError(f"{store.url}: the store was replaced during the comparison; compare again")


def list_all_differences(comparison: Comparison, results: Sequence[UnitResult], other: str) -> Iterator[Difference]:
    """Yield all differences; before the first one, if there is one, that the source is another file."""
    differences = [*comparison.differences, *list_value_differences(comparison, results)]
    if differences and other:
        yield Difference("/", other)
    yield from differences


def list_value_differences(comparison: Comparison, results: Sequence[UnitResult]) -> Iterator[Difference]:
    """Yield a difference for each dataset whose values differ, or were skipped though they can be read."""
    unreadable = {comparison.jobs[item.array].path for item in results if item.unreadable}
    for path, difference in list_differences(comparison.jobs, results).items():
        if path not in comparison.retried:
            yield Difference(path, difference)
    for path, reason in comparison.retried.items():
        if path not in unreadable:
            yield Difference(path, f"skipped as unreadable, but it can be read: {reason}")
