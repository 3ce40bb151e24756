"""A file seen as a Zarr store has the keys and bytes that its conversion has, and is not kept open."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import FileIO
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, cast

import dask
import dask.array as da
import distributed
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import LoggingStore, MemoryStore

from h5bound import CorruptChunkError, OptionError, SourceChangedError, UnsafeSourceError, convert
from h5bound.files.local import read_range
from h5bound.reader.source import H5Source
from h5bound.views import zarr_store
from h5bound.views.zarr_store import ZarrStore
from h5bound.zarr_model.node_names import OWN_KEY
from tests.support import bombs, odd_files
from tests.support.http_server import Behaviour, serve
from tests.support.servers import KEY, SECRET, serve_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])

VALUES = np.arange(4000, dtype="<i4").reshape(40, 100)

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with data of each way to be read."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "made for a test"
        file.create_dataset("gzip", data=VALUES, chunks=(8, 50), compression="gzip", shuffle=True)
        file.create_dataset("plain", data=VALUES, chunks=(8, 50))
        file.create_dataset("lzf", data=VALUES // 1000, chunks=(8, 50), compression="lzf")
        file.create_dataset("contiguous", data=VALUES)
        file.create_dataset("g/c/c", data=VALUES[0], chunks=(30,))
        file.create_dataset("g/scalar", data=2.5)
        file.create_dataset("g/text", data=["a", "bé", ""])
        file.create_dataset("g/empty", (3, 0), "f4")
        file.create_dataset("g/holes", (100,), "i2", chunks=(10,))[20:30] = 7
        sequences = file.create_dataset("g/sequences", (3,), h5py.vlen_dtype("i4"))
        sequences[0], sequences[2] = [1, 2], [3]
        file["g/reference"] = file["gzip"].ref
        masked = file.create_dataset("g/masked", (20,), "<i4", chunks=(10,), compression="gzip")
        masked[:] = range(20)
        masked.id.write_direct_chunk((10,), np.arange(10, dtype="<i4").tobytes(), filter_mask=1)
    return path


def converted(path: Path | str, zarr_format: Any, **options: Any) -> MemoryStore:
    """Return the converted file."""
    store = MemoryStore()
    convert(path, store, zarr_format=zarr_format, **options)
    return store


def collect(items: Any) -> list[str]:
    """Return all that an asynchronous iterator yields, sorted."""

    async def run() -> list[str]:
        return sorted([item async for item in items])

    return asyncio.run(run())


def read_all(store: Any) -> dict[str, bytes]:
    """Return all keys and their bytes, without what the provenance tells of the bytes that were written."""
    keys, prototype = collect(store.list()), default_buffer_prototype()

    async def run() -> list[bytes]:
        return [(await store.get(key, prototype)).to_bytes() for key in keys]

    found = dict(zip(keys, asyncio.run(run()), strict=True))
    return found | {OWN_KEY: json.dumps(json.loads(found[OWN_KEY]) | {"written": {}}).encode()}


@FORMATS
def test_every_key_is_that_of_the_converted_file(path: Path, zarr_format: Any) -> None:
    store, other = ZarrStore(path, zarr_format=zarr_format), converted(path, zarr_format)
    assert read_all(store) == read_all(other)
    folders = {key.rpartition("/")[0] for key in collect(other.list())}
    for folder in {
        "",
        "no",
        "g/no",
        "gzip/c",
        "gzip/c/",
        "gzip/c/9",
        *folders,
        *(f"{name}/" for name in folders if name),
    }:
        assert collect(store.list_dir(folder)) == collect(other.list_dir(folder)), folder
        assert collect(store.list_prefix(folder)) == collect(other.list_prefix(folder)), folder
        assert asyncio.run(store.is_empty(folder)) == asyncio.run(other.is_empty(folder)), folder
        if folder.endswith("/"):  # zarr 3.1 counts what begins with the name of the folder; the root has the provenance
            assert asyncio.run(store.getsize_prefix(folder)) == asyncio.run(other.getsize_prefix(folder)), folder


ODD = [
    odd_files.write_hard_links, odd_files.write_soft_links, odd_files.write_odd_names, odd_files.write_layouts,
    odd_files.write_committed_type, odd_files.write_virtual, odd_files.write_edge_unfiltered,
    odd_files.write_unreadable_types, odd_files.write_huge_grid,
]  # fmt: skip


@FORMATS
@pytest.mark.parametrize("write", ODD)
def test_every_key_of_an_odd_file_is_that_of_the_converted_file(tmp_path: Path, write: Any, zarr_format: Any) -> None:
    path = tmp_path / "odd.h5"
    write(path)
    options: Any = {"on_unsupported": "skip", "allow_external": [tmp_path]}
    assert read_all(ZarrStore(path, zarr_format=zarr_format, **options)) == read_all(
        converted(path, zarr_format, **options)
    )


@FORMATS
def test_arrays_may_be_called_like_parts_of_keys(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "named.h5"
    with h5py.File(path, "w") as file:
        for number, name in enumerate(["c", "g/c", "g/0", "h/c/c", "h/0.0", "i/c/0"], start=1):
            file[name] = number  # a scalar
        file["j/c/0/c"] = [7, 8]
    store = ZarrStore(path, zarr_format=zarr_format)
    assert read_all(store) == read_all(converted(path, zarr_format))
    group = zarr.open_group(store, mode="r")
    assert [int(group[name][()]) for name in ("c", "g/c", "h/c/c", "i/c/0")] == [1, 2, 4, 6]  # type: ignore[index,arg-type]


def test_chunks_of_a_url_are_requested_as_ranges(path: Path) -> None:
    with serve(path.parent) as server:
        store = ZarrStore(f"{server.url}/a.h5")
        wanted = read_all(converted(path, 3))
        for key in ("gzip/c/0/0", "lzf/c/1/1"):
            assert store.get_sync(key).to_bytes() == wanted[key]  # type: ignore[union-attr]
        server.forget()
        sizes = [len(store.get_sync(f"gzip/c/{i}/1")) for i in range(5)]  # type: ignore[arg-type]
        assert [request.nbytes for request in server.requests] == sizes  # one each, for this state only
        part = SuffixByteRequest(3)
        assert store.get_sync("gzip/c/0/0", byte_range=part).to_bytes() == wanted["gzip/c/0/0"][-3:]  # type: ignore[union-attr]
        assert server.requests[-1].nbytes == 3
        assert server.count("HEAD") == 0
        with h5py.File(path, "a") as file:
            file["gzip"][0] = 7
        for key in ("gzip/c/0/0", "lzf/c/1/1"):
            with pytest.raises(SourceChangedError, match="changed after"):
                store.get_sync(key)


def test_a_server_that_pins_no_state_is_asked_for_it_at_each_read(path: Path) -> None:
    with serve(path.parent) as server:
        server.behaviour = Behaviour(stamps=False)
        store = ZarrStore(f"{server.url}/a.h5")
        assert store.get_sync("gzip/c/0/0") is not None
        with h5py.File(path, "a") as file:
            file.create_dataset("new", data=VALUES)
        with pytest.raises(SourceChangedError, match="changed after"):
            store.get_sync("gzip/c/1/0")


@pytest.mark.slow
def test_chunks_of_an_object_are_those_of_the_converted_file(path: Path) -> None:
    s3fs = pytest.importorskip("s3fs")
    with serve_s3() as url:
        options = {"key": KEY, "secret": SECRET, "endpoint_url": url}
        system = s3fs.S3FileSystem(**options)
        system.mkdir("bucket")
        system.put(str(path), "bucket/a.h5")
        store = ZarrStore("s3://bucket/a.h5", storage_options=options)
        wanted = read_all(converted(path, 3))
        names = [key for key in wanted if key != OWN_KEY]
        assert {key: store.get_sync(key).to_bytes() for key in names} == {key: wanted[key] for key in names}  # type: ignore[union-attr]
        assert KEY not in repr(store) + str(store)
        other = pickle.loads(pickle.dumps(store))
        with h5py.File(path, "a") as file:
            file["gzip"][0] = 7
        system.put(str(path), "bucket/a.h5")
        for key in ("gzip/c/0/0", "lzf/c/0/0"):
            with pytest.raises(SourceChangedError, match="changed after"):
                other.get_sync(key)


@FORMATS
def test_parts_of_keys_are_those_of_the_converted_file(path: Path, zarr_format: Any) -> None:
    store, other = ZarrStore(path, zarr_format=zarr_format), converted(path, zarr_format)
    keys = [key for key in collect(other.list()) if key.startswith(("gzip", "lzf", "plain", "g/scalar"))]
    parts = [
        None, RangeByteRequest(1, 4), RangeByteRequest(3, 10**9), RangeByteRequest(2, 2), OffsetByteRequest(2),
        OffsetByteRequest(10**9), SuffixByteRequest(3), SuffixByteRequest(10**9), RangeByteRequest(10**9, 2 * 10**9),
    ]  # fmt: skip
    prototype = default_buffer_prototype()
    ranges: Any = [(key, part) for key in keys for part in parts]
    found, wanted = (asyncio.run(each.get_partial_values(prototype, iter(ranges))) for each in (store, other))
    assert [item.to_bytes() for item in found] == [item.to_bytes() for item in wanted]  # type: ignore[union-attr]
    assert found == [store.get_sync(key, byte_range=part) for key, part in ranges]
    assert [asyncio.run(store.getsize(key)) for key in keys] == [asyncio.run(other.getsize(key)) for key in keys]
    with pytest.raises(ValueError, match="Unexpected byte_range, got"):
        asyncio.run(store.get(keys[0], prototype, (0, 2)))  # type: ignore[arg-type]


MISSING = [
    "", "c", "no", "gzip", "gzip/c", "gzip/c/0", "gzip/c/0/0/0", "gzip/c/5/0", "gzip/c/00/0", "gzip/c/0/-1",
    "gzip/c/0/", "gzip/c/a/0", "gzip/c/0/²", "gzip/.zarray", "g/holes/c/0", "g/scalar/c/0", "gzip/0.0",
]  # fmt: skip


@pytest.mark.parametrize("key", MISSING)
def test_a_key_that_is_not_there_is_missing(path: Path, key: str) -> None:
    store = ZarrStore(path)
    assert store.get_sync(key) is None
    assert not asyncio.run(store.exists(key))
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.getsize(key))


def test_readers_of_zarr_read_what_h5py_reads(path: Path) -> None:
    group: Any = zarr.open_group(ZarrStore(path), mode="r")
    np.testing.assert_array_equal(group["lzf"][...], VALUES // 1000)
    for name in ("gzip", "plain", "contiguous"):
        np.testing.assert_array_equal(group[name][...], VALUES)
    array = da.from_zarr(ZarrStore(path), component="gzip")
    np.testing.assert_array_equal(array.compute(), VALUES)
    assert dask.base.tokenize(ZarrStore(path)) == dask.base.tokenize(ZarrStore(path))
    assert dask.base.tokenize(ZarrStore(path)) != dask.base.tokenize(ZarrStore(path, zarr_format=2))


def test_nothing_can_be_written(path: Path) -> None:
    store = ZarrStore(path)
    assert (store.read_only, store.supports_writes, store.supports_deletes) == (True, False, False)
    assert store.with_read_only(read_only=True) == store
    buffer = default_buffer_prototype().buffer.from_bytes(b"x")
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("a", buffer))
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.delete("a"))
    with pytest.raises(ValueError, match=r"read-only|not written"):
        zarr.open_group(store, mode="a")
    with pytest.raises(ValueError, match="not written to"):
        store.with_read_only()


def is_open(path: Path) -> bool:
    """Return whether HDF5 keeps another program from writing to a file."""
    code = f"import h5py; h5py.File({str(path)!r}, 'r+')"
    return (
        b"unable to lock file" in subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr
    )


def append(path: Path) -> None:
    """Write to a file with h5py."""
    with h5py.File(path, "a") as file:
        file.attrs["appended"] = 1


@pytest.mark.parametrize("end", ["", "close", "collect"])
@pytest.mark.parametrize("name", ["gzip", "lzf", "contiguous", "g/text"])
def test_a_file_can_be_written_right_after_a_read(path: Path, name: str, end: str) -> None:
    store: ZarrStore | None = ZarrStore(path)
    zarr.open_group(store, mode="r")[name][...]  # type: ignore[index]
    if end == "close" and store is not None:
        store.close()
    elif end:
        store = None
    append(path)


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """Return another process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        yield process


