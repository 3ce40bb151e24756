"""Elements of Zarr arrays that are decoded in the thread that asks for them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from h5bound.stores.array_reads import read_elements

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["local", "memory"])
def array(request: pytest.FixtureRequest, tmp_path: Path) -> zarr.Array[Any]:
    store = LocalStore(tmp_path / "a.zarr") if request.param == "local" else MemoryStore()
    return zarr.create_array(store, name="x", data=np.arange(60).reshape(6, 10), chunks=(1, 5), write_data=True)


def read_in_thread(array: zarr.Array[Any], region: tuple[slice, ...]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read_elements, array, region).result()


def test_no_thread_is_started(array: zarr.Array[Any]) -> None:
    region = slice(1, 5), slice(2, 9)
    expected = np.arange(60).reshape(6, 10)[region]
    read_elements(array, region)  # zarr's own loop
    before = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            assert np.array_equal(pool.submit(read_elements, array, region).result(), expected)
        assert threading.active_count() == before + 1


def test_a_store_that_is_not_open_is_opened_once_for_threads_that_begin_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = MemoryStore()
    array: Any = zarr.create_array(keys, name="x", data=np.arange(8), chunks=(1,))
    store = keys.with_read_only(read_only=True)
    unopened = zarr.Array(zarr.AsyncArray(array.metadata, StorePath(store, "x")))
    begin, open_now = threading.Barrier(4), MemoryStore._open  # noqa: SLF001 - what zarr calls of each thread

    async def open_slowly(store: MemoryStore) -> None:
        await asyncio.sleep(0.05)
        await open_now(store)

    def read() -> list[int]:
        begin.wait()
        values: list[int] = read_elements(unopened, (slice(0, 8),)).tolist()
        return values

    monkeypatch.setattr(MemoryStore, "_open", open_slowly)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(read) for _ in range(4)]
        assert [future.result() for future in futures] == [list(range(8))] * 4


def test_scalars_and_threads_in_which_a_loop_runs(tmp_path: Path) -> None:
    array = zarr.create_array(LocalStore(tmp_path), name="s", shape=(), dtype="i4", fill_value=7)

    async def read() -> Any:
        return read_elements(array, ())

    with ThreadPoolExecutor(1) as pool:
        for read_scalar in (lambda: read_elements(array, ()), lambda: asyncio.run(read())):
            value = pool.submit(read_scalar).result()
            assert (value.shape, int(value)) == ((), 7)


def test_errors_of_codecs_are_raised(tmp_path: Path) -> None:
    array = zarr.create_array(LocalStore(tmp_path), name="x", data=np.arange(60), chunks=(5,))
    for number in (2, 7):
        (tmp_path / "x" / "c" / str(number)).write_bytes(b"no zstd")
    with pytest.raises(Exception, match=r"(?i)zstd|decompress"):
        read_in_thread(array, (slice(0, 60),))
