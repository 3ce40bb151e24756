"""The attribute ``_FillValue`` as xarray expects it in a Zarr store.

xarray tells two values apart: what stands for missing data (netCDF's ``_FillValue``) and what a chunk never
written holds (Zarr's ``fill_value``). In format 3 the first is an attribute, spelled in a way of xarray's own
(``xarray.backends.zarr.FillValueCoder``); one that it cannot decode keeps the whole store from opening. In
format 2 the array's ``fill_value`` is both, and null stands for none.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, cast

import numpy as np

from h5bound.errors import UnsupportedError
from h5bound.fillvalues import FillValue, same_bits, spell_fill

if TYPE_CHECKING:
    from h5bound.compounds import Array, DType
    from h5bound.typetext import JSON


def spell_fill_attribute(attribute: Array | None, dtype: DType) -> JSON:
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
    >>> spell_fill_attribute(np.array([-1], "i2"), np.dtype("i2"))
    -1
    >>> spell_fill_attribute(np.array([1.5], "f4"), np.dtype("f4"))
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
        json, exact = spell_fill(cast_value, 2)
    except (TypeError, ValueError):
        return FillValue(fill.value, None, exact=False)
    return FillValue(cast_value, json, exact and fill.exact and same_bits(cast_value, fill.value))


def _coded(value: object) -> str:
    return base64.b64encode(struct.pack("<d", float(cast("float", value)))).decode("ascii")
