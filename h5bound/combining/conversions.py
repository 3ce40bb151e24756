"""Values of one file as the store of many has them: exactly the same, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from h5bound.buffers import is_exact
from h5bound.combining.time_units import move_times
from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from h5bound.combining.packing import Numbers, Packing
    from h5bound.zarr_model.byte_layout import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A conversion of values, element by element."""

    kind: Literal["promote", "unpack", "repack", "time"]
    """promote: another type, the same values. unpack: as xarray decodes them. repack: some integers are replaced, so
    that xarray decodes all alike. time: times since another date, or in another unit."""
    dtype: str
    """Type of the result."""
    packing: Packing | None = None
    """unpack: how the values are packed."""
    replaced: Numbers | None = None
    """repack: the values that are replaced."""
    by: Numbers | None = None
    """repack: what they are replaced by."""
    factor: Fraction = Fraction(1)
    """time: what values are multiplied with first."""
    offset: Fraction = Fraction(0)
    """time: what is added then."""


def apply(conversion: Conversion, block: Array) -> Array:
    """Return the values of a block, of the type of the conversion.

    Raise UnsupportedError if one of them has no exact form there.
    """
    dtype = np.dtype(conversion.dtype)
    if conversion.kind == "unpack":
        assert conversion.packing is not None
        return conversion.packing.decode(block).astype(dtype, copy=False)
    if conversion.kind == "repack":
        assert conversion.replaced is not None
        assert conversion.by is not None
        return replace(block, conversion.replaced, conversion.by).astype(dtype, copy=False)
    if conversion.kind == "time":
        return move_times(block, conversion.factor, conversion.offset, dtype=dtype)
    if not is_exact(block.dtype, dtype):
        raise UnsupportedError(f"{dtype} does not have all values of {block.dtype}")
    return block.astype(dtype, copy=False)


def replace(block: Array, replaced: Numbers, by: Numbers) -> Array:
    """Return a block with some of its values replaced."""
    found = np.isin(block, replaced.array)
    return np.where(found, by.array.astype(block.dtype), block) if found.any() else block
