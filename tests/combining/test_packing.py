"""Packed values are decoded as xarray decodes them, file by file, bit for bit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr

from h5bound.buffers import same_bits
from h5bound.combining.packing import Packing, find_repacking
from h5bound.errors import UnsupportedError
from tests.combining.test_file_scan import scan

if TYPE_CHECKING:
    from pathlib import Path

F4, F8, I2 = np.float32, np.float64, np.int16

CASES: list[tuple[str, dict[str, Any]]] = [
    ("i2", {"scale_factor": F4(0.1), "add_offset": F4(273.15), "_FillValue": I2(-32768)}),
    ("i2", {"scale_factor": F8(0.1), "add_offset": F8(273.15), "missing_value": I2(-1)}),
    ("i2", {"scale_factor": F4(0.1), "add_offset": F8(273.15)}),
    ("i2", {"scale_factor": F4(0.1), "_FillValue": I2(3)}),
    ("i2", {"add_offset": F4(0.1)}),
    ("i2", {"_FillValue": I2(3), "missing_value": I2(4)}),
    ("i2", {"missing_value": np.array([1, 2], "i2")}),
    ("i4", {"scale_factor": F4(0.1), "add_offset": F4(1.7)}),
    ("i4", {"_FillValue": np.int32(3)}),
    ("i8", {"scale_factor": np.int64(3)}),
    ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-1), "scale_factor": F4(0.5)}),
    ("i1", {"_Unsigned": "true"}),
    ("u1", {"_Unsigned": "false", "_FillValue": np.uint8(2)}),
    ("u1", {"_Unsigned": "false", "_FillValue": np.uint8(255)}),
    ("f4", {"_FillValue": F4(1e20)}),
    ("f4", {"missing_value": F8(0.1)}),
    ("f4", {"_FillValue": F4(np.nan), "scale_factor": F8(0.1)}),
    ("f4", {"scale_factor": F8(0.1), "add_offset": F8(0.7)}),
    ("f8", {"_FillValue": F8(0.1), "missing_value": F8(0.3)}),
    ("f2", {"scale_factor": F4(0.1)}),
    (">i2", {"scale_factor": F8(0.01), "add_offset": F8(20.0), "_FillValue": I2(7)}),
    (">f4", {"_FillValue": F4(0.5)}),
]


def write(path: Path, dtype: str, attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    kind = np.dtype(dtype)
    values = np.arange(-300, 300).astype(kind) if kind.kind != "f" else (np.arange(-300, 300) / 10).astype(kind)
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(600)
        file["x"].make_scale("x")
        file["v"] = values
        file["v"].dims[0].attach_scale(file["x"])
        for name, value in attributes.items():
            file["v"].attrs[name] = value
    return values


def read_packing(path: Path) -> Packing:
    found = scan(path)
    variable = found.variables["/v"]
    return Packing.of(variable.schema.dtype, variable.attributes, found.details.get("/v", {}))


@pytest.mark.parametrize(("dtype", "attributes"), CASES)
def test_values_are_decoded_as_xarray_decodes_them(tmp_path: Path, dtype: str, attributes: dict[str, Any]) -> None:
    values = write(tmp_path / "a.h5", dtype, attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several fill values
        with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as dataset:
            expected = dataset["v"].values
    decoded = read_packing(tmp_path / "a.h5").decode(values)
    assert decoded.dtype == expected.dtype.newbyteorder("=")
    assert same_bits(decoded, expected)


def test_fill_values_that_others_do_not_mask_can_be_repacked(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", "i2", {"_FillValue": I2(-1)})
    write(tmp_path / "b.h5", "i2", {"_FillValue": I2(-1), "missing_value": I2(5)})
    one, two = read_packing(tmp_path / "a.h5"), read_packing(tmp_path / "b.h5")
    found = find_repacking(one, two)
    assert found is not None
    assert (found[0].array.tolist(), found[1].array.tolist()) == ([5], [-1])
    assert find_repacking(two, one) is None  # 5 is a value there, and would be masked


def test_packings_that_mask_the_same_need_no_change(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", "i2", {"_FillValue": I2(-1), "scale_factor": 0.1})
    write(tmp_path / "b.h5", "i2", {"_FillValue": I2(-1), "missing_value": I2(-1), "scale_factor": 0.1})
    found = find_repacking(read_packing(tmp_path / "a.h5"), read_packing(tmp_path / "b.h5"))
    assert found is not None
    assert not found[0].array.size
    write(tmp_path / "b.h5", "i2", {"_FillValue": I2(-1), "scale_factor": 0.2})
    assert find_repacking(read_packing(tmp_path / "a.h5"), read_packing(tmp_path / "b.h5")) is None


def test_text_is_no_packing(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", "i2", {"scale_factor": "0.1"})
    with pytest.raises(UnsupportedError, match=r"scale_factor='0.1' is no number"):
        read_packing(tmp_path / "a.h5")
    write(tmp_path / "a.h5", "i8", {"scale_factor": 3, "_FillValue": -1})
    with pytest.raises(UnsupportedError, match="scale_factor is an integer"):
        read_packing(tmp_path / "a.h5")
