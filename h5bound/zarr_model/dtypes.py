"""HDF5 datatypes translated to the element types of Zarr arrays, and their values, both ways.

A translation is exact or raises :class:`~h5bound.errors.UnsupportedError`. Byte order is kept: Zarr v3 has it in the
``bytes`` codec, v2 in the data type. :mod:`h5bound.zarr_model.structured` translates compounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import check_references, read_type, strip_arrays
from h5bound.hdf5.element_types import is_bytes, read_dtype
from h5bound.hdf5.links import encode_name
from h5bound.hdf5.type_json import JSON, TEXT_TYPE, enum_to_json, type_to_json
from h5bound.zarr_model.byte_layout import Array, DType, conversion_reason, repacking_reason
from h5bound.zarr_model.structured import STRING, TextWidths, pack, plan_dtype, texts, unpack

if TYPE_CHECKING:
    from h5bound.hdf5.references import Resolve


REFERENCES = ("object_reference", "region_reference")
"""Forms of values that lead to an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrType:
    """The element type of a Zarr array for one HDF5 datatype, and the conversion of values between the two."""

    form: Literal["plain", "string", "bytes", "object_reference", "region_reference", "group"]
    """``string``: variable-length text; ``bytes``: one that is not UTF-8. ``object_reference``: the target's path.
    ``region_reference``: JSON with the path and what is selected. ``group``: several arrays."""
    source: DType
    """Type of one element as h5py reads it, without the dimensions of an HDF5 array type."""
    dtype: DType
    """Type of one element of the Zarr array; StringDType for text, object for bytes; of a group that of `source`."""
    reason: str
    """Why a decoded HDF5 chunk has other bytes than the Zarr chunk; "" if they are equal."""
    details: dict[str, JSON] = field(default_factory=dict)
    """What the Zarr type does not say of the HDF5 type: names of an enumeration, members, padding of text."""
    element_shape: tuple[int, ...] = ()
    """Dimensions of the HDF5 array type, which follow the dataset's own."""

    def convert(self, block: Array, resolve: Resolve | None = None) -> Array:
        """Return the values for Zarr of a block of ``dataset[region]``.

        `resolve` returns the path of a reference's target (:class:`~h5bound.hdf5.references.ReferencePaths`). Raise
        UnsupportedError if a string is not UTF-8, or longer than when the type was translated.
        """
        if self.form == "bytes":
            strings = np.empty(block.shape, object)
            strings.reshape(-1)[:] = [encode_name(item or b"") for item in block.ravel().tolist()]
            return strings
        if self.form != "plain":
            return texts(block, resolve).reshape(block.shape)
        if self.dtype == self.source:
            return block
        if self.dtype.names is None:
            return np.asarray(block, order="C").view(self.dtype)
        out = np.zeros(block.shape, self.dtype)
        pack(block, out, resolve)
        return out

    def as_bytes(self) -> ZarrType:
        """Return this type of text with bytes in place of text."""
        return replace(self, form="bytes", dtype=np.dtype(object), details={"type": TEXT_TYPE, **self.details})

    def restore(self, block: Array) -> Array:
        """Return the values of h5py for values of Zarr. References, and text in compounds, stay text."""
        if self.form == "string":
            strings = np.empty(block.shape, object)
            strings.reshape(-1)[:] = [str(text).encode() for text in block.ravel()]
            return strings
        if self.form != "plain" or self.source.hasobject:
            return block
        stored = block.astype(self.dtype, copy=False)
        if self.dtype == self.source:
            return stored
        if self.dtype.names is None:
            return np.asarray(stored, order="C").view(self.source)
        out = np.zeros(block.shape, self.source)
        unpack(stored, out)
        return out


def translate_type(
    source: h5py.Dataset | h5t.TypeID, *, zarr_format: int = 3, resolve: Resolve | None = None
) -> ZarrType:
    """Return the Zarr type of an HDF5 dataset, or of a bare type.

    Only a dataset of compounds with variable-length strings or references is read, once, to find the longest. Raise
    UnsupportedError if Zarr, or h5py, has no exact form. The message is the reason alone: the caller knows the path.

    >>> translate_type(h5t.STD_I16BE).dtype
    dtype('>i2')
    >>> translate_type(h5t.STD_B16LE).reason
    ''
    """
    tid = read_type(source.id) if isinstance(source, h5py.Dataset) else source
    if tid.get_class() in (h5t.INTEGER, h5t.FLOAT):
        return _translate_number(tid.encode(), zarr_format)
    check_references(tid)
    base, shape = strip_arrays(tid)
    zarr_type = translate_element(base, TextWidths(source, resolve), zarr_format)
    if not shape:
        return zarr_type
    dims: list[JSON] = list(shape)
    details = {**zarr_type.details, "type": type_to_json(tid), "element_shape": dims}
    return replace(zarr_type, element_shape=shape, details=details)


@lru_cache(1024)
def _translate_number(encoded: bytes, zarr_format: int) -> ZarrType:
    """Return the Zarr type of numbers, by the bytes of their HDF5 type: files of one kind have the same ones."""
    tid = h5t.decode(encoded)
    return translate_element(tid, TextWidths(tid, None), zarr_format)


def translate_element(tid: h5t.TypeID, widths: TextWidths, zarr_format: int) -> ZarrType:
    """Return the Zarr type of elements that are not of an array type; `widths` are those of text in compounds."""
    type_class = tid.get_class()
    if type_class in (h5t.REFERENCE, h5t.VLEN) or (type_class == h5t.STRING and tid.is_variable_str()):
        return _translate_pointer(tid)
    source = read_dtype(tid)
    dtype = plan_dtype(source, tid, widths, zarr_format=zarr_format)
    if dtype.metadata is not None:  # annotations, which zarr does not expect
        dtype = np.dtype(dtype.str)
    reason = conversion_reason(tid, source) or repacking_reason(source, dtype)
    plain = ZarrType(form="plain", source=source, dtype=dtype, reason=reason)
    if type_class == h5t.ENUM and source.kind in "iu":
        return replace(plain, details={"enum": enum_to_json(tid)})
    if dtype.names or dtype.kind == "V":
        return replace(plain, details={"type": type_to_json(tid)})
    return replace(plain, details={"type": type_to_json(tid)}) if _needs_details(tid, source) else plain


def _translate_pointer(tid: h5t.TypeID) -> ZarrType:
    """Return the Zarr type of elements that HDF5 stores outside the chunks."""
    json, source = type_to_json(tid), np.dtype(object)
    if tid.get_class() == h5t.STRING:
        reason = "variable-length strings are stored outside the chunks"
        details = {} if json == TEXT_TYPE else {"type": json}
        return ZarrType(form="string", source=source, dtype=STRING, reason=reason, details=details)
    if tid.get_class() == h5t.REFERENCE:
        to_object = tid.equal(h5t.STD_REF_OBJ)
        return ZarrType(
            form="object_reference" if to_object else "region_reference",
            source=source,
            dtype=STRING,
            reason=f"{'object' if to_object else 'region'} references are stored as addresses",
            details={"type": json},
        )
    raise UnsupportedError("sequences become several arrays")


def _needs_details(tid: h5t.TypeID, source: DType) -> bool:
    """Return whether the Zarr type alone does not determine the HDF5 type."""
    if isinstance(type_to_json(tid), str):
        return False
    if tid.get_class() == h5t.STRING:  # one byte has no room for padding: netCDF's char
        return bool(source.itemsize > 1 or tid.get_cset() != h5t.CSET_ASCII)
    return is_bytes(tid) or not tid.equal(h5t.py_create(source, logical=True))
