"""The value of an HDF5 attribute as JSON, and back, bit for bit.

What JSON says by itself is taken at its word: true is a bool, 1 an int64, 1.0 a float64, "a" a
variable-length UTF-8 string, and nested lists have the shape they show. What else is true stands in an entry:

======== =================================================================================================
type     the HDF5 type (:mod:`h5bound.hdf5.datatypes`), where JSON implies another
shape    of the dataspace and the array type together, where JSON implies another; null: no elements at all
value    the value, where it cannot stand under the attribute's own name
base64   the bytes that h5py reads, where no number or text has the same bits; a list of them for text
======== =================================================================================================

Floats that are not finite are "NaN", "Infinity" and "-Infinity". A first dimension of 1 is left out where
netCDF's readers do that.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import JSON, check_depth, has_region_references, type_to_json
from h5bound.zarr_model.byte_layout import as_elements, is_opaque_only
from h5bound.zarr_model.dtypes import read_dtype, restore_byte_order

if TYPE_CHECKING:
    from h5py import h5a

    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.byte_layout import Array, DType


LARGE_NBYTES = 1 << 20
"""Numbers of more bytes than this are kept as base64: as JSON they would take seconds and gigabytes."""

TEXT: JSON = {"class": "string", "nbytes": "variable", "strpad": "null-terminated", "cset": "utf-8"}
"""The type that a JSON string implies."""

_IMPLIED: dict[type, JSON] = {
    bool: "bool",
    int: "<i8",
    float: "<f8",
    str: TEXT,
    dict: {"class": "reference", "kind": "object"},
}


@dataclass(frozen=True, slots=True)
class RawValue:
    """An attribute's value as h5py reads it, before it makes Python objects of it."""

    tid: h5t.TypeID
    """the HDF5 type"""
    array: Array | None
    """0-d for a scalar; variable-length strings as bytes; None for a null dataspace"""


@dataclass(frozen=True, slots=True)
class JSONValue:
    """An attribute's value as JSON."""

    json: JSON
    """the value, where it can stand under the attribute's own name"""
    plain: bool
    """whether it can; if not, the entry has it"""
    entry: dict[str, JSON]
    """what JSON does not say by itself"""


def read_value(attribute: h5a.AttrID) -> RawValue:
    """Read an attribute.

    Raises
    ------
    UnsupportedError
        h5py cannot read it.
    """
    tid = attribute.get_type()
    check_depth(tid)
    space = attribute.get_space()
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return RawValue(tid, None)
    shape = space.shape
    if has_region_references(tid):  # h5py 3.16 crashes on sequences of them
        raise UnsupportedError("region references have no Zarr form")
    dtype = read_dtype(tid)
    if is_opaque_only(tid):
        raw = np.zeros(shape, np.dtype(("V", tid.get_size())))
        attribute.read(raw, tid)
        return RawValue(tid, as_elements(raw, dtype))
    array = np.zeros(shape + dtype.shape, dtype.base)
    attribute.read(array, h5t.py_create(dtype))
    return RawValue(tid, array)


def value_to_json(value: RawValue, resolve: Resolve, *, netcdf: bool) -> JSONValue:
    """Return a value as JSON.

    Parameters
    ----------
    value
        What :func:`read_value` gave.
    resolve
        Path of a reference's target.
    netcdf
        Whether a first dimension of 1 is left out, as readers of netCDF do.

    Raises
    ------
    UnsupportedError
        It has no JSON form: region references.
    """
    base = value.tid
    while base.get_class() == h5t.ARRAY:
        base = base.get_super()
    spelled = _spell_base(base) if base is value.tid else type_to_json(value.tid)
    if value.array is None:
        fixed = base.get_class() == h5t.STRING and base.get_size() == 1
        return JSONValue("" if fixed else [], plain=True, entry={"type": spelled, "shape": None})
    shape: list[JSON] = list(value.array.shape)
    entry: dict[str, JSON] = {"type": spelled, "shape": shape}
    found = base.get_class()
    if found == h5t.STRING:
        return _spell_text(value.array, entry, netcdf=netcdf)
    if found == h5t.REFERENCE:
        json = _nested(value.array, references_to_json(value.array, resolve))
        return JSONValue(json, plain=True, entry=_needed(json, entry))
    array = value.array
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return _spell_numbers(array, entry, netcdf=netcdf)
    return JSONValue(None, plain=False, entry=entry | _spell_other(base, array, resolve))


