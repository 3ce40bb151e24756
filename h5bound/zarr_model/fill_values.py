"""The fill value of an HDF5 dataset in Zarr, bit for bit."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

import h5py
import numpy as np
from h5py import h5d

from h5bound.buffers import same_bits
from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import is_bytes, read_dtype
from h5bound.hdf5.type_json import encode_base64
from h5bound.reader.via_h5py import read_unwritten, reading
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from h5bound.hdf5.type_json import JSON
    from h5bound.zarr_model.byte_layout import Array, DType


@dataclass(frozen=True, slots=True)
class FillValue:
    """The value that a Zarr reader returns for chunks that were never written."""

    value: Array
    """0-d, of the Zarr array's type."""
    json: JSON
    """The value for the array's metadata document. zarr itself drops the payload of a NaN, so it is written there."""
    exact: bool
    """Whether zarr reads exactly these bits from `json`. If not, chunks that were never written must be written."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.value, self.value.dtype, self.json, self.exact)


def _restore(value: Array, dtype: np.dtype[Any], json: JSON, exact: bool) -> FillValue:  # noqa: FBT001 - by pickle
    """Return an unpickled fill value in its byte order, which numpy's pickle of a datetime loses."""
    return FillValue(value.astype(dtype, copy=False), json, exact)


def make_fill_value(values: Array, zarr_format: int) -> FillValue:
    """Return the fill value of an array of the type of `values`: those of one element, of which the first counts."""
    values = values.reshape(-1)
    value = values[:1].reshape(())
    json, exact = fill_to_json(value, zarr_format)
    is_one = values.size == 1 or same_bits(values, np.broadcast_to(value, values.shape))
    return FillValue(value, json, exact and is_one)


def read_shown_fill(dataset: h5py.Dataset) -> Array:
    """Return the value that h5py reads for one element never written: 0-d, or of the shape of the HDF5 array type.

    Where HDF5 leaves memory unset (no fill value, or fill time "never"), it is 0.
    """
    plist = dataset.id.get_create_plist()
    tid = read_type(dataset.id)
    dtype = read_dtype(tid)
    zeros = np.zeros((), dtype)
    if plist.fill_value_defined() != h5d.FILL_VALUE_USER_DEFINED or plist.get_fill_time() == h5d.FILL_TIME_NEVER:
        return zeros
    if dtype.subdtype is None and dtype.names is None and dtype.kind not in "OV" and not is_bytes(tid):
        plist.get_fill_value(zeros)  # h5py's scalar has lost the bytes that pad a long double
        return zeros
    if plist.get_external_count():  # all of it is written
        return zeros
    with reading(dataset, ()):
        return read_unwritten(dataset)


@lru_cache(1024)
def find_zarr_type(dtype: DType, zarr_format: Literal[2, 3]) -> Any:
    """Return zarr's object for a data type; it asks all that it knows, so it is asked once for each."""
    from zarr.dtype import parse_dtype

    with quiet_zarr():
        return parse_dtype(choose_zarr_type(dtype), zarr_format=zarr_format)


def fill_from_json(json: JSON, dtype: DType, zarr_format: int) -> Array:
    """Return a fill value of `fill_to_json`, 0-d."""
    checked_format: Literal[2, 3] = 2 if zarr_format == 2 else 3
    return np.array(find_zarr_type(dtype, checked_format).from_json_scalar(json, zarr_format=checked_format), dtype)


def choose_zarr_type(dtype: DType) -> Any:
    """Return the data type that zarr takes for a type: its own for text and bytes of variable length."""
    from zarr.dtype import VariableLengthBytes

    return {"T": "string", "O": VariableLengthBytes()}.get(dtype.kind, dtype)


def make_zero(dtype: DType) -> Array:
    """Return the fill value where HDF5 has none: zero, or no text or bytes."""
    return np.array(b"", dtype) if dtype.kind == "O" else np.zeros((), dtype)


