"""The keys that a conversion of a file would write, each of which can be read alone.

A key is a metadata document, which is made at once, or a chunk: the bytes of HDF5 as they are where the plan copies
them, else what is read and encoded as a conversion does (:mod:`h5bound.conversion.transfer`).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.chunk_grid import count_chunks
from h5bound.conversion.provenance import list_inputs
from h5bound.conversion.summary import make_report
from h5bound.conversion.transfer import key_of
from h5bound.conversion.write_store import describe_store, make_jobs
from h5bound.errors import CorruptChunkError, DatasetNotFoundError, SourceChangedError
from h5bound.execution.work import UnitResult
from h5bound.files.file_objects import ObjectLocation
from h5bound.hdf5.dataset import read_dataset
from h5bound.planning.array_options import check_applied
from h5bound.planning.scan import scan_source
from h5bound.planning.store_plan import StorePlan, make_unit, plan_all, refuse
from h5bound.reader.open_file import open_dataset
from h5bound.reports.conversion import SERVED
from h5bound.stores.metadata import dump
from h5bound.stores.resolve import open_target
from h5bound.views.contiguous import split_contiguous
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.conversion.transfer import Job
    from h5bound.files.file_state import FileState
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source
    from h5bound.reports.conversion import ConversionReport

SCHEME = "hdf5://"
"""Begins the name of a file that is served as a store."""

CHUNKS = "c"
"""First part of the keys of chunks below those of their array, in format 3."""


BATCH = 4096
"""Chunks whose coordinates or places are Python objects at a time."""


@dataclass(frozen=True, eq=False)
class ServedArray:
    """An array, and the chunks that it has."""

    number: int
    """Number of the array among the plans."""
    plan: ArrayPlan
    job: Job
    record: DatasetRecord

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
        number = int(np.ravel_multi_index(tuple(coords), self.counts)) if coords else 0
        numbers, rows = self._sorted
        place = int(np.searchsorted(numbers, number))
        if place == len(numbers) or numbers[place] != number:
            return None
        return place if rows is None else int(rows[place])

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
            where = tuple(self.plan.chunk_coords[row].tolist())
            raise CorruptChunkError(
                f"dataset {self.plan.path!r} of {file.path}: the chunk at {where}: {error}"
            ) from error

    def check_dataset(self, opened: OpenFile) -> None:
        """Raise SourceChangedError if somebody who writes to the file has put another dataset in the place of this."""
        if opened.state is not None:
            return
        before, now = self.record, None
        with suppress(DatasetNotFoundError):
            now = read_dataset(open_dataset(opened.file, self.job.values.inside), count=False)
        if now is None or any(getattr(now, name) != getattr(before, name) for name in ("dtype", "chunks", "filters")):
            raise SourceChangedError(
                f"dataset {self.plan.path!r} of {opened.file.filename}: it was deleted or made anew; make the store "
                "again"
            )

    def find_rows(self, prefix: str) -> list[int]:
        """Return the rows of the chunks whose keys begin with a prefix."""
        if f"{self.job.node.target}/".startswith(prefix):
            return list(range(len(self.plan.chunk_coords)))
        return [row for row, key in enumerate(self.list_keys()) if key.startswith(prefix)]

    def make_unit(self, row: int) -> Unit:
        """Return the work unit of one chunk."""
        return make_unit(self.number, self.plan, start=row, stop=row + 1, nbytes=0)

    def list_keys(self) -> Iterator[str]:
        """Yield the keys of all chunks."""
        return (key_of(self.job, coords) for coords in self.list_coords())

    def list_coords(self) -> Iterator[list[int]]:
        """Yield the coordinates of all chunks."""
        coords = self.plan.chunk_coords
        return (row for start in range(0, len(coords), BATCH) for row in coords[start : start + BATCH].tolist())


@dataclass(frozen=True, eq=False)
class ServedKeys:
    """All keys of a store that is not written."""

    documents: Mapping[str, bytes]
    """Metadata documents by their keys."""
    arrays: Mapping[str, ServedArray]
    """Arrays by their paths."""
    sources: Sequence[H5Source]
    """The files, by their numbers: the first, and those behind external links."""
    have_ranges: Sequence[bool]
    """Of each of them, whether its bytes may be read where the plan says, without HDF5."""
    external_states: Mapping[str, FileState]
    """States of the files of virtual datasets and of external storage, by path."""
    report: ConversionReport
    """What a conversion would do, as far as it is known before anything is read."""
    zarr_format: int

    def find_chunk(self, key: str) -> tuple[ServedArray, int] | None:
        """Return the array and the row of the chunk that a key has; None if the store has no such chunk."""
        if self.zarr_format == 3:
            path, _, place = key.rpartition(f"/{CHUNKS}/") if f"/{CHUNKS}/" in key else (key.removesuffix("/c"), "", "")
            coords = place.split("/") if place else []
        else:
            path, _, place = key.rpartition("/")
            coords = place.split(".")
        array = self.arrays.get(path)
        if array is None or not all(part.isascii() and part.isdecimal() for part in coords):
            return None
        if not array.counts and self.zarr_format == 2:
            coords = coords if coords != ["0"] else []
        row = array.find_row(list(map(int, coords)))
        return None if row is None or key_of(array.job, array.plan.chunk_coords[row].tolist()) != key else (array, row)

    def list_all(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with a prefix."""
        yield from (key for key in self.documents if key.startswith(prefix))
        for path, array in self.arrays.items():
            if f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
                yield from (key for key in array.list_keys() if key.startswith(prefix))

    def list_names(self, prefix: str) -> list[str]:
        """Return the names of keys and folders below a folder, each once."""
        folder = prefix.rstrip("/")
        names, path = dict.fromkeys(self._folders.get(folder, ())), folder
        while path and path not in self.arrays:
            path = path.rpartition("/")[0]
        if path:
            array, start = self.arrays[path], f"{folder}/"
            if path == folder and self.zarr_format == 3:
                return [*names, *([CHUNKS] if len(array.plan.chunk_coords) else [])]
            names |= dict.fromkeys(
                key[len(start) :].partition("/")[0] for key in array.list_keys() if key.startswith(start)
            )
        return list(names)

    @cached_property
    def _folders(self) -> Mapping[str, Mapping[str, None]]:
        """Names of documents and folders below each folder."""
        folders: dict[str, dict[str, None]] = {}
        for key in self.documents:
            while key:
                key, _, name = key.rpartition("/")
                folders.setdefault(key, {})[name] = None
        return folders


