"""What `combine` writes of files that differ is what xarray decodes from them, in both formats of Zarr."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from h5bound import combine

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.array([1.0, np.nan, 3.0])

DAYS = np.array(["2000-01-01", "2000-01-02", "2000-01-03"], "M8[ns]")

CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "types": ([{"v": {"dtype": kind, "_FillValue": -9}} for kind in ("i2", "i4")], {"promote": True}),
    "widths": ([{"v": {"dtype": kind, "_FillValue": np.nan}} for kind in ("f4", "f8")], {"promote": True}),
    "packing": (
        [{"v": {"dtype": "i2", "_FillValue": -9, "scale_factor": scale}} for scale in (0.1, 0.2)],
        {"unpack": "float64"},
    ),
    "units": ([{"time": {"units": f"{unit} since 1999-12-01"}} for unit in ("days", "hours")], {}),
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_store_is_what_xarray_decodes(tmp_path: Path, case: str, zarr_format: Any) -> None:
    encodings, options = CASES[case]
    paths = []
    for i, encoding in enumerate(encodings):
        data = xr.Dataset({"v": ("time", VALUES + i)}, coords={"time": DAYS + np.timedelta64(3 * i, "D")})
        paths.append(tmp_path / f"{i}.nc")
        data.to_netcdf(paths[-1], engine="h5netcdf", encoding=encoding)
    report = combine(paths, tmp_path / "o.zarr", dim="time", zarr_format=zarr_format, verify=True, **options)
    assert report.exit_code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = [xr.open_dataset(path, engine="h5netcdf") for path in paths]
        expected = xr.concat(both, "time").load()
        with xr.open_zarr(tmp_path / "o.zarr") as found:
            for name in ("v", "time"):
                np.testing.assert_array_equal(found[name].values, expected[name].values)
        for data in both:
            data.close()
