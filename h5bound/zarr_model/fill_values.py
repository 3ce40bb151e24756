"""The fill value of an HDF5 dataset as Zarr's, bit for bit, and whether zarr gives the same bits back."""

from __future__ import annotations

import base64
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import h5py
import numpy as np
from h5py import h5d, h5s

from h5bound.errors import UnsupportedError
from h5bound.zarr_model.byte_layout import memory_file, read_block
from h5bound.zarr_model.structured import STRING

if TYPE_CHECKING:
    from h5bound.hdf5.datatypes import JSON
    from h5bound.hdf5.references import Resolve
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.structured import Array, DType


@dataclass(frozen=True, slots=True)
class FillValue:
    """What a Zarr reader has to give for a chunk that was never written."""

    value: Array
    """0-d, of the Zarr array's type"""
    json: JSON
    """how the array's metadata spells it: to be set there, for zarr itself drops the payload of a NaN"""
    exact: bool
    """whether zarr reads these very bits from it; if not, chunks never written have to be written"""

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_type, (self.value, self.value.dtype, self.json, self.exact)


def _in_type(value: Array, dtype: np.dtype[Any], spelled: JSON, exact: bool) -> FillValue:  # noqa: FBT001 - by pickle
    """Give a fill value back its byte order, which numpy's pickle of a datetime loses."""
    return FillValue(value.astype(dtype, copy=False), spelled, exact)


def read_fill_value(
    dataset: h5py.Dataset, translated: ZarrType, *, zarr_format: int = 3, resolve: Resolve | None = None
) -> FillValue:
    """Return the fill value that a reader of the Zarr array needs to see what h5py shows.

    Where HDF5 leaves memory as it is (no fill value, or fill time "never"), h5py shows zeros.

    Raises
    ------
    UnsupportedError
        The fill value is a string that is not UTF-8.
    """
    dtype = translated.dtype
    if translated.form == "vlen":
        return FillValue(np.zeros((), dtype), fill_to_json(np.zeros((), dtype), zarr_format)[0], exact=True)
    shown = read_shown_fill(dataset)
    values = translated.convert(shown, resolve).reshape(-1)
    value = values[:1].reshape(())
    json, exact = fill_to_json(value, zarr_format)
    return FillValue(value, json, exact and have_same_bits(values))


def read_shown_fill(dataset: h5py.Dataset) -> Array:
    """Return what h5py shows for one element never written: 0-d, or of the shape of the HDF5 array type."""
    plist = dataset.id.get_create_plist()
    dtype = dataset.dtype
    zeros = np.zeros((), dtype)
    unset = plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED
    if unset or plist.get_fill_time() == h5d.FILL_TIME_NEVER:
        return zeros
    if plist.fill_value_defined() == h5d.FILL_VALUE_DEFAULT:
        return zeros
    if dtype.subdtype is None and dtype.names is None and dtype.kind not in "OV":
        return np.array(dataset.fillvalue, dtype)
    return zeros if plist.get_external_count() else _read_unwritten(dataset)  # all of external storage is written


def fill_to_json(value: Array, zarr_format: int) -> tuple[JSON, bool]:
    """Return a fill value as JSON for Zarr metadata, and whether zarr-python reads the same bits from it.

    Examples
    --------
    >>> fill_to_json(np.array(0x7FC00001, "<u4").view("<f4"), 3)
    ('0x7fc00001', True)
    >>> fill_to_json(np.array(0x7FC00001, "<u4").view("<f4"), 2)
    ('NaN', False)
    """
    from zarr.dtype import parse_dtype

    form: Literal[2, 3] = 2 if zarr_format == 2 else 3
    with warnings.catch_warnings():  # data types without a specification: h5bound says so in its report
        warnings.simplefilter("ignore")
        zarr_type = parse_dtype("string" if value.dtype == STRING else value.dtype, zarr_format=form)
    first = cast("JSON", zarr_type.to_json_scalar(value[()], zarr_format=form))
    for json in (first, *_exact_forms(value)):
        try:
            seen = np.array(zarr_type.from_json_scalar(json, zarr_format=form), value.dtype)
        except (TypeError, ValueError):
            continue
        if same_bits(seen, value):
            return json, True
    return first, False


