"""What the tasks of a conversion do: read a unit while the file is open, write it once the file is closed.

Both functions run in whatever thread or process dask chooses. What they need travels with them: a `Job` for each
array, and a unit, which holds its chunks as arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.chunk_grid import region_of
from h5bound.conversion.shards import SMALL_NBYTES, Packed, pack_shard
from h5bound.errors import CorruptChunkError, SourceChangedError, SourceNotFoundError, TargetError, UnsupportedError
from h5bound.execution.work import Work
from h5bound.planning.source_values import read_elements
from h5bound.reader.open_file import open_dataset
from h5bound.stores.lock import MARKER, parse_marker
from h5bound.stores.metadata import encode_block
from h5bound.zarr_model.array_spec import encode_chunk, shard_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import zarr
    from numcodecs.abc import Codec
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.references import Addresses
    from h5bound.planning.plan import Strategy
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.target import Target
    from h5bound.zarr_model.array_spec import ArrayNode
    from h5bound.zarr_model.dtypes import ZarrType

    Block = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What the units of one array have in common."""

    path: str
    """of the dataset in the report"""
    inside: str
    """its path in its file"""
    origin: int
    """number of its file, among those of the survey"""
    shape: Shape
    """of the dataset, without the axes of an HDF5 array type"""
    opaque_only: bool
    """whether h5py reads its type only as bytes"""
    strategy: Strategy
    type: ZarrType
    node: ArrayNode
    array: zarr.Array[Any]
    encoder: zarr.Array[Any] | None
    """of one chunk without shards, where some are encoded anew"""
    codecs: Sequence[Codec] | None
    """that encode a chunk; None where zarr does it"""
    target: Target
    addresses: Addresses
    skip: bool
    """whether what cannot be read is reported, or ends the conversion"""
    allowed: tuple[Path, ...] | None = None
    """directories whose files the dataset may draw on; None if it draws on none"""
    owner: str = ""
    """name of the conversion in the marker of a store without locks"""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A unit that was read."""

    job: Job
    unit: Unit
    parts: list[Any] | Packed = field(default_factory=list)
    """for each cell its encoded bytes where copied, else its elements"""
    problem: str = ""
    """why it could not be read"""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a unit."""

    array: int
    """number of the array among the plans"""
    chunks: int
    """cells that were written"""
    nbytes: int
    """in the store"""
    problem: str = ""
    """why nothing was"""


def read_unit(opened: OpenFile, job: Job, unit: Unit) -> Loaded:
    """Give a unit as it is to be written.

    Raises
    ------
    CorruptChunkError, UnsupportedError
        It cannot be read, and what cannot be read is not to be skipped.
    UnsafeSourceError, SourceNotFoundError
        What it draws on is not what it was, or is not there where this runs.
    """
    opened.check_external_files(job.inside, job.allowed)
    try:
        parts = READERS[job.strategy](opened, job, unit)
        if unit.manifest is None:
            return Loaded(job, unit, list(parts))
        small = unit.manifest.nbytes.mean() < SMALL_NBYTES
        return Loaded(job, unit, Packed.of(parts, small=bool(small)))
    except (SourceChangedError, SourceNotFoundError):
        raise
    except (OSError, RuntimeError, ValueError, TypeError, NotImplementedError, DamagedError) as error:
        if job.skip:
            return Loaded(job, unit, problem=f"it cannot be read: {error}")
        if isinstance(error, (CorruptChunkError, UnsupportedError)):
            raise type(error)(f"dataset {job.path!r} of {opened.file.filename}: {error}") from error
        raise CorruptChunkError(f"dataset {job.path!r} of {opened.file.filename}: {error}") from error


def read_copies(opened: OpenFile, job: Job, unit: Unit) -> Iterator[NDArray[np.uint8]]:
    """Give the stored bytes of each chunk, and those that HDF5 stored otherwise encoded anew."""
    manifest = unit.manifest
    assert manifest is not None
    unpacked = prod(job.node.chunks) * job.node.dtype.itemsize
    plain = not job.node.chain.compressors and not job.node.chain.filters
    rows = zip(
        manifest.chunk_coords,
        *(map(int, row) for row in (manifest.nbytes, manifest.masks, manifest.offsets)),
        strict=True,
    )
    fetch = stored_bytes(opened, job, unit)
    for row, nbytes, mask, offset in rows:
        coords = row.tolist()
        if mask:
            block = read_region(opened, job, region_of(tuple(coords), job.node.shape, job.node.chunks))
            yield np.frombuffer(encode_block(job.encoder, block), np.uint8)
            continue
        if plain and nbytes != unpacked:
            raise CorruptChunkError(f"the chunk at {tuple(coords)} has {nbytes} bytes in place of {unpacked}")
        try:
            yield fetch(offset, nbytes, coords)
        except DamagedError as error:
            raise CorruptChunkError(f"the chunk at {tuple(coords)}: {error}") from error


def stored_bytes(opened: OpenFile, job: Job, unit: Unit) -> Callable[[int, int, list[int]], NDArray[np.uint8]]:
    """Give what reads a stored chunk of a unit: from the file itself, or through HDF5 where that may know better."""
    manifest = unit.manifest
    assert manifest is not None
    if opened.bytes is not None:
        kept = manifest.masks == 0
        source = opened.bytes.gather(zip(manifest.offsets[kept].tolist(), manifest.nbytes[kept].tolist(), strict=True))
        return lambda offset, nbytes, _cell: source.read(offset, nbytes)
    dataset = open_dataset(opened.file, job.inside)
    chunks = dataset.chunks
    return lambda _offset, _nbytes, coords: np.frombuffer(
        dataset.id.read_direct_chunk(tuple(i * size for i, size in zip(coords, chunks, strict=False)))[1],
        np.uint8,
    )


