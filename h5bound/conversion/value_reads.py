"""Read values from open files: to write them, or to compare them with a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import bound_chunks, region_of
from h5bound.errors import CorruptChunkError, SourceChangedError, SourceNotFoundError, UnsupportedError
from h5bound.h5py_compat import describe
from h5bound.hdf5.references import ReferencePaths
from h5bound.planning.pieces import IN_STORE, NO_FILE
from h5bound.reader.many_files import OpenFiles
from h5bound.reader.open_file import OpenFile
from h5bound.zarr_model.parts import flatten, take_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.planning.pieces import Share
    from h5bound.planning.source_values import SourceValues
    from h5bound.planning.work_units import Unit

    Block = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ReadResult:
    """The contents of a unit, or why it could not be read."""

    parts: Any = ()
    """Contents of the chunks of the unit, one for each; none if it could not be read."""
    problem: str = ""
    """Why it could not be read."""


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


def explain_failure(file: str, values: SourceValues, read: Callable[[], Any], *, explain: bool) -> ReadResult:
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
    opened: OpenFile | OpenFiles, values: SourceValues, unit: Unit, *, via_h5py: bool, convert: bool
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


def read_pieces(files: OpenFiles, values: SourceValues, region: Region, *, via_h5py: bool) -> Block:
    """Read a region of an array that is joined from several files, in the form that Zarr holds.

    Raise CorruptChunkError if a file cannot be read; the message names it.
    """
    pieces = values.pieces
    assert pieces is not None
    one = replace(values, pieces=None, shape=pieces.drop_axis(values.shape))
    blocks = (
        read_share(files, values, one, region=region, share=share, via_h5py=via_h5py) for share in pieces.find(region)
    )
    return join_blocks(blocks, tuple(part.stop - part.start for part in region), pieces.axis)


def join_blocks(blocks: Iterator[Block], shape: Shape, axis: int) -> Block:
    """Return blocks joined along an axis to an array of this shape; besides it, one is in memory at a time.

    >>> join_blocks(iter([np.zeros((1, 2)), np.ones((2, 2))]), (3, 2), 0)[:, 0]
    array([0., 1., 1.])
    """
    block: Block | None = next(blocks)
    assert block is not None
    if block.shape[axis] == shape[axis]:
        return block
    joined, stop, before = np.empty(shape, block.dtype), 0, (slice(None),) * axis
    while block is not None:
        if block.dtype != joined.dtype:
            return np.concatenate([joined[(*before, slice(0, stop))], block, *blocks], axis)
        start, stop = stop, stop + block.shape[axis]
        joined[(*before, slice(start, stop))] = block
        block = None  # before the next one is read
        block = next(blocks, None)
    return joined[(*before, slice(0, stop))]


def read_share(
    files: OpenFiles, values: SourceValues, one: SourceValues, *, region: Region, share: Share, via_h5py: bool
) -> Block:
    """Read what a file has of a region, as `read_pieces` returns it. `one` says how a single file is read."""
    pieces = values.pieces
    assert pieces is not None
    if share.file == NO_FILE:
        assert pieces.fill is not None
        return np.broadcast_to(pieces.fill, pieces.measure(region, share))
    if share.file == IN_STORE:
        return read_stored(values, region, share.where)
    with files.using(share.file) as opened:
        read = partial(read_region, opened, one, share.inside, via_h5py=via_h5py, convert=False)
        block: Block = read_or_explain(opened, one, read, explain=False).parts
    change = pieces.conversions.get(share.file)
    if change is None:  # byte order may differ from file to file
        change, block = values.type.convert, block.astype(values.type.source, copy=False)
    block = change(block)
    return np.expand_dims(block, pieces.axis) if pieces.is_new else block


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
    sequences, bounds = flatten(elements, values.steps)
    return values.type.convert(sequences, ReferencePaths(opened.file, values.addresses)), np.diff(bounds)
