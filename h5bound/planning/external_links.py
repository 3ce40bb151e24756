"""The links of a source, and what they lead to in other files.

The target of an allowed external link is converted as if it were at the path of the link: a dataset, or a group with
everything in it. HDF5 never follows the link: h5bound looks for the file where HDF5 would, takes its real path, and
opens it for reading. Links in that file are resolved in the same way. An object that is already in the store is not
converted again but linked to, unless copies are asked for; circles of links end in links.

A link to a file that is missing, or not allowed, stays a link: nothing is opened.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
from h5py import h5o

from h5bound.errors import (
    DatasetNotFoundError,
    H5BoundError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.dataset import read_dataset
from h5bound.hdf5.dimension_scales import is_netcdf
from h5bound.hdf5.external_files import DENIED, MAX_HOPS, advise, find_file, list_candidates
from h5bound.hdf5.hierarchy import Hierarchy
from h5bound.hdf5.links import LinkRecord, find_address, find_external, open_object
from h5bound.hdf5.references import Addresses
from h5bound.planning.link_copies import read_objects
from h5bound.planning.origins import Origin, move, move_hierarchy
from h5bound.planning.selection import list_all_paths, list_groups_above, list_paths, parent_of, select_objects
from h5bound.reports.entries import Link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reader.source import H5Source

NOTHING = "kept as a link: it leads to nothing"
CIRCLE = "kept as a link: it leads to a group that it is in"
NO_NODE = "kept as a link: it leads to no array or group"
IN_HDMF = "kept as a link in _LINKS, where hdmf-zarr finds it"


@dataclass(slots=True, kw_only=True)
class LinkResolver:
    """The links of a source and of the files that they lead to."""

    settings: Settings
    limits: Limits
    allowed: Sequence[Path]
    """Real paths of directories whose files may be opened."""
    hdmf: bool
    """Whether HDMF wrote the source: hdmf-zarr finds its links, and does not read copies in their place."""
    log: ScanLog
    origins: list[Origin] = field(default_factory=list)
    """The source, then the targets of external links."""
    links: list[Link] = field(default_factory=list)
    """Links that the store holds as links."""
    paths: dict[tuple[str, int], str] = field(default_factory=dict)
    """Paths in the report by file and object address."""
    roots: dict[str, tuple[str, int]] = field(default_factory=dict)
    """File and object address of the target of each external link that is followed, by its path in the report."""
    groups: set[str] = field(default_factory=set)
    """Paths of all groups in the report."""
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
        self.groups.update(hierarchy.groups)
        for address, path in addresses.items():
            self.paths.setdefault((origin.source.path, address), path)
        records = (hierarchy.groups, hierarchy.datasets, hierarchy.links, hierarchy.committed_types, hierarchy.problems)
        self.count += sum(map(len, records))

    def resolve_link(self, origin: Origin, link: LinkRecord) -> None:
        """Add a link to the store's links, add its target in its place, or log why it is skipped."""
        if link.kind == "user":
            self.log.skip(link.path, f"user-defined link of {link.to}")
        elif link.file is not None:
            self.resolve_external(origin, link, (link.file, link.to[len(link.file) + 1 :]))
        elif link.kind == "soft" and link.target is None:
            self.resolve_soft(origin, link)
        else:
            target = link.target or link.to
            reason = CIRCLE if target in self.groups else NO_NODE
            note = reason if self.settings.links == "copy" else IN_HDMF if self.hdmf else ""
            self.links.append(
                Link(path=link.path, kind=link.kind, to=move_text(origin, link), target=target, note=note)
            )

    def resolve_soft(self, origin: Origin, link: LinkRecord) -> None:
        """Resolve a soft link to nothing in its origin: its path may lead out of what is converted, or of the file."""
        path = link.to if link.to.startswith("/") else f"{origin.locate(parent_of(link.path))}/{link.to}"
        is_outside, further = False, None
        if self.allowed:
            with origin.source.opened() as opened, suppress(DatasetNotFoundError, UnsupportedError):
                is_outside = find_address(opened.file, path) is not None
                further = find_external(opened.file, path)
        if is_outside and self.settings.links == "copy":
            self.resolve_external(origin, link, (origin.source.path, path))
        elif is_outside:
            to = (Path(origin.source.path).name, path)
            self.keep_external(link, to, f"since only {origin.inside} of its file is converted; links='copy' reads it")
        elif further is not None and self.settings.links == "copy":
            self.resolve_external(origin, link, further)
        else:
            self.links.append(
                Link(path=link.path, kind="soft", to=move_text(origin, link), note="" if further else NOTHING)
            )

    def resolve_external(self, origin: Origin, link: LinkRecord, to: tuple[str, str]) -> None:
        """Add what a link leads to, a path in another file, or the link if it is not there or must not be read."""
        try:
            reason = self.follow(origin, link, to)
        except DatasetNotFoundError as error:
            reason = f"since it leads to nothing: {error}"
        except (H5BoundError, *READ_ERRORS) as error:
            unsafe = isinstance(error, UnsafeSourceError)
            self.log.skip(link.path, f"external link to {to[0]}:{to[1]}: {describe(error)}", unsafe=unsafe)
            return
        if reason:
            self.keep_external(link, to, reason)

    def keep_external(self, link: LinkRecord, to: tuple[str, str], reason: str) -> None:
        """Add a link out of what is converted to the store's links."""
        file, path = to
        self.links.append(Link(path=link.path, kind="external", to=path, file=file))
        self.log.note(link.path, f"kept as a link, {reason}", "external_link", to=f"{file}:{path}")

    def follow(self, origin: Origin, link: LinkRecord, to: tuple[str, str]) -> str:
        """Add the target of an external link, which may be behind further ones, or return why it stays a link.

        Raise UnsafeSourceError if a limit is exceeded, H5BoundError if the file or the target cannot be opened.
        """
        source, (name, path) = origin.source, to
        sources = {origin.source.path: origin.source for origin in self.origins}
        for _ in range(MAX_HOPS):
            try:
                file_path = os.path.realpath(find_file(source.path, name, "link", allowed=self.allowed))
            except (UnsafeSourceError, SourceNotFoundError) as error:
                return explain_kept(source.path, name, error)
            source = sources.get(file_path) or source.find_linked(file_path)
            with source.opened() as opened:
                further = find_external(opened.file, path)
                if further is None:
                    return self.add_target(source, opened.file, link=link, path=path)
            name, path = further
        return f"since it leads to a chain of more than {MAX_HOPS} external links"

    def add_target(self, source: H5Source, file: h5py.File, *, link: LinkRecord, path: str) -> str:
        """Add the object at a path of an open file in place of a link, or link to it if it is in the store already.

        Return why the link is kept; "" if it is not.
        """
        target = open_object(file, path)
        if isinstance(target, h5py.Datatype):
            return "since it leads to a type"
        key = source.path, h5o.get_info(target.id).addr
        known_path = self.paths.get(key)
        above = tuple(list_groups_above(link.path))
        is_circle = known_path in ("/", *above) or any(self.roots.get(group) == key for group in above)
        copy = self.settings.links == "copy"
        if known_path is not None and (is_circle or not copy):
            note = CIRCLE if copy else IN_HDMF if self.hdmf else ""
            self.links.append(Link(path=link.path, kind="external", to=known_path, target=known_path, note=note))
            return ""
        self.log.note(link.path, "what it leads to is in its place", "followed_link", to=link.to)
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
        self.roots[link.path] = key
        self.add(origin, addresses)
        return ""

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


def move_text(origin: Origin, link: LinkRecord) -> str:
    """Return what a soft or hard link refers to, as it is in the file, or in the report if its file is another one."""
    if link.kind == "hard" or origin.path == "/" or not link.to.startswith("/"):
        return link.to
    if f"{link.to}/".startswith(f"{origin.inside.rstrip('/')}/"):
        return move(link.to, origin.inside, origin.path)
    return link.target or link.to


def explain_kept(main: str, name: str, error: H5BoundError) -> str:
    """Return why a link in the file `main` to the file `name` stays one, and which directory has to be allowed."""
    if isinstance(error, SourceNotFoundError):
        return f"since there is {error}"
    if not str(error).startswith(DENIED):
        return f"not opened: {error}"
    return f"not opened; {advise(name, list_candidates(main, name, 'link'))} reads what it leads to"


def select_addresses(addresses: Mapping[int, str], hierarchy: Hierarchy) -> dict[int, str]:
    """Return the addresses of the groups and datasets of a hierarchy."""
    paths = set(list_paths(hierarchy))
    return {address: path for address, path in addresses.items() if path in paths}
