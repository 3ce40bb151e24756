"""References to a file are read by zarr, xarray and icechunk as what h5py reads, or are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from h5bound import OptionError, UnsupportedError
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
        for name in list(file):  # `items` of h5py keeps its lock, which another thread may need
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
    refs = references(path, zarr_format=zarr_format)
    if written:
        references(path, target, zarr_format=zarr_format)
        assert json.loads(target.read_text()) == refs
        assert [item.name for item in target.parent.iterdir()] == ["a.json"]
    check(open_references(str(target) if written else refs), path)
    ranges = [value for value in refs["refs"].values() if isinstance(value, list)]
    assert {url for url, *_ in ranges} == {f"file://{path}"}
    inlined = {key.partition("/")[0] for key, value in refs["refs"].items() if value[:7] == "base64:"}
    assert inlined == {"lzf", "text", "compact"} | ({"holes"} if zarr_format == 2 else set())  # xarray would mask them


@pytest.mark.parametrize("size", [200, 999, 4000, 9000, 10**6])
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


def test_what_is_too_large_to_be_inlined_is_refused_with_the_way_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)4 datasets cannot be referred to.*ZarrStore.*/lzf: .* a chunk: "):
        references(path, inline_limit=10)
    with pytest.raises(UnsupportedError, match=r"4 datasets cannot be referred to"):
        references(path, inline_limit=0)
    with h5py.File(path.with_name("many.h5"), "w") as file:
        for number in range(10):
            file.create_dataset(f"x{number}", data=np.arange(100), chunks=(50,), compression="lzf")
    with pytest.raises(UnsupportedError, match=r"and 2 more$"):
        references(path.with_name("many.h5"), inline_limit=10)
    with monkeypatch.context() as patch, h5py.File(path.with_name("few.h5"), "w") as file:
        patch.setattr("h5bound.views.chunk_references.INLINE_SHARE", 2)
        file.create_dataset("x", data=np.random.default_rng(0).random(150), chunks=(50,), compression="lzf")
        file.close()
        with pytest.raises(UnsupportedError, match="/x: too many chunks: "):
            references(path.with_name("few.h5"), inline_limit=500)
        assert references(path.with_name("few.h5"), inline_limit=1000)
    refs = references(path, inline_limit=40, exclude=["/lzf"])
    assert "lzf/.zarray" not in refs["refs"]


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("a.txt", {}),
        ("a.parquet", {"zarr_format": 3}),
        ("a.json", {"base_url": ""}),
        ("a.json", {"base_url": "https://me:secret@host/data/"}),
        ("a.json", {"base_url": "https://host/data/?signature=secret"}),
        ("a.json", {"report": "s3://bucket/report.json"}),
        (MemoryStore(), {}),
        ("a.json", {"inline_limit": "much"}),
        ("a.json", {"zarr_format": 1}),
        ("a.json", {"include": ["/nosuch"]}),
    ],
)
def test_odd_options_are_refused_before_anything_is_written(
    path: Path, tmp_path: Path, target: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        references(path, tmp_path / "out" / target if isinstance(target, str) else target, **options)
    assert not (tmp_path / "out").exists()


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
    refs = references(path, zarr_format=3, allow_external=[tmp_path], base_url=f"file://{tmp_path}/x/")
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
