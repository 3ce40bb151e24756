"""Where each attribute of an HDF5 object stands in a Zarr store.

A value stands under its own name where JSON can say it. What JSON leaves open (float32 or float64, one number or
an array of one) are *details*: they belong into ``_h5bound`` of the root, by path, where no reader of a variable's
attributes meets them. A value that JSON cannot say stands under ``_h5bound`` of its own object::

    {"units": "m", "_h5bound": {"attributes": {"z": {"type": "<c16", "shape": [], "value": [1.0, 2.0]}}}}

:mod:`h5bound.zarr_model.attribute_values` has the form of an entry. Attributes whose names are not UTF-8 stand in the
list ``_h5bound.odd_names``, each an entry with its ``name``.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import h5py
from h5py import h5, h5a, h5ds, h5p, h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.datatypes import JSON, text_to_json, type_to_json
from h5bound.hdf5.dimension_scales import read_dimensions
from h5bound.hdf5.references import ReferencePaths
from h5bound.zarr_model.attribute_values import JSONValue, RawValue, read_value, value_to_json
from h5bound.zarr_model.fill_values import fill_attribute_to_json
from h5bound.zarr_model.node_names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.byte_layout import Array, DType


H5BOUND_KEY = "_h5bound"
"""The attribute under which h5bound keeps what has no place elsewhere."""

RESERVED = frozenset({H5BOUND_KEY, "_ARRAY_DIMENSIONS", "_LINKS", "_DTYPE"})
"""Names with a meaning of their own in a store: the source's attributes of these go under ``_h5bound``."""


@dataclass(frozen=True, slots=True)
class AttributesRecord:
    """The attributes of one HDF5 group or dataset, as a Zarr store has them."""

    values: dict[str, JSON]
    """the attributes of the Zarr node, ``_h5bound`` among them where a value needs it"""
    details: dict[str, JSON]
    """what JSON leaves open; belongs into ``_h5bound`` of the root"""
    skipped: tuple[tuple[str, str], ...]
    """name and reason of each attribute that has no form, or cannot be read; "*" if they cannot be listed"""
    notes: tuple[str, ...]
    """what looks different though nothing is lost"""
    dimensions: Dimensions | None
    """what dimension scales say; None for a group"""
    fill: Array | None
    """the value of ``_FillValue`` as h5py reads it, None where there is none"""

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions; None for a group, and where nothing names any."""
        return self.dimensions.names if self.dimensions is not None and any(self.dimensions.names) else None


def merge_metadata(values: Mapping[str, JSON], metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return attributes with more under ``_h5bound``; without that key where there is nothing to say.

    Examples
    --------
    >>> merge_metadata({"units": "m"}, {"enum": {"A": 1}})
    {'units': 'm', '_h5bound': {'enum': {'A': 1}}}
    """
    held = {**cast("dict[str, JSON]", values.get(H5BOUND_KEY, {})), **metadata}
    rest = {name: value for name, value in values.items() if name != H5BOUND_KEY}
    return {**rest, H5BOUND_KEY: held} if held else rest


@dataclass(slots=True)
class AttributeBuilder:
    """The attributes of one object, gathered one by one."""

    fill_dtype: DType | None
    """where ``_FillValue`` is xarray's: the type of the Zarr array"""
    values: dict[str, JSON] = field(default_factory=dict)
    entries: dict[str, JSON] = field(default_factory=dict)
    odd: list[JSON] = field(default_factory=list)
    opened: dict[str, JSON] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fill: Array | None = None

    def add(self, raw_name: bytes, value: RawValue, spelled: JSONValue) -> None:
        """Put one attribute where it belongs."""
        name = text_to_json(raw_name)
        if name == "_FillValue":
            self.fill = value.array
            spelled = self._fill(value, spelled)
        if not isinstance(name, str):
            self.odd.append({"name": name, **_whole(spelled)})
        elif name in RESERVED or not spelled.plain:
            self.entries[name] = _whole(spelled)
            if name in RESERVED:
                self.notes.append(f"attribute {name!r} stands under {H5BOUND_KEY}: the name has a meaning in the store")
        else:
            self.values[name] = spelled.json
            if spelled.entry:
                place = self.entries if _is_enum(value.tid) else self.opened
                place[name] = dict(spelled.entry)

    def _fill(self, value: RawValue, spelled: JSONValue) -> JSONValue:
        if self.fill_dtype is None:
            return spelled
        try:
            json = fill_attribute_to_json(value.array, self.fill_dtype)
        except UnsupportedError as error:
            self.notes.append(f"attribute '_FillValue' stands under {H5BOUND_KEY}: {error}")
            return JSONValue(spelled.json, plain=False, entry=_whole(spelled))
        if json == spelled.json:
            return spelled
        array = cast("Array", value.array)
        coded = base64.b64encode(array.tobytes()).decode("ascii")
        dims: list[JSON] = list(array.shape)
        return JSONValue(json, plain=True, entry={"type": type_to_json(value.tid), "shape": dims, "base64": coded})

    def record(self, dimensions: Dimensions | None) -> AttributesRecord:
        """Return what was gathered."""
        metadata: dict[str, JSON] = {}
        if self.entries:
            metadata["attributes"] = self.entries
        if self.odd:
            metadata["odd_names"] = self.odd
        details: dict[str, JSON] = {} if dimensions is None else dict(dimensions.details)
        if self.opened:
            details["attributes"] = self.opened
        notes = (*self.notes, *_notes(self.values, self.opened, dimensions))
        return AttributesRecord(
            merge_metadata(self.values, metadata), details, tuple(self.skipped), notes, dimensions, self.fill
        )