def references_to_json(array: Array, resolve: Resolve) -> list[JSON]:
    """Return object references, flat, in the form that hdmf-zarr and LINDI share."""
    return [{"_REFERENCE": {"source": ".", "path": resolve(item)}} for item in array.ravel()]


def value_from_json(json: JSON, entry: dict[str, JSON], dtype: DType) -> Array | None:
    """Return the array that JSON and its entry stand for: text as bytes, None for a null dataspace.

    Parameters
    ----------
    json, entry
        As in :class:`JSONValue`, of a value that is plain or has its bytes in the entry.
    dtype
        The numpy type of one element, as h5py reads it.

    Raises
    ------
    TypeError, ValueError
        The JSON does not stand for such a value.
    """
    shape = entry.get("shape", implied_shape(json))
    if shape is None:
        return None
    dims = tuple(cast("list[int]", shape))
    exact = entry.get("base64")
    if isinstance(exact, str):
        return np.frombuffer(base64.b64decode(exact), dtype).reshape(dims)
    if isinstance(exact, list):
        items = [base64.b64decode(cast("str", item)) for item in exact]
    elif dtype.kind in "OS":
        items = [cast("str", item).encode() for item in _flatten(json)]
    else:
        numbers = [float(item) if isinstance(item, str) else item for item in _flatten(json)]
        return np.array(numbers, dtype).reshape(dims)
    held = np.empty(len(items), dtype)
    held[:] = items
    return held.reshape(dims)


def implied_type(json: JSON) -> JSON:
    """Return the type that JSON implies; null where it implies none."""
    leaf = next(iter(_flatten(json)), None)
    return _IMPLIED.get(type(leaf))


def implied_shape(json: JSON) -> JSON:
    """Return the shape that nested lists show."""
    shape: list[JSON] = []
    while isinstance(json, list):
        shape.append(len(json))
        json = json[0] if json else None
    return shape


def _spell_base(base: h5t.TypeID) -> JSON:
    if base.get_class() == h5t.ENUM and base.dtype.kind == "b" and base.get_super().equal(h5t.STD_I8LE):
        return "bool"
    return type_to_json(base)


def _needed(json: JSON, entry: dict[str, JSON]) -> dict[str, JSON]:
    """Drop from an entry what the JSON implies."""
    implied = {"type": implied_type(json), "shape": implied_shape(json)}
    return {key: value for key, value in entry.items() if key not in implied or implied[key] != value}


def _nested(array: Array, flat: list[JSON]) -> JSON:
    """Return flat items nested as the array is."""
    held = np.empty(array.size, object)
    held[:] = flat
    return cast("JSON", held.reshape(array.shape).tolist())


def _unwrapped(array: Array, json: JSON, *, netcdf: bool) -> JSON:
    alone = netcdf and array.ndim > 0 and array.shape[0] == 1 and isinstance(json, list)
    return cast("list[JSON]", json)[0] if alone else json


def _spell_text(array: Array, entry: dict[str, JSON], *, netcdf: bool) -> JSONValue:
    items = [b"" if item is None or item == 0 else bytes(item) for item in array.ravel()]
    try:
        texts: list[JSON] = [item.decode("utf-8") for item in items]
    except UnicodeDecodeError:
        coded: list[JSON] = [base64.b64encode(item).decode("ascii") for item in items]
        return JSONValue(None, plain=False, entry=entry | {"base64": coded})
    json = _unwrapped(array, _nested(array, texts), netcdf=netcdf)
    return JSONValue(json, plain=True, entry=_needed(json, entry))