def _exact_forms(value: Array) -> list[JSON]:
    """Return spellings that keep every bit, where a reader takes them (Zarr v3, section "fill value")."""
    kind = value.dtype.kind
    if kind == "f":
        return [_hex(value)]
    if kind == "c":
        parts: list[JSON] = [_hex(value.real), _hex(value.imag)]
        return [parts]
    if kind == "V":
        return [base64.b64encode(value.tobytes()).decode("ascii")]
    return []


def _hex(value: Array) -> str:
    return "0x" + np.asarray(value).astype(value.dtype.newbyteorder(">")).tobytes().hex()


def same_bits(one: Array, other: Array) -> bool:
    """Tell whether two scalars of one type are the same, NaN payloads too."""
    if one.dtype == STRING:
        return bool(one[()] == other[()])
    return one.tobytes() == other.astype(one.dtype).tobytes()


def have_same_bits(values: Array) -> bool:
    """Tell whether all elements of a flat array are the same, NaN payloads too."""
    if values.dtype == STRING:
        return bool(np.all(values == values[:1]))
    size = values.dtype.itemsize
    if values.size < 2 or not size:
        return True
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(-1, size)
    return bool((rows == rows[:1]).all())


def _read_unwritten(dataset: h5py.Dataset) -> Array:
    """Read an element never written, from a file in memory: h5py cannot ask for every type's fill value."""
    tid = dataset.id.get_type()
    plist = dataset.id.get_create_plist().copy()
    for position in reversed(range(plist.get_nfilters())):
        plist.remove_filter(plist.get_filter(position)[0])
    plist.set_chunk((1,))
    with memory_file() as file:
        made = h5py.Dataset(h5d.create(file.id, b"d", tid, h5s.create_simple((1,)), plist))
        return read_block(made, (slice(0, 1),))[0:1].reshape(made.dtype.shape)


def fill_attribute_to_json(attribute: Array | None, dtype: DType) -> JSON:
    """Return ``_FillValue`` as xarray decodes it from a store of format 3.

    Parameters
    ----------
    attribute
        The attribute's value as h5py reads it, None for a null dataspace.
    dtype
        Of the Zarr array, which alone decides the form.

    Raises
    ------
    UnsupportedError
        xarray has none for it.

    Examples
    --------
    >>> fill_attribute_to_json(np.array([-1], "i2"), np.dtype("i2"))
    -1
    >>> fill_attribute_to_json(np.array([1.5], "f4"), np.dtype("f4"))
    'AAAAAAAA+D8='
    """
    if attribute is None or attribute.size != 1 or attribute.dtype.kind not in "biufc":
        raise UnsupportedError("xarray reads a _FillValue of one number only")
    value = attribute.reshape(-1)[0]
    if dtype.kind == "c":
        return [_coded(value.real), _coded(value.imag)]
    if value.dtype.kind == "c" or dtype.kind not in "biuf":
        raise UnsupportedError(f"xarray has no _FillValue for {dtype}")
    if dtype.kind == "f":
        return _coded(value)
    if not np.isfinite(value):
        raise UnsupportedError("xarray reads a finite _FillValue for integers only")
    return cast("JSON", bool(value) if dtype.kind == "b" else value.item())


def choose_fill_v2(fill: FillValue, attribute: Array | None) -> FillValue:
    """Return the ``fill_value`` of an array of format 2 that makes xarray see the source's ``_FillValue``.

    Without such an attribute it is null, lest xarray mask what is data: then chunks never written have to be
    written, unless they may read as missing.

    Parameters
    ----------
    fill
        The fill value of the dataset.
    attribute
        The value of ``_FillValue`` as h5py reads it, None where there is none.
    """
    dtype = fill.value.dtype
    if attribute is None or attribute.size != 1:
        return FillValue(fill.value, None, exact=False)
    value = attribute.reshape(())
    try:
        cast_value = value if value.dtype == dtype else value.astype(dtype)
        json, exact = fill_to_json(cast_value, 2)
    except (TypeError, ValueError):
        return FillValue(fill.value, None, exact=False)
    return FillValue(cast_value, json, exact and fill.exact and same_bits(cast_value, fill.value))


def _coded(value: object) -> str:
    return base64.b64encode(struct.pack("<d", float(cast("float", value)))).decode("ascii")
