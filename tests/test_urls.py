"""HDF5 files at URLs: the same values, few requests, clear errors, and no secret anywhere."""

from __future__ import annotations

import json
import pickle
import socket
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import dask
import fsspec
import h5py
import numpy as np
import pytest
from distributed import Client, LocalCluster

from h5bound import H5Store, convert, from_hdf5, verify
from h5bound.cli import main
from h5bound.errors import H5BoundError, SourceChangedError, SourceNotFoundError, UnsafeSourceError
from tests.http_server import Behaviour, RangeServer, serve
from tests.servers import KEY, SECRET, serve_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = np.random.default_rng(0).integers(0, 1000, (400, 600), "i4")


def write(path: Path, data: Any = DATA) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("group/x", data=data, chunks=(40, 60), compression="gzip", shuffle=True)
        file.create_dataset("plain", data=data.astype("f8"))
        file.create_dataset("text", data=["a", "bcd"])
        file.attrs["title"] = "far"


def read_store(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    pytest.importorskip("aiohttp")
    (tmp_path / "www").mkdir()
    write(tmp_path / "www" / "a.h5")
    with serve(tmp_path / "www") as server:
        yield server


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("barrier", [True, False])
def test_what_is_read_at_a_url_is_what_h5py_reads(server: RangeServer, scheduler: str, barrier: bool) -> None:
    store = H5Store(f"{server.url}/a.h5", barrier=barrier)
    assert sorted(store) == ["group/x", "plain", "text"]
    with dask.config.set(scheduler=scheduler, num_workers=8):
        x, plain, text = dask.compute(store["group/x"], store["plain"][3:390, 7], store["text"])
    assert np.array_equal(x, DATA)
    assert np.array_equal(plain, DATA[3:390, 7])
    assert text.tolist() == [b"a", b"bcd"]


def test_one_element_costs_one_range_more_than_the_metadata(server: RangeServer) -> None:
    size = (server.folder / "a.h5").stat().st_size
    array = from_hdf5(f"{server.url}/a.h5", "group/x")
    server.forget()
    array[:0].compute()
    array[123, 456].compute()
    metadata = server.count("GET")
    server.forget()
    assert array[234, 567].compute() == DATA[234, 567]
    assert server.count("GET") <= metadata + 1
    assert server.nbytes() < size / 3
    server.forget()
    assert array.sum().compute() == DATA.sum()  # 100 chunks
    assert server.count("GET") < 30
    assert server.nbytes() < 2 * size


def test_a_file_at_a_url_that_changes_is_refused(server: RangeServer) -> None:
    array = from_hdf5(f"{server.url}/a.h5", "group/x")
    write(server.folder / "a.h5", DATA + 1)
    with pytest.raises(SourceChangedError, match=r"a\.h5"):
        array.compute()
    assert from_hdf5(f"{server.url}/a.h5", "group/x").name != array.name


@pytest.mark.parametrize(
    ("behaviour", "kind", "found"),
    [
        pytest.param(Behaviour(status=404), SourceNotFoundError, "no such file", id="missing"),
        pytest.param(Behaviour(status=403), H5BoundError, "access is denied", id="forbidden"),
        pytest.param(Behaviour(status=500), H5BoundError, "500", id="broken"),
        pytest.param(Behaviour(ranges=False), H5BoundError, "range", id="no_ranges"),
        pytest.param(Behaviour(cut=10), H5BoundError, "cut short|cannot be read|is short", id="cut"),
    ],
)
def test_a_server_that_misbehaves_is_one_clear_error(
    server: RangeServer, behaviour: Behaviour, kind: type[Exception], found: str
) -> None:
    server.behaviour = behaviour
    with pytest.raises(kind, match=found) as caught:
        from_hdf5(f"{server.url}/a.h5", "group/x")
    assert "a.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_server_no_hdf5_and_no_such_dataset_are_clear_errors(server: RangeServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(H5BoundError, match="no connection"):
            from_hdf5(f"http://127.0.0.1:{unused.getsockname()[1]}/a.h5", "x")
    (server.folder / "b.h5").write_bytes(b"no HDF5" * 100)
    with pytest.raises(H5BoundError, match="not an HDF5 file"):
        H5Store(f"{server.url}/b.h5")
    with pytest.raises(KeyError, match="group/y"):
        from_hdf5(f"{server.url}/a.h5", "group/y")


def test_a_link_out_of_a_file_at_a_url_is_refused(server: RangeServer) -> None:
    with h5py.File(server.folder / "a.h5", "r+") as file:
        file["out"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(UnsafeSourceError, match=r"other\.h5"):
        from_hdf5(f"{server.url}/a.h5", "out")


def test_no_secret_stands_in_anything_that_anyone_reads(
    server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "signature=sEcReTabc"
    server.behaviour = Behaviour(query=query, user=f"{KEY}:{SECRET}")
    url = f"{server.url}/a.h5?{query}"
    token = b64encode(f"{KEY}:{SECRET}".encode()).decode()
    options = {"client_kwargs": {"headers": {"Authorization": f"Basic {token}"}}}
    array = from_hdf5(url, "group/x", storage_options=options)
    assert np.array_equal(array.compute(scheduler="sync"), DATA)
    report = convert(url, tmp_path / "a.zarr", storage_options=options, report=tmp_path / "report.json", verify=True)
    server.behaviour = Behaviour(status=403)
    with pytest.raises(H5BoundError) as caught:
        array.compute(scheduler="sync")
    shown = [
        repr(array.__dask_graph__().layers), repr(list(array.__dask_graph__())), repr(array), str(caught.value),
        repr(caught.value.__context__), repr(caught.value.__cause__), repr(report), report.to_json(),
        (tmp_path / "report.json").read_text(), *(str(value) for value in read_store(tmp_path / "a.zarr").items()),
        *capsys.readouterr(),
    ]  # fmt: skip
    for secret in (KEY, SECRET, token, "sEcReT", query):
        assert not [text for text in shown if secret in text]


def test_a_conversion_from_a_url_is_that_of_the_file(server: RangeServer, tmp_path: Path) -> None:
    local, far = tmp_path / "local.zarr", tmp_path / "far.zarr"
    convert(server.folder / "a.h5", local)
    report = convert(f"{server.url}/a.h5", far)
    assert report.source.path == f"{server.url}/a.h5"
    mine, its = read_store(far), read_store(local)
    assert set(mine) == set(its)
    assert all(mine[key] == its[key] for key in mine if key != "zarr.json")  # which names the source
    assert verify(f"{server.url}/a.h5", far).equal
    (far / "plain" / "c" / "0" / "0").write_bytes(b"other")
    assert not verify(f"{server.url}/a.h5", far).equal


def test_the_command_line_takes_urls(server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["convert", f"{server.url}/a.h5", str(tmp_path / "a.zarr"), "--report", str(tmp_path / "r.json")])
    assert ended.value.code == 0
    assert json.loads((tmp_path / "r.json").read_text())["complete"]
    with pytest.raises(SystemExit) as ended:
        main(["ls", f"{server.url}/a.h5"])
    assert ended.value.code == 0
    assert "plain" in capsys.readouterr().out


def test_a_file_in_memory_and_one_in_s3_are_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe("/h5bound/a.h5", content)
    try:
        assert np.array_equal(from_hdf5("memory://h5bound/a.h5", "group/x").compute(), DATA)
    finally:
        memory.rm("/h5bound", recursive=True)
    pytest.importorskip("s3fs")
    with serve_s3() as address:
        options = {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": address}}
        system = fsspec.filesystem("s3", **options)
        system.mkdir("bucket")
        system.pipe("bucket/a.h5", content)
        array = from_hdf5("s3://bucket/a.h5", "group/x", storage_options=options)
        assert np.array_equal(array.compute(), DATA)
        assert SECRET not in repr(array.__dask_graph__().layers)
        with pytest.raises(SourceNotFoundError, match=r"s3://bucket/b\.h5"):
            from_hdf5("s3://bucket/b.h5", "group/x", storage_options=options)


def test_workers_of_a_cluster_open_a_url_for_themselves(server: RangeServer) -> None:
    array = from_hdf5(f"{server.url}/a.h5", "group/x")
    assert np.array_equal(pickle.loads(pickle.dumps(array)).compute(scheduler="sync"), DATA)
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        assert array.sum().compute() == DATA.sum()
