"""The value of an HDF5 attribute as JSON, and back, bit for bit.

JSON alone says: true is a bool, 1 an int64, 1.0 a float64, "a" a variable-length UTF-8 string, and nested lists have
the shape that they show. An entry says what differs from that:

======== =================================================================================================
type     the HDF5 type (:mod:`h5bound.hdf5.datatypes`), where JSON implies another
shape    of the dataspace and the array type together, where JSON implies another; null: no elements at all
value    the value, where neither what stands under the attribute's own name nor its bytes are exact
base64   the bytes that h5py reads, where no number or text has the same bits; a list of them for text
======== =================================================================================================

What JSON has no exact form for is shown under its own name: numbers, text, or lists of these, since xarray writes no
others (:mod:`h5bound.zarr_model.attribute_forms`). Its entry is then complete without what is shown.

Floats that are not finite stand under the attribute's own name as JSON of Python has them, or as text
(`name_nans`); in an entry as text. For netCDF, a first dimension of 1 is dropped.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5t

from h5bound.hdf5.attributes import decode_text
from h5bound.hdf5.byte_order import restore_byte_order
from h5bound.hdf5.datatypes import SIMPLE, check_references, read_type, strip_arrays
from h5bound.hdf5.element_types import memory_type, read_dtype
from h5bound.hdf5.raw_objects import needs_raw, read_raw
from h5bound.hdf5.type_json import JSON, TEXT_TYPE, encode_base64, text_to_json, type_to_json
from h5bound.zarr_model.attribute_forms import describe_form, item_to_json, name_nans, nest, show

if TYPE_CHECKING:
    from h5py import h5a

    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.byte_layout import Array, DType


LARGE_NBYTES = 1 << 20
"""Numbers of more bytes than this are stored as base64: JSON would take seconds and gigabytes."""

MAX_KNOWN = 1024
"""Most bytes of a value whose JSON is kept for the next one."""

NOT_UTF8 = "text that is not UTF-8, shown as Windows-1252, or Latin-1 where that is undefined"

TOO_LARGE = "numbers of more than 1 MiB, not shown"

_IMPLIED: dict[type, JSON] = {
    bool: "bool",
    int: "<i8",
    float: "<f8",
    str: TEXT_TYPE,
    dict: {"class": "reference", "kind": "object"},
}


@dataclass(frozen=True, slots=True)
class JSONValue:
    """The value of an attribute as JSON."""

    json: JSON
    """What stands under the attribute's own name; None if nothing can."""
    entry: dict[str, JSON]
    """Fields that JSON alone does not imply."""
    form: str = ""
    """What stands there instead of the value, for the report; the entry then has the value. "" if it is the value."""

    @property
    def complete_entry(self) -> dict[str, JSON]:
        """The entry with the value."""
        return dict(self.entry) if self.form else {"value": name_nans(self.json), **self.entry}


def read_value(attribute: h5a.AttrID) -> tuple[h5t.TypeID, Array | None]:
    """Return the HDF5 type of an attribute, and its value before h5py makes Python objects of it.

    The value is 0-d for a scalar and None for a null dataspace; variable-length strings are bytes. Raise
    UnsupportedError if h5py cannot read it.
    """
    tid = attribute.get_type()
    space = attribute.get_space()
    if tid.get_class() in SIMPLE and space.get_simple_extent_type() != h5py.h5s.NULL:
        dtype, memory = _find_memory(tid.encode())
        array = np.zeros(space.shape, dtype)
        attribute.read(array, memory)
        return tid, restore_byte_order(array, dtype)
    tid = read_type(attribute)
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return tid, None
    shape = space.shape
    check_references(tid)
    dtype = read_dtype(tid)
    if needs_raw(tid):
        return tid, read_raw(attribute.read, tid, space)
    array = np.zeros(shape + dtype.shape, dtype.base)
    attribute.read(array, memory_type(tid))
    return tid, restore_byte_order(array, dtype)


