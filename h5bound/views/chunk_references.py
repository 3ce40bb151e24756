"""References to the chunks of a view: byte ranges of files that others can read, or bytes that are encoded anew."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import find_starts
from h5bound.conversion.copies import check_copies
from h5bound.conversion.job import encode_elements
from h5bound.conversion.summary import explain_decoded
from h5bound.errors import CorruptChunkError, UnsupportedError
from h5bound.reports.conversion import LAYOUTS
from h5bound.reports.text import format_nbytes, plural
from h5bound.views.served_array import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.reader.source import H5Source
    from h5bound.reports.many_files import Difference
    from h5bound.views.file_urls import FileUrls
    from h5bound.views.served_array import ServedArray
    from h5bound.views.view import View

    Reference = tuple[str, int, int] | bytes
    """URL, offset and size of a range; or encoded bytes."""

INLINE_SHARE = 1024
"""All that is inlined may be this many times larger than one key."""

WORDS = {**LAYOUTS, "contiguous": "Zarr holds its values in another form"}
"""Reasons that are a word of HDF5, as people read them: contiguous data would be ranges otherwise."""

ELSEWHERE = "its file is not below the folder that base_url stands for, or only a program or an archive has it"
"""Why others cannot read a file."""

NO_CHUNKS = np.empty((0, 0), np.int64)
"""Coordinates of the chunks of an array that has none left."""

SHOWN = 8
"""Most arrays that an error lists."""


@dataclass(slots=True)
class Tally:
    """What became of the chunks of an array."""

    ranges: int = 0
    encoded: int = 0
    nbytes: int = 0
    """Bytes of those that are encoded."""
    reasons: tuple[str, ...] = ()
    """Why chunks are encoded."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkReferences:
    """References to all chunks of a view."""

    view: View
    urls: FileUrls
    known_urls: dict[str, str | None] = field(default_factory=dict)
    """URLs that were found, by path."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """What became of chunks that were listed, by the paths of their arrays in the store."""

    def list_all(self, array: ServedArray) -> Iterator[Reference]:
        """Yield the reference to each chunk of an array, in the order of its plan; only what has to be encoded is read.

        Raise CorruptChunkError if a chunk is damaged, as far as its size and offset tell.
        """
        tally = self.tallies[array.plan.node.target] = Tally()
        find = self.prepare(array)
        for row, (offset, nbytes, mask) in enumerate(list_ranges(array)):
            url = None if mask else find(row)
            if url is not None:
                tally.ranges += 1
                yield url, offset, nbytes
            else:
                data = bytes(self.view.read_chunk(array, row))
                tally.encoded += 1
                tally.nbytes += len(data)
                tally.reasons = tally.reasons or (self.explain(array),)
                yield data

    def forget_chunks(self, name: str) -> None:
        """Drop the positions of the chunks of an array, which were all listed."""
        arrays = self.view.keys.arrays
        plan = replace(arrays[name].plan, chunk_coords=NO_CHUNKS, manifest=None)
        arrays[name] = replace(arrays[name], plan=plan)

    def prepare(self, array: ServedArray) -> Callable[[int], str | None]:
        """Return a function that finds the URL of the file of a chunk, None if nobody else can read that."""
        manifest, source = array.plan.manifest, self.view.keys.sources[array.job.origin]
        if manifest is None:
            return lambda row: None
        if array.files is None:
            self.check(array, manifest, source)
            url = self.locate(source)
            return lambda row: url
        numbers, files = array.files.tolist(), self.view.source.sources
        for start, stop in pairwise([*find_starts(array.files[:, np.newaxis]).tolist(), len(numbers)]):
            self.check(array, manifest.take(slice(start, stop)), files[numbers[start]])
        return lambda row: self.locate(files[numbers[row]])

    def check(self, array: ServedArray, manifest: ChunkManifest, file: H5Source) -> None:
        """Raise CorruptChunkError if a chunk cannot be a range of a file that others can read."""
        if self.locate(file) is not None and file.state is not None:
            try:
                check_copies(array.job, manifest, file.state.size)
            except CorruptChunkError as error:
                raise CorruptChunkError(f"dataset {array.plan.path!r} of {file.path}: {error}") from None

    def locate(self, file: H5Source) -> str | None:
        """Return the URL of a file, None if it is none that others can read."""
        if file.path not in self.known_urls:
            self.known_urls[file.path] = self.urls.locate(file)
        return self.known_urls[file.path]

    def explain(self, array: ServedArray) -> str:
        """Return why chunks of an array are no ranges."""
        file, plan = self.view.keys.sources[array.job.origin], array.plan
        if array.files is not None:
            combination = self.view.keys.combination
            return explain_joined(array, () if combination is None else combination.differences)
        if not file.is_fixed:
            return "the file is written to, or is in memory only"
        if plan.manifest is None or plan.manifest.masks.any():
            return join(explain_decoded(plan))
        if self.locate(file) is not None:
            return "chunks beside others that were never written"
        return ELSEWHERE


@dataclass(slots=True)
class Inlined:
    """What is in the references themselves: the bytes that it may take, and the arrays that would take more."""

    refs: ChunkReferences
    limit: int
    """Most bytes of a key."""
    room: int = field(init=False)
    """Bytes that are left for all keys."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why arrays cannot be inlined, by their paths."""

    def __post_init__(self) -> None:
        self.room = self.limit * INLINE_SHARE

    def list_all(self, array: ServedArray) -> Iterator[Reference]:
        """Yield the reference to each chunk of an array; end before one that is too large."""
        for reference in self.refs.list_all(array):
            if isinstance(reference, bytes) and not self.takes(array, len(reference)):
                return
            yield reference

    def takes(self, array: ServedArray, nbytes: int, count: int = 1) -> bool:
        """Return whether so many chunks of this size may be inlined; if not, note why."""
        if nbytes <= self.limit and nbytes * count <= self.room:
            self.room -= nbytes * count
            return True
        size = f"{format_nbytes(nbytes)} a chunk" if nbytes > self.limit else "too many chunks"
        self.refused.setdefault(array.plan.path, f"{size}: {self.refs.explain(array)}")
        return False

    def fill(self, array: ServedArray, count: int) -> bytes | None:
        """Return a chunk that was never written, to be inlined so many times; None if that is too large."""
        data = encode_elements(array.job, np.empty((0,) * len(array.counts), array.job.node.fill.value.dtype))
        tally = self.refs.tallies[array.plan.node.target]
        tally.encoded, tally.nbytes = tally.encoded + count, tally.nbytes + count * len(data)
        tally.reasons = (self.refs.explain(array),)
        return data if self.takes(array, len(data), count) else None

    def check(self) -> None:
        """Raise UnsupportedError if an array was too large to be inlined, SourceChangedError if a file changed."""
        self.refs.view.check_unchanged()
        if not self.refused:
            return
        names = [f"  {path}: {why}" for path, why in list(self.refused.items())[:SHOWN]]
        combine = "combine the files, " if self.refs.view.keys.combination else ""
        more = len(self.refused) - len(names)
        names += [f"  and {more:,} more"] if more else []
        raise UnsupportedError(
            f"{self.refs.view.source.path}: {plural(len(self.refused), 'dataset')} cannot be referred to, and would "
            f"be too large to be inlined; leave them out with exclude=, raise inline_limit, {combine}write to "
            "icechunk, or use ZarrStore, which encodes them when they are read\n" + "\n".join(names)
        )


