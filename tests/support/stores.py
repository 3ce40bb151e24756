"""Every kind of target that a conversion can write to, and functions that read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen
from uuid import uuid4

import h5py
import numpy as np
import pytest
import zarr
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, ZipStore

from h5bound.stores.zarr_internals import run
from tests.support.servers import KEY, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zarr.abc.store import Store


@dataclass(frozen=True)
class Place:
    """Where a conversion writes to."""

    open: Callable[[], Any]
    """Returns the target that is passed to `convert`."""
    reopen: Callable[[], Store]
    """Returns a store that reads what was written."""
    storage_options: dict[str, Any] = field(default_factory=dict)
    beside: Callable[[], Store] | None = None
    """Returns a store whose keys ``a/…`` are those of the place, so that ``ab/…`` lies next to it."""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for `convert` and `verify`."""
        return {"storage_options": self.storage_options} if self.storage_options else {}


def s3_options(address: str) -> dict[str, Any]:
    """Return the options with which s3fs reaches a server."""
    return {"key": KEY, "secret": SECRET, "endpoint_url": address}


def new_bucket(address: str) -> str:
    """Create an empty bucket and return its name."""
    name = f"bucket-{uuid4().hex}"
    with urlopen(Request(f"{address}/{name}", method="PUT")):
        return name


def s3_store(address: str, bucket: str, prefix: str) -> ObjectStore[Any]:
    """Return a store of obstore for a prefix in a bucket."""
    store = pytest.importorskip("obstore.store")
    return ObjectStore(
        store.S3Store(
            bucket,
            prefix=prefix,
            endpoint=address,
            region="us-east-1",
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
    )


def folder(tmp_path: Path, _: str) -> Place:
    return Place(
        lambda: LocalStore(tmp_path / "a"), lambda: LocalStore(tmp_path / "a"), beside=lambda: LocalStore(tmp_path)
    )


def file_url(tmp_path: Path, _: str) -> Place:
    return Place(
        lambda: f"file://{tmp_path / 'a'}", lambda: LocalStore(tmp_path / "a"), beside=lambda: LocalStore(tmp_path)
    )


def fsspec_folder(tmp_path: Path, _: str) -> Place:
    return Place(
        lambda: FsspecStore.from_url(f"local://{tmp_path / 'a'}"),
        lambda: LocalStore(tmp_path / "a"),
        beside=lambda: LocalStore(tmp_path),
    )


def memory(_: Path, __: str) -> Place:
    store = MemoryStore()
    return Place(lambda: store, lambda: store)


def memory_url(_: Path, __: str) -> Place:
    base = f"memory://{uuid4().hex}"
    return Place(
        lambda: f"{base}/a",
        lambda: FsspecStore.from_url(f"{base}/a"),
        beside=lambda: FsspecStore.from_url(base),
    )


def s3_url(_: Path, address: str) -> Place:
    bucket, options = new_bucket(address), s3_options(address)
    return Place(
        lambda: f"s3://{bucket}/a",
        lambda: FsspecStore.from_url(f"s3://{bucket}/a", storage_options={**options, "use_listings_cache": False}),
        options,
        beside=lambda: s3_store(address, bucket, ""),
    )


def s3_object(_: Path, address: str) -> Place:
    bucket = new_bucket(address)
    return Place(
        lambda: s3_store(address, bucket, "a"),
        lambda: s3_store(address, bucket, "a"),
        beside=lambda: s3_store(address, bucket, ""),
    )


def obstore_folder(tmp_path: Path, _: str) -> Place:
    store = pytest.importorskip("obstore.store")
    (tmp_path / "a").mkdir()
    return Place(
        lambda: ObjectStore(store.LocalStore(tmp_path / "a")),
        lambda: LocalStore(tmp_path / "a"),
        beside=lambda: LocalStore(tmp_path),
    )


def obstore_memory(_: Path, __: str) -> Place:
    store = ObjectStore(pytest.importorskip("obstore.store").MemoryStore())
    return Place(lambda: store, lambda: store)


def open_zip(path: Path) -> ZipStore:
    return run(ZipStore.open(path, mode="r"))


def zip_path(tmp_path: Path, _: str) -> Place:
    return Place(lambda: tmp_path / "a.zip", lambda: open_zip(tmp_path / "a.zip"))


def zip_object(tmp_path: Path, _: str) -> Place:
    return Place(lambda: ZipStore(tmp_path / "a.zip", mode="a"), lambda: open_zip(tmp_path / "a.zip"))


def icechunk(_: Path, __: str) -> Place:
    """Return a place that opens writable sessions, and reads what was committed."""
    module = pytest.importorskip("icechunk", reason="icechunk has no wheel for this Python")
    repository = module.Repository.create(module.in_memory_storage())
    return Place(lambda: repository.writable_session("main").store, lambda: repository.readonly_session("main").store)


PLACES: list[Callable[[Path, str], Place]] = [
    folder, file_url, fsspec_folder, memory, memory_url, s3_url, s3_object, obstore_folder, obstore_memory, zip_path,
    zip_object, icechunk,
]  # fmt: skip


def read_keys(store: Store) -> dict[str, bytes]:
    """Return all keys of a store with their bytes."""

    async def collect() -> dict[str, bytes]:
        found = {}
        async for key in store.list():
            data = await store.get(key, default_buffer_prototype())
            assert data is not None
            assert key not in found, "twice in the listing"
            found[key] = data.to_bytes()
        return found

    return run(collect())


def put(store: Store, key: str, data: bytes) -> None:
    """Write a key."""
    run(store.set(key, default_buffer_prototype().buffer.from_bytes(data)))


def write_source(path: Path) -> Path:
    """Write a small file with a dataset for each conversion strategy."""
    values = np.random.default_rng(6).normal(size=(12, 10)).astype("f4").round(2)
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "small"
        kept = file.create_dataset("group/kept", data=values, chunks=(4, 10), compression="gzip", shuffle=True)
        kept.attrs["unit"] = "K"
        file.create_dataset("plain", data=np.arange(100.0))
        file.create_dataset("text", data=["a", "ü", ""], dtype=h5py.string_dtype())
        file.create_dataset("lists", data=[np.arange(3), np.arange(0), np.arange(5)], dtype=h5py.vlen_dtype("i4"))
        file["scalar"] = 3.5
    return path


def assert_reads_as(source: Path, store: Store) -> None:
    """Compare what zarr reads of a store with what h5py reads of its source."""
    root = zarr.open_group(store, mode="r")
    with h5py.File(source) as file:
        for name in ("group/kept", "plain", "scalar"):
            array = root[name]
            assert isinstance(array, zarr.Array)
            np.testing.assert_array_equal(np.asarray(array[...]), file[name][...], strict=True)
        text = root["text"]
        assert isinstance(text, zarr.Array)
        assert list(np.asarray(text[...])) == list(file["text"].asstr()[...])
        assert dict(root.attrs)["title"] == file.attrs["title"]
        assert dict(root["group/kept"].attrs)["unit"] == file["group/kept"].attrs["unit"]
