"""Units of times ("days since 2000-01-01"), and times brought from one to another exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from h5bound.errors import UnsupportedError
from h5bound.reader.meanings import CALENDARS

if TYPE_CHECKING:
    from h5bound.zarr_model.byte_layout import Array, DType

DAY = 86_400_000_000_000
"""Nanoseconds of a day."""

NANOSECONDS = {
    **dict.fromkeys(("day", "d"), DAY),
    **dict.fromkeys(("hour", "hr", "h"), DAY // 24),
    **dict.fromkeys(("minute", "min"), DAY // 1440),
    **dict.fromkeys(("second", "sec", "s"), 1_000_000_000),
    **dict.fromkeys(("millisecond", "millisec", "msec", "ms"), 1_000_000),
    **dict.fromkeys(("microsecond", "microsec"), 1_000),
    "nanosecond": 1,
}
"""Units that have one length; months and years have not."""

MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

SINCE = re.compile(
    r"(?P<unit>[a-z]+) +since +(?P<date>\d{1,4}-\d{1,2}-\d{1,2})"
    r"(?:[t ]+(?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:\.(?P<part>\d{0,9}))?)?)?)?"
    r" *(?:z|utc|gmt|(?P<sign>[+-])(?P<zone_hour>\d{2}):(?P<zone_minute>\d{2}))?"
)
"""Of zones only +01:00: cftime takes no notice of +1:00, +0100 or +1, which pandas reads."""

EXACT = 1 << 53
"""Whole numbers up to this are floats of 64 bits."""


@dataclass(frozen=True, slots=True)
class TimeUnits:
    """The unit of times, and the time that is 0."""

    unit: int
    """Nanoseconds."""
    zero: int
    """Nanoseconds since a day that is the same for all times of a calendar."""
    calendar: str

    def convert_to(self, first: TimeUnits) -> tuple[Fraction, Fraction]:
        """Return the factor and the offset that bring times to other units. Raise UnsupportedError if none do."""
        if self.calendar != first.calendar:
            raise UnsupportedError(f"the calendars differ: {first.calendar} and {self.calendar}")
        return Fraction(self.unit, first.unit), Fraction(self.zero - first.zero, first.unit)


def is_time(units: object) -> bool:
    """Return whether these are units of times since a date."""
    return isinstance(units, str) and " since " in units


@lru_cache(4096)
def parse_units(units: str, calendar: str) -> TimeUnits:
    """Return units of times. Raise UnsupportedError for others, such as months, that have no fixed length.

    >>> one, two = parse_units("days since 2000-01-01", ""), parse_units("hours since 2000-01-02", "gregorian")
    >>> two.convert_to(one)
    (Fraction(1, 24), Fraction(1, 1))
    """
    name = calendar.strip().lower() or "standard"
    name = CALENDARS.get(name, name)
    match = SINCE.fullmatch(" ".join(units.strip().lower().split()))
    word = match["unit"] if match else ""
    unit = NANOSECONDS.get(word) or NANOSECONDS.get(word.removesuffix("s"))
    if match is None or unit is None:
        raise UnsupportedError(f"{units!r} has no unit of a fixed length, or no date that h5bound can read")
    year, month, day = map(int, match["date"].split("-"))
    hours, minutes, seconds = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    seconds += 60 * (minutes + 60 * hours)
    zone = 60 * (int(match["zone_minute"] or 0) + 60 * int(match["zone_hour"] or 0))
    seconds += zone if match["sign"] == "-" else -zone
    part = int((match["part"] or "").ljust(9, "0"))
    days = count_days(year, month, day, calendar=name)
    return TimeUnits(unit, days * DAY + seconds * 1_000_000_000 + part, name)


def count_days(year: int, month: int, day: int, *, calendar: str) -> int:
    """Return the number of a day in a calendar. Raise UnsupportedError if there is no such day, or calendar.

    >>> count_days(1582, 10, 15, calendar="standard") - count_days(1582, 10, 4, calendar="standard")
    1
    >>> count_days(2000, 3, 1, calendar="noleap") - count_days(2000, 2, 28, calendar="noleap")
    1
    """
    if not (1 <= month <= 12 and 1 <= day <= (30 if calendar == "360_day" else 31)):
        raise UnsupportedError(f"{year}-{month}-{day} is no date of the calendar {calendar}")
    if calendar == "360_day":
        return 360 * year + 30 * (month - 1) + day
    if calendar in ("noleap", "all_leap"):
        leap = calendar == "all_leap"
        return (365 + leap) * year + [0, *accumulate(MONTHS)][month - 1] + (leap and month > 2) + day
    if calendar not in ("standard", "proleptic_gregorian", "julian"):
        raise UnsupportedError(f"the calendar {calendar} is unknown")
    shift = (14 - month) // 12
    years, months = year + 4800 - shift, month + 12 * shift - 3
    days = day + (153 * months + 2) // 5 + 365 * years + years // 4  # the Julian day number
    if calendar == "julian" or (calendar == "standard" and (year, month, day) < (1582, 10, 15)):
        return days - 32_083
    return days - years // 100 + years // 400 - 32_045


def move_times(block: Array, factor: Fraction, offset: Fraction, *, dtype: DType) -> Array:
    """Return times multiplied with a factor, then moved by an offset, as a type. NaN stays NaN.

    Raise UnsupportedError if one of them has no exact form there.

    >>> move_times(np.array([1.0, np.nan]), Fraction(24), Fraction(-24), dtype=np.dtype("f8")).tolist()
    [0.0, nan]
    """
    known = ~np.isnan(block) if block.dtype.kind == "f" else np.ones(block.shape, bool)
    if dtype.kind != "f" and not known.all():
        raise UnsupportedError(f"a time is NaN, for which {dtype} has no value")
    given = block[known]
    whole = move_whole(given, factor, offset)
    if whole is None:
        moved, is_same = move_each(given, factor, offset, dtype=dtype)
    else:
        with np.errstate(all="ignore"):
            moved = whole.astype(dtype)
            is_same = moved.astype(np.int64) == whole
    if not is_same.all():
        value = given[~is_same][0]
        raise UnsupportedError(f"the time {value} has no exact form of {dtype} in the units of the first file")
    out = np.full(block.shape, np.nan, dtype) if dtype.kind == "f" else np.zeros(block.shape, dtype)
    out[known] = moved
    return out


def move_whole(given: Array, factor: Fraction, offset: Fraction) -> Array | None:
    """Return times of one dimension, moved; None unless they are whole before and after that, and not too large."""
    if not given.size:
        return np.zeros(0, np.int64)
    largest = max(abs(given.min().item()), abs(given.max().item()))
    scale, move, divisor = (
        factor.numerator * offset.denominator,
        offset.numerator * factor.denominator,
        factor.denominator * offset.denominator,
    )
    if largest >= EXACT or largest * scale + abs(move) >= 1 << 62 or max(scale, divisor) >= 1 << 62:
        return None
    whole = given.astype(np.int64)
    if not np.array_equal(whole, given):
        return None
    moved = whole * scale + move
    return None if (moved % divisor).any() else moved // divisor


def move_each(given: Array, factor: Fraction, offset: Fraction, *, dtype: DType) -> tuple[Array, Array]:
    """Return times of one dimension, moved one by one, and whether each has its exact value."""
    exact = [Fraction(value) * factor + offset if np.isfinite(value) else None for value in given.tolist()]
    out, is_same = np.zeros(given.shape, dtype), np.zeros(given.shape, bool)
    for i, value in enumerate(exact):
        try:
            out[i] = value if value is None else float(value) if dtype.kind == "f" else int(value)
            is_same[i] = Fraction(out[i].item()) == value
        except (OverflowError, ValueError, TypeError):  # it stays False
            continue
    return out, is_same