def fill_to_json(value: Array, zarr_format: int) -> tuple[JSON, bool]:
    """Return a fill value as JSON for Zarr metadata, and whether zarr-python reads the same bits from it.

    >>> fill_to_json(np.array(0x7FC00001, "<u4").view("<f4"), 3)
    ('0x7fc00001', True)
    >>> fill_to_json(np.array(0x7FC00001, "<u4").view("<f4"), 2)
    ('NaN', False)
    """
    if value.dtype.kind in "biuf":
        return _number_to_json(value.dtype, value.tobytes(), zarr_format)
    return _find_json(value, zarr_format)


@lru_cache(1024)
def _number_to_json(dtype: DType, data: bytes, zarr_format: int) -> tuple[JSON, bool]:
    """Return a number as `fill_to_json` does, which takes long, and files of one kind have the same ones."""
    return _find_json(np.frombuffer(data, dtype)[0:1].reshape(()), zarr_format)


def _find_json(value: Array, zarr_format: int) -> tuple[JSON, bool]:
    checked_format: Literal[2, 3] = 2 if zarr_format == 2 else 3
    zarr_dtype = find_zarr_type(value.dtype, checked_format)
    usual = cast("JSON", zarr_dtype.to_json_scalar(value[()], zarr_format=checked_format))
    for json in (usual, *_exact_forms(value)):
        try:
            restored = np.array(zarr_dtype.from_json_scalar(json, zarr_format=checked_format), value.dtype)
        except (TypeError, ValueError):
            continue
        if same_bits(restored, value):
            return json, True
    return usual, False


def _exact_forms(value: Array) -> list[JSON]:
    """Return the JSON forms of a fill value that keep every bit (Zarr v3, section "fill value")."""
    if value.dtype.kind == "f":
        return [_hex(value)]
    if value.dtype.kind == "c":
        return [[_hex(value.real), _hex(value.imag)]]
    return [encode_base64(value.tobytes())] if value.dtype.kind == "V" else []


def _hex(value: Array) -> str:
    return "0x" + np.asarray(value).astype(value.dtype.newbyteorder(">")).tobytes().hex()


def fill_attribute_to_json(attribute: Array | None, dtype: DType) -> JSON:
    """Return the attribute ``_FillValue`` as xarray decodes it from a store of format 3.

    `attribute` is the value that h5py reads, None for a null dataspace; `dtype` is that of the Zarr array, which alone
    decides the form. Raise UnsupportedError if xarray has no form for it.

    >>> fill_attribute_to_json(np.array([-1], "i2"), np.dtype("i2"))
    -1
    >>> fill_attribute_to_json(np.array([1.5], "f4"), np.dtype("f4"))
    'AAAAAAAA+D8='
    """
    if attribute is None or attribute.size != 1 or attribute.dtype.kind not in "biufc":
        raise UnsupportedError("xarray reads a _FillValue of one number only")
    value = attribute.reshape(-1)[0]
    if dtype.kind == "c":
        return [_encode_double(value.real), _encode_double(value.imag)]
    if value.dtype.kind == "c" or dtype.kind not in "biuf":
        raise UnsupportedError(f"xarray has no _FillValue for {dtype}")
    if dtype.kind == "f":
        return _encode_double(value)
    if not np.isfinite(value):
        raise UnsupportedError("xarray reads a finite _FillValue for integers only")
    return cast("JSON", bool(value) if dtype.kind == "b" else value.item())


def _encode_double(value: object) -> str:
    return encode_base64(struct.pack("<d", float(cast("float", value))))


def choose_fill_v2(fill: FillValue, attribute: Array | None) -> FillValue:
    """Return the ``fill_value`` of an array of format 2 from which xarray decodes the source's ``_FillValue``.

    `attribute` is the value of ``_FillValue`` as h5py reads it, None without the attribute. The fill value is then
    null: xarray would mask equal data. Chunks never written must then be written, unless they may read as missing.
    """
    if attribute is not None and attribute.size == 1:
        with suppress(TypeError, ValueError):
            value = attribute.reshape(()).astype(fill.value.dtype, copy=False)
            json, exact = fill_to_json(value, 2)
            return FillValue(value, json, exact and fill.exact and same_bits(value, fill.value))
    return FillValue(fill.value, None, exact=False)
