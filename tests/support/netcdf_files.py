"""Small netCDF-4 files, each with one aspect of the format, and HDF5 files that are nearly netCDF-4."""

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


def write_unwritten(path: Path) -> None:
    """Write variables that were written in part, completely or not at all, without a declared missing value."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 6)
        file.createVariable("time", "f8", ("time",))[:] = [1, 2, 3, 4]
        file.createVariable("some", "f4", ("time", "x"), chunksizes=(1, 3))[:4, :2] = np.arange(8).reshape(4, 2)
        file.createVariable("all", "i2", ("time", "x"), chunksizes=(2, 6))[:4] = np.arange(24).reshape(4, 6)
        file.createVariable("nothing", "i4", ("x",))
        file.createVariable("letters", "S1", ("x",))
        file.createVariable("words", str, ("x",))


def write_text(path: Path) -> None:
    """Write text as netCDF-4 has it: of variable length, as characters, and one of each."""
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
    """Write netCDF-4's user-defined types."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("n", 3)
        color = file.createEnumType("u1", "color", {"red": 0, "green": 1, "blue": 7})
        file.createVariable("enum", color, ("n",), fill_value=7)[:] = [0, 1, 7]
        pair = file.createCompoundType(np.dtype([("x", "f4"), ("y", "i4")]), "pair")
        file.createVariable("compound", pair, ("n",))[:] = np.array([(1, 2), (3, 4), (5, 6)], pair.dtype)


def write_structures(path: Path) -> None:
    """Write a compound type with text in it, which h5netcdf reads differently from HDF5."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"n": 2}
        named = file.create_cmptype(np.dtype([("x", "f4"), ("name", "S4")]), "named")
        variable = file.create_variable("v", ("n",), dtype=named)
        variable[:] = np.array([(1, b"ab"), (2, b"cdef")], [("x", "f4"), ("name", "S4")])


def write_invalid(path: Path) -> None:
    """Write what h5netcdf writes beyond netCDF-4, and a variable named like a dimension that it does not have."""
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
    """Write dimensions of length zero, one of which is unlimited."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", None)
        file.createDimension("x", 0)
        file.createVariable("t", "f8", ("t",))
        file.createVariable("v", "f4", ("t", "x"))


