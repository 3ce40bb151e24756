"""The order of files along a coordinate: for any files, no value is lost, and none is there twice."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from h5bound.buffers import is_exact
from h5bound.combining.conversions import Conversion, apply
from h5bound.combining.differences import FileNames, Findings
from h5bound.combining.joined import Rules
from h5bound.combining.ordering import advise_overlap, cut_files, find_overlapping, make_rising, sort_files
from h5bound.combining.time_units import move_times, parse_units
from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = st.lists(st.lists(st.integers(0, 20), unique=True, max_size=6).map(sorted), min_size=1, max_size=6)


def cut(values: Sequence[Any], **rules: Any) -> tuple[list[int], Findings]:
    """Return the values that files contribute one after another, and what was found."""
    arrays = [np.array(item, np.int64) for item in values]
    findings = Findings(FileNames([f"{i}.nc" for i in range(len(arrays))]))
    cuts = cut_files("/time", arrays, rules=Rules(dim="time", **rules), findings=findings)
    pieces = [
        item[skip : skip + count].tolist() for item, skip, count in zip(arrays, cuts.skips, cuts.counts, strict=True)
    ]
    return [value for piece in pieces for value in piece], findings


@settings(max_examples=60)
@given(FILES, st.sampled_from(["first", "last", "refuse"]))
def test_all_values_are_there_once_in_their_order_or_files_are_refused(
    files: list[list[int]], overlap: Literal["first", "last", "refuse"]
) -> None:
    order = sort_files([np.array(item) for item in files]).tolist()
    joined, findings = cut([files[i] for i in order], sort=True, overlap=overlap)
    if any(row.kind == "refused" for row in findings.rows):
        ranges = sorted((item[0], item[-1]) for item in files if item)
        assert any(one[1] >= two[0] for one, two in pairwise(ranges))
        return
    assert joined == sorted({value for item in files for value in item})


@settings(max_examples=100)
@given(files=FILES, falls=st.booleans())
@example(files=[[1, 5], [1, 3]], falls=False)
@example(files=[[5], [2], [0, 5], [0, 1]], falls=False)
def test_what_is_advised_on_an_overlap_is_what_cuts_it(files: list[list[int]], falls: bool) -> None:
    arrays = [np.array(item[::-1] if falls else item, np.int64) for item in files]
    rising = make_rising(arrays)
    if rising is None or not find_overlapping(rising):
        return
    orders = {"": arrays, "sort=True with ": [arrays[i] for i in sort_files(arrays)]}
    ways = {
        before: [way for way in ("first", "last") if cut(order, overlap=way)[1].rows[0].kind == "decided"]
        for before, order in orders.items()
    }
    advice, option = advise_overlap(rising)
    named = [way for way in ("first", "last") if f"overlap={way!r}" in advice]
    assert named == (ways[""] or ways["sort=True with "])
    assert advice.startswith("sort=True with ") == (not ways[""] and option)


@pytest.mark.parametrize("overlap", ["first", "last"])
@pytest.mark.parametrize("sign", [1, -1])
def test_gaps_are_told_where_files_overlap_too(overlap: Literal["first", "last"], sign: int) -> None:
    files = [np.arange(4), np.arange(2, 8), np.arange(2, 8), np.arange(10, 14)]
    joined, findings = cut([sign * item for item in files], overlap=overlap)
    assert joined == [sign * value for value in (*range(8), *range(10, 14))]
    assert [(row.kind, row.what) for row in findings.rows] == [
        ("decided", "files overlap in 8 elements"),
        ("note", "1 gap against the step of 1, up to 3"),
    ]


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.booleans())
def test_files_that_share_nothing_are_never_cut(lengths: list[int], falls: bool) -> None:
    ends = np.cumsum(lengths)
    files = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    files = [-item for item in files] if falls else files
    joined, findings = cut(files)
    assert joined == [value for item in files for value in item.tolist()]
    assert not findings.rows


@settings(max_examples=150)
@given(
    st.lists(st.integers(-(10**6), 10**6), max_size=5),
    st.fractions(min_value=Fraction(1, 1000), max_value=1000, max_denominator=1000),
    st.fractions(min_value=-1000, max_value=1000, max_denominator=24),
    st.sampled_from(["i4", "i8", "f4", "f8"]),
    st.sampled_from(["i4", "i8", "f4", "f8"]),
)
def test_times_are_moved_exactly_or_refused(
    times: list[int], factor: Fraction, offset: Fraction, dtype: str, to: str
) -> None:
    block = np.array(times, dtype)
    exact = [Fraction(value) * factor + offset for value in block.tolist()]
    try:
        moved = move_times(block, factor, offset, dtype=np.dtype(to))
    except UnsupportedError:
        with np.errstate(all="ignore"):
            nearest = [np.array(float(value)).astype(to).item() for value in exact]
        assert any(Fraction(one) != two for one, two in zip(nearest, exact, strict=True))
    else:
        assert moved.dtype == np.dtype(to)
        assert [Fraction(value) for value in moved.tolist()] == exact


@pytest.mark.parametrize(
    ("units", "calendar", "expected"),
    [
        ("days since 1970-01-02", "", 1),
        ("days since 1970-1-2 00:00:00", "gregorian", 1),
        ("days since 1970-01-02T00:00:00Z", "standard", 1),
        ("days since 1970-01-02 06:00 +06:00", "standard", 1),
        ("days since 1970-01-01 12:00:00.500000", "standard", Fraction(43200_500_000, 86400_000_000)),
        ("days since 1582-10-15", "standard", -141427),
        ("days since 1582-10-04", "standard", -141428),
    ],
)
def test_dates_of_units_are_read(units: str, calendar: str, expected: Fraction) -> None:
    first = parse_units("days since 1970-01-01", calendar)
    assert parse_units(units, calendar).convert_to(first) == (Fraction(1), Fraction(expected))


@pytest.mark.parametrize("units", ["months since 2000-01-01", "days since yesterday", "days since 2000-13-01"])
def test_units_without_a_fixed_length_or_date_are_refused(units: str) -> None:
    with pytest.raises(UnsupportedError):
        parse_units(units, "standard")


@pytest.mark.parametrize("calendar", ["standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian"])
def test_calendars_count_days_as_cftime_does(calendar: str) -> None:
    cftime = pytest.importorskip("cftime")
    for date in ((1, 1, 1), (1582, 10, 15), (1900, 3, 1), (2000, 2, 28), (2001, 12, 30)):
        first = parse_units("days since 1850-01-01", calendar)
        offset = parse_units(f"days since {date[0]:04}-{date[1]}-{date[2]}", calendar).convert_to(first)[1]
        expected = cftime.date2num(cftime.datetime(*date, calendar=calendar), "days since 1850-01-01", calendar)
        assert offset == expected


def test_promotions_are_exact() -> None:
    names = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
    for one in names:
        for two in names:
            kind, to = np.dtype(one), np.dtype(two)
            ends = list_ends(kind)
            with np.errstate(all="ignore"):
                same = all(Fraction(a.item()) == Fraction(b) for a, b in zip(ends, to_numbers(ends, to), strict=True))
            assert is_exact(kind, to) == (same and not (kind.kind == "f" and to.kind in "iu")), (one, two)


def list_ends(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return numbers of a type that other types may lack."""
    if dtype.kind == "f":
        floats = np.finfo(dtype)
        return np.array([floats.min, floats.max, floats.tiny], dtype)
    integers = np.iinfo(dtype)
    return np.array([integers.min, integers.max, integers.max - 1], dtype)


def to_numbers(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> list[Any]:
    """Return values as another type has them; infinity as a number that is none of them."""
    converted = values.astype(dtype).tolist()
    return [value if np.isfinite(value) else 0.123 for value in converted]


def test_what_is_not_exact_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="does not have all values"):
        apply(Conversion(kind="promote", dtype="<f4"), np.array([1], "i8"))
    with pytest.raises(UnsupportedError, match="a time is NaN"):
        apply(Conversion(kind="time", dtype="<i4"), np.array([np.nan]))


@pytest.mark.parametrize("values", [[0.0, 5, 3], [0, np.nan, 3]])
def test_a_coordinate_that_is_not_sorted_within_a_file_is_noted(values: list[float]) -> None:
    findings = Findings(FileNames(["a.nc", "b.nc"]))
    cut_files("/time", [np.array(values), np.array([6.0, 7.0])], rules=Rules(dim="time"), findings=findings)
    assert [(row.kind, row.files, row.action) for row in findings.rows] == [("note", "a.nc", "joined as given")]
    assert "is not checked" in findings.rows[0].what
