"""The place of each attribute of an HDF5 object in a Zarr store.

An attribute that JSON can express is a Zarr attribute of the same name. What JSON does not imply (float32 or float64,
one number or an array of one), and values that it cannot express, are *details*: they go into a document of the store
that Zarr's readers do not see, by the path of the node; such a value is shown as text or numbers under its own name. Of
an object with the attributes ``units`` and ``z``::

    values   {"units": "m", "z": "1+2j"}
    details  {"attributes": {"z": {"type": "<c16", "shape": [], "base64": …}}}

:mod:`h5bound.zarr_model.attribute_values` describes the entries. Attributes whose names are not UTF-8 are in the list
``odd_names`` of the details, each an entry with its ``name``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import h5py
from h5py import h5a, h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.attributes import decode_text, list_attribute_names
from h5bound.hdf5.dimension_scales import read_dimensions
from h5bound.hdf5.links import decode_name
from h5bound.hdf5.references import ReferencePaths, holds_references
from h5bound.hdf5.type_json import JSON, encode_base64, text_to_json, type_to_json
from h5bound.reports.entries import ReportNote
from h5bound.zarr_model.attribute_forms import FORMS, REFERENCE_FORMS, list_changes, name_nans
from h5bound.zarr_model.attribute_values import JSONValue, read_value, value_to_json
from h5bound.zarr_model.fill_values import fill_attribute_to_json
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.references import Resolve
    from h5bound.reports.forms import Kind
    from h5bound.zarr_model.byte_layout import Array, DType


RESERVED = frozenset({"_ARRAY_DIMENSIONS", "_LINKS", "_DTYPE"})
"""Names with a meaning in the store: attributes of the source with these names are details alone."""

NAN_NOTES = {
    "literal": "as readers in Python expect it in JSON; readers in other languages may refuse it: nan='text'",
    "text": "as text, which readers take for no number",
}
"""What the report says of floats for which JSON has no numbers."""


CF_ATTRIBUTES = frozenset({
    "units", "calendar", "scale_factor", "add_offset", "missing_value", "_FillValue", "_Unsigned", "_Encoding", "dtype",
    "coordinates", "bounds", "climatology", "grid_mapping", "ancillary_variables", "cell_measures", "formula_terms",
})  # fmt: skip
"""Attributes that xarray decodes, also in a file without dimension scales: it fails on lists of one."""


@dataclass(slots=True, kw_only=True)
class AttributesRecord:
    """The attributes of one HDF5 group or dataset, as a Zarr store has them."""

    values: dict[str, JSON] = field(default_factory=dict)
    """Attributes of the Zarr node."""
    details: dict[str, Any]
    """What the attributes of a Zarr node leave open."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason of each attribute without a form in Zarr; name "*" if the attributes cannot be listed."""
    notes: list[ReportNote] = field(default_factory=list)
    """Differences in form by which nothing is lost; without the path of the object."""
    dimensions: Dimensions | None
    """Dimension scales; None for a group."""
    fill: Array | None = None
    """Value of ``_FillValue`` as h5py reads it; None without it."""

    def note(self, text: str, kind: Kind | None = None, attribute: str | None = None) -> None:
        """Add a note on the object, or on one of its attributes."""
        self.notes.append(ReportNote("", text, kind, attribute))


def read_attributes(
    source: h5py.Group | h5py.Dataset | h5py.Datatype,
    *,
    zarr_format: int = 3,
    dtype: DType | None = None,
    netcdf: bool = False,
    hdmf: bool = False,
    nan: str = "literal",
    resolve: Resolve | None = None,
) -> AttributesRecord:
    """Return the attributes of an open group, dataset or committed type, as a Zarr store has them.

    `source` was opened by its path. In format 3, xarray decodes ``_FillValue`` by the array's type: `dtype`, or None
    for the type that h5py has. With `netcdf`, an array of one value is that value, as it is for each attribute
    that xarray decodes. With `hdmf`, object references are as hdmf-zarr reads them. `nan` is "literal" or "text", in
    which floats that are not finite are written. `resolve` returns the path of a reference's target; None for the first
    name that HDF5 finds.
    """
    resolve = resolve or ReferencePaths(source.file)
    raw_names, problem = list_attribute_names(source)
    names = None if problem else raw_names
    dimensions = read_dimensions(source, resolve, names) if isinstance(source, h5py.Dataset) else None
    record = AttributesRecord(details=dict(dimensions.details) if dimensions else {}, dimensions=dimensions)
    record.skipped += [("*", problem)] if problem else []
    raw_names.sort(key=is_odd)  # last, since others keep their names
    for raw_name in raw_names:
        name = decode_name(raw_name)
        if dimensions is not None and name in dimensions.consumed:
            continue
        try:
            tid, array = read_value(h5a.open(source.id, raw_name))
            value = value_to_json(tid, array, resolve, netcdf=netcdf or name in CF_ATTRIBUTES, hdmf=hdmf)
            value = _spell_reference(source, value, resolve, name=name) if tid.equal(h5t.STD_REF_OBJ) else value
            _note_changes(record, name, (tid, array, value), netcdf=netcdf)
            if name == "_FillValue":
                record.fill = array
                if zarr_format == 3 and isinstance(source, h5py.Dataset):
                    value = _fill_to_json(record, tid, value, dtype=source.dtype.base if dtype is None else dtype)
            _place(record, raw_name, _spell_nans(record, name, value, nan=nan))
        except READ_ERRORS as error:
            record.skipped.append((name, describe_failure(error)))
    for text, attribute in chain(_dimension_notes(record), () if hdmf else _list_notes(record)):
        record.note(text, attribute=attribute)
    return record


