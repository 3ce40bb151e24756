"""How numbers are packed, and their values as xarray decodes them, bit for bit.

The order of operations, and the types in between, are those of ``CFMaskCoder`` and ``CFScaleOffsetCoder``
(``xarray/coding/variables.py``): values equal to ``_FillValue`` or ``missing_value`` become NaN, then all are
multiplied with ``scale_factor``, then ``add_offset`` is added.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.errors import UnsupportedError
from h5bound.reader.meanings import PACKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.zarr_model.byte_layout import Array, DType

PACKED_UNITS = ("valid_min", "valid_max", "valid_range")
"""Attributes whose numbers are packed as the values are (CF conventions, 2.5.1)."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """One number or several of an attribute, exactly."""

    dtype: str
    data: bytes

    @classmethod
    def of(cls, array: Array) -> Numbers:
        """Return the numbers of an array."""
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return cls(native.dtype.str, native.tobytes())

    @property
    def array(self) -> Array:
        """The numbers, in one dimension."""
        return np.frombuffer(self.data, self.dtype)


def read_numbers(name: str, attributes: Mapping[str, Any], details: Mapping[str, Any]) -> Numbers | None:
    """Return the numbers of an attribute as HDF5 has them; None without it.

    `details` are those of its node. Raise UnsupportedError if it is no number.
    """
    if name not in attributes:
        return None
    entry = details.get("attributes", {}).get(name, {})
    value = entry.get("value", attributes[name])
    kind = type(np.ravel(np.array(value, object))[0]) if np.size(value) else float
    dtype = entry.get("type", {bool: "?", int: "<i8", float: "<f8"}.get(kind))
    problem = UnsupportedError(f"{name}={value!r} is no number")
    if not isinstance(dtype, str) or dtype[1:2] not in ("i", "u", "f"):
        raise problem
    try:
        raw = entry.get("base64")
        numbers = np.array(value, dtype) if raw is None else np.frombuffer(base64.b64decode(raw), dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise problem from error
    return Numbers.of(numbers.reshape(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the values of a variable are packed. Equal if all attributes are, down to their types."""

    dtype: str
    """Type of the packed values."""
    scale_factor: Numbers | None = None
    add_offset: Numbers | None = None
    fill: Numbers | None = None
    """``_FillValue``."""
    missing: Numbers | None = None
    """``missing_value``."""
    unsigned: str | None = None
    """``_Unsigned``."""

    @classmethod
    def of(cls, dtype: str, attributes: Mapping[str, Any], details: Mapping[str, Any]) -> Packing:
        """Return the packing of a variable. Raise UnsupportedError if xarray would not decode it."""
        numbers = {name: read_numbers(name, attributes, details) for name in PACKING[:4]}
        for name, value in numbers.items():
            if value is not None and name != "missing_value" and value.array.size != 1:
                raise UnsupportedError(f"{name} is not one number")
        unsigned = attributes.get("_Unsigned")
        packing = cls(
            dtype=dtype,
            scale_factor=numbers["scale_factor"],
            add_offset=numbers["add_offset"],
            fill=numbers["_FillValue"],
            missing=numbers["missing_value"],
            unsigned=None if unsigned is None else str(unsigned),
        )
        scale = packing.scale_factor
        if packing.list_masked() and packing.add_offset is None and scale is not None and scale.array.dtype.kind != "f":
            raise UnsupportedError("scale_factor is an integer, and there is a fill value: xarray cannot decode that")
        return packing

    @property
    def is_packed(self) -> bool:
        """Whether values are scaled or moved, not only masked."""
        return self.scale_factor is not None or self.add_offset is not None

    def decode(self, block: Array) -> Array:
        """Return the values of a block as xarray decodes them."""
        data = view_unsigned(block.astype(block.dtype.newbyteorder("="), copy=False), self.unsigned)
        masked = self.list_masked()
        scale, offset = (None if item is None else item.array[0] for item in (self.scale_factor, self.add_offset))
        if masked:
            data = np.array(
                data, choose_float(data.dtype, scale, offset) if self.is_packed else find_nan_type(data.dtype)
            )
            found = np.zeros(data.shape, bool)
            for value in masked:
                found |= data == value
            data[found] = np.nan
        if not self.is_packed:
            return data
        has_fill = any(self._keeps(item) for item in (self.fill, self.missing))
        data = data.astype(data.dtype if has_fill else choose_float(data.dtype, scale, offset))
        if scale is not None:
            data *= scale
        if offset is not None:
            data += offset
        return data

    def list_masked(self) -> list[Any]:
        """Return the packed values that are decoded as NaN."""
        masked = {value for item in (self.fill, self.missing) if item is not None for value in item.array}
        masked = {value for value in masked if not np.isnan(value)}
        raw = np.dtype(self.dtype)
        if self.fill is None or self.unsigned is None or raw.kind not in "iu":
            return list(masked)
        fill = self.fill.array[0]
        if raw.kind == "i" and self.unsigned == "true" and not np.isnan(fill):
            masked.remove(fill)
            masked.add(np.array(fill, raw.newbyteorder("=")).view(f"u{raw.itemsize}")[()].item())
        elif raw.kind == "u" and self.unsigned == "false" and not np.isnan(fill):
            masked.remove(fill)
            masked.add(np.dtype(f"i{raw.itemsize}").type(fill))
        return list(masked)

    def list_raw_masked(self) -> set[Any]:
        """Return the packed values, as their type has them, that are decoded as NaN and are no NaN."""
        raw = view_unsigned(np.zeros(0, self.dtype), self.unsigned).dtype.newbyteorder("=")
        found = set()
        for value in self.list_masked():
            with np.errstate(all="ignore"):
                same = np.array(value).astype(raw)
            if same == value:
                found.add(same.item())
        return found

    def _keeps(self, item: Numbers | None) -> bool:
        """Return whether xarray keeps an attribute: it drops a fill value of NaN for integers."""
        return item is not None and (np.dtype(self.dtype).kind == "f" or not np.isnan(item.array).all())


