"""The words for shapes, filters and sizes, each spelled in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from h5bound.codecs.filters import FILTERS
from h5bound.reports.text import format_nbytes, name_some, plural

if TYPE_CHECKING:
    from h5bound.codecs.pipeline import Filter
    from h5bound.listing.entries import DatasetEntry


def describe_filter(item: Filter) -> str:
    """Return the name of a filter, with its level if it has one.

    >>> from h5bound.codecs.pipeline import Filter
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
        parts = [f"{plural(record.stored_chunks, 'chunk')} ({', '.join(map(str, record.chunks))})"]
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
        parts.append(f"{stored} of {format_nbytes(entry.nbytes)}")
    if record.external_files:
        parts.append(f"external files: {name_some(record.external_files)}")
    return parts
