"""The numpy type of an HDF5 type, and the HDF5 type by which h5py reads it.

A type that numpy or h5py does not have is read as the bytes that are in the file: times (H5T_TIME), integers of 3 or 16
bytes, floats that no type of numpy can hold, bit fields with unused bits, opaque types with a tag. So is a member of
a compound, between others that h5py reads as usual.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import COMPLEX, READ_ERRORS, describe
from h5bound.hdf5.datatypes import SIMPLE, has_every_bit, strip_arrays
from h5bound.hdf5.type_json import describe_class

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DType: TypeAlias = "np.dtype[Any]"

BYTES_OF = "h5bound"
"""The key in the metadata of a type of bytes that says what they are in HDF5."""

_NUMBERS = (h5t.INTEGER, h5t.FLOAT, COMPLEX, h5t.ENUM)


def read_dtype(tid: h5t.TypeID) -> DType:
    """Return the numpy type of an HDF5 type: that of h5py, or bytes where it has none. Raise UnsupportedError if none.

    >>> read_dtype(h5t.STD_I16BE), read_dtype(h5t.UNIX_D64LE)
    (dtype('>i2'), dtype('V8'))
    """
    if tid.get_class() in SIMPLE:
        return _read_known(tid.encode())
    return _read_dtype(tid)


@lru_cache(1024)
def _read_known(encoded: bytes) -> DType:
    """Return the type of numbers or text by the bytes of the HDF5 type: files of one kind have the same ones."""
    return _read_dtype(h5t.decode(encoded))


def _read_dtype(tid: h5t.TypeID) -> DType:
    try:
        if is_bytes(tid):
            return _bytes_dtype(tid)
        if tid.get_class() == h5t.ARRAY:  # h5py's type for arrays of arrays has an array as its base
            base, dims = strip_arrays(tid)
            return np.dtype((read_dtype(base), dims))
        if not holds_bytes(tid):
            return cast("DType", tid.dtype)
        return _CONTAINERS[tid.get_class()](tid)
    except UnicodeDecodeError as error:
        raise UnsupportedError("h5py cannot read a compound with a member name that is not UTF-8") from error
    except READ_ERRORS as error:
        raise UnsupportedError(f"h5py has no type for {describe_class(tid)} ({describe(error)})") from error


def memory_type(tid: h5t.TypeID) -> h5t.TypeID:
    """Return the HDF5 type of an element in memory once it is read as :func:`read_dtype` says."""
    if not holds_bytes(tid):
        return h5t.py_create(tid.dtype)
    type_class = tid.get_class()
    if type_class == h5t.ARRAY:
        return h5t.array_create(memory_type(tid.get_super()), tid.get_array_dims())
    if type_class != h5t.COMPOUND:
        return tid
    memory = h5t.create(h5t.COMPOUND, tid.get_size())
    for i in range(tid.get_nmembers()):
        memory.insert(tid.get_member_name(i), tid.get_member_offset(i), memory_type(tid.get_member_type(i)))
    return memory


def replace_bitfields(tid: h5t.TypeID) -> h5t.TypeID:
    """Return a type with integers in place of bit fields that use every bit: they have the same bytes.

    A compound with gaps is not changed: HDF5 copies what is in the gaps only if it has nothing to convert.

    >>> replace_bitfields(h5t.STD_B8LE).equal(h5t.STD_U8LE)
    True
    """
    type_class = tid.get_class()
    if type_class == h5t.BITFIELD and has_every_bit(tid):
        return h5t.py_create(tid.dtype)
    if type_class == h5t.ARRAY:
        return h5t.array_create(replace_bitfields(tid.get_super()), tid.get_array_dims())
    members = [tid.get_member_type(i) for i in range(tid.get_nmembers())] if type_class == h5t.COMPOUND else []
    if not members or sum(member.get_size() for member in members) != tid.get_size():
        return tid
    replaced = h5t.create(h5t.COMPOUND, tid.get_size())
    for i, member in enumerate(members):
        replaced.insert(tid.get_member_name(i), tid.get_member_offset(i), replace_bitfields(member))
    return replaced


def holds_bytes(tid: h5t.TypeID) -> bool:
    """Return whether a type, or one in it, is read as the bytes of the file."""
    type_class = tid.get_class()
    if type_class == h5t.COMPOUND:
        return any(holds_bytes(tid.get_member_type(i)) for i in range(tid.get_nmembers()))
    return holds_bytes(tid.get_super()) if type_class in (h5t.ARRAY, h5t.VLEN) else is_bytes(tid)


def is_bytes(tid: h5t.TypeID) -> bool:
    """Return whether a type without others in it is read as the bytes of the file."""
    return _is_known_bytes(tid.encode()) if tid.get_class() in SIMPLE else _is_bytes(tid)


@lru_cache(1024)
def _is_known_bytes(encoded: bytes) -> bool:
    return _is_bytes(h5t.decode(encoded))


def _is_bytes(tid: h5t.TypeID) -> bool:
    type_class = tid.get_class()
    if type_class == h5t.BITFIELD:
        return not has_every_bit(tid) or bool(tid.equal(h5t.STD_B8BE))  # h5py has no conversion of that one
    if type_class not in (*_NUMBERS, h5t.OPAQUE):
        return bool(type_class == h5t.TIME)
    if type_class == h5t.ENUM and tid.get_size() > 8:  # h5py writes past its room for a value
        return True
    try:
        dtype = tid.dtype
    except READ_ERRORS:
        return True
    if type_class == h5t.OPAQUE:  # HDF5 converts it only to one of the same tag, which h5py drops unless it is a time
        return bool(dtype.kind not in "VmM" or not tid.equal(h5t.py_create(dtype, logical=True)))
    return bool(dtype.itemsize > (16 if dtype.kind == "c" else 8) and not tid.equal(h5t.py_create(dtype)))


def is_only_bytes(tid: h5t.TypeID) -> bool:
    """Return whether Zarr has a type without others in it only as bytes: what numpy lacks, and long doubles."""
    type_class = tid.get_class()
    is_long = (type_class == h5t.FLOAT and tid.get_size() > 8) or (type_class == COMPLEX and tid.get_size() > 16)
    return is_long or (type_class != h5t.OPAQUE and is_bytes(tid) and read_dtype(tid).kind == "V")


def describe_bytes(dtype: DType) -> str:
    """Return what the bytes of a type are in HDF5, like "128-bit integer"; "" for other types."""
    metadata: Mapping[str, str] = dtype.metadata or {}
    return metadata.get(BYTES_OF, "")


def _bytes_dtype(tid: h5t.TypeID) -> DType:
    if tid.get_class() == h5t.OPAQUE:
        return np.dtype(f"V{tid.get_size()}")
    if tid.get_class() == h5t.BITFIELD and tid.get_size() in (1, 2, 4, 8):
        return cast("DType", tid.dtype)
    return np.dtype(f"V{tid.get_size()}", metadata={BYTES_OF: describe_class(tid)})


def _compound_dtype(tid: h5t.TypeCompoundID) -> DType:
    members = range(tid.get_nmembers())
    return np.dtype(
        {
            "names": [tid.get_member_name(i).decode("utf-8") for i in members],
            "formats": [read_dtype(tid.get_member_type(i)) for i in members],
            "offsets": [tid.get_member_offset(i) for i in members],
            "itemsize": tid.get_size(),
        }
    )


_CONTAINERS: dict[int, Callable[[Any], DType]] = {
    h5t.COMPOUND: _compound_dtype,
    h5t.VLEN: lambda tid: h5py.vlen_dtype(read_dtype(tid.get_super())),
}
