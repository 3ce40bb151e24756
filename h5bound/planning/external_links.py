"""The files that a store is made from: the source itself, and what its external links lead to.

An external link that may be followed becomes what it leads to, at the link's own path: a dataset, or a group with all
that is in it. HDF5 does not follow it, h5bound does: it looks for the other file where HDF5 would, takes its real
path, and opens that by itself for reading. Links in there are judged in the same way. What already stands in the store
is not carried again, but linked to (``_LINKS``); so circles of links end.
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
from h5bound.hdf5.external_files import MAX_HOPS, find_file
from h5bound.hdf5.hierarchy import Hierarchy, read_hierarchy
from h5bound.hdf5.links import LinkRecord, find_external, open_object
from h5bound.hdf5.references import Addresses
from h5bound.planning.selection import list_paths, select_objects
from h5bound.reader.source import H5Source
from h5bound.reports import Link, ReportNote, Skipped
from h5bound.zarr_model.attributes import is_netcdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A file, or an object of one with all that is in it."""

    source: H5Source
    hierarchy: Hierarchy
    """what of it is carried, under the paths that the report has for it"""
    addresses: Addresses
    """paths of objects by their address: of those with several paths, or of all where it is not the whole file"""
    netcdf: bool
    """whether its attributes are read as netCDF's"""
    path: str = "/"
    """where it stands in the tree of the report"""
    inside: str = "/"
    """its path in its file"""

    def locate(self, path: str) -> str:
        """Give the path in the file of what stands at a path of the report."""
        return move(path, self.path, self.inside)


def move(path: str, base: str, new: str) -> str:
    """Give the path under a new base.

    >>> move("/there/a", "/there", "/"), move("/", "/", "/there"), move("/x/a", "/x", "/y/z")
    ('/a', '/there', '/y/z/a')
    """
    if base == new:
        return path
    rest = path.removeprefix(base.rstrip("/")).strip("/")
    return f"{new.rstrip('/')}/{rest}".rstrip("/") or "/"


def move_index(hierarchy: Hierarchy, base: str, new: str) -> Hierarchy:
    """Give the hierarchy of the object at `base` as it stands at `new`; soft and external links keep their text."""

    def at(path: str) -> str:
        return move(path, base, new)

    return replace(
        hierarchy,
        groups=tuple(replace(record, path=at(record.path)) for record in hierarchy.groups),
        datasets=tuple(replace(record, path=at(record.path)) for record in hierarchy.datasets),
        links=tuple(
            replace(link, path=at(link.path), to=at(link.to) if link.kind == "hard" else link.to)
            for link in hierarchy.links
        ),
        notes=tuple(replace(note, path=at(note.path)) for note in hierarchy.notes),
        problems=tuple((at(path), reason) for path, reason in hierarchy.problems),
    )


def read_origin(
    source: H5Source, file: h5py.File, settings: Settings, limits: Limits, skipped: list[Skipped]
) -> Origin:
    """Give the source itself as an origin; what include and exclude leave out of it goes to `skipped`.

    Raises
    ------
    UnsafeSourceError
        It passes one of the limits.
    """
    hierarchy = read_hierarchy(file, max_objects=limits.max_objects, max_depth=limits.max_depth)
    if source.identity is not None and source.remote:
        hierarchy = replace(hierarchy, mtime_ns=source.identity.mtime_ns)
    kept, left_out = select_objects(hierarchy, settings)
    skipped += left_out
    return Origin(source, kept, Addresses(hierarchy.addresses, complete=True), is_netcdf(file))


