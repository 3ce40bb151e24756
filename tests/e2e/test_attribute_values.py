"""Readers of the field take attributes of a store for what they are in the file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import convert, verify

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])


def write_infinite(path: Path) -> None:
    """Write a netCDF file with infinity for what is missing, and other attributes that are not finite."""
    data = xr.Dataset({"a": ("x", [1.0, np.inf, 3.0]), "b": ("x", np.array([1, 2, 3], "i2"))}, {"x": [0.0, 1.0, 2.0]})
    data.a.attrs = {"missing_value": np.inf, "valid_range": [-np.inf, 5.0]}
    data.b.attrs = {"add_offset": np.nan, "scale_factor": 2.0}
    data.attrs["resolution"] = np.nan
    data.to_netcdf(path, engine="h5netcdf")


@FORMATS
def test_xarray_masks_and_scales_with_attributes_that_are_not_finite(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    write_infinite(source)
    report = convert(source, target, zarr_format=zarr_format)
    assert report.forms["nan"] == 4
    with xr.open_zarr(target, chunks=None) as found, xr.open_dataset(source, engine="h5netcdf") as expected:
        assert np.isnan(found.a.values).tolist() == [False, True, False]
        for name in ("a", "b", "x"):
            np.testing.assert_array_equal(found[name].values, expected[name].values)
        assert np.isnan(found.attrs["resolution"])
        assert list(found.a.attrs["valid_range"]) == list(expected.a.attrs["valid_range"])
    assert verify(source, target).equal
    assert convert(source, target, zarr_format=zarr_format, resume=True).remark == "already complete"


@FORMATS
def test_as_text_every_metadata_document_is_json_of_any_language(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    write_infinite(source)
    report = convert(source, target, zarr_format=zarr_format, nan="text", verify=True)
    assert report.exit_code == 0
    assert report.forms["nan"] == 4
    documents = [path for path in target.rglob("*") if path.name.startswith((".z", "zarr.json"))]
    for path in documents:
        json.loads(path.read_text(), parse_constant=pytest.fail)
    with xr.open_zarr(target, decode_cf=False) as found:
        assert found.attrs["resolution"] == "NaN"
        assert found.a.attrs["valid_range"] == ["-Infinity", 5.0]


def test_icechunk_which_takes_no_nan_gets_text(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk", reason="icechunk has no wheel for this Python")
    source = tmp_path / "a.nc"
    write_infinite(source)
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    report = convert(source, repository.writable_session("main").store, verify=True)
    assert report.exit_code == 0
    assert "as text" in next(note.note for note in report.notes if note.kind == "nan")
    assert verify(source, repository.readonly_session("main").store).equal


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hdmf_zarr_reads_a_resolution_that_is_not_a_number(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    hdmf_zarr = pytest.importorskip("hdmf_zarr", minversion="0.14")  # the first that reads Zarr format 3
    source, target = tmp_path / "a.nwb", tmp_path / "a.nwb.zarr"
    data = pynwb.NWBFile("made for a test", "id", datetime(2025, 1, 1, tzinfo=UTC))
    series: Any = pynwb.TimeSeries(name="s", data=np.arange(3.0), unit="m", rate=1.0, resolution=np.nan)
    data.add_acquisition(series)
    with pynwb.NWBHDF5IO(source, "w") as io:
        io.write(data)
    assert convert(source, target, verify=True).exit_code == 0
    with hdmf_zarr.NWBZarrIO(str(target), "r") as io:
        assert np.isnan(io.read().acquisition["s"].resolution)


def write_latin1(path: Path) -> None:
    """Write text of fixed and variable length, some of it in Latin-1, some only as the fill value or in sequences."""
    text = h5py.string_dtype("ascii")
    with h5py.File(path, "w") as file:
        scale = file.create_dataset("x", data=np.arange(3.0))
        scale.make_scale("x")
        values = {"a": [b"\xb0C", b"ok", b""], "b": [b"\xe9", "é".encode(), b"m"], "utf8": ["é".encode(), b"m", b""]}
        for name, items in values.items():
            dataset = file.create_dataset(name, (3,), text if name == "a" else h5py.string_dtype(), chunks=(2,))
            dataset[...] = np.array(items, object)
            dataset.dims[0].attach_scale(scale)
        file["fixed"] = np.array([b"\xb0C", b"ok", b""])
        file["scalar"] = np.array("x", text)
        file["scalar"][()] = b"\xb5"
        file.create_dataset("filled", (2,), text, fillvalue=b"\xb0")[...] = b"m"
        file.create_dataset("rows", (2,), h5py.vlen_dtype(text))[0] = np.array([b"\xb0", b"a"], text)
        file.create_dataset("never", (2**40,), text, chunks=(2**20,))


@FORMATS
def test_text_that_is_not_utf8_is_bytes_with_a_note(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_latin1(source)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    noted = {note.path for note in report.notes if note.kind == "bytes"}
    assert noted == {"/a", "/b", "/scalar", "/filled", "/rows"}
    store: Any = zarr.open_group(target, mode="r")
    with h5py.File(source) as opened, xr.open_zarr(target, chunks=None, drop_variables="never") as found:
        file: Any = opened
        for name in ("a", "b", "fixed", "scalar", "filled"):
            assert store[name][...].tolist() == np.asarray(file[name][()], "S" if name == "fixed" else object).tolist()
            assert found[name].values.tolist() == store[name][...].tolist()
        assert found.utf8.values.tolist() == ["é", "m", ""]
        assert list(file["rows"][0]) == store["rows/values"][:].tolist() == [b"\xb0", b"a"]
        assert found.b.values[0].decode("cp1252") == "é"
    assert convert(source, target, zarr_format=zarr_format, resume=True).remark == "already complete"
    with h5py.File(source, "a") as opened:
        opened["b"][2] = b"n"
    assert {item.path for item in verify(source, target).differences} >= {"/b"}


def test_text_that_is_not_utf8_fits_into_shards_and_other_codecs(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_latin1(source)
    report = convert(source, target, shards={"/a": (4,), "/b": (4,)}, codecs="zstd:3", chunks={"/b": (1,)}, verify=True)
    assert report.exit_code == 0
    array: Any = zarr.open_array(target / "b")
    assert array[:].tolist() == [b"\xe9", "é".encode(), b"m"]
