"""The names of types for people, each spelled in one way."""

from __future__ import annotations

import sys
from typing import Any

import h5py
import numpy as np

from h5bound.hdf5.element_types import describe_bytes
from h5bound.reports.text import format_nbytes

MAX_MEMBERS = 4
"""Members of a compound that are shown."""


def describe_type(dtype: np.dtype[Any] | None) -> str:
    """Return the name of a type: numpy's with the byte order in words, or a description where numpy has none.

    >>> describe_type(np.dtype(">f4")), describe_type(np.dtype("<f4")), describe_type(h5py.string_dtype())
    ('float32 big-endian', 'float32', 'text')
    >>> describe_type(np.dtype([("x", "i2"), ("y", "f4", (3,))]))
    'compound (x int16, y 3 float32)'
    """
    if dtype is None:
        return "unknown type"
    if dtype.subdtype is not None:
        return f"{' x '.join(map(str, dtype.shape))} {describe_type(dtype.base)}"
    if dtype.names is not None:
        members = [f"{name} {describe_type(dtype[name])}" for name in dtype.names[:MAX_MEMBERS]]
        more = [f"… {len(dtype.names) - MAX_MEMBERS} more"] if len(dtype.names) > MAX_MEMBERS else []
        return f"compound ({', '.join(members + more)})"
    sequence = h5py.check_vlen_dtype(dtype)
    if sequence is not None and sequence not in (str, bytes):
        return f"sequences of {describe_type(np.dtype(sequence))}"
    if dtype.kind == "O":
        return "text" if h5py.check_string_dtype(dtype) is not None else "reference"
    if h5py.check_enum_dtype(dtype) is not None:
        return f"enum of {describe_number(dtype)}"
    return describe_number(dtype) if dtype.kind not in "SV" else describe_fixed(dtype)


def describe_fixed(dtype: np.dtype[Any]) -> str:
    """Return the name of a type of text or bytes of fixed length."""
    kind = "text" if dtype.kind == "S" else "opaque"
    content = describe_bytes(dtype)
    return f"{content} as bytes" if content else f"{kind} of {format_nbytes(dtype.itemsize)}"


def describe_number(dtype: np.dtype[Any]) -> str:
    """Return numpy's name of a type of numbers or times, with the byte order where it is big-endian.

    numpy calls a long double float128 where it has 80 bits.
    """
    is_big = dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big" and dtype.itemsize > 1)
    long = {"f": "long double", "c": "complex of long doubles"}
    name = long[dtype.kind] if dtype.kind in long and dtype.itemsize > (8 if dtype.kind == "f" else 16) else dtype.name
    return f"{name} big-endian" if is_big else name
