"""Everything a conversion has to know of a file before it writes, read once: metadata, and lists of stored chunks.

What cannot be carried is found here, all of it, each with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5o

from h5bound.attributes import is_netcdf, merge_metadata, read_attributes, spell_links
from h5bound.datatypes import ZarrType, translate_type
from h5bound.dimensions import name_dimensions
from h5bound.errors import H5BoundError, UnsafeSourceError, UnsupportedError
from h5bound.fillvalues import read_fill
from h5bound.grid import count_cells
from h5bound.index import READ_ERRORS, DatasetRecord, Index, describe, open_object, read_index
from h5bound.kept import check_filters, translate_chain
from h5bound.names import escape_siblings
from h5bound.outside import explain_file, explain_outside
from h5bound.plan import Facts, StoredChunks
from h5bound.rawbytes import is_refused
from h5bound.references import ReferencePaths
from h5bound.report import Link, Note, Skipped
from h5bound.settings import is_wanted
from h5bound.stored import ChunkGrid, list_chunks
from h5bound.typetext import spell_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from h5bound.dimensions import Dimensions
    from h5bound.settings import Limits, Settings
    from h5bound.source import H5Source, OpenFile

LENGTHS_AT_ONCE = 65_536
"""Variable-length sequences that are counted at once."""

LEFT_OUT = "left out by include or exclude"


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What was read of one group."""

    path: str
    target: str
    """path in the store; "" for the root"""
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What was read of a file."""

    index: Index
    targets: Mapping[str, str]
    """path in the store by path in the source, of all that was to be carried"""
    groups: tuple[GroupFacts, ...]
    datasets: tuple[Facts, ...]
    netcdf: bool
    """whether its attributes are read as netCDF's"""
    addresses: Mapping[int, str]
    """paths of the objects that have several, by their address"""
    details: Mapping[str, Any]
    """what belongs into ``_h5bound`` of the root, by path"""
    skipped: tuple[Skipped, ...]
    links: tuple[Link, ...]
    notes: tuple[Note, ...]


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
    index: Index
    settings: Settings
    limits: Limits
    allowed: tuple[Path, ...]
    targets: Mapping[str, str]
    """path in the store by path in the source"""
    resolve: ReferencePaths
    netcdf: bool
    found: Findings

    @property
    def file(self) -> h5py.File:
        """The open file."""
        return self.opened.file


def read_survey(source: H5Source, settings: Settings, limits: Limits, allowed: tuple[Path, ...] = ()) -> Survey:
    """Give all that is to be known of a file. It is open meanwhile, and closed afterwards.

    Raises
    ------
    UnsafeSourceError
        The file passes one of the limits.
    SourceChangedError
        It was written to meanwhile.
    """
    opened = source.open()
    try:
        survey = survey_file(opened, settings, limits, allowed)
        source.check(opened)
    finally:
        source.close(opened)
    return survey


def survey_file(opened: OpenFile, settings: Settings, limits: Limits, allowed: tuple[Path, ...]) -> Survey:
    """Give all that is to be known of an open file."""
    file = opened.file
    index = read_index(file, max_objects=limits.max_objects, max_depth=limits.max_depth)
    check_chunks(index, limits)
    found = Findings()
    kept = keep_wanted(index, settings, found)
    targets = name_targets(kept, settings.zarr_format)
    addresses = read_addresses(file, index)
    resolve = ReferencePaths(file, addresses)
    reading = Reading(opened, kept, settings, limits, allowed, targets, resolve, is_netcdf(file), found)
    found.skipped += [Skipped(path, f"h5py cannot open it: {reason}") for path, reason in kept.problems]
    found.notes += [Note(note.path, note.note) for note in kept.notes]
    links = judge_links(reading)
    facts = (read_dataset_facts(reading, record) for record in kept.datasets)
    datasets = [item for item in facts if item is not None]
    datasets = name_axes(reading, datasets)
    groups = [read_group_facts(reading, record.path, links) for record in kept.groups]
    everything = tuple(link for inside in links.values() for link in inside)
    return Survey(
        index,
        targets,
        tuple(groups),
        tuple(datasets),
        reading.netcdf,
        addresses,
        found.details,
        tuple(found.skipped),
        everything,
        tuple(found.notes),
    )


def check_chunks(index: Index, limits: Limits) -> None:
    """Refuse a file with too many stored chunks.

    Raises
    ------
    UnsafeSourceError
        It has more than `max_chunks`.
    """
    count = sum(record.stored_chunks for record in index.datasets)
    if count > limits.max_chunks:
        raise UnsafeSourceError(
            f"{index.file}: {count:,} stored chunks are more than {limits.max_chunks:,}; "
            "a higher max_chunks lets them in"
        )


def keep_wanted(index: Index, settings: Settings, found: Findings) -> Index:
    """Give the index without what include and exclude leave out, which is noted down, the highest groups only."""
    if not settings.include and not settings.exclude:
        return index
    wanted = {record.path for record in index.datasets if is_wanted(record.path, settings)}
    wanted |= {record.path for record in index.groups if is_wanted(record.path, settings)}
    above = {"/"} | {"/".join(path.split("/")[:stop]) for path in wanted for stop in range(2, path.count("/") + 1)}
    kept = wanted | above
    for path in list_paths(index):
        if path not in kept and parent_of(path) in kept:
            found.skipped.append(Skipped(path, LEFT_OUT, asked=True))
    return replace(
        index,
        groups=tuple(record for record in index.groups if record.path in kept),
        datasets=tuple(record for record in index.datasets if record.path in kept),
        links=tuple(link for link in index.links if parent_of(link.path) in kept and is_wanted(link.path, settings)),
        notes=tuple(note for note in index.notes if is_wanted(note.path, settings)),
        problems=tuple(item for item in index.problems if is_wanted(item[0], settings)),
    )