def _note_changes(
    record: AttributesRecord, name: str, read: tuple[h5t.TypeID, Array | None, JSONValue], *, netcdf: bool
) -> None:
    """Note in what a value that JSON has differs from what h5py reads; `read`: its type, what h5py reads, and JSON."""
    tid, array, value = read
    if value.form or name in RESERVED:
        return
    if array is not None and holds_references(array.dtype):
        record.note("as hdmf-zarr writes it, with the path of its target", "reference_attribute", name)
        return
    for text in list_changes(tid, array, value.json, netcdf=netcdf, alone=name in CF_ATTRIBUTES):
        record.note(text, "attribute", name)


def is_odd(raw_name: bytes) -> bool:
    """Return whether a name is not UTF-8."""
    return decode_name(raw_name) != decode_text(raw_name)


def _place(record: AttributesRecord, raw_name: bytes, value: JSONValue) -> None:
    """Add one attribute to the record."""
    name, shown, entry = decode_name(raw_name), decode_text(raw_name), value.entry
    if is_odd(raw_name):
        record.details.setdefault("odd_names", []).append({"name": text_to_json(raw_name), **value.complete_entry})
        how = "not shown, since another one is called" if shown in record.values else "shown as"
        record.note(f"its name is not UTF-8, {how} {shown!r}", "attribute", name)
    elif name in RESERVED:
        record.note(f"in {OWN_KEY} alone: the name has a meaning in the store", "attribute", name)
        entry = value.complete_entry
    elif value.form:
        kind: Kind = "reference_attribute" if value.form in REFERENCE_FORMS else "attribute"
        record.note(value.form, kind, name)
    if entry and not is_odd(raw_name):
        record.details.setdefault("attributes", {})[name] = entry
    if value.json is not None and name not in RESERVED and shown not in record.values:
        record.values[shown] = value.json


def _fill_to_json(record: AttributesRecord, tid: h5t.TypeID, value: JSONValue, *, dtype: DType) -> JSONValue:
    """Return the fill attribute in xarray's form, or note why it has none."""
    try:
        json = fill_attribute_to_json(record.fill, dtype)
    except UnsupportedError as error:
        return JSONValue(None, value.complete_entry, f"in {OWN_KEY} alone: {error}")
    if json == value.json or record.fill is None:
        return value
    if isinstance(json, str) and not isinstance(value.json, str):
        record.note("as base64, in which xarray writes and reads fill values of floats", attribute="_FillValue")
    entry: dict[str, JSON] = {"type": type_to_json(tid), "shape": list(record.fill.shape)}
    return JSONValue(json, {**entry, "base64": encode_base64(record.fill.tobytes())})


def _spell_nans(record: AttributesRecord, name: str, value: JSONValue, *, nan: str) -> JSONValue:
    """Return the value with floats that are not finite as `nan` says, and note it.

    A fill value is text in any case: zarr and xarray read that of the array instead.
    """
    text = name_nans(value.json)
    if text == value.json or name in RESERVED:
        return value
    if name != "_FillValue":
        record.note(NAN_NOTES[nan], "nan", name)
    return replace(value, json=text) if nan == "text" or name == "_FillValue" else value


def _list_notes(record: AttributesRecord) -> Iterator[tuple[str, None]]:
    if any(isinstance(value, list) and len(value) == 1 for value in record.values.values()):
        yield "attributes of one value are lists, as in h5py; h5netcdf shows the value alone", None


def _dimension_notes(record: AttributesRecord) -> Iterator[tuple[str, str | None]]:
    if record.dimensions is None:
        return
    if record.dimensions.bare:
        yield "netCDF dimension without a variable", None
    details = record.details.get("attributes", {})
    for name in ("scale_factor", "add_offset"):
        if name in record.values and details.get(name, {}).get("type") in ("<f4", ">f4"):
            yield "float32: JSON has no such type, so xarray decodes with float64", name


def _spell_reference(
    source: h5py.Group | h5py.Dataset | h5py.Datatype, value: JSONValue, resolve: Resolve, *, name: str
) -> JSONValue:
    """Return an object reference as the path that its reader expects in Zarr; another one as it is.

    ``categories`` of codes in AnnData before 0.8 is relative to their group (anndata, on-disk format, version 0.1.0 of
    a categorical); ``.specloc`` of HDMF has no leading slash, and hdmf-zarr's reader of format 2 takes nothing else.
    """
    exact = value.complete_entry
    target = exact.get("value")
    if name not in ("categories", ".specloc") or not isinstance(target, dict):
        return value
    path = target_path = cast("str", cast("dict[str, JSON]", target["_REFERENCE"])["path"]).lstrip("/")
    if name == "categories":
        group, _, own_name = resolve(source.ref).strip("/").rpartition("/")
        path = f"__categories/{own_name}"
        if f"{group}/{path}".lstrip("/") != target_path:
            return value
    return JSONValue(path, {**exact, "type": type_to_json(h5t.STD_REF_OBJ)}, FORMS[name])


def describe_failure(error: BaseException) -> str:
    """Return the reason why an attribute cannot be read."""
    return str(error) if isinstance(error, UnsupportedError) else f"h5py cannot read it: {describe(error)}"
