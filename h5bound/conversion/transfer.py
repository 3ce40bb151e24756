"""The tasks of a conversion: read a unit while the file is open, write it once the file is closed.

Both functions run in any thread or process that dask chooses. A `Job` for each array and the unit itself travel to
the tasks; a unit holds its chunks as arrays.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import DamagedError, past_end
from h5bound.chunk_grid import count_chunks, find_starts, region_of
from h5bound.conversion.encoded_chunks import EncodedChunks, pack_shard
from h5bound.errors import CorruptChunkError, SourceChangedError, TargetError
from h5bound.execution.work import UnitResult, Work
from h5bound.files.open import is_live
from h5bound.planning.plan import UNFILTERED_MASK
from h5bound.planning.source_values import (
    ReadResult,
    explain_failure,
    read_chunks,
    read_or_explain,
    read_region,
    read_sequences,
)
from h5bound.reader.many_files import OpenFiles
from h5bound.reader.open_file import open_dataset
from h5bound.stores.lock import MARKER, parse_marker
from h5bound.zarr_model.array_spec import encode_chunk, shard_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import zarr
    from numcodecs.abc import Codec
    from numpy.typing import NDArray

    from h5bound.buffers import Bytes
    from h5bound.files.local import LocalFile
    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.plan import Strategy
    from h5bound.planning.source_values import SourceValues
    from h5bound.planning.spill_layout import SpillLayout
    from h5bound.planning.store_plan import StorePlan, Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.target import Target
    from h5bound.zarr_model.array_spec import ArrayNode

    Block = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Job:
    """One array to write: what its units have in common."""

    values: SourceValues
    """How the dataset is read."""
    strategy: Strategy
    """How the array is made from it."""
    node: ArrayNode
    """The Zarr array as it was planned."""
    array: zarr.Array[Any]
    """The Zarr array."""
    codecs: Sequence[Codec]
    """Codecs that encode a chunk."""
    target: Target
    """The store."""
    skip: bool
    """Whether a dataset that cannot be read is skipped and reported; if not, it ends the conversion."""
    owner: str = ""
    """Name of the conversion in the marker of a store that has no locks."""
    only_changed: bool = False
    """Whether keys that the store has already with the same bytes are not written."""
    layout: SpillLayout | None = None
    """Two passes: where the elements are between them."""
    folder: Path | None = None
    """Two passes: the directory of the files of the spill."""

    @property
    def path(self) -> str:
        """Path of the dataset in reports."""
        return self.values.path

    @property
    def origin(self) -> int:
        """Number of its file among the origins of the scan."""
        return self.values.origin


def read_unit(opened: OpenFile | OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Read a unit: the elements of each chunk, or its encoded bytes if it is copied.

    Raise CorruptChunkError or UnsupportedError if it cannot be read, unless the job skips such datasets.
    """
    if isinstance(opened, OpenFiles) and unit.files is not None:
        return read_copies_of_files(opened, job, unit)
    return read_or_explain(opened, job.values, lambda: READERS[job.strategy](opened, job, unit), explain=job.skip)


def read_copies(opened: OpenFile, job: Job, unit: Unit) -> EncodedChunks:
    """Read the encoded bytes of each chunk; a chunk with a filter mask is decoded and re-encoded.

    Raise CorruptChunkError if a chunk is damaged, or fails `check_copies`.
    """
    manifest = unit.manifest
    assert manifest is not None
    end = sys.maxsize if is_live(opened.file) else opened.file.id.get_filesize()  # HDF5 may not know it in SWMR mode
    check_copies(job, manifest, end)
    coords = manifest.chunk_coords
    held: dict[int, bytes] = {}  # by row: the chunks that are in memory
    if opened.bytes is None:
        held, manifest = read_through_hdf5(opened, job, manifest)
    for row in np.flatnonzero(manifest.masks).tolist():
        region = region_of(tuple(coords[row].tolist()), job.node.shape, job.node.chunks)
        held[row] = encode_elements(job, read_region(opened, job.values, region))
    sizes = manifest.nbytes.copy()
    for row, data in held.items():
        sizes[row] = len(data)
    chunks = EncodedChunks(sizes)
    for row, out in enumerate(chunks):
        if row in held:
            out[:] = np.frombuffer(held[row], np.uint8)
    if opened.bytes is not None:
        fill_copies(opened.bytes, manifest, chunks)
    return chunks


def fill_copies(file_bytes: FileBytes, manifest: ChunkManifest, chunks: EncodedChunks) -> None:
    """Read the chunks without a filter mask from the file. Raise CorruptChunkError if one is damaged."""
    read_into = open_encoded(file_bytes, manifest)
    for row, (out, mask) in enumerate(zip(chunks, manifest.masks.tolist(), strict=True)):
        try:
            if not mask:
                read_into(row, out)
        except DamagedError as error:
            raise CorruptChunkError(f"the chunk at {tuple(manifest.chunk_coords[row].tolist())}: {error}") from error


