"""Names of a dataset's dimensions, from HDF5 dimension scales and netCDF-4's use of them.

netCDF-4 keeps its dimensions as HDF5 dimension scales and says more in hidden attributes ("NetCDF-4 File
Format Specification", Unidata). They are consumed here: the names go to the array's ``dimension_names``, what
else they say into the details, so that nothing is lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5ds, h5o, h5s, h5t

from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.references import ReferencePaths

if TYPE_CHECKING:
    from h5bound.hdf5.datatypes import JSON
    from h5bound.hdf5.references import Resolve

    Listed = dict[int, dict[int, str]]  # names of the dimensions of a group by their numbers, by its address


NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"

NOT_A_COORDINATE = "_nc4_non_coord_"
"""What netCDF-4 puts before the name of a variable that is called like a dimension, but is not along it."""

_SCALE = ("CLASS", "NAME", "REFERENCE_LIST")

_NETCDF_IDS = ("_Netcdf4Dimid", "_Netcdf4Coordinates")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What the dimension scales of one dataset say."""

    names: tuple[str | None, ...]
    """one for each dimension of the dataset, None where nothing names it"""
    shape: tuple[int, ...]
    """of the dataset"""
    scale: bool
    """whether the dataset is a dimension scale itself"""
    bare: bool
    """whether it is a netCDF dimension without a variable: it holds no data, and needs no array"""
    unlimited: bool
    """whether its first dimension can grow without end"""
    consumed: frozenset[str]
    """names of the attributes that are told here"""
    details: dict[str, JSON]
    """what they say beyond the names; belongs into ``_h5bound`` of the root"""


def is_hidden(path: str) -> bool:
    """Tell whether this is a variable under the name that netCDF-4 hides from its readers."""
    return path.rpartition("/")[2].startswith(NOT_A_COORDINATE)


def read_dimensions(dataset: h5py.Dataset, resolve: Resolve) -> Dimensions:
    """Return what the dimension scales of a dataset say.

    Parameters
    ----------
    dataset
        An open dataset, opened by its path.
    resolve
        Path of a reference's target.
    """
    shape = dataset.shape or ()
    scale = bool(h5ds.is_scale(dataset.id))
    details: dict[str, JSON] = {}
    title = _read_title(dataset) if scale else b""
    told = {"CLASS", *(("NAME",) if title is not None else ()), *(("REFERENCE_LIST",) if _is_list(dataset) else ())}
    title = title or b""
    if scale:
        details["scale"] = title.decode("utf-8", "surrogateescape")
    attached = _read_attached(dataset, resolve)
    if attached is not None:
        details["dimension_list"] = cast("JSON", attached)
    for name in _NETCDF_IDS:
        ids = _read_ids(dataset, name)
        if ids is not None:
            details[name] = cast("JSON", ids)
    consumed = {name for name in _SCALE if scale and name in told and name in dataset.attrs}
    consumed.update({"DIMENSION_LIST"} if attached is not None else (), set(_NETCDF_IDS) & details.keys())
    unlimited = bool(shape) and dataset.maxshape[0] is None
    listed = resolve.listed if isinstance(resolve, ReferencePaths) else {}
    names = _name(dataset, details, listed) if len(shape) else ()
    empty = not dataset.id.get_storage_size() and len(dataset.attrs) <= len(consumed)
    bare = title.startswith(NOT_A_VARIABLE) and empty
    return Dimensions(names, shape, scale, bare, unlimited, frozenset(consumed), details)


