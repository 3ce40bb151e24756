"""Everything a conversion has to know of a file before it writes, read once: metadata, and lists of stored chunks.

What cannot be carried is found here, all of it, each with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py

from h5bound.errors import UnsafeSourceError
from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE
from h5bound.hdf5.external_check import EXTERNAL_LAYOUTS
from h5bound.hdf5.hierarchy import COMMITTED
from h5bound.planning.external_links import Follower, Origin, read_origin
from h5bound.planning.scan_dataset import ScanContext, ScanLog, original_name, scan_dataset
from h5bound.planning.selection import list_paths, parent_of
from h5bound.reports import Link, ReportNote, Skipped
from h5bound.zarr_model.attributes import links_to_json, merge_metadata, read_attributes
from h5bound.zarr_model.dimension_names import name_dimensions
from h5bound.zarr_model.node_names import escape_siblings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from h5bound.files.file_state import LocalState
    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.hierarchy import Hierarchy, Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source


@dataclass(frozen=True, slots=True)
class GroupScan:
    """What was read of one group."""

    path: str
    target: str
    """path in the store; "" for the root"""
    attributes: Mapping[str, Any]
    origin: int = 0
    """number of the file that it is in, among those of the survey"""


@dataclass(frozen=True, slots=True, eq=False)
class SourceScan:
    """What was read of a file, and of those that its external links lead to."""

    origins: tuple[Origin, ...]
    """the file itself first"""
    targets: Mapping[str, str]
    """path in the store by path in the source, of all that was to be carried"""
    groups: tuple[GroupScan, ...]
    datasets: tuple[DatasetScan, ...]
    details: Mapping[str, Any]
    """what belongs into ``_h5bound`` of the root, by path"""
    skipped: tuple[Skipped, ...]
    links: tuple[Link, ...]
    notes: tuple[ReportNote, ...]
    external_states: Mapping[str, LocalState]
    """what the files of external storage and virtual datasets were before they were opened, by their real paths"""
    allowed: tuple[Path, ...] = ()
    """real paths of directories whose files may be opened"""

    def allowed_for(self, dataset_scan: DatasetScan) -> tuple[Path, ...] | None:
        """Give the directories whose files a dataset may draw on, None if it draws on none."""
        return self.allowed if dataset_scan.record.layout in EXTERNAL_LAYOUTS else None

    def list_external_files(self) -> list[str]:
        """Give the paths of the other files that are read."""
        return [*(origin.source.path for origin in self.origins[1:]), *self.external_states]

    @property
    def hierarchy(self) -> Hierarchy:
        """What of the file itself is carried."""
        return self.origins[0].hierarchy


def scan_source(
    source: H5Source, opened: OpenFile, *, settings: Settings, limits: Limits, allowed: tuple[Path, ...] = ()
) -> SourceScan:
    """Read all that a conversion needs to know of an open file, and of those that its external links lead to.

    Raise UnsafeSourceError if they exceed one of the limits.
    """
    follower = Follower(settings, limits, allowed)
    follower.follow(read_origin(source, opened.file, settings, limits, follower.skipped))
    reader = Reader(follower, settings, allowed)
    reader.read(0, opened)
    for number, origin in enumerate(follower.origins[1:], 1):
        with origin.source.opened() as opened:
            reader.read(number, opened)
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
        self.found = ScanLog(follower.skipped, follower.notes)
        self.targets = name_targets(self.origins)
        self.groups: list[GroupScan] = []
        self.datasets: list[DatasetScan] = []

    def read(self, number: int, opened: OpenFile) -> None:
        """Read the objects of one origin, whose file is open."""
        origin, found = self.origins[number], self.found
        resolve = origin.addresses.resolver(opened.file)
        reading = ScanContext(opened, origin, number, self.settings, self.allowed, self.targets, resolve, found)
        found.skipped += [Skipped(path, f"h5py cannot open it: {reason}") for path, reason in origin.hierarchy.problems]
        found.notes += [ReportNote(note.path, note.note) for note in origin.hierarchy.notes]
        dataset_scan = (scan_dataset(reading, record) for record in origin.hierarchy.datasets)
        self.datasets += [item for item in dataset_scan if item is not None]
        self.groups += [scan_group(reading, record.path, self.links) for record in origin.hierarchy.groups]
        for path in list_types(origin.hierarchy):
            keep_type_attributes(reading, path)

    def finish(self) -> SourceScan:
        """Give what was read."""
        datasets = name_axes(self.groups, self.datasets, self.found)
        return SourceScan(
            self.origins,
            self.targets,
            tuple(self.groups),
            tuple(datasets),
            self.found.details,
            tuple(self.found.skipped),
            tuple(link for inside in self.links.values() for link in inside),
            tuple(self.found.notes),
            self.found.external_states,
            self.allowed,
        )


def check_chunks(origins: Sequence[Origin], limits: Limits) -> None:
    """Refuse a file with too many stored chunks.

    Raises
    ------
    UnsafeSourceError
        It has more than `max_chunks`.
    """
    count = sum(record.stored_chunks for origin in origins for record in origin.hierarchy.datasets)
    if count > limits.max_chunks:
        raise UnsafeSourceError(
            f"{origins[0].hierarchy.file}: {count:,} stored chunks are more than {limits.max_chunks:,}; "
            "a higher max_chunks lets them in"
        )


def list_types(hierarchy: Hierarchy) -> list[str]:
    """Give the paths of all committed types."""
    return [note.path for note in hierarchy.notes if note.note == COMMITTED]


def name_targets(origins: Sequence[Origin]) -> dict[str, str]:
    """Give the path in the store of every group and dataset."""
    children: dict[str, list[str]] = {}
    for path in (path for origin in origins for path in (*list_paths(origin.hierarchy), *list_types(origin.hierarchy))):
        if path != "/":
            children.setdefault(parent_of(path), []).append(path.rpartition("/")[2])
    targets = {"/": ""}
    groups = [(group, origin.netcdf) for origin in origins for group in origin.hierarchy.groups]
    for record, netcdf in groups:  # each before what it holds
        names = children.get(record.path, [])
        told = tell_names(names) if netcdf else {name: name for name in names}
        segments = escape_siblings(told.values())
        base, inside = targets[record.path], record.path.rstrip("/")
        targets.update({f"{inside}/{name}": f"{base}/{segments[told[name]]}".lstrip("/") for name in names})
    return targets


def tell_names(names: Sequence[str]) -> dict[str, str]:
    """Give the names that netCDF-4's readers tell of the objects of one group, each once.

    A variable that is called like a dimension, but is not along it, has a prefix in the file (netCDF-C,
    ``NON_COORD_PREPEND``). The dimension then holds no data; what it leaves free is its name, what it gets the other.

    Examples
    --------
    >>> tell_names(["_nc4_non_coord_x", "x", "t"])
    {'_nc4_non_coord_x': 'x', 'x': '_nc4_non_coord_x', 't': 't'}
    """
    hidden = {name.removeprefix(NOT_A_COORDINATE): name for name in names if name.startswith(NOT_A_COORDINATE)}
    shown = {name: short for short, name in hidden.items() if short and not short.startswith(NOT_A_COORDINATE)}
    return {name: shown.get(name) or (hidden[name] if hidden.get(name) in shown else name) for name in names}


def scan_group(reading: ScanContext, path: str, links: Mapping[str, Sequence[Link]]) -> GroupScan:
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
        attributes["_LINKS"] = links_to_json(inside)
    return GroupScan(path, reading.targets[path], attributes, reading.number)


def keep_type_attributes(reading: ScanContext, path: str) -> None:
    """Keep the attributes of a committed type among the details of the store, where it has no node."""
    record = read_attributes(
        reading.open(path),
        zarr_format=reading.settings.zarr_format,
        netcdf=reading.origin.netcdf,
        resolve=reading.resolve,
    )
    reading.found.note_attributes(path, record)
    if record.values:
        reading.found.add_details(path, {"type_attributes": record.values})


def name_axes(groups: Sequence[GroupScan], datasets: Sequence[DatasetScan], gathered: ScanLog) -> list[DatasetScan]:
    """Give the datasets with the names that netCDF's readers have for their dimensions, phony ones among them.

    Bare dimensions, which hold no data, are left out: they are noted.
    """
    by_group: dict[str, dict[str, Dimensions]] = {}
    for dataset_scan in datasets:
        if dataset_scan.dimensions is not None:
            above, _, name = dataset_scan.record.path.rpartition("/")
            by_group.setdefault(above or "/", {})[name] = dataset_scan.dimensions
    names: dict[str, tuple[str | None, ...]] = {}
    after = {"/": 0}
    for group in groups:
        path = group.path
        found = name_dimensions(by_group.get(path, {}), after.get(parent_of(path), 0))
        after[path] = found.next_phony
        inside = path.rstrip("/")
        names.update({f"{inside}/{name}": axes for name, axes in found.names.items()})
        gathered.notes += [ReportNote(f"{inside}/{name}", note) for name, note in found.notes.items()]
    bare = {
        dataset_scan.record.path
        for dataset_scan in datasets
        if dataset_scan.dimensions is not None and dataset_scan.dimensions.bare
    }
    return [
        replace(dataset_scan, dimension_names=extend(names.get(dataset_scan.record.path), dataset_scan))
        for dataset_scan in datasets
        if dataset_scan.record.path not in bare
    ]


def extend(names: tuple[str | None, ...] | None, dataset_scan: DatasetScan) -> tuple[str | None, ...] | None:
    """Give the names of a dataset's dimensions with those of an HDF5 array type, which have none."""
    if names is None or dataset_scan.ends is not None:
        return None
    if dataset_scan.record.shape is None:
        return ("null", *(None for _ in dataset_scan.type.element_shape))
    return (*names, *(None for _ in dataset_scan.type.element_shape))
