"""The tree of an HDF5 file as frozen records: what it holds, and how each thing is stored. No data is read.

Links are judged one component at a time, before anything is opened through them. Hard links are told by the
address of the object they lead to, so that cycles end and each object has one path: the first one that a walk
in name order meets, which ``h5py.Group.visititems`` gives too. Soft, external and user-defined links are
recorded and never followed. No other file is opened, whatever the source names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h5py import h5d, h5g, h5l, h5o

from h5bound.errors import H5BoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.dataset import MAX_SLOTS, DatasetRecord, read_record
from h5bound.hdf5.links import LinkRecord, count_as_links, join_path, list_names, open_object, read_link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import h5py


MAX_OBJECTS = 1_000_000

MAX_DEPTH = 64

MAX_CHUNKS = 10_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may have before it is refused."""

    max_objects: int = MAX_OBJECTS
    """objects and links"""
    max_depth: int = MAX_DEPTH
    """groups within groups"""
    max_chunks: int = MAX_CHUNKS
    """stored chunks, or chunks to write, of all datasets together"""


COMMITTED = "committed type"
"""The note of one: what has such a type is carried, and its attributes are among the details of the store."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group."""

    path: str
    """Begins with a slash; the root is ``/``."""


@dataclass(frozen=True, slots=True)
class ObjectNote:
    """Something that looks different in Zarr though nothing of it is lost."""

    path: str
    """Of the object."""
    note: str
    """What it is."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """All that a file holds. Each tuple is in the order of a walk by name, depth first."""

    file: str
    """The file's name as it was opened."""
    size: int
    """Its bytes."""
    mtime_ns: int
    """Its modification time in nanoseconds, 0 if it is no file of this machine."""
    groups: tuple[GroupRecord, ...]
    """The root first."""
    datasets: tuple[DatasetRecord, ...]
    """Also those with a problem."""
    links: tuple[LinkRecord, ...]
    """Every link that is not the first way to an object."""
    notes: tuple[ObjectNote, ...]
    """Committed types."""
    problems: tuple[tuple[str, str], ...]
    """(path, reason) of what cannot be opened, or of a group that cannot be listed: it is not in `groups`."""
    addresses: Mapping[int, str]
    """First paths of all objects by their address (``h5py.h5o.get_info(…).addr``): what their references hold."""


def read_hierarchy(
    file: h5py.File, *, start: str = "/", max_objects: int = 1_000_000, max_depth: int = 64, count: bool = True
) -> Hierarchy:
    """Give the records of everything that an open file holds, or that one of its groups holds.

    Parameters
    ----------
    file
        Stays open. Nothing but metadata is read from it, and no other file is opened.
    start
        Path of the group where the walk begins; all paths begin with it.
    max_objects
        Most links that the walk may meet. A long path counts once more for each 256 characters of it.
    max_depth
        Most components that a path may have.
    count
        Whether stored chunks are counted, as for `read_dataset`.

    Raises
    ------
    UnsafeSourceError
        The file passes one of the limits.
    UnsupportedError
        Its root group cannot be read.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
    ...     file["a/b"] = [1, 2, 3]
    ...     file["z"] = file["a/b"]
    ...     index = read_hierarchy(file)
    >>> [(dataset.path, dataset.shape, dataset.layout) for dataset in index.datasets]
    [('/a/b', (3,), 'contiguous')]
    >>> index.links
    (LinkRecord(path='/z', kind='hard', to='/a/b', file=None),)
    """
    size, mtime_ns = _read_identity(file)
    walk = _Walk(file.filename, max_objects, max_depth, count=count)
    try:
        root = h5g.open(file.id, b"/")
        walk.enter_first(root if start == "/" else open_object(file, start).id, start)
    except H5BoundError:
        raise
    except READ_ERRORS as error:
        raise UnsupportedError(f"{file.filename}: its root group cannot be read: {describe(error)}") from error
    walk.run()
    return Hierarchy(
        file=file.filename,
        size=size,
        mtime_ns=mtime_ns,
        groups=tuple(walk.groups),
        datasets=tuple(walk.datasets),
        links=tuple(walk.links),
        notes=tuple(walk.notes),
        problems=tuple(walk.problems),
        addresses=walk.first_path,
    )


class _Walk:
    """One walk through a file: what it has met, and the limits it keeps to."""

    def __init__(self, file: str, max_objects: int, max_depth: int, *, count: bool) -> None:
        self.file, self.max_objects, self.max_depth = file, max_objects, max_depth
        self.groups: list[GroupRecord] = []
        self.datasets: list[DatasetRecord] = []
        self.links: list[LinkRecord] = []
        self.notes: list[ObjectNote] = []
        self.problems: list[tuple[str, str]] = []
        self.first_path: dict[int, str] = {}  # by the object's address in the file
        self.met = 0
        self.slots_left = MAX_SLOTS if count else None
        self.stack: list[tuple[h5g.GroupID, str, Iterator[bytes]]] = []  # groups on the way here, each open

    def enter_first(self, group: h5g.GroupID, path: str) -> None:
        self.first_path[h5o.get_info(group).addr] = path
        self.enter(group, path)

    def run(self) -> None:
        """Walk on from the group entered last, depth first."""
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
        """List a group, to be walked next."""
        names = list_names(group, self.max_objects - self.met)
        self.met += sum(count_as_links(name, path) for name in names)
        if self.met > self.max_objects:
            raise UnsafeSourceError(
                f"{self.file} holds more than {self.max_objects:,} objects and links, counted up to "
                f"{path!r}; a higher max_objects= lets them in"
            )
        if names and len(self.stack) >= self.max_depth:
            raise UnsafeSourceError(
                f"{self.file} has paths of more than {self.max_depth} components, below {path!r}; "
                "a higher max_depth= lets them in"
            )
        once = sorted(set(names))
        if len(once) < len(names):
            self.problems.append((path, "several of its links have one name, and only one can be reached"))
        self.groups.append(GroupRecord(path))
        self.stack.append((group, path, iter(once)))

    def visit(self, group: h5g.GroupID, name: bytes, path: str) -> None:
        """Record what one link leads to; enter it if it is a group."""
        if name in (b"", b".") or b"/" in name:
            self.problems.append((path, "no path can reach a link of this name"))
            return
        info = group.links.get_info(name)
        if info.type != h5l.TYPE_HARD:
            self.links.append(read_link(group, name, info.type, path))
            return
        first = self.first_path.setdefault(info.u, path)
        if first is not path:
            self.links.append(LinkRecord(path, "hard", first))
            return
        found = h5o.open(group, name)
        if isinstance(found, h5g.GroupID):
            self.enter(found, path)
        elif isinstance(found, h5d.DatasetID):
            record, slots = read_record(found, path, self.slots_left)
            if self.slots_left is not None:
                self.slots_left -= slots
            self.datasets.append(record)
        else:
            self.notes.append(ObjectNote(path, COMMITTED))


def _read_identity(file: h5py.File) -> tuple[int, int]:
    """Give the file's bytes and modification time, the latter 0 if it is no file of this machine."""
    if file.driver != "fileobj":
        try:
            found = Path(file.filename).stat()
        except (OSError, ValueError):
            return int(file.id.get_filesize()), 0
        return found.st_size, found.st_mtime_ns
    return int(file.id.get_filesize()), 0