@pytest.mark.slow
def test_another_program_can_write_right_after_a_read(path: Path, process: ProcessPoolExecutor) -> None:
    with h5py.File(path), pytest.raises(BlockingIOError):
        process.submit(append, path).result()
    zarr.open_group(ZarrStore(path), mode="r")["lzf"][...]  # type: ignore[index]
    process.submit(append, path).result()


def test_an_element_reads_its_chunk_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array: Any = zarr.open_group(ZarrStore(path), mode="r")["gzip"]
    with h5py.File(path) as file:
        place = file["gzip"].id.get_chunk_info_by_coord((8, 50))
    read, before = [], read_range

    def record(path: str, offset: int, nbytes: int) -> Any:
        read.append((offset, nbytes))
        return before(path, offset, nbytes)

    monkeypatch.setattr("h5bound.views.served_file.read_range", record)
    monkeypatch.setattr(H5Source, "open", None)  # HDF5 opens nothing
    assert array[9, 60] == VALUES[9, 60]
    assert read == [(place.byte_offset, place.size)]


def test_reads_at_once_open_the_file_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array: Any = zarr.open_group(ZarrStore(path), mode="r")["contiguous"]
    opened, before = [], H5Source.open

    def count(source: H5Source) -> Any:
        opened.append(source)
        return before(source)

    monkeypatch.setattr(H5Source, "open", count)
    np.testing.assert_array_equal(array[...], VALUES)
    assert len(opened) == 1


