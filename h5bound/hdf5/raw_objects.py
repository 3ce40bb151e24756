"""Values of variable length that h5py cannot read, made from what HDF5 leaves in memory.

h5py 3.16 fails on sequences of compounds with text, references or sequences, and writes past its buffer where the
elements of a sequence are of a type that it does not have. HDF5 itself reads them into C structures: the number of
elements and a pointer for a sequence, a pointer for text. Their bytes are copied here, and HDF5 frees them.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
from h5py import h5s, h5t

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import find_library, memory_file, reclaim
from h5bound.hdf5.datatypes import has_region_references
from h5bound.hdf5.element_types import holds_bytes, memory_type, read_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = "np.ndarray[Any, Any]"

SEQUENCE = np.dtype([("length", np.uintp), ("address", np.uintp)])
"""A sequence in memory (``hvl_t``)."""


def needs_raw(tid: h5t.TypeID) -> bool:
    """Return whether h5py cannot read a type because of what is in its sequences."""
    type_class = tid.get_class()
    if type_class == h5t.COMPOUND:
        return any(needs_raw(tid.get_member_type(i)) for i in range(tid.get_nmembers()))
    if type_class == h5t.ARRAY:
        return needs_raw(tid.get_super())
    return type_class == h5t.VLEN and (holds_bytes(tid) or _holds_objects(tid.get_super(), inside=False))


def is_read_raw(tid: h5t.TypeID) -> bool:
    """Return whether h5py alone does not read a type."""
    return needs_raw(tid) or holds_bytes(tid)


def read_raw(read: Callable[[Array, h5t.TypeID], None], tid: h5t.TypeID, space: h5s.SpaceID) -> Array:
    """Return elements as h5py would. `read` reads those of a dataspace into an array, as an HDF5 type in memory."""
    if has_region_references(tid):
        raise UnsupportedError("region references within sequences")
    if find_library() is None:
        raise UnsupportedError("sequences of this type are read through HDF5 itself, which was not found")
    dtype, shape = read_dtype(tid), space.shape
    raw = np.zeros(shape, f"V{tid.get_size()}")
    read(raw, tid)
    try:
        values = make_objects(raw.reshape(-1), tid)
    finally:
        reclaim(raw, tid, space)
    return values.reshape(shape + dtype.shape)


def make_objects(raw: Array, tid: h5t.TypeID) -> Array:
    """Return the values of flat elements that HDF5 left in memory, whose bytes are `raw`."""
    if not holds_pointers(tid):
        return _convert(raw, tid)
    return _MAKERS[tid.get_class()](raw, tid)


def holds_pointers(tid: h5t.TypeID) -> bool:
    """Return whether values of a type are, or have in them, Python objects."""
    type_class = tid.get_class()
    if type_class == h5t.COMPOUND:
        return any(holds_pointers(tid.get_member_type(i)) for i in range(tid.get_nmembers()))
    if type_class == h5t.ARRAY:
        return holds_pointers(tid.get_super())
    return type_class in (h5t.VLEN, h5t.REFERENCE) or (isinstance(tid, h5t.TypeStringID) and tid.is_variable_str())


def _holds_objects(tid: h5t.TypeID, *, inside: bool) -> bool:
    """Return whether a type has a compound in it that holds objects."""
    type_class = tid.get_class()
    if type_class == h5t.COMPOUND:
        return any(_holds_objects(tid.get_member_type(i), inside=True) for i in range(tid.get_nmembers()))
    if type_class in (h5t.ARRAY, h5t.VLEN) and not inside:
        return _holds_objects(tid.get_super(), inside=inside)
    return inside and holds_pointers(tid)


def _convert(raw: Array, tid: h5t.TypeID) -> Array:
    """Return elements of a fixed size, as HDF5 converts them to the type that h5py has."""
    dtype, memory = read_dtype(tid), memory_type(tid)
    data = bytearray(raw.tobytes())
    if not tid.equal(memory):
        buffer = np.zeros(max(raw.itemsize, memory.get_size()) * len(raw), np.uint8)
        buffer[: len(data)] = np.frombuffer(data, np.uint8)
        h5t.convert(tid, memory, len(raw), buffer, np.zeros_like(buffer))
        data = bytearray(buffer.tobytes()[: memory.get_size() * len(raw)])
    return np.frombuffer(data, dtype.base).reshape(len(raw), *dtype.shape)


def _make_compounds(raw: Array, tid: h5t.TypeCompoundID) -> Array:
    dtype = read_dtype(tid)
    values = np.zeros(len(raw), dtype)
    data = np.frombuffer(raw.tobytes(), np.uint8).reshape(len(raw), raw.itemsize)
    for i, name in enumerate(dtype.names or ()):
        member, start = tid.get_member_type(i), tid.get_member_offset(i)
        part = np.ascontiguousarray(data[:, start : start + member.get_size()])
        values[name] = make_objects(part.view(f"V{member.get_size()}").reshape(-1), member)
    return values


def _make_arrays(raw: Array, tid: h5t.TypeArrayID) -> Array:
    base = tid.get_super()
    items = np.frombuffer(raw.tobytes(), f"V{base.get_size()}")
    values = make_objects(items, base)
    return values.reshape(len(raw), *tid.get_array_dims(), *values.shape[1:])


def _make_sequences(raw: Array, tid: h5t.TypeVlenID) -> Array:
    base = tid.get_super()
    descriptors, size = np.frombuffer(raw.tobytes(), SEQUENCE), base.get_size()
    pairs = [(int(length), int(address)) for length, address in descriptors.tolist()]
    data = b"".join(ctypes.string_at(address, length * size) for length, address in pairs if length)
    joined = make_objects(np.frombuffer(data, f"V{size}"), base)
    values = np.empty(len(raw), object)
    start = 0
    for i, (length, _) in enumerate(pairs):
        values[i] = joined[start : start + length].copy()
        start += length
    return values


def _make_text(raw: Array, _tid: h5t.TypeID) -> Array:
    values = np.empty(len(raw), object)
    values[:] = [ctypes.string_at(a) if a else b"" for a in np.frombuffer(raw.tobytes(), np.uintp).tolist()]
    return values


def _make_references(raw: Array, tid: h5t.TypeReferenceID) -> Array:
    """Return references that h5py has made of their bytes, in a file of its own."""
    with memory_file() as file:
        dataset = file.create_dataset("r", (len(raw),), h5py.ref_dtype)
        if len(raw):
            dataset.id.write(h5s.ALL, h5s.ALL, np.frombuffer(bytearray(raw.tobytes()), "V8"), tid)
        values: Array = dataset[()]
    return values


_MAKERS: dict[int, Callable[[Array, Any], Array]] = {
    h5t.COMPOUND: _make_compounds,
    h5t.ARRAY: _make_arrays,
    h5t.VLEN: _make_sequences,
    h5t.STRING: _make_text,
    h5t.REFERENCE: _make_references,
}
