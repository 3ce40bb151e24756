"""Small netCDF-4 files, each with one side of the format, and HDF5 files that are nearly such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5netcdf
import h5py
import netCDF4
import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_groups(path: Path) -> None:
    """Write groups in groups, with dimensions of their own and of those above, one of them without a variable."""
    with netCDF4.Dataset(path, "w") as file:
        file.title = "root"
        file.createDimension("time", None)
        file.createDimension("x", 4)
        file.createDimension("bare", 7)
        file.createVariable("time", "f8", ("time",))[:] = np.arange(5)
        file["time"].units = "days since 2000-01-01"
        packed = file.createVariable(
            "a", "f4", ("time", "x"), zlib=True, shuffle=True, fletcher32=True, chunksizes=(2, 4)
        )
        packed[:] = np.arange(20).reshape(5, 4)
        group = file.createGroup("g")
        group.note = "a group"
        group.createDimension("y", 3)
        group.createVariable("y", "i4", ("y",))[:] = [3, 1, 2]
        group.createVariable("b", "i2", ("time", "y"))[:] = np.arange(15).reshape(5, 3)
        group.createGroup("h").createVariable("c", "f8", ("y", "x"))[:] = np.arange(12.0).reshape(3, 4)
        file.createGroup("empty")


def write_short(path: Path) -> None:
    """Write variables that were not filled along an unlimited dimension as far as another was."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 3)
        file.createVariable("long", "f8", ("time", "x"))[:] = np.arange(15.0).reshape(5, 3)
        file.createVariable("short", "f4", ("time", "x"), fill_value=-1)[:2] = 1
        file.createVariable("whole", "i4", ("time", "x"))[:2] = 1
        file.createVariable("nothing", "i2", ("time", "x"))


def write_text(path: Path) -> None:
    """Write text as netCDF-4 has it: of varying length, as characters, and as one of each."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("n", 3)
        file.createDimension("length", 5)
        words = netCDF4.stringtochar(np.array(["ab", "cde", "fghij"], "S5"))
        file.createVariable("varying", str, ("n",))[:] = np.array(["a", "ü", "long text"], object)
        file.createVariable("characters", "S1", ("n", "length"))[:] = words
        encoded = file.createVariable("encoded", "S1", ("n", "length"))
        encoded.setncattr("_Encoding", "utf-8")
        encoded[:] = words
        file.createVariable("label", "S1", ("length",))[:] = words[2]
        file.createVariable("scalar", str, ())[...] = "one"
        file.createVariable("number", "f8", ())[...] = 2.5


def write_types(path: Path) -> None:
    """Write the types that netCDF-4 calls user-defined."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("n", 3)
        color = file.createEnumType("u1", "color", {"red": 0, "green": 1, "blue": 7})
        file.createVariable("enum", color, ("n",), fill_value=7)[:] = [0, 1, 7]
        pair = file.createCompoundType(np.dtype([("x", "f4"), ("y", "i4")]), "pair")
        file.createVariable("compound", pair, ("n",))[:] = np.array([(1, 2), (3, 4), (5, 6)], pair.dtype)


def write_structures(path: Path) -> None:
    """Write a compound type with text in it, which h5netcdf reads as other than HDF5 has it."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"n": 2}
        named = file.create_cmptype(np.dtype([("x", "f4"), ("name", "S4")]), "named")
        variable = file.create_variable("v", ("n",), dtype=named)
        variable[:] = np.array([(1, b"ab"), (2, b"cdef")], [("x", "f4"), ("name", "S4")])


def write_invalid(path: Path) -> None:
    """Write what h5netcdf writes beyond netCDF-4, and a variable that is called like a dimension it does not have."""
    with h5netcdf.File(path, "w", invalid_netcdf=True) as file:
        file.dimensions = {"x": 3, "y": 3}
        file.create_variable("bool", ("x",), data=np.array([True, False, True]))
        file.create_variable("complex", ("x",), data=np.array([1 + 2j, 3, 4]))
        file.create_variable("y", ("x",), data=np.arange(3))
        file.create_variable(
            "lzf", ("x", "y"), data=np.arange(9).reshape(3, 3), compression="lzf", shuffle=True, chunks=(2, 2)
        )
        file.create_variable("big", ("x",), data=np.arange(3, dtype=">i4"))
        file.create_variable("half", ("x",), data=np.arange(3, dtype="f2"))


def write_conventions(path: Path) -> None:
    """Write what the CF conventions encode: times, packed values, missing ones, coordinates, flags."""
    times = np.datetime64("2020-01-01", "ns") + np.arange(20) * np.timedelta64(6, "h")
    values = np.random.default_rng(0).normal(280, 5, (20, 3, 4))
    values[3] = np.nan
    dataset = xr.Dataset(
        {
            "packed": (("time", "lat", "lon"), values, {"grid_mapping": "crs"}),
            "flag": ("time", np.arange(20) % 2 == 0),
            "lag": ("time", np.arange(20) * np.timedelta64(1, "h")),
            "bounds": (("time", "nv"), np.zeros((20, 2))),
            "crs": 0,
        },
        {
            "time": ("time", times, {"bounds": "bounds"}),
            "lat": [1.0, 2, 3],
            "lon": [1.0, 2, 3, 4],
            "area": (("lat", "lon"), np.ones((3, 4))),
            "name": ("lat", ["a", "b", "c"]),
        },
        {"title": "x"},
    )
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -9999}
    encoding = {"packed": {**packing, "zlib": True, "chunksizes": (5, 3, 2)}}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding, unlimited_dims=["time"])
    odd: dict[str, tuple[Any, dict[str, Any]]] = {
        "unsigned": (np.array([-1, 2, 3], "i1"), {"_Unsigned": "true"}),
        "noleap": (np.arange(3.0), {"units": "days since 0001-01-01", "calendar": "noleap"}),
        "missing": (np.array([1, 2, 3], "i2"), {"scale_factor": np.float32(0.1), "missing_value": np.int16(2)}),
    }
    with h5py.File(path, "r+") as file:
        for name, (data, attributes) in odd.items():
            file[name] = data
            file[name].attrs.update(attributes)
            file[name].dims[0].attach_scale(file["lat"])


def write_empty(path: Path) -> None:
    """Write dimensions of no length, one of which may grow."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", None)
        file.createDimension("x", 0)
        file.createVariable("t", "f8", ("t",))
        file.createVariable("v", "f4", ("t", "x"))


def write_two_dimensional_scale(path: Path) -> None:
    """Write a variable of two dimensions that is called like one of them."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 2)
        file.createDimension("y", 3)
        file.createVariable("x", "f8", ("x", "y"))[:] = np.arange(6).reshape(2, 3)
        file.createVariable("v", "f8", ("y", "x"), endian="big")[:] = np.arange(6).reshape(3, 2)


def write_plain(path: Path) -> None:
    """Write HDF5 that knows of no dimensions."""
    with h5py.File(path, "w") as file:
        file["fixed"] = np.array([b"ab", b"c"], "S4")
        file["varying"] = np.array(["a", "b"], h5py.string_dtype())
        file["flat"] = np.arange(6).reshape(2, 3)
        file["square"] = np.ones((3, 3))
        file["scalar"] = 1.5
        file["bool"] = np.array([True, False])
        file["g/x"] = np.arange(4.0)
        file["g/k"] = np.arange(4.0)
        file["g/h/z"] = np.arange(2.0)
        file["linked"] = h5py.SoftLink("/g/x")


NETCDF_FILES: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): make
    for name, make in list(globals().items())
    if name.startswith("write_") and callable(make)
}
"""Every maker of this module by its name."""
