"""Names of a dataset's dimensions, from HDF5 dimension scales and netCDF-4's use of them.

netCDF-4 keeps its dimensions as HDF5 dimension scales and says more in hidden attributes ("NetCDF-4 File
Format Specification", Unidata). They are consumed here: the names go to the array's ``dimension_names``, what
else they say into the details, so that nothing is lost.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5ds, h5o, h5s, h5t

from h5bound.errors import UnsupportedError
from h5bound.references import ReferencePaths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.compounds import Resolve
    from h5bound.typetext import JSON

    Listed = dict[int, dict[int, str]]  # names of the dimensions of a group by their numbers, by its address

NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
NOT_A_COORDINATE = "_nc4_non_coord_"
"""What netCDF-4 puts before the name of a variable that is called like a dimension, but is not along it."""

_SCALE = ("CLASS", "NAME", "REFERENCE_LIST")
_NETCDF_IDS = ("_Netcdf4Dimid", "_Netcdf4Coordinates")
_UNREADABLE = (TypeError, OSError, ValueError, RuntimeError, KeyError, UnsupportedError)


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


@dataclass(frozen=True, slots=True)
class GroupNames:
    """Names of the dimensions of all datasets of one group."""

    names: dict[str, tuple[str | None, ...]]
    """by the dataset's link name; netCDF dimensions without a variable are left out"""
    notes: dict[str, str]
    """what had to be renamed, by link name"""
    after: int
    """number of the next phony dimension, for groups below"""


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


def name_dimensions(group: Mapping[str, Dimensions], start: int = 0) -> GroupNames:
    """Return names for the dimensions of all datasets of one group, as xarray has to find them together.

    A dimension without a scale goes by a dimension of the group that is as long, and where there is none is
    called ``phony_dim_N``; two of one length in one dataset are two dimensions (as h5netcdf has it). xarray
    refuses a group where one name has two lengths, which HDF5 allows and netCDF makes of an unlimited dimension
    that a variable was not filled along: the shorter are called ``name_LENGTH``.

    Parameters
    ----------
    group
        The datasets of one group by their link names, in the order of the file.
    start
        The first N: how many phony dimensions the groups above have.

    Examples
    --------
    >>> plain = Dimensions((None, None), (3, 3), False, False, False, frozenset(), {})
    >>> name_dimensions({"a": plain}).names
    {'a': ('phony_dim_0', 'phony_dim_1')}
    """
    drawn, after = _draw_phony(group, start)
    names = {name: drawn.get(name, dims.names) for name, dims in group.items() if not dims.bare}
    longest: dict[str | None, int] = {}
    for name, found in names.items():
        for dimension, length in zip(found, group[name].shape, strict=True):
            longest[dimension] = max(length, longest.get(dimension, 0))
    notes = {}
    for name, found in names.items():
        pairs = list(zip(found, group[name].shape, strict=True))
        short = [d for d, length in pairs if d is not None and length < longest[d]]
        if short:
            names[name] = tuple(f"{d}_{length}" if d in short else d for d, length in pairs)
            notes[name] = f"shorter than its dimension {', '.join(short)}: renamed to {names[name]}"
    return GroupNames(names, notes, after)


def _draw_phony(group: Mapping[str, Dimensions], start: int) -> tuple[dict[str, tuple[str | None, ...]], int]:
    """Return names for the datasets that no scale names, and the next N."""
    pools: dict[int, list[str]] = {}
    lengths: Counter[int] = Counter()
    for name, dims in group.items():
        if dims.scale and dims.shape:
            pools.setdefault(dims.shape[0], []).append(name)
            lengths[dims.shape[0]] += 0 if dims.unlimited else 1
    unnamed = {n: d for n, d in group.items() if not d.scale and d.shape and not any(d.names)}
    missing: Counter[int] = Counter()
    for dims in unnamed.values():
        missing |= Counter(dims.shape)
    for length, count in missing.items():
        for _ in range(lengths[length], count):
            pools.setdefault(length, []).append(f"phony_dim_{start}")
            start += 1
    return {name: _draw(dims.shape, pools) for name, dims in unnamed.items()}, start


def _draw(shape: tuple[int, ...], pools: dict[int, list[str]]) -> tuple[str, ...]:
    seen: Counter[int] = Counter()
    names = []
    for length in shape:
        names.append(pools[length][seen[length]])
        seen[length] += 1
    return tuple(names)


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
    except _UNREADABLE:
        return None


def _is_list(dataset: h5py.Dataset) -> bool:
    """Tell whether the scale's list of references is one that HDF5 keeps."""
    try:
        tid = dataset.attrs.get_id("REFERENCE_LIST").get_type()
        return bool(tid.get_class() == h5t.COMPOUND and tid.get_member_type(0).equal(h5t.STD_REF_OBJ))
    except _UNREADABLE:
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
    except _UNREADABLE:
        return None


def _read_ids(item: h5py.Dataset | h5py.Group | h5py.Datatype, name: str) -> int | list[int] | None:
    """Return what netCDF-4 writes as 32-bit integers; None of an attribute of another type, which is a user's."""
    try:
        value = item.attrs.get(name)
        if value is None or isinstance(value, h5py.Empty):
            return None
        native = item.attrs.get_id(name).get_type().equal(h5t.STD_I32LE)
    except _UNREADABLE:
        return None
    return cast("int | list[int]", np.asarray(value).tolist()) if native else None
