"""Conversions into every kind of store, by path, URL and object, and into stores that fail."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import zipfile
from itertools import count
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import dask
import h5py
import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

from h5bound import convert, verify
from h5bound.cli.main import run_command
from h5bound.errors import CorruptChunkError, OptionError, TargetError
from h5bound.stores.keys import run_each
from h5bound.stores.local import DirectoryKeys, empty_levels, write_partial
from h5bound.stores.lock import MARKER
from h5bound.stores.metadata import dump
from h5bound.stores.resolve import open_target
from h5bound.stores.zarr_internals import run
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support import stores
from tests.support.servers import KEY, SECRET, serve_folder, serve_s3
from tests.support.stores import PLACES, assert_reads_as, put, read_keys, s3_store, write_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from zarr.abc.buffer import Buffer

    from tests.support.stores import Place


WAYS: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]
"""Options of `convert` for a target that exists."""


class Failing(WrapperStore[Store]):
    """A store whose k-th operation fails, once or with all that follow."""

    def __init__(self, store: Store, first: float = math.inf, *, for_ever: bool = False) -> None:
        super().__init__(store)
        self.first, self.for_ever, self.done = first, for_ever, 0
        self.log: list[tuple[str, str]] = []

    def count(self, what: str, key: str) -> None:
        self.done += 1
        self.log.append((what, key))
        if self.done == self.first or (self.for_ever and self.done > self.first):
            raise OSError(errno.EIO, f"operation {self.done} failed")

    async def get(self, *args: Any, **options: Any) -> Buffer | None:
        self.count("get", args[0])
        return await super().get(*args, **options)

    async def set(self, *args: Any) -> None:
        self.count("set", args[0])
        await super().set(*args)

    async def set_if_not_exists(self, *args: Any) -> None:
        self.count("set", args[0])
        await super().set_if_not_exists(*args)

    async def delete(self, *args: Any) -> None:
        self.count("delete", args[0])
        await super().delete(*args)

    async def delete_dir(self, *args: Any) -> None:
        self.count("delete_dir", args[0])
        await super().delete_dir(*args)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        self.count("list", prefix)
        async for key in super().list_prefix(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        self.count("list", prefix)
        async for name in super().list_dir(prefix):
            yield name


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Return the address of an S3 server."""
    with serve_s3() as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.h5")


def converted(source: Path, folder: Path, **options: Any) -> dict[str, bytes]:
    """Return the keys of a conversion into a folder."""
    convert(source, folder, **options)
    return read_keys(LocalStore(folder))


@pytest.mark.slow
@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_every_store_gets_what_a_folder_gets(
    make: Callable[[Path, str], Place], zarr_format: Literal[2, 3], tmp_path: Path, s3: str, source: Path
) -> None:
    if make.__name__ == "icechunk" and zarr_format == 2:
        pytest.skip("icechunk holds format 3")
    place = make(tmp_path, s3)
    target = place.open()
    report = convert(source, target, zarr_format=zarr_format, verify=True, **place.options)
    assert report.verification is not None
    assert report.verification.equal
    assert verify(source, target, **place.options).equal
    wanted = converted(source, tmp_path / "wanted", zarr_format=zarr_format)
    with quiet_zarr():
        assert_reads_as(source, place.reopen())
    found = read_keys(place.reopen())
    if make.__name__ == "icechunk":
        root, own = json.loads(found["zarr.json"]), json.loads(wanted["h5bound.json"])
        inner = root["consolidated_metadata"].pop("h5bound")
        assert inner == {**own, "settings": {**own["settings"], "nan": "text"}}  # it takes no NaN
        found |= {"zarr.json": dump(root), "h5bound.json": wanted["h5bound.json"]}
    assert found == wanted


