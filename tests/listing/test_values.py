"""Values of attributes in one line and as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from h5bound.listing.values import MAX_ITEMS, format_value, value_to_json

PAIR = np.array((1, 2.5), [("n", "i4"), ("x", "f8")])[()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(np.nan), "NaN"),
        (-np.inf, "-Infinity"),
        (np.complex128(complex(1, -np.inf)), [1.0, "-Infinity"]),
        (np.bool_(True), True),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.zeros((2, 0)), [[], []]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", None], object), ["a", None]),
        (PAIR, {"n": 1, "x": 2.5}),
        ([PAIR, {"deep": [np.int8(1)]}], [{"n": 1, "x": 2.5}, {"deep": [1]}]),
        (np.void(b"\x00\xff"), "AP8="),
    ],
)
def test_any_value_is_json_that_every_reader_takes(value: Any, expected: Any) -> None:
    found = value_to_json(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [
        (np.float32(0.1), None, "0.1"),
        (np.nan, None, "nan"),
        (np.arange(MAX_ITEMS), 80, "[0, 1, 2, 3, 4, 5, 6, 7]"),
        (np.arange(MAX_ITEMS + 1), 80, "[0, 1, 2, … 9 values]"),
        (np.arange(MAX_ITEMS + 1), None, "[0, 1, 2, 3, 4, 5, 6, 7, 8]"),
        ("é" * 10, 12, '"éééééééééé"'),
        ("é" * 11, 12, '"éééééééééé…'),
        ("a\nb", None, '"a\\nb"'),
    ],
)
def test_a_value_takes_one_line_and_no_more_room_than_there_is(value: Any, limit: int | None, expected: str) -> None:
    assert format_value(value, limit=limit) == expected
    assert limit is None or len(expected) <= limit
