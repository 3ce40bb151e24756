"""HDF5 files at URLs: they are read as h5py reads the local file, in few requests, and errors are clear."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import fsspec
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5bound import H5Store, convert, from_hdf5, references, verify
from h5bound.cli.main import run_command
from h5bound.errors import (
    CorruptChunkError,
    H5BoundError,
    OptionError,
    SourceChangedError,
    SourceNotFoundError,
    TargetError,
    UnsafeSourceError,
)
from h5bound.files.file_state import FileState
from h5bound.files.prefetch import CONCURRENT_NBYTES, PIECE_NBYTES, Pieces
from h5bound.files.remote_file import BLOCK_NBYTES, NoCollection, RemoteFile
from h5bound.lifecycle.handle import Handle, Window
from h5bound.reader.source import H5Source
from tests.support.http_server import Behaviour, RangeServer, serve
from tests.support.own_document import read_own
from tests.support.servers import KEY, SECRET, serve_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


HUSH = "h5bound-hush-hush"
"""A secret that must not be in anything that others may read."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    pytest.importorskip("aiohttp")
    folder = tmp_path / "served"
    folder.mkdir()
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Start a server with the buckets ``bucket`` and ``versions``, the latter with versioning; yield the options."""
    s3fs = pytest.importorskip("s3fs")
    with serve_s3() as url:
        options = {"key": KEY, "secret": SECRET, "endpoint_url": url}
        system = s3fs.S3FileSystem(**options)
        system.mkdir("bucket")
        system.mkdir("versions")
        system.call_s3("put_bucket_versioning", Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        yield options


def write_everything(path: Path) -> None:
    """Write datasets with every kind of storage and every reading strategy."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(
            "gzip", data=rng.integers(0, 99, (50, 70)), chunks=(7, 11), compression="gzip", shuffle=True
        )
        file.create_dataset("lzf", data=rng.integers(0, 9, 5000), chunks=(1000,), compression="lzf", fletcher32=True)
        file.create_dataset("plain", data=rng.random((40, 40)), chunks=(10, 40))
        file.create_dataset("large", data=rng.random((4, 90_000)), chunks=(1, 90_000))
        file.create_dataset("contiguous", data=rng.random((60, 1000)))
        file.create_dataset("scalar", data=3.5)
        file.create_dataset("group/strings", data=["a", "bc", "ü"] * 20, dtype=h5py.string_dtype())
        file.create_dataset("group/lists", (5,), h5py.vlen_dtype("i4"))[2] = [1, 2, 3]
        file.create_dataset("group/compound", data=np.ones(9, [("a", "i4"), ("b", "f8")]), chunks=(2,), compression=1)
        file.create_dataset("group/array", (6,), np.dtype(("i2", (2, 3))), chunks=(4,))[...] = rng.integers(
            0, 9, (6, 2, 3)
        )
        file.create_dataset("unwritten", (100, 100), "f4", chunks=(10, 10), fillvalue=7)[15, 15] = 1
        file.create_dataset("empty", (0, 4), "f4", chunks=(1, 4), maxshape=(None, 4))
        file["group"].attrs["title"] = "a group"
        file["soft"] = h5py.SoftLink("/group/strings")


def write_chunks(path: Path, count: int, nbytes: int, **options: Any) -> np.ndarray:
    """Write `count` adjacent chunks of `nbytes` bytes of noise."""
    data = np.random.default_rng(count).integers(0, 256, (count, nbytes), np.uint8)
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("x", data=data, chunks=(1, nbytes))
    return data


@dataclass(frozen=True)
class Opener:
    """A kind of location of a file."""

    id: str
    url: Callable[[Path, RangeServer, dict[str, Any]], tuple[str, dict[str, Any]]]
    """Copies the file there, and returns URL and options."""