ODD_NAMES = [
    "Sex", "sex", "%mito", "%CD8", "a%20b", "x:y", "T cell?", "<5", "#1", "con", "a.", "a+b&c=d", "é", "e\u0301",
    "x\ny", "c", "0", "back\\slash", "zarr.json",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_every_store_has_the_names_that_it_can_hold(
    make: Callable[[Path, str], Place], tmp_path: Path, s3: str
) -> None:
    source, place = tmp_path / "odd.h5", make(tmp_path, s3)
    with h5py.File(source, "w") as file:
        for number, name in enumerate(ODD_NAMES):
            file[name] = [number, number]
    report = convert(source, place.open(), verify=True, **place.options)
    assert report.exit_code == 0
    changed = {"back\\slash": "back%5Cslash", "zarr.json": "%7Aarr.json"}
    if make.__name__ in ("s3_url", "s3_object", "obstore_folder", "obstore_memory"):
        changed |= {"x\ny": "x%0Ay"}
    with quiet_zarr():
        root = zarr.open_group(place.reopen(), mode="r")
        found = {name: np.asarray(array[:]).tolist() for name, array in root.arrays()}
    assert found == {changed.get(name, name): [number] * 2 for number, name in enumerate(ODD_NAMES)}


@pytest.mark.parametrize(
    "options", [{"shards": "1 KiB"}, {"codecs": "zstd:3", "chunks": {"*": (5, 5)}}], ids=["kept in shards", "encoded"]
)
def test_shards_and_codecs_reach_an_object_store_as_they_reach_a_folder(
    options: dict[str, Any], tmp_path: Path, s3: str, source: Path
) -> None:
    place = stores.s3_object(tmp_path, s3)
    convert(source, place.open(), **options)
    assert read_keys(place.reopen()) == converted(source, tmp_path / "wanted", **options)


@pytest.mark.slow
@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_overwriting_deletes_the_old_store_and_nothing_next_to_it(
    make: Callable[[Path, str], Place], tmp_path: Path, s3: str, source: Path
) -> None:
    place = make(tmp_path, s3)
    convert(write_other(tmp_path / "other.h5"), place.open(), **place.options)
    before = read_keys(place.reopen())
    neighbours = {"ab/zarr.json": b"{}", "ab/group/kept/c/0/0": b"x", "a.json": b"{}", "A/zarr.json": b"{}"}
    if place.beside is not None:
        for key, data in neighbours.items():
            put(place.beside(), key, data)
    for options in WAYS[:2]:
        with pytest.raises(TargetError, match="overwrite=True"):
            convert(source, place.open(), **options, **place.options)
    assert read_keys(place.reopen()) == before
    convert(source, place.open(), overwrite=True, **place.options)
    found = read_keys(place.reopen())
    assert not [key for key in found if key.startswith("only")]
    own = {"h5bound.json"} if make.__name__ == "icechunk" else set()  # is in zarr.json there
    assert found.keys() | own == converted(source, tmp_path / "wanted").keys()
    assert verify(source, place.open(), **place.options).equal
    if place.beside is not None:
        every = read_keys(place.beside())
        assert {key: every.get(key) for key in neighbours} == neighbours


def stop(done: int, total: int) -> None:
    """Interrupt a conversion when all chunks are written, and no metadata document."""
    if done == total:
        raise KeyboardInterrupt


RESUMED = [make for make in PLACES if make.__name__ not in ("zip_path", "zip_object", "icechunk")]


@pytest.mark.slow
@pytest.mark.parametrize("make", RESUMED, ids=lambda make: make.__name__)
def test_an_interrupted_conversion_writes_only_the_missing_keys(
    make: Callable[[Path, str], Place], tmp_path: Path, s3: str, source: Path
) -> None:
    place, wanted = make(tmp_path, s3), converted(source, tmp_path / "wanted")
    with pytest.raises(KeyboardInterrupt):
        convert(source, place.open(), progress=stop, **place.options)
    chunks = {key for key in wanted if not key.endswith(("zarr.json", "h5bound.json"))}
    assert read_keys(place.reopen()).keys() == chunks | {MARKER}
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, place.open(), **place.options)
    report = convert(source, place.open(), resume=True, progress=stop, **place.options)  # nothing is left to write
    assert sum(entry.written_nbytes for entry in report.arrays) == sum(len(wanted[key]) for key in chunks)
    assert read_keys(place.reopen()) == wanted
    assert convert(source, place.open(), resume=True, **place.options).converted == report.converted


def test_keys_that_others_deleted_from_a_bucket_are_missing(tmp_path: Path, s3: str, source: Path) -> None:
    place = stores.s3_url(tmp_path, s3)
    convert(source, place.open(), **place.options)
    with pytest.raises(TargetError, match="exists; resume=True"):
        convert(source, place.open(), **place.options)
    assert place.beside is not None
    run(place.beside().clear())
    assert convert(source, place.open(), **place.options).complete


