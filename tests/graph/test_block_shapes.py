"""Block shapes: those by default, one per chunk, automatic ones, and limits that hold before blocks are listed."""

from __future__ import annotations

import tracemalloc
from math import isqrt, prod
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5bound.errors import OptionError, UnsafeSourceError
from h5bound.graph.block_shapes import (
    BALANCE_NBYTES,
    BLOCK_CHUNKS,
    DEFAULT_NBYTES,
    plan_block_sizes,
    plan_default_shape,
)


def test_stored_chunks_are_blocks_and_the_last_is_cut_off() -> None:
    assert plan_block_sizes((10, 7), {}, itemsize=8, chunk_shape=(4, 7), subject="x") == ((4, 4, 2), (7,))


def test_a_chunk_larger_than_the_dataset_gives_one_block() -> None:
    options: tuple[Any, ...] = ({}, None)
    for chunks in options:
        assert plan_block_sizes((10,), chunks, itemsize=8, chunk_shape=(64,), subject="x") == ((10,),)


@pytest.mark.parametrize(
    ("shape", "stored", "itemsize", "block"),
    [
        pytest.param((400, 512, 512), (25, 32, 32), 4, (100, 192, 192), id="as-h5py-chunks"),
        pytest.param((400, 512, 512), (1, 512, 512), 4, (14, 512, 512), id="as-netCDF-C-chunks"),
        pytest.param((4_000_000, 512, 512), (1, 512, 512), 4, (32, 512, 512), id="many"),
        pytest.param((26_214_400, 4), (25_600, 1), 4, (921_600, 4), id="long-and-thin"),
        pytest.param((100_000,), (1,), 4, (100_000,), id="tiny-chunks-of-little"),
        pytest.param((10**9,), (1,), 8, (100_000,), id="tiny-chunks-of-much"),
        pytest.param((1_000_000,), (1024,), 100, (71_680,), id="large-elements"),
        pytest.param((10, 4096, 4096), (1, 4096, 4096), 8, (1, 4096, 4096), id="large-chunks"),
        pytest.param((10, 10), (4, 20), 8, (10, 10), id="chunk-beyond-the-shape"),
        pytest.param((), (), 8, (), id="scalar"),
        pytest.param((1 << 40, 0), (1, 5), 8, (1 << 40, 1), id="empty"),
        pytest.param((7,), (2,), 0, (7,), id="elements-without-bytes"),
    ],
)
def test_blocks_by_default_are_multiples_of_chunks_towards_one_size(
    shape: tuple[int, ...], stored: tuple[int, ...], itemsize: int, block: tuple[int, ...]
) -> None:
    clipped = tuple(max(min(pair), 1) for pair in zip(stored, shape, strict=True))
    assert plan_default_shape(shape, clipped, itemsize) == block
    with dask.config.set({"array.chunk-size": "1 KiB", "num_workers": 64}):
        sizes = plan_block_sizes(shape, None, itemsize=itemsize, chunk_shape=stored, subject="x")
    assert tuple(axis[0] for axis in sizes) == tuple(map(min, block, shape))
    assert tuple(map(sum, sizes)) == shape


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 600)), min_size=1, max_size=4),
    st.integers(1, 5000),
)
def test_blocks_by_default_are_neither_larger_nor_much_smaller_than_they_should_be(
    axes: list[tuple[int, int]], itemsize: int
) -> None:
    shape, stored = tuple(n for n, _ in axes), tuple(min(axis) for axis in axes)
    block = plan_default_shape(shape, stored, itemsize)
    wanted = min(isqrt(BALANCE_NBYTES * prod(shape) * itemsize), DEFAULT_NBYTES)
    wanted = min(wanted, BLOCK_CHUNKS * prod(stored) * itemsize)
    multiples = tuple(-(-size // chunk) for size, chunk in zip(block, stored, strict=True))
    assert all(
        size == min(count * chunk, n) for size, count, chunk, n in zip(block, multiples, stored, shape, strict=True)
    )
    padded = prod(multiples) * prod(stored) * itemsize
    assert padded <= wanted or set(multiples) == {1}
    assert block == shape or padded * 4 ** len(shape) > wanted


def test_a_scalar_has_one_block_and_no_axes() -> None:
    assert plan_block_sizes((), None, itemsize=8, chunk_shape=None, subject="x") == ()


def test_an_empty_axis_has_one_empty_block() -> None:
    assert plan_block_sizes((0, 5), None, itemsize=8, chunk_shape=(1, 5), subject="x") == ((0,), (5,))


@pytest.mark.parametrize("chunks", ["auto", "256 B", {0: "auto", 1: -1}, ("auto", "auto")], ids=str)
def test_automatic_blocks_are_whole_multiples_of_stored_chunks(chunks: Any) -> None:
    with dask.config.set({"array.chunk-size": "500 B"}):
        sizes = plan_block_sizes((100, 70), chunks, itemsize=1, chunk_shape=(7, 5), subject="x")
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
    assert (
        plan_block_sizes((10, 7), chunks, itemsize=8, chunk_shape=None, subject="x")
        == da.from_array(data, chunks=chunks).chunks
    )


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 600)), min_size=1, max_size=3),
    st.sampled_from([None, {}, "auto", "100 B", "1 KiB"]),
    st.integers(1, 16),
)
def test_blocks_cover_every_axis_in_multiples_of_chunks(
    axes: list[tuple[int, int]], chunks: Any, itemsize: int
) -> None:
    shape, stored = tuple(n for n, _ in axes), tuple(c for _, c in axes)
    try:
        sizes = plan_block_sizes(shape, chunks, itemsize=itemsize, chunk_shape=stored, subject="x")
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
        ((1001, 1000), (1, 1), {}),
    ],
    ids=str,
)
def test_more_than_a_million_blocks_are_refused_before_they_are_listed(
    shape: tuple[int, ...], stored: tuple[int, ...] | None, chunks: Any
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeSourceError, match='chunks="auto"'):
            plan_block_sizes(shape, chunks, itemsize=1, chunk_shape=stored, subject="dataset '/x' of a.h5")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_million_blocks_are_not_refused() -> None:
    assert len(plan_block_sizes((1_000_000,), {}, itemsize=8, chunk_shape=(1,), subject="x")[0]) == 1_000_000


