"""Whether a chunk's stored bytes, filters undone, are those that Zarr stores: if not, the reason.

HDF5 converts while it reads wherever the stored type is not the one in memory: padding of strings, unused
bits, floats of its own making. Such chunks have to be decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import uuid4

import h5py
import numpy as np
from h5py import h5s, h5t

from h5bound.hdf5.datatypes import is_ieee, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable


Array: TypeAlias = "np.ndarray[Any, Any]"

DType: TypeAlias = "np.dtype[Any]"


def read_block(dataset: h5py.Dataset, region: tuple[slice, ...]) -> Array:
    """Return ``dataset[region]``, also where h5py refuses: opaque types with a tag that is not its own.

    Parameters
    ----------
    dataset
        An open dataset with a dataspace that is not null.
    region
        One slice without a step for each dimension.
    """
    tid = dataset.id.get_type()
    if not is_opaque_only(tid):
        return np.asarray(dataset[region]) if region else _read_scalar(dataset)
    starts, stops, _ = zip(*(s.indices(n) for s, n in zip(region, dataset.shape, strict=True)), strict=True)
    shape = tuple(max(0, stop - start) for start, stop in zip(starts, stops, strict=True))
    file_space = dataset.id.get_space()
    file_space.select_hyperslab(starts, shape)
    read = np.zeros(shape, np.dtype(("V", tid.get_size())))
    dataset.id.read(h5s.create_simple(shape), file_space, read, tid)
    return as_elements(read, dataset.dtype)


def is_opaque_only(tid: h5t.TypeID) -> bool:
    """Tell whether h5py reads a type only as bytes, for it has no memory type that HDF5 converts to.

    HDF5 converts an opaque type to one of the same tag only, and h5py drops the tag.
    """
    return _has_foreign_opaque(tid) and not conversion_reason(tid, tid.dtype)


def memory_file() -> h5py.File:
    """Return a new file in memory that meets no other: HDF5 refuses a name that is open."""
    return h5py.File(f"h5bound-{uuid4()}", "w", driver="core", backing_store=False)


def as_elements(read: Array, dtype: DType) -> Array:
    """Return elements read as bytes with their type, the dimensions of an array type last."""
    dims = () if dtype.subdtype is None else dtype.shape
    return np.frombuffer(bytearray(read.tobytes()), dtype.base).reshape(read.shape + dims)


def _read_scalar(dataset: h5py.Dataset) -> Array:
    """Return the value of a scalar dataset, 0-d: a sequence as one element, an array type with its dimensions."""
    dtype = dataset.dtype
    if dtype.subdtype is not None:
        return np.asarray(dataset[()])
    held = np.empty(1, dtype)
    held[0] = dataset[()]
    return held.reshape(())


def _has_foreign_opaque(tid: h5t.TypeID) -> bool:
    found = tid.get_class()
    if found == h5t.OPAQUE:
        return not tid.equal(h5t.py_create(tid.dtype, logical=True))
    if found == h5t.COMPOUND:
        return any(_has_foreign_opaque(tid.get_member_type(i)) for i in range(tid.get_nmembers()))
    return found == h5t.ARRAY and _has_foreign_opaque(tid.get_super())


def conversion_reason(tid: h5t.TypeID, source: DType) -> str:
    """Say why h5py's bytes are not the stored ones; "" where they are."""
    check = _CHECKS.get(tid.get_class())
    return "" if check is None else check(tid, source)


def repacking_reason(source: DType, dtype: DType) -> str:
    """Say why the packed compound has other bytes than h5py's; "" where it has the same."""
    if source == dtype:
        return ""
    if source.itemsize != dtype.itemsize:
        return "the compound is padded"
    if dtype.names is None:
        as_bytes = dtype.kind == "V" and packed_dtype(source) == source
        as_integers = source.kind in "mM" and dtype.kind == "i" and dtype.isnative == source.isnative
        return "" if as_bytes or as_integers else "members of the compound have another byte order"
    before = cast("dict[str, tuple[DType, int]]", source.fields)
    after = cast("dict[str, tuple[DType, int]]", dtype.fields)
    for name in dtype.names:
        if before[name][1] != after[name][1]:
            return "members of the compound stand in another order"
        reason = repacking_reason(before[name][0], after[name][0])
        if reason:
            return reason
    return ""


def packed_dtype(dtype: DType) -> DType:
    """Return the same type without padding between members."""
    if dtype.subdtype is not None:
        return np.dtype((packed_dtype(dtype.base), dtype.shape))
    if dtype.names is not None:
        return np.dtype([(name, packed_dtype(dtype[name])) for name in dtype.names])
    return dtype


def _of_integer(tid: h5t.TypeIntegerID, source: DType) -> str:
    return "" if is_whole(tid) and tid.get_size() == source.itemsize else "integers with unused bits"


def _of_float(tid: h5t.TypeFloatID, source: DType) -> str:
    return "" if is_ieee(tid) and tid.get_size() == source.itemsize else "floats that are not IEEE 754"


def _of_string(tid: h5t.TypeStringID, source: DType) -> str:
    if tid.get_strpad() == h5t.STR_SPACEPAD:
        return "space-padded strings"
    if tid.get_strpad() == h5t.STR_NULLTERM and source.itemsize > 1:
        return "null-terminated strings may hide bytes behind their end"
    return ""


def _of_enum(tid: h5t.TypeEnumID, source: DType) -> str:
    if source.kind == "b":
        return "" if tid.get_super().equal(h5t.STD_I8LE) else "booleans not stored as int8"
    return conversion_reason(tid.get_super(), source)


def _of_complex(tid: h5t.TypeComplexID, source: DType) -> str:
    part = np.dtype(f"{'>' if source.byteorder == '>' else '<'}f{source.itemsize // 2}")
    return conversion_reason(tid.get_super(), part)


def _of_compound(tid: h5t.TypeCompoundID, source: DType) -> str:
    if tid.get_size() != source.itemsize:
        return "the compound has another size in memory"
    if source.kind == "c":
        half = np.dtype(f"{'>' if source.byteorder == '>' else '<'}f{source.itemsize // 2}")
        members = [("r", half, 0), ("i", half, half.itemsize)]
    else:
        fields = cast("dict[str, tuple[DType, int]]", source.fields)
        members = [(name, *fields[name][:2]) for name in source.names or ()]
    for i, (_, member, offset) in enumerate(members):
        if offset != tid.get_member_offset(i):
            return "the compound is laid out otherwise in memory"
        reason = conversion_reason(tid.get_member_type(i), member)
        if reason:
            return reason
    return ""


def _of_array(tid: h5t.TypeArrayID, source: DType) -> str:
    base = tid.get_super()
    return conversion_reason(base, source if base.get_class() == h5t.ARRAY else source.base)


def _of_pointer(_tid: h5t.TypeID, _source: DType) -> str:
    return "variable-length data and references are stored outside the chunks"


_CHECKS: dict[int, Callable[[Any, DType], str]] = {
    h5t.INTEGER: _of_integer,
    h5t.BITFIELD: _of_integer,
    h5t.FLOAT: _of_float,
    h5t.STRING: _of_string,
    h5t.ENUM: _of_enum,
    h5t.COMPLEX: _of_complex,
    h5t.COMPOUND: _of_compound,
    h5t.ARRAY: _of_array,
    h5t.VLEN: _of_pointer,
    h5t.REFERENCE: _of_pointer,
}
