"""Spans: whatever region they are planned for, they have its bytes, and not many more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5bound.files.local import LocalFile
from h5bound.reader import byte_ranges as spans
from h5bound.reader.byte_ranges import plan_spans, read_spans

if TYPE_CHECKING:
    from pathlib import Path

NBYTES = 1 << 16


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is one long array."""
    found = tmp_path_factory.mktemp("spans") / "x.h5"
    with h5py.File(found, "w") as file:
        file["x"] = np.random.default_rng(0).integers(0, 256, NBYTES).astype("u1")
    return found


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """Shapes of up to 4,096 elements, and regions of them that are not empty."""
    shape = tuple(draw(st.lists(st.integers(1, 8), max_size=4)))
    starts = [draw(st.integers(0, size - 1)) for size in shape]
    stops = [draw(st.integers(start + 1, size)) for start, size in zip(starts, shape, strict=True)]
    return shape, tuple(map(slice, starts, stops))


@given(
    case=regions(),
    dtype=st.sampled_from(["u1", "u2", "u4", "u8", "V3", "V12"]).map(np.dtype),
    offset=st.integers(0, 999),
    span=st.sampled_from([1, 16, 100, 5000]),
    long=st.sampled_from([0, 8, 100, 5000]),
    sparse=st.integers(1, 9),
)
def test_spans_have_the_bytes_of_their_region(
    path: Path,
    case: tuple[tuple[int, ...], tuple[slice, ...]],
    dtype: np.dtype[np.void],
    offset: int,
    span: int,
    long: int,
    sparse: int,
) -> None:
    shape, region = case
    whole = np.fromfile(path, np.uint8, math.prod(shape) * dtype.itemsize, offset=offset)
    want = np.ndarray(shape, dtype, buffer=whole)[region]
    with patch.multiple(spans, SPAN_NBYTES=span, LONG_NBYTES=long, SPARSE=sparse, SHORT_NBYTES=1):
        plan = plan_spans(region, offset=offset, shape=shape, itemsize=dtype.itemsize)
    assert plan is not None
    got = np.empty(want.shape, dtype)
    with h5py.File(path) as file:
        stored = LocalFile.of(file.id)
        read_spans(stored, plan, got)
        stored.close()
    assert got.tobytes() == want.tobytes()
    ends = [start + nbytes for start, nbytes in plan.ranges]
    assert all(end <= start for end, (start, _) in zip(ends[:-1], plan.ranges[1:], strict=True))
    assert sum(nbytes for _, nbytes in plan.ranges) <= sparse * want.nbytes
    dense = sum(nbytes for _, nbytes in plan.ranges) == want.nbytes
    assert dense or all(nbytes <= span for _, nbytes in plan.ranges)


def test_rows_that_lie_near_are_read_together_and_long_ones_one_by_one() -> None:
    half = plan_spans(np.s_[0:50, 0:128, 0:512], offset=0, shape=(100, 256, 1024), itemsize=4)
    assert half is not None
    assert half.ranges[:2] == [(0, 127 * 4096 + 2048), (1 << 20, 127 * 4096 + 2048)]
    long = plan_spans(np.s_[0:50, 0:128, 0:9000], offset=0, shape=(100, 256, 16384), itemsize=4)
    assert long is not None
    assert long.ranges[:2] == [(0, 36000), (65536, 36000)]


def test_few_bytes_here_and_there_are_not_for_spans() -> None:
    assert plan_spans(np.s_[0:400, 70:71, 70:71], offset=0, shape=(400, 100, 100), itemsize=4) is None
    assert plan_spans(np.s_[0:400, 0:512, 170:171], offset=0, shape=(400, 512, 512), itemsize=4) is None
    assert plan_spans(np.s_[5:6, 170:171, 170:171], offset=0, shape=(400, 512, 512), itemsize=4) is not None


def test_few_bytes_far_apart_are_for_spans() -> None:
    plan = plan_spans(np.s_[0:400, 170:171, 170:171], offset=0, shape=(400, 512, 512), itemsize=4)
    assert plan is not None
    assert [nbytes for _, nbytes in plan.ranges] == [4] * 400