@lru_cache(1024)
def _find_memory(encoded: bytes) -> tuple[DType, h5t.TypeID]:
    """Return the type of numbers or text in numpy, and in HDF5 once they are read, by the bytes of the HDF5 type."""
    tid = h5t.decode(encoded)
    return read_dtype(tid), memory_type(tid)


def value_to_json(
    tid: h5t.TypeID, array: Array | None, resolve: Resolve, *, netcdf: bool, hdmf: bool = False
) -> JSONValue:
    """Return a value as JSON, which nobody changes; with `netcdf`, drop a first dimension of 1, as netCDF's readers do.

    With `hdmf`, object references are dicts, which hdmf-zarr needs, and xarray cannot write.
    """
    if array is not None and array.size == 1 and tid.get_class() in SIMPLE:
        item = array.item() or b"" if array.dtype.hasobject else array.tobytes()
        find = _find_known if len(item) <= MAX_KNOWN else _find_known.__wrapped__
        return find(tid.encode(), array.shape, item, netcdf=netcdf)
    return _find_json(tid, array, resolve, netcdf=netcdf, hdmf=hdmf)


@lru_cache(1024)
def _find_known(encoded: bytes, shape: tuple[int, ...], item: bytes, *, netcdf: bool) -> JSONValue:
    """Return one number or text as `value_to_json` does: files of one kind have the same ones."""
    tid = h5t.decode(encoded)
    dtype = read_dtype(tid)
    array = np.empty(shape, dtype) if dtype.hasobject else np.frombuffer(item, dtype).reshape(shape)
    if dtype.hasobject:
        array[...] = item
    return _find_json(tid, array, str, netcdf=netcdf, hdmf=False)


def _find_json(tid: h5t.TypeID, array: Array | None, resolve: Resolve, *, netcdf: bool, hdmf: bool) -> JSONValue:
    base, _ = strip_arrays(tid)
    type_class = base.get_class()
    is_bool = type_class == h5t.ENUM and read_dtype(base).kind == "b" and base.get_super().equal(h5t.STD_I8LE)
    hdf5_type = "bool" if is_bool else type_to_json(tid)
    if array is None:
        one_byte = type_class == h5t.STRING and base.get_size() == 1
        return JSONValue("" if one_byte else [], {"type": hdf5_type, "shape": None})
    shape: list[JSON] = list(array.shape)
    entry: dict[str, JSON] = {"type": hdf5_type, "shape": shape}
    if type_class == h5t.STRING:
        return _text_to_json(array, entry, netcdf=netcdf)
    if type_class == h5t.REFERENCE and base.equal(h5t.STD_REF_OBJ) and hdmf:
        json = nest(array, [_reference_to_json(item, resolve) for item in array.ravel()])
        return JSONValue(json, _without_implied(json, entry))
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return _numbers_to_json(array, entry, netcdf=netcdf)
    if array.dtype.hasobject:
        exact = partial(_leaf_to_json, resolve=resolve)
        entry["value"] = nest(array, [item_to_json(base, item, exact) for item in array.ravel()])
    else:
        entry["base64"] = encode_base64(array.tobytes())
    if not array.dtype.hasobject and array.nbytes > LARGE_NBYTES:
        return JSONValue(None, entry, TOO_LARGE)
    alone = array.shape == () or (netcdf and array.shape == (1,))
    shown = nest(array, [show(base, item, resolve, alone=alone) for item in array.ravel()])
    return JSONValue(_unwrap(array, shown, netcdf=netcdf), entry, describe_form(array.dtype, type_class))


