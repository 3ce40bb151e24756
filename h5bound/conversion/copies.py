"""Copy stored chunks as they are: into memory, or into a directory at once, where they appear as keys later.

A window of chunks in memory costs more than to copy them: it comes from the system page by page, and is no longer in
the cache of the processor when it is written. So a directory gets each chunk while the source is open, under a partial
name, and is renamed when the source was closed, and found unchanged.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from h5bound.buffers import POOLED_NBYTES, DamagedError, new_bytes, past_end
from h5bound.chunk_grid import find_starts, region_of
from h5bound.conversion.encoded_chunks import EncodedChunks
from h5bound.conversion.job import encode_elements, key_of
from h5bound.conversion.value_reads import ReadResult, explain_failure, read_or_explain, read_region
from h5bound.errors import CorruptChunkError, SourceChangedError
from h5bound.files.open import is_live
from h5bound.h5py_compat import read_encoded_chunk
from h5bound.planning.plan import UNFILTERED_MASK
from h5bound.reader.many_files import OpenFiles
from h5bound.stores.local import HeldKeys
from h5bound.stores.target import LocalTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from h5bound.buffers import Bytes
    from h5bound.conversion.job import Job
    from h5bound.files.local import LocalFile
    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile

    Attempt = Callable[[Callable[[], Any]], ReadResult]


class Copies(NamedTuple):
    """The chunks of a unit that are copied, before they are read."""

    sizes: NDArray[np.int64]
    """Encoded bytes of each."""
    read_into: Callable[[int, Bytes], None]
    """Reads one into an array of its size; raises CorruptChunkError if the file ends before."""

    def fill(self, chunks: EncodedChunks) -> None:
        """Read all into memory."""
        for row, out in enumerate(chunks):
            self.read_into(row, out)


def open_copies(opened: OpenFile, job: Job, unit: Unit) -> Copies:
    """Return how the encoded bytes of each chunk are read; a chunk with a filter mask is decoded and re-encoded.

    Raise CorruptChunkError if a chunk is damaged, or fails `check_copies`.
    """
    manifest = unit.manifest
    assert manifest is not None
    end = sys.maxsize if is_live(opened.file) else opened.file.id.get_filesize()  # HDF5 may not know it in SWMR mode
    check_copies(job, manifest, end)
    coords = manifest.chunk_coords
    in_memory: dict[int, bytes] = {}  # by row: the chunks that are in memory
    if opened.bytes is None:
        in_memory, manifest = read_through_hdf5(opened, job, manifest)
    for row in np.flatnonzero(manifest.masks).tolist():
        region = region_of(tuple(coords[row].tolist()), job.node.shape, job.node.chunks)
        in_memory[row] = encode_elements(job, read_region(opened, job.values, region))
    sizes = manifest.nbytes.copy()
    for row, data in in_memory.items():
        sizes[row] = len(data)
    read_encoded = open_encoded(opened.bytes, manifest) if opened.bytes is not None else None

    def read_into(row: int, out: Bytes) -> None:
        if row in in_memory or read_encoded is None:
            out[:] = np.frombuffer(in_memory[row], np.uint8)
        else:
            read_encoded(row, out)

    return Copies(sizes, read_into)


def read_copies(opened: OpenFile, job: Job, unit: Unit) -> EncodedChunks:
    """Read the encoded bytes of each chunk; raise what `open_copies` raises."""
    copies = open_copies(opened, job, unit)
    chunks = EncodedChunks(copies.sizes)
    copies.fill(chunks)
    return chunks


def can_hold(job: Job, unit: Unit) -> bool:
    """Return whether `hold_copies` can copy the chunks of a unit."""
    is_copied = job.strategy == "copy" or unit.files is not None
    return is_copied and job.node.shards is None and isinstance(job.target, LocalTarget) and not job.only_changed


def hold_copies(opened: OpenFile | OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Copy each chunk into the directory of the store, where it appears once `write_unit` gets the result.

    Raise CorruptChunkError or UnsupportedError if one cannot be read, unless the job skips such datasets.
    """
    assert isinstance(job.target, LocalTarget)
    with HeldKeys(job.target.keys.root) as keys:
        if isinstance(opened, OpenFiles):
            for number, part in cut_by_files(unit):
                with open_copies_of_file(opened, number, job=job, unit=part) as (copies, attempt):
                    hold_chunks(copies, job, part, keys=keys, attempt=attempt)
            return ReadResult(keys)
        attempt = partial(read_or_explain, opened, job.values, explain=job.skip)
        result = attempt(partial(open_copies, opened, job, unit))
        if not result.problem:
            result = hold_chunks(result.parts, job, unit, keys=keys, attempt=attempt)
        if result.problem:
            keys.delete()
    return result


