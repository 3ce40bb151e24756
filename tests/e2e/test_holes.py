"""xarray and zarr read chunks that were never written as h5py does, in both formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import convert

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:The data type:FutureWarning", "ignore::UserWarning")
FORMATS = pytest.mark.parametrize("zarr_format", [pytest.param(3, id="v3"), pytest.param(2, id="v2")])


def write_holes(path: Path) -> None:
    """Write one chunk of four of each kind of dataset, and others of which nothing or a part is written."""
    kinds = {
        "integers": ("i4", 5), "big": (">f8", 5), "flags": (bool, True), "complex": ("c16", 1j), "fixed": ("S3", b"ab"),
        "pairs": ([("a", "i4"), ("b", "f8")], (1, 2)), "arrays": ("(2,)i2", [1, 0]), "text": (h5py.string_dtype(), "é"),
        "colors": (h5py.enum_dtype({"RED": 0, "BLUE": 3}), 3),
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, (dtype, value) in kinds.items():
            file.create_dataset(name, (4,), np.dtype(dtype), chunks=(1,))[1] = value
        file.create_dataset("sevens", (4,), "f4", chunks=(1,), fillvalue=7)[1] = 5
        file.create_dataset("gzip", (4,), "f4", chunks=(3,), compression="gzip")[1] = 5
        file.create_dataset("never", (4,), "i2")
        file["zero"] = np.int32(0)
        file.create_dataset("sequences", (3,), h5py.vlen_dtype("i4"))[1] = [0, 1]
        layout = h5py.VirtualLayout((6,), "i4")
        layout[:4] = h5py.VirtualSource(file["integers"])
        file.create_virtual_dataset("virtual", layout)


@FORMATS
def test_xarray_and_zarr_read_holes_as_h5py_does(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_holes(source)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert (report.exit_code, [note for note in report.notes if "xarray" in note.note]) == (0, [])
    seen = xr.open_zarr(target, chunks=None).load()
    plain: Any = zarr.open_group(target, mode="r")
    with h5py.File(source) as file:
        for name in file.keys() - {"sequences"}:
            wanted = file[name].asstr()[()] if name == "text" else file[name][()]
            for found in (seen[name].values, plain[name][()]):
                assert np.asarray(found).tolist() == wanted.tolist(), name
            if name != "text":
                assert seen[name].dtype == wanted.dtype.newbyteorder("=")
    sequences = xr.open_zarr(target, group="sequences", chunks=None).load()
    assert sequences["values"].values.tolist() == [0, 1]
    assert sequences["offsets"].values.tolist() == [0, 0, 2, 2]
    assert sequences["values"].dtype == np.dtype("i4")


def test_too_many_holes_are_not_written_in_format_2_and_the_note_says_what_to_do(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file.create_dataset("huge", (10**12,), "i1", chunks=(2**16,), compression="gzip")[:4] = [0, 5, 0, 0]
        file.create_dataset("pairs", (10**9,), [("a", "i4"), ("b", "i4")], chunks=(2**20,))
        file.create_dataset("many", (10**6,), "i1", chunks=(1,))[7] = 1
        file.create_dataset("wide", (1, 10**9), "i1", chunks=(1000, 1000), maxshape=(None, None))[0, :5] = 1
    report = convert(source, target, zarr_format=2, verify=True)
    notes = {note.path: note.note for note in report.notes if "xarray" in note.note}
    assert notes.keys() == {"/huge", "/many", "/pairs", "/wide"}
    assert "mask_and_scale=False" in notes["/huge"]
    seen = xr.open_zarr(target, chunks=None, mask_and_scale=False)
    assert seen["huge"][:4].values.tolist() == [0, 5, 0, 0]
    assert sum(path.is_file() for path in (target / "huge").iterdir()) == 3


def test_a_virtual_dataset_has_holes_only_where_no_part_covers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h5bound.planning.scan_fill.MAX_HOLES_NBYTES", 0)
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["d"] = np.arange(4)
        for name, length in (("covered", 8), ("half", 9)):
            layout = h5py.VirtualLayout((length,), "i8")
            layout[:4] = layout[4:8] = h5py.VirtualSource(file["d"])
            file.create_virtual_dataset(name, layout)
    report = convert(source, target, zarr_format=2, verify=True)
    assert [note.path for note in report.notes if "xarray" in note.note] == ["/half"]
    assert xr.open_zarr(target, chunks=None)["covered"].values.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


@FORMATS
def test_fill_values_of_long_doubles_keep_the_bytes_that_pad_them(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    raw = np.longdouble(1.5).tobytes()[:10].ljust(np.dtype(np.longdouble).itemsize, b"\x5a")
    with h5py.File(source, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_fill_value(np.frombuffer(raw, np.longdouble).reshape(()))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_LDOUBLE, h5py.h5s.create_simple((4,)), plist)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    assert np.asarray(zarr.open_array(target / "x")[...]).tobytes() == raw * 4