def _spell_numbers(array: Array, entry: dict[str, JSON], *, netcdf: bool) -> JSONValue:
    if array.nbytes > LARGE_NBYTES:
        return JSONValue(None, plain=False, entry=entry | {"base64": _coded(array)})
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    json = _unwrapped(array, cast("JSON", array.tolist()) if finite else _spell_floats(array), netcdf=netcdf)
    needed = _needed(json, entry)
    if not finite:
        needed["type"] = entry["type"]
    if not (finite or _only_usual_nans(array)):
        needed["base64"] = _coded(array)
    return JSONValue(json, plain=True, entry=needed)


def _spell_floats(array: Array) -> JSON:
    items = array.astype(object)
    items[np.isnan(array)] = "NaN"
    items[np.isposinf(array)] = "Infinity"
    items[np.isneginf(array)] = "-Infinity"
    return cast("JSON", items.tolist())


def _only_usual_nans(array: Array) -> bool:
    nans = np.atleast_1d(array)[np.isnan(np.atleast_1d(array))]
    return bool(nans.tobytes() == np.full(nans.shape, np.nan, array.dtype).tobytes())


def _coded(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _spell_other(base: h5t.TypeID, array: Array, resolve: Resolve) -> dict[str, JSON]:
    """Return value and bytes of what numbers and text cannot say."""
    spelled: dict[str, JSON] = {}
    if array.dtype.kind != "V" or array.dtype.names:
        items = [_spell_item(base, item, resolve) for item in array.ravel()]
        spelled["value"] = _nested(array, items)
    if not array.dtype.hasobject:
        spelled["base64"] = _coded(array)
    return spelled


def _spell_item(tid: h5t.TypeID, item: object, resolve: Resolve) -> JSON:
    """Return one element, or one member of a compound, as JSON for people and programs to read."""
    found = tid.get_class()
    if found == h5t.VLEN:
        return _spell_sequence(tid, np.asarray(item), resolve)
    if found == h5t.ARRAY:
        base, inner = tid.get_super(), np.asarray(item)
        return _nested(inner, [_spell_item(base, one, resolve) for one in inner.ravel()])
    if found == h5t.REFERENCE:
        return references_to_json(np.array([item], object), resolve)[0]
    if isinstance(item, np.void) and item.dtype.names:
        return _spell_members(tid, item, resolve)
    return _spell_scalar(item)


def _spell_sequence(tid: h5t.TypeID, items: Array, resolve: Resolve) -> JSON:
    base = tid.get_super()
    found = restore_byte_order(items, read_dtype(base)) if items.dtype.kind in "iuf" else items
    return [_spell_item(base, item, resolve) for item in found.reshape(-1)]


def _spell_members(tid: h5t.TypeID, item: np.void, resolve: Resolve) -> JSON:
    names = item.dtype.names or ()
    return {n: _spell_item(tid.get_member_type(i), item[n], resolve) for i, n in enumerate(names)}


def _spell_scalar(item: object) -> JSON:
    if isinstance(item, bytes):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(item).decode("ascii")}
    if isinstance(item, np.void):
        return {"base64": base64.b64encode(item.tobytes()).decode("ascii")}
    if isinstance(item, (np.datetime64, np.timedelta64)):
        return int(item.view("i8"))
    if isinstance(item, np.complexfloating):
        return [_spell_scalar(item.real), _spell_scalar(item.imag)]
    if isinstance(item, np.floating) and not (item.dtype.itemsize <= 8 and _only_usual_nans(np.asarray(item))):
        return {"base64": base64.b64encode(item.tobytes()).decode("ascii")}
    if isinstance(item, np.floating):
        return float(item) if np.isfinite(item) else _spell_floats(np.array(item, "f8"))
    return cast("JSON", item.item() if isinstance(item, np.generic) else item)


def _flatten(json: JSON) -> list[JSON]:
    flat = [json]
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat for item in cast("list[JSON]", part)]
    return flat
