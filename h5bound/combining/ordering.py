"""The order of files along a dimension, by the values of its coordinate: overlaps, and gaps against a regular step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.time_units import is_time, move_times, parse_units
from h5bound.errors import UnsupportedError
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from h5bound.combining.differences import FileNames, Findings
    from h5bound.combining.file_scan import VariableScan
    from h5bound.combining.joined import Rules

    Values = NDArray[Any]

REGULAR_SHARE = 0.75
"""Share of the steps that are the same where a step is regular."""

MIN_STEPS = 3
"""Steps that tell whether they are regular."""

SORT = "sort=True orders the files by it, sort=False joins them as given"
LATE = "update=True with sort=True puts a late file to its place, if all files of the store after it are named too"
AT_END = "sort=False adds it at the end"


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """What each file contributes along an axis."""

    skips: NDArray[np.int64]
    """Elements that are left out before the first."""
    counts: NDArray[np.int64]
    """Elements from there on."""

    @classmethod
    def of_all(cls, values: Sequence[Values]) -> Cuts:
        """Return those that leave out nothing."""
        return cls(np.zeros(len(values), np.int64), np.array([item.size for item in values], np.int64))

    def apply(self, values: Sequence[Values]) -> list[Values]:
        """Return what is left of values along the axis."""
        ends = self.skips + self.counts
        return [item[skip:end] for item, skip, end in zip(values, self.skips.tolist(), ends.tolist(), strict=True)]


def read_coordinate(found: Sequence[VariableScan | None]) -> list[Values] | None:
    """Return the values of a coordinate in each file, times in the units of the first one.

    None if a file has no values that are known, or none that can be compared.
    """
    values: list[Values] = []
    first: VariableScan | None = None
    for item in found:
        if item is None or item.values is None:
            return None
        first = first or item
        own, wanted = ((it.attributes.get("units"), it.attributes.get("calendar", "")) for it in (item, first))
        if own == wanted:
            values.append(item.values.reshape(-1))
            continue
        if not (is_time(own[0]) and is_time(wanted[0])):
            return None
        try:
            change = parse_units(str(own[0]), str(own[1])).convert_to(parse_units(str(wanted[0]), str(wanted[1])))
            values.append(move_times(item.values.reshape(-1), *change, dtype=np.dtype("f8")))
        except UnsupportedError:
            return None
    return values


def name_unit(item: VariableScan | None) -> str:
    """Return the unit of differences of a coordinate after a space: of times that before "since"; "" without one."""
    units = None if item is None else item.attributes.get("units")
    return f" {units.partition(' since ')[0].strip()}" if isinstance(units, str) and units.strip() else ""


def sort_files(values: Sequence[Values]) -> NDArray[np.int64]:
    """Return the numbers of files in the order of their first values, those without any last.

    Descending if all files of several values are.

    >>> sort_files([np.array([3, 4]), np.array([]), np.array([1, 2])]).tolist()
    [2, 0, 1]
    """
    several = [item for item in values if item.size > 1]
    falls = bool(several) and all(item[0] > item[-1] for item in several)
    filled = [i for i, item in enumerate(values) if item.size]
    keys = np.array([values[i][0].item() for i in filled])
    order = np.argsort(-keys if falls else keys, kind="stable")
    empty = [i for i, item in enumerate(values) if not item.size]
    return np.array([*(filled[i] for i in order.tolist()), *empty], np.int64)


def cut_files(
    path: str,
    values: Sequence[Values],
    *,
    rules: Rules,
    findings: Findings,
    unit: str = "",
    in_store: Sequence[bool] = (),
) -> Cuts:
    """Return what each file contributes so that no two files have a value of the coordinate; tell what is odd.

    Files are in their final order. `unit` is that of differences of values, after a space, and `in_store` says which
    are read from the store that the others are added to.
    """
    repeated = [i for i, item in enumerate(values) if np.unique(item).size < item.size]
    if repeated:
        findings.note(path, "a file has a value of the coordinate twice", repeated)
    rising = make_rising(values)
    overlapping = find_shared(values) if rising is None else find_overlapping(rising)
    if overlapping and rules.overlap == "refuse":
        action, option = advise_overlap(rising)
        findings.refuse(path, f"files overlap: {describe_shared(values)}", overlapping, action=action, option=option)
        return Cuts.of_all(values)
    if overlapping:
        cuts = cut_overlaps(path, values, rising, overlapping=overlapping, rules=rules, findings=findings)
        kept = None if rising is None else cuts.apply(rising)
        if kept is not None and are_in_order(kept):
            note_gaps(path, kept, findings, unit=unit)
        return cuts
    if rising is None or not are_in_order(rising):
        if rules.sort is None and rising is not None:
            numbers = [i for i in range(1, len(rising)) if not are_in_order(rising[i - 1 : i + 1])]
            action = advise_late(rising, in_store, findings.names) if any(in_store) else SORT
            findings.refuse(path, "the files are not in the order of the coordinate", numbers, action=action)
        if rules.sort is None and rising is None:
            numbers = [i for i, item in enumerate(values) if make_rising([item]) is None] or [*range(len(values))]
            what = "the coordinate does not rise or fall throughout each file, so the order of files is not checked"
            findings.note(path, what, numbers, action="joined as given")
        return Cuts.of_all(values)
    note_gaps(path, rising, findings, unit=unit)
    return Cuts.of_all(values)


def make_rising(values: Sequence[Values]) -> list[Values] | None:
    """Return the values so that they rise in each file, with another sign where they fall; None where neither holds."""
    if not all(np.isfinite(item).all() for item in values):
        return None
    if any(item.dtype.kind == "u" and item.size and item.max() >= 1 << 63 for item in values):
        return None
    signed = [item.astype(np.int64) if item.dtype.kind == "u" else item for item in values]
    steps = [np.diff(item) for item in signed if item.size > 1]
    firsts = [item[0].item() for item in signed if item.size]
    if all((step < 0).all() for step in steps) and (steps or (len(firsts) > 1 and firsts[0] > firsts[-1])):
        return [-item for item in signed]
    return signed if all((step > 0).all() for step in steps) else None


def are_in_order(rising: Sequence[Values]) -> bool:
    """Return whether each file begins after the end of all before it."""
    filled = [item for item in rising if item.size]
    return all(one[-1] < two[0] for one, two in pairwise(filled))


def advise_late(rising: Sequence[Values], in_store: Sequence[bool], names: FileNames) -> str:
    """Return what to do about a file that belongs before some of a store; those after it have to be named with it.

    >>> from h5bound.combining.differences import FileNames
    >>> times, names = [np.array([0]), np.array([2]), np.array([3]), np.array([1])], FileNames(["a", "c", "d", "b"])
    >>> advise_late(times, [True, True, True, False], names).partition(": ")[2]
    'c, d (2 files); sort=False adds it at the end'
    """
    filled = [(item[0], stored) for item, stored in zip(rising, in_store, strict=True) if item.size]
    first = min((start for start, stored in filled if not stored), default=None)
    pairs = enumerate(zip(rising, in_store, strict=True))
    after = [i for i, (item, stored) in pairs if stored and item.size and first is not None and item[0] > first]
    return f"{LATE}: {names.describe(after)}; {AT_END}" if after else SORT


def find_overlapping(rising: Sequence[Values]) -> list[int]:
    """Return the files whose ranges of values share something with that of another file.

    >>> find_overlapping([np.array([1, 3]), np.array([3, 4]), np.array([7])])
    [0, 1]
    """
    filled = sorted((i for i, item in enumerate(rising) if item.size), key=lambda i: rising[i][0])
    found: set[int] = set()
    last = None
    for i in filled:
        if last is not None and rising[i][0] <= rising[last][-1]:
            found |= {i, last}
        if last is None or rising[i][-1] > rising[last][-1]:
            last = i
    return sorted(found)


def find_owners(values: Sequence[Values]) -> tuple[Values, NDArray[np.int64]]:
    """Return all different values in their order, and the first file that has each."""
    every = np.concatenate(values)
    unique, firsts = np.unique(every, return_index=True)
    ends = np.cumsum([item.size for item in values])
    return unique, np.searchsorted(ends, firsts, side="right")


def find_shared(values: Sequence[Values]) -> list[int]:
    """Return the files that have a value that a file before them has."""
    unique, owners = find_owners(values)
    return [i for i, item in enumerate(values) if item.size and (owners[np.searchsorted(unique, item)] < i).any()]


def describe_shared(values: Sequence[Values]) -> str:
    """Return how many values several files have."""
    every = np.concatenate([np.unique(item) for item in values])
    count = every.size - np.unique(every).size
    return f"{plural(count, 'value')} of the coordinate in several of them" if count else "their ranges, in no value"


def advise_overlap(rising: Sequence[Values] | None) -> tuple[str, bool]:
    """Return what to do about files that overlap, and whether options decide it.

    >>> advise_overlap([np.array([1, 2, 3, 4]), np.array([2, 3])])
    ("overlap='first' takes the elements of one file", True)
    >>> advise_overlap([np.array([3, 4]), np.array([2, 3])])
    ("sort=True with overlap='first' or overlap='last' takes the elements of one file", True)
    >>> advise_overlap([np.array([1, 3]), np.array([2, 4])])
    ('leave files out, or make them anew: an element of one is between those of another', False)
    """
    if rising is None:
        return "leave files out, or make them anew: the coordinate does not rise or fall throughout each file", False
    in_order = sorted((item for item in rising if item.size), key=lambda item: item[0].item())  # as `sort_files` does
    for before, order in (("", rising), ("sort=True with ", in_order)):
        ways = [f"overlap={way!r}" for way in ("first", "last") if not cut_shared(order, backwards=way == "last")[1]]
        if ways:
            return f"{before}{' or '.join(ways)} takes the elements of one file", True
    return "leave files out, or make them anew: an element of one is between those of another", False


def cut_overlaps(
    path: str,
    values: Sequence[Values],
    rising: Sequence[Values] | None,
    *,
    overlapping: Sequence[int],
    rules: Rules,
    findings: Findings,
) -> Cuts:
    """Return what files contribute if the first or last one of several has the elements at a value.

    What is left out of a file has to be in another one.
    """
    if rising is None:
        what = "files overlap, and the coordinate does not rise in each of them"
        findings.refuse(path, what, overlapping, action="leave files out, or make them anew", option=False)
        return Cuts.of_all(values)
    cuts, lost = cut_shared(rising, backwards=rules.overlap == "last")
    if lost:
        what = (
            f"files overlap, and overlap={rules.overlap!r} would leave out values of the coordinate that no other has"
        )
        action, option = advise_overlap(rising)
        findings.refuse(path, what, lost, action=action, option=option)
    else:
        cut = sum(item.size for item in values) - int(cuts.counts.sum())
        what = f"files overlap in {plural(cut, 'element')}"
        findings.decide(path, what, overlapping, action=f"the {rules.overlap} of these files has them")
    return cuts


def cut_shared(rising: Sequence[Values], *, backwards: bool) -> tuple[Cuts, list[int]]:
    """Return what each file contributes beyond the end of all before it, or `backwards` before the start of all after.

    With it the files that would lose values which no file before them, or after them, has.

    >>> cuts, lost = cut_shared([np.array([1, 2, 3]), np.array([3, 4])], backwards=False)
    >>> cuts.skips.tolist(), cuts.counts.tolist(), lost
    ([0, 1], [3, 1], [])
    """
    cuts = Cuts.of_all(rising)
    order = [i for i in (range(len(rising))[::-1] if backwards else range(len(rising))) if rising[i].size]
    unique, owners = find_owners([rising[i] for i in order] or [np.zeros(0)])
    lost: list[int] = []
    bound = None
    for rank, i in enumerate(order):
        item = rising[i]
        if bound is not None:
            kept = int(np.searchsorted(item, bound, side="left" if backwards else "right"))
            gone = item[kept:] if backwards else item[:kept]
            if gone.size and (owners[np.searchsorted(unique, gone)] >= rank).any():
                lost.append(i)
            cuts.skips[i], cuts.counts[i] = (0, kept) if backwards else (kept, item.size - kept)
        end = item[0] if backwards else item[-1]
        bound = end if bound is None else min(bound, end) if backwards else max(bound, end)
    return cuts, lost


def note_gaps(path: str, rising: Sequence[Values], findings: Findings, *, unit: str) -> None:
    """Note where there is a gap against the step of the coordinate, if that is regular; `unit` is that of a step."""
    filled = [i for i, item in enumerate(rising) if item.size]
    steps = np.diff(np.concatenate([rising[i] for i in filled]).astype("f8")) if filled else np.zeros(0)
    step = float(np.median(steps)) if steps.size >= MIN_STEPS else 0.0
    if not step or np.isclose(steps, step, rtol=1e-6).mean() < REGULAR_SHARE:
        return
    starts = np.cumsum([rising[i].size for i in filled])[:-1] - 1  # the steps from one file to the next
    gaps = np.flatnonzero(steps > 1.5 * step)
    if gaps.size:
        numbers = [filled[k] for k in np.searchsorted(starts, gaps, side="left").tolist()]
        largest = steps[gaps].max()
        what = f"{plural(gaps.size, 'gap')} against the step of {step:g}, up to {largest:g}{unit}"
        findings.note(path, what, numbers, action="in or after these files")
