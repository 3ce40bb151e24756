"""How the values of a dataset are read, and the work units in which they are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import count_chunks, cut_batches, group_chunks
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.planning.work_units import COLUMN_CHUNKS, UNIT_CHUNKS, Unit, choose_unit_nbytes, order_units
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.hdf5.references import Addresses
    from h5bound.planning.pieces import Pieces
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.spill_layout import SpillLayout
    from h5bound.zarr_model.dtypes import ZarrType


SEQUENCE_ROWS = 65_536
"""Most rows of a dataset of variable-length sequences in one unit."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SourceValues:
    """Description of how the values of one dataset are read, the same for all its units."""

    path: str
    """Path of the dataset in reports."""
    inside: str
    """Path of the dataset in its file."""
    origin: int
    """Number of its file among the origins of the scan."""
    shape: Shape
    """Shape of the dataset, without the axes of an HDF5 array type."""
    array_shape: Shape
    """Shape of its Zarr array."""
    write_shape: Shape
    """Shape of a target chunk or shard, which is read at once."""
    type: ZarrType
    """Translation of the type of the array."""
    steps: tuple[Any, ...]
    """The way to the values of the array in an element of the dataset, see `h5bound.zarr_model.parts.Part`."""
    flat: bool
    """Whether the array holds elements of sequences."""
    addresses: Addresses
    """Paths of the objects that its references may lead to."""
    box: Shape | None
    """Shape of the boxes that target chunks are cut from, since they overlap the same chunks of the source; or None."""
    allowed: tuple[Path, ...] | None
    """Directories of the external files that it may read from; None if it reads from none."""
    pieces: Pieces | None = None
    """Where the elements are if they come from several files, which are opened together; None for one file."""

    @property
    def row_size(self) -> int:
        """Elements in a row of the dataset, which one index along the first axis selects."""
        return max(prod(self.shape[1:]), 1)

    @property
    def chunk_nbytes(self) -> int:
        """Bytes in memory of a target chunk, or of a row of sequences; an estimate."""
        count = self.row_size if self.flat else prod(self.write_shape)
        return count * estimate_itemsize(self.type.dtype)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DatasetJob:
    """One dataset to convert or compare: what its units have in common."""

    values: SourceValues
    """How the dataset is read."""
    layout: SpillLayout | None = None
    """Two passes: the cells and boxes between them; None for one pass."""

    @property
    def path(self) -> str:
        """Path of the dataset in reports."""
        return self.values.path

    @property
    def origin(self) -> int:
        """Number of its file among the origins of the scan."""
        return self.values.origin

    def get_layout(self) -> SpillLayout:
        """Return the cells and boxes of a dataset that is read in two passes."""
        assert self.layout is not None
        return self.layout


def describe_values(scan: SourceScan, dataset_scan: DatasetScan, plan: ArrayPlan, write_shape: Shape) -> SourceValues:
    """Return how the values of a dataset are read in target chunks of this shape."""
    record = dataset_scan.record
    origin = scan.origins[dataset_scan.origin]
    return SourceValues(
        path=record.path,
        inside=origin.locate(record.path),
        origin=dataset_scan.origin,
        shape=record.shape or (),
        array_shape=plan.node.shape,
        write_shape=write_shape,
        type=dataset_scan.type if plan.part is None else plan.part.type,
        steps=() if plan.part is None else plan.part.steps,
        flat=plan.part is not None and plan.part.flat,
        box=None if plan.boxes is None else plan.boxes.box,
        addresses=origin.addresses.needed_for(record.dtype),
        allowed=scan.allowed if record.layout in EXTERNAL_LAYOUTS or dataset_scan.pieces is not None else None,
        pieces=dataset_scan.pieces,
    )


def list_rows(shape: Shape | None) -> ChunkCoords:
    """Return the rows of a dataset of sequences as chunk coordinates: one of a scalar, none of a null dataspace."""
    rows = shape[0] if shape else int(shape is not None)
    return np.arange(rows if prod(shape or ()) else 0, dtype=np.int64).reshape(-1, 1)


def cut_units(
    values: Sequence[SourceValues],
    chunk_coords: Sequence[ChunkCoords],
    window: int,
    sequence_ends: Sequence[NDArray[np.int64] | None] = (),
) -> list[Unit]:
    """Return the units that read chunks of each array, or rows of sequences. `window` is in bytes.

    Those of rows of sequences have where their elements begin and end, if `sequence_ends` are given for each array.
    """
    pairs = list(zip(values, chunk_coords, strict=True))
    nbytes = choose_unit_nbytes(window, sum(item.chunk_nbytes * len(coords) for item, coords in pairs))
    units = []
    for number, (item, coords) in enumerate(pairs):
        if item.box is not None:
            coords, intervals = group_chunks(coords, count_chunks(item.box, item.write_shape))
        else:
            sizes = np.full(len(coords), item.chunk_nbytes, np.int64)
            most = SEQUENCE_ROWS if item.flat else COLUMN_CHUNKS if item.steps else UNIT_CHUNKS
            intervals = cut_batches(sizes, nbytes, most)
        ends = sequence_ends[number] if sequence_ends else None
        bounds = None if ends is None else np.concatenate([np.zeros(1, np.int64), ends])
        size = item.row_size
        units += [
            Unit(
                number,
                coords[start:stop],
                max(item.chunk_nbytes * (stop - start), 1),
                sequence_ends=None if bounds is None else bounds[start * size : stop * size + 1],
            )
            for start, stop in intervals
        ]
    return order_units(units, [item.path if item.steps and not item.flat else None for item in values])
