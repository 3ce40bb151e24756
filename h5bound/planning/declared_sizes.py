"""Refuse datasets that declare far more than they store, or would become far larger in Zarr."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import h5py

from h5bound.errors import UnsupportedError
from h5bound.zarr_model.structured import StructError

if TYPE_CHECKING:
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.zarr_model.dtypes import ZarrType


MAX_FILL_NBYTES = 1 << 16
"""Bytes of an element without numbers or text that are always accepted, since its fill value is written as JSON."""

MAX_RATIO = 1032
"""Declared bytes accepted for each stored byte: deflate compresses no better (zlib, Technical Details)."""

MAX_COMPOUND_CHUNK_NBYTES = 1 << 30
"""Most bytes of a chunk of compounds once all their text has the length of the longest."""

MAX_COUNTED = 10_000_000
"""Most elements of variable length that are read even if the file has fewer bytes for them."""


def check_declared_size(record: DatasetRecord) -> None:
    """Raise UnsupportedError if a dataset that is read or written as a whole declares far more bytes than it stores."""
    if record.dtype is None or record.shape is None:
        return
    itemsize = record.dtype.base.itemsize  # the fill value of such a type is written twice
    if record.dtype.base.kind == "V" and itemsize > max(MAX_FILL_NBYTES, MAX_RATIO * record.stored_nbytes):
        raise UnsupportedError(
            f"its elements have {itemsize:,} bytes and it stores {record.stored_nbytes:,} bytes: a fill value would "
            "be larger than the data"
        )
    sequences = h5py.check_vlen_dtype(record.dtype) is not None and h5py.check_string_dtype(record.dtype) is None
    counted = sequences or (record.dtype.names is not None and record.dtype.hasobject)
    count = prod(record.shape)
    if counted and count > max(record.stored_nbytes, MAX_COUNTED):
        raise UnsupportedError(
            f"{count:,} elements of varying length are declared and {record.stored_nbytes:,} bytes are stored: too "
            "many elements to read each"
        )


def check_compound_size(record: DatasetRecord, zarr_type: ZarrType) -> None:
    """Raise StructError if a chunk of compounds becomes too large once all text has the longest length."""
    nbytes = prod(record.chunks or ()) * zarr_type.dtype.itemsize
    if zarr_type.source.hasobject and zarr_type.dtype.names and nbytes > MAX_COMPOUND_CHUNK_NBYTES:
        raise StructError(f"a chunk would have {nbytes:,} bytes with the longest text in its compounds")