@pytest.mark.parametrize(
    "chunks",
    [
        *(0, -5, (0, 5), {0: 0}, {5: 3}, {"a": 1}, {-3: 1}, "much", "12 parsecs", "", "-1", "0 B", "-5 MiB", (3,)),
        *((3, 4, 5), ((3, 4), (20,)), ((-5, 15), (20,)), ((5, float("nan")), 20), ((5, "a"), 20), {0: "much"}, 1.5),
        *({0: 1.5}, {0: (3,)}, True, (None, True), b"auto", float("inf"), np.array([5, 5]), object),
    ],
    ids=str,
)
def test_unknown_sizes_and_axes_are_refused_by_name(chunks: Any) -> None:
    with pytest.raises(OptionError, match=r"dataset '/x' of a.h5: chunks=.*; pass elements along each axis"):
        plan_block_sizes((10, 20), chunks, itemsize=8, chunk_shape=(5, 5), subject="dataset '/x' of a.h5")


def test_long_options_are_shortened_in_errors() -> None:
    with pytest.raises(OptionError) as caught:
        plan_block_sizes((10,), (tuple(range(100_000)),), itemsize=8, chunk_shape=None, subject="x")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("stored", "sizes"), [((4, 7), ((4, 4, 2), (7,))), (None, ((10,), (7,))), ((64, 64), ((10,), (7,)))], ids=str
)
def test_an_empty_mapping_gives_the_stored_chunks(stored: tuple[int, ...] | None, sizes: Any) -> None:
    with dask.config.set({"array.chunk-size": "100 B"}):
        assert plan_block_sizes((10, 7), {}, itemsize=8, chunk_shape=stored, subject="x") == sizes
    assert plan_block_sizes((), {}, itemsize=8, chunk_shape=None, subject="x") == ()


def test_a_scalar_takes_the_chunks_of_the_other_datasets() -> None:
    for chunks in ((3, 4), -1, "auto", "1 MiB", 5):
        assert plan_block_sizes((), chunks, itemsize=8, chunk_shape=None, subject="x") == ()


@pytest.mark.parametrize("chunks", [None, "auto", -1, ("auto", -1), {1: "auto"}], ids=str)
@pytest.mark.parametrize("stored", [None, (5, 5)], ids=str)
def test_an_empty_dataset_has_one_block_or_a_few(stored: tuple[int, ...] | None, chunks: Any) -> None:
    sizes = plan_block_sizes((1 << 10, 0), chunks, itemsize=8, chunk_shape=stored, subject="x")
    assert (sum(sizes[0]), sum(sizes[1])) == (1 << 10, 0)


def test_an_axis_may_be_counted_from_the_end() -> None:
    assert plan_block_sizes((4, 10), {-1: 5}, itemsize=8, chunk_shape=None, subject="x") == ((4,), (5, 5))