@pytest.mark.parametrize("make", [stores.s3_url, stores.s3_object, stores.memory_url, stores.folder])
def test_files_that_are_no_store_are_not_overwritten(
    make: Callable[[Path, str], Place], tmp_path: Path, s3: str, source: Path
) -> None:
    place = make(tmp_path, s3)
    put(place.reopen(), "notes/today.txt", b"keep")
    for options in WAYS:
        with pytest.raises(TargetError, match="not a Zarr store"):
            convert(source, place.open(), **options, **place.options)
    assert read_keys(place.reopen()) == {"notes/today.txt": b"keep"}
    with pytest.raises(TargetError, match="no Zarr store of format 3"):
        verify(source, place.open(), **place.options)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_the_marker_is_written_first_and_deleted_last_and_the_root_is_the_last_document(
    source: Path, zarr_format: Literal[2, 3]
) -> None:
    store = Failing(MemoryStore())
    convert(source, store, zarr_format=zarr_format, workers=4)
    written = [key for what, key in store.log if what == "set"]
    root = ["h5bound.json", *(["zarr.json"] if zarr_format == 3 else [".zattrs", ".zmetadata", ".zgroup"])]
    before = written[: -len(root)]
    chunks = [number for number, key in enumerate(before) if not key.rpartition("/")[2].startswith((".z", "zarr"))]
    assert written[0] == MARKER
    assert written[-len(root) :] == root
    inner = set(written[max(chunks) + 1 : -len(root)])
    assert inner == {key for key in written if "/" in key and key.rpartition("/")[2].startswith((".z", "zarr"))}
    assert store.log[-1] == ("delete", MARKER)


def test_keys_are_written_some_at_a_time(source: Path) -> None:
    class Slow(Failing):
        now, most = 0, 0

        async def set(self, *args: Any) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            await super().set(*args)
            self.now -= 1

    store = Slow(MemoryStore())
    with zarr.config.set({"async.concurrency": 3}):
        convert(source, store, codecs="none", chunks={"/plain": (2,)}, workers=1)
    assert store.most == 3
    assert verify(source, store).equal


def test_after_a_key_has_failed_no_other_begins_and_those_in_flight_are_written() -> None:
    begun, ended = [], []

    async def act(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0.01)
        if number == 1:
            raise ValueError(number)
        await asyncio.sleep(0.05)
        ended.append(number)

    with zarr.config.set({"async.concurrency": 3}), pytest.raises(ValueError, match="1"):
        run_each(act, range(100))
    assert begun == [0, 1, 2]
    assert ended == [0, 2]


def test_nothing_is_written_after_a_conversion_has_failed(source: Path) -> None:
    class OneFails(Failing):
        """A store that fails at one chunk while it writes another."""

        now, begun = 0, False

        async def set(self, key: str, value: Buffer) -> None:
            if key.startswith("plain"):
                while not self.now:
                    await asyncio.sleep(0.001)
                raise OSError(errno.EIO, "no")
            slow = key.startswith("group/kept/c")
            self.now += slow
            await asyncio.sleep(0.2 * slow)
            await super().set(key, value)
            self.now -= slow

    store = OneFails(MemoryStore())
    with pytest.raises(OSError, match="no"):
        convert(source, store, codecs="none", workers=4)
    assert store.now == 0
    assert any(key.startswith("group/kept/c") for key in read_keys(store))


