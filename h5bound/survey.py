"""Everything a conversion has to know of a file before it writes, read once: metadata, and lists of stored chunks.

What cannot be carried is found here, all of it, each with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.attributes import merge_metadata, read_attributes, spell_links
from h5bound.datatypes import ZarrType, translate_type
from h5bound.dimensions import name_dimensions
from h5bound.errors import H5BoundError, UnsafeSourceError, UnsupportedError
from h5bound.fillvalues import read_fill
from h5bound.grid import count_cells
from h5bound.index import READ_ERRORS, describe, open_object
from h5bound.kept import check_filters, translate_chain
from h5bound.names import escape_siblings
from h5bound.origins import Follower, Origin, list_paths, parent_of, read_origin
from h5bound.outside import explain_outside
from h5bound.plan import Facts, StoredChunks
from h5bound.rawbytes import is_refused
from h5bound.report import Link, Note, Skipped
from h5bound.stored import ChunkGrid, list_chunks
from h5bound.typetext import spell_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.dimensions import Dimensions
    from h5bound.index import DatasetRecord, Index
    from h5bound.references import ReferencePaths
    from h5bound.settings import Limits, Settings
    from h5bound.source import H5Source, OpenFile

LENGTHS_AT_ONCE = 65_536
"""Variable-length sequences that are counted at once."""
MAX_COUNTED = 10_000_000
"""Elements of varying length that are counted though the file has fewer bytes of them."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What was read of one group."""

    path: str
    target: str
    """path in the store; "" for the root"""
    attributes: Mapping[str, Any]
    origin: int = 0
    """number of the file that it is in, among those of the survey"""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What was read of a file, and of those that its external links lead to."""

    origins: tuple[Origin, ...]
    """the file itself first"""
    targets: Mapping[str, str]
    """path in the store by path in the source, of all that was to be carried"""
    groups: tuple[GroupFacts, ...]
    datasets: tuple[Facts, ...]
    details: Mapping[str, Any]
    """what belongs into ``_h5bound`` of the root, by path"""
    skipped: tuple[Skipped, ...]
    links: tuple[Link, ...]
    notes: tuple[Note, ...]

    @property
    def index(self) -> Index:
        """What of the file itself is carried."""
        return self.origins[0].index


@dataclass(slots=True)
class Findings:
    """What is gathered while a file is read."""

    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def note_attributes(self, path: str, record: Any) -> None:
        """Keep what the attributes of an object leave open."""
        self.skipped += [Skipped(path, reason, attribute=name) for name, reason in record.skipped]
        self.notes += [Note(path, note) for note in record.notes]
        self.add_details(path, record.details)

    def add_details(self, path: str, details: Mapping[str, Any]) -> None:
        """Keep what belongs into ``_h5bound`` of the root."""
        if details:
            self.details[path] = {**self.details.get(path, {}), **details}


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the reading of each object needs."""

    opened: OpenFile
    origin: Origin
    number: int
    """of the origin"""
    settings: Settings
    allowed: tuple[Path, ...]
    targets: Mapping[str, str]
    """path in the store by path in the source"""
    resolve: ReferencePaths
    found: Findings

    def open(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Give the object that stands at a path of the report."""
        return open_object(self.opened.file, self.origin.locate(path))


def read_survey(source: H5Source, settings: Settings, limits: Limits, allowed: tuple[Path, ...] = ()) -> Survey:
    """Give all that is to be known of a file. It is open meanwhile, and closed afterwards.

    Raises
    ------
    UnsafeSourceError
        The file passes one of the limits.
    SourceChangedError
        It was written to meanwhile.
    """
    follower = Follower(settings, limits, allowed)
    opened = source.open()
    try:
        follower.follow(read_origin(source, opened.file, settings, limits, follower.skipped), opened.file)
        reader = Reader(follower, settings, allowed)
        reader.read(0, opened)
        source.check(opened)
    finally:
        source.close(opened)
    for number, origin in enumerate(follower.origins[1:], 1):
        opened = origin.source.open()
        try:
            reader.read(number, opened)
            origin.source.check(opened)
        finally:
            origin.source.close(opened)
    return reader.finish()


class Reader:
    """Reads what is to be known of the objects of all origins.

    Parameters
    ----------
    follower
        Has the origins.
    settings
        The options.
    allowed
        Real paths of directories whose files may be opened.
    """

    def __init__(self, follower: Follower, settings: Settings, allowed: tuple[Path, ...]) -> None:
        self.settings, self.allowed = settings, allowed
        self.origins = tuple(follower.origins)
        check_chunks(self.origins, follower.limits)
        self.links: dict[str, list[Link]] = {}
        for link in follower.links:
            self.links.setdefault(parent_of(link.path), []).append(link)
        self.found = Findings(follower.skipped, follower.notes)
        self.targets = name_targets(self.origins)
        self.groups: list[GroupFacts] = []
        self.datasets: list[Facts] = []

    def read(self, number: int, opened: OpenFile) -> None:
        """Read the objects of one origin, whose file is open."""
        origin, found = self.origins[number], self.found
        resolve = origin.addresses.resolver(opened.file)
        reading = Reading(opened, origin, number, self.settings, self.allowed, self.targets, resolve, found)
        found.skipped += [Skipped(path, f"h5py cannot open it: {reason}") for path, reason in origin.index.problems]
        found.notes += [Note(note.path, note.note) for note in origin.index.notes]
        facts = (read_dataset_facts(reading, record) for record in origin.index.datasets)
        self.datasets += [item for item in facts if item is not None]
        self.groups += [read_group_facts(reading, record.path, self.links) for record in origin.index.groups]

    def finish(self) -> Survey:
        """Give what was read."""
        datasets = name_axes(self.groups, self.datasets, self.found)
        return Survey(
            self.origins,
            self.targets,
            tuple(self.groups),
            tuple(datasets),
            self.found.details,
            tuple(self.found.skipped),
            tuple(link for inside in self.links.values() for link in inside),
            tuple(self.found.notes),
        )


def check_chunks(origins: Sequence[Origin], limits: Limits) -> None:
    """Refuse a file with too many stored chunks.

    Raises
    ------
    UnsafeSourceError
        It has more than `max_chunks`.
    """
    count = sum(record.stored_chunks for origin in origins for record in origin.index.datasets)
    if count > limits.max_chunks:
        raise UnsafeSourceError(
            f"{origins[0].index.file}: {count:,} stored chunks are more than {limits.max_chunks:,}; "
            "a higher max_chunks lets them in"
        )


def name_targets(origins: Sequence[Origin]) -> dict[str, str]:
    """Give the path in the store of every group and dataset."""
    children: dict[str, list[str]] = {}
    for path in (path for origin in origins for path in list_paths(origin.index)):
        if path != "/":
            children.setdefault(parent_of(path), []).append(path.rpartition("/")[2])
    targets = {"/": ""}
    for record in (group for origin in origins for group in origin.index.groups):  # each before what it holds
        segments = escape_siblings(children.get(record.path, []))
        base, inside = targets[record.path], record.path.rstrip("/")
        targets.update({f"{inside}/{name}": f"{base}/{segment}".lstrip("/") for name, segment in segments.items()})
    return targets


def read_group_facts(reading: Reading, path: str, links: Mapping[str, Sequence[Link]]) -> GroupFacts:
    """Give what is to be known of a group; its links are among its attributes."""
    group = reading.open(path)
    assert isinstance(group, h5py.Group)
    record = read_attributes(
        group, zarr_format=reading.settings.zarr_format, netcdf=reading.origin.netcdf, resolve=reading.resolve
    )
    reading.found.note_attributes(path, record)
    attributes = merge_metadata(record.values, original_name(path, reading.targets[path]))
    inside = {link.path.rpartition("/")[2]: link.to for link in links.get(path, ())}
    if inside:
        attributes["_LINKS"] = spell_links(inside)
    return GroupFacts(path, reading.targets[path], attributes, reading.number)


def original_name(path: str, target: str) -> dict[str, Any]:
    """Give the mark of a node whose name in the store is not its own."""
    name = path.rpartition("/")[2]
    return {} if name == target.rpartition("/")[2] else {"name": spell_text(name)}


def read_dataset_facts(reading: Reading, record: DatasetRecord) -> Facts | None:
    """Give what is to be known of a dataset; None, and a note of why, if it cannot be carried."""
    path = record.path
    if record.problem is not None:
        reading.found.skipped.append(Skipped(path, record.problem))
        return None
    inside = replace(record, path=reading.origin.locate(path))
    reason, unsafe = explain_outside(reading.opened.file, inside, reading.allowed)
    if reason is not None:
        reading.found.skipped.append(Skipped(path, reason, unsafe=unsafe))
        return None
    try:
        return read_facts(reading, record)
    except UnsupportedError as error:
        reason = str(error)
    except (H5BoundError, *READ_ERRORS) as error:
        reason = f"h5py cannot read it: {describe(error)}"
    reading.found.skipped.append(Skipped(path, reason))
    return None


def read_facts(reading: Reading, record: DatasetRecord) -> Facts:
    """Give what is to be known of a dataset.

    Raises
    ------
    UnsupportedError
        Zarr has no exact form for it.
    """
    settings = reading.settings
    dataset = reading.open(record.path)
    assert isinstance(dataset, h5py.Dataset)
    refuse_mere_declaration(record)
    kind = translate_type(dataset, zarr_format=settings.zarr_format, resolve=reading.resolve)
    if record.layout == "virtual":
        record = replace(record, shape=dataset.shape)
    attributes = read_attributes(
        dataset,
        zarr_format=settings.zarr_format,
        dtype=kind.dtype,
        netcdf=reading.origin.netcdf,
        resolve=reading.resolve,
    )
    fill = read_fill(dataset, kind, zarr_format=settings.zarr_format, resolve=reading.resolve)
    chain, reason = translate_chain(record, kind, settings.zarr_format)
    inside = reading.origin.locate(record.path)
    ends = read_ends(reading.opened, inside, record.shape) if kind.kind == "vlen" else None
    stored = read_stored(dataset, record) if record.layout == "chunked" else None
    if stored is not None:
        check_filters(record, stored)
    elif record.layout == "chunked":
        chain, reason = None, "HDF5 does not list its chunks rightly"
    reading.found.note_attributes(record.path, attributes)
    reading.found.add_details(record.path, kind.details)
    target = reading.targets[record.path]
    marks = {**kind.metadata, **original_name(record.path, target), **mark_shape(record, kind)}
    values = merge_metadata({**kind.attributes, **attributes.values}, marks)
    refused = is_refused(dataset.id.get_type())
    axes = attributes.dimensions
    return Facts(record, kind, target, chain, reason, stored, fill, values, None, ends, refused, axes, reading.number)


def refuse_mere_declaration(record: DatasetRecord) -> None:
    """Raise UnsupportedError if lengths would have to be asked of far more elements than the file can hold."""
    if record.dtype is None or record.shape is None:
        return
    sequences = h5py.check_vlen_dtype(record.dtype) is not None and h5py.check_string_dtype(record.dtype) is None
    counted = sequences or (record.dtype.names is not None and record.dtype.hasobject)
    elements = prod(record.shape)
    if counted and elements > max(record.stored_nbytes, MAX_COUNTED):
        raise UnsupportedError(
            f"{elements:,} elements of varying length are declared, {record.stored_nbytes:,} bytes of them stored: "
            "too many to look at each"
        )


def mark_shape(record: DatasetRecord, kind: ZarrType) -> dict[str, Any]:
    """Give the marks of a dataset whose array does not have its shape."""
    if record.shape is None:
        return {"dataspace": "null"}
    return {"sequences": {"shape": list(record.shape)}} if kind.kind == "vlen" else {}


def read_stored(dataset: h5py.Dataset, record: DatasetRecord) -> StoredChunks | None:
    """Give the stored chunks of a dataset, in C order of the grid; None where HDF5 lists others than these."""
    shape, chunks = record.shape or (), record.chunks or ()
    if not record.stored_chunks:
        nothing = np.zeros(0, np.int64)
        return StoredChunks(np.zeros((0, len(shape)), np.int64), nothing, nothing, nothing)
    table = list_chunks(dataset.id, ChunkGrid(shape, chunks))
    if table is None:
        return None
    cells = np.stack(np.unravel_index(table.numbers, count_cells(shape, chunks)), axis=1)
    return StoredChunks(cells.astype(np.int64, copy=False), table.nbytes, table.masks, table.offsets)


def read_ends(opened: OpenFile, path: str, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Give where each variable-length sequence ends when all are put one after another, in C order."""
    if shape is None:
        return np.zeros(0, np.int64)
    lengths = [
        np.fromiter(map(len, opened.read(path, region).reshape(-1).tolist()), np.int64)
        for region in cut_rows(shape, LENGTHS_AT_ONCE)
    ]
    return np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)