def _name(dataset: h5py.Dataset, details: dict[str, JSON], listed: Listed) -> tuple[str | None, ...]:
    own = os.fsdecode(dataset.name or "").rsplit("/", 1)[-1]
    ids = details.get("_Netcdf4Coordinates")
    if "scale" in details and isinstance(ids, list) and len(ids) == dataset.ndim:
        if ids == [details.get("_Netcdf4Dimid")]:
            return (own,)
        known = _names_by_id(dataset, {cast("int", number) for number in ids}, listed)
        return tuple(known.get(cast("int", number)) for number in ids)
    attached = details.get("dimension_list")
    if isinstance(attached, list) and any(attached):
        # netCDF-C takes the last of several scales, and so do h5netcdf and netCDF4
        last = [cast("list[str]", paths)[-1] if paths else None for paths in attached]
        return tuple(None if path is None else path.rsplit("/", 1)[-1] for path in last)
    unnamed: list[str | None] = [None] * dataset.ndim
    if "scale" in details:
        unnamed[0] = own
    return tuple(unnamed)


def _names_by_id(dataset: h5py.Dataset, wanted: set[int], listed: Listed) -> dict[int, str]:
    """Look for netCDF dimensions in the group of a dataset and those above it."""
    known: dict[int, str] = {}
    group = dataset.parent
    while True:
        address = h5o.get_info(group.id).addr
        if address not in listed:  # once for a group, not for each dataset that asks
            listed[address] = _list_ids(group)
        known = {**listed[address], **known}
        if wanted <= known.keys() or group.name == "/":
            return known
        group = group.parent


def _list_ids(group: h5py.Group) -> dict[int, str]:
    """List the netCDF dimensions of a group: names by number, the first of several in name order."""
    found: dict[int, str] = {}
    for name in group:
        if "/" not in name and group.get(name, getclass=True, getlink=True) is h5py.HardLink:
            ids = _read_ids(group[name], "_Netcdf4Dimid")
            if isinstance(ids, int):
                found.setdefault(ids, name)
    return found


def _read_title(dataset: h5py.Dataset) -> bytes | None:
    """Return the name of a scale; None where it has one that is not as `H5DSset_scale` writes it, b"" for none.

    `H5DSget_scale_name` gives memory as it is for one of variable length, and cuts off one without a null at its end.
    """
    try:
        if "NAME" not in dataset.attrs:
            return b""
        attribute = dataset.attrs.get_id("NAME")
        tid = attribute.get_type()
        fixed = isinstance(tid, h5t.TypeStringID) and not tid.is_variable_str() and tid.get_strpad() == h5t.STR_NULLTERM
        if not fixed or attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
            return None
        return bytes(h5ds.get_scale_name(dataset.id))
    except READ_ERRORS:
        return None


def _is_list(dataset: h5py.Dataset) -> bool:
    """Tell whether the scale's list of references is one that HDF5 keeps."""
    try:
        tid = dataset.attrs.get_id("REFERENCE_LIST").get_type()
        return bool(tid.get_class() == h5t.COMPOUND and tid.get_member_type(0).equal(h5t.STD_REF_OBJ))
    except READ_ERRORS:
        return False


def _read_attached(dataset: h5py.Dataset, resolve: Resolve) -> list[list[str]] | None:
    """Return the paths of the scales of each dimension; None where there is no proper list of them."""
    try:
        attribute = dataset.attrs.get_id("DIMENSION_LIST")
        tid = attribute.get_type()
        proper = tid.get_class() == h5t.VLEN and tid.get_super().equal(h5t.STD_REF_OBJ)
        if not proper or attribute.shape != (dataset.ndim,):
            return None
        return [[resolve(ref) for ref in refs] for refs in dataset.attrs["DIMENSION_LIST"]]
    except READ_ERRORS:
        return None


def _read_ids(item: h5py.Dataset | h5py.Group | h5py.Datatype, name: str) -> int | list[int] | None:
    """Return what netCDF-4 writes as 32-bit integers; None of an attribute of another type, which is a user's."""
    try:
        value = item.attrs.get(name)
        if value is None or isinstance(value, h5py.Empty):
            return None
        native = item.attrs.get_id(name).get_type().equal(h5t.STD_I32LE)
    except READ_ERRORS:
        return None
    return cast("int | list[int]", np.asarray(value).tolist()) if native else None
