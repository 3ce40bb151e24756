"""File objects of Python and fsspec as sources: read as what they stand for, or refused with what to pass."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr

from h5bound import H5BoundError, H5Store, OptionError, SourceChangedError, UnsupportedError, convert, from_hdf5, verify
from h5bound.reader.source import H5Source
from tests.support.http_server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VALUES = np.arange(1000.0).reshape(100, 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with a chunked dataset, a contiguous one and one of text."""
    path = tmp_path / "a.h5"
    write(path)
    path.with_suffix(".h5.gz").write_bytes(gzip.compress(path.read_bytes()))
    return path


def write(path: Path, **options: Any) -> None:
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("x", data=VALUES, chunks=(10, 10), compression="gzip")
        file["y"] = VALUES[0]
        file["text"] = ["a", "bb"]


@pytest.fixture
def url(path: Path) -> Iterator[str]:
    """Return the URL of the file."""
    with serve(path.parent) as server:
        yield f"{server.url}/{path.name}"


def check_all(source: Any, target: Path) -> None:
    """Check that all that takes a source reads the file."""
    np.testing.assert_array_equal(from_hdf5(source, "x", chunks={}), VALUES)
    store = H5Store(source)
    np.testing.assert_array_equal(store["y"], VALUES[0])
    assert store["text"].compute().tolist() == [b"a", b"bb"]
    options: Any = {"engine": "h5bound", "phony_dims": "sort"}
    np.testing.assert_array_equal(xr.open_dataset(source, **options).x, VALUES)
    np.testing.assert_array_equal(xr.open_dataset(source, **options, chunks={}).x, VALUES)
    report = convert(source, target, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    assert verify(source, target).equal


def test_a_file_object_without_a_path_is_read_in_this_process(path: Path, tmp_path: Path) -> None:
    kinds: list[Callable[[], Any]] = [
        lambda: io.BytesIO(path.read_bytes()),
        lambda: gzip.GzipFile(path.with_suffix(".h5.gz")),
    ]
    for make in kinds:
        with make() as file:
            array = from_hdf5(file, "x", chunks={})
            check_all(file, tmp_path / f"{type(file).__name__}.zarr")
            with pytest.raises(UnsupportedError, match="this process only"):
                pickle.dumps(array)
        with pytest.raises(H5BoundError, match="closed file"):
            array.compute()


def test_a_file_object_has_the_same_name_in_every_store(path: Path, tmp_path: Path) -> None:
    names = []
    for target in (tmp_path / "a.zarr", tmp_path / "b.zarr"):
        assert convert(io.BytesIO(path.read_bytes()), target).source.path == "<BytesIO>"
        names.append(json.loads((target / "h5bound.json").read_text())["source"]["path"])
    assert names == ["<BytesIO>"] * 2


@pytest.mark.parametrize("make", [open, io.FileIO, lambda path, mode: fsspec.open(str(path), mode)])
def test_a_file_object_of_a_path_is_that_path(make: Callable[..., Any], path: Path, tmp_path: Path) -> None:
    source = make(path, "rb")
    assert H5Source.of(source).key == H5Source.of(path).key
    array = from_hdf5(source, "x", chunks={})
    check_all(source, tmp_path / "a.zarr")
    with suppress(AttributeError):
        source.close()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), VALUES)


LEAVES_FILES = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.mark.parametrize(
    "chain", ["", "simplecache::", "filecache::", pytest.param("blockcache::", marks=LEAVES_FILES)]
)
def test_a_file_of_fsspec_is_its_url_and_a_cache_may_come_first(chain: str, url: str, tmp_path: Path) -> None:
    if chain and fsspec.__version__ < "2026":
        pytest.skip("older versions of fsspec do not show the options of a cache")
    check_all(chain + url, tmp_path / "url.zarr")
    check_all(fsspec.open(chain + url), tmp_path / "open_file.zarr")
    assert H5Source.of(fsspec.open(chain + url)).path == chain + url
    with fsspec.open(chain + url) as file:
        np.testing.assert_array_equal(from_hdf5(file, "x", chunks={}), VALUES)


def test_options_of_a_file_of_fsspec_are_used_and_not_shown(url: str) -> None:
    options = {"headers": {"X-Token": "sEcReT"}}
    source = H5Source.of(fsspec.open(url, **options))
    assert source.location.address.options == options  # type: ignore[attr-defined]
    assert "sEcReT" not in f"{source.path} {source.key!r} {source.location!r}"


REFUSED: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.open(),
    "writing": lambda path: path.open("r+b"),
    "writing with fsspec": lambda path: fsspec.open(str(path), "wb"),
    "compressed": lambda path: fsspec.open(str(path), compression="gzip"),
    "a number": lambda path: len(str(path)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_objects_are_refused_with_what_to_pass(name: str, path: Path, tmp_path: Path) -> None:
    source = REFUSED[name](path)
    for read in (
        lambda: from_hdf5(source, "x"),
        lambda: H5Store(source),
        lambda: convert(source, tmp_path / "a.zarr"),
        lambda: xr.open_dataset(source, engine="h5bound"),
    ):
        with pytest.raises(OptionError, match=r"pass the path|decompress|give a path"):
            read()
    assert not (tmp_path / "a.zarr").exists()
    if hasattr(source, "close"):
        source.close()
    if isinstance(source, io.IOBase):
        with pytest.raises(OptionError, match="is closed"):
            from_hdf5(source, "x")


def test_a_file_that_was_replaced_after_it_was_opened_is_not_taken_for_its_path(path: Path) -> None:
    with path.open("rb") as file:
        path.rename(path.with_suffix(".old"))
        write(path)
        with pytest.raises(SourceChangedError, match="was replaced"):
            from_hdf5(file, "x")


@pytest.mark.parametrize(("driver", "name"), [("split", "a"), ("family", "a%d"), ("stdio", "a"), ("core", "a")])
def test_files_of_other_drivers_are_read_through_the_open_file(driver: str, name: str, tmp_path: Path) -> None:
    write(tmp_path / name, driver=driver)
    with h5py.File(tmp_path / name, "r", driver=driver) as file:
        check_all(file, tmp_path / "a.zarr")


def test_options_of_h5netcdf_are_taken_where_they_make_no_difference(path: Path) -> None:
    options: dict[str, Any] = {"engine": "h5bound", "phony_dims": "sort"}
    same: dict[str, Any] = {
        "lock": False,
        "invalid_netcdf": True,
        "format": "NETCDF4",
        "driver": None,
        "driver_kwds": None,
    }
    assert xr.open_dataset(path, **options, **same).identical(xr.open_dataset(path, **options))
    for other in ({"driver": "core"}, {"driver_kwds": {"block_size": 1}}, {"format": "NETCDF3_64BIT"}):
        with pytest.raises(OptionError, match=r"pass h5py\.File\(path, driver=…\)"):
            xr.open_dataset(path, **options, **other)