def list_paths(index: Index) -> list[str]:
    """Give the paths of all groups, and then of all datasets."""
    return [group.path for group in index.groups] + [dataset.path for dataset in index.datasets]


def parent_of(path: str) -> str:
    """Give the path of the group that holds an object.

    >>> parent_of("/a/b"), parent_of("/a")
    ('/a', '/')
    """
    return path.rpartition("/")[0] or "/"


def name_targets(index: Index, zarr_format: int) -> dict[str, str]:
    """Give the path in the store of every group and dataset."""
    children: dict[str, list[str]] = {}
    for path in list_paths(index):
        if path != "/":
            children.setdefault(parent_of(path), []).append(path.rpartition("/")[2])
    targets = {"/": ""}
    for record in index.groups:  # a group comes before what it holds
        segments = escape_siblings(children.get(record.path, []), zarr_format=zarr_format)
        base, inside = targets[record.path], record.path.rstrip("/")
        targets.update({f"{inside}/{name}": f"{base}/{segment}".lstrip("/") for name, segment in segments.items()})
    return targets


def read_addresses(file: h5py.File, index: Index) -> dict[int, str]:
    """Give the address of each object that has several paths, so that references give the first one."""
    addresses = {}
    for path in {link.to for link in index.links if link.kind == "hard"}:
        try:
            addresses[h5o.get_info(open_object(file, path).id).addr] = path
        except (H5BoundError, *READ_ERRORS):
            continue  # it stands among the problems
    return addresses


def judge_links(reading: Reading) -> dict[str, list[Link]]:
    """Give the links that the store holds, by their groups; note down those that it cannot."""
    kept: dict[str, list[Link]] = {}
    for link in reading.index.links:
        if link.kind in ("hard", "soft"):
            kept.setdefault(parent_of(link.path), []).append(Link(link.path, link.kind, link.to))
        elif link.kind == "external":
            outside = explain_file(reading.index.file, link.file or "", "link", reading.allowed)
            reason = outside or "an object of another file; convert that file itself"
            reading.found.skipped.append(Skipped(link.path, f"external link to {link.to}: {reason}", unsafe=True))
        else:
            reading.found.skipped.append(Skipped(link.path, f"user-defined link of {link.to}"))
    return kept


def read_group_facts(reading: Reading, path: str, links: Mapping[str, Sequence[Link]]) -> GroupFacts:
    """Give what is to be known of a group; its links are among its attributes."""
    group = open_object(reading.file, path)
    assert isinstance(group, h5py.Group)
    record = read_attributes(
        group, zarr_format=reading.settings.zarr_format, netcdf=reading.netcdf, resolve=reading.resolve
    )
    reading.found.note_attributes(path, record)
    attributes = merge_metadata(record.values, original_name(path, reading.targets[path]))
    inside = {link.path.rpartition("/")[2]: link.to for link in links.get(path, ())}
    if inside:
        attributes["_LINKS"] = spell_links(inside)
    return GroupFacts(path, reading.targets[path], attributes)


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
    reason, unsafe = explain_outside(reading.file, record, reading.allowed)
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
    dataset = open_object(reading.file, record.path)
    assert isinstance(dataset, h5py.Dataset)
    kind = translate_type(dataset, zarr_format=settings.zarr_format, resolve=reading.resolve)
    if record.layout == "virtual":
        record = replace(record, shape=dataset.shape)
    attributes = read_attributes(
        dataset,
        zarr_format=settings.zarr_format,
        dtype=kind.dtype,
        netcdf=reading.netcdf,
        resolve=reading.resolve,
    )
    fill = read_fill(dataset, kind, zarr_format=settings.zarr_format, resolve=reading.resolve)
    chain, reason = translate_chain(record, kind, settings.zarr_format)
    ends = read_ends(reading.opened, record) if kind.kind == "vlen" else None
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
    return Facts(record, kind, target, chain, reason, stored, fill, values, None, ends, refused, attributes.dimensions)


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


def read_ends(opened: OpenFile, record: DatasetRecord) -> NDArray[np.int64]:
    """Give where each variable-length sequence ends when all are put one after another, in C order."""
    shape = record.shape
    if shape is None:
        return np.zeros(0, np.int64)
    lengths = [
        np.fromiter(map(len, opened.read(record.path, region).reshape(-1).tolist()), np.int64)
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


def name_axes(reading: Reading, datasets: list[Facts]) -> list[Facts]:
    """Give the datasets with the names that netCDF's readers have for their dimensions, phony ones among them.

    Bare dimensions, which hold no data, are left out: they are noted.
    """
    by_group: dict[str, dict[str, Dimensions]] = {}
    for facts in datasets:
        if facts.dimensions is not None:
            group, _, name = facts.record.path.rpartition("/")
            by_group.setdefault(group or "/", {})[name] = facts.dimensions
    names: dict[str, tuple[str | None, ...]] = {}
    after = {"/": 0}
    for record in reading.index.groups:
        path = record.path
        found = name_dimensions(by_group.get(path, {}), after.get(parent_of(path), 0))
        after[path] = found.after
        inside = path.rstrip("/")
        names.update({f"{inside}/{name}": axes for name, axes in found.names.items()})
        reading.found.notes += [Note(f"{inside}/{name}", note) for name, note in found.notes.items()]
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