def at_http(path: Path, server: RangeServer, _s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    shutil.copy(path, server.folder / "ä ö.h5")
    return f"{server.url}/ä%20ö.h5", {}


def at_s3(path: Path, _server: RangeServer, s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    fsspec.filesystem("s3", **s3).put(str(path), "bucket/folder/a.h5")
    return "s3://bucket/folder/a.h5", s3


def in_memory(path: Path, _server: RangeServer, _s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    fsspec.filesystem("memory").pipe("/h5bound/a.h5", path.read_bytes())
    return "memory://h5bound/a.h5", {}


def in_zip(path: Path, server: RangeServer, _s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    shutil.make_archive(str(server.folder / "a"), "zip", path.parent, path.name)
    return f"zip://{path.name}::{server.url}/a.zip", {}


def in_cache(path: Path, server: RangeServer, s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    url, _ = at_http(path, server, s3)
    return f"simplecache::{url}", {"simplecache": {"cache_storage": str(path.parent / "cache")}}


def at_file(path: Path, _server: RangeServer, _s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return f"file://{path}", {}


def at_local(path: Path, _server: RangeServer, _s3: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return f"local://{path}", {}


OPENERS = [
    Opener("http", at_http),
    Opener("s3", at_s3),
    Opener("memory", in_memory),
    Opener("zip::http", in_zip),
    Opener("simplecache::http", in_cache),
    Opener("file", at_file),
    Opener("local", at_local),
]


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.id)
def everything(
    request: pytest.FixtureRequest, tmp_path: Path, server: RangeServer
) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Return a file with everything, its URL, and the options for the URL."""
    path = tmp_path / "a.h5"
    write_everything(path)
    opener: Opener = request.param
    s3 = request.getfixturevalue("s3") if opener.id == "s3" else {}
    url, options = opener.url(path, server, s3)
    yield path, url, options
    fsspec.filesystem("memory").store.clear()


def assert_equal(array: Any, dataset: h5py.Dataset) -> None:
    want = dataset[()]
    got = array.compute(num_workers=8)
    assert array.shape == np.shape(want)
    if dataset.dtype.hasobject:
        assert [np.asarray(item).tolist() for item in np.ravel(got)] == [
            np.asarray(item).tolist() for item in np.ravel(want)
        ]
    else:
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()


@pytest.mark.slow
def test_what_is_read_at_a_url_equals_what_h5py_reads_of_the_local_file(
    everything: tuple[Path, str, dict[str, Any]],
) -> None:
    path, url, options = everything
    store = H5Store(url, chunks={}, storage_options=options or None)
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        assert sorted(store) == sorted(names)
        for name in names:
            assert_equal(store[name], file[name])
        assert_equal(from_hdf5(url, "soft", chunks=(7,), storage_options=options or None), file["soft"])
        assert_equal(from_hdf5(url, "gzip", chunks=(20, 30), storage_options=options or None), file["gzip"])
        assert_equal(from_hdf5(url, "gzip", chunks={}, window=3000, storage_options=options or None), file["gzip"])
        assert_equal(
            from_hdf5(url, "contiguous", chunks=(7, 600), barrier=False, storage_options=options), file["contiguous"]
        )


@pytest.mark.slow
def test_a_conversion_from_a_url_equals_that_of_the_local_file(
    everything: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    path, url, options = everything
    report = convert(url, tmp_path / "a.zarr", storage_options=options or None, verify=True)
    local = convert(path, tmp_path / "local.zarr")
    assert report.verification is not None
    assert report.verification.equal
    assert verify(path, tmp_path / "a.zarr").equal
    assert [(entry.path, entry.how, entry.chunks) for entry in report.converted] == [
        (entry.path, entry.how, entry.chunks) for entry in local.converted
    ]
    assert report.source.size == path.stat().st_size
    assert convert(url, tmp_path / "none.zarr", storage_options=options or None, dry_run=True).source == report.source


def test_the_command_line_takes_urls(server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_everything(server.folder / "a.h5")
    server.behaviour = Behaviour(user=f"me:{HUSH}")
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"headers": {"Authorization": server.authorization}}))
    url, target = f"{server.url}/a.h5", str(tmp_path / "a.zarr")
    known = ["--storage-options", str(options)]
    assert run_command(["ls", url, *known]) == 0
    assert f"{server.url}/a.h5\n" in capsys.readouterr().out
    assert run_command(["convert", url, target, *known, "--report", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["source"]["path"] == url
    assert run_command(["verify", url, target, *known]) == 0
    assert run_command(["ls", f"http://me:{HUSH}@{server.host}/a.h5?{HUSH}"]) == 0
    assert f"http://***@{server.host}/a.h5?***\n" in capsys.readouterr().out
    assert run_command(["ls", url]) == 1
    assert capsys.readouterr().err.startswith(f"h5bound: error: {url}: access is denied")


# How many requests, and how many bytes.


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}], ids=["earliest", "latest"])
def test_one_element_costs_the_metadata_and_one_range(server: RangeServer, options: dict[str, Any]) -> None:
    data = write_chunks(server.folder / "a.h5", 100, 400_000, **options)
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={})
    assert server.count("GET") == 1  # a block of metadata
    server.forget()
    assert array[57, 1234].compute() == data[57, 1234]
    assert server.count("HEAD") == 2  # at the open and before the close
    gets = [request.span for request in server.requests if request.method == "GET"]
    metadata = [span for span in gets if span[0] % BLOCK_NBYTES == 0]
    (chunk,) = set(gets) - set(metadata)
    assert chunk[1] - chunk[0] == 400_000
    assert len(metadata) <= 2
    assert len(gets) == len(metadata) + 1


def test_one_element_of_very_many_chunks_does_not_load_their_whole_index(server: RangeServer) -> None:
    with h5py.File(server.folder / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (60_000,), "i4", chunks=(1,))
        for number in range(60_000):
            dataset.id.write_direct_chunk((number,), np.int32(number).tobytes())
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks=(100,))
    assert array[31_415:31_416].chunks == ((1,),)
    one = from_hdf5(f"{server.url}/a.h5", "x", chunks=((30_000, 1, 29_999),))
    server.forget()
    assert one[30_000].compute() == 30_000
    assert server.nbytes() <= 4 * BLOCK_NBYTES < (server.folder / "a.h5").stat().st_size


@pytest.mark.parametrize("chunks", [None, {}, "auto", (7, 2000)], ids=str)
def test_small_chunks_that_lie_together_cost_few_requests(server: RangeServer, chunks: Any) -> None:
    data = write_chunks(server.folder / "a.h5", 1000, 4000, libver="latest")
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks=chunks)
    server.forget()
    assert (array.compute(num_workers=8) == data).all()
    assert server.count("GET") <= 8
    assert server.nbytes() <= data.nbytes + 6 * BLOCK_NBYTES


def test_in_windows_each_window_asks_for_its_own_chunks_only(server: RangeServer) -> None:
    data = write_chunks(server.folder / "a.h5", 200, 20_000, libver="latest")
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={}, window=50 * 20_000)
    server.forget()
    assert (array.compute(num_workers=4) == data).all()
    windows, metadata = 4, 2 * BLOCK_NBYTES
    assert server.count("HEAD") == 2 * windows
    assert server.count("GET") <= 4 * windows
    assert server.nbytes() <= data.nbytes + windows * metadata


def test_chunks_that_are_not_wanted_are_not_loaded(server: RangeServer) -> None:
    data = write_chunks(server.folder / "a.h5", 60, 300_000, libver="latest")
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={})[::10]
    server.forget()
    assert (array.compute() == data[::10]).all()
    assert server.nbytes() <= 6 * 300_000 + 2 * BLOCK_NBYTES


@pytest.mark.slow
def test_many_ranges_are_asked_for_at_once(server: RangeServer) -> None:
    data = write_chunks(server.folder / "a.h5", 12, PIECE_NBYTES // 2 + 1, libver="latest")
    array = from_hdf5(f"{server.url}/a.h5", "x")
    server.forget()
    server.behaviour = Behaviour(pause=0.2)
    assert (array.compute(scheduler="sync") == data).all()
    assert server.most_at_once >= CONCURRENT_NBYTES // (PIECE_NBYTES // 2 + 1)
    assert server.count("GET") <= 12 + 2


@pytest.mark.slow
def test_a_conversion_asks_for_few_ranges_and_for_each_byte_of_data_once(server: RangeServer, tmp_path: Path) -> None:
    data = write_chunks(server.folder / "a.h5", 2000, 4000, libver="latest")
    convert(f"{server.url}/a.h5", tmp_path / "kept.zarr")
    assert server.count("GET") <= 40
    assert server.nbytes() <= data.nbytes + 20 * BLOCK_NBYTES
    server.forget()
    convert(f"{server.url}/a.h5", tmp_path / "anew.zarr", codecs="zstd:1")
    assert server.count("GET") <= 40
    server.forget()
    assert verify(f"{server.url}/a.h5", tmp_path / "anew.zarr").equal
    assert server.count("GET") <= 40


def test_metadata_that_are_spread_are_asked_for_in_longer_and_longer_rows(server: RangeServer) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(server.folder / "a.h5", "w") as file:
        for number in range(60):
            file[f"group{number}/x"] = rng.random(40_000)
    store = H5Store(f"{server.url}/a.h5")
    assert len(store) == 60
    assert server.count("GET") < 60
    lengths = [request.nbytes for request in server.requests if request.method == "GET"]
    assert lengths[0] == BLOCK_NBYTES
    assert max(lengths) == 8 * BLOCK_NBYTES


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 200_000)), min_size=1, max_size=60),
    order=st.randoms(use_true_random=False),
    foreseen=st.floats(0, 1),
)
def test_whatever_is_foreseen_each_span_is_found_and_no_foreseen_byte_is_asked_for_twice(
    lengths: list[tuple[int, int]], order: Any, foreseen: float
) -> None:
    spans, at = [], 0
    for gap, nbytes in lengths:
        spans.append((at + gap, at + gap + nbytes))
        at += gap + nbytes
    pieces = Pieces()
    wanted = [span for span in spans if order.random() < foreseen]
    pieces.prefetch(wanted)
    asked: list[tuple[int, int]] = []
    order.shuffle(spans)
    for span in spans:
        by_span, to_request = pieces.take([span])
        assert by_span[span].holds(span)
        for piece in to_request:
            assert piece.requested or piece.holds(span)
            if any(piece.holds(other) for other in wanted):
                asked.append(piece.span)
    assert not wanted or all(first[1] <= second[0] for first, second in pairwise(sorted(asked)) if foreseen == 1)


def test_twenty_thousand_pieces_are_planned_quickly() -> None:
    pieces = Pieces()
    spans = [(start, start + 10) for start in range(0, 20_000 * PIECE_NBYTES, PIECE_NBYTES)]
    started = time.process_time()
    pieces.prefetch(spans)
    _, to_request = pieces.take(spans[:1])
    assert len(to_request) == len(spans)
    assert time.process_time() - started < 3


# Another state.


def prepare_other(path: Path, data: np.ndarray) -> Callable[[], None]:
    """Write another file, and return a function that moves it into place without the lock of HDF5."""
    other = path.with_suffix(".new")
    with h5py.File(other, "w") as file:
        file.create_dataset("x", data=data, chunks=(1, data.shape[1]))
    os.utime(other, (1, 1))

    def put_in_place() -> None:
        with suppress(FileNotFoundError):
            other.replace(path)

    return put_in_place


def replace_file(path: Path, data: np.ndarray) -> None:
    prepare_other(path, data)()


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 4], ids="before request {}".format)
@pytest.mark.parametrize("barrier", [True, False], ids=["barrier", "no barrier"])
def test_a_file_that_changes_is_an_error_at_whatever_moment(server: RangeServer, moment: int, *, barrier: bool) -> None:
    data = write_chunks(server.folder / "a.h5", 40, 300_000)
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={}, barrier=barrier)
    server.forget()
    put_other = prepare_other(server.folder / "a.h5", 255 - data)
    server.before = lambda number: put_other() if number >= moment else None
    with pytest.raises(SourceChangedError, match=r"a\.h5: the file changed after"):
        array.compute(scheduler="sync")


def test_each_range_is_asked_for_of_one_state(server: RangeServer) -> None:
    data = write_chunks(server.folder / "a.h5", 40, 300_000)
    source = H5Source.of(f"{server.url}/a.h5")
    opened = source.open()
    try:
        replace_file(server.folder / "a.h5", 255 - data)
        with pytest.raises(SourceChangedError):
            opened.read("x", (slice(0, 1), slice(0, 300_000)))
        assert server.requests[-1].status == 412
    finally:
        source.close(opened)


@pytest.mark.parametrize("bucket", ["bucket", "versions"])
def test_a_changed_object_is_an_error(s3: dict[str, Any], tmp_path: Path, bucket: str) -> None:
    data = write_chunks(tmp_path / "a.h5", 8, 1000)
    system = fsspec.filesystem("s3", **s3)
    system.put(str(tmp_path / "a.h5"), f"{bucket}/changing.h5")
    system.ls(bucket)  # what fsspec remembers of it is not asked
    array = from_hdf5(f"s3://{bucket}/changing.h5", "x", chunks={}, storage_options=s3)
    source = H5Source.of(f"s3://{bucket}/changing.h5", s3)
    opened = source.open()
    replace_file(tmp_path / "a.h5", 255 - data)
    system.put(str(tmp_path / "a.h5"), f"{bucket}/changing.h5")
    with pytest.raises(SourceChangedError):
        array.compute()
    block = opened.read("x", (slice(0, 8), slice(0, 1000)))
    assert ((block == data).all(), (block == 255 - data).all()) == (bucket == "versions", bucket != "versions")
    with pytest.raises(SourceChangedError):  # so that nobody gets to see it
        source.check(opened)
    source.close(opened)


def test_an_object_that_is_replaced_while_a_block_is_read_is_an_error_where_no_close_comes(
    s3: dict[str, Any], tmp_path: Path
) -> None:
    data = write_chunks(tmp_path / "a.h5", 8, 1000)
    system = fsspec.filesystem("s3", **s3)
    system.put(str(tmp_path / "a.h5"), "bucket/replaced.h5")
    replace_file(tmp_path / "a.h5", 255 - data)
    source = H5Source.of("s3://bucket/replaced.h5", s3)
    handle = pickle.loads(pickle.dumps(Handle(source)))  # as in a pool of processes, or on a worker
    region = (slice(0, 8), slice(0, 1000))

    window = Window("w", only_window=True)

    def replace_and_read() -> None:
        with handle.reading(window, ("x", 1)) as file:
            system.put(str(tmp_path / "a.h5"), "bucket/replaced.h5")
            file.read("x", region)

    with handle.reading(window, ("x", 0)) as file:
        assert (file.read("x", region) == data).all()
    with pytest.raises(SourceChangedError):
        replace_and_read()


def test_where_a_server_tells_no_stamps_the_size_is_compared(server: RangeServer, tmp_path: Path) -> None:
    server.behaviour = Behaviour(stamps=False)
    write_chunks(server.folder / "a.h5", 40, 300)
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={})
    array.compute()
    write_chunks(server.folder / "a.h5", 41, 300)
    with pytest.raises(SourceChangedError):
        array.compute()


def test_where_etags_are_weak_the_close_finds_a_change(server: RangeServer) -> None:
    server.behaviour = Behaviour(weak=True)
    data = write_chunks(server.folder / "a.h5", 4, 1000)
    array = from_hdf5(f"{server.url}/a.h5", "x", chunks={})
    np.testing.assert_array_equal(array.compute(), data)
    replace_file(server.folder / "a.h5", data)
    with pytest.raises(SourceChangedError):
        array.compute()


def test_after_a_failed_request_its_ranges_are_asked_for_again() -> None:
    system, answers = fsspec.filesystem("memory"), iter([H5BoundError("no answer")])

    def attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        for error in answers:
            raise error
        return function(*arguments, **options)

    system.pipe_file("/again.h5", bytes(range(100)))
    remote = RemoteFile(
        system=system, path="/again.h5", state=FileState(size=100, mtime_ns=0), name="memory", attempt=attempt
    )
    remote.prefetch([(0, 10), (10, 20)])
    with pytest.raises(H5BoundError, match="no answer"):
        remote.gather([(0, 10)])
    assert remote.gather([(10, 20)]).read(10, 20).tolist() == list(range(10, 30))
    system.rm_file("/again.h5")


def test_equal_states_give_equal_keys_whatever_the_credentials(server: RangeServer) -> None:
    write_chunks(server.folder / "a.h5", 4, 300)
    shutil.copy(server.folder / "a.h5", server.folder / "b.h5")
    plain, other = f"{server.url}/a.h5", f"http://me:{HUSH}@{server.host}/a.h5"
    name = from_hdf5(plain, "x").name
    assert from_hdf5(plain, "x", storage_options={"headers": {"X-Secret": HUSH}}).name == name
    assert from_hdf5(other, "x").name == from_hdf5(other.replace(HUSH, "another"), "x").name
    assert from_hdf5(f"{server.url}/b.h5", "x").name != name
    assert from_hdf5(f"{plain}?version=1", "x").name != from_hdf5(f"{plain}?version=2", "x").name


# Everything that goes wrong.


@dataclass(frozen=True)
class Failure:
    """A fault of a server or a URL, and a part of its error."""

    id: str
    error: type[H5BoundError]
    says: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    url: str = "{url}/a.h5"
    options: dict[str, Any] | None = None


FAILURES = [
    Failure("404", SourceNotFoundError, "no such file", url="{url}/none.h5"),
    Failure("410", SourceNotFoundError, "no such file", Behaviour(status=410)),
    Failure("401", H5BoundError, "access is denied; pass credentials", Behaviour(status=401)),
    Failure("403", H5BoundError, "access is denied; pass credentials", Behaviour(status=403)),
    Failure("500", H5BoundError, "the server answers 500", Behaviour(status=500)),
    Failure("503 later", H5BoundError, "the server answers 503", Behaviour(status=503, after=4)),
    Failure(
        "wrong password",
        H5BoundError,
        "access is denied",
        Behaviour(user="me:other"),
        f"http://me:{HUSH}@{{host}}/a.h5",
    ),
    Failure("cut", H5BoundError, "an answer was cut short", Behaviour(cut=100)),
    Failure("cut later", H5BoundError, "an answer was cut short", Behaviour(cut=100, after=7)),
    Failure("no ranges", H5BoundError, "put simplecache:: before the URL", Behaviour(ranges=False)),
    Failure("no HDF5", H5BoundError, "this is not an HDF5 file", url="{url}/text.h5"),
    Failure("empty", H5BoundError, "this is empty, not an HDF5 file", url="{url}/empty.h5"),
    Failure("refused", H5BoundError, "no connection to the server", url="http://127.0.0.1:9/a.h5"),
    Failure("no such host", H5BoundError, "no connection to the server", url="http://nowhere.invalid/a.h5"),
    Failure("no such protocol", H5BoundError, "Protocol not known: nosuch", url="nosuch://bucket/a.h5"),
    Failure("nothing in memory", SourceNotFoundError, "no such file", url="memory://nothing.h5"),
]


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.id)
def test_what_goes_wrong_is_one_clear_error_without_the_secret(server: RangeServer, case: Failure) -> None:
    write_chunks(server.folder / "a.h5", 40, 300_000)
    (server.folder / "text.h5").write_text("no HDF5 at all" * 100)
    (server.folder / "empty.h5").touch()
    server.behaviour = case.behaviour
    url = f"{case.url.format(url=server.url, host=server.host)}?X-Amz-Signature={HUSH}"
    with pytest.raises(case.error) as caught:
        from_hdf5(url, "x", chunks={}).compute(num_workers=2)
    assert type(caught.value) is case.error
    assert case.says in str(caught.value)
    assert f"{case.url.rpartition('/')[2]}?***: " in str(caught.value)
    assert HUSH not in "".join(traceback.format_exception(caught.value))
    assert HUSH not in pickle.dumps(caught.value).decode("latin-1")


def test_a_server_without_ranges_is_told_before_the_whole_file_is_loaded(server: RangeServer) -> None:
    write_chunks(server.folder / "a.h5", 100, 400_000)
    server.behaviour = Behaviour(ranges=False)
    with pytest.raises(H5BoundError, match="does not send parts"):
        from_hdf5(f"{server.url}/a.h5", "x", chunks={})[5, 5].compute()
    assert all(request.status == 200 for request in server.requests)


def test_a_server_that_takes_too_long_is_one_clear_error(server: RangeServer) -> None:
    import aiohttp

    write_chunks(server.folder / "a.h5", 4, 300)
    server.behaviour = Behaviour(pause=2)
    options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=0.2)}}
    with pytest.raises(H5BoundError, match="does not answer in time"):
        from_hdf5(f"{server.url}/a.h5", "x", storage_options=options)


def test_s3_errors_are_clear_too(s3: dict[str, Any]) -> None:
    with pytest.raises(SourceNotFoundError, match=r"^s3://bucket/none\.h5: no such file$"):
        from_hdf5("s3://bucket/none.h5", "x", storage_options=s3)
    with pytest.raises(H5BoundError, match=r"^s3://bucket: this is a directory, not an HDF5 file$"):
        from_hdf5("s3://bucket", "x", storage_options=s3)
    fsspec.filesystem("s3", **s3).pipe("bucket/text.h5", b"text")
    with pytest.raises(H5BoundError, match="not an HDF5 file"):
        from_hdf5("s3://bucket/text.h5", "x", storage_options=s3)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["https://host/a.h5", "s3://bucket/a.h5"])
def test_a_missing_package_is_named(url: str) -> None:
    code = f"""
import sys
sys.modules["aiohttp"] = sys.modules["s3fs"] = None
import h5bound
h5bound.from_hdf5({url!r}, "x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith(
        f"h5bound.errors.OptionError: {url}: no installed package knows this kind of URL"
    )
    assert "h5bound[remote]" in done.stderr


def test_nothing_remote_is_imported_before_a_url_is_passed() -> None:
    code = """
import sys, h5bound, h5bound.cli.main
print([name for name in sys.modules if name.startswith(("fsspec", "aiohttp"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_for_a_local_file_are_refused(tmp_path: Path) -> None:
    write_chunks(tmp_path / "a.h5", 4, 300)
    options = {"key": HUSH}
    calls: list[Callable[[], object]] = [
        lambda: from_hdf5(tmp_path / "a.h5", "x", storage_options=options),
        lambda: H5Store(f"file://{tmp_path}/a.h5", storage_options=options),
        lambda: convert(tmp_path / "a.h5", tmp_path / "a.zarr", storage_options=options),
        lambda: convert(tmp_path / "a.h5", tmp_path / "a.zarr", target_options=options),
        lambda: verify(tmp_path / "a.h5", tmp_path / "a.zarr", storage_options=options),
    ]
    for call in calls:
        with pytest.raises(OptionError, match="URL") as caught:
            call()
        assert HUSH not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("after", range(3, 40, 3))
def test_a_failure_ends_a_conversion_and_is_never_taken_for_damage(
    server: RangeServer, tmp_path: Path, after: int
) -> None:
    write_everything(server.folder / "a.h5")
    server.behaviour = Behaviour(status=503, after=after)
    target = tmp_path / "a.zarr"
    failure: H5BoundError | None = None
    try:
        convert(f"{server.url}/a.h5", target, on_unsupported="skip", window=50_000)
    except H5BoundError as error:
        failure = error
    if failure is not None:
        assert type(failure) is H5BoundError
        assert "the server answers 503" in str(failure)
        assert not (target / "zarr.json").exists()
    else:
        server.behaviour = Behaviour()
        assert verify(server.folder / "a.h5", target).equal
        assert len(server.requests) <= after
    server.behaviour = Behaviour()
    convert(f"{server.url}/a.h5", target, on_unsupported="skip", window=50_000, overwrite=True)
    assert verify(server.folder / "a.h5", target).equal


def test_an_interrupted_conversion_is_resumed_of_the_same_state_only(server: RangeServer, tmp_path: Path) -> None:
    data = write_chunks(server.folder / "a.h5", 64, 200_000)
    url, target = f"{server.url}/a.h5?sig={HUSH}", tmp_path / "a.zarr"
    server.behaviour = Behaviour(status=503, after=20)
    with pytest.raises(H5BoundError, match="503"):
        convert(url, target, window=1_000_000)
    written = len(list(target.rglob("c/*/*")))
    assert 0 < written < 64
    server.behaviour = Behaviour()
    server.forget()
    convert(url.replace(HUSH, "renewed"), target, window=1_000_000, resume=True)
    assert verify(server.folder / "a.h5", target).equal
    assert server.nbytes() < data.nbytes - (written - 8) * 200_000 + 60 * BLOCK_NBYTES
    mark = read_own(target)
    assert mark["source"]["path"] == "a.h5"
    assert mark["source"]["stamps"].keys() == {"ETag"}

    server.behaviour = Behaviour(status=503, after=len(server.requests) + 20)
    with pytest.raises(H5BoundError, match="503"):
        convert(url, tmp_path / "b.zarr", window=1_000_000)
    server.behaviour = Behaviour()
    stat = (server.folder / "a.h5").stat()
    replace_file(server.folder / "a.h5", data)
    os.utime(server.folder / "a.h5", (stat.st_atime, stat.st_mtime + 0.001))
    with pytest.raises(TargetError):
        convert(url, tmp_path / "b.zarr", window=1_000_000, resume=True)


def test_a_chunk_beyond_the_end_of_the_file_is_damaged(server: RangeServer, tmp_path: Path) -> None:
    path = server.folder / "a.h5"
    data = np.random.default_rng(0).random(4000)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=(1000,), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(2)
    raw, offset = path.read_bytes(), chunk.byte_offset.to_bytes(8, "little")
    assert raw.count(offset) == 1
    path.write_bytes(raw.replace(offset, (len(raw) - 80).to_bytes(8, "little")))
    for source in (path, f"{server.url}/a.h5"):
        with pytest.raises(
            CorruptChunkError,
            match=rf"its {chunk.size:,} bytes at offset .* extend past the end of the file \({len(raw):,} bytes\)",
        ):
            from_hdf5(source, "x", chunks={}).compute()
        with pytest.raises(
            CorruptChunkError,
            match=rf"its {chunk.size:,} bytes at offset .* extend past the end of the file \({len(raw):,} bytes\)",
        ):
            convert(source, tmp_path / "a.zarr", overwrite=True)
    with pytest.raises(CorruptChunkError, match="extend past the end of the file"):
        references(path)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_remote_file_draws_on_no_other_file(server: RangeServer, tmp_path: Path, *, allowed: bool) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(10)
    (tmp_path / "raw").write_bytes(bytes(10))
    with h5py.File(server.folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (10,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (10,), "u1", external=[(str(tmp_path / "raw"), 0, 10)])
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        inside = h5py.VirtualLayout((10,), "i8")
        inside[:] = h5py.VirtualSource(".", "own", (10,))
        file["own"] = np.arange(10)
        file.create_virtual_dataset("inside", inside)
    url = f"{server.url}/a.h5"
    folders = [tmp_path] if allowed else []
    for name in ("virtual", "external", "link"):
        with pytest.raises(UnsafeSourceError, match=r"outside the file|links out of a file"):
            from_hdf5(url, name, allow_external=folders).compute()
        with pytest.raises(UnsafeSourceError, match=r"outside the file|links out of a file"):
            H5Store(url, allow_external=folders)[name].compute()
    assert from_hdf5(url, "inside").compute().tolist() == list(range(10))
    with pytest.raises(UnsafeSourceError, match="outside the file, which"):
        convert(url, tmp_path / "a.zarr", allow_external=folders)
    report = convert(url, tmp_path / "a.zarr", allow_external=folders, on_unsupported="skip", verify=True)
    assert sorted(item.path for item in report.skipped) == ["/external", "/virtual"]
    assert [(link.path, link.file) for link in report.links] == [("/link", str(tmp_path / "other.h5"))]


# Secrets.


def list_shown(array: Any) -> Iterator[str]:
    """Yield all texts in which dask or a user may see an array."""
    yield repr(array)
    yield array.name
    for graph in (array.__dask_graph__(), dask.optimize(array)[0].__dask_graph__()):
        for key, task in dict(graph).items():
            yield repr(key)
            yield repr(task)
        yield repr(graph)
        yield str(graph.layers)


def test_secrets_stand_in_nothing_that_is_shown_or_written(
    server: RangeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    write_everything(server.folder / "a.h5")
    server.behaviour = Behaviour(user=f"{HUSH}:{HUSH}", query=f"X-Amz-Signature={HUSH}&sig={HUSH}")
    url = f"http://{HUSH}:{HUSH}@{server.host}/a.h5?X-Amz-Signature={HUSH}&sig={HUSH}"
    options = {"headers": {"X-Token": HUSH}}
    shown = []
    store = H5Store(url, chunks={}, storage_options=options)
    source = pickle.loads(pickle.dumps(H5Source.of(url, options)))
    shown += [repr(store), repr(source), repr(source.location), str(source.key), source.path, repr(source.state)]
    shown += list_shown(store["gzip"])
    shown += list_shown(pickle.loads(pickle.dumps(store["gzip"])).sum())
    report = convert(url, tmp_path / "a.zarr", storage_options=options, report=tmp_path / "report.json", verify=True)
    shown += [repr(report), report.to_json(), repr(report.verification)]
    shown += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("a.zarr/**/*") if path.is_file()]
    shown.append((tmp_path / "report.json").read_text())
    assert run_command(["convert", url, str(tmp_path / "b.zarr")]) == 0
    server.behaviour = Behaviour(status=503, after=len(server.requests) + 3)
    assert run_command(["convert", url, str(tmp_path / "c.zarr")]) == 1
    shown += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("c.zarr/**/*") if path.is_file()]
    with pytest.raises(H5BoundError) as caught:
        store["gzip"].compute()
    shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value.__context__)]
    shown += [*capsys.readouterr(), caplog.text]
    assert [text for text in shown if HUSH in text] == []
    assert f"http://***@{server.host}/a.h5?***" in repr(store)


# Life and processes.


@pytest.mark.slow
def test_a_cluster_opens_the_file_in_each_process_that_reads(server: RangeServer, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    data = write_chunks(server.folder / "a.h5", 16, 100_000)
    server.behaviour = Behaviour(user=f"me:{HUSH}")
    options = {"headers": {"Authorization": server.authorization}}
    url = f"{server.url}/a.h5"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        array = from_hdf5(url, "x", chunks={}, storage_options=options)
        server.forget()
        assert (array.compute() == data).all()
        assert server.count("HEAD") <= 4
        assert set(client.run(open_files).values()) == {0}
        server.forget()
        report = convert(url, tmp_path / "a.zarr", storage_options=options, verify=True)
        assert report.verification is not None
        assert report.verification.equal
        replace_file(server.folder / "a.h5", 255 - data)
        with pytest.raises(SourceChangedError):
            array.sum().compute()
        assert set(client.run(open_files).values()) == {0}
        logs = "".join(line for lines in client.get_worker_logs().values() for _, line in lines)
        assert HUSH not in logs
        assert server.authorization not in logs


def open_files() -> int:
    from h5py import h5f

    return int(h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE))


@pytest.mark.slow
def test_garbage_that_holds_h5py_objects_stops_nothing(server: RangeServer) -> None:
    write_chunks(server.folder / "a.h5", 4, 300)
    code = f"""
import faulthandler, gc, sys
import fsspec.asyn, h5py
import h5bound, h5bound.files.remote_file
faulthandler.dump_traceback_later(30, exit=True)

class Ring:
    pass

def litter():
    gc.set_threshold(1, 1, 1)
    [[number] for number in range(1000)]

fetch = h5bound.files.remote_file.RemoteFile._fetch

def fetch_among_litter(*args):
    # called with HDF5's lock: what fsspec's thread does now must not wait for that
    for _ in range(50):
        ring = Ring()
        ring.itself, ring.dataset = ring, file["x"]
    fsspec.asyn.get_loop().call_soon_threadsafe(litter)
    return fetch(*args)

h5bound.files.remote_file.RemoteFile._fetch = fetch_among_litter
with h5py.File({str(server.folder / "a.h5")!r}) as file:
    for _ in range(3):
        gc.set_threshold(100_000, 100, 100)
        h5bound.from_hdf5("{server.url}/a.h5", "x").compute()
    del file
assert gc.isenabled()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_garbage_is_not_collected_though_another_request_ends_while_this_one_begins() -> None:
    context = NoCollection()
    lock = context._lock  # noqa: SLF001 - the moment between two lines

    class Late:
        def __enter__(self) -> None:
            context._lock = lock  # noqa: SLF001
            context.__exit__()
            lock.__enter__()

        def __exit__(self, *_: object) -> None:
            lock.__exit__(None, None, None)

    context.__enter__()
    context._lock = Late()  # type: ignore[assignment]  # noqa: SLF001
    context.__enter__()
    assert not gc.isenabled()
    context.__exit__()
    assert gc.isenabled()