def plan_keys(
    source: H5Source, *, settings: Settings, limits: Limits, allowed: Sequence[Path], skip: bool, split: bool = False
) -> ServedKeys:
    """Return the keys of the store that a conversion of a file would write.

    With `split`, contiguous data has chunks that are byte ranges of the file, which a conversion encodes.

    Raise UnsupportedError or UnsafeSourceError if there is something that cannot be converted, unless `skip`, and
    OptionError if a glob matches nothing.
    """
    from zarr.storage import MemoryStore

    with source.keep_open(keep=True):
        with source.opened() as opened:
            scan = scan_source(source, opened, settings=settings, limits=limits, allowed=tuple(allowed))
        check_applied(scan, settings)
        have_ranges = [has_ranges(origin.source) for origin in scan.origins]
        scan = split_all(scan) if split else scan
        arrays, skipped = plan_all(scan, settings, limits)
        plan = StorePlan(tuple(arrays), (), tuple(skipped))
        if not skip:
            refuse(scan.hierarchy.file, skipped)
    target = open_target(MemoryStore(), settings.zarr_format, None)  # only for the form of its keys
    jobs = make_jobs(target, scan, plan, skip=False)
    nodes, root, provenance = describe_store(
        settings.zarr_format, scan, jobs, failed=(), skipped=skipped, written={},
        inputs=list_inputs(scan, settings, limits),
    )  # fmt: skip
    documents = {key: dump(document) for key, document in {**nodes, OWN_KEY: provenance, **root}.items()}
    written = [UnitResult(number, chunks=len(array.chunk_coords)) for number, array in enumerate(arrays)]
    report = make_report(scan, plan, target, written=written, failed={}, complete=False, window=0)
    report = replace(report, target=f"{SCHEME}{source.path}", remark=SERVED)
    records = {item.record.path: item.record for item in scan.datasets}
    served = {
        job.node.target: ServedArray(number=number, plan=array, job=job, record=records[array.path])
        for number, (array, job) in enumerate(zip(arrays, jobs, strict=True))
    }
    return ServedKeys(
        documents=documents,
        arrays=served,
        sources=scan.sources,
        have_ranges=have_ranges,
        report=report,
        external_states=scan.external_states,
        zarr_format=settings.zarr_format,
    )


def split_all(scan: SourceScan) -> SourceScan:
    """Return the scan with contiguous data of all files that nobody writes as chunks."""
    datasets = list(scan.datasets)
    for number, origin in enumerate(scan.origins):
        if not is_fixed(origin.source):
            continue
        with origin.source.opened() as opened:
            datasets = [
                split_contiguous(opened.file, origin.locate(item.record.path), item) if item.origin == number else item
                for item in datasets
            ]
    return replace(scan, datasets=tuple(datasets))


def has_ranges(source: H5Source) -> bool:
    """Return whether bytes of a file may be read without HDF5: no file object, and no file that somebody writes."""
    if not is_fixed(source) or isinstance(source.location, ObjectLocation):
        return False
    if source.remote:
        return True
    with source.opened() as opened:
        return opened.bytes is not None


def is_fixed(source: H5Source) -> bool:
    """Return whether a file has a path, and nobody wrote to it when it was planned, so that its bytes have places."""
    return source.state is not None and source.strict_state
