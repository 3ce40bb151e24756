"""The tasks of a conversion: read a unit while the file is open, write it once the file is closed.

Both functions run in any thread or process that dask chooses. A `Job` for each array and the unit itself travel to
the tasks; a unit holds its chunks as arrays.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import count_chunks, find_starts, region_of
from h5bound.conversion.copies import can_hold, hold_copies, read_copies, read_copies_of_files
from h5bound.conversion.encoded_chunks import EncodedChunks, pack_shard
from h5bound.conversion.job import encode_elements, key_of
from h5bound.conversion.value_reads import ReadResult, read_chunks, read_or_explain, read_sequences
from h5bound.errors import CorruptChunkError, TargetError
from h5bound.execution.work import UnitResult, Work
from h5bound.reader.many_files import OpenFiles
from h5bound.stores.local import HeldKeys
from h5bound.stores.lock import MARKER, parse_marker
from h5bound.zarr_model.array_spec import shard_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from h5bound.conversion.job import Job
    from h5bound.planning.plan import Strategy
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.target import Target

    Block = NDArray[Any]


def get_unit(opened: OpenFile | OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Read a unit, as `read_unit` does, or copy its chunks into a directory at once, as `hold_copies` does."""
    if can_hold(job, unit):
        return hold_copies(opened, job, unit)
    return read_unit(opened, job, unit)


