"""Read boxes over integers alone: every key once, every chunk of the source once, and no more memory than allowed."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5bound.chunk_grid import count_chunks, group_chunks, list_chunk_coords
from h5bound.planning.read_boxes import measure, plan_read_boxes, plan_rows

AXES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=3)


@given(axes=AXES, itemsize=st.sampled_from([1, 2, 8]), nbytes=st.integers(1, 5000), factor=st.integers(1, 8))
def test_boxes_and_cells_are_whole_and_within_their_limits(
    axes: list[tuple[int, int, int]], itemsize: int, nbytes: int, factor: int
) -> None:
    shape, source, target = (tuple(sizes) for sizes in zip(*axes, strict=True))
    limit = nbytes * factor
    boxes = plan_read_boxes(shape, source=source, target=target, itemsize=itemsize, nbytes=nbytes, limit=limit)
    if boxes is None:
        assert all(key % chunk == 0 or key >= length for length, chunk, key in axes)
        return
    assert all(size % key == 0 for size, key in zip(boxes.box, target, strict=True))
    if boxes.cell is None:
        assert measure(boxes.box, shape, itemsize) <= limit
        for size, (length, chunk, _) in zip(boxes.box, axes, strict=True):
            assert size % chunk == 0 or size >= length, "a chunk of the source lies in two boxes"
        return
    assert all(size % chunk == 0 for size, chunk in zip(boxes.cell, source, strict=True))
    least = max(measure(source, shape, itemsize), measure(target, shape, itemsize))
    assert max(measure(grid, shape, itemsize) for grid in (boxes.box, boxes.cell)) <= max(
        2 * limit, least
    )  # of a small limit


@given(axes=AXES)
def test_a_box_holds_each_of_its_keys_once(axes: list[tuple[int, int, int]]) -> None:
    shape, source, target = (tuple(sizes) for sizes in zip(*axes, strict=True))
    boxes = plan_read_boxes(shape, source=source, target=target, itemsize=1, nbytes=100, limit=10_000)
    keys = list_chunk_coords(shape, target, 100_000)
    if boxes is None:
        return
    ordered, intervals = group_chunks(keys, boxes.count_keys(target))
    assert sorted(map(tuple, ordered.tolist())) == list(map(tuple, keys.tolist()))
    assert [start for start, _ in intervals] == [0, *(stop for _, stop in intervals[:-1])]
    assert len(intervals) == prod(count_chunks(shape, boxes.box))
    for start, stop in intervals:
        assert len(np.unique(ordered[start:stop] // np.asarray(boxes.count_keys(target)), axis=0)) == 1


def test_a_long_axis_is_cut_where_chunks_and_keys_meet() -> None:
    boxes = plan_read_boxes(
        (2000, 67_186), source=(2000, 1), target=(10, 67_186), itemsize=4, nbytes=2**23, limit=2**26
    )
    assert boxes is not None
    assert boxes.passes == 2
    assert boxes.cell == (2000, 4194)
    assert boxes.box == (120, 67_186)


def test_rows_without_chunks_are_read_whole() -> None:
    assert plan_rows((100, 100), (10, 10), 8) == (50, 100)
    assert plan_rows((), (), 8) == ()
    assert plan_rows((1000, 1000, 3), (10, 10, 1), 8) == (10, 1000, 3)
    assert plan_rows((4, 10**6), (1, 10**6), 8) == (1, 10**6)
