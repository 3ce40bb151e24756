"""Values of a store compared with those of its source: what the tasks of a verification do."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import same_bits
from h5bound.chunk_grid import region_of
from h5bound.errors import SourceChangedError, SourceNotFoundError, TargetError
from h5bound.execution.work import Work
from h5bound.h5py_compat import describe
from h5bound.planning.source_values import SourceValues, describe_values, read_region, read_values
from h5bound.stores.zarr_internals import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr
    from numpy.typing import NDArray

    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.tree import StoredNode

    Block = NDArray[Any]


UNREADABLE = "the source cannot be read: "
"""What the difference of a dataset begins with that could not be read."""


@dataclass(frozen=True, slots=True, eq=False)
class CompareJob:
    """What the units of one dataset have in common."""

    values: SourceValues
    """how the source is read"""
    arrays: tuple[zarr.Array[Any], ...]
    """the one of the dataset; `values` and `offsets` of sequences; none where it is only tried to read the source"""

    @property
    def path(self) -> str:
        """Of the dataset in the report."""
        return self.values.path

    @property
    def origin(self) -> int:
        """Number of its file, among those of the survey."""
        return self.values.origin

    @property
    def restored(self) -> bool:
        """Whether what Zarr has is turned back into what h5py reads, or the other way round."""
        return self.values.type.form == "plain" and not self.values.type.source.hasobject


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


def make_job(
    scan: SourceScan, dataset_scan: DatasetScan, plan: ArrayPlan, stored: Sequence[StoredNode] = ()
) -> CompareJob:
    """Return what the units of a dataset have in common; without arrays it is only read."""
    arrays = tuple(node.array for node in stored if node.array is not None)
    write_shape = (arrays[0].shards or arrays[0].chunks) if arrays else plan.node.write_shape
    return CompareJob(describe_values(scan, dataset_scan, plan, write_shape), arrays)


def read_part(opened: OpenFile, job: CompareJob, unit: Unit) -> Read:
    """Read the elements of each cell as the source has them."""
    read = opened.read_via_h5py if job.arrays else opened.read
    parts, problem = read_values(opened, job.values, unit, read=read, convert=not (job.arrays and job.restored))
    return Read(job, unit, parts if job.arrays else [], problem and f"{UNREADABLE}{problem}")


def compare_part(read: Read) -> Compared:
    """Give what differs between a unit of the source and the store."""
    job = read.job
    if read.problem:
        return Compared(job.path, 0, read.problem, 1, unreadable=True)
    if not job.arrays:
        return Compared(job.path, 0)
    return compare_sequences(read) if job.values.sequences else compare_chunks(read)


def compare_chunks(read: Read) -> Compared:
    """Compare cell by cell."""
    job = read.job
    array = job.arrays[0]
    nbytes, found = 0, []
    for coords, block in zip(read.unit.chunk_coords.tolist(), read.parts, strict=True):
        region = region_of(tuple(coords), array.shape, job.values.write_shape)
        nbytes += block.nbytes
        try:
            same = same_bits(block, read_stored(job, region).reshape(block.shape))
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
            key = array.metadata.encode_chunk_key(tuple(coords))
            found.append(f"the store cannot be read: {array.path}/{key}: {describe(error)}")
        else:
            found += [] if same else [f"values differ in {show_region(region)}"]
    return Compared(job.path, nbytes, found[0] if found else "", len(found))


def compare_unwritten(opened: OpenFile, job: CompareJob, coords: tuple[int, ...], resolve: ReferencePaths) -> str:
    """Give what differs in the first element of a cell that neither the source nor the store has; "" if nothing."""
    region = tuple(
        slice(i * size, i * size + 1) if axis < len(job.values.shape) else slice(0, length)
        for axis, (i, size, length) in enumerate(
            zip(coords, job.values.write_shape, job.values.array_shape, strict=True)
        )
    )
    opened.check_external_files(job.values.inside, job.values.allowed)
    try:
        block = read_region(opened, job.values, region, opened.read_via_h5py, None if job.restored else resolve)
        same = same_bits(block, read_stored(job, region).reshape(block.shape))
    except (SourceChangedError, SourceNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return f"what was never written cannot be read, as in {show_region(region)}: {describe(error)}"
    return "" if same else f"what was never written differs, as in {show_region(region)}"


def read_stored(job: CompareJob, region: tuple[slice, ...]) -> Block:
    """Give a region of the array in the form that the source was read in."""
    stored = np.asarray(job.arrays[0][region or ...], job.values.type.dtype)
    return job.values.type.restore(stored) if job.restored else stored


def compare_sequences(read: Read) -> Compared:
    """Compare variable-length sequences: their lengths, and their elements one after another."""
    job = read.job
    values, lengths = read.parts[0]
    first = int(read.unit.chunk_coords[0, 0]) * max(prod(job.values.shape[1:]), 1)
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
