"""Read the values of a dataset in work units: to write them, to compare them with a store, or as a trial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import bound_chunks, count_chunks, cut_batches, group_chunks, region_of
from h5bound.errors import CorruptChunkError, SourceChangedError, SourceNotFoundError, UnsupportedError
from h5bound.h5py_compat import describe
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.hdf5.references import Addresses, ReferencePaths
from h5bound.planning.pieces import IN_STORE, NO_FILE
from h5bound.planning.work_units import COLUMN_CHUNKS, UNIT_CHUNKS, Unit, choose_unit_nbytes, order_units
from h5bound.reader.many_files import OpenFiles
from h5bound.reader.open_file import OpenFile
from h5bound.zarr_model.array_spec import estimate_itemsize
from h5bound.zarr_model.parts import flatten, take_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.pieces import Pieces
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.zarr_model.dtypes import ZarrType

    Block = NDArray[Any]

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


@dataclass(frozen=True, slots=True, eq=False)
class ReadResult:
    """The contents of a unit, or why it could not be read."""

    parts: Any = ()
    """Contents of the chunks of the unit, one for each; none if it could not be read."""
    problem: str = ""
    """Why it could not be read."""


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


def read_or_explain(
    opened: OpenFile | OpenFiles, values: SourceValues, read: Callable[[], Any], *, explain: bool = True
) -> ReadResult:
    """Return the result of `read`, or why it failed.

    Without `explain`, raise CorruptChunkError or UnsupportedError if it fails. In either case, raise
    MemoryError, SourceChangedError or SourceNotFoundError if a file changed, and all that
    `OpenFile.check_external_files` raises.
    """
    if isinstance(opened, OpenFiles):  # each file is checked, and named, where a piece of it is read
        return ReadResult(read())
    opened.check_external_files(values.inside, values.allowed)
    return explain_failure(opened.file.filename, values, read, explain=explain)


def explain_failure(file: str, values: SourceValues, read: Callable[[], Any], *, explain: bool = True) -> ReadResult:
    """Return the result of `read`, or why it failed, as `read_or_explain` does. `file` is the name of the file."""
    try:
        return ReadResult(read())
    except (SourceChangedError, SourceNotFoundError, MemoryError):
        raise
    except Exception as error:  # codecs raise errors of their own, like zlib.error
        named = f"{values.inside} in {file}"  # as errors of the reader name it
        if explain:
            return ReadResult(problem=describe(error).removeprefix(named).lstrip(":, "))
        error_type = type(error) if isinstance(error, (CorruptChunkError, UnsupportedError)) else CorruptChunkError
        raise error_type(
            f"dataset {values.path!r} of {file}: {str(error).removeprefix(named).lstrip(':, ')}"
        ) from error


def read_unit_values(
    opened: OpenFile | OpenFiles, values: SourceValues, unit: Unit, *, via_h5py: bool = False, convert: bool = True
) -> list[Any]:
    """Read the chunks of a unit of `cut_units`; of sequences one pair, of elements and lengths."""
    if values.flat and isinstance(opened, OpenFile):
        start, last = int(unit.chunk_coords[0, 0]), int(unit.chunk_coords[-1, 0])
        return [read_sequences(opened, values, start=start * values.row_size, stop=(last + 1) * values.row_size)]
    return list(read_chunks(opened, values, unit.chunk_coords, via_h5py=via_h5py, convert=convert))


def read_chunks(
    opened: OpenFile | OpenFiles,
    values: SourceValues,
    chunk_coords: ChunkCoords,
    *,
    via_h5py: bool = False,
    convert: bool = True,
) -> Iterator[Block]:
    """Yield the elements of target chunks, as :func:`read_region` returns them, or as views of one region."""
    regions = [region_of(tuple(coords), values.array_shape, values.write_shape) for coords in chunk_coords.tolist()]
    if values.box is not None and len(regions) > 1:
        box = bound_chunks(chunk_coords, values.array_shape, values.write_shape)
        block = read_region(opened, values, box, via_h5py=via_h5py, convert=convert)
        yield from cut_block(block, box, regions)
        return
    if isinstance(opened, OpenFile):
        opened.prefetch(values.inside, [region[: len(values.shape)] for region in regions])
    for region in regions:
        yield read_region(opened, values, region, via_h5py=via_h5py, convert=convert)


def cut_block(block: Block, box: Region, regions: Iterable[Region]) -> Iterator[Block]:
    """Yield views of a block of the region `box`, for regions inside it."""
    for region in regions:
        yield block[tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(region, box, strict=True))]


def read_region(
    opened: OpenFile | OpenFiles, values: SourceValues, region: Region, *, via_h5py: bool = False, convert: bool = True
) -> Block:
    """Read a region of an array, in the form that Zarr holds, or without `convert` in that of h5py.

    `via_h5py` reads through h5py alone, without the decoders of h5bound.
    """
    if isinstance(opened, OpenFiles):
        return read_pieces(opened, values, region, via_h5py=via_h5py)
    axes = len(values.shape)  # the axes of an HDF5 array type come after these
    outer = region[:axes]
    inner: Any = (..., *region[axes:])
    reader = opened.reader(values.inside)
    read: Callable[[], Block] = partial(reader.read_via_h5py if via_h5py else reader.read, outer)
    key = (values.inside, via_h5py, *((s.start, s.stop) for s in outer))
    shares = values.steps and opened.state is not None  # else the caller may write to the file
    block = opened.shared.get(key, read) if shares else read()
    block = (take_members(block, values.steps) if values.steps else block)[inner]
    return values.type.convert(block, ReferencePaths(opened.file, values.addresses)) if convert else block


def read_pieces(files: OpenFiles, values: SourceValues, region: Region, *, via_h5py: bool = False) -> Block:
    """Read a region of an array that is joined from several files, in the form that Zarr holds.

    Raise CorruptChunkError if a file cannot be read; the message names it.
    """
    pieces = values.pieces
    assert pieces is not None
    one = replace(values, pieces=None, shape=pieces.drop_axis(values.shape))
    blocks = []
    for share in pieces.find(region):
        if share.file == NO_FILE:
            assert pieces.fill is not None
            blocks.append(np.broadcast_to(pieces.fill, pieces.measure(region, share)))
            continue
        if share.file == IN_STORE:
            blocks.append(read_stored(values, region, share.where))
            continue
        with files.using(share.file) as opened:
            read = partial(read_region, opened, one, share.inside, via_h5py=via_h5py, convert=False)
            block = read_or_explain(opened, one, read, explain=False).parts
        change = pieces.conversions.get(share.file)
        if change is not None:
            block = change(block)
        else:  # byte order may differ from file to file
            block = values.type.convert(block.astype(values.type.source, copy=False))
        blocks.append(np.expand_dims(block, pieces.axis) if pieces.is_new else block)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, pieces.axis)


def read_stored(values: SourceValues, region: Region, where: slice) -> Block:
    """Read the part of a region that the store itself has; `where` is its interval along the joined axis."""
    pieces = values.pieces
    assert pieces is not None
    start = region[pieces.axis].start
    part = slice(start + where.start, start + where.stop)
    block = pieces.store[(*region[: pieces.axis], part, *region[pieces.axis + 1 :])]
    return np.asarray(block).astype(values.type.dtype, copy=False)


def read_sequences(opened: OpenFile, values: SourceValues, start: int, stop: int) -> tuple[Block, NDArray[np.int64]]:
    """Read what the sequences in elements, numbered in C order, hold: end to end, and how many each element has."""
    size = values.row_size
    row, end = start // size, -(-stop // size)
    region = (slice(row, end), *(slice(0, length) for length in values.shape[1:])) if values.shape else ()
    block = opened.read(values.inside, region)
    elements = block.reshape(-1, *block.shape[len(values.shape) :])[start - row * size : stop - row * size]
    found, bounds = flatten(elements, values.steps)
    return values.type.convert(found, ReferencePaths(opened.file, values.addresses)), np.diff(bounds)
