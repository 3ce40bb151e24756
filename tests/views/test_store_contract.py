"""zarr's own tests of stores, as far as they read: what they put into a store is put into the HDF5 file behind it.

In format 2 the key ``foo/0/1`` is the chunk 1 of the dataset ``foo/0``, so most keys of these tests are chunks.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from zarr.buffer import cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

from h5bound import ZarrStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zarr.abc.buffer import Buffer

WRITING = (
    "test_set", "test_set_not_open", "test_set_many", "test_set_if_not_exists", "test_delete", "test_delete_dir",
    "test_delete_nonexistent_key_does_not_raise", "test_clear", "test_set_sync", "test_delete_sync",
    "test_delete_sync_missing", "test_sync_async_set_get_parity", "test_delete_sync_visible_to_async_get",
    "test_store_open_read_only", "test_list", "test_list_prefix", "test_list_empty_path", "test_list_dir",
    "test_get_sync_byte_range_parity",
)  # fmt: skip
"""Tests that write through the store, or want one without a root; `test_zarr_store` has what they ask of listings."""


def in_a_loop(test: Callable[..., Any]) -> Callable[..., Any]:
    """Return a test that runs a coroutine of zarr's: it needs no plugin."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class TestZarrStore(StoreTests[ZarrStore, Any]):
    """The tests of zarr."""

    store_cls = ZarrStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.attrs["a"] = 1
        return {"path": tmp_path / "a.h5", "zarr_format": 2}

    @pytest.fixture
    def open_kwargs(self, store_kwargs: dict[str, Any]) -> dict[str, Any]:
        return store_kwargs

    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> ZarrStore:
        return asyncio.run(ZarrStore.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> ZarrStore:
        return ZarrStore(**store_kwargs)

    async def set(self, store: ZarrStore, key: str, value: Buffer) -> None:
        """Write a chunk of the file, and let the store plan it anew."""
        path, _, place = key.rpartition("/")
        coords = tuple(map(int, place.split("."))) if path else ()
        if not path or not len(value):
            pytest.skip("no dataset has such a chunk")
        data = np.frombuffer(value.to_bytes(), np.uint8).reshape((1,) * (len(coords) - 1) + (-1,))
        source = str(store).removeprefix("hdf5://")
        with h5py.File(source, "a") as file:
            shape = tuple((at + 1) * size for at, size in zip(coords, data.shape, strict=True))
            if path not in file:
                file.create_dataset(path, shape, "u1", chunks=data.shape, maxshape=(None,) * data.ndim)
            dataset: Any = file[path]
            dataset.resize(np.maximum(dataset.shape, shape))
            dataset[tuple(slice(at * size, None) for at, size in zip(coords, data.shape, strict=True))] = data
        store.__dict__.update(ZarrStore(source, zarr_format=2).__dict__, _is_open=store._is_open)  # noqa: SLF001

    async def get(self, store: ZarrStore, key: str) -> Buffer:
        raise NotImplementedError  # only of tests that write

    def test_store_repr(self, store: ZarrStore) -> None:
        assert str(store).startswith("hdf5:///")
        assert repr(store).startswith("<ZarrStore /")

    def test_store_supports_writes(self, store: ZarrStore) -> None:
        assert not store.supports_writes

    def test_store_supports_listing(self, store: ZarrStore) -> None:
        assert store.supports_listing

    def test_store_read_only(self, store: ZarrStore) -> None:
        assert store.read_only
        with pytest.raises(AttributeError):
            store.read_only = False  # type: ignore[misc]

    async def test_read_only_store_raises(self, open_kwargs: dict[str, Any]) -> None:
        store, value = await ZarrStore.open(**open_kwargs), cpu.Buffer.from_bytes(b"bar")
        with pytest.raises(ValueError, match="store was opened in read-only mode and does not support writing"):
            await store.set("foo", value)
        with pytest.raises(ValueError, match="store was opened in read-only mode and does not support writing"):
            await store.delete("foo")
        with pytest.raises(ValueError, match="read-only"):
            await store._set_many([("foo", value)])  # noqa: SLF001
        with pytest.raises(ValueError, match="read-only"):
            store.set_sync("foo", value)
        with pytest.raises(ValueError, match="read-only"):
            store.delete_sync("foo")
        with pytest.raises(NotImplementedError):
            await store.clear()

    async def test_with_read_only_store(self, open_kwargs: dict[str, Any]) -> None:
        store = await ZarrStore.open(**open_kwargs)
        assert store.with_read_only(read_only=True).read_only
        with pytest.raises(ValueError, match="not written to"):
            store.with_read_only(read_only=False)

    async def test_serializable_store(self, store: ZarrStore) -> None:
        await self.set(store, "foo/0", cpu.Buffer.from_bytes(b"\x01\x02"))
        other = pickle.loads(pickle.dumps(store))
        assert (other, other.read_only) == (store, True)
        assert (await other.get("foo/0", default_buffer_prototype())).to_bytes() == b"\x01\x02"

    async def test_get_many(self, store: ZarrStore) -> None:
        keys = [f"a/{number}" for number in range(10)]
        for key in keys:
            await self.set(store, key, cpu.Buffer.from_bytes(key.encode()))
        requests = [(key, default_buffer_prototype(), None) for key in keys]
        found = {key: value.to_bytes() async for key, value in store._get_many(requests)}  # type: ignore[union-attr]  # noqa: SLF001
        assert found == {key: key.encode() for key in keys}

    async def test_getsize_prefix(self, store: ZarrStore) -> None:
        for key in ("c/0/0", "c/0/1", "c/1/0", "cc/0"):
            await self.set(store, key, cpu.Buffer.from_bytes(b"\x01\x02\x03\x04"))
        for array, count in (("c/0", 2), ("c/1", 1), ("cc", 1)):
            documents = [await store.getsize(f"{array}/{name}") for name in (".zarray", ".zattrs")]
            assert await store.getsize_prefix(array) == 4 * count + sum(documents)

    async def test_exists(self, store: ZarrStore) -> None:
        assert not await store.exists("foo")
        await self.set(store, "foo/0", cpu.Buffer.from_bytes(b"bar"))
        assert await store.exists("foo/0")
        assert await store.exists("foo/.zarray")
        assert not await store.exists("foo/1")

    async def test_is_empty(self, store: ZarrStore) -> None:
        await self.set(store, "foo/bar/0", cpu.Buffer.from_bytes(b"something"))
        assert [await store.is_empty(prefix) for prefix in ("", "fo", "foo", "foo/", "spam/")] == [
            False, True, False, False, True,
        ]  # fmt: skip

    def test_get_sync(self, store: ZarrStore) -> None:
        asyncio.run(self.set(store, "sync/0", cpu.Buffer.from_bytes(b"\x01\x02")))
        assert store.get_sync("sync/0").to_bytes() == b"\x01\x02"  # type: ignore[union-attr]


for name in WRITING:
    setattr(TestZarrStore, name, None)
for name, function in inspect.getmembers(TestZarrStore, inspect.iscoroutinefunction):
    if name.startswith("test_"):
        setattr(TestZarrStore, name, in_a_loop(function))
