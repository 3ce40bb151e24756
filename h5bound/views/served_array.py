"""An array of a store that is not written, and the chunks that it has."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.chunk_grid import count_chunks, region_of
from h5bound.conversion.job import key_of
from h5bound.errors import CorruptChunkError, DatasetNotFoundError, SourceChangedError
from h5bound.hdf5.dataset import read_dataset
from h5bound.planning.pieces import NO_FILE
from h5bound.planning.work_units import Unit, make_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.conversion.job import Job
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.plan import ArrayPlan
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source

BATCH = 4096
"""Chunks whose coordinates or ranges are Python objects at a time."""


@dataclass(frozen=True, eq=False)
class ServedArray:
    """An array, and the chunks that it has."""

    number: int
    """Number of the array among the plans."""
    plan: ArrayPlan
    job: Job
    record: DatasetRecord
    files: NDArray[np.int32] | None = None
    """Joined from many files: numbers of the files of its first chunks, which are copied; all others are encoded."""

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return count_chunks(self.plan.node.shape, self.plan.node.write_shape)

    @cached_property
    def _declared(self) -> int | None:
        """Bytes that each chunk must have; None where codecs decide them."""
        node = self.plan.node
        return None if node.chain.compressors or node.chain.filters else prod(node.chunks) * node.dtype.itemsize

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Numbers of its chunks in C order, sorted, and the row of each in the plan; None where they are the same."""
        coords = self.plan.chunk_coords
        if not coords.shape[1]:
            return np.zeros(len(coords), np.int64), None
        numbers = np.ravel_multi_index(tuple(coords.T), self.counts)
        if bool((numbers[1:] > numbers[:-1]).all()):
            return numbers, None
        rows = np.argsort(numbers)
        return numbers[rows], rows

    def find_row(self, coords: Sequence[int]) -> int | None:
        """Return the row of a chunk in the plan, None if there is no such chunk."""
        if len(coords) != len(self.counts) or any(at >= count for at, count in zip(coords, self.counts, strict=True)):
            return None
        if not len(self.plan.chunk_coords):  # the grid may have more chunks than can be numbered
            return None
        number = int(np.ravel_multi_index(tuple(coords), self.counts)) if coords else 0
        numbers, rows = self._sorted
        index = int(np.searchsorted(numbers, number))
        if index == len(numbers) or numbers[index] != number:
            return None
        return index if rows is None else int(rows[index])

    def find_range(self, row: int) -> tuple[int, int] | None:
        """Return offset and size of a chunk that is in the file as the store has it.

        None if it has to be encoded, or has another size than its elements: then it is refused when it is read.
        """
        manifest = self.plan.manifest
        if manifest is None or manifest.masks[row] or self._declared not in (None, manifest.nbytes[row]):
            return None
        return int(manifest.offsets[row]), int(manifest.nbytes[row])

    @contextmanager
    def naming_chunk(self, row: int, file: H5Source) -> Iterator[None]:
        """Raise an error of damaged bytes as a CorruptChunkError that names the chunk, or SourceChangedError."""
        try:
            yield
        except DamagedError as error:
            file.check_unchanged()
            coords = self.plan.chunk_coords if self.plan.manifest is None else self.plan.manifest.chunk_coords
            where = tuple(coords[row].tolist())
            raise CorruptChunkError(
                f"dataset {self.plan.path!r} of {file.path}: the chunk at {where}: {error}"
            ) from error

    def check_dataset(self, opened: OpenFile) -> None:
        """Raise SourceChangedError if somebody who writes to the file has put another dataset in the place of this."""
        if opened.state is not None:
            return
        before, now = self.record, None
        with suppress(DatasetNotFoundError):
            now = read_dataset(opened.open_dataset(self.job.values.inside), count=False)
        if now is None or any(getattr(now, name) != getattr(before, name) for name in ("dtype", "chunks", "filters")):
            raise SourceChangedError(
                f"dataset {self.plan.path!r} of {opened.file.filename}: it was deleted or made anew; make the store "
                "again"
            )

    def list_files(self, row: int) -> list[int]:
        """Return the numbers of the joined files that have elements of a chunk."""
        node, pieces = self.plan.node, self.job.values.pieces
        assert pieces is not None
        region = region_of(tuple(self.plan.chunk_coords[row].tolist()), node.shape, node.write_shape)
        return [share.file for share in pieces.find(region) if share.file != NO_FILE]

    def find_rows(self, prefix: str) -> list[int]:
        """Return the rows of the chunks whose keys begin with a prefix."""
        if f"{self.job.node.target}/".startswith(prefix):
            return list(range(len(self.plan.chunk_coords)))
        return [row for row, key in enumerate(self.list_keys()) if key.startswith(prefix)]

    def make_unit(self, row: int) -> Unit:
        """Return the work unit of one chunk."""
        if self.files is not None:
            rows = slice(row, row + 1)
            unit = Unit(self.number, self.plan.chunk_coords[rows], 1)
            if row >= len(self.files) or self.plan.manifest is None:
                return unit
            return replace(unit, manifest=self.plan.manifest.take(rows), files=self.files[rows])
        return make_unit(self.number, self.plan, start=row, stop=row + 1, nbytes=0)

    def list_keys(self) -> Iterator[str]:
        """Yield the keys of all chunks."""
        return (key_of(self.job, coords) for coords in self.list_coords())

    def list_coords(self) -> Iterator[list[int]]:
        """Yield the coordinates of all chunks."""
        coords = self.plan.chunk_coords
        return (row for start in range(0, len(coords), BATCH) for row in coords[start : start + BATCH].tolist())
