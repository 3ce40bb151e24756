"""The work of a verification: compare the values of a store with those of its source."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from h5bound.buffers import same_bits
from h5bound.chunk_grid import bound_chunks, region_of, show_region
from h5bound.conversion.value_reads import ReadResult, read_or_explain, read_region, read_unit_values
from h5bound.errors import TargetError
from h5bound.execution.work import Result, UnitResult, Work, list_problems
from h5bound.h5py_compat import describe
from h5bound.planning.source_values import DatasetJob
from h5bound.planning.spill_layout import cut_axes
from h5bound.stores.array_reads import read_elements, reads_in_parts
from h5bound.stores.zarr_internals import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr
    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.tree import StoreNode
    from h5bound.verification.pieces import KeyCut

    Block = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CompareJob(DatasetJob):
    """A dataset to compare: what its units have in common."""

    arrays: tuple[zarr.Array[Any], ...]
    """The Zarr array; empty if the source is only read."""
    cut: KeyCut | None = None
    """How each chunk or shard is cut for the comparison; None to compare it at once."""

    @property
    def restores(self) -> bool:
        """Whether Zarr's values are turned into h5py's for the comparison; if not, h5py's into Zarr's."""
        plain = self.values.type.form == "plain" and not self.values.type.source.hasobject
        return plain and self.values.pieces is None

    def read_array(self, region: Region, box: Box | None = None) -> Block:
        """Read a region of the array, or take it from a box, in the form in which the source is read."""
        stored = read_elements(self.arrays[0], region) if box is None else box.cut(region)
        block = np.asarray(stored, self.values.type.dtype)
        return self.values.type.restore(block) if self.restores else block


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Elements that were read at once."""

    start: tuple[int, ...]
    """First element along each axis."""
    elements: Block

    @classmethod
    def of(cls, region: Region, elements: Block) -> Self:
        """Return the elements of a region as a box."""
        return cls(tuple(part.start for part in region), elements)

    def cut(self, region: Region) -> Block:
        """Return the elements of a region inside.

        >>> Box((2, 0), np.array([[4, 5], [6, 7]])).cut((slice(3, 4), slice(0, 2)))
        array([[6, 7]])
        """
        parts = zip(region, self.start, strict=True)
        return np.ascontiguousarray(self.elements[tuple(slice(s.start - i, s.stop - i) for s, i in parts)])


def read_source(opened: OpenFile, job: CompareJob, unit: Unit) -> ReadResult:
    """Read the values of a unit from the source: if they are compared, through h5py alone."""
    via_h5py, convert = bool(job.arrays), not (job.arrays and job.restores)
    result = read_or_explain(
        opened, job.values, lambda: read_unit_values(opened, job.values, unit, via_h5py=via_h5py, convert=convert)
    )
    return result if job.arrays else ReadResult(problem=result.problem)


def read_expected(opened: OpenFile, job: CompareJob, region: Region) -> Block:
    """Read a region of the source in the form in which it is compared, through h5py alone."""
    convert = not (job.arrays and job.restores)
    return read_region(opened, job.values, region, via_h5py=bool(job.arrays), convert=convert)


def read_box(job: CompareJob, unit: Unit) -> Box | None:
    """Read the chunks of a unit from the store at once: zarr takes about 1 ms for each time that it is asked.

    Return None if they do not fill a box, or cannot be read: then each is read by itself.
    """
    coords = unit.chunk_coords
    if len(coords) < 2:
        return None
    first, last = coords.min(axis=0), coords.max(axis=0)
    if prod((last - first + 1).tolist()) != len(coords):
        return None
    array = job.arrays[0]
    box = bound_chunks(coords, array.shape, job.values.write_shape)
    with suppress(Exception):  # codecs raise errors of their own, like zlib.error
        return Box.of(box, read_elements(array, box))
    return None