def cut_rows(shape: tuple[int, ...], count: int) -> Iterator[tuple[slice, ...]]:
    """Give regions of whole rows, about ``count`` elements each, in C order.

    >>> list(cut_rows((5,), 4))
    [(slice(0, 4, None),), (slice(4, 5, None),)]
    """
    if not shape:
        yield ()
        return
    rest = tuple(slice(0, length) for length in shape[1:])
    step = max(count // max(prod(shape[1:]), 1), 1)
    for start in range(0, shape[0] if prod(shape[1:]) else 0, step):
        yield slice(start, min(start + step, shape[0])), *rest


def name_axes(groups: Sequence[GroupFacts], datasets: Sequence[Facts], gathered: Findings) -> list[Facts]:
    """Give the datasets with the names that netCDF's readers have for their dimensions, phony ones among them.

    Bare dimensions, which hold no data, are left out: they are noted.
    """
    by_group: dict[str, dict[str, Dimensions]] = {}
    for facts in datasets:
        if facts.dimensions is not None:
            above, _, name = facts.record.path.rpartition("/")
            by_group.setdefault(above or "/", {})[name] = facts.dimensions
    names: dict[str, tuple[str | None, ...]] = {}
    after = {"/": 0}
    for group in groups:
        path = group.path
        found = name_dimensions(by_group.get(path, {}), after.get(parent_of(path), 0))
        after[path] = found.after
        inside = path.rstrip("/")
        names.update({f"{inside}/{name}": axes for name, axes in found.names.items()})
        gathered.notes += [Note(f"{inside}/{name}", note) for name, note in found.notes.items()]
    bare = {facts.record.path for facts in datasets if facts.dimensions is not None and facts.dimensions.bare}
    return [
        replace(facts, dimension_names=extend(names.get(facts.record.path), facts))
        for facts in datasets
        if facts.record.path not in bare
    ]


def extend(names: tuple[str | None, ...] | None, facts: Facts) -> tuple[str | None, ...] | None:
    """Give the names of a dataset's dimensions with those of an HDF5 array type, which have none."""
    if names is None or facts.ends is not None:
        return None
    if facts.record.shape is None:
        return ("null",)
    return (*names, *(None for _ in facts.type.element_shape))