def _whole(spelled: JSONValue) -> dict[str, JSON]:
    """Return an entry that holds the value too."""
    return {"value": spelled.json, **spelled.entry} if spelled.plain else dict(spelled.entry)


def _is_enum(tid: h5t.TypeID) -> bool:
    while tid.get_class() == h5t.ARRAY:
        tid = tid.get_super()
    return bool(tid.get_class() == h5t.ENUM and tid.dtype.kind != "b")


def _notes(values: Mapping[str, JSON], details: Mapping[str, JSON], dimensions: Dimensions | None) -> Iterator[str]:
    if dimensions is None:
        return
    if dimensions.bare:
        yield "netCDF dimension without a variable"
    packed = [name for name in ("scale_factor", "add_offset") if name in values]
    if any(cast("dict[str, JSON]", details.get(name, {})).get("type") in ("<f4", ">f4") for name in packed):
        yield f"{' and '.join(packed)} are float32: JSON has no such type, so xarray decodes with float64"


__all__ = [
    "H5BOUND_KEY",
    "AttributesRecord",
    "is_netcdf",
    "links_to_json",
    "merge_metadata",
    "read_attributes",
]

_NETCDF_SCAN = 1000


def read_attributes(
    source: h5py.Group | h5py.Dataset | h5py.Datatype,
    *,
    zarr_format: int = 3,
    dtype: DType | None = None,
    netcdf: bool | None = None,
    resolve: Resolve | None = None,
) -> AttributesRecord:
    """Return the attributes of an open group, dataset or committed type, as a Zarr store has them.

    Parameters
    ----------
    source
        Opened by its path.
    zarr_format
        3 or 2: xarray reads ``_FillValue`` otherwise.
    dtype
        Of the Zarr array's elements, for ``_FillValue``; None for what h5py has.
    netcdf
        Whether the file is read as netCDF, where an array of one is that one. None: look (:func:`is_netcdf`).
    resolve
        Path of a reference's target; None for the first name that HDF5 finds.
    """
    resolve = resolve or ReferencePaths(source.file)
    netcdf = is_netcdf(source.file) if netcdf is None else netcdf
    dimensions = read_dimensions(source, resolve) if isinstance(source, h5py.Dataset) else None
    places = AttributeBuilder(None)
    if isinstance(source, h5py.Dataset) and zarr_format == 3:
        places.fill_dtype = _element_dtype(source) if dtype is None else dtype
    names, trouble = _list_names(source)
    if trouble:
        places.skipped.append(("*", trouble))
    for name in names:
        if dimensions is not None and _text(name) in dimensions.consumed:
            continue
        try:
            value = read_value(h5a.open(source.id, name))
            spelled = value_to_json(value, resolve, netcdf=netcdf)
            places.add(name, value, _spell_categories(source, name, spelled))
        except READ_ERRORS as error:
            places.skipped.append((_text(name), _reason(error)))
    return places.record(dimensions)


def is_netcdf(file: h5py.File) -> bool:
    """Tell whether a file is one that netCDF-4 libraries read with its dimensions.

    That is one that such a library wrote, or one with a dimension scale in its root group (among the first
    1,000 objects).
    """
    try:
        return "_NCProperties" in file.attrs or any(_are_scales(file["/"]))
    except READ_ERRORS:
        return False


def links_to_json(links: Mapping[str, str]) -> list[JSON]:
    """Return soft links and further hard links of a group, by name and target path, for its ``_LINKS``.

    Examples
    --------
    >>> links_to_json({"again": "/entry/data"})
    [{'name': 'again', 'source': '.', 'path': '/entry/data'}]
    """
    return [{"name": text_to_json(n), "source": ".", "path": text_to_json(path)} for n, path in links.items()]


def _are_scales(group: h5py.Group) -> Iterator[bool]:
    """Tell of each of the first datasets of a group whether it is a dimension scale."""
    for _, name in zip(range(_NETCDF_SCAN), group, strict=False):
        # to ask for a name with a slash would follow the links on the way, out of the file too
        if "/" not in name and group.get(name, getclass=True, getlink=True) is h5py.HardLink:
            item = group.get(name)
            yield isinstance(item, h5py.Dataset) and bool(h5ds.is_scale(item.id))


def _list_names(source: h5py.Group | h5py.Dataset) -> tuple[list[bytes], str]:
    """Return the names of all attributes, in the order they were made where the file knows it, and any trouble."""
    found: list[bytes] = []
    try:
        order = source.id.get_create_plist().get_attr_creation_order()
        by = h5.INDEX_CRT_ORDER if order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME
        h5a.iterate(source.id, found.append, index_type=by)
    except READ_ERRORS as error:
        return found, f"h5py cannot list the attributes: {error}"
    return found, ""


def _spell_categories(source: h5py.Group | h5py.Dataset, name: bytes, spelled: JSONValue) -> JSONValue:
    """Return the reference from codes to their categories as AnnData before 0.8 has it in Zarr.

    In HDF5 it is an object reference, in Zarr a path that begins beside the codes (anndata, on-disk format,
    version 0.1.0 of a categorical).
    """
    path, _, own = os.fsdecode(source.name or "").rpartition("/")
    place = f"__categories/{own}"
    wanted: JSON = {"_REFERENCE": {"source": ".", "path": f"{path}/{place}"}}
    if name != b"categories" or spelled.json != wanted or escape(own) != own:
        return spelled
    return JSONValue(place, plain=True, entry={"type": type_to_json(h5t.STD_REF_OBJ), "value": wanted})


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, UnsupportedError) else f"h5py cannot read it: {error}"


def _element_dtype(dataset: h5py.Dataset) -> DType | None:
    try:
        return cast("DType", dataset.dtype.base)
    except READ_ERRORS:
        return None
