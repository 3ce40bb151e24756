"""The files that a store is made from: their objects, by the paths that these have in the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from h5bound.hdf5.dimension_scales import is_netcdf
from h5bound.hdf5.references import Addresses
from h5bound.planning.link_copies import read_objects
from h5bound.planning.selection import list_all_paths, select_objects

if TYPE_CHECKING:
    import h5py

    from h5bound.hdf5.hierarchy import Hierarchy, Limits
    from h5bound.hdf5.links import LinkRecord
    from h5bound.planning.options import Settings
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reader.source import H5Source


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
    return Origin(
        source=source,
        hierarchy=selection,
        addresses=addresses,
        netcdf=is_netcdf(file, hierarchy.datasets),
    )
