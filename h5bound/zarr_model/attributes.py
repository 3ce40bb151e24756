"""Where each attribute of an HDF5 object is stored in a Zarr store.

An attribute that JSON can express is a Zarr attribute of the same name. What JSON leaves open (float32 or float64, one
number or an array of one) are *details*: they go into ``_h5bound`` of the root, by path, where readers of a variable do
not meet them. A value that JSON cannot express goes into ``_h5bound`` of its own object::

    {"units": "m", "_h5bound": {"attributes": {"z": {"type": "<c16", "shape": [], "value": [1.0, 2.0]}}}}

:mod:`h5bound.zarr_model.attribute_values` describes the entries. Attributes whose names are not UTF-8 are in the list
``_h5bound.odd_names``, each an entry with its ``name``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import h5py
from h5py import h5, h5a, h5p, h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.datatypes import JSON, encode_base64, text_to_json, type_to_json
from h5bound.hdf5.dimension_scales import is_netcdf, read_dimensions
from h5bound.hdf5.links import decode_name
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
"""Attribute under which h5bound stores what has no place elsewhere."""

RESERVED = frozenset({H5BOUND_KEY, "_ARRAY_DIMENSIONS", "_LINKS", "_DTYPE"})
"""Names with a meaning in a store. Attributes of the source with these names go under ``_h5bound``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesRecord:
    """The attributes of one HDF5 group or dataset, as a Zarr store has them."""

    values: dict[str, JSON]
    """Attributes of the Zarr node, with ``_h5bound`` where a value needs it."""
    details: dict[str, JSON]
    """What JSON leaves open; goes into ``_h5bound`` of the root."""
    skipped: tuple[tuple[str, str], ...]
    """Name and reason of each attribute without a form in Zarr; name "*" if the attributes cannot be listed."""
    notes: tuple[str, ...]
    """What looks different though nothing is lost."""
    dimensions: Dimensions | None
    """Dimension scales; None for a group."""
    fill: Array | None
    """Value of ``_FillValue`` as h5py reads it; None without it."""

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions; None for a group, and where none has a name."""
        return self.dimensions.names if self.dimensions is not None and any(self.dimensions.names) else None


def merge_metadata(values: Mapping[str, JSON], metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return attributes with `metadata` added to ``_h5bound``, without that key if it would be empty.

    >>> merge_metadata({"units": "m"}, {"enum": {"A": 1}})
    {'units': 'm', '_h5bound': {'enum': {'A': 1}}}
    """
    merged = {**cast("dict[str, JSON]", values.get(H5BOUND_KEY, {})), **metadata}
    others = {name: value for name, value in values.items() if name != H5BOUND_KEY}
    return {**others, H5BOUND_KEY: merged} if merged else others


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
        An object that was opened by its path.
    zarr_format
        3 or 2. In format 3, xarray decodes ``_FillValue`` by the array's type.
    dtype
        Element type of the Zarr array, for ``_FillValue``; None for the type that h5py has.
    netcdf
        Whether the file is read as netCDF, where an array of one value is that value; None for :func:`is_netcdf`.
    resolve
        Returns the path of a reference's target; None for the first name that HDF5 finds.
    """
    resolve = resolve or ReferencePaths(source.file)
    netcdf = is_netcdf(source.file) if netcdf is None else netcdf
    dimensions = read_dimensions(source, resolve) if isinstance(source, h5py.Dataset) else None
    builder = AttributeBuilder(None)
    if isinstance(source, h5py.Dataset) and zarr_format == 3:
        builder.fill_dtype = _element_dtype(source) if dtype is None else dtype
    raw_names, problem = list_attribute_names(source)
    if problem:
        builder.skipped.append(("*", problem))
    for raw_name in raw_names:
        name = decode_name(raw_name)
        if dimensions is not None and name in dimensions.consumed:
            continue
        try:
            value = read_value(h5a.open(source.id, raw_name))
            json_value = value_to_json(value, resolve, netcdf=netcdf)
            builder.add(raw_name, value, _categories_to_path(source, raw_name, json_value))
        except READ_ERRORS as error:
            builder.skipped.append((name, describe_failure(error)))
    return builder.build(dimensions)


@dataclass(slots=True)
class AttributeBuilder:
    """Builds the record of one object's attributes, one attribute after the other."""

    fill_dtype: DType | None
    """Type of the Zarr array where ``_FillValue`` has xarray's form, else None."""
    values: dict[str, JSON] = field(default_factory=dict)
    entries: dict[str, JSON] = field(default_factory=dict)
    odd_names: list[JSON] = field(default_factory=list)
    details: dict[str, JSON] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fill: Array | None = None

    def add(self, raw_name: bytes, value: RawValue, json_value: JSONValue) -> None:
        """Add one attribute where it belongs."""
        name = text_to_json(raw_name)
        if name == "_FillValue":
            self.fill = value.array
            json_value = self._fill_to_json(value, json_value)
        if not isinstance(name, str):
            self.odd_names.append({"name": name, **json_value.complete_entry})
        elif name in RESERVED or not json_value.plain:
            self.entries[name] = json_value.complete_entry
            if name in RESERVED:
                self.notes.append(f"attribute {name!r} is under {H5BOUND_KEY}: the name has a meaning in the store")
        else:
            self.values[name] = json_value.json
            if json_value.entry:
                entries = self.entries if _is_enum(value.tid) else self.details
                entries[name] = dict(json_value.entry)

    def _fill_to_json(self, value: RawValue, json_value: JSONValue) -> JSONValue:
        if self.fill_dtype is None:
            return json_value
        try:
            json = fill_attribute_to_json(value.array, self.fill_dtype)
        except UnsupportedError as error:
            self.notes.append(f"attribute '_FillValue' is under {H5BOUND_KEY}: {error}")
            return JSONValue(json_value.json, plain=False, entry=json_value.complete_entry)
        if json == json_value.json:
            return json_value
        array = cast("Array", value.array)
        dims: list[JSON] = list(array.shape)
        entry: dict[str, JSON] = {"type": type_to_json(value.tid), "shape": dims}
        return JSONValue(json, plain=True, entry={**entry, "base64": encode_base64(array.tobytes())})

    def build(self, dimensions: Dimensions | None) -> AttributesRecord:
        """Return the record of all attributes."""
        metadata: dict[str, JSON] = {}
        if self.entries:
            metadata["attributes"] = self.entries
        if self.odd_names:
            metadata["odd_names"] = self.odd_names
        details: dict[str, JSON] = {} if dimensions is None else dict(dimensions.details)
        if self.details:
            details["attributes"] = self.details
        return AttributesRecord(
            values=merge_metadata(self.values, metadata),
            details=details,
            skipped=tuple(self.skipped),
            notes=(*self.notes, *_dimension_notes(self.values, self.details, dimensions)),
            dimensions=dimensions,
            fill=self.fill,
        )


