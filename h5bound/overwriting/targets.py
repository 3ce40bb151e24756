"""What tasks write to: variables of HDF5 files, through h5py, netCDF4 or xarray, and objects that hold such variables.

An object of an unknown class that has a variable, a file or a memory map in its attributes may write to any part of it.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.h5py_compat import READ_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

LEVELS = 3
"""Levels of attributes in which an object is searched for what it writes to."""

MOST_ATTRIBUTES = 1000
"""Attributes or items of an object that are searched."""


@dataclass(frozen=True, slots=True)
class VariablePath:
    """Where a variable is that tasks read or write."""

    file: str
    """Real path."""
    path: str
    """Path in the file; empty for all that is in it."""
    elsewhere: bool = field(default=False, compare=False)
    """Whether its data may be in other files."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A variable that tasks write to."""

    variable: VariablePath
    dataset: h5py.Dataset | None = None
    """The dataset, if h5py has it open."""
    is_exact: bool = True
    """Whether what is stored at a region is written there; else it may be written anywhere in the variable."""
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


def find_targets(stored: object) -> list[Target] | None:
    """Return what is written to where blocks are stored in an object; None if that is not known."""
    target = find_target(stored) or _find_container(stored)
    if target is not None:
        return [target]
    is_netcdf3 = _is_instance(getattr(stored, "datastore", None), "xarray.backends", "ScipyDataStore")
    if is_netcdf3 or (isinstance(stored, np.ndarray) and _find_base(stored) is None):
        return []
    return list(_search(stored, LEVELS)) or None


def find_target(leaf: Any) -> Target | None:
    """Return what an object writes to, None if it is no variable of an HDF5 file."""
    leaf = getattr(leaf, "_h5ds", leaf)  # as h5netcdf names the dataset of a variable
    if isinstance(leaf, h5py.Dataset):
        return Target(_locate(leaf.file.filename, "/", leaf.name or ""), dataset=leaf) if leaf else None
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


def _find_container(value: Any) -> Target | None:
    """Return the file or the store to all parts of which an object may write."""
    if isinstance(value, h5py.Group) and value:
        return _whole(value.file.filename)
    if _is_instance(value, "netCDF4", "Dataset") and value.isopen():
        return replace(_whole(value.filepath()), netcdf4=value)
    if _is_instance(value, "zarr", "Array"):
        return _whole(str(getattr(value.store, "root", value.store)))
    base = _find_base(value)
    if isinstance(base, np.memmap) and base.filename is not None:
        return _whole(os.fspath(base.filename))
    return None


def _whole(file: str) -> Target:
    return Target(_locate(file, "", ""), is_exact=False)


def _find_base(value: object) -> object:
    """Return the last memory map among an array and those that it is a view of, else what owns their memory."""
    while isinstance(value, np.ndarray) and (not isinstance(value, np.memmap) or isinstance(value.base, np.ndarray)):
        value = value.base
    return value


def _search(value: object, levels: int) -> Iterator[Target]:
    """Yield what an object may write to by what is in its attributes."""
    for inner in islice(_list_attributes(value), MOST_ATTRIBUTES):
        target = None
        with suppress(AttributeError, *READ_ERRORS):  # of closed files, and of objects that are made when looked at
            target = find_target(inner) or _find_container(inner)
        if target is not None:
            yield replace(target, is_exact=False)
        elif levels > 1:
            yield from _search(inner, levels - 1)


def _list_attributes(value: object) -> Iterable[object]:
    """Return the attributes of an object, or the items of a container."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set)):
        return value
    if isinstance(value, (type, ModuleType)):
        return ()
    slots = [name for kind in type(value).__mro__ for name in _list_slots(kind)]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def _list_slots(kind: type) -> list[str]:
    """Return the names of the slots of a class, as its instances have them."""
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    private = [name.startswith("__") and not name.endswith("__") for name in names]
    mangled = f"_{kind.__name__.lstrip('_')}"
    return [mangled + name if hidden else name for name, hidden in zip(names, private, strict=True)]


def _is_instance(value: object, module: str, name: str) -> bool:
    """Return whether a value is an instance of a class, without importing its module."""
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def _locate(file: str, group: str, name: str) -> VariablePath:
    """Return where a variable of a group is; a file in memory has no real path.

    >>> _locate("/a.nc", "g/h", "v").path, _locate("/a.nc", "/", "/g/v").path, _locate("/a.nc", "/", "").path
    ('/g/h/v', '/g/v', '')
    """
    path = "/" + "/".join(part for part in f"{group}/{name}".split("/") if part)
    return VariablePath(os.path.realpath(file) if Path(file).exists() else file, path if name else "")