@pytest.mark.slow
@pytest.mark.parametrize("make", [stores.s3_url, stores.s3_object])
def test_credentials_are_in_no_report_error_log_or_key(
    make: Callable[[Path, str], Place],
    tmp_path: Path,
    s3: str,
    source: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    place = make(tmp_path, s3)
    target = place.open()
    report = convert(source, target, verify=True, report=tmp_path / "report.json", **place.options)
    shown = [
        repr(report),
        report.to_json(),
        (tmp_path / "report.json").read_text(),
        repr(verify(source, target, **place.options)),
    ]
    opened = open_target(target, 3, place.storage_options or None)
    shown += [repr(opened), str(opened), str(opened.store), repr(opened.store)]
    with pytest.raises(TargetError) as caught:
        convert(source, target, **place.options)
    shown.append(repr(caught.value))
    missing = make(tmp_path, s3)
    for key in (MARKER, "zarr.json"):
        put(missing.reopen(), key, b"{")
    for act in (convert, verify):
        with pytest.raises(TargetError) as caught:
            act(source, missing.open(), **missing.options)
        shown.append(repr(caught.value))
    bucket = {"make": s3_store(s3, "not-there", "a")} if make is stores.s3_object else {"make": "s3://not-there/a"}
    with pytest.raises(TargetError, match=r"not-there.* cannot be reached: .*does not exist") as failed:
        convert(source, bucket["make"], **place.options)
    shown += [repr(failed.value), *getattr(failed.value, "__notes__", [])]
    shown += [f"{key}{data!r}" for key, data in read_keys(place.reopen()).items()]
    shown.append(caplog.text)
    assert report.complete
    assert not [text for text in shown if KEY in text or SECRET in text]


@pytest.mark.slow
def test_a_dataset_that_cannot_be_read_is_deleted_again_and_its_neighbours_are_not(tmp_path: Path, s3: str) -> None:
    source = write_damaged(tmp_path / "damaged.h5")
    options: Any = {"codecs": "none", "on_unsupported": "skip", "window": "1 KiB", "workers": 1}
    wanted = converted(source, tmp_path / "wanted", **options)
    assert "bad2/c/0" in wanted
    assert not [key for key in wanted if key.startswith("bad/")]
    for make in (stores.s3_url, stores.s3_object, stores.memory, stores.memory_url):
        place = make(tmp_path, s3)
        report = convert(source, place.open(), verify=True, **options, **place.options)
        assert [item.path for item in report.skipped] == ["/bad"]
        assert report.verification is not None
        assert report.verification.equal
        assert read_keys(place.reopen()) == wanted
    with pytest.raises(TargetError, match=r"bad was written in part .* skip it with exclude"):
        convert(source, tmp_path / "a.zip", **options)
    report = convert(source, tmp_path / "a.zip", exclude=["/bad"], verify=True, **options)
    assert report.verification is not None
    assert report.verification.equal


def write_damaged(path: Path) -> Path:
    """Write a file with a dataset whose last chunk cannot be read."""
    with h5py.File(path, "w") as file:
        for name in ("bad", "bad2"):
            file.create_dataset(name, data=np.arange(1000), chunks=(100,), compression="gzip")
        info = file["bad"].id.get_chunk_info(9)
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset)
        raw.write(bytes(info.size))
    return path


def test_a_zip_file_is_complete_or_not_there(tmp_path: Path, source: Path) -> None:
    target, damaged = tmp_path / "new" / "a.zip", write_damaged(tmp_path / "damaged.h5")
    with pytest.raises(CorruptChunkError):
        convert(damaged, target, codecs="none")
    assert list(target.parent.iterdir()) == []
    convert(source, target)
    before = target.read_bytes()
    with pytest.raises(CorruptChunkError):
        convert(damaged, target, codecs="none", overwrite=True)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]
    with zipfile.ZipFile(target) as file:
        assert file.testzip() is None
        assert len(file.namelist()) == len(set(file.namelist()))
    assert convert(source, target, resume=True).complete  # nothing is left to do
    assert target.read_bytes() == before