def view_unsigned(data: Array, unsigned: str | None) -> Array:
    """Return integers with the sign that ``_Unsigned`` says."""
    kind = data.dtype.kind
    if (kind, unsigned) == ("i", "true"):
        return data.astype(f"u{data.dtype.itemsize}")
    if (kind, unsigned) == ("u", "false"):
        return data.astype(f"i{data.dtype.itemsize}")
    return data


def find_nan_type(dtype: DType) -> DType:
    """Return the type that can hold NaN beside the values of a type, as xarray chooses it.

    >>> find_nan_type(np.dtype("i2")), find_nan_type(np.dtype("i4"))
    (dtype('float32'), dtype('float64'))
    """
    if dtype.kind == "f":
        return dtype
    return np.dtype("f4" if dtype.itemsize <= 2 else "f8")


def choose_float(dtype: DType, scale: Any, offset: Any) -> DType:
    """Return the type in which xarray decodes packed values; `scale` and `offset` are numbers of numpy, or None.

    >>> choose_float(np.dtype("i2"), np.float32(2), None), choose_float(np.dtype("i2"), None, np.float32(2))
    (dtype('float32'), dtype('float64'))
    """
    if offset is None:
        return np.dtype(type(scale))
    floats = (np.float32, np.float64)
    if scale is not None and type(scale) is type(offset) and isinstance(scale, floats):
        return np.dtype("f8") if dtype.itemsize == 4 and dtype.kind in "iu" else np.dtype(type(scale))
    return np.dtype("f8")


def find_repacking(first: Packing, other: Packing) -> tuple[Numbers, Numbers] | None:
    """Return which packed values of `other` are to be replaced by which one so that `first` decodes them alike.

    Nothing is to be replaced where both decode all values alike. Return None if that is not sure for all values.
    """
    same = (first.dtype, first.scale_factor, first.add_offset, first.unsigned)
    if same != (other.dtype, other.scale_factor, other.add_offset, other.unsigned):
        return None
    nothing = np.zeros(0, first.dtype)
    if first.decode(nothing).dtype != other.decode(nothing).dtype:
        return None
    masked, others = first.list_raw_masked(), other.list_raw_masked()
    if not masked <= others:
        return None
    raw = view_unsigned(nothing, first.unsigned).dtype.newbyteorder("=")
    more = np.array(sorted(others - masked), raw)
    if not more.size:
        return Numbers.of(more), Numbers.of(more)
    if not masked and raw.kind != "f":
        return None
    by = np.array([np.nan if raw.kind == "f" else min(masked)], raw)
    return Numbers.of(more.view(nothing.dtype.newbyteorder("="))), Numbers.of(by.view(nothing.dtype.newbyteorder("=")))
