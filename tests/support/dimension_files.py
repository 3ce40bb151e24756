"""Small files whose dimensions are named in odd ways: netCDF-4 written by netCDF4 and h5netcdf, and HDF5 by h5py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import h5netcdf
import h5py
import netCDF4
import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_coordinate_of_two_dimensions(path: Path) -> None:
    """Write a variable of two dimensions that is named like one of them, after another variable of these."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("along", 3)
        file.createDimension("across", 2)
        file.createVariable("aot", "f4", ("along", "across"))[:] = 1
        file.createVariable("across", "f4", ("across",))[:] = 2
        file.createVariable("along", "f4", ("along", "across"))[:] = 3


def write_coordinates_with_h5netcdf(path: Path) -> None:
    """Write the same with h5netcdf."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"along": 3, "across": 2}
        file.create_variable("aot", ("along", "across"), "f4")
        file.create_variable("across", ("across",), "f4")
        file.create_variable("along", ("along", "across"), "f4")


def _write_with_xarray(path: Path, engine: Literal["netcdf4", "h5netcdf"]) -> None:
    plane = ("along", "across")
    dataset = xr.Dataset({"aot": (plane, np.ones((3, 2))), "along": (plane, np.ones((3, 2))), "across": [1.0, 2.0]})
    dataset.to_netcdf(path, engine=engine)


def write_coordinates_with_xarray(path: Path) -> None:
    """Write the same with xarray, through h5netcdf."""
    _write_with_xarray(path, "h5netcdf")


def write_coordinates_with_xarray_and_netcdf4(path: Path) -> None:
    """Write the same with xarray, through netCDF4."""
    _write_with_xarray(path, "netcdf4")


def write_dimensions_of_parents(path: Path) -> None:
    """Write dimensions of groups above, one of them hidden by another of its name, and coordinates of two of them."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"x": 2, "y": 3, "z": 4}.items():
            file.createDimension(name, size)
        file.createVariable("aot", "f4", ("y", "x"))[:] = 1
        file.createVariable("y", "f4", ("y", "x"))[:] = 1
        group = file.createGroup("g")
        group.createDimension("x", 5)
        group.createVariable("first", "f4", ("z", "x"))[:] = 1
        group.createVariable("x", "f4", ("x", "y"))[:] = 1
        inner = group.createGroup("h")
        inner.createVariable("x", "f4", ("z",))[:] = 1
        inner.createVariable("v", "f4", ("x", "y", "z"))[:] = 1
        other = file.createGroup("k")
        other.createDimension("x", 7)
        other.createVariable("w", "f4", ("y", "x"))[:] = 1


def write_renamed_dimensions(path: Path) -> None:
    """Write dimensions, with and without a variable, and rename them."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"a": 2, "b": 3, "c": 4}.items():
            file.createDimension(name, size)
        file.createVariable("a", "f4", ("a",))[:] = 1
        file.createVariable("v", "f4", ("a", "b", "c"))[:] = 1
    with netCDF4.Dataset(path, "a") as file:
        file.renameDimension("b", "new_b")
        file.renameDimension("c", "z")


def write_names_of_dimensions(path: Path) -> None:
    """Write variables that are named like dimensions that they do not have."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"x": 2, "y": 3, "z": 3}.items():
            file.createDimension(name, size)
        file.createVariable("q", "f4", ("z", "x"))[:] = 1
        file.createVariable("z", "f4", ("y",))[:] = 1
        file.createVariable("x", "f4", ("y", "x"))[:] = 1


def write_square(path: Path) -> None:
    """Write a matrix whose two axes have one dimension."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 3)
        file.createVariable("x", "f4", ("x",))[:] = 1
        file.createVariable("m", "f4", ("x", "x"))[:] = 1


def write_anonymous(path: Path) -> None:
    """Write HDF5 without dimensions, whose groups list their members in the order of creation."""
    with h5py.File(path, "w", track_order=True) as file:
        file["b"] = np.zeros(3)
        file["a"] = np.zeros(4)
        file["c"] = np.zeros((4, 3, 4))
        group = file.create_group("g", track_order=True)
        group["z"] = np.zeros(7)
        group["y"] = np.zeros((2, 3))


def write_scales_of_one_length(path: Path) -> None:
    """Write unnamed dimensions of the lengths of scales, in the order of creation, also below the scales."""
    with h5py.File(path, "w", track_order=True) as file:
        for name in ("t", "s"):
            file[name] = np.arange(3.0)
            file[name].make_scale(name)
        file.create_dataset("u", (2,), "f4", maxshape=(None,)).make_scale("u")
        file["v"] = np.zeros((3, 3, 3))
        file["w"] = np.zeros((3, 5))
        file["g/t"] = np.zeros(3)  # as the scale above is called


def write_several_scales(path: Path) -> None:
    """Write an axis with two scales: the last one is its name."""
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file["wavelength"] = np.arange(3.0)
        file["v"] = np.zeros(3)
        for name in ("x", "wavelength"):
            file[name].make_scale(name)
            file["v"].dims[0].attach_scale(file[name])


DIMENSION_FILES: dict[str, Callable[[Path], None]] = {
    name.removeprefix("write_"): make
    for name, make in list(globals().items())
    if name.startswith("write_") and callable(make)
}
"""All functions of this module that write a file, by name."""
