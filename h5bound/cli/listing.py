"""The tree that `h5bound ls` shows: shapes, types, chunks, filters, sizes, and how each dataset is read."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.codecs.filters import FILTERS
from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import open_object
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.source import H5Source
from h5bound.reports.text import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from h5bound.codecs.filters import Filter
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.reader.open_file import OpenFile


@dataclass(frozen=True, slots=True)
class Entry:
    """One object or link of a file."""

    path: str
    kind: str  # group, dataset, link, type or problem
    text: str  # description in one line


def list_file(path: str | PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> list[Entry]:
    """Return the objects and links of an HDF5 file, sorted by path. The file is closed before this returns.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1.0, 2.0]
    >>> for entry in list_file(path):
    ...     print(entry.path, entry.text)
    / group
    /x (2) float64, contiguous, 16 B stored of 16 B, read directly
    """
    source = H5Source.of(path, storage_options)
    with source.opened() as opened:
        hierarchy = read_hierarchy(opened.file)
        entries = [Entry(path, "group", "group") for path in hierarchy.groups]
        entries += [Entry(record.path, "dataset", describe_dataset(opened, record)) for record in hierarchy.datasets]
    entries += [Entry(link.path, "link", f"{link.kind} link to {link.to}") for link in hierarchy.links]
    entries += [Entry(path, "type", "committed type") for path in hierarchy.committed_types]
    entries += [Entry(path, "problem", f"cannot be opened: {reason}") for path, reason in hierarchy.problems]
    return sorted(entries, key=lambda entry: entry.path.rstrip("/").split("/"))


def describe_dataset(opened: OpenFile, record: DatasetRecord) -> str:
    """Return the description of a dataset."""
    shape = "null" if record.shape is None else f"({', '.join(map(str, record.shape))})"
    parts = [f"{shape} {describe_type(record.dtype)}", record.layout]
    if record.chunks is not None:
        parts[-1] = f"chunks ({', '.join(map(str, record.chunks))})"
        parts.append(f"{record.stored_chunks:,} stored")
    if record.filters:
        parts.append(" + ".join(map(describe_filter, record.filters)))
    itemsize = 0 if record.dtype is None or record.shape is None else record.dtype.itemsize
    nbytes = prod(record.shape or ()) * itemsize
    of = "" if record.dtype is None or record.dtype.hasobject else f" of {format_nbytes(nbytes)}"
    parts.append(f"{format_nbytes(record.stored_nbytes)} stored{of}")
    if record.external_files:
        parts.append(f"external files: {', '.join(record.external_files)}")
    parts.append(record.problem or describe_strategy(opened, record))
    return ", ".join(parts)


def describe_type(dtype: np.dtype[Any] | None) -> str:
    """Return the name of a type: numpy's, or a description where numpy has none."""
    if dtype is None:
        return "unknown type"
    if h5py.check_string_dtype(dtype) is not None and dtype.kind == "O":
        return "string"
    if h5py.check_enum_dtype(dtype) is not None:
        return f"enum of {dtype.base}"
    sequence = h5py.check_vlen_dtype(dtype)
    if sequence is not None:
        return f"sequences of {describe_type(np.dtype(sequence))}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "reference"
    return f"compound of {len(dtype.names)}" if dtype.names else str(dtype)


def describe_filter(item: Filter) -> str:
    """Return the name of a filter, with its level if it has one.

    >>> from h5bound.codecs.filters import Filter
    >>> describe_filter(Filter(1, 0, (4,), "deflate"))
    'deflate 4'
    """
    spec = FILTERS.get(item.id)
    name = spec.name if spec is not None else item.name or f"filter {item.id}"
    return f"{name} {item.options[0]}" if name in ("deflate", "bzip2", "zstd") and item.options else name


def describe_strategy(opened: OpenFile, record: DatasetRecord) -> str:
    """Return whether a dataset is read directly or through h5py, with the reason for h5py."""
    try:
        dataset = open_object(opened.file, record.path)
        if not isinstance(dataset, h5py.Dataset) or record.shape is None:
            return "no elements"
        with closing(DatasetReader(dataset, opened.bytes)) as reader:
            return "read directly" if reader.strategy == "direct" else f"read through h5py ({reader.reason})"
    except (H5BoundError, *READ_ERRORS) as error:
        return f"cannot be read: {describe(error)}"