def compare_unit(opened: OpenFile, job: CompareJob, unit: Unit) -> UnitResult:
    """Compare the values of a unit with those of the store; the result has the first difference.

    The source is open meanwhile: no values wait for its close, and a thread decodes what the store has while HDF5,
    which reads under one lock, serves another one.
    """
    if job.arrays and job.cut is not None:
        return compare_in_pieces(opened, job, unit)
    result = read_source(opened, job, unit)
    if result.problem:
        problem = f"the source cannot be read: {result.problem}"
        return UnitResult(unit.array, chunks=1, problem=problem, unreadable=True)
    if not job.arrays:
        return UnitResult(unit.array)
    if job.values.flat:
        values, lengths = result.parts[0]
        problem = compare_sequences(job, unit, values, lengths=lengths)
        return UnitResult(unit.array, nbytes=values.nbytes, chunks=int(bool(problem)), problem=problem)
    box = read_box(job, unit)
    problems = [
        problem
        for coords, block in zip(unit.chunk_coords.tolist(), result.parts, strict=True)
        if (problem := compare_chunk(job, tuple(coords), block, box=box))
    ]
    nbytes = sum(block.nbytes for block in result.parts)
    return UnitResult(unit.array, nbytes=nbytes, chunks=len(problems), problem=problems[0] if problems else "")


def report_unit(_job: CompareJob, _unit: object, result: Result) -> Result:
    """Return the result of a comparison, now that the source was found unchanged at its close."""
    return result


def compare_chunk(job: CompareJob, coords: tuple[int, ...], block: Block, *, box: Box | None) -> str:
    """Return the difference of a chunk of the store from the elements in the source; "" if it does not."""
    array = job.arrays[0]
    region = region_of(coords, array.shape, job.values.write_shape)
    if not array.shape and block.dtype.kind == "b":
        block = block.view("u1") != 0  # zarr makes True of any byte but 0, where there are no axes
    try:
        same = same_bits(block, job.read_array(region, box).reshape(block.shape))
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return describe_unreadable(job, coords, error)
    return "" if same else f"values differ in {show_region(region)}"


def compare_in_pieces(opened: OpenFile, job: CompareJob, unit: Unit) -> UnitResult:
    """Compare large chunks as `compare_unit` does, but a piece of one after another."""

    def compare_all() -> list[tuple[str, int]]:
        return [compare_pieces(opened, job, tuple(coords)) for coords in unit.chunk_coords.tolist()]

    result = read_or_explain(opened, job.values, compare_all)
    if result.problem:
        problem = f"the source cannot be read: {result.problem}"
        return UnitResult(unit.array, chunks=1, problem=problem, unreadable=True)
    problems = [problem for problem, _ in result.parts if problem]
    nbytes = sum(nbytes for _, nbytes in result.parts)
    return UnitResult(unit.array, nbytes=nbytes, chunks=len(problems), problem=problems[0] if problems else "")


def compare_pieces(opened: OpenFile, job: CompareJob, coords: tuple[int, ...]) -> tuple[str, int]:
    """Return the difference of a chunk of the store from the source, "" if it does not, and the bytes of the source.

    Raise what reading the source raises. A chunk of the store that has no chunks inside is decoded at once.
    """
    array, cut = job.arrays[0], job.cut
    assert cut is not None
    key = region_of(coords, array.shape, job.values.write_shape)
    source = None if cut.of_source else Box.of(key, read_expected(opened, job, key))
    stored: Box | None = None
    problem, nbytes = "", 0
    for region in product(*cut_axes(key, cut.piece)):
        block = read_expected(opened, job, region) if source is None else source.cut(region)
        nbytes += block.nbytes
        if problem:  # the rest of the source is only read
            continue
        try:
            if stored is None and not reads_in_parts(array):
                stored = Box.of(key, read_elements(array, key))
            same = same_bits(block, job.read_array(region, stored).reshape(block.shape))
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
            problem = describe_unreadable(job, coords, error)
        else:
            problem = "" if same else f"values differ in {show_region(key)}"
    return problem, nbytes


