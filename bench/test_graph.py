"""The cost of the graph itself: building it, and computing one element of it, for 64 and for 100,000 blocks.

The blocks are chunks of one 64-bit integer without a codec; only the one that is computed was ever written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import h5py
import pytest

from bench.conftest import repeat
from bench.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

FEW = 64
MANY = {"h5bound": 100_000, "from_array": 100_000, "xarray": 100_000, "recipe": 5_000}
"""Blocks; the recipe takes 50 s for 100,000."""
AS_TEST = 1_000
"""Blocks of the recipe when nothing is timed."""

CASES = [(peer, many) for many in (False, True) for peer in MANY]


def make_file(folder: Path, blocks: int) -> Path:
    """Write a file with `blocks` chunks of one element: 7 in the middle, 3 elsewhere; return its path."""
    path = folder / "many.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", (blocks,), "i8", chunks=(1,), fillvalue=3)
        dataset[blocks // 2] = 7
    return path


def count_blocks(peer: str, *, many: bool, timed: bool) -> int:
    """Return the number of blocks of a case."""
    if not many:
        return FEW
    return MANY[peer] if timed or peer != "recipe" else AS_TEST


def time_it(benchmark: BenchmarkFixture, function: Callable[[], Any], *, timed: bool, blocks: int) -> Any:
    """Time a function and return its result."""
    benchmark.extra_info["blocks"] = blocks
    return repeat(benchmark, function, rounds=(20 if blocks == FEW else 5) if timed else 1)


@pytest.mark.parametrize(("peer", "many"), CASES)
def test_building_the_graph(benchmark: BenchmarkFixture, tmp_path: Path, peer: str, *, many: bool, timed: bool) -> None:
    blocks = count_blocks(peer, many=many, timed=timed)
    benchmark.group = f"building, {'many' if many else 'few'} blocks"
    path = make_file(tmp_path, blocks)

    def build() -> Any:
        with PEERS[peer].open(path, "x", None) as array:
            return array

    array = time_it(benchmark, build, timed=timed, blocks=blocks)
    assert array.numblocks == (blocks,)


@pytest.mark.slow
@pytest.mark.parametrize(("peer", "many"), CASES)
def test_computing_one_element(
    benchmark: BenchmarkFixture, tmp_path: Path, peer: str, *, many: bool, timed: bool
) -> None:
    blocks = count_blocks(peer, many=many, timed=timed)
    benchmark.group = f"one element, {'many' if many else 'few'} blocks"
    with PEERS[peer].open(make_file(tmp_path, blocks), "x", None) as array:
        element = array[blocks // 2]
        benchmark.extra_info["tasks"] = count_tasks(element)
        result = time_it(benchmark, element.compute, timed=timed, blocks=blocks)
    assert result == 7


@pytest.mark.parametrize("peer", list(MANY))
def test_computing_64_blocks(benchmark: BenchmarkFixture, tmp_path: Path, peer: str, *, timed: bool) -> None:
    benchmark.group = "all of few blocks"
    with PEERS[peer].open(make_file(tmp_path, FEW), "x", None) as array:
        tasks = benchmark.extra_info["tasks"] = count_tasks(array)
        result = time_it(benchmark, array.compute, timed=timed, blocks=FEW)
    assert result.sum() == 3 * (FEW - 1) + 7
    if peer == "h5bound":
        assert tasks <= 2 * FEW + 2


def count_tasks(array: Any) -> int:
    """Count the tasks that dask hands to its scheduler for an array."""
    (optimized,) = dask.optimize(array)
    return len(dict(optimized.__dask_graph__()))
