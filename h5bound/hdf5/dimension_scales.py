"""Dimension scales of a dataset, as HDF5 and netCDF-4 use them.

netCDF-4 stores its dimensions as HDF5 dimension scales, with hidden attributes ("NetCDF-4 File Format Specification",
Unidata). Those attributes are consumed: names become the array's ``dimension_names``, the rest goes into the details.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5a, h5ds, h5o, h5s, h5t

from h5bound.errors import H5BoundError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.links import decode_name
from h5bound.hdf5.references import ReferencePaths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.references import Resolve
    from h5bound.hdf5.type_json import JSON


NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"

NOT_A_COORDINATE = "_nc4_non_coord_"
"""netCDF-4's prefix for a variable that is named like a dimension but does not have it."""

_NETCDF_IDS = ("_Netcdf4Dimid", "_Netcdf4Coordinates")

_REFERENCES = h5py.vlen_dtype(h5py.ref_dtype)

_REFERENCES_IN_MEMORY = h5t.py_create(_REFERENCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The dimension scales of one dataset."""

    names: tuple[str | None, ...]
    """The name of each dimension of the dataset by its scale, None where it has none."""
    shape: tuple[int, ...]
    """Shape of the dataset."""
    scales: tuple[str | None, ...] = ()
    """The path of the scale that names each dimension; () if none does."""
    labels: tuple[str | None, ...] = ()
    """The label of each dimension, None where it has none; () if every dimension has a scale, or none a label."""
    scale: bool = False
    """Whether the dataset is a dimension scale itself."""
    bare: bool = False
    """Whether it is a netCDF dimension without a variable: it holds no data and needs no array."""
    unlimited: bool = False
    """Whether it has one dimension, which is unlimited."""
    consumed: frozenset[str] = frozenset()
    """Names of the attributes that this record replaces."""
    details: dict[str, JSON] = field(default_factory=dict)
    """Their information beyond the names."""


def is_netcdf(file: h5py.File, datasets: Iterable[DatasetRecord]) -> bool:
    """Return whether netCDF-4 libraries read these datasets of a file with their dimensions.

    Such a library wrote the file, or one of the datasets is a dimension scale.
    """
    try:
        return any(record.is_scale for record in datasets) or "_NCProperties" in file.attrs
    except READ_ERRORS:
        return False


def _list_hard_links(group: h5py.Group) -> Iterator[str]:
    """Yield the names of hard links, in the order of the file.

    h5py would take a name with a slash for a path, and follow links out of the file.
    """
    for name in group:
        if "/" not in name and group.get(name, getclass=True, getlink=True) is h5py.HardLink:
            yield name


def read_dimensions(dataset: h5py.Dataset, resolve: Resolve, names: Collection[bytes] | None = None) -> Dimensions:
    """Return the dimension scales of a dataset that was opened by its path.

    `names` are those of all its attributes: h5py takes long to say that there is none of a name. None to ask it.
    """
    shape = dataset.shape or ()
    scale = has_name(names, "CLASS") and bool(h5ds.is_scale(dataset.id))
    details: dict[str, JSON] = {}
    consumed: set[str] = set()
    title = _read_title(dataset) if scale else b""
    if scale:
        details["scale"] = decode_name(title or b"")
        readable = {
            "CLASS": True,
            "NAME": title is not None,
            "REFERENCE_LIST": has_name(names, "REFERENCE_LIST") and _has_reference_list(dataset),
        }
        consumed.update(
            name
            for name, is_readable in readable.items()
            if is_readable and (exists(dataset, name) if names is None else has_name(names, name))
        )
    attached = _read_attached(dataset, resolve) if has_name(names, "DIMENSION_LIST") else None
    if attached is not None:
        details["dimension_list"] = cast("JSON", attached)
        consumed.add("DIMENSION_LIST")
    for name in _NETCDF_IDS:
        ids = _read_ids(dataset, name) if has_name(names, name) else None
        if ids is not None:
            details[name] = cast("JSON", ids)
            consumed.add(name)
    bare = (title or b"").startswith(NOT_A_VARIABLE) and len(dataset.attrs) <= len(consumed)
    bare = bare and not dataset.id.get_storage_size()  # HDF5 reads the whole chunk index for that
    scales_found = _find_scales(dataset, details, resolve) if shape else []
    known = tuple(None if item is None else item[0] for item in scales_found)
    may_label = None in known and has_name(names, "DIMENSION_LABELS")
    labels = read_labels(dataset) if may_label and "DIMENSION_LABELS" in dataset.attrs else ()
    return Dimensions(
        names=known,
        shape=shape,
        scales=tuple(None if item is None else item[1] for item in scales_found) if any(known) else (),
        labels=labels if any(labels) else (),
        scale=scale,
        bare=bare,
        unlimited=len(shape) == 1 and dataset.maxshape == (None,),
        consumed=frozenset(consumed),
        details=details,
    )


def exists(dataset: h5py.Dataset, name: str) -> bool:
    """Return whether a dataset has an attribute."""
    return bool(h5a.exists(dataset.id, name.encode()))


def has_name(names: Collection[bytes] | None, name: str) -> bool:
    """Return whether there may be an attribute of a name; `names` are those of all, None if they are unknown."""
    return names is None or name.encode() in names


def read_labels(dataset: h5py.Dataset) -> tuple[str | None, ...]:
    """Return the labels of the dimensions, None where one has none; () if they cannot be read."""
    try:
        labels = [h5ds.get_label(dataset.id, axis) for axis in range(len(dataset.shape or ()))]
    except READ_ERRORS:  # the attribute has another form than H5DSset_label writes
        return ()
    return tuple(decode_name(label) or None for label in labels)


def read_named_dimensions(dataset: h5py.Dataset, resolve: Resolve) -> tuple[tuple[str | None, ...], frozenset[str]]:
    """Return the names of the dimensions, and the attributes that hold them."""
    try:
        scales = read_dimensions(dataset, resolve)
    except (H5BoundError, *READ_ERRORS):
        return (), frozenset()
    labels = read_labels(dataset) if None in scales.names else ()
    if not any(labels):
        return scales.names, scales.consumed
    names = tuple(name or label for name, label in zip(scales.names, labels, strict=True))
    return names, scales.consumed | {"DIMENSION_LABELS"}


def read_dimension_names(dataset: h5py.Dataset, resolve: Resolve) -> tuple[str | None, ...]:
    """Return the name of each dimension, from its scale or its label; None where it has none."""
    return read_named_dimensions(dataset, resolve)[0] or (None,) * len(dataset.shape or ())


def _find_scales(dataset: h5py.Dataset, details: dict[str, JSON], resolve: Resolve) -> list[tuple[str, str] | None]:
    """Return name and path of the scale of each dimension, None where it has none."""
    ids = details.get("_Netcdf4Coordinates")
    own = _name_scale(dataset, resolve) if "scale" in details else None
    if own is not None and isinstance(ids, list) and len(ids) == dataset.ndim > 1:
        cache = resolve.netcdf_names if isinstance(resolve, ReferencePaths) else {}
        by_id = _scales_by_id(dataset, {cast("int", number) for number in ids}, resolve, cache=cache)
        return [by_id.get(cast("int", number)) for number in ids]
    attached = details.get("dimension_list")
    if isinstance(attached, list) and any(attached):
        # netCDF-C uses the last of several scales, and so do h5netcdf and netCDF4
        last = [cast("list[str]", paths)[-1] if paths else None for paths in attached]
        return [None if path is None else (_link_name(path, resolve), path) for path in last]
    return [own, *[None] * (dataset.ndim - 1)]


def _link_name(path: str, resolve: Resolve) -> str:
    """Return the name of a scale in HDF5; the path may be one in a store."""
    return resolve.link_name(path) if isinstance(resolve, ReferencePaths) else path.rpartition("/")[2]


def _name_scale(dataset: h5py.Dataset, resolve: Resolve) -> tuple[str, str]:
    """Return the name by which a scale was opened, and the path by which references lead to it."""
    path = os.fsdecode(dataset.name or "")
    with suppress(UnsupportedError):
        found = resolve.find(dataset) if isinstance(resolve, ReferencePaths) else resolve(dataset.ref)
        return path.rpartition("/")[2], found
    return path.rpartition("/")[2], path


def _scales_by_id(
    dataset: h5py.Dataset, wanted: set[int], resolve: Resolve, *, cache: dict[int, dict[int, tuple[str, str]]]
) -> dict[int, tuple[str, str]]:
    """Return netCDF dimensions, by number, of the group of a dataset and those above it; each group is read once."""
    scales: dict[int, tuple[str, str]] = {}
    group = dataset.parent
    while True:
        address = h5o.get_info(group.id).addr
        if address not in cache:
            cache[address] = _read_group_ids(group, resolve)
        scales = {**cache[address], **scales}
        if wanted <= scales.keys() or group.name == "/":
            return scales
        group = group.parent


def _read_group_ids(group: h5py.Group, resolve: Resolve) -> dict[int, tuple[str, str]]:
    """Return the netCDF dimensions of a group by number, the last of several in the order of the file.

    netCDF-C writes the numbers to other variables as well: only a scale is a dimension.
    """
    scales: dict[int, tuple[str, str]] = {}
    for name in _list_hard_links(group):
        item = group[name]
        if isinstance(item, h5py.Dataset) and h5ds.is_scale(item.id):
            number = _read_ids(item, "_Netcdf4Dimid")
            if isinstance(number, int):
                scales[number] = _name_scale(item, resolve)
    return scales


def _read_title(dataset: h5py.Dataset) -> bytes | None:
    """Return the name of a scale, b"" without a name; None if the name has another form than `H5DSset_scale` writes.

    `H5DSget_scale_name` returns unset memory for a name of variable length, and cuts off one without a final null.
    """
    try:
        if not exists(dataset, "NAME"):
            return b""
        attribute = h5a.open(dataset.id, b"NAME")
        tid = attribute.get_type()
        fixed = isinstance(tid, h5t.TypeStringID) and not tid.is_variable_str() and tid.get_strpad() == h5t.STR_NULLTERM
        if not fixed or attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
            return None
        return bytes(h5ds.get_scale_name(dataset.id))
    except READ_ERRORS:
        return None


def _has_reference_list(dataset: h5py.Dataset) -> bool:
    """Return whether the scale's list of references has the form that HDF5 writes."""
    try:
        tid = h5a.open(dataset.id, b"REFERENCE_LIST").get_type()
        return bool(tid.get_class() == h5t.COMPOUND and tid.get_member_type(0).equal(h5t.STD_REF_OBJ))
    except READ_ERRORS:
        return False


def _read_attached(dataset: h5py.Dataset, resolve: Resolve) -> list[list[str]] | None:
    """Return the paths of the scales of each dimension; None without a valid list."""
    try:
        attribute = h5a.open(dataset.id, b"DIMENSION_LIST")
        tid = attribute.get_type()
        valid = tid.get_class() == h5t.VLEN and tid.get_super().equal(h5t.STD_REF_OBJ)
        shape = attribute.shape
        if not valid or shape != (dataset.ndim,):
            return None
        lists = np.empty(shape, _REFERENCES)
        attribute.read(lists, _REFERENCES_IN_MEMORY)
        paths = [[resolve(ref) for ref in refs] for refs in lists]
        return paths if all(map(all, paths)) else None  # a scale is gone
    except READ_ERRORS:
        return None


def _read_ids(item: h5py.Dataset | h5py.Group | h5py.Datatype, name: str) -> int | list[int] | None:
    """Return the 32-bit integers of an attribute that netCDF-4 writes; None for another type: a user wrote that one."""
    try:
        attribute = h5a.open(item.id, name.encode())
        space = attribute.get_space()
        if space.get_simple_extent_type() == h5s.NULL or not attribute.get_type().equal(h5t.STD_I32LE):
            return None
        value = np.empty(space.shape, "<i4")
        attribute.read(value)
    except READ_ERRORS:
        return None
    return cast("int | list[int]", value.tolist())