def hold_chunks(copies: Copies, job: Job, unit: Unit, *, keys: HeldKeys, attempt: Attempt) -> ReadResult:
    """Copy each chunk of a unit, and return the keys, or why one cannot be read.

    `attempt` calls what reads the file, and explains its errors: an error of a write is none of the file.
    """
    buffer = new_bytes(max(int(copies.sizes.max(initial=0)), POOLED_NBYTES))  # that of the unit before
    for row, (coords, nbytes) in enumerate(zip(unit.chunk_coords.tolist(), copies.sizes.tolist(), strict=True)):
        data = buffer[:nbytes]
        result = attempt(partial(copies.read_into, row, data))
        if result.problem:
            return result
        keys.write(key_of(job, coords), memoryview(data))
    return ReadResult(keys)


def read_copies_of_files(opened: OpenFiles, job: Job, unit: Unit) -> ReadResult:
    """Read the encoded bytes of chunks of several files; raise what `open_copies_of_file` raises."""
    assert unit.manifest is not None
    chunks, done = EncodedChunks(unit.manifest.nbytes), 0
    for number, part in cut_by_files(unit):
        own = chunks.cut(done, done + len(part.chunk_coords))
        done += len(part.chunk_coords)
        with open_copies_of_file(opened, number, job=job, unit=part) as (copies, attempt):
            if not np.array_equal(copies.sizes, np.diff(own.bounds)):
                file = opened.find_path(number)
                raise SourceChangedError(f"{file}: chunks of {job.path} changed while they were read")
            attempt(partial(copies.fill, own))
    return ReadResult(chunks)


@contextmanager
def open_copies_of_file(opened: OpenFiles, number: int, *, job: Job, unit: Unit) -> Iterator[tuple[Copies, Attempt]]:
    """Yield how the chunks of a unit are read from one of several files, and what explains the errors of a read.

    HDF5 opens the file only if it has to. Raise CorruptChunkError or UnsupportedError if a chunk cannot be read.
    """
    manifest = unit.manifest
    assert manifest is not None
    with opened.reading_bytes(number) as file_bytes:
        if file_bytes is not None:
            attempt = partial(explain_failure, opened.find_path(number), job.values, explain=False)
            yield attempt(partial(locate_copies, file_bytes, job, manifest)).parts, attempt
            return
    job = replace(job, values=replace(job.values, pieces=None), strategy="copy")
    with opened.using(number) as file:
        attempt = partial(read_or_explain, file, job.values, explain=False)
        yield attempt(partial(open_copies, file, job, unit)).parts, attempt


def cut_by_files(unit: Unit) -> Iterator[tuple[int, Unit]]:
    """Yield the number of each file that chunks of a unit are in, and the unit of these chunks."""
    assert unit.files is not None
    assert unit.manifest is not None
    for start, stop in pairwise([*find_starts(unit.files[:, np.newaxis]).tolist(), len(unit.files)]):
        rows = slice(start, stop)
        part = replace(unit, files=None, manifest=unit.manifest.take(rows), chunk_coords=unit.chunk_coords[rows])
        yield int(unit.files[start]), part


def locate_copies(file: LocalFile, job: Job, manifest: ChunkManifest) -> Copies:
    """Return how the encoded bytes of chunks are read from a file that HDF5 has not open; none has a filter mask.

    Raise CorruptChunkError if a chunk is damaged, or fails `check_copies`.
    """
    check_copies(job, manifest, file.end)
    return Copies(manifest.nbytes, open_encoded(file, manifest))


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

    def read_into(row: int, out: Bytes) -> None:
        try:
            source.read_into(offsets[row], out)
        except DamagedError as error:
            raise CorruptChunkError(f"the chunk at {tuple(manifest.chunk_coords[row].tolist())}: {error}") from error

    return read_into


def read_through_hdf5(opened: OpenFile, job: Job, manifest: ChunkManifest) -> tuple[dict[int, bytes], ChunkManifest]:
    """Return the encoded bytes of each chunk without a filter mask by its row, and the manifest with masks as they are.

    HDF5 may have bytes that are not in the file yet, and a chunk of a file that is written to may have been moved.
    Chunks that were never written, and edge chunks without filters, for which HDF5 has no mask, keep theirs.
    """
    dataset = opened.open_dataset(job.values.inside)
    starts = (manifest.chunk_coords[:, : dataset.ndim] * np.asarray(dataset.chunks)).tolist()
    chunks, masks = {}, manifest.masks.copy()
    for row in np.flatnonzero(masks != UNFILTERED_MASK).tolist():
        masks[row], encoded = read_encoded_chunk(dataset.id, tuple(starts[row]))
        if not masks[row]:
            chunks[row] = encoded
    return chunks, replace(manifest, masks=masks)
