"""Values of a store compared with those of its source: what the tasks of a verification do."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.errors import SourceChangedError, SourceNotFoundError, TargetError
from h5bound.grid import cut_batches, region_of
from h5bound.plan import estimate_itemsize
from h5bound.run import Work
from h5bound.target import run
from h5bound.transfer import read_elements
from h5bound.units import UNIT_CHUNKS, Unit
from h5bound.unreadable import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from h5bound.datatypes import ZarrType
    from h5bound.grid import Cells, Shape
    from h5bound.nodes import StoredNode
    from h5bound.openfile import OpenFile
    from h5bound.plan import ArrayPlan, Facts
    from h5bound.references import Addresses, ReferencePaths
    from h5bound.survey import Survey

    Block = NDArray[Any]

UNREADABLE = "the source cannot be read: "
"""What the difference of a dataset begins with that could not be read."""

SEQUENCES_AT_ONCE = 65_536
"""Variable-length sequences that are compared at once."""


@dataclass(frozen=True, slots=True, eq=False)
class CompareJob:
    """What the units of one array have in common."""

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
    refused: bool
    """whether h5py reads its type only as bytes"""
    type: ZarrType
    arrays: tuple[zarr.Array[Any], ...]
    """the one of the dataset; `values` and `offsets` of sequences; none where it is only tried to read the source"""
    addresses: Addresses
    write_shape: Shape
    """of what a key holds; for sequences of a row of the dataset"""
    allowed: tuple[Path, ...] | None = None
    """directories whose files the dataset may draw on; None if it draws on none"""

    @property
    def sequences(self) -> bool:
        """Whether the dataset has variable-length sequences."""
        return self.type.kind == "vlen"


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A unit as the source has it."""

    job: CompareJob
    unit: Unit
    parts: list[Any] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the comparison of a unit gave."""

    path: str
    nbytes: int
    difference: str = ""
    """the first"""
    places: int = 0
    """how many there are"""
    unreadable: bool = False
    """whether the source could not be read"""


def make_job(survey: Survey, facts: Facts, plan: ArrayPlan, stored: Sequence[StoredNode] = ()) -> CompareJob:
    """Give what the units of a dataset have in common; without arrays it is only read."""
    origin = survey.origins[facts.origin]
    shape = facts.record.shape or ()
    arrays = tuple(node.array for node in stored if node.array is not None)
    write_shape = plan.node.write_shape
    if facts.ends is not None:
        write_shape = (max(prod(shape[1:]), 1),)
    elif arrays:  # its grid may not be the planned one
        write_shape = arrays[0].shards or arrays[0].chunks
    return CompareJob(
        facts.record.path,
        origin.locate(facts.record.path),
        facts.origin,
        shape,
        plan.node.shape,
        facts.refused,
        facts.type,
        arrays,
        origin.addresses.needed_for(facts.record.dtype),
        write_shape,
        survey.allowed_for(facts),
    )


def list_rows(shape: Shape | None) -> Cells:
    """Give the rows of a dataset of sequences as cells: one of a scalar, none of a null dataspace."""
    rows = shape[0] if shape else int(shape is not None)
    return np.arange(rows if prod(shape or ()) else 0, dtype=np.int64).reshape(-1, 1)


def cell_nbytes(job: CompareJob) -> int:
    """Give the bytes in memory of one cell."""
    return prod(job.write_shape) * estimate_itemsize(job.type.dtype)


def cut_comparison(number: int, job: CompareJob, cells: Cells, nbytes: int) -> Iterator[Unit]:
    """Give the units of one array: some of its cells each, or for sequences some rows of the dataset.

    Parameters
    ----------
    number
        Of the job among all.
    job
        Of the array.
    cells
        Of the array in the grid of its keys, or rows of the dataset.
    nbytes
        Of a unit, at most, one cell at the least.
    """
    size = cell_nbytes(job)
    count = SEQUENCES_AT_ONCE if job.sequences else UNIT_CHUNKS
    for start, stop in cut_batches(np.full(len(cells), size, np.int64), nbytes, count):
        yield Unit(number, cells[start:stop], max(size * (stop - start), 1))


def read_part(opened: OpenFile, job: CompareJob, unit: Unit) -> Read:
    """Give the elements of each cell as the source has them."""
    resolve = job.addresses.resolver(opened.file)
    parts: list[Any] = []
    opened.judge(job.inside, job.allowed)
    try:
        if job.sequences:
            region = rows_of(job, unit)
            parts.append(job.type.split_vlen(opened.read(job.inside, region), resolve))
        else:
            cells = map(tuple, unit.cells.tolist())
            regions = [region_of(cell, job.array_shape, job.write_shape) for cell in cells]
            opened.foresee(job.inside, [region[: len(job.shape)] for region in regions])
            parts += [read_region(opened, job, region, resolve) for region in regions]
    except (SourceChangedError, SourceNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return Read(job, unit, problem=f"{UNREADABLE}{describe(error)}")
    return Read(job, unit, parts if job.arrays else [])


def read_region(opened: OpenFile, job: CompareJob, region: tuple[slice, ...], resolve: ReferencePaths) -> Block:
    """Give a region of the array: as h5py reads it, or where there is no array for it as a conversion would."""
    read = opened.ask if job.arrays else opened.read
    block = read_elements(read, opened, job.inside, region, len(job.shape), refused=job.refused)
    return block if job.arrays and is_restored(job.type) else job.type.convert(block, resolve)


def is_restored(kind: ZarrType) -> bool:
    """Tell whether what Zarr has is turned back into what h5py reads, or the other way round."""
    return kind.kind == "plain" and not kind.source.hasobject


def rows_of(job: CompareJob, unit: Unit) -> tuple[slice, ...]:
    """Give the region of a dataset of sequences that a unit covers: whole rows."""
    if not job.shape:
        return ()
    start, stop = int(unit.cells[0, 0]), int(unit.cells[-1, 0]) + 1
    return (slice(start, stop), *(slice(0, length) for length in job.shape[1:]))


def compare_part(read: Read) -> Compared:
    """Give what differs between a unit of the source and the store."""
    job = read.job
    if read.problem:
        return Compared(job.path, 0, read.problem, 1, unreadable=True)
    if not job.arrays:
        return Compared(job.path, 0)
    return compare_sequences(read) if job.sequences else compare_cells(read)


def compare_cells(read: Read) -> Compared:
    """Compare cell by cell."""
    job = read.job
    array = job.arrays[0]
    nbytes, found = 0, []
    for cell, block in zip(read.unit.cells.tolist(), read.parts, strict=True):
        region = region_of(tuple(cell), array.shape, job.write_shape)
        nbytes += block.nbytes
        try:
            same = same_bits(block, read_stored(job, region).reshape(block.shape))
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
            key = array.metadata.encode_chunk_key(tuple(cell))
            found.append(f"the store cannot be read: {array.path}/{key}: {describe(error)}")
        else:
            found += [] if same else [f"values differ in {show_region(region)}"]
    return Compared(job.path, nbytes, found[0] if found else "", len(found))


def compare_unwritten(opened: OpenFile, job: CompareJob, cell: tuple[int, ...], resolve: ReferencePaths) -> str:
    """Give what differs in the first element of a cell that neither the source nor the store has; "" if nothing."""
    region = tuple(
        slice(i * size, i * size + 1) if axis < len(job.shape) else slice(0, length)
        for axis, (i, size, length) in enumerate(zip(cell, job.write_shape, job.array_shape, strict=True))
    )
    opened.judge(job.inside, job.allowed)
    try:
        block = read_region(opened, job, region, resolve)
        same = same_bits(block, read_stored(job, region).reshape(block.shape))
    except (SourceChangedError, SourceNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return f"what was never written cannot be read, as in {show_region(region)}: {describe(error)}"
    return "" if same else f"what was never written differs, as in {show_region(region)}"


def read_stored(job: CompareJob, region: tuple[slice, ...]) -> Block:
    """Give a region of the array in the form that the source was read in."""
    stored = np.asarray(job.arrays[0][region or ...], job.type.dtype)
    return job.type.restore(stored) if is_restored(job.type) else stored


def compare_sequences(read: Read) -> Compared:
    """Compare variable-length sequences: their lengths, and their elements one after another."""
    job = read.job
    values, lengths = read.parts[0]
    first = int(read.unit.cells[0, 0]) * max(prod(job.shape[1:]), 1)
    array, start, stop = job.arrays[1], first, first + len(lengths) + 1
    try:
        offsets = np.asarray(array[start:stop])
        if not np.array_equal(np.diff(offsets), lengths):
            return Compared(job.path, 0, f"lengths of the sequences from {first} on differ", 1)
        array, start, stop = job.arrays[0], int(offsets[0]), int(offsets[-1])
        stored = np.asarray(array[start:stop], values.dtype)
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        size = (array.shards or array.chunks)[0]
        keys = f"{array.path}/{array.metadata.encode_chunk_key((start // size,) + (0,) * (array.ndim - 1))}"
        what = f"the store cannot be read: {keys} or a chunk after it, up to element {stop}: {describe(error)}"
        return Compared(job.path, 0, what, 1)
    if not same_bits(values, stored):
        return Compared(job.path, values.nbytes, f"values of the sequences from {first} on differ", 1)
    return Compared(job.path, values.nbytes)


def same_bits(one: Block, other: Block) -> bool:
    """Tell whether two arrays have equal shapes, and equal values down to the payload of a NaN.

    >>> same_bits(np.array([np.nan]), np.array([np.nan])), same_bits(np.array([0.0]), np.array([-0.0]))
    (True, False)
    """
    if one.shape != other.shape:
        return False
    if one.dtype.names is not None:
        return all(same_bits(one[name], other[name]) for name in one.dtype.names)
    if one.dtype.kind in "OT":
        return bool(np.all(one == other))
    if one.dtype != other.dtype:
        if one.dtype.newbyteorder("=") != other.dtype.newbyteorder("="):
            return False
        other = other.astype(one.dtype)
    size = one.dtype.itemsize
    if not size or not one.size:
        return True
    cell = np.dtype((np.void, size)) if size not in (1, 2, 4, 8) else np.dtype(f"u{size}")
    first, second = np.ascontiguousarray(one).view(cell), np.ascontiguousarray(other).view(cell)
    if cell.kind == "V":
        return first.tobytes() == second.tobytes()
    return bool(np.array_equal(first, second))


def show_region(region: tuple[slice, ...]) -> str:
    """Give a region as it is written.

    >>> show_region((slice(0, 2), slice(4, 8)))
    '[0:2, 4:8]'
    """
    return f"[{', '.join(f'{part.start}:{part.stop}' for part in region)}]"


def list_differing(found: Sequence[Compared]) -> dict[str, str]:
    """Give what differs in each dataset: the first place, and how many there are."""
    whats: dict[str, str] = {}
    places: dict[str, int] = {}
    for item in found:
        if item.difference:
            whats.setdefault(item.path, item.difference)
            places[item.path] = places.get(item.path, 0) + item.places
    return {
        path: what if places[path] == 1 else f"{what}, and in {places[path] - 1:,} more places"
        for path, what in whats.items()
    }


def check_store(job: CompareJob) -> None:
    """Refuse a place where the store is not.

    Raises
    ------
    TargetError
        An array that is in the store cannot be found there.
    """
    for array in job.arrays[:1]:
        name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
        if not run(array.store.exists(f"{array.path}/{name}")):
            raise TargetError(f"{array.store_path}: no such array; name a store that all can reach")


def leave(_job: CompareJob) -> None:
    """Leave everything as it is: nothing was written."""


COMPARE = Work("compare", read_part, compare_part, check_store, leave)
"""What a verification does with each unit."""