@pytest.mark.parametrize("key", ["gzip/c/0/0", "lzf/c/0/0", "g/text/c/0"])
def test_a_file_that_changed_is_not_read(path: Path, key: str) -> None:
    store = ZarrStore(path)
    with h5py.File(path, "a") as file:
        file["gzip"][0] = 7
    with pytest.raises(SourceChangedError, match="changed after"):
        store.get_sync(key)
    with pytest.raises(SourceChangedError, match="changed after"):
        asyncio.run(store.get(key))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        store.get_sync(key)


def test_a_file_that_this_process_writes_is_not_read(path: Path) -> None:
    store = ZarrStore(path)
    with h5py.File(path, "a") as file:
        file["lzf"][...] = 7
        with pytest.raises(SourceChangedError, match="opened the file for writing"):
            store.get_sync("lzf/c/0/0")
        file.flush()
        with pytest.raises(SourceChangedError, match="opened the file for writing"):
            store.get_sync("gzip/c/0/0")
        again: Any = zarr.open_group(ZarrStore(file), mode="r")["lzf"]
        assert again[0, 0] == 7
        del file["lzf"]
        file.create_dataset("lzf", data=VALUES * 1.0, chunks=(8, 50))
        with pytest.raises(SourceChangedError, match=r"'/lzf' of .* made anew"):
            again[0, 0]