def _is_enum(tid: h5t.TypeID) -> bool:
    while tid.get_class() == h5t.ARRAY:
        tid = tid.get_super()
    return bool(tid.get_class() == h5t.ENUM and tid.dtype.kind != "b")


def _dimension_notes(
    values: Mapping[str, JSON], details: Mapping[str, JSON], dimensions: Dimensions | None
) -> Iterator[str]:
    if dimensions is None:
        return
    if dimensions.bare:
        yield "netCDF dimension without a variable"
    packing = [name for name in ("scale_factor", "add_offset") if name in values]
    if any(cast("dict[str, JSON]", details.get(name, {})).get("type") in ("<f4", ">f4") for name in packing):
        yield f"{' and '.join(packing)} are float32: JSON has no such type, so xarray decodes with float64"


def _categories_to_path(source: h5py.Group | h5py.Dataset, raw_name: bytes, json_value: JSONValue) -> JSONValue:
    """Return the reference from codes to their categories in the form of AnnData before 0.8.

    In HDF5 it is an object reference, in Zarr a path relative to the group of the codes (anndata, on-disk format,
    version 0.1.0 of a categorical).
    """
    group, _, name = os.fsdecode(source.name or "").rpartition("/")
    path = f"__categories/{name}"
    reference: JSON = {"_REFERENCE": {"source": ".", "path": f"{group}/{path}"}}
    if raw_name != b"categories" or json_value.json != reference or escape(name) != name:
        return json_value
    return JSONValue(path, plain=True, entry={"type": type_to_json(h5t.STD_REF_OBJ), "value": reference})


def links_to_json(links: Mapping[str, str]) -> list[JSON]:
    """Return soft links and further hard links of a group, by name and target path, for its ``_LINKS``.

    >>> links_to_json({"again": "/entry/data"})
    [{'name': 'again', 'source': '.', 'path': '/entry/data'}]
    """
    return [{"name": text_to_json(n), "source": ".", "path": text_to_json(path)} for n, path in links.items()]


def list_attribute_names(source: h5py.Group | h5py.Dataset) -> tuple[list[bytes], str]:
    """Return the names of all attributes, in creation order if the file has it, and why names may be missing, or ""."""
    names: list[bytes] = []
    try:
        order = source.id.get_create_plist().get_attr_creation_order()
        by = h5.INDEX_CRT_ORDER if order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME
        h5a.iterate(source.id, names.append, index_type=by)
    except READ_ERRORS as error:
        return names, f"h5py cannot list the attributes: {describe(error)}"
    return names, ""


def describe_failure(error: BaseException) -> str:
    """Return the reason why an attribute cannot be read."""
    return str(error) if isinstance(error, UnsupportedError) else f"h5py cannot read it: {describe(error)}"


def _element_dtype(dataset: h5py.Dataset) -> DType | None:
    try:
        return cast("DType", dataset.dtype.base)
    except READ_ERRORS:
        return None