def explain_joined(array: ServedArray, differences: Iterable[Difference]) -> str:
    """Return why chunks of an array that is joined from many files, which differ so, are no ranges of them."""
    plan, pieces = array.plan, array.job.values.pieces
    assert pieces is not None
    assert array.files is not None
    seams = len(plan.chunk_coords) - len(array.files)
    if not seams:
        return ELSEWHERE
    if plan.reasons:
        return join(plan.reasons)
    count, size = f"{seams:,} of {plural(len(plan.chunk_coords), 'chunk')}", plan.node.chunks[pieces.axis]
    is_one = seams == 1
    if not (pieces.bounds[:-1] % size).any():
        stored = [row for row in differences if row.variable == plan.path and row.action.startswith("decoded")]
        if stored:
            return f"{count}: {'; '.join(f'{row.what} in {row.files}' for row in stored)}"
        return f"{count} {'was' if is_one else 'were'} never written, or without one of their filters"
    lengths = [str(length) for length in np.diff(pieces.bounds[: SHOWN + 1]).tolist()]
    shown = ", ".join([*lengths, *(["…"] if len(pieces.files) > SHOWN else [])])
    what = "is no whole chunk" if is_one else "are not whole chunks"
    return f"{count} {what} of one file: chunks of {size} elements, files of {shown}"


def join(reasons: Iterable[str]) -> str:
    """Return reasons in words, as one text."""
    return "; ".join(WORDS.get(reason, reason) for reason in reasons)


def list_ranges(array: ServedArray) -> Iterator[tuple[int, int, int]]:
    """Yield offset, size and filter mask of each chunk of an array; a mask if chunks have no offsets in the file."""
    manifest = array.plan.manifest
    for start in range(0, len(array.plan.chunk_coords), BATCH):
        rows = slice(start, start + BATCH)
        if manifest is None:
            yield from [(0, 0, 1)] * len(array.plan.chunk_coords[rows])
        else:
            part = manifest.take(rows)
            yield from zip(part.offsets.tolist(), part.nbytes.tolist(), part.masks.tolist(), strict=True)
