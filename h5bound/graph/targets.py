"""The variables of HDF5 files that tasks write to: through h5py, netCDF4, or xarray with h5netcdf or netCDF4."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class VariablePath:
    """Where a variable is that tasks read or write."""

    file: str
    """Real path."""
    path: str
    """Path in the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A variable that tasks write to."""

    variable: VariablePath
    is_anew: bool = False
    """Whether xarray has truncated the file, to write it anew."""
    netcdf4: Any = None
    """The `netCDF4.Dataset` that writes it, if one does."""
    lock: AbstractContextManager[Any] | None = None
    """Held while netCDF4 is used, if xarray does."""

    def sync(self) -> None:
        """Write to the file all that netCDF4 still has in memory."""
        with self.lock or nullcontext():
            self.netcdf4.sync()


def find_target(leaf: Any) -> Target | None:
    """Return what an object writes to, None if it is no variable of an HDF5 file."""
    leaf = getattr(leaf, "_h5ds", leaf)  # as h5netcdf names the dataset of a variable
    if isinstance(leaf, h5py.Dataset):
        return Target(_locate(leaf.file.filename, "/", leaf.name)) if leaf and leaf.name else None
    if _is_instance(leaf, "netCDF4", "Variable"):
        dataset = leaf.group()
        return Target(_locate(dataset.filepath(), dataset.path, leaf.name), netcdf4=dataset)
    store = getattr(leaf, "datastore", None)  # as in what xarray writes to for h5netcdf and netCDF4
    file, group = getattr(store, "_filename", None), getattr(store, "_group", None)
    if store is None or not isinstance(file, str):
        return None
    variable = _locate(file, group or "/", leaf.variable_name)
    is_anew = getattr(store, "_mode", None) == "w"
    if not _is_instance(store, "xarray.backends", "NetCDF4DataStore"):
        return Target(variable, is_anew=is_anew)
    return Target(variable, is_anew=is_anew, netcdf4=store.ds, lock=store.lock)


def _is_instance(value: object, module: str, name: str) -> bool:
    """Return whether a value is an instance of a class, without importing its module."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def _locate(file: str, group: str, name: str) -> VariablePath:
    """Return where a variable of a group is.

    >>> _locate("/a.nc", "g/h", "v").path, _locate("/a.nc", "/", "/g/v").path
    ('/g/h/v', '/g/v')
    """
    return VariablePath(os.path.realpath(file), "/" + "/".join(part for part in f"{group}/{name}".split("/") if part))
