"""HDF5 datatypes as JSON, complete enough to create the type again.

A type with a numpy code is that code (``"<i4"``, ``">f8"``). Every other type is an object whose ``class`` names its
HDF5 class. Text that is not UTF-8 is ``{"base64": …}``, so the JSON is always valid UTF-8.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from h5py import h5t

from h5bound.h5py_compat import COMPLEX, read_type_number
from h5bound.hdf5.datatypes import enum_members, has_every_bit, is_ieee
from h5bound.hdf5.links import decode_name, encode_name

if TYPE_CHECKING:
    from collections.abc import Callable

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_STRPAD = {h5t.STR_NULLTERM: "null-terminated", h5t.STR_NULLPAD: "null-padded", h5t.STR_SPACEPAD: "space-padded"}
_CSET = {h5t.CSET_ASCII: "ascii", h5t.CSET_UTF8: "utf-8"}

TEXT_TYPE: JSON = {"class": "string", "nbytes": "variable", "strpad": "null-terminated", "cset": "utf-8"}
"""The JSON form of variable-length UTF-8 text."""

_ORDER = {h5t.ORDER_LE: "little", h5t.ORDER_BE: "big"}


def encode_base64(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def text_to_json(text: str | bytes) -> JSON:
    r"""Return text as a JSON string, or as ``{"base64": …}`` if it is not UTF-8.

    >>> text_to_json("naïve")
    'naïve'
    >>> text_to_json(b"\xff")
    {'base64': '/w=='}
    """
    raw = encode_name(text)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": encode_base64(raw)}


def text_from_json(json: JSON) -> str:
    r"""Return the text of :func:`text_to_json`; bytes that are not UTF-8 are lone surrogates (``surrogateescape``).

    >>> text_from_json({"base64": "/w=="})
    '\udcff'
    """
    raw = base64.b64decode(cast("str", json["base64"])) if isinstance(json, dict) else cast("str", json).encode()
    return decode_name(raw)


def type_to_json(tid: h5t.TypeID) -> JSON:
    """Return an HDF5 datatype as JSON.

    >>> type_to_json(h5t.STD_I16BE)
    '>i2'
    >>> type_to_json(h5t.STD_B8LE)
    {'class': 'bitfield', 'nbytes': 1, 'order': 'little'}
    """
    to_json = _TO_JSON.get(tid.get_class())
    return {"class": "unknown", "nbytes": tid.get_size()} if to_json is None else to_json(tid)


def describe_class(tid: h5t.TypeID) -> str:
    """Return what an HDF5 type is, in words.

    >>> describe_class(h5t.UNIX_D64LE), describe_class(h5t.IEEE_F16BE)
    ('64-bit time', '16-bit float')
    """
    type_class, bits = tid.get_class(), 8 * tid.get_size()
    if type_class == h5t.FLOAT and tid.get_size() > 8 and tid.get_precision() == 80:  # padded to 12 or 16 bytes
        return "80-bit long double"
    if type_class in (h5t.ENUM, COMPLEX):
        kind = "enumeration" if type_class == h5t.ENUM else "complex number"
        return f"{kind} of {describe_class(tid.get_super())}s"
    json = type_to_json(tid)
    names = {h5t.INTEGER: "integer", h5t.FLOAT: "float", h5t.TIME: "time", h5t.BITFIELD: "bit field"}
    if type_class in names:
        return f"{bits}-bit {names[type_class]}"
    return str(json["class"] if isinstance(json, dict) else json)


def enum_to_json(tid: h5t.TypeEnumID) -> JSON:
    """Return names and values of an enumeration: an object, or pairs where a name is not UTF-8."""
    names: list[tuple[JSON, int]] = [(text_to_json(name), value) for name, value in enum_members(tid)]
    if all(isinstance(name, str) for name, _ in names):
        return {cast("str", name): value for name, value in names}
    return [[name, value] for name, value in names]


def _number(tid: h5t.TypeAtomicID, kind: str) -> str:
    order = ">" if tid.get_order() == h5t.ORDER_BE else "<"
    return np.dtype(f"{order}{kind}{tid.get_size()}").str


def _order(tid: h5t.TypeAtomicID) -> str:
    return _ORDER.get(tid.get_order(), "other")


def _bitfield_to_json(tid: h5t.TypeBitfieldID) -> JSON:
    json: dict[str, JSON] = {"class": "bitfield", "nbytes": tid.get_size(), "order": _order(tid)}
    if has_every_bit(tid):
        return json
    return json | {
        "precision": read_type_number("H5Tget_precision", tid),
        "offset": read_type_number("H5Tget_offset", tid),
    }


def _time_to_json(tid: h5t.TypeTimeID) -> JSON:
    order = _ORDER.get(read_type_number("H5Tget_order", tid), "other")
    return {"class": "time", "nbytes": tid.get_size(), "order": order}


def _bits(tid: h5t.TypeAtomicID) -> dict[str, JSON]:
    return {"nbytes": tid.get_size(), "precision": tid.get_precision(), "offset": tid.get_offset()}


def _integer_to_json(tid: h5t.TypeIntegerID) -> JSON:
    signed = tid.get_sign() == h5t.SGN_2
    if has_every_bit(tid):
        return _number(tid, "i" if signed else "u")
    return {"class": "integer", **_bits(tid), "signed": signed, "order": _order(tid)}


def _float_to_json(tid: h5t.TypeFloatID) -> JSON:
    if is_ieee(tid):
        return _number(tid, "f")
    fields: JSON = list(tid.get_fields())
    return {"class": "float", **_bits(tid), "fields": fields, "bias": tid.get_ebias(), "order": _order(tid)}


def _string_to_json(tid: h5t.TypeStringID) -> JSON:
    nbytes: JSON = "variable" if tid.is_variable_str() else tid.get_size()
    return {
        "class": "string",
        "nbytes": nbytes,
        "strpad": _STRPAD.get(tid.get_strpad(), "other"),
        "cset": _CSET.get(tid.get_cset(), "other"),
    }


def _compound_to_json(tid: h5t.TypeCompoundID) -> JSON:
    members: list[JSON] = []
    for i in range(tid.get_nmembers()):
        name, member = text_to_json(tid.get_member_name(i)), type_to_json(tid.get_member_type(i))
        members.append({"name": name, "offset": tid.get_member_offset(i), "type": member})
    return {"class": "compound", "nbytes": tid.get_size(), "members": members}


def _reference_to_json(tid: h5t.TypeReferenceID) -> JSON:
    kinds = {"object": h5t.STD_REF_OBJ, "region": h5t.STD_REF_DSETREG}
    return {"class": "reference", "kind": next((k for k, t in kinds.items() if tid.equal(t)), "other")}


_TO_JSON: dict[int, Callable[[Any], JSON]] = {
    h5t.INTEGER: _integer_to_json,
    h5t.FLOAT: _float_to_json,
    h5t.BITFIELD: _bitfield_to_json,
    h5t.STRING: _string_to_json,
    h5t.OPAQUE: lambda tid: {"class": "opaque", "nbytes": tid.get_size(), "tag": text_to_json(tid.get_tag())},
    h5t.ENUM: lambda tid: {"class": "enum", "base": type_to_json(tid.get_super()), "members": enum_to_json(tid)},
    h5t.COMPOUND: _compound_to_json,
    h5t.ARRAY: lambda tid: {
        "class": "array",
        "shape": list(tid.get_array_dims()),
        "base": type_to_json(tid.get_super()),
    },
    h5t.VLEN: lambda tid: {"class": "vlen", "base": type_to_json(tid.get_super())},
    h5t.REFERENCE: _reference_to_json,
    COMPLEX: lambda tid: {"class": "complex", "base": type_to_json(tid.get_super())},
    h5t.TIME: _time_to_json,
}
