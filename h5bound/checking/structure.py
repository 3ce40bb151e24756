"""What is in a file, as far as it can be opened: what of its metadata is damaged, and which chunks are to be read."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from h5py import h5a

from h5bound.checking.opening import open_attributes, open_rest
from h5bound.checking.overlaps import find_overlaps
from h5bound.checking.values import CheckJob
from h5bound.chunk_grid import ChunkGrid, list_chunk_coords, list_overlapping, plan_auto_chunks
from h5bound.codecs.filters import FILTERS
from h5bound.errors import CorruptChunkError, H5BoundError, OptionError, UnsafeSourceError, UnsupportedError, naming
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.attributes import list_attribute_names
from h5bound.hdf5.chunk_index import index_chunks
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import read_dtype
from h5bound.hdf5.external_check import check_external_files
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.hdf5.links import PathOpener, decode_name
from h5bound.hdf5.virtual_mappings import list_boxes
from h5bound.planning.array_options import list_unmatched
from h5bound.planning.external_links import LinkResolver
from h5bound.planning.origins import read_origin
from h5bound.planning.scan import check_chunk_count
from h5bound.planning.scan_log import ScanLog
from h5bound.reports.check import ChunkCount, Damage
from h5bound.reports.entries import Skipped
from h5bound.zarr_model.attribute_values import read_value

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from h5bound.files.file_state import FileState
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.origins import Origin
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source

PIECE_NBYTES = 16 * 2**20
"""Bytes of a piece of data without chunks."""

UNKNOWN = (TypeError, NotImplementedError, UnsupportedError)
"""Errors for types that h5py does not have: nothing is damaged."""


@dataclass(slots=True, eq=False)
class Structure:
    """What a check has found before it reads values."""

    origins: list[Origin] = field(default_factory=list)
    """The file, and those behind external links that are followed."""
    jobs: list[CheckJob] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    log: ScanLog = field(default_factory=ScanLog)
    """What was not checked."""
    external_states: dict[str, FileState] = field(default_factory=dict)
    """States of the files of virtual datasets and external storage, by path."""
    attributes: int = 0
    summed: ChunkCount = field(default_factory=ChunkCount)
    decoded: ChunkCount = field(default_factory=ChunkCount)
    plain: ChunkCount = field(default_factory=ChunkCount)

    @property
    def sources(self) -> list[H5Source]:
        """The files that are read."""
        return [origin.source for origin in self.origins]

    @property
    def groups(self) -> int:
        """Number of groups that were found."""
        return sum(len(origin.hierarchy.groups) for origin in self.origins)

    @property
    def datasets(self) -> int:
        """Number of datasets that were found."""
        return sum(len(origin.hierarchy.datasets) for origin in self.origins)

    def list_external_files(self) -> list[str]:
        """Return the paths of the other files that are read."""
        return [*(source.path for source in self.sources[1:]), *self.external_states]

    def add_job(self, job: CheckJob, coords: NDArray[np.int64], manifest: ChunkManifest | None = None) -> None:
        """Add a dataset of which some chunks are read."""
        self.units += job.cut(len(self.jobs), coords, manifest)
        self.jobs.append(job)


def read_structure(source: H5Source, *, settings: Settings, limits: Limits, allowed: tuple[Path, ...]) -> Structure:
    """Open everything in a file, and go on after each damage.

    Raise OptionError if a glob matches nothing, UnsafeSourceError if the file exceeds a limit.
    """
    with open_rest(source) as (rest, opened, damages):
        structure = Structure(damages=damages)
        if opened is not None:
            add_objects(structure, rest, opened, settings=settings, limits=limits, allowed=allowed)
        return structure


def add_objects(
    structure: Structure,
    source: H5Source,
    opened: OpenFile,
    *,
    settings: Settings,
    limits: Limits,
    allowed: tuple[Path, ...],
) -> None:
    """Open everything in an open file, and in those that it leads to."""
    resolver = LinkResolver(settings=settings, limits=limits, allowed=allowed, hdmf=False, log=structure.log)
    try:
        resolver.resolve(read_origin(source, opened.file, settings=settings, limits=limits, log=structure.log))
    except UnsupportedError as error:
        structure.damages.append(Damage("/", describe(error).removeprefix(f"{opened.file.filename}: ")))
        return
    if not structure.damages:  # else what is missing may be what is asked for
        unmatched = list(list_unmatched(opened.file.filename, structure.log.paths, settings))
        if unmatched:
            raise OptionError("; ".join(unmatched))
    check_chunk_count(resolver.origins, limits)
    structure.origins = resolver.origins
    for number, origin in enumerate(resolver.origins):
        with origin.source.opened() if number else nullcontext(opened) as file:
            origin.source.make_exclusive_for(record.dtype for record in origin.hierarchy.datasets)
            before = len(structure.damages)
            add_origin(structure, file, number, allowed=allowed)
            file_path = origin.source.path if number else ""
            structure.damages[before:] = [replace(damage, file=file_path) for damage in structure.damages[before:]]


def add_origin(structure: Structure, opened: OpenFile, number: int, *, allowed: tuple[Path, ...]) -> None:
    """Open the objects of one file, and list the chunks of its datasets."""
    origin = structure.origins[number]
    hierarchy = origin.hierarchy
    structure.damages += [Damage(path, f"it cannot be opened: {reason}") for path, reason in hierarchy.problems]
    with open_attributes(origin.source, opened) as file, closing(PathOpener(file)) as opener:
        for path in (*hierarchy.groups, *hierarchy.committed_types, *(record.path for record in hierarchy.datasets)):
            try:
                read_attributes(structure, opener.open(origin.locate(path)), path)
            except (H5BoundError, *READ_ERRORS) as error:
                structure.damages.append(Damage(path, f"it cannot be opened: {describe(error)}"))
    places: list[tuple[CheckJob, ChunkManifest]] = []
    for record in hierarchy.datasets:
        try:
            found = add_dataset(structure, opened, record, number=number, allowed=allowed)
        except CorruptChunkError as error:
            structure.damages.append(
                Damage(record.path, describe(error).removeprefix(f"{origin.locate(record.path)}: "))
            )
        except (UnsafeSourceError, *UNKNOWN) as error:
            structure.log.skip(record.path, describe(error))
        except (H5BoundError, *READ_ERRORS) as error:
            structure.damages.append(Damage(record.path, describe(error)))
        else:
            places += [] if found is None else [found]
    structure.damages += find_overlaps(places)


def read_attributes(structure: Structure, item: h5py.Group | h5py.Dataset | h5py.Datatype, path: str) -> None:
    """Read all attributes of an object."""
    names, problem = list_attribute_names(item)
    if problem:
        structure.damages.append(Damage(path, problem, attribute="*"))
    for raw_name in names:
        name = decode_name(raw_name)
        try:
            read_value(h5a.open(item.id, raw_name))
            structure.attributes += 1
        except UNKNOWN as error:
            structure.log.skipped.append(Skipped(path, describe(error), attribute=name))
        except READ_ERRORS as error:
            structure.damages.append(Damage(path, f"it cannot be read: {describe(error)}", attribute=name))


def add_dataset(
    structure: Structure, opened: OpenFile, record: DatasetRecord, *, number: int, allowed: tuple[Path, ...]
) -> tuple[CheckJob, ChunkManifest] | None:
    """Add the chunks of a dataset, or pieces of one without. Return its chunks, if their places are known.

    Raise the errors of what cannot be read; UnsupportedError if that is no damage.
    """
    origin = structure.origins[number]
    dataset = opened.open_object(origin.locate(record.path))
    dtype = read_dtype(read_type(dataset.id))
    if record.problem is not None:
        raise UnsupportedError(record.problem)
    external = record.layout in EXTERNAL_LAYOUTS
    if external:
        with naming("data is missing", UnsupportedError, raising=CorruptChunkError):
            structure.external_states |= check_external_files(opened.file, dataset.id, allowed)
    shape = dataset.shape if record.layout == "virtual" else record.shape
    if shape is None or not prod(shape):
        return None
    job = CheckJob(
        path=record.path,
        inside=origin.locate(record.path),
        origin=number,
        shape=shape,
        chunks=record.chunks or plan_auto_chunks(shape, dtype.itemsize, PIECE_NBYTES),
        itemsize=dtype.itemsize,
        allowed=allowed if external else None,
    )
    if record.chunks is not None:
        return add_chunks(structure, dataset, record, job=job)
    coords = list_pieces(dataset, record, job)
    structure.plain += job.measure(coords)
    structure.add_job(job, coords)
    return None


def list_pieces(dataset: h5py.Dataset, record: DatasetRecord, job: CheckJob) -> NDArray[np.int64]:
    """Return the pieces of a dataset without chunks that hold data."""
    if record.layout == "virtual":
        boxes = list_boxes(dataset.id.get_create_plist(), job.shape)
        return list_overlapping(boxes[:, 0], boxes[:, 1], chunks=job.chunks, limit=MAX_PIECES)
    if not record.stored_nbytes:
        return np.zeros((0, len(job.shape)), np.int64)
    return list_chunk_coords(job.shape, job.chunks, MAX_PIECES)


MAX_PIECES = 10_000_000
"""Most pieces of a dataset without chunks: more bytes than any file has."""


def add_chunks(
    structure: Structure, dataset: h5py.Dataset, record: DatasetRecord, *, job: CheckJob
) -> tuple[CheckJob, ChunkManifest] | None:
    """Add the stored chunks of a dataset, and count them by what proves that they are right."""
    if not record.stored_chunks:
        return None
    manifest, problem = None, ""
    try:
        manifest = index_chunks(dataset.id, ChunkGrid(job.shape, job.chunks))
    except READ_ERRORS as error:
        if isinstance(error, H5BoundError):
            raise
        problem = f"the chunk index is damaged: {describe(error)}"
        structure.damages.append(Damage(record.path, problem))
    if manifest is None:  # HDF5 finds what it can, chunk by chunk
        coords = list_chunk_coords(job.shape, job.chunks, 2 * record.stored_chunks + FEW)
        structure.add_job(job, coords)
        count_by_proof(structure, record, job=job, masks=np.zeros(len(coords), np.int64))
        return None
    if record.edge_unfiltered:
        every = (1 << len(record.filters)) - 1
        manifest = replace(manifest, masks=manifest.mask_partial(job.shape, job.chunks, every))
    structure.add_job(job, manifest.chunk_coords, manifest)
    count_by_proof(structure, record, job=job, masks=manifest.masks)
    return job, manifest


FEW = 10_000
"""Chunks of a grid that are asked for one by one, beside twice as many as are stored, where no index says which."""


def count_by_proof(structure: Structure, record: DatasetRecord, *, job: CheckJob, masks: NDArray[np.int64]) -> None:
    """Count chunks by what a check can say of them, from their filter masks."""
    specs = [FILTERS.get(entry.id) for entry in record.filters]
    for mask, count in zip(*np.unique(masks, return_counts=True), strict=True):
        applied = [spec for i, spec in enumerate(specs) if not int(mask) >> i & 1]
        counted = ChunkCount(int(count), int(count) * job.chunk_nbytes)
        if any(spec is not None and spec.has_checksum for spec in applied):
            structure.summed += counted
        elif any(spec is None or spec.growth is None for spec in applied):
            structure.decoded += counted
        else:
            structure.plain += counted