@dataclass(slots=True)
class Follower:
    """Follows the links of a source and of all that these lead to."""

    settings: Settings
    limits: Limits
    allowed: Sequence[Path]
    """real paths of directories whose files may be opened"""
    origins: list[Origin] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    """those that the store holds as links"""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[ReportNote] = field(default_factory=list)
    known: dict[tuple[str, int], str] = field(default_factory=dict)
    """the report's path of what is carried, by file and address"""
    sources: dict[str, H5Source] = field(default_factory=dict)
    """by their real paths"""
    count: int = 0
    """objects and links that were met"""

    def follow(self, first: Origin) -> None:
        """Judge the links of the source, and go on with what they lead to."""
        self.add(first)
        if self.allowed and any(link.kind == "external" for link in first.hierarchy.links):
            wanted = set(list_paths(first.hierarchy))
            self.know(first, {address: path for address, path in first.hierarchy.addresses.items() if path in wanted})
        for origin in self.origins:  # it grows meanwhile
            for link in origin.hierarchy.links:
                self.resolve_link(origin, link)

    def add(self, origin: Origin) -> None:
        """Go on with one more origin."""
        hierarchy = origin.hierarchy
        self.origins.append(origin)
        self.sources[origin.source.path] = origin.source
        self.count += sum(
            map(len, (hierarchy.groups, hierarchy.datasets, hierarchy.links, hierarchy.notes, hierarchy.problems))
        )

    def know(self, origin: Origin, addresses: dict[int, str]) -> None:
        """Keep in mind where the objects of an origin stand."""
        for address, path in addresses.items():
            self.known.setdefault((origin.source.path, address), path)

    def resolve_link(self, origin: Origin, link: LinkRecord) -> None:
        """ReportNote down what becomes of one link."""
        if link.kind == "user":
            self.skipped.append(Skipped(link.path, f"user-defined link of {link.to}"))
        elif link.kind == "external":
            try:
                self.take(origin, link)
            except UnsafeSourceError as error:
                self.skip(link, str(error), unsafe=True)
            except (H5BoundError, *READ_ERRORS) as error:
                self.skip(link, describe(error))
        elif origin.path == "/" or link.kind == "hard" or not link.to.startswith("/"):
            self.links.append(Link(link.path, link.kind, link.to))
        elif f"{link.to}/".startswith(f"{origin.inside.rstrip('/')}/"):
            self.links.append(Link(link.path, "soft", move(link.to, origin.inside, origin.path)))
        else:
            reason = f"soft link to {link.to} of {origin.hierarchy.file}, of which only {origin.inside} is carried"
            self.skipped.append(Skipped(link.path, reason))

    def skip(self, link: LinkRecord, reason: str, *, unsafe: bool = False) -> None:
        """ReportNote down that an external link is left out."""
        self.skipped.append(Skipped(link.path, f"external link to {link.to}: {reason}", unsafe=unsafe))

    def take(self, origin: Origin, link: LinkRecord) -> None:
        """Carry what an external link leads to, at the link's path.

        Raises
        ------
        UnsafeSourceError
            It leads where nothing may be read, or to more than a limit lets in.
        H5BoundError
            Nothing is there, or it cannot be opened.
        """
        name, path = link.file or "", link.to[len(link.file or "") + 1 :]
        main = origin.source.path
        for _ in range(MAX_HOPS):
            place = os.path.realpath(find_file(main, name, "link", self.allowed))
            source = self.sources.get(place) or H5Source.of(place)
            with source.opened() as opened:
                further = find_external(opened.file, path)
                if further is None:
                    self.carry(source, opened.file, link, path)
            if further is None:
                return
            main, (name, path) = source.path, further
        raise UnsafeSourceError(f"more than {MAX_HOPS} external links one behind another")

    def carry(self, source: H5Source, file: h5py.File, link: LinkRecord, path: str) -> None:
        """Take up what stands at a path of an open file, or a link to where it stands already."""
        found = open_object(file, path)
        place = self.known.get((source.path, h5o.get_info(found.id).addr))
        if place is not None:
            self.links.append(Link(link.path, "external", place))
            return
        self.notes.append(ReportNote(link.path, f"external link to {link.to}: carried as what it leads to"))
        if isinstance(found, h5py.Datatype):
            return
        inside = f"/{path.strip('/')}"
        hierarchy = self.read_part(file, found, inside, link.path.count("/"))
        kept, left_out = select_objects(move_index(hierarchy, inside, link.path), self.settings)
        self.skipped += left_out
        wanted = set(list_paths(kept))
        moved = {address: move(at, inside, link.path) for address, at in hierarchy.addresses.items()}
        known = {address: at for address, at in moved.items() if at in wanted}
        taken = Origin(source, kept, Addresses(known, complete=True), is_netcdf(file), link.path, inside)
        self.add(taken)
        self.know(taken, known)

    def read_part(self, file: h5py.File, found: h5py.Group | h5py.Dataset, inside: str, depth: int) -> Hierarchy:
        """Give the hierarchy of an object and of all that is in it, under its own paths.

        Raises
        ------
        UnsafeSourceError
            It passes what the limits leave.
        """
        if isinstance(found, h5py.Group):
            room = self.limits.max_objects - self.count
            return read_hierarchy(
                file, start=inside, max_objects=max(room, 0), max_depth=max(self.limits.max_depth - depth, 0)
            )
        whole = Path(file.filename).stat()
        record = replace(read_dataset(found), path=inside)
        addresses = {h5o.get_info(found.id).addr: inside}
        return Hierarchy(file.filename, whole.st_size, whole.st_mtime_ns, (), (record,), (), (), (), addresses)
