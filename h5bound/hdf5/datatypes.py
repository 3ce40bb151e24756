"""HDF5 datatypes: read, taken apart, and asked what they hold."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Literal

import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import read_member_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5py import h5a, h5d

SIMPLE = (h5t.INTEGER, h5t.FLOAT, h5t.STRING)
"""Classes of types without others in them, which are what their bytes say."""

MAX_NESTED = 32
"""Levels of types within types."""

_BITS = [getattr(h5t, f"STD_B{bits}{order}") for bits in (8, 16, 32, 64) for order in ("LE", "BE")]


def check_depth(tid: h5t.TypeID) -> None:
    """Raise UnsupportedError if a type is nested more than 32 levels deep: recursive functions would fail."""
    level = [tid]
    for _ in range(MAX_NESTED):
        level = [inner for outer in level for inner in list_inner(outer)]
        if not level:
            return
    raise UnsupportedError(f"its type is nested more than {MAX_NESTED} levels deep")


def read_type(source: h5d.DatasetID | h5a.AttrID) -> h5t.TypeID:
    """Return the type of an open dataset or attribute, with the members of compounds in the order of their offsets.

    The order in the file is not always to be seen: HDF5 sorts the type of an open dataset once a read converts it.
    Raise UnsupportedError if the type is nested too deeply.
    """
    tid = source.get_type()
    if tid.get_class() in SIMPLE:
        return tid
    check_depth(tid)
    return sort_members(tid)


def sort_members(tid: h5t.TypeID) -> h5t.TypeID:
    """Return a type with the members of all compounds in the order of their offsets."""
    type_class, before = tid.get_class(), list_inner(tid)
    inner = [sort_members(item) for item in before]
    is_compound = type_class == h5t.COMPOUND
    order = sorted(range(len(inner)), key=tid.get_member_offset) if is_compound else list(range(len(inner)))
    if order == list(range(len(inner))) and all(map(operator.is_, inner, before)):
        return tid
    if type_class == h5t.ARRAY:
        return h5t.array_create(inner[0], tid.get_array_dims())
    if type_class == h5t.VLEN:
        return h5t.vlen_create(inner[0])
    sorted_type = h5t.create(h5t.COMPOUND, tid.get_size())
    for i in order:
        sorted_type.insert(tid.get_member_name(i), tid.get_member_offset(i), inner[i])
    return sorted_type


def list_inner(tid: h5t.TypeID) -> list[h5t.TypeID]:
    """Return the types of a compound's members, or of the elements of an array or a sequence."""
    type_class = tid.get_class()
    if type_class == h5t.COMPOUND:
        return [tid.get_member_type(i) for i in range(tid.get_nmembers())]
    return [tid.get_super()] if type_class in (h5t.ARRAY, h5t.VLEN) else []


def list_leaves(tid: h5t.TypeID, member: str = "") -> Iterator[tuple[str, h5t.TypeID]]:
    """Yield each type without others in it, after the name of the member that it is of, "" for that of the whole.

    >>> kind = h5t.py_create([("a", "i4"), ("b", [("c", "2f8")])])
    >>> [(name, leaf.get_size()) for name, leaf in list_leaves(kind)]
    [('a', 4), ('b.c', 8)]
    """
    inner = list_inner(tid)
    names = [""] * len(inner)
    if tid.get_class() == h5t.COMPOUND:
        names = [tid.get_member_name(i).decode("utf-8", "surrogateescape") for i in range(len(inner))]
    for name, part in zip(names, inner, strict=True):
        yield from list_leaves(part, ".".join(filter(None, (member, name))))
    if not inner:
        yield member, tid


def strip_arrays(tid: h5t.TypeID) -> tuple[h5t.TypeID, tuple[int, ...]]:
    """Return the type of the elements of array types within one another, and the dimensions of all.

    >>> strip_arrays(h5t.array_create(h5t.array_create(h5t.STD_I8LE, (2,)), (3,)))[1]
    (3, 2)
    """
    dims: tuple[int, ...] = ()
    while tid.get_class() == h5t.ARRAY:
        dims += tid.get_array_dims()
        tid = tid.get_super()
    return tid, dims


def has_every_bit(tid: h5t.TypeIntegerID | h5t.TypeBitfieldID) -> bool:
    """Return whether an integer or bitfield uses every bit of 1, 2, 4 or 8 bytes."""
    if isinstance(tid, h5t.TypeBitfieldID):
        return any(tid.equal(bits) for bits in _BITS)
    size = tid.get_size()
    return bool(tid.get_precision() == 8 * size and tid.get_offset() == 0 and size in (1, 2, 4, 8))


_IEEE = tuple(h5t.py_create(np.dtype(f"{order}f{size}")) for order in "<>" for size in (2, 4, 8))


def is_ieee(tid: h5t.TypeFloatID) -> bool:
    """Return whether a float is IEEE 754 binary16, binary32 or binary64 in either byte order."""
    return any(tid.equal(ieee) for ieee in _IEEE if ieee.get_size() == tid.get_size())


def has_region_references(tid: h5t.TypeID) -> bool:
    """Return whether a type is, or holds, a reference that is not an object reference."""
    if tid.get_class() == h5t.REFERENCE:
        return not tid.equal(h5t.STD_REF_OBJ)
    return any(map(has_region_references, list_inner(tid)))


def check_references(tid: h5t.TypeID, *, in_sequence: bool = False) -> None:
    """Raise UnsupportedError if a type is, or holds, references that h5py cannot read."""
    if tid.get_class() == h5t.REFERENCE and not tid.equal(h5t.STD_REF_OBJ):
        if not tid.equal(h5t.STD_REF_DSETREG):
            raise UnsupportedError("h5py cannot read references of the kind that HDF5 has since version 1.12")
        if in_sequence:
            raise UnsupportedError("h5py crashes on sequences of region references")
    for inner in list_inner(tid):
        check_references(inner, in_sequence=in_sequence or tid.get_class() == h5t.VLEN)


def enum_members(tid: h5t.TypeEnumID) -> list[tuple[bytes, int]]:
    """Return names and values of an enumeration, in the order of the file."""
    names = [tid.get_member_name(i) for i in range(tid.get_nmembers())]
    if tid.get_size() <= 8:
        return [(name, int(tid.get_member_value(i))) for i, name in enumerate(names)]
    base = tid.get_super()
    order: Literal["big", "little"] = "big" if base.get_order() == h5t.ORDER_BE else "little"
    signed = base.get_sign() == h5t.SGN_2
    values = (int.from_bytes(read_member_value(tid, i), order, signed=signed) for i in range(len(names)))
    return list(zip(names, values, strict=True))