def read_unit(opened: OpenFile | OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Read a unit: the elements of each chunk, or its encoded bytes if it is copied.

    Raise CorruptChunkError or UnsupportedError if it cannot be read, unless the job skips such datasets.
    """
    if isinstance(opened, OpenFiles) and unit.files is not None:
        return read_copies_of_files(opened, job, unit)
    return read_or_explain(opened, job.values, lambda: READERS[job.strategy](opened, job, unit), explain=job.skip)


def cut_planned(_opened: OpenFile, job: Job, unit: Unit) -> list[Block]:
    """Return the planned values of each chunk."""
    assert unit.planned_values is not None
    return cut_chunks(unit.planned_values, job.node.chunks[0])


def read_elements_of_sequences(opened: OpenFile, job: Job, unit: Unit) -> list[Block]:
    """Read the elements of sequences for each chunk of `values`; raise CorruptChunkError if their lengths changed."""
    ends, first, (start, stop) = unit.sequence_ends, unit.first_sequence, unit.values_interval
    assert ends is not None
    values, lengths = read_sequences(opened, job.values, start=first, stop=first + len(ends))
    if not np.array_equal(np.diff(ends), lengths[1:]):
        raise CorruptChunkError("its sequences have other lengths than when they were counted")
    before = start - (int(ends[0]) - int(lengths[0]))
    return cut_chunks(values[before : before + stop - start], job.node.chunks[0])


def cut_chunks(values: Block, size: int) -> list[Block]:
    """Return values in chunks of `size` along the first axis."""
    return [values[start : start + size] for start in range(0, len(values), size)]


READERS: Mapping[Strategy, Callable[[Any, Job, Unit], list[Block] | EncodedChunks]] = {
    "copy": read_copies,
    "decode": lambda opened, job, unit: list(read_chunks(opened, job.values, unit.chunk_coords)),
    "sequences": read_elements_of_sequences,
    "planned": cut_planned,
}


def write_unit(job: Job, unit: Unit, result: ReadResult) -> UnitResult:
    """Write the chunks of a unit that was read, and return their number and bytes.

    Raise TargetError if the store was deleted, or another conversion has taken it over.
    """
    if job.owner and parse_marker(job.target.keys.read(MARKER)).get("owner") != job.owner:
        raise TargetError(f"{job.target.url}: deleted, or replaced by another conversion, while this one ran")
    if result.problem:
        return UnitResult(unit.array, problem=result.problem, unreadable=True)
    if isinstance(result.parts, HeldKeys):
        return UnitResult(unit.array, nbytes=result.parts.appear(), chunks=len(unit.chunk_coords))
    items = encode_unit(job, unit, result)
    written = UnitResult(unit.array, chunks=len(unit.chunk_coords))
    if job.only_changed:
        return write_changed(job.target, items, written)
    return replace(written, nbytes=job.target.keys.write(items))


def write_changed(target: Target, items: Iterable[tuple[str, bytes | memoryview]], result: UnitResult) -> UnitResult:
    """Write the keys that the store does not have with the same bytes, and return the result with what was done."""
    nbytes = unchanged_nbytes = unchanged = 0
    for key, data in items:
        nbytes += len(data)
        if target.keys.read(key) == data:
            unchanged_nbytes += len(data)
            unchanged += 1
        else:
            target.keys.write([(key, data)])
    return replace(result, nbytes=nbytes, unchanged_nbytes=unchanged_nbytes, unchanged=unchanged)


def encode_unit(job: Job, unit: Unit, result: ReadResult) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield each key of a unit that was read, and its bytes."""
    if isinstance(result.parts, EncodedChunks):
        yield from name_keys(job, unit, result.parts)
        return
    for coords, block in zip(unit.chunk_coords.tolist(), result.parts, strict=True):
        yield key_of(job, coords), encode_key(job, block)


def encode_key(job: Job, block: Block) -> bytes:
    """Return the bytes of a key that holds a block: those of a chunk, or of a shard without chunks past its end."""
    node = job.node
    if node.shards is None:
        return encode_elements(job, block)
    coords = list(np.ndindex(*count_chunks(block.shape, node.chunks)))
    parts = [encode_elements(job, block[region_of(index, block.shape, node.chunks)]) for index in coords]
    counts = tuple(shard_counts(node).tolist())
    return pack_shard(
        parts,
        np.array([len(part) for part in parts], np.int64),
        positions=np.ravel_multi_index(tuple(np.transpose(coords)), counts),
        count=prod(counts),
    )


def name_keys(job: Job, unit: Unit, chunks: EncodedChunks) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield the key of each chunk, or of each shard, and its bytes."""
    chunk_coords = unit.chunk_coords
    if job.node.shards is None:
        for coords, data in zip(chunk_coords.tolist(), chunks, strict=True):
            yield key_of(job, coords), memoryview(data)
        return
    counts = shard_counts(job.node)
    shards = chunk_coords // counts
    positions = np.ravel_multi_index(tuple((chunk_coords - shards * counts).T), tuple(counts))
    starts = find_starts(shards)
    for start, stop in pairwise([*starts.tolist(), len(chunk_coords)]):
        bounds = chunks.bounds[start : stop + 1]
        shard = pack_shard(
            [chunks.data[bounds[0] : bounds[-1]]],
            np.diff(bounds),
            positions=positions[start:stop],
            count=int(prod(counts)),
        )
        yield key_of(job, shards[start].tolist()), shard


def check_target(job: Job) -> None:
    """Raise TargetError if this process does not see the marker of the conversion: it sees another place."""
    if job.target.marker and job.target.keys.read(MARKER) is None:
        raise TargetError(f"{job.target.url}: not visible to this worker; use a path that every worker can reach")


def delete_partial(job: Job) -> None:
    """Delete the partial keys of workers that died while writing: other workers have written these keys."""
    job.target.keys.delete_partial()


TRANSFER = Work(name="write", read=get_unit, use=write_unit, check=check_target, delete_partial=delete_partial)
"""The work of a conversion."""


def count_written(plan: StorePlan, results: Iterable[UnitResult], *, failed: Collection[str] = ()) -> dict[str, int]:
    """Return the bytes of the chunks of each array that has any, by its path in the store."""
    counts = Counter[str]()
    for result in results:
        array = plan.arrays[result.array]
        if result.nbytes and array.path not in failed:
            counts[array.node.target] += result.nbytes
    return dict(sorted(counts.items()))