@pytest.mark.parametrize("name", ["gzip", "lzf"])
def test_an_array_can_be_stored_into_its_own_file_while_that_is_open(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        array = da.from_zarr(ZarrStore(file), component=name)
        da.store(array * 2, file.create_dataset("twice", VALUES.shape, "i4"), scheduler="threads")
        np.testing.assert_array_equal(file["twice"][...], file[name][...] * 2)
    with pytest.raises(SourceChangedError, match="make the store again from the open"):
        da.to_hdf5(path, "/no", da.from_zarr(ZarrStore(path), component=name) * 2)


@pytest.mark.parametrize("name", ["gzip", "lzf"])
def test_an_array_is_stored_over_itself_in_its_order_alone(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        values, store = file[name][...], ZarrStore(file)
        for array in (
            da.from_zarr(store, component=name),
            da.from_zarr(LoggingStore(store, log_level="ERROR"), component=name),
            xr.open_zarr(store)[name].data,
        ):
            with pytest.raises(SourceChangedError, match=f"/{name}.*overwritten while values are computed from it"):
                da.store(array[::-1], file[name], scheduler="threads")
            np.testing.assert_array_equal(file[name][...], values)
            da.store(array + 1, file[name], scheduler="threads")
            values = values + 1
            np.testing.assert_array_equal(file[name][...], values)


@pytest.mark.parametrize("name", ["virtual", "external"])
def test_a_file_that_changed_behind_another_is_not_read(path: Path, tmp_path: Path, name: str) -> None:
    main = tmp_path / "main.h5"
    with h5py.File(main, "w") as file:
        layout = h5py.VirtualLayout(VALUES.shape, "i4")
        layout[...] = h5py.VirtualSource(path, "gzip", VALUES.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", data=VALUES, external=[(tmp_path / "raw", 0, VALUES.nbytes)])
    store = ZarrStore(main, allow_external=[tmp_path])
    array: Any = zarr.open_group(store, mode="r")[name]
    np.testing.assert_array_equal(array[...], VALUES)
    changed = path if name == "virtual" else tmp_path / "raw"
    changed.write_bytes(changed.read_bytes())
    with pytest.raises(SourceChangedError, match="changed"):
        array[...]


def test_threads_end_with_their_stores(path: Path) -> None:
    with serve(path.parent) as server:
        stores = [ZarrStore(f"{server.url}/a.h5") for _ in range(3)]
        before = threading.active_count()
        for store in stores:
            store.get_sync("lzf/c/0/0")
        assert threading.active_count() == before + len(stores)
        stores.clear()
        del store
        gc.collect()
        time.sleep(1.2)
        assert threading.active_count() <= before


def test_a_damaged_chunk_is_named(path: Path) -> None:
    with h5py.File(path) as file:
        place = file["lzf"].id.get_chunk_info(3)
    with path.open("r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(b"\xff" * place.size)
    store = ZarrStore(path)
    with pytest.raises(CorruptChunkError, match=r"'/lzf' of .*a\.h5"):
        read_all(store)


def test_a_chunk_of_another_size_than_its_elements_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (4, 4), "i4", chunks=(2, 4), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), b"12345", filter_mask=0)
        plain = file.create_dataset("plain", (4, 4), "i4", chunks=(2, 4))
        plain.id.write_direct_chunk((0, 0), b"12345")
    store = ZarrStore(tmp_path / "a.h5")
    assert len(store.get_sync("x/c/0/0")) == 5  # type: ignore[arg-type]
    for read in (lambda: convert(tmp_path / "a.h5", MemoryStore()), lambda: store.get_sync("plain/c/0/0")):
        with pytest.raises(CorruptChunkError, match=r"'/plain' of .* 5 bytes"):
            read()


@FORMATS
@pytest.mark.parametrize(
    "options",
    [
        {"names": "portable", "nan": "text"},
        {"links": "copy"},
        {"compounds": "columns"},
        {"include": ["/struct*", "/nested/*"], "exclude": ["*x*"]},
    ],
    ids=str,
)
def test_options_are_those_of_a_conversion(tmp_path: Path, options: dict[str, Any], zarr_format: Any) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["struct"] = np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])
        file["nested/Case"] = file["nested/case"] = [1.5, 2]
        file["nested/x: y"] = h5py.SoftLink("/struct")
        file["nested"].attrs["nan"] = np.nan
    made = ZarrStore(path, zarr_format=zarr_format, **options)
    assert read_all(made) == read_all(converted(path, zarr_format, **options))


