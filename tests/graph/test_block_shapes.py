"""Block shapes: stored chunks, automatic multiples of them, and what is refused before it is listed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5bound.errors import UnsafeSourceError
from h5bound.graph.block_shapes import plan_chunks


def test_stored_chunks_are_blocks_and_the_last_is_cut_off() -> None:
    assert plan_chunks("x", (10, 7), 8, (4, 7), None) == ((4, 4, 2), (7,))


def test_a_chunk_larger_than_the_dataset_gives_one_block() -> None:
    assert plan_chunks("x", (10,), 8, (64,), None) == ((10,),)


def test_a_scalar_has_one_block_and_no_axes() -> None:
    assert plan_chunks("x", (), 8, None, None) == ()


def test_an_empty_axis_has_one_empty_block() -> None:
    assert plan_chunks("x", (0, 5), 8, (1, 5), None) == ((0,), (5,))


@pytest.mark.parametrize("chunks", ["auto", "256 B", {0: "auto", 1: -1}, ("auto", "auto")], ids=str)
def test_automatic_blocks_are_whole_multiples_of_stored_chunks(chunks: Any) -> None:
    with dask.config.set({"array.chunk-size": "500 B"}):
        sizes = plan_chunks("x", (100, 70), 1, (7, 5), chunks)
    assert [sum(axis) for axis in sizes] == [100, 70]
    assert all(size % 7 == 0 for size in sizes[0][:-1])
    assert all(size % 5 == 0 for size in sizes[1][:-1])


@pytest.mark.parametrize(
    "chunks",
    [3, (3, 4), (3, -1), {1: 2}, ((5, 5), (3, 4)), -1, (None, 2)],
    ids=str,
)
def test_whatever_from_array_takes_gives_the_same_blocks(chunks: Any) -> None:
    data = np.zeros((10, 7))
    assert plan_chunks("x", (10, 7), 8, None, chunks) == da.from_array(data, chunks=chunks).chunks


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 600)), min_size=1, max_size=3),
    st.sampled_from([None, "auto", "100 B", "1 KiB"]),
    st.integers(1, 16),
)
def test_blocks_cover_every_axis_in_multiples_of_chunks(
    axes: list[tuple[int, int]], chunks: str | None, itemsize: int
) -> None:
    shape, stored = tuple(n for n, _ in axes), tuple(c for _, c in axes)
    try:
        sizes = plan_chunks("x", shape, itemsize, stored, chunks)
    except UnsafeSourceError:
        assert np.prod([-(-n // c) for n, c in axes], dtype=float) * itemsize > 100
        return
    assert tuple(map(sum, sizes)) == shape
    for axis, chunk in zip(sizes, stored, strict=True):
        assert all(size % chunk == 0 for size in axis[:-1])


@pytest.mark.parametrize(
    ("shape", "stored", "chunks"),
    [
        ((1 << 50,), (1 << 20,), None),
        ((1 << 62,), None, "auto"),
        ((1 << 62,), None, "1 MiB"),
        ((1 << 50,), None, 1),
        ((1 << 30, 1 << 30), (1, 1), {0: 5}),
        ((1001, 1000), (1, 1), None),
    ],
    ids=str,
)
def test_more_than_a_million_blocks_are_refused_before_they_are_listed(
    shape: tuple[int, ...], stored: tuple[int, ...] | None, chunks: Any
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeSourceError, match='chunks="auto"'):
            plan_chunks("dataset '/x' of a.h5", shape, 1, stored, chunks)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_million_blocks_are_not_refused() -> None:
    assert len(plan_chunks("x", (1_000_000,), 8, (1,), None)[0]) == 1_000_000


@pytest.mark.parametrize("chunks", [0, -5, (0, 5), {0: 0}, {5: 3}, {"a": 1}, {-3: 1}], ids=str)
def test_sizes_and_axes_that_there_are_not_are_refused_by_name(chunks: Any) -> None:
    with pytest.raises(ValueError, match=r"dataset '/x' of a.h5: chunks="):
        plan_chunks("dataset '/x' of a.h5", (10, 20), 8, (5, 5), chunks)


@pytest.mark.parametrize("chunks", [None, "auto", -1, ("auto", -1), {1: "auto"}], ids=str)
@pytest.mark.parametrize("stored", [None, (5, 5)], ids=str)
def test_nothing_at_all_is_one_block_or_a_few(stored: tuple[int, ...] | None, chunks: Any) -> None:
    sizes = plan_chunks("x", (1 << 10, 0), 8, stored, chunks)
    assert (sum(sizes[0]), sum(sizes[1])) == (1 << 10, 0)


def test_an_axis_may_be_counted_from_the_end() -> None:
    assert plan_chunks("x", (4, 10), 8, None, {-1: 5}) == ((4,), (5, 5))
