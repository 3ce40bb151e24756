"""Values of a dataset as its file has them, read in work units: to compare them with a store, or to try them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import cut_batches, region_of
from h5bound.errors import SourceChangedError, SourceNotFoundError
from h5bound.h5py_compat import describe
from h5bound.planning.plan import estimate_itemsize
from h5bound.planning.work_units import UNIT_CHUNKS, Unit, choose_unit_nbytes
from h5bound.reader.open_file import open_dataset
from h5bound.zarr_model.byte_layout import read_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.hdf5.references import Addresses, ReferencePaths
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.dtypes import ZarrType

    Block = NDArray[Any]

SEQUENCES_AT_ONCE = 65_536
"""Variable-length sequences that are read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceValues:
    """How the values of one dataset are read."""

    path: str
    """of the dataset in the report"""
    inside: str
    """its path in its file"""
    origin: int
    """number of its file, among those of the survey"""
    shape: Shape
    """of the dataset"""
    array_shape: Shape
    """of its array"""
    opaque_only: bool
    """whether h5py reads its type only as bytes"""
    type: ZarrType
    addresses: Addresses
    write_shape: Shape
    """of what a key holds; for sequences of a row of the dataset"""
    allowed: tuple[Path, ...] | None
    """directories whose files the dataset may draw on; None if it draws on none"""

    @property
    def sequences(self) -> bool:
        """Whether the dataset has variable-length sequences."""
        return self.type.form == "vlen"

    @property
    def cell_nbytes(self) -> int:
        """Bytes in memory of one cell."""
        return prod(self.write_shape) * estimate_itemsize(self.type.dtype)


def describe_values(scan: SourceScan, dataset_scan: DatasetScan, plan: ArrayPlan, write_shape: Shape) -> SourceValues:
    """Return how the values of a dataset are read, in cells of a shape; sequences are read in rows of the dataset."""
    origin = scan.origins[dataset_scan.origin]
    shape = dataset_scan.record.shape or ()
    return SourceValues(
        path=dataset_scan.record.path,
        inside=origin.locate(dataset_scan.record.path),
        origin=dataset_scan.origin,
        shape=shape,
        array_shape=plan.node.shape,
        opaque_only=dataset_scan.opaque_only,
        type=dataset_scan.type,
        addresses=origin.addresses.needed_for(dataset_scan.record.dtype),
        write_shape=write_shape if dataset_scan.ends is None else (max(prod(shape[1:]), 1),),
        allowed=scan.allowed_for(dataset_scan),
    )


def list_rows(shape: Shape | None) -> ChunkCoords:
    """Return the rows of a dataset of sequences as cells: one of a scalar, none of a null dataspace."""
    rows = shape[0] if shape else int(shape is not None)
    return np.arange(rows if prod(shape or ()) else 0, dtype=np.int64).reshape(-1, 1)


def cut_units(values: Sequence[SourceValues], chunk_coords: Sequence[ChunkCoords], window: int) -> list[Unit]:
    """Return the work units that read some cells of each dataset, or for sequences some rows, in windows of bytes."""
    pairs = list(zip(values, chunk_coords, strict=True))
    nbytes = choose_unit_nbytes(window, sum(item.cell_nbytes * len(found) for item, found in pairs))
    return [unit for number, (item, found) in enumerate(pairs) for unit in _cut(number, item, found, nbytes)]


def _cut(number: int, values: SourceValues, chunk_coords: ChunkCoords, nbytes: int) -> Iterator[Unit]:
    """Yield the work units of one dataset, of at most so many bytes, one cell at the least."""
    size = values.cell_nbytes
    count = SEQUENCES_AT_ONCE if values.sequences else UNIT_CHUNKS
    for start, stop in cut_batches(np.full(len(chunk_coords), size, np.int64), nbytes, count):
        yield Unit(number, chunk_coords[start:stop], max(size * (stop - start), 1))


def read_values(
    opened: OpenFile, values: SourceValues, unit: Unit, *, read: Callable[..., Block], convert: bool
) -> tuple[list[Any], str]:
    """Read the cells of a unit; return them, or why they cannot be read.

    Parameters
    ----------
    opened
        The open file.
    values
        Of which dataset.
    unit
        Of which cells.
    read
        `OpenFile.read` or `OpenFile.read_via_h5py`.
    convert
        Whether the cells are given in the form that Zarr holds; sequences always are.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        The file is not what it was.
    """
    resolve = values.addresses.resolver(opened.file)
    opened.check_external_files(values.inside, values.allowed)
    try:
        if values.sequences:
            rows = opened.read(values.inside, rows_of(values, unit))
            return [values.type.split_vlen(rows, resolve)], ""
        regions = [
            region_of(tuple(coords), values.array_shape, values.write_shape) for coords in unit.chunk_coords.tolist()
        ]
        opened.prefetch(values.inside, [region[: len(values.shape)] for region in regions])
        resolver = resolve if convert else None
        return [read_region(opened, values, region, read, resolver) for region in regions], ""
    except (SourceChangedError, SourceNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return [], describe(error)


def read_region(
    opened: OpenFile,
    values: SourceValues,
    region: tuple[slice, ...],
    read: Callable[..., Block],
    resolve: ReferencePaths | None,
) -> Block:
    """Read a region of an array: as h5py reads it, or with `resolve` in the form that Zarr holds."""
    block = read_elements(read, opened, values.inside, region, len(values.shape), opaque_only=values.opaque_only)
    return block if resolve is None else values.type.convert(block, resolve)


def read_elements(
    read: Callable[[str, tuple[slice, ...]], Block],
    opened: OpenFile,
    path: str,
    region: tuple[slice, ...],
    axes: int,
    *,
    opaque_only: bool,
) -> Block:
    """Read a region of a dataset with ``read``, one of those of ``opened``, also where h5py refuses its type.

    The dataset has so many `axes`; those of an array type come after them.
    """
    outer = region[:axes]
    inner: Any = (..., *region[axes:])
    if opaque_only:
        opened.reader(path).check(outer)
        block: Block = read_block(open_dataset(opened.file, path), outer)[inner]
    else:
        block = read(path, outer)[inner]
    return block


def rows_of(values: SourceValues, unit: Unit) -> tuple[slice, ...]:
    """Return the region of a dataset of sequences that a unit covers: whole rows."""
    if not values.shape:
        return ()
    start, stop = int(unit.chunk_coords[0, 0]), int(unit.chunk_coords[-1, 0]) + 1
    return (slice(start, stop), *(slice(0, length) for length in values.shape[1:]))
