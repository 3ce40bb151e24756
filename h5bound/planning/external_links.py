"""The files that a store is made from: the source, and the targets of its external links.

The target of an allowed external link is converted as if it were at the path of the link: a dataset, or a group with
everything in it. HDF5 never follows the link: h5bound looks for the file where HDF5 would, takes its real path, and
opens it for reading. Links in that file are resolved in the same way. An object that is already in the store is not
converted again but linked to, so circles of links end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
from h5py import h5o

from h5bound.errors import H5BoundError, UnsafeSourceError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.dataset import read_dataset
from h5bound.hdf5.dimension_scales import is_netcdf
from h5bound.hdf5.external_files import MAX_HOPS, find_file
from h5bound.hdf5.hierarchy import Hierarchy
from h5bound.hdf5.links import LinkRecord, find_external, open_object
from h5bound.hdf5.references import Addresses
from h5bound.planning.link_copies import read_objects
from h5bound.planning.selection import list_all_paths, list_paths, select_objects
from h5bound.reader.source import H5Source
from h5bound.reports.entries import Link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_log import ScanLog


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Origin:
    """A file, or a group or dataset of a file with everything in it."""

    source: H5Source
    hierarchy: Hierarchy
    """Objects that are converted, by their paths in the report."""
    addresses: Addresses
    """Paths by object address: in the report, and in the store once its nodes have names."""
    netcdf: bool
    """Whether its attributes are read as netCDF does."""
    path: str = "/"
    """Its path in the report."""
    inside: str = "/"
    """Its path in the file."""

    def locate(self, path: str) -> str:
        """Return the path in the file of the object at a path of the report."""
        return move(self.hierarchy.find_original(path), self.path, self.inside)


def move(path: str, base: str, new: str) -> str:
    """Return the path with another base.

    >>> move("/there/a", "/there", "/"), move("/", "/", "/there"), move("/x/a", "/x", "/y/z")
    ('/a', '/there', '/y/z/a')
    """
    if base == new:
        return path
    rest = path.removeprefix(base.rstrip("/")).strip("/")
    return f"{new.rstrip('/')}/{rest}".rstrip("/") or "/"


def move_hierarchy(hierarchy: Hierarchy, base: str, new: str) -> Hierarchy:
    """Return the hierarchy with the object at `base` moved to `new`; soft and external links keep their targets."""

    def moved(path: str) -> str:
        return move(path, base, new)

    def moved_link(link: LinkRecord) -> LinkRecord:
        to = moved(link.to) if link.kind == "hard" else link.to
        return replace(link, path=moved(link.path), to=to, target=link.target and moved(link.target))

    return replace(
        hierarchy,
        groups=tuple(map(moved, hierarchy.groups)),
        datasets=tuple(replace(record, path=moved(record.path)) for record in hierarchy.datasets),
        links=tuple(map(moved_link, hierarchy.links)),
        copied={moved(path): moved_link(link) for path, link in hierarchy.copied.items()},
        committed_types=tuple(map(moved, hierarchy.committed_types)),
        problems=tuple((moved(path), reason) for path, reason in hierarchy.problems),
    )


def read_origin(source: H5Source, file: h5py.File, settings: Settings, limits: Limits, log: ScanLog) -> Origin:
    """Read the hierarchy of the source within the limits, and log what include and exclude skip."""
    hierarchy = read_objects(file, settings, limits)
    if source.state is not None and source.remote:
        hierarchy = replace(hierarchy, mtime_ns=source.state.mtime_ns)
    selection, skipped = select_objects(hierarchy, settings)
    log.skipped += skipped
    log.paths += list_all_paths(hierarchy)
    addresses = Addresses(selection.addresses, complete=True)
    return Origin(source=source, hierarchy=selection, addresses=addresses, netcdf=is_netcdf(file, hierarchy.datasets))


@dataclass(slots=True, kw_only=True)
class LinkResolver:
    """The links of a source and of the files that they lead to."""

    settings: Settings
    limits: Limits
    allowed: Sequence[Path]
    """Real paths of directories whose files may be opened."""
    log: ScanLog
    origins: list[Origin] = field(default_factory=list)
    """The source, then the targets of external links."""
    links: list[Link] = field(default_factory=list)
    """Links that the store holds as links."""
    paths: dict[tuple[str, int], str] = field(default_factory=dict)
    """Paths in the report by file and object address."""
    count: int = 0
    """Number of objects and links in all origins."""

    def resolve(self, source: Origin) -> None:
        """Resolve the links of the source, then those of each origin that they add."""
        addresses = source.hierarchy.addresses if self.allowed else {}
        self.add(source, select_addresses(addresses, source.hierarchy))
        for origin in self.origins:  # resolve_link may append to it
            for link in origin.hierarchy.links:
                self.resolve_link(origin, link)

    def add(self, origin: Origin, addresses: Mapping[int, str]) -> None:
        """Add an origin whose objects are at these paths of the report."""
        hierarchy = origin.hierarchy
        self.origins.append(origin)
        for address, path in addresses.items():
            self.paths.setdefault((origin.source.path, address), path)
        records = (hierarchy.groups, hierarchy.datasets, hierarchy.links, hierarchy.committed_types, hierarchy.problems)
        self.count += sum(map(len, records))

    def resolve_link(self, origin: Origin, link: LinkRecord) -> None:
        """Add a link to the store's links, add its target in its place, or log why it is skipped."""
        if link.kind == "user":
            self.log.skip(link.path, f"user-defined link of {link.to}")
        elif link.kind == "external":
            try:
                self.follow(origin, link)
            except UnsafeSourceError as error:
                self.log.skip(link.path, f"external link to {link.to}: {error}", unsafe=True)
            except (H5BoundError, *READ_ERRORS) as error:
                self.log.skip(link.path, f"external link to {link.to}: {describe(error)}")
        elif origin.path == "/" or link.kind == "hard" or not link.to.startswith("/"):
            self.links.append(Link(link.path, link.kind, link.to))
        elif f"{link.to}/".startswith(f"{origin.inside.rstrip('/')}/"):
            self.links.append(Link(link.path, "soft", move(link.to, origin.inside, origin.path)))
        else:
            file = origin.hierarchy.file
            self.log.skip(link.path, f"soft link to {link.to} of {file}, of which only {origin.inside} is converted")

    def follow(self, origin: Origin, link: LinkRecord) -> None:
        """Add the target of an external link, which may be behind further external links.

        Raise UnsafeSourceError if a file must not be read or a limit is exceeded, H5BoundError if it cannot be opened.
        """
        name, path = link.file or "", link.to[len(link.file or "") + 1 :]
        main = origin.source.path
        sources = {origin.source.path: origin.source for origin in self.origins}
        for _ in range(MAX_HOPS):
            file_path = os.path.realpath(find_file(main, name, "link", allowed=self.allowed))
            source = sources.get(file_path) or H5Source.of(file_path)
            with source.opened() as opened:
                further = find_external(opened.file, path)
                if further is None:
                    self.add_target(source, opened.file, link=link, path=path)
                    return
            main, (name, path) = source.path, further
        raise UnsafeSourceError(f"a chain of more than {MAX_HOPS} external links")

    def add_target(self, source: H5Source, file: h5py.File, *, link: LinkRecord, path: str) -> None:
        """Add the object at a path of an open file in place of a link, or link to it if it is in the store already."""
        target = open_object(file, path)
        known_path = self.paths.get((source.path, h5o.get_info(target.id).addr))
        if known_path is not None:
            self.links.append(Link(link.path, "external", known_path))
            return
        self.log.note(link.path, f"external link to {link.to}: its target is converted in its place")
        if isinstance(target, h5py.Datatype):
            return
        inside = f"/{path.strip('/')}"
        hierarchy = move_hierarchy(self.read_target(file, target, inside=inside, link=link), inside, link.path)
        selection, skipped = select_objects(hierarchy, self.settings)
        self.log.skipped += skipped
        self.log.paths += list_all_paths(hierarchy)
        moved = {address: move(other, inside, link.path) for address, other in hierarchy.addresses.items()}
        addresses = select_addresses(moved, selection)
        origin = Origin(
            source=source,
            hierarchy=selection,
            addresses=Addresses(addresses, complete=True),
            netcdf=is_netcdf(file, hierarchy.datasets),
            path=link.path,
            inside=inside,
        )
        self.add(origin, addresses)

    def read_target(
        self, file: h5py.File, target: h5py.Group | h5py.Dataset, *, inside: str, link: LinkRecord
    ) -> Hierarchy:
        """Read the hierarchy of an object and everything in it. Raise UnsafeSourceError if it exceeds the limits."""
        if isinstance(target, h5py.Group):
            left = max(self.limits.max_objects - self.count, 0), max(self.limits.max_depth - link.path.count("/"), 0)
            limits = replace(self.limits, max_objects=left[0], max_depth=left[1])
            return read_objects(file, self.settings, limits, start=inside)
        stat = Path(file.filename).stat()
        return Hierarchy(
            file=file.filename,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            groups=(),
            datasets=(replace(read_dataset(target), path=inside),),
            links=(),
            committed_types=(),
            problems=(),
            addresses={h5o.get_info(target.id).addr: inside},
        )


def select_addresses(addresses: Mapping[int, str], hierarchy: Hierarchy) -> dict[int, str]:
    """Return the addresses of the groups and datasets of a hierarchy."""
    paths = set(list_paths(hierarchy))
    return {address: path for address, path in addresses.items() if path in paths}
