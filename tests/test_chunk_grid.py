"""Chunk grids: chunks, batches and shapes cover what they should, and nothing else."""

from __future__ import annotations

from functools import partial
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5bound.chunk_grid import (
    count_chunks,
    cut_batches,
    cut_boxes,
    list_chunk_coords,
    map_chunk_coords,
    plan_auto_chunks,
    region_of,
)
from h5bound.errors import UnsafeSourceError

sizes = st.integers(1, 9)


@given(st.lists(st.tuples(st.integers(0, 20), sizes, sizes), min_size=1, max_size=3), st.data())
def test_chunk_coords_of_another_grid_cover_what_is_stored_and_nothing_else(
    axes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    shape, old, new = (tuple(values) for values in zip(*axes, strict=True))
    every = list_chunk_coords(shape, old, 10_000)
    rows = data.draw(st.lists(st.sampled_from(range(len(every))), unique=True)) if len(every) else []
    chunk_coords = every[sorted(rows)]
    wanted = np.zeros(shape, bool)
    for coords in chunk_coords.tolist():
        wanted[region_of(tuple(coords), shape, old)] = True
    found = map_chunk_coords(chunk_coords, shape=shape, source=old, target=new, limit=10_000)
    covered = np.zeros(shape, int)
    for coords in found.tolist():
        region = region_of(tuple(coords), shape, new)
        assert wanted[region].any()
        covered[region] += 1
    assert (covered[wanted] == 1).all()


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 100), st.integers(1, 5))
def test_batches_cover_each_member_once_and_keep_to_their_size(members: list[int], nbytes: int, count: int) -> None:
    batches = cut_batches(np.array(members, np.int64), nbytes, count)
    assert [i for start, stop in batches for i in range(start, stop)] == list(range(len(members)))
    assert all(
        stop - start <= count and (stop - start == 1 or sum(members[start:stop]) <= nbytes) for start, stop in batches
    )


@given(st.lists(st.integers(0, 1000), max_size=4), st.integers(1, 16), st.integers(1, 10_000))
def test_automatic_chunks_keep_to_their_size(shape: list[int], itemsize: int, nbytes: int) -> None:
    chunks = plan_auto_chunks(tuple(shape), itemsize, nbytes)
    assert prod(chunks) * itemsize <= max(nbytes, itemsize)
    assert all(size >= 1 for size in chunks)
    assert len(count_chunks(tuple(shape), chunks)) == len(shape)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), max_size=4), st.integers(1, 100))
def test_boxes_have_the_chunks_of_the_whole_in_c_order(axes: list[tuple[int, int]], limit: int) -> None:
    whole = tuple(range(start, start + count) for start, count in axes)
    boxes = list(cut_boxes(whole, limit))
    assert all(1 <= prod(map(len, box)) <= limit for box in boxes)
    assert [coords for box in boxes for coords in product(*box)] == list(product(*whole))


def test_chunks_that_many_boxes_overlap_are_counted_once() -> None:
    """2,048 columns through 1,024 layers: 2 million overlaps of 1,024 chunks."""
    columns = np.array([[0, i, j] for i in range(32) for j in range(64)])
    map_columns = partial(map_chunk_coords, columns, shape=(1024, 256, 512), source=(1024, 8, 8), target=(1, 256, 512))
    assert map_columns(limit=1024).tolist() == [[i, 0, 0] for i in range(1024)]
    with pytest.raises(UnsafeSourceError, match="1,024 chunks"):
        map_columns(limit=1000)