def read_region(opened: OpenFile, job: Job, region: tuple[slice, ...]) -> Block:
    """Give a region of the array, in the form that Zarr holds."""
    block = read_elements(opened.read, opened, job.inside, region, len(job.shape), opaque_only=job.opaque_only)
    resolve = job.addresses.resolver(opened.file)
    return job.type.convert(block, resolve)


def read_decoded(opened: OpenFile, job: Job, unit: Unit) -> Iterator[Block]:
    """Give the elements of each cell."""
    regions = [region_of(tuple(coords), job.node.shape, job.node.write_shape) for coords in unit.chunk_coords.tolist()]
    opened.prefetch(job.inside, [region[: len(job.shape)] for region in regions])
    for region in regions:
        yield read_region(opened, job, region)


def read_given(_opened: OpenFile, job: Job, unit: Unit) -> Iterator[Block]:
    """Give the values that stand in the plan."""
    assert unit.given is not None
    size = job.node.chunks[0]
    for start in range(0, len(unit.given), size):
        yield unit.given[start : start + size]


def read_sequences(opened: OpenFile, job: Job, unit: Unit) -> Iterator[Block]:
    """Give the elements of variable-length sequences one after another, as much as each cell takes."""
    ends = unit.ends
    assert ends is not None
    row = max(prod((*job.shape[1:], *job.type.element_shape)), 1)
    last = unit.first + len(ends)
    start, stop = unit.first // row, -(-last // row)
    region = (slice(start, stop), *(slice(0, length) for length in job.shape[1:])) if job.shape else ()
    block = opened.read(job.inside, region).reshape(-1)[unit.first - start * row : last - start * row]
    values, lengths = job.type.split_vlen(block, job.addresses.resolver(opened.file))
    if not np.array_equal(np.diff(ends), lengths[1:]):
        raise CorruptChunkError("its sequences have other lengths than when they were counted")
    before = unit.span[0] - (int(ends[0]) - int(lengths[0]))
    wanted = values[before : before + unit.span[1] - unit.span[0]]
    size = job.node.chunks[0]
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


READERS = {
    "copy": read_copies,
    "decode": read_decoded,
    "sequences": read_sequences,
    "given": read_given,
}


def write_unit(loaded: Loaded) -> Written:
    """Write a unit; gives how much that was."""
    unit, job = loaded.unit, loaded.job
    if job.owner and parse_marker(job.target.keys.read(MARKER)).get("owner") != job.owner:
        raise TargetError(f"{job.target.url}: deleted or taken over by another conversion")
    if loaded.problem:
        return Written(unit.array, 0, 0, loaded.problem)
    if isinstance(loaded.parts, Packed):
        nbytes = job.target.keys.write(name_keys(job, unit, loaded.parts))
        return Written(unit.array, len(unit.chunk_coords), nbytes)
    if job.codecs is not None:
        return Written(
            unit.array, len(unit.chunk_coords), job.target.keys.write(encode_chunks(job, unit, loaded.parts))
        )
    keys = []
    for coords, block in zip(unit.chunk_coords.tolist(), loaded.parts, strict=True):
        region = region_of(tuple(coords), job.node.shape, job.node.write_shape)
        job.array[region or ...] = block
        keys.append(key_of(job, tuple(coords)))
    return Written(unit.array, len(unit.chunk_coords), job.target.keys.measure(keys))


def encode_chunks(job: Job, unit: Unit, parts: list[Block]) -> Iterator[tuple[str, bytes]]:
    """Give the keys of the store and their bytes, for elements."""
    assert job.codecs is not None
    for coords, block in zip(unit.chunk_coords.tolist(), parts, strict=True):
        yield key_of(job, tuple(coords)), encode_chunk(job.codecs, block, job.node.fill.value, job.node.chunks)


def name_keys(job: Job, unit: Unit, parts: Packed) -> Iterator[tuple[str, bytes | memoryview]]:
    """Give the keys of the store and their bytes: one for each chunk, or for each shard."""
    chunk_coords = unit.chunk_coords
    if job.node.shards is None:
        for coords, data in zip(chunk_coords, parts, strict=True):
            yield key_of(job, tuple(coords.tolist())), data
        return
    counts = shard_counts(job.node)
    shards = chunk_coords // counts
    places = np.ravel_multi_index(tuple((chunk_coords - shards * counts).T), tuple(counts))
    starts = np.flatnonzero(np.r_[True, (shards[1:] != shards[:-1]).any(axis=1)])
    for start, stop in pairwise([*starts.tolist(), len(chunk_coords)]):
        shard = pack_shard(*parts.take(start, stop), places[start:stop], int(prod(counts)))
        yield key_of(job, tuple(shards[start].tolist())), shard


def key_of(job: Job, coords: Shape) -> str:
    """Give the key of a chunk or shard in the store."""
    return f"{job.node.target}/{job.array.metadata.encode_chunk_key(coords)}"


def check_target(job: Job) -> None:
    """Refuse a place that is not the one where the conversion was begun.

    Raises
    ------
    TargetError
        The mark of an unfinished conversion is not there.
    """
    if job.target.backend.marker and job.target.keys.read(MARKER) is None:
        raise TargetError(f"{job.target.url}: not where the conversion was begun; name a store that all can reach")


def delete_partial(job: Job) -> None:
    """Delete what workers that died have left of keys that they were at: others have written these since."""
    job.target.keys.delete_partial()


TRANSFER = Work("write", read_unit, write_unit, check_target, delete_partial)
"""What a conversion does with each unit."""
