"""The hierarchy of an HDF5 file as frozen records. No data is read, and no other file is opened.

Links are checked one component at a time, before anything is opened through them. Hard links are compared by the
address of their object, so cycles end and each object has one path: the first one in a walk by name, as in
``h5py.Group.visititems``. Soft, external and user-defined links are recorded and never followed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h5py import h5d, h5fd, h5g, h5l, h5o

from h5bound.errors import H5BoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe, read_driver
from h5bound.hdf5.dataset import MAX_SLOTS, DatasetRecord, read_record
from h5bound.hdf5.links import LinkRecord, count_as_links, join_path, list_names, open_object, read_link
from h5bound.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import h5py


MAX_OBJECTS = 1_000_000
MAX_DEPTH = 64
MAX_CHUNKS = 10_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits above which a source is refused."""

    max_objects: int = MAX_OBJECTS
    """Objects and links."""
    max_depth: int = MAX_DEPTH
    """Levels of groups."""
    max_chunks: int = MAX_CHUNKS
    """Stored chunks, or chunks to write, of all datasets together."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """All objects and links of a file. Each tuple is in the order of a walk by name, depth first."""

    file: str
    """Name of the file as it was opened."""
    size: int
    """Size of the file in bytes."""
    mtime_ns: int
    """Modification time in nanoseconds, 0 for a file that is not local."""
    groups: tuple[str, ...]
    """Paths of groups, the root (``/``) first."""
    datasets: tuple[DatasetRecord, ...]
    """Datasets, also those with a problem."""
    links: tuple[LinkRecord, ...]
    """Links, except the first hard link to each object."""
    committed_types: tuple[str, ...]
    """Paths of committed types."""
    problems: tuple[tuple[str, str], ...]
    """Path and reason for each object that cannot be opened, and each group that cannot be listed."""
    addresses: Mapping[int, str]
    """First paths of all objects by the address that references hold (``h5py.h5o.get_info(…).addr``)."""
    copied: Mapping[str, LinkRecord] = field(default_factory=dict)
    """Links in whose place there is what they lead to, with all in it, by their paths."""

    def find_original(self, path: str) -> str:
        """Return the first path of the object at a path that may be in the place of a link.

        >>> copied = {"/b": LinkRecord("/b", "hard", "/a"), "/b/c/d": LinkRecord("/b/c/d", "soft", "x", target="/x")}
        >>> hierarchy = Hierarchy("", 0, 0, (), (), (), (), (), {}, copied)
        >>> [hierarchy.find_original(path) for path in ("/b/c", "/b/c/d/e", "/bc")]
        ['/a/c', '/x/e', '/bc']
        """
        above = path if self.copied else ""
        while above:
            link = self.copied.get(above)
            if link is not None:
                return (link.target or link.to).rstrip("/") + path[len(above) :]
            above = above.rpartition("/")[0]
        return path


def read_hierarchy(
    file: h5py.File,
    *,
    start: str = "/",
    max_objects: int | None = None,
    max_depth: int | None = None,
    count: bool = True,
) -> Hierarchy:
    """Read the hierarchy of an open file, or of its group `start`; all paths then begin with that of the group.

    With `count`, stored chunks are counted, as in `read_dataset`. Raise UnsafeSourceError if the walk meets more than
    `max_objects` links (a long path counts once more for each 256 characters) or a path has more than `max_depth`
    components, UnsupportedError if the root group cannot be read. A limit of None is that of `Limits`, for functions
    that do not let their caller raise it.

    >>> import h5py
    >>> with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
    ...     file["a/b"] = [1, 2, 3]
    ...     file["z"] = file["a/b"]
    ...     hierarchy = read_hierarchy(file)
    >>> [(dataset.path, dataset.shape, dataset.layout) for dataset in hierarchy.datasets]
    [('/a/b', (3,), 'contiguous')]
    >>> hierarchy.links
    (LinkRecord(path='/z', kind='hard', to='/a/b', file=None, target=None),)
    """
    size, mtime_ns = _read_size_and_time(file)
    walk = _Walk(file.filename, max_objects=max_objects, max_depth=max_depth, count=count)
    try:
        group = h5g.open(file.id, b"/") if start == "/" else open_object(file, start).id
        walk.first_path[h5o.get_info(group).addr] = start
        walk.enter(group, start)
    except H5BoundError:
        raise
    except READ_ERRORS as error:
        raise UnsupportedError(f"{file.filename}: the root group cannot be read: {describe(error)}") from error
    walk.run()
    return Hierarchy(
        file=file.filename,
        size=size,
        mtime_ns=mtime_ns,
        groups=tuple(walk.groups),
        datasets=tuple(walk.datasets),
        links=tuple(walk.links),
        committed_types=tuple(walk.committed_types),
        problems=tuple(walk.problems),
        addresses=walk.first_path,
    )


class _Walk:
    """A walk through a file, depth first, with its limits and records."""

    def __init__(self, file: str, *, max_objects: int | None, max_depth: int | None, count: bool) -> None:
        self.file, self.max_objects, self.max_depth = file, max_objects or MAX_OBJECTS, max_depth or MAX_DEPTH
        self.advice = "raise {}" if max_objects or max_depth else "name a group below the root"
        self.groups: list[str] = []
        self.datasets: list[DatasetRecord] = []
        self.links: list[LinkRecord] = []
        self.committed_types: list[str] = []
        self.problems: list[tuple[str, str]] = []
        self.first_path: dict[int, str] = {}  # by the address of the object
        self.count = 0  # of links, as `count_as_links` counts
        self.slots_left = MAX_SLOTS if count else None
        self.stack: list[tuple[h5g.GroupID, str, Iterator[bytes]]] = []  # each group on the path, with names to visit

    def run(self) -> None:
        """Visit everything below the group that was entered last."""
        while self.stack:
            group, path, names = self.stack[-1]
            name = next(names, None)
            if name is None:
                self.stack.pop()
                continue
            child = join_path(path, name)
            try:
                self.visit(group, name, child)
            except H5BoundError:
                raise
            except READ_ERRORS as error:
                self.problems.append((child, describe(error)))

    def enter(self, group: h5g.GroupID, path: str) -> None:
        """List the names of a group, which `run` visits next."""
        names = list_names(group, self.max_objects - self.count)
        self.count += sum(count_as_links(name, path) for name in names)
        if self.count > self.max_objects:
            raise UnsafeSourceError(
                f"{self.file}: more than {self.max_objects:,} objects and links (limit reached in {cut(path, 80)!r}); "
                f"{self.advice.format('max_objects')}"
            )
        if names and len(self.stack) >= self.max_depth:
            raise UnsafeSourceError(
                f"{self.file}: paths of more than {self.max_depth} components (below {cut(path, 80)!r}); "
                f"{self.advice.format('max_depth')}"
            )
        unique = sorted(set(names))
        if len(unique) < len(names):
            self.problems.append((path, "several links of the group have the same name, and HDF5 opens only one"))
        self.groups.append(path)
        self.stack.append((group, path, iter(unique)))

    def visit(self, group: h5g.GroupID, name: bytes, path: str) -> None:
        """Record the object or link of a name; enter it if it is a group."""
        if name in (b"", b".") or b"/" in name:
            self.problems.append((path, "HDF5 cannot open a link of this name by a path"))
            return
        info = group.links.get_info(name)
        if info.type != h5l.TYPE_HARD:
            self.links.append(read_link(group, name, info.type, path=path))
            return
        first = self.first_path.setdefault(info.u, path)
        if first is not path:
            self.links.append(LinkRecord(path=path, kind="hard", to=first))
            return
        item = h5o.open(group, name)
        if isinstance(item, h5g.GroupID):
            self.enter(item, path)
        elif isinstance(item, h5d.DatasetID):
            record, slots = read_record(item, path, self.slots_left)
            if self.slots_left is not None:
                self.slots_left -= slots
            self.datasets.append(record)
        else:
            self.committed_types.append(path)


def _read_size_and_time(file: h5py.File) -> tuple[int, int]:
    """Return size in bytes and modification time in nanoseconds, the latter 0 for a file that is not local."""
    if read_driver(file.id) != h5fd.fileobj_driver:
        with suppress(OSError, ValueError):
            stat = os.stat(file.filename)  # noqa: PTH116 - in a tenth of the time of a `Path`
            return stat.st_size, stat.st_mtime_ns
    return int(file.id.get_filesize()), 0