def write_two_dimensional_scale(path: Path) -> None:
    """Write a variable of two dimensions that is named like one of them."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 2)
        file.createDimension("y", 3)
        file.createVariable("x", "f8", ("x", "y"))[:] = np.arange(6).reshape(2, 3)
        file.createVariable("v", "f8", ("y", "x"), endian="big")[:] = np.arange(6).reshape(3, 2)


def write_plain(path: Path) -> None:
    """Write HDF5 without dimensions."""
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


def write_scales_below(path: Path) -> None:
    """Write scales in subgroups only, and attributes that are arrays of one, as ICESat-2 has them."""
    with h5py.File(path, "w") as file:
        file.attrs["title"] = np.array(["x"], object)
        for beam in ("gt1l", "gt1r"):
            group = file.create_group(f"{beam}/heights")
            file[beam].attrs["n"] = np.array([3])
            for name in ("delta_time", "h", "lat"):
                group[name] = np.arange(4.0)
                if name == "delta_time":
                    group[name].make_scale(name)
                else:
                    group[name].dims[0].attach_scale(group["delta_time"])
            group["delta_time"].attrs["units"] = np.array(["seconds since 2018-01-01"], object)
            group["h"].attrs["coordinates"] = np.array(["delta_time lat"], object)
        file["ancillary/a"] = np.arange(3)
        file["ancillary/a"].attrs["k"] = np.array([1.5], "f4")


def variable(dataset: netCDF4.Dataset, name: str, kind: Any, dims: tuple[str, ...], data: Any, **keys: Any) -> Any:
    """Write a netCDF variable of raw values."""
    made = dataset.createVariable(name, kind, dims, **keys)
    made.set_auto_maskandscale(False)
    if data is not None:
        made[...] = data
    return made


def write_everything(path: Path) -> None:
    """Write all CF conventions with the netCDF library."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"time": None, "lat": 3, "lon": 4, "bnds": 2, "nchar": 5, "unused": 7}.items():
            file.createDimension(name, size)
        file.setncatts({"Conventions": "CF-1.11", "empty": "", "strings": ["a", "é"], "one": ["x"]})
        file.setncatts({"f4": np.float32(0.1), "i8": np.int64(2**62), "i2s": np.array([1, 2], "i2")})
        made = variable(file, "time", "f8", ("time",), [0, 1])
        made.setncatts({"units": "days since 2000-01-01", "calendar": "noleap", "bounds": "time_bnds"})
        variable(file, "time_bnds", "f8", ("time", "bnds"), [[0, 1], [1, 2]])
        variable(file, "lat", "f4", ("lat",), [1, 2, 3]).units = "degrees_north"
        variable(file, "lon", "f4", ("lon",), [1, 2, 3, 4])
        made = variable(
            file, "packed", "i2", ("time", "lat", "lon"), np.arange(24).reshape(2, 3, 4) - 999,
            fill_value=-999, zlib=True,
        )  # fmt: skip
        made.setncatts({"scale_factor": 0.5, "add_offset": 10.0, "missing_value": np.int16(-999)})
        made.setncatts({"valid_range": np.array([-10, 100], "i2"), "coordinates": "area"})
        variable(file, "area", "f8", ("lat", "lon"), 1.0)
        variable(file, "nan", "f4", ("lat", "lon"), np.arange(12).reshape(3, 4), fill_value=np.nan)
        variable(file, "partial", "f8", ("lat", "lon"), None, fill_value=-1e30)[0] = 1
        variable(file, "unset", "f4", ("lat", "lon"), None)[0, 0] = 1
        variable(file, "text", str, ("lat",), np.array(["a", "é", ""], object)).note = "n"
        chars = netCDF4.stringtochar(np.array(["abc", "de", "fghij"], "S5"))
        variable(file, "chars", "S1", ("lat", "nchar"), chars)
        variable(file, "scalar", "i4", (), 5)
        variable(file, "unsigned", "i1", ("lat",), [-1, 2, -3], fill_value=np.int8(-1)).setncattr("_Unsigned", "true")
        variable(file, "big", ">i4", ("lat",), [1, 2, 3], endian="big")
        variable(file, "u8", "u8", ("lat",), [1, 2, 3], fill_value=2**64 - 1)
        made = variable(file, "flag", "i1", ("lat",), [0, 1, 2])
        made.setncatts({"flag_values": np.array([0, 1, 2], "i1"), "flag_meanings": "a b c"})
        variable(file, "span", "f4", ("time",), [1, 2]).units = "days"
        group = file.createGroup("g")
        group.createDimension("x", 2)
        group.title = "é"
        variable(group, "x", "i4", ("x",), [1, 2])
        variable(group, "y", "f4", ("lat", "x"), 1.0, fill_value=9.0)
        variable(group.createGroup("sub"), "lat", "f4", ("lat",), [1, 2, 3])


def write_with_h5netcdf(path: Path) -> None:
    """Write with h5netcdf."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"x": 2, "t": None}
        file.resize_dimension("t", 3)
        file.create_variable("x", ("x",), "i4", data=np.array([10, 20], "i4"))
        made = file.create_variable("a", ("x", "t"), "i4", fillvalue=-5, chunks=(1, 2))
        made[...] = np.array([[1, -5, 3], [4, 5, 6]])
        made.attrs.update({"scale_factor": 0.1, "units": "K"})
        file.create_variable("s", ("x",), h5py.string_dtype(), data=np.array(["é", "b"], object))
        file.attrs["title"] = "é"


def write_coordinates(path: Path) -> None:
    """Write a coordinate of two dimensions, and a variable named like a dimension that it does not have."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"x": 2, "y": 3, "z": 3}.items():
            file.createDimension(name, size)
        variable(file, "x", "f4", ("x", "y"), 1.0)
        variable(file, "z", "f4", ("y",), 2.0)
        variable(file, "q", "f4", ("z", "x"), 3.0)


NETCDF_FILES: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): make
    for name, make in list(globals().items())
    if name.startswith("write_") and callable(make)
}
"""All functions of this module that write a file, by name."""
