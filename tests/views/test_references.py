"""References to a file are read by zarr, xarray and icechunk as what h5py reads, or are refused."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import OptionError, TargetError, UnsupportedError
from h5bound.cli.main import run_command
from h5bound.views.references import references
from tests.support.http_server import serve

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])

VALUES = np.arange(4000, dtype=">i4").reshape(40, 100)

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with data of each way to be referred to."""
    path = tmp_path / "a b.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("gzip", data=VALUES, chunks=(8, 50), compression="gzip", shuffle=True)
        file.create_dataset("plain", data=VALUES, chunks=(7, 30))
        file.create_dataset("contiguous", data=VALUES)
        file.create_dataset("lzf", data=VALUES, chunks=(8, 50), compression="lzf")
        file.create_dataset("text", data=["a", "bé", ""])
        file.create_dataset("scalar", data=2.5)
        file.create_dataset("arrays", data=np.arange(60, dtype="i2").reshape(4, 15).view(np.dtype(("i2", 1))))
        file.create_dataset("holes", (100,), "f4", chunks=(10,), fillvalue=3)[20:30] = 7
        file.create_dataset("empty", (3, 0), "f4")
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((5,))
        dataset = h5py.h5d.create(file.id, b"compact", h5py.h5t.STD_I32LE, space, compact)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(5, dtype="i4"))
    return path


def check(group: zarr.Group, path: Path) -> None:
    """Compare all arrays of a store with what h5py reads."""
    with h5py.File(path) as file:
        assert sorted(file) == sorted(name for name, _ in group.arrays())
        for name in list(
            file
        ):  # `items` of h5py keeps its lock, for which the garbage collector of another thread may wait
            dataset = file[name]
            wanted = dataset.asstr()[...] if name == "text" else dataset[...]
            np.testing.assert_array_equal(group[name][...], wanted, err_msg=name)  # type: ignore[index]


def open_references(refs: Any, **options: Any) -> zarr.Group:
    """Return the store that fsspec makes of references."""
    options |= {"fo": refs, "skip_instance_cache": True}
    return zarr.open_group("reference://", mode="r", storage_options=options)


@FORMATS
@pytest.mark.parametrize("written", [False, True])
def test_fsspec_reads_what_h5py_reads(path: Path, tmp_path: Path, zarr_format: Any, *, written: bool) -> None:
    target = tmp_path / "sub" / "a.json"
    refs = references(path, target if written else None, zarr_format=zarr_format)
    if written:
        assert json.loads(target.read_text()) == refs
        assert [item.name for item in target.parent.iterdir()] == ["a.json"]
    check(open_references(str(target) if written else refs), path)
    ranges = [value for value in refs["refs"].values() if isinstance(value, list)]
    assert {url for url, *_ in ranges} == {f"file://{path}"}
    inlined = {key.partition("/")[0] for key, value in refs["refs"].items() if value[:7] == "base64:"}
    assert inlined == {"lzf", "text", "compact"} | ({"holes"} if zarr_format == 2 else set())  # xarray would mask them


@pytest.mark.parametrize("size", [40, 999, 4000, 9000, 10**6])
@pytest.mark.parametrize("shape", [(40, 100), (41, 97), (4001,), (2, 3, 5, 7, 11), (3, 1009)])
def test_contiguous_data_is_split_into_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], size: int
) -> None:
    monkeypatch.setattr("h5bound.views.contiguous.LARGEST", size)
    path = tmp_path / "a.h5"
    values = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    for is_last in (False, True):
        with h5py.File(path, "w") as file:
            file["x"] = values
            if not is_last:
                file["y"] = np.zeros(10**5, "i1")
        refs = references(path, include=["/x"])
        np.testing.assert_array_equal(open_references(refs)["x"][...], values)  # type: ignore[index]
        ends = [offset + nbytes for _, offset, nbytes in (v for v in refs["refs"].values() if isinstance(v, list))]
        assert max(ends) <= path.stat().st_size