def test_a_file_with_the_name_of_a_partial_zip_is_not_overwritten(tmp_path: Path, source: Path) -> None:
    (tmp_path / "a.zip.partial").write_bytes(b"PK")
    for options in WAYS:
        with pytest.raises(TargetError, match=r"a\.zip\.partial: .* it is there already; delete it"):
            convert(source, tmp_path / "a.zip", **options)
    assert (tmp_path / "a.zip.partial").read_bytes() == b"PK"
    assert not (tmp_path / "a.zip.h5bound-lock").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "zip of nothing"]
)
def test_a_file_that_is_no_zipped_store_is_not_overwritten(tmp_path: Path, source: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    for options in WAYS:
        with pytest.raises(TargetError, match="not a Zarr store"):
            convert(source, tmp_path / "a.zip", **options)
    with pytest.raises(TargetError, match="no Zarr store of format 3"):
        verify(source, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_zip_store_is_closed_and_emptied_after_a_failure(tmp_path: Path, source: Path) -> None:
    store = ZipStore(tmp_path / "a.zip", mode="w")
    with pytest.raises(KeyboardInterrupt):
        convert(source, store, progress=stop)
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.namelist() == []
    convert(source, ZipStore(tmp_path / "a.zip", mode="a"))
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.testzip() is None
    assert verify(source, store).equal


def test_an_icechunk_conversion_is_one_commit_and_none_if_it_fails(tmp_path: Path, source: Path) -> None:
    icechunk = pytest.importorskip("icechunk", reason="icechunk has no wheel for this Python")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())

    def commits() -> list[str]:
        return [snapshot.message for snapshot in repository.ancestry(branch="main")]

    session = repository.writable_session("main")
    damaged = write_damaged(tmp_path / "damaged.h5")
    with pytest.raises(CorruptChunkError) as caught:
        convert(damaged, session.store, codecs="none", window="1 KiB", workers=1)
    assert not hasattr(caught.value, "__notes__")  # nothing is unfinished
    assert not session.has_uncommitted_changes
    assert len(commits()) == 1
    convert(source, session.store)  # with the same session
    assert commits()[0] == f"h5bound: {source}"
    assert len(commits()) == 2
    other = repository.writable_session("main")
    with pytest.raises(TargetError, match="exists; resume=True"):
        convert(source, other.store)
    with pytest.raises(CorruptChunkError):
        convert(damaged, other.store, codecs="none", overwrite=True)
    assert verify(source, repository.readonly_session("main").store).equal
    convert(write_other(tmp_path / "other.h5"), other.store, overwrite=True)
    assert len(commits()) == 3
    assert verify(tmp_path / "other.h5", repository.readonly_session("main").store).equal
    assert verify(source, repository.readonly_session(snapshot_id=session.snapshot_id).store).equal


def test_an_icechunk_session_with_changes_or_for_reading_or_format_2_is_refused(tmp_path: Path, source: Path) -> None:
    icechunk = pytest.importorskip("icechunk", reason="icechunk has no wheel for this Python")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    with pytest.raises(OptionError, match="icechunk holds format 3"):
        convert(source, session.store, zarr_format=2)
    with pytest.raises(OptionError, match="writable_session"):
        convert(source, repository)
    with pytest.raises(TargetError, match="read-only"):
        convert(source, repository.readonly_session("main").store)
    zarr.create_group(session.store, path="mine")
    for options in WAYS[::2]:
        with pytest.raises(TargetError):
            convert(source, session.store, **options)
    assert session.has_uncommitted_changes
    assert list(zarr.open_group(session.store, mode="r", path="mine").attrs) == []


HERE = [stores.memory, stores.memory_url, stores.obstore_memory, stores.zip_path, stores.zip_object, stores.icechunk]


@pytest.mark.parametrize("make", HERE, ids=lambda make: make.__name__)
def test_a_store_of_this_process_is_refused_if_tasks_run_in_others(
    make: Callable[[Path, str], Place], tmp_path: Path, source: Path
) -> None:
    target = make(tmp_path, "").open()
    with pytest.raises(TargetError, match="only this process can use it"):
        convert(source, target, scheduler="tcp://127.0.0.1:1")
    with dask.config.set(scheduler="processes"), pytest.raises(TargetError, match="only this process can use it"):
        convert(source, target)
    if isinstance(target, MemoryStore):
        with pytest.raises(TargetError, match="only this process can use it"):
            convert(source, Failing(target), scheduler="tcp://127.0.0.1:1")
    assert convert(source, target).complete


@pytest.mark.slow
def test_a_cluster_writes_to_an_object_store(tmp_path: Path, s3: str, source: Path) -> None:
    distributed = pytest.importorskip("distributed")
    wanted, refused = converted(source, tmp_path / "wanted"), MemoryStore()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        for make in (stores.s3_url, stores.s3_object):
            place = make(tmp_path, s3)
            report = convert(source, place.open(), window="1 KiB", verify=True, **place.options)
            assert report.verification is not None
            assert report.verification.equal
            assert read_keys(place.reopen()) == wanted
        with pytest.raises(TargetError, match="only this process can use it"):
            convert(source, refused)
        logs = f"{cluster.get_logs()}{client.run_on_scheduler(list_tasks)}"
    assert read_keys(refused) == {}
    assert KEY not in logs
    assert SECRET not in logs


def list_tasks(dask_scheduler: Any) -> str:
    """Return the keys of all tasks of a cluster, and the events of its scheduler."""
    return f"{list(dask_scheduler.tasks)}{dask_scheduler.get_events()}"


def test_targets_that_cannot_be_used_are_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OptionError, match="a path, a URL or a Zarr store, not dict"):
        convert(source, {})  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="storage_options"):
        convert(source, tmp_path / "a", storage_options={"key": KEY})
    with pytest.raises(TargetError, match="nosuch"):
        convert(source, "nosuch://a")
    secret = quote(SECRET, safe="")
    for url in (
        f"ftp://me:{secret}@127.0.0.1/a",
        f"ftp://me:{secret}@{secret}@127.0.0.1/a",
        f"https://{secret}@127.0.0.1/a",
        f"https://127.0.0.1/a?key={secret}",
        f"https://127.0.0.1/a#key={secret}",
        f"simplecache::https://me:{secret}@127.0.0.1/a",
        f"simplecache::https://127.0.0.1/a?key={secret}",
    ):
        with pytest.raises(TargetError, match=r"127\.0\.0\.1/a([?#]\*\*\*)?: credentials in a URL") as caught:
            verify(source, url)
        assert secret not in str(caught.value)
    hidden = open_target(FsspecStore.from_url(f"https://me:{secret}@127.0.0.1/a"), 3)
    assert secret not in f"{hidden.url}{hidden!r}"
    for store in (LocalStore(tmp_path / "a", read_only=True), MemoryStore(read_only=True)):
        with pytest.raises(TargetError, match="read-only"):
            convert(source, store)
    with pytest.raises(TargetError, match="nothing can be deleted"):
        convert(source, Failing(ZipStore(tmp_path / "a.zip", mode="w")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.h5"]


def test_a_local_directory_is_written_by_h5bound_however_it_is_named(tmp_path: Path) -> None:
    for make in (stores.folder, stores.file_url, stores.fsspec_folder):
        target = open_target(make(tmp_path, "").open(), 3)
        assert target.keys == DirectoryKeys(tmp_path / "a")
        assert target.resumable
    assert open_target(f"local://{tmp_path}/a", 3).keys == DirectoryKeys(tmp_path / "a")


def test_each_directory_is_made_once_and_no_file_is_opened_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def spy(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *args: Any) -> Any:
            calls.append(f"{name} {path}")
            return real(path, *args)

        return call

    for name in ("mkdir", "open", "replace"):
        monkeypatch.setattr(os, name, spy(name))
    keys = DirectoryKeys(tmp_path / "new" / "store")
    assert keys.write([(f"a/c/{i // 2}/0/{i % 2}", b"x") for i in range(4)]) == 4
    assert sorted(keys.list_all()) == ["a/c/0/0/0", "a/c/0/0/1", "a/c/1/0/0", "a/c/1/0/1"]
    calls.clear()
    assert keys.write([(f"b/c/{i}/0/0", b"x") for i in range(10)]) == 10
    made = [call.partition("store/")[2] for call in calls if call.startswith("mkdir")]
    assert sorted(made) == sorted(["b", "b/c", *(f"b/c/{i}{below}" for i in range(10) for below in ("", "/0"))])
    assert sum(call.startswith("open") for call in calls) == sum(call.startswith("replace") for call in calls) == 10


def test_a_key_may_be_deeper_than_python_calls_itself(tmp_path: Path) -> None:
    keys, key = DirectoryKeys(tmp_path), f"{'g/' * 1500}zarr.json"
    keys.write([(key, b"{}")])
    assert keys.read(key) == b"{}"
    keys.clear()
    assert keys.is_empty()
    write_partial(f"{tmp_path}/{key}", b"{}")  # as where the directories were deleted meanwhile
    assert keys.read(key) == b"{}"
    keys.clear()


def test_a_link_that_is_put_into_a_deep_store_while_it_is_deleted_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, store = tmp_path / "other", tmp_path / "store"
    DirectoryKeys(other).write([("a/b/mine", b"x")])
    DirectoryKeys(store).write([("a/b/c/d", b"x"), ("a/b/e", b"x")])
    (store / "a" / "b" / "link").symlink_to(other)
    (store / "link").symlink_to(other)
    rename = os.rename

    def swap(name: str, to: str, **places: int) -> None:
        monkeypatch.setattr(os, "rename", rename)
        rename(name, to, **places)
        (store / to).rename(tmp_path / "moved")
        (store / to).symlink_to(other / "a")

    monkeypatch.setattr(os, "rename", swap)
    empty_levels(store)
    assert not any(path.is_dir() and not path.is_symlink() for path in store.iterdir())
    assert (other / "a" / "b" / "mine").read_bytes() == b"x"
    assert (tmp_path / "moved" / "c" / "d").exists()


def test_a_file_system_that_writes_in_place_is_not_resumed(tmp_path: Path, source: Path) -> None:
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from fsspec.implementations.local import LocalFileSystem

    class Mounted(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
        """A file system like sftp: nothing says whether a key was written to its end."""

        protocol = "mounted"

    file_system = AsyncFileSystemWrapper(Mounted(auto_mkdir=True), asynchronous=True)
    store = FsspecStore(file_system, path=str(tmp_path / "a"))
    with pytest.raises(CorruptChunkError):
        convert(write_damaged(tmp_path / "damaged.h5"), store, codecs="none")
    with pytest.raises(TargetError, match="not written to their end"):
        convert(tmp_path / "damaged.h5", store, codecs="none", resume=True)
    assert convert(source, store, overwrite=True).complete
    assert read_keys(LocalStore(tmp_path / "a")) == converted(source, tmp_path / "wanted")


@pytest.mark.slow
@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_store_behind_a_web_server_is_verified_if_it_lists_its_keys(
    tmp_path: Path, source: Path, zarr_format: Literal[2, 3]
) -> None:
    pytest.importorskip("aiohttp")
    convert(source, tmp_path / "web" / "a.zarr", zarr_format=zarr_format)
    with serve_folder(tmp_path / "web") as address:
        assert verify(source, f"{address}/a.zarr").equal
        with pytest.raises(TargetError, match="no Zarr store"):
            verify(source, f"{address}/b.zarr")
    with serve_folder(tmp_path / "web", lists=False) as address, pytest.raises(TargetError, match="cannot be listed"):
        verify(source, f"{address}/a.zarr")


def test_the_command_line_reads_credentials_from_a_file(
    tmp_path: Path, s3: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, options = stores.s3_url(tmp_path, s3), tmp_path / "s3.json"
    options.write_text(json.dumps(place.storage_options))
    arguments = [str(source), place.open(), "--storage-options", str(options)]
    assert run_command(["convert", *arguments, "--verify"]) == 0
    assert run_command(["convert", *arguments]) == 1
    for content in (f'{{"key": "{KEY}"', f'["{KEY}"]'):
        options.write_text(content)
        assert run_command(["verify", *arguments]) == 2
    shown = "".join(capsys.readouterr())
    assert "s3.json" in shown
    assert KEY not in shown
    assert SECRET not in shown


@pytest.mark.slow
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("before", ["nothing", "a store", "unfinished work"])
def test_a_store_that_fails_at_any_operation_is_not_complete_and_resumes_to_equal_keys(
    tmp_path: Path, before: str, for_ever: bool
) -> None:
    source, other = write_tiny(tmp_path / "tiny.h5", 0), write_tiny(tmp_path / "other.h5", 1)
    wanted = converted(source, tmp_path / "wanted")
    for first in count(1):
        store = MemoryStore()
        if before != "nothing":
            convert(other, store)
        if before == "unfinished work":
            put(store, MARKER, b'{"fingerprint": "of the other file"}')
        earlier, over = read_keys(store), before != "nothing"
        try:
            with dask.config.set(scheduler="sync"):
                convert(source, Failing(store, first, for_ever=for_ever), overwrite=over)
        except OSError as error:  # a run without one is the last
            failure = error.__cause__ if isinstance(error, TargetError) else error
            assert getattr(failure, "errno", None) == errno.EIO
        else:
            break
        left = read_keys(store)
        if left == earlier:
            convert(source, store, overwrite=over)
        else:
            assert MARKER in left
            with pytest.raises(TargetError, match="unfinished"):
                verify(source, store)
            if set(left) != {MARKER}:
                with pytest.raises(TargetError, match="overwrite"):
                    convert(source, store)
            convert(source, store, resume=True)
        assert read_keys(store) == wanted, f"after a failure at operation {first}"
    assert first > 15
    assert read_keys(store) == wanted


def write_tiny(path: Path, value: int) -> Path:
    """Write a file with this value in two chunks that are copied and in one that is encoded."""
    with h5py.File(path, "w") as file:
        file.create_dataset("kept", data=np.full(4, value), chunks=(2,), compression="gzip")
        file["text"] = f"{value}"
        file.create_group(f"only in {value}")
    return path


def write_other(path: Path) -> Path:
    """Write a file whose store shares some keys with that of the source, and has others."""
    with h5py.File(path, "w") as file:
        file.create_dataset("group/kept", data=np.ones((12, 10), "f4"), chunks=(4, 10))
        file.create_dataset("only/here", data=np.arange(3))
    return path
