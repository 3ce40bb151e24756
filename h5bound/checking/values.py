"""The work of a check: decode chunks where their places are known, and read all others as arrays do.

A unit is read while the file is open, and nothing of it is kept: a thread holds one chunk, or a few small ones.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import cut_batches, region_of, show_region
from h5bound.errors import H5BoundError, SourceChangedError, SourceNotFoundError, UnsupportedError
from h5bound.execution.work import Work
from h5bound.h5py_compat import describe
from h5bound.hdf5.virtual_mappings import find_sources
from h5bound.planning.work_units import UNIT_CHUNKS, Unit
from h5bound.reader.via_h5py import IN_A_SOURCE
from h5bound.reports.check import ChunkCount, Damage
from h5bound.reports.entries import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.reader.open_file import OpenFile

LOGGER = logging.getLogger(__name__)

MOST_NAMED = 1000
"""Most damaged chunks of a dataset that are listed."""

UNIT_NBYTES = 32 * 2**20
"""Most bytes of the values of a unit, but at least one chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckJob:
    """A dataset to read: what its units have in common."""

    path: str
    """Path of the dataset in reports."""
    inside: str
    """Path of the dataset in its file."""
    origin: int
    """Number of its file."""
    shape: Shape
    chunks: Shape
    """Shape of a chunk, or of a piece of a dataset without chunks."""
    itemsize: int
    """Bytes of an element in memory."""
    allowed: tuple[Path, ...] | None
    """Directories of the external files that it may read from; None if it reads from none."""

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of the values of a chunk."""
        return max(prod(self.chunks) * self.itemsize, 1)

    def measure(self, coords: NDArray[np.int64]) -> ChunkCount:
        """Return how many pieces of a dataset there are, and at most the bytes of their values."""
        return ChunkCount(len(coords), min(len(coords) * self.chunk_nbytes, prod(self.shape) * self.itemsize))

    def show(self, coords: Sequence[int] | NDArray[np.int64]) -> str:
        """Return the region of a chunk as a slice of Python; "" for a scalar.

        >>> CheckJob(
        ...     path="/a", inside="/a", origin=0, shape=(7, 3), chunks=(4, 3), itemsize=1, allowed=None
        ... ).show((1, 0))
        '[4:7, 0:3]'
        """
        if not self.shape:
            return ""
        region = region_of(tuple(int(i) for i in coords), self.shape, self.chunks)
        return show_region(region)

    def cut(self, number: int, coords: NDArray[np.int64], manifest: ChunkManifest | None) -> Iterator[Unit]:
        """Yield the units that read some chunks. `number` is that of the dataset among the jobs."""
        sizes = np.full(len(coords), self.chunk_nbytes, np.int64)
        for start, stop in cut_batches(sizes, UNIT_NBYTES, UNIT_CHUNKS):
            rows = slice(start, stop)
            part = None if manifest is None else manifest.take(rows)
            yield Unit(number, coords[rows], self.chunk_nbytes * (stop - start), manifest=part)

    def describe(self, chunks: ChunkManifest, row: int, reason: str) -> Damage:
        """Return the damage of a chunk whose place is known."""
        return Damage(
            path=self.path,
            reason=reason,
            region=self.show(chunks.chunk_coords[row]),
            offset=int(chunks.offsets[row]),
            nbytes=int(chunks.nbytes[row]),
        )


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """What was found in a unit."""

    array: int
    """Number of the dataset among the jobs."""
    damages: tuple[Damage, ...] = ()
    problem: str = ""
    """Why chunks could not be checked, though they need not be damaged."""


def check_unit(opened: OpenFile, job: CheckJob, unit: Unit) -> UnitCheck:
    """Read the chunks of a unit, and return which are damaged. Raise SourceChangedError if the file changed."""
    opened.check_external_files(job.inside, job.allowed)
    if unit.manifest is not None:
        try:
            found = opened.reader(job.inside).find_damaged(unit.manifest)
            if found is not None:
                damages = (job.describe(unit.manifest, row, shorten(reason, "")) for row, reason in found)
                return UnitCheck(unit.array, tuple(damages))
        except (SourceChangedError, SourceNotFoundError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own; read one by one, each has a place
            LOGGER.debug("%s: %s", job.path, error)
    return read_chunks(opened, job, unit)


def read_chunks(opened: OpenFile, job: CheckJob, unit: Unit) -> UnitCheck:
    """Read chunks, or pieces, one by one as arrays do."""
    named, problem = f"{job.inside} in {opened.file.filename}", ""
    damages: list[Damage] = []
    all_coords = [tuple(coords) for coords in unit.chunk_coords.tolist()]
    regions = [region_of(coords, job.shape, job.chunks) for coords in all_coords]
    with suppress(H5BoundError):  # each read says why
        opened.prefetch(job.inside, regions)
    for row, region in enumerate(regions):
        try:
            opened.read(job.inside, region)
        except (SourceChangedError, SourceNotFoundError, MemoryError):
            raise
        except UnsupportedError as error:
            problem = problem or shorten(describe(error), named)
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own
            reason = shorten(describe(error), named)
            if unit.manifest is not None:
                damages.append(job.describe(unit.manifest, row, reason))
            else:
                whole = Damage(job.path, reason, region=job.show(all_coords[row]))
                damages += find_damaged_sources(opened, job, region) or [whole]
    return UnitCheck(unit.array, tuple(damages), problem)


def find_damaged_sources(opened: OpenFile, job: CheckJob, region: Region) -> list[Damage]:
    """Return the damages of a piece of a virtual dataset, source by source; none of another dataset."""
    dataset = opened.open_dataset(job.inside)
    parts = find_sources(dataset.id.get_create_plist(), job.shape, region) if dataset.is_virtual else []
    damages = []
    for part, source in parts:
        try:
            opened.read(job.inside, part)
        except (SourceChangedError, SourceNotFoundError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - codecs raise errors of their own
            reason = shorten(describe(error), f"{job.inside} in {opened.file.filename}")
            damages.append(Damage(job.path, f"virtual source {source}: {reason}", region=show_region(part)))
    return damages


def shorten(reason: str, named: str) -> str:
    """Return an error of the reader without the name of the dataset and the place of the block.

    >>> shorten("/x in a.h5: HDF5 cannot read a chunk of the block at (0,): bad checksum", "/x in a.h5")
    'HDF5 cannot read it: bad checksum'
    >>> shorten("/x in a.h5: Can't read data (addr overflow, addr = 950, size = 80, eoa = 1000)", "/x in a.h5")
    'it extends past the end of the file'
    """
    if "addr overflow" in reason or "past the end of the file" in reason:  # one reason, however many chunks
        return "it extends past the end of the file"
    reason = reason.removeprefix(named).removesuffix(IN_A_SOURCE).lstrip(":, ")
    reason = re.sub(r"HDF5 cannot read a chunk of the block at \([^)]*\)", "HDF5 cannot read it", reason)
    return re.sub(r"^chunk at \([^)]*\): ", "", reason)


def report_unit(_job: CheckJob, _unit: Unit, result: UnitCheck) -> UnitCheck:
    """Return what was found, now that the file was found unchanged at its close."""
    return result


def list_damages(
    jobs: Sequence[CheckJob], results: Sequence[UnitCheck], files: Sequence[str]
) -> tuple[list[Damage], int, list[Skipped]]:
    """Return what is damaged, how many chunks are not listed since a dataset has very many, and what was not read.

    `files` are the paths of the files by number, of which the first one is not named.
    """
    damages: list[Damage] = []
    counts, unread = Counter[str](), dict[str, str]()
    unnamed = 0
    for result in results:
        path = jobs[result.array].path
        named = result.damages[: max(MOST_NAMED - counts[path], 0)]
        origin = jobs[result.array].origin
        damages += [replace(damage, file=files[origin]) for damage in named] if origin else named
        counts[path] += len(named)
        unnamed += len(result.damages) - len(named)
        if result.problem:
            unread.setdefault(path, result.problem)
    return damages, unnamed, [Skipped(path, reason) for path, reason in unread.items()]


CHECK: Work[UnitCheck] = Work("check", read=check_unit, use=report_unit, keeps=False)
"""The work of a check."""