def describe_unreadable(job: CompareJob, coords: tuple[int, ...], error: Exception) -> str:
    """Return what is said of a chunk of the store that cannot be read."""
    key = job.arrays[0].metadata.encode_chunk_key(coords)
    return f"the store cannot be read: {job.arrays[0].path}/{key}: {describe(error)}"


def compare_sequences(job: CompareJob, unit: Unit, values: Block, lengths: Block) -> str:
    """Return how the elements of sequences in some rows of the dataset differ from the source; "" if equal."""
    array, bounds, first = job.arrays[0], unit.sequence_ends, int(unit.chunk_coords[0, 0]) * job.values.row_size
    assert bounds is not None
    if not np.array_equal(np.diff(bounds), lengths):
        return f"the sequences from {first} on have other lengths than when they were counted"
    start, stop = int(bounds[0]), int(bounds[-1])
    try:
        actual = np.asarray(array[start:stop], values.dtype)
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return explain_unreadable(array, error, start=start, stop=stop)
    return "" if same_bits(values, actual) else f"values of the sequences from {first} on differ"


def compare_offsets(planned: NDArray[np.int64], node: StoreNode) -> str:
    """Return how offsets in the store differ from those of the sequences in the source; "" if they do not."""
    assert node.array is not None
    try:
        actual = np.asarray(node.array[...])
    except Exception as error:  # noqa: BLE001 - codecs raise errors of their own, like zlib.error
        return explain_unreadable(node.array, error, start=0, stop=len(planned))
    differing = np.flatnonzero(actual != planned)
    return f"lengths of the sequences from {max(differing[0] - 1, 0)} on differ" if differing.size else ""


def explain_unreadable(array: zarr.Array[Any], error: Exception, *, start: int, stop: int) -> str:
    """Return which elements along the first axis of an array of the store cannot be read, and why."""
    size = (array.shards or array.chunks)[0]
    key = f"{array.path}/{array.metadata.encode_chunk_key((start // size,) + (0,) * (array.ndim - 1))}"
    return f"the store cannot be read: {key} or a chunk after it, up to element {stop}: {describe(error)}"


def compare_unwritten(opened: OpenFile, job: CompareJob, coords: tuple[int, ...]) -> str:
    """Return how the first element of a chunk that was never written differs; "" if it does not."""
    values = job.values
    region = tuple(
        slice(i * size, i * size + 1) if axis < len(values.shape) else slice(0, length)
        for axis, (i, size, length) in enumerate(zip(coords, values.write_shape, values.array_shape, strict=True))
    )
    shown = show_region(region)

    def is_same() -> bool:
        block = read_expected(opened, job, region)
        return same_bits(block, job.read_array(region).reshape(block.shape))

    result = read_or_explain(opened, values, is_same)
    if result.problem:
        return f"chunks that were never written cannot be read, as in {shown}: {result.problem}"
    return "" if result.parts else f"chunks that were never written differ, as in {shown}"


def list_differences(jobs: Sequence[CompareJob], results: Sequence[UnitResult]) -> dict[str, str]:
    """Return the first difference in the values of each dataset, and how many more there are, by its path."""
    counts: dict[str, int] = {}
    for result in results:
        path = jobs[result.array].path
        counts[path] = counts.get(path, 0) + (result.chunks if result.problem else 0)
    return {
        path: problem if counts[path] == 1 else f"{problem}, and in {counts[path] - 1:,} more places"
        for path, problem in list_problems(jobs, results).items()
    }


def check_store(job: CompareJob) -> None:
    """Raise TargetError if this process does not see the array of a job: its store is not there."""
    for array in job.arrays:
        name = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
        if not run(array.store.exists(f"{array.path}/{name}")):
            raise TargetError(f"{array.store_path}: this process finds no array there; name a store that all can reach")


COMPARE: Work[UnitResult] = Work(name="compare", read=compare_unit, use=report_unit, check=check_store, keeps=False)
"""The work of a verification."""
