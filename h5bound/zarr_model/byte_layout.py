"""Find out whether a decoded chunk of HDF5 has the bytes of the Zarr chunk, and if not, why.

HDF5 converts values if the type in the file is not the one in memory: padding of strings, unused bits, floats
that are not IEEE 754. Such chunks must be decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from h5py import h5t

from h5bound.h5py_compat import COMPLEX
from h5bound.hdf5.datatypes import has_every_bit, is_ieee
from h5bound.hdf5.element_types import is_bytes

if TYPE_CHECKING:
    from collections.abc import Callable


Array: TypeAlias = "np.ndarray[Any, Any]"

DType: TypeAlias = "np.dtype[Any]"


def conversion_reason(tid: h5t.TypeID, source: DType) -> str:
    """Return why h5py's bytes (of type `source`) differ from those in the file; "" if they do not."""
    find_reason = None if is_bytes(tid) else _REASONS.get(tid.get_class())
    return find_reason(tid, source) if find_reason else ""


def repacking_reason(source: DType, dtype: DType) -> str:
    """Return why the packed compound `dtype` has other bytes than h5py's `source`; "" if it has the same."""
    if source == dtype:
        return ""
    if source.itemsize != dtype.itemsize:
        return "the compound is padded"
    if dtype.names is None:
        as_bytes = dtype.kind == "V" and source.kind in "Vfc"
        as_integers = source.kind in "mM" and dtype.kind == "i" and dtype.isnative == source.isnative
        return "" if as_bytes or as_integers else "members of the compound have another byte order"
    before = cast("dict[str, tuple[DType, int]]", source.fields)
    after = cast("dict[str, tuple[DType, int]]", dtype.fields)
    for name in dtype.names:
        if before[name][1] != after[name][1]:
            return "members of the compound have another order"
        reason = repacking_reason(before[name][0], after[name][0])
        if reason:
            return reason
    return ""


def _integer_reason(tid: h5t.TypeID, source: DType) -> str:
    return "" if has_every_bit(tid) and tid.get_size() == source.itemsize else "integers with unused bits"


def _string_reason(tid: h5t.TypeStringID, source: DType) -> str:
    if tid.get_strpad() == h5t.STR_SPACEPAD:
        return "space-padded strings"
    if tid.get_strpad() == h5t.STR_NULLTERM and source.itemsize > 1:
        return "null-terminated strings may hold bytes after their end"
    return ""


def _enum_reason(tid: h5t.TypeEnumID, source: DType) -> str:
    if source.kind == "b":
        return "" if tid.get_super().equal(h5t.STD_I8LE) else "booleans not stored as int8"
    return conversion_reason(tid.get_super(), source)


def _complex_part(source: DType) -> DType:
    return np.dtype(f"{'>' if source.byteorder == '>' else '<'}f{source.itemsize // 2}")


def _compound_reason(tid: h5t.TypeCompoundID, source: DType) -> str:
    if tid.get_size() != source.itemsize:
        return "the compound has another size in memory"
    if source.kind == "c":
        part = _complex_part(source)
        members = [(part, 0), (part, part.itemsize)]
    else:
        fields = cast("dict[str, tuple[DType, int]]", source.fields)
        members = [fields[name][:2] for name in source.names or ()]
    for i, (member, offset) in enumerate(members):
        if offset != tid.get_member_offset(i):
            return "the compound has another layout in memory"
        reason = conversion_reason(tid.get_member_type(i), member)
        if reason:
            return reason
    return ""


_REASONS: dict[int, Callable[[Any, DType], str]] = {
    h5t.INTEGER: _integer_reason,
    h5t.BITFIELD: _integer_reason,
    h5t.FLOAT: lambda tid, source: (
        ""
        if tid.equal(h5t.py_create(source)) or (is_ieee(tid) and tid.get_size() == source.itemsize)
        else "floats that are not IEEE 754"
    ),
    h5t.STRING: _string_reason,
    h5t.ENUM: _enum_reason,
    COMPLEX: lambda tid, source: conversion_reason(tid.get_super(), _complex_part(source)),
    h5t.COMPOUND: _compound_reason,
    h5t.ARRAY: lambda tid, source: conversion_reason(tid.get_super(), source.base),
    h5t.VLEN: lambda _tid, _source: "variable-length data are stored outside the chunks",
    h5t.REFERENCE: lambda _tid, _source: "references are stored outside the chunks",
}
