"""Memory that serves one block after another."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound import from_hdf5
from h5bound.buffers import POOLED_NBYTES, MemoryPool, block_memory

if TYPE_CHECKING:
    from pathlib import Path


def test_memory_is_used_again_only_once_no_view_is_left() -> None:
    pool = MemoryPool(100)
    one = pool.take(60)
    address, view = one.ctypes.data, memoryview(one)[10:20]
    del one
    gc.collect()
    other = pool.take(60)
    assert other.ctypes.data != address
    del view
    assert pool.take(60).ctypes.data == address


def test_no_more_than_the_limit_is_kept_and_what_was_not_used_for_longest_goes_first() -> None:
    pool = MemoryPool(100)
    arrays = [pool.take(nbytes) for nbytes in (40, 30, 50)]
    while arrays:
        del arrays[0]
    assert pool.free_nbytes() == 80
    before = pool.free_nbytes()
    pool.take(40)  # that was dropped, so this is new memory, and 30 is the oldest now
    assert before == 80
    assert pool.free_nbytes() == 90


def test_memory_that_other_threads_take_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MemoryPool(100)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryPool, "free_nbytes", lambda _: 101)  # as it was before they took all
        pool.give(np.empty(10, np.uint8))
    assert pool.free_nbytes() == 0


def test_arrays_of_many_threads_never_share_memory() -> None:
    pool = MemoryPool(1 << 20)

    def fill(number: int) -> bool:
        held = [pool.take(size) for size in (1000, 2000, 1000)]
        for array in held:
            array[:] = number
        return all((array == number).all() for array in held)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(fill, [number % 251 for number in range(5000)]))
    assert pool.free_nbytes() <= 8 * 4000


@pytest.mark.parametrize("chunks", [(64, 4096), None], ids=["chunked", "contiguous"])
def test_results_keep_their_values_while_the_next_ones_are_read(tmp_path: Path, chunks: tuple[int, int] | None) -> None:
    values = np.random.default_rng(0).integers(0, 99, (256, 4096))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=chunks)
    array = from_hdf5(tmp_path / "a.h5", "x", chunks=(64, 4096))
    assert values[:64].nbytes >= POOLED_NBYTES
    parts = array.to_delayed().ravel()  # dask copies a result of an array
    kept = [parts[i % 4].compute() for i in range(8)]
    views = [block[3:5] for block in kept]
    addresses = {block.ctypes.data for block in kept}
    assert len(addresses) == 8
    del kept
    for i, view in enumerate(views):
        assert (view == values[64 * (i % 4) :][3:5]).all()
    free = block_memory.free_nbytes()
    del views, view
    assert block_memory.free_nbytes() > free
    assert (array.compute() == values).all()
