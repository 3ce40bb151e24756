"""Whether values are the same: bit for bit, or as another type that says the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Values = np.ndarray[Any, np.dtype[Any]]

TEXT = "OSUT"
"""Kinds of arrays that hold text."""


def is_equal(found: Any, expected: Any) -> bool:
    """Return whether found values are the expected ones, bit for bit; byte order may differ, and the type of text."""
    if expected is None:
        return found is None
    if isinstance(expected, list):
        return [list(np.ravel(one)) for one in found] == expected
    one, other = np.asarray(found), np.asarray(expected)
    if one.shape != other.shape:
        return False
    if other.dtype.kind in TEXT:
        return one.dtype.kind in TEXT and list_texts(one) == list_texts(other)
    return native(one.dtype) == native(other.dtype) and to_bits(one) == to_bits(other)


def has_other_form(found: Any, expected: Any) -> bool:
    """Return whether found values say all of the expected ones, in another type."""
    if isinstance(expected, list):
        return False
    if expected is None:
        return np.size(np.asarray(found)) == 0 or str(found) == ""
    one, other = np.asarray(found), np.asarray(expected)
    if other.dtype.kind == "c" and one.dtype.kind in "UT":
        return [complex(text) for text in one.ravel().tolist()] == other.ravel().tolist()
    if one.shape != other.shape:
        return one.size == other.size == 1 and is_equal(one.reshape(other.shape), other)
    if other.dtype.kind in TEXT:
        return one.dtype.kind in TEXT and any(
            [read(value) for value in one.ravel().tolist()] == [read(value) for value in other.ravel().tolist()]
            for read in (read_region, read_windows)
        )
    if other.dtype.type is np.longdouble and one.dtype.itemsize == other.dtype.itemsize:
        return bool(np.all(np.ascontiguousarray(one).view(other.dtype) == other))  # padding does not count
    if one.dtype.kind != other.dtype.kind and one.dtype.itemsize == other.dtype.itemsize:
        return to_bits(one) == to_bits(other)
    return native(one.dtype) != native(other.dtype) and one.tolist() == other.tolist()


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type in the byte order of this machine, without padding."""
    from numpy.lib.recfunctions import repack_fields

    return repack_fields(dtype.newbyteorder("=")) if dtype.names else dtype.newbyteorder("=")


def to_bits(values: Values) -> bytes:
    """Return the bytes of values in the byte order of this machine."""
    return np.ascontiguousarray(values.astype(native(values.dtype))).tobytes()


def list_texts(values: Values) -> list[bytes]:
    """Return text as bytes; h5py shows bytes that are not UTF-8 as lone surrogates."""
    texts = values.ravel().tolist()
    return [one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogateescape") for one in texts]


def read_windows(value: Any) -> Any:
    """Return text that is not UTF-8 as people read it; other text without the spaces that pad it."""
    return value.decode("cp1252").rstrip(" ") if isinstance(value, bytes) else str(value).rstrip(" ")


def read_region(value: Any) -> Any:
    """Return what JSON text says."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value
