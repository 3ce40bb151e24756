"""The words for types, shapes, filters and sizes, each spelled in one way."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.codecs.filters import FILTERS
from h5bound.reports.text import format_nbytes

if TYPE_CHECKING:
    from h5bound.codecs.filters import Filter
    from h5bound.listing.entries import DatasetEntry


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
    if dtype.kind in "SV":
        return f"{'text' if dtype.kind == 'S' else 'opaque'} of {format_nbytes(dtype.itemsize)}"
    return describe_number(dtype)


def describe_number(dtype: np.dtype[Any]) -> str:
    """Return numpy's name of a type of numbers or times, with the byte order where it is big-endian."""
    is_big = dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big" and dtype.itemsize > 1)
    return f"{dtype.name} big-endian" if is_big else dtype.name


def describe_filter(item: Filter) -> str:
    """Return the name of a filter, with its level if it has one.

    >>> from h5bound.codecs.filters import Filter
    >>> describe_filter(Filter(1, 0, (4,), "deflate"))
    'deflate 4'
    """
    spec = FILTERS.get(item.id)
    name = spec.name if spec is not None else item.name or f"filter {item.id}"
    return f"{name} {item.options[0]}" if name in ("deflate", "bzip2", "zstd") and item.options else name


def describe_shape(entry: DatasetEntry) -> str:
    """Return the shape, with the names of the dimensions that have one, such as ``(time=3, 4)``."""
    shape = entry.record.shape
    if shape is None:
        return "null"
    names = entry.dimensions or (None,) * len(shape)
    return f"({', '.join(f'{n}={size}' if n else str(size) for n, size in zip(names, shape, strict=True))})"


def describe_storage(entry: DatasetEntry) -> list[str]:
    """Return how the values are stored: layout or chunks, filters, and sizes."""
    record = entry.record
    parts = [record.layout]
    if record.chunks is not None:
        parts = [f"chunks ({', '.join(map(str, record.chunks))})", f"{record.stored_chunks:,} stored"]
    if record.filters:
        parts.append(" + ".join(map(describe_filter, record.filters)))
    stored = format_nbytes(record.stored_nbytes)
    if record.dtype is None or record.shape is None or h5py.check_ref_dtype(record.dtype) is not None:
        parts.append(stored)
    elif entry.nbytes is None:  # what is stored are references to values elsewhere in the file
        parts.append(f"{stored} + {'text' if h5py.check_string_dtype(record.dtype) else 'values'}")
    elif record.layout == "virtual":  # stored in other datasets
        parts.append(format_nbytes(entry.nbytes))
    elif record.chunks is None and entry.nbytes == record.stored_nbytes:
        parts.append(stored)
    else:
        parts.append(f"{stored} stored of {format_nbytes(entry.nbytes)}")
    if record.external_files:
        parts.append(f"external files: {', '.join(record.external_files)}")
    return parts