def test_limits_are_those_of_a_conversion(path: Path) -> None:
    for name in ("max_objects", "max_depth", "max_chunks"):
        with pytest.raises(UnsafeSourceError, match=name):
            ZarrStore(path, **{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [bombs.write_petabyte, bombs.write_ladder, bombs.write_inflated])
def test_a_bomb_is_judged_as_in_a_conversion(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a.h5"
    write(path)
    remark = convert(path, MemoryStore(), dry_run=True, on_unsupported="skip").skipped
    assert [item.path for item in ZarrStore(path, on_unsupported="skip").report.skipped] == [i.path for i in remark]


def test_the_report_says_what_is_served_and_how(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/gzip")
        file["external"] = h5py.ExternalLink("no.h5", "/x")
    store = ZarrStore(path, exclude=["/plain"])
    assert {entry.path: entry.how for entry in store.report.arrays}["/gzip"] == "copied"
    assert store.report.forms["link"] == 1
    assert [item.path for item in store.report.skipped] == ["/plain"]
    assert store.report.to_dict()["target"] == f"hdf5://{path}"
    for text in (repr(store), store._repr_html_()):
        assert "served without a copy" in text
        assert "/soft" in text
    assert repr(pickle.loads(pickle.dumps(ZarrStore(path, nan="text")))) == f"<ZarrStore {path}>"


def test_what_zarr_cannot_hold_is_refused_or_left_out(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3,), "i4")
        layout[...] = h5py.VirtualSource(tmp_path / "sub" / "b.h5", "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    with pytest.raises(UnsafeSourceError, match="virtual"):
        ZarrStore(path)
    assert "virtual/zarr.json" not in collect(ZarrStore(path, on_unsupported="skip").list())
    assert collect(ZarrStore(path, include=["/gzip"]).list_dir("")) == ["gzip", "h5bound.json", "zarr.json"]
    with pytest.raises(OptionError):
        ZarrStore(path, zarr_format=4)  # type: ignore[arg-type]


def test_many_threads_read_at_once(path: Path) -> None:
    store, wanted = ZarrStore(path), read_all(converted(path, 3))
    keys = [key for key in wanted if key != OWN_KEY] * 8
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda key: store.get_sync(key).to_bytes(), keys))  # type: ignore[union-attr]
    assert found == [wanted[key] for key in keys]


def test_a_store_of_a_file_that_changed_is_unpickled_and_not_read(path: Path) -> None:
    content = pickle.dumps(ZarrStore(path))
    assert zarr.open_group(pickle.loads(content), mode="r")["gzip"][0, 1] == 1  # type: ignore[index]
    with h5py.File(path, "a") as file:
        file.attrs["new"] = 1
    store = pickle.loads(content)  # a worker that raised here would hang
    with pytest.raises(SourceChangedError):
        store.get_sync("gzip/c/0/0")


def read_sizes(content: bytes) -> list[int]:
    """Return the sizes of two chunks of a pickled store."""
    store = pickle.loads(content)
    assert pickle.loads(pickle.dumps(store)) is store
    return [len(store.get_sync(key)) for key in ("gzip/c/0/0", "lzf/c/0/0")]


@pytest.mark.slow
def test_a_store_travels_to_other_processes(path: Path, process: ProcessPoolExecutor) -> None:
    store = ZarrStore(path)
    assert pickle.loads(pickle.dumps(store)) == store
    assert process.submit(dask.base.tokenize, store).result() == dask.base.tokenize(store)
    assert process.submit(read_sizes, pickle.dumps(store)).result() == read_sizes(pickle.dumps(store))
    append(path)
    with pytest.raises(SourceChangedError):
        process.submit(read_sizes, pickle.dumps(store)).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_for_itself(path: Path) -> None:
    store = ZarrStore(path)
    wanted = store.get_sync("lzf/c/0/0").to_bytes()  # type: ignore[union-attr]
    child = os.fork()
    if not child:
        os._exit(store.get_sync("lzf/c/0/0").to_bytes() != wanted)  # type: ignore[union-attr]
    assert os.waitpid(child, 0)[1] == 0
    assert store.get_sync("lzf/c/0/0").to_bytes() == wanted  # type: ignore[union-attr]


@FORMATS
def test_xarray_reads_a_netcdf_file(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.nc"
    made = xr.Dataset(
        {"t": (("time", "x"), np.arange(12.0).reshape(4, 3), {"units": "K"})},
        {"time": np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[ns]")},
    )
    made.to_netcdf(path, encoding={"t": {"zlib": True, "chunksizes": (2, 3)}})
    store = ZarrStore(path, zarr_format=zarr_format)
    with xr.open_zarr(store) as found, xr.open_dataset(path) as wanted:
        xr.testing.assert_identical(found, wanted)
    made.to_netcdf(path, mode="a", group="inner")
    store = ZarrStore(path, zarr_format=zarr_format)
    with xr.open_datatree(cast("Any", store), engine="zarr") as tree, xr.open_datatree(path) as wanted_tree:
        xr.testing.assert_identical(tree, wanted_tree)


@pytest.mark.slow
def test_workers_plan_a_file_once_and_read_it(path: Path) -> None:
    array = da.from_zarr(ZarrStore(path), component="lzf", chunks=(1, 100))
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        np.testing.assert_array_equal(array.compute(), VALUES // 1000)
        kept = client.run(lambda: len(zarr_store._kept))  # noqa: SLF001
        append(path)
        with pytest.raises(SourceChangedError):
            (array + 1).compute()
    assert list(kept.values()) == [1]


def test_a_dataset_that_was_never_written_may_have_more_chunks_than_64_bits_count(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (2**40, 2**40), "i2", chunks=(1, 1), fillvalue=7)
    opened = zarr.open_array(ZarrStore(tmp_path / "a.h5"), path="x", mode="r")
    assert opened[2**39, 2**33] == 7


class ShortReads(FileIO):
    """A file of which one read returns 5 bytes at most, as the system returns 2 GiB at most."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(5 if size is None or size < 0 else min(size, 5))


def test_a_range_that_takes_several_reads_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(range(20)))
    monkeypatch.setattr(type(tmp_path), "open", lambda path, *_args, **_options: ShortReads(path))
    assert read_range(str(tmp_path / "a"), 3, 14)[0].tolist() == list(range(3, 17))


FAULTS = """
import resource, sys, threading
import numpy as np
from h5bound import ZarrStore

store = ZarrStore(sys.argv[1])

def use():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(8):
            buffers = [np.ones(1 << 21, np.uint8) for _ in range(3)]
            del buffers
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

thread = threading.Thread(target=use)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is not known")
def test_the_memory_that_zarr_decodes_one_chunk_in_serves_the_next(tmp_path: Path) -> None:
    """Buffers for 3 chunks, made 8 times, take no new pages; without `reuse_freed` it is 12,000."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (8, 1 << 19), "<i4", chunks=(1, 1 << 19), compression="gzip")
    place = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}  # dask's nannies set one
    command = [sys.executable, "-c", FAULTS, str(tmp_path / "x.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=place)
    assert int(done.stdout) < 500