def value_from_json(json: JSON, entry: dict[str, JSON], dtype: DType) -> Array | None:
    """Return the array that JSON and its entry stand for: text as bytes, None for a null dataspace.

    It must be exact or have its bytes in the entry; `dtype` is the type of one element as h5py reads it. Raise
    TypeError or ValueError if the JSON does not fit that type.
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
    array = np.empty(len(items), dtype)
    array[:] = items
    return array.reshape(dims)


def implied_shape(json: JSON) -> JSON:
    """Return the shape that nested lists show."""
    shape: list[JSON] = []
    while isinstance(json, list):
        shape.append(len(json))
        json = json[0] if json else None
    return shape


def _without_implied(json: JSON, entry: dict[str, JSON]) -> dict[str, JSON]:
    """Return an entry without what the JSON implies."""
    leaf = next(iter(_flatten(json)), None)
    implied = {"type": _IMPLIED.get(type(leaf)), "shape": implied_shape(json)}
    return {key: value for key, value in entry.items() if key not in implied or implied[key] != value}


def _unwrap(array: Array, json: JSON, *, netcdf: bool) -> JSON:
    """Return JSON without a first dimension of 1, if the file is read as netCDF."""
    unwrap = netcdf and array.ndim > 0 and array.shape[0] == 1 and isinstance(json, list)
    return cast("list[JSON]", json)[0] if unwrap else json


def _text_to_json(array: Array, entry: dict[str, JSON], *, netcdf: bool) -> JSONValue:
    items = [b"" if item is None or item == 0 else bytes(item) for item in array.ravel()]
    try:
        texts: list[JSON] = [item.decode("utf-8") for item in items]
    except UnicodeDecodeError:
        base64_items: list[JSON] = [encode_base64(item) for item in items]
        json = _unwrap(array, nest(array, [decode_text(item) for item in items]), netcdf=netcdf)
        return JSONValue(json, entry | {"base64": base64_items}, NOT_UTF8)
    json = _unwrap(array, nest(array, texts), netcdf=netcdf)
    return JSONValue(json, _without_implied(json, entry))


def _numbers_to_json(array: Array, entry: dict[str, JSON], *, netcdf: bool) -> JSONValue:
    if array.nbytes > LARGE_NBYTES:
        return JSONValue(None, entry | {"base64": encode_base64(array.tobytes())}, TOO_LARGE)
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    json = _unwrap(array, cast("JSON", array.tolist()), netcdf=netcdf)
    needed = _without_implied(json, entry)
    is_odd_bool = array.dtype.kind == "b" and bool((array.view("u1") > 1).any())
    if not finite or is_odd_bool:
        needed["type"] = entry["type"]
    if is_odd_bool or not (finite or _has_usual_nans(array)):
        needed["base64"] = encode_base64(array.tobytes())
    return JSONValue(json, needed)


def _has_usual_nans(array: Array) -> bool:
    """Return whether all NaNs have the bits of ``float("nan")``."""
    nans = np.atleast_1d(array)[np.isnan(np.atleast_1d(array))]
    return bool(nans.tobytes() == np.full(nans.shape, np.nan, array.dtype).tobytes())


def _reference_to_json(item: h5py.Reference, resolve: Resolve) -> JSON:
    """Return an object reference in the form that hdmf-zarr and LINDI share."""
    return {"_REFERENCE": {"source": ".", "path": resolve(item)}}


def _leaf_to_json(item: object, resolve: Resolve) -> JSON:
    """Return what has no parts as JSON that has all its bits."""
    if isinstance(item, h5py.Reference):
        return resolve(item) if isinstance(item, h5py.RegionReference) else _reference_to_json(item, resolve)
    if isinstance(item, bytes):
        return text_to_json(item)
    if isinstance(item, (np.datetime64, np.timedelta64)):
        return int(item.view("i8"))
    if isinstance(item, np.complexfloating):
        return [_leaf_to_json(item.real, resolve), _leaf_to_json(item.imag, resolve)]
    if isinstance(item, np.floating) and item.dtype.itemsize <= 8 and _has_usual_nans(np.asarray(item)):
        return name_nans(float(item))
    if isinstance(item, (np.void, np.floating)):
        return {"base64": encode_base64(item.tobytes())}
    return cast("JSON", item.item() if isinstance(item, np.generic) else item)


def _flatten(json: JSON) -> list[JSON]:
    flat = [json]
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat for item in cast("list[JSON]", part)]
    return flat