def read_copies_of_files(opened: OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Read the encoded bytes of chunks of several files, each of which is opened with HDF5 only where it has to be."""
    assert unit.files is not None
    assert unit.manifest is not None
    own_job = replace(job, values=replace(job.values, pieces=None), strategy="copy")
    chunks = EncodedChunks(unit.manifest.nbytes)
    for start, stop in pairwise([*find_starts(unit.files[:, np.newaxis]).tolist(), len(unit.files)]):
        number, manifest = int(unit.files[start]), unit.manifest.take(slice(start, stop))
        own = chunks.cut(start, stop)
        with opened.reading_bytes(number) as file_bytes:
            if file_bytes is not None:
                copy = partial(copy_from, file_bytes, job, manifest, own)
                explain_failure(opened.find_path(number), job.values, copy, explain=False)
                continue
        with opened.using(number) as file:
            part = read_unit(file, own_job, replace(unit, files=None, manifest=manifest)).parts
        if not np.array_equal(part.bounds, own.bounds):
            raise SourceChangedError(f"{opened.find_path(number)}: chunks of {job.path} changed while they were read")
        own.data[:] = part.data
    return ReadResult(chunks)


def copy_from(file: LocalFile, job: Job, manifest: ChunkManifest, chunks: EncodedChunks) -> None:
    """Read the encoded bytes of chunks. Raise CorruptChunkError if one is damaged, or fails `check_copies`."""
    check_copies(job, manifest, file.end)
    fill_copies(file, manifest, chunks)


def check_copies(job: Job, manifest: ChunkManifest, end: int) -> None:
    """Raise CorruptChunkError, before memory is allocated, if a chunk to copy extends past `end`, that of the file.

    A chunk of an array without codecs must also have as many bytes as its elements.
    """
    coords, offsets, nbytes = manifest.chunk_coords, manifest.offsets, manifest.nbytes
    is_copied = manifest.masks == 0
    for row in np.flatnonzero(is_copied & (offsets > end - nbytes))[:1]:
        error = past_end(int(offsets[row]), int(nbytes[row]), end)
        raise CorruptChunkError(f"the chunk at {tuple(coords[row].tolist())}: {error}")
    declared = prod(job.node.chunks) * job.node.dtype.itemsize
    if not job.node.chain.compressors and not job.node.chain.filters:
        for row in np.flatnonzero(is_copied & (nbytes != declared))[:1]:
            where = tuple(coords[row].tolist())
            raise CorruptChunkError(f"the chunk at {where} has {nbytes[row]} bytes in place of {declared}")


def open_encoded(file_bytes: FileBytes, manifest: ChunkManifest) -> Callable[[int, Bytes], None]:
    """Return a function that reads the encoded bytes of the chunk in a row of the manifest from the file."""
    offsets, sizes = manifest.offsets.tolist(), manifest.nbytes.tolist()
    source = file_bytes.gather([(offsets[row], sizes[row]) for row in np.flatnonzero(manifest.masks == 0)])
    return lambda row, out: source.read_into(offsets[row], out)


def read_through_hdf5(opened: OpenFile, job: Job, manifest: ChunkManifest) -> tuple[dict[int, bytes], ChunkManifest]:
    """Return the encoded bytes of each chunk without a filter mask by its row, and the manifest with masks as they are.

    HDF5 may have bytes that are not in the file yet, and a chunk of a file that is written to may have been moved.
    Chunks that were never written, and edge chunks without filters, for which HDF5 has no mask, keep theirs.
    """
    dataset = open_dataset(opened.file, job.values.inside)
    starts = (manifest.chunk_coords[:, : dataset.ndim] * np.asarray(dataset.chunks)).tolist()
    held, masks = {}, manifest.masks.copy()
    for row in np.flatnonzero(masks != UNFILTERED_MASK).tolist():
        masks[row], encoded = dataset.id.read_direct_chunk(tuple(starts[row]))
        if not masks[row]:
            held[row] = encoded
    return held, replace(manifest, masks=masks)


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
    items = encode_unit(job, unit, result)
    nbytes = write_changed(job.target, items) if job.only_changed else job.target.keys.write(items)
    return UnitResult(unit.array, nbytes=nbytes, chunks=len(unit.chunk_coords))


def write_changed(target: Target, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
    """Write the keys that the store does not have with the same bytes, and return the bytes of all of them."""
    nbytes = 0
    for key, data in items:
        nbytes += len(data)
        if target.keys.read(key) != data:
            target.keys.write([(key, data)])
    return nbytes


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


def encode_elements(job: Job, block: Block) -> bytes:
    """Return the encoded bytes of one chunk."""
    return encode_chunk(job.codecs, block, fill=job.node.fill.value, chunks=job.node.chunks)


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


def key_of(job: Job, coords: Sequence[int]) -> str:
    """Return the key of a chunk or shard in the store."""
    return f"{job.node.target}/{job.array.metadata.encode_chunk_key(tuple(coords))}"


def check_target(job: Job) -> None:
    """Raise TargetError if this process does not see the marker of the conversion: it sees another place."""
    if job.target.marker and job.target.keys.read(MARKER) is None:
        raise TargetError(f"{job.target.url}: not visible to this worker; use a path that every worker can reach")


def delete_partial(job: Job) -> None:
    """Delete the partial keys of workers that died while writing: other workers have written these keys."""
    job.target.keys.delete_partial()


TRANSFER = Work(name="write", read=read_unit, use=write_unit, check=check_target, delete_partial=delete_partial)
"""The work of a conversion."""


def count_written(plan: StorePlan, results: Iterable[UnitResult], *, failed: Collection[str] = ()) -> dict[str, int]:
    """Return the bytes of the chunks of each array that has any, by its path in the store."""
    counts = Counter[str]()
    for result in results:
        array = plan.arrays[result.array]
        if result.nbytes and array.path not in failed:
            counts[array.node.target] += result.nbytes
    return dict(sorted(counts.items()))
