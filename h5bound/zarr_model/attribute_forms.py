"""What stands under the name of an attribute if JSON has no exact form for its value: numbers, text, lists of these.

xarray writes no other attributes into files. People find in them what they know from h5py; the bits are in an entry
(:mod:`h5bound.zarr_model.attribute_values`).
"""

from __future__ import annotations

import math
from functools import partial
from json import dumps
from typing import TYPE_CHECKING, cast

import h5py
import numpy as np
from h5py import h5t

from h5bound.hdf5.attributes import decode_text
from h5bound.hdf5.datatypes import strip_arrays
from h5bound.hdf5.element_types import describe_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from h5bound.hdf5.references import Resolve
    from h5bound.hdf5.type_json import JSON
    from h5bound.zarr_model.byte_layout import Array, DType


FORMS = {
    "c": "complex numbers, shown as text",
    "f": "floats of more than 64 bits, shown rounded",
    "m": "times, shown as text",
    "M": "times, shown as text",
    "compound": "compounds, shown as JSON text",
    "reference": "the path of its target in the store, as text",
    "region": "the path of its target in the store and what it selects there, as JSON text",
    "categories": "the path of its target from the group, as text, where AnnData looks for it",
    ".specloc": "the path of its target without a slash before it, as text, where hdmf-zarr looks for it",
    "sequence": "sequences, shown as a list, or as JSON text if there are several",
}
"""What is shown of values for which JSON has no exact form, by the kind of their type, or the name of the attribute."""

REFERENCE_FORMS = frozenset(FORMS[name] for name in ("reference", "region", "categories", ".specloc"))


def name_nans(value: JSON) -> JSON:
    """Return a value with text in place of floats that are not finite, for which JSON has no numbers.

    >>> name_nans([1.5, float("nan"), float("-inf")])
    [1.5, 'NaN', '-Infinity']
    """
    if isinstance(value, list):
        return [name_nans(item) for item in value]
    if isinstance(value, dict):
        return {name: name_nans(item) for name, item in value.items()}
    return dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def show(tid: h5t.TypeID, item: object, resolve: Resolve, *, alone: bool) -> JSON:
    """Return one element as a number or text, or a list of these if it is `alone`, as people know it from h5py."""
    json = item_to_json(tid, item, partial(_show_leaf, resolve=resolve))
    is_list = alone and isinstance(json, list) and not any(isinstance(part, (list, dict)) for part in json)
    return dumps(name_nans(json), ensure_ascii=False) if isinstance(json, (list, dict)) and not is_list else json


def _show_leaf(item: object, resolve: Resolve) -> JSON:
    """Return what has no parts as a number or text."""
    if isinstance(item, h5py.Reference):
        return resolve(item)
    if isinstance(item, (bytes, str)):
        return decode_text(item)
    if isinstance(item, (np.datetime64, np.timedelta64)):
        return str(item)
    if isinstance(item, np.complexfloating):
        return str(item).strip("()")
    if isinstance(item, np.floating):
        return float(item)
    if isinstance(item, np.void):
        return f"0x{item.tobytes().hex()}"
    return cast("JSON", item.item() if isinstance(item, np.generic) else item)


def describe_form(dtype: DType, type_class: int) -> str:
    """Return what is shown of values of a type of h5py, whose HDF5 type has this class."""
    if dtype.kind == "O":
        to_region = h5py.check_ref_dtype(dtype) is h5py.RegionReference
        return FORMS["sequence" if type_class == h5t.VLEN else "region" if to_region else "reference"]
    if dtype.kind == "V" and not dtype.names:
        return f"{describe_bytes(dtype) or 'opaque'}, shown as bytes in hexadecimal"
    return FORMS["compound" if dtype.names else dtype.kind]


def list_changes(tid: h5t.TypeID, array: Array | None, json: JSON, *, netcdf: bool, alone: bool) -> Iterator[str]:
    """Yield what h5py reads in another form of an attribute whose value JSON has, if netCDF's readers do not as well.

    `alone`: whether an array of one value is that value for other reasons than `netcdf`.
    """
    base = strip_arrays(tid)[0]
    if array is None and not (netcdf and json == ""):
        yield f"empty (a null dataspace), shown as {'a list without values' if json == [] else 'empty text'}"
    if array is not None and base.get_class() == h5t.ENUM and array.dtype.kind in "iu":
        yield "an enumeration, shown as numbers"
    if array is not None and array.shape[:1] == (1,) and alone and not netcdf:
        yield "an array of one value, shown as that value, since xarray decodes no lists"


def item_to_json(tid: h5t.TypeID, item: object, to_json: Callable[[object], JSON]) -> JSON:
    """Return one element, or one member of a compound, as JSON; `to_json` translates what has no parts."""
    type_class = tid.get_class()
    if type_class in (h5t.VLEN, h5t.ARRAY):
        base, inner = tid.get_super(), np.asarray(item)
        if type_class == h5t.VLEN:
            inner = inner.reshape(-1)
        return nest(inner, [item_to_json(base, element, to_json) for element in inner.ravel()])
    if isinstance(item, np.void) and item.dtype.names:
        members = enumerate(item.dtype.names)
        return {name: item_to_json(tid.get_member_type(i), item[name], to_json) for i, name in members}
    return to_json(item)


def nest(array: Array, flat: list[JSON]) -> JSON:
    """Return flat items in nested lists of the array's shape."""
    nested = np.empty(array.size, object)
    for i, item in enumerate(flat):  # numpy would take lists of one length for another dimension
        nested[i] = item
    return cast("JSON", nested.reshape(array.shape).tolist())