def test_what_is_too_large_to_be_inlined_is_refused_with_the_way_out(path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)3 datasets cannot be referred to.*ZarrStore.*/lzf: .* a chunk: "):
        references(path, inline_limit=10)
    refs = references(path, inline_limit=40, exclude=["/lzf"])
    assert "lzf/zarr.json" not in refs["refs"]


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("a.txt", {}),
        ("a.parquet", {}),
        ("a.json", {"inline_limit": "much"}),
        ("a.json", {"zarr_format": 1}),
        ("a.json", {"include": ["/nosuch"]}),
    ],
)
def test_odd_options_are_refused_before_anything_is_written(
    path: Path, tmp_path: Path, target: str, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        references(path, tmp_path / "out" / target, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")
def test_parquet_is_read_by_fsspec(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("kerchunk")
    pytest.importorskip("fastparquet")
    target = tmp_path / "a.parquet"
    references(path, target, zarr_format=2)
    check(open_references(str(target), remote_protocol="file"), path)
    with pytest.raises(TargetError, match="it exists"):
        references(path, target, zarr_format=2)


@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")
def test_parquet_holds_what_is_in_groups_with_odd_names(tmp_path: Path) -> None:
    pytest.importorskip("kerchunk")
    pytest.importorskip("fastparquet")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("g/a::b", data=VALUES, chunks=(7, 30))
        file.create_dataset("g/holes", (100,), "f4", chunks=(10,), fillvalue=3)[20:30] = 7
        file[".zoo/x"] = [1]
    with pytest.raises(UnsupportedError, match=r"begin with \.z"):
        references(path, tmp_path / "a.parquet", zarr_format=2)
    for odd in ("a::b", "{a}"):
        with pytest.raises(OptionError, match="cannot be in a path with"):
            references(path, tmp_path / odd / "a.parquet", zarr_format=2)
    references(path, tmp_path / "a.parquet", zarr_format=2, exclude=["/.zoo"])
    group: Any = open_references(str(tmp_path / "a.parquet"), remote_protocol="file")["g"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(group["a%3A%3Ab"][...], VALUES)
        np.testing.assert_array_equal(group["holes"][...], file["g/holes"][...])


def test_base_url_stands_for_the_folder_of_the_file(tmp_path: Path) -> None:
    for name in ("x/sub/a.h5", "b.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = VALUES + len(name)
    path = tmp_path / "x" / "a.h5"
    with h5py.File(path, "w") as file:
        file["own"] = VALUES
        file["below"] = h5py.ExternalLink("sub/a.h5", "x")
        file["above"] = h5py.ExternalLink("../b.h5", "x")
    refs = references(path, allow_external=[tmp_path], base_url=f"file://{tmp_path}/x/")
    group: Any = open_references(refs)
    assert refs["refs"]["below/c/0/0"][0] == f"file://{tmp_path}/x/sub/a.h5"
    assert refs["refs"]["above/c/0/0"][:7] == "base64:"
    for name, more in (("own", 0), ("below", 10), ("above", 4)):
        np.testing.assert_array_equal(group[name][...], VALUES + more)


def test_data_of_a_file_that_is_written_to_is_inlined(path: Path) -> None:
    with h5py.File(path, "a") as file:
        refs = references(file)
        assert not any(isinstance(value, list) for value in refs["refs"].values())
    check(open_references(refs), path)


@FORMATS
def test_references_to_a_server_are_ranges_of_its_file(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.nc"
    made = xr.Dataset({"t": (("y", "x"), np.arange(12.0).reshape(4, 3), {"units": "K"})}, {"x": [1, 2, 3]})
    made.to_netcdf(path, encoding={"t": {"zlib": True, "chunksizes": (2, 3)}})
    with serve(tmp_path) as server:
        there = references(f"{server.url}/a.nc", zarr_format=zarr_format)
        here = references(path, zarr_format=zarr_format, base_url=server.url)
        assert {key: value for key, value in there["refs"].items() if key != "h5bound.json"} == {
            key: value for key, value in here["refs"].items() if key != "h5bound.json"
        }
        options = {
            "fo": there,
            "remote_protocol": "http",
            "skip_instance_cache": True,
            "remote_options": {"asynchronous": True},
        }
        with xr.open_dataset("reference://", engine="zarr", storage_options=options) as found:
            xr.testing.assert_equal(found.load(), made)


def make_repository(folder: Path) -> Any:
    """Return an icechunk repository in memory that may refer to files of a folder."""
    icechunk = pytest.importorskip("icechunk")
    config = icechunk.RepositoryConfig.default()
    prefix = f"file://{folder}/"
    store = icechunk.local_filesystem_store(str(folder))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    access = {prefix: getattr(icechunk.credentials, "LocalFileSystemAccess", None)}  # older ones take None
    return icechunk.Repository.create(icechunk.in_memory_storage(), config, authorize_virtual_chunk_access=access)


@pytest.mark.slow
def test_icechunk_reads_a_later_copy_of_the_file(path: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "copy")
    os.utime(path, (1e9, 1e9))
    references(path, repository.writable_session("main").store, base_url=f"file://{tmp_path}/copy")
    (tmp_path / "copy").mkdir()
    shutil.copy(path, tmp_path / "copy")
    check(zarr.open_group(repository.readonly_session("main").store, mode="r"), path)


@pytest.mark.slow
def test_icechunk_holds_ranges_and_chunks_in_one_commit(path: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    session = repository.writable_session("main")
    counts = references(path, session.store)
    assert counts["ranges"] > 0
    assert counts["encoded"] > 0
    group = zarr.open_group(repository.readonly_session("main").store, mode="r")
    check(group, path)
    assert len(list(repository.ancestry(branch="main"))) == 2
    with pytest.raises(TargetError, match="holds a store"):
        references(path, repository.writable_session("main").store)


def test_the_command_writes_references(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.json"
    options = ["--base-url", "s3://bucket/x", "--exclude", "/lzf"]
    assert run_command(["refs", str(path), str(target), *options]) == 0
    assert "chunks of" in capsys.readouterr().out
    refs = json.loads(target.read_text())["refs"]
    assert refs["gzip/c/0/0"][0] == "s3://bucket/x/a b.h5"
    assert "lzf/zarr.json" not in refs
    assert run_command(["refs", str(path), str(target), *options]) == 1
    assert "it exists; pass --overwrite" in capsys.readouterr().err
    with h5py.File(path, "a") as file:
        file.create_dataset("outside", (3,), "i4", external=[("elsewhere", 0, 12)])
        file["soft"] = h5py.SoftLink("/nowhere")
    options += ["--overwrite", "--on-unsupported", "skip"]
    assert run_command(["refs", str(path), str(target), *options]) == 3
    shown = capsys.readouterr().out
    assert "skipped /outside: " in shown
    assert "not under --allow-external" in shown
    assert "in another form: soft link /soft -> /nowhere: kept as a link" in shown
    assert run_command(["refs", str(path), str(tmp_path / "a.txt")]) == 2
    assert ".json or .parquet" in capsys.readouterr().err
    assert run_command(["refs", str(path), str(target), "--inline-limit", "10", *options]) == 1
    assert "raise --inline-limit, " in capsys.readouterr().err
