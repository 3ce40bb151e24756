"""The tree of an HDF5 file as frozen records: what it holds, and how each thing is stored. No data is read.

Links are judged one component at a time, before anything is opened through them. Hard links are told by the
address of the object they lead to, so that cycles end and each object has one path: the first one that a walk
in name order meets, which ``h5py.Group.visititems`` gives too. Soft, external and user-defined links are
recorded and never followed. No other file is opened, whatever the source names.
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
from h5py import h5, h5d, h5g, h5i, h5l, h5o, h5p, h5s
from h5py._objects import phil

from h5bound.errors import DatasetNotFoundError, H5BoundError, UnsafeSourceError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

READ_ERRORS = (TypeError, ValueError, OSError, RuntimeError, LookupError, ArithmeticError, MemoryError)
"""What h5py raises for objects that it cannot read, damaged ones and unknown types."""

MAX_SLOTS = 50_000_000
"""Places in the chunk indexes of one file that are looked at to count its stored chunks (takes about 4 s)."""

LAYOUTS = {
    h5d.CHUNKED: "chunked",
    h5d.CONTIGUOUS: "contiguous",
    h5d.COMPACT: "compact",
    h5d.VIRTUAL: "virtual",
}
BTREE_1, SINGLE, BTREE_2 = 0, 1, 5  # H5D_chunk_index_t: the chunk indexes that hold the stored chunks only
DONT_FILTER_PARTIAL_CHUNKS = 2  # H5Dpublic.h


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a pipeline."""

    id: int
    """Number in the registry of HDF5 filters."""
    flags: int
    """1 if the filter is optional, else 0."""
    options: tuple[int, ...]
    """Its client data, unsigned 32-bit numbers."""
    name: str
    """The name stored with it, often empty."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group."""

    path: str
    """Begins with a slash; the root is ``/``."""


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset: its shape, its type, and how it is stored."""

    path: str
    """Begins with a slash."""
    shape: tuple[int, ...] | None
    """None for a null dataspace. Where a virtual dataset grows with sources in other files: as it stands in
    this file, which may be less than h5py says (see `read_dataset`)."""
    dtype: np.dtype | None
    """As h5py gives it, None where h5py has none."""
    layout: str
    """chunked, contiguous, compact, virtual or external."""
    chunks: tuple[int, ...] | None
    """Shape of a chunk, None unless chunked."""
    filters: tuple[Filter, ...]
    """In the order in which they were applied when the chunk was written."""
    stored_nbytes: int
    """Bytes that its values take in the file (external: in the external files; virtual: 0)."""
    stored_chunks: int
    """Chunks that have been written; 0 unless chunked."""
    edge_unfiltered: bool | None
    """True if chunks that the shape cuts off are stored unfiltered, None if that cannot be found out."""
    problem: str | None
    """Why it cannot be read (missing filters apart), else None."""
    outside: tuple[str, ...]
    """Other files that a read would open, as stored (maybe with ``%b``), through sources in this file too."""


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A link that is not the first way to an object of this file."""

    path: str
    """Where the link stands."""
    kind: str
    """hard, soft, external or user."""
    to: str
    """hard: first path of the object; soft: as stored; external: ``file:path``; user: ``class N``."""
    file: str | None = None
    """external: the file alone, as stored; else None."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that looks different in Zarr though nothing of it is lost."""

    path: str
    """Of the object."""
    note: str
    """What it is."""


@dataclass(frozen=True, slots=True)
class Index:
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
    notes: tuple[Note, ...]
    """Committed types."""
    problems: tuple[tuple[str, str], ...]
    """(path, reason) of what cannot be opened, or of a group that cannot be listed: it is not in `groups`."""


def read_index(file: h5py.File, *, start: str = "/", max_objects: int = 1_000_000, max_depth: int = 64) -> Index:
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
    ...     index = read_index(file)
    >>> [(dataset.path, dataset.shape, dataset.layout) for dataset in index.datasets]
    [('/a/b', (3,), 'contiguous')]
    >>> index.links
    (LinkRecord(path='/z', kind='hard', to='/a/b', file=None),)
    """
    size, mtime_ns = _read_identity(file)
    walk = _Walk(file.filename, max_objects, max_depth)
    try:
        root = h5g.open(file.id, b"/")
        walk.enter_first(root if start == "/" else open_object(file, start).id, start)
    except H5BoundError:
        raise
    except READ_ERRORS as error:
        raise UnsupportedError(f"{file.filename}: its root group cannot be read: {describe(error)}") from error
    walk.run()
    return Index(
        file=file.filename,
        size=size,
        mtime_ns=mtime_ns,
        groups=tuple(walk.groups),
        datasets=tuple(walk.datasets),
        links=tuple(walk.links),
        notes=tuple(walk.notes),
        problems=tuple(walk.problems),
    )


def read_dataset(dataset: h5py.Dataset, *, ask_sources: bool = False) -> DatasetRecord:
    """Give the record of one open dataset, under the path by which it was opened.

    Parameters
    ----------
    dataset
        Stays open.
    ask_sources
        Whether the files that a virtual dataset names may be opened, to find the shape that h5py gives it.

    Raises
    ------
    UnsupportedError
        Its metadata cannot be read.
    """
    path = os.fsdecode(dataset.name)
    try:
        return _read_dataset(dataset.id, path, MAX_SLOTS, ask_sources=ask_sources)[0]
    except READ_ERRORS as error:
        raise UnsupportedError(f"{path!r} in {dataset.file.filename}: {describe(error)}") from error


def read_filters(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """Give the filter pipeline of an open dataset, in the order of writing."""
    return _read_filters(dataset.id.get_create_plist())


def read_edge_unfiltered(plist: h5p.PropDCID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> bool | None:
    """Give whether the chunks that a shape cuts off are stored unfiltered, None if that cannot be found out.

    See H5Pset_chunk_opts, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS: their filter mask does not say it.
    """
    if not any(extent % chunk for extent, chunk in zip(shape, chunks, strict=True)):
        return False
    options = _ask("H5Pget_chunk_opts", plist)
    return None if options is None else bool(options & DONT_FILTER_PARTIAL_CHUNKS)


def open_object(file: h5py.File, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """Give the object at a path, opened one component at a time so that no link leads out of the file.

    Soft links are followed within the file, at most 64 of them. The path starts at the root. As in HDF5,
    empty components and ``.`` stand for nothing, and ``..`` is a name like any other.

    Raises
    ------
    DatasetNotFoundError
        Nothing is there, or soft links run in a circle.
    UnsafeSourceError
        An external or user-defined link stands on the way.
    UnsupportedError
        Something is there, and h5py cannot open it.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
    ...     file["entry/data"] = 1.5
    ...     file["there"] = h5py.ExternalLink("other.h5", "/data")
    ...     print(open_object(file, "entry/data")[()])
    ...     open_object(file, "there/x")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    h5bound.errors.UnsafeSourceError: 'there/x' in x.h5: '/there' is an external link to other.h5:/data, ...
    """
    where = f"{path!r} in {file.filename}"
    if "\0" in path:
        raise DatasetNotFoundError(f"{where}: no name holds a null character")
    try:
        found = _follow(h5g.open(file.id, b"/"), path.encode("utf-8", "surrogateescape"))
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{where}: {error}") from None
    except READ_ERRORS as error:
        raise UnsupportedError(f"{where}: h5py cannot open it: {describe(error)}") from error
    if isinstance(found, LinkRecord):
        kind = "an external link" if found.kind == "external" else "a user-defined link"
        raise UnsafeSourceError(
            f"{where}: {found.path!r} is {kind} to {found.to}, and links out of a file are not followed; "
            "open the file that holds the object itself"
        )
    if isinstance(found, h5g.GroupID):
        return h5py.Group(found)
    if isinstance(found, h5d.DatasetID):
        return h5py.Dataset(found, readonly=file.mode == "r")
    return h5py.Datatype(found)


def describe(error: BaseException) -> str:
    """Give what h5py says of an object that it cannot read, in one line.

    >>> describe(KeyError("Unable to open object"))
    'Unable to open object'
    >>> describe(KeyError(2))
    'KeyError: 2'
    """
    words = str(error.args[0]).split() if error.args else []
    return " ".join(words if len(words) > 1 else [f"{type(error).__name__}:", *words])


class _Walk:
    """One walk through a file: what it has met, and the limits it keeps to."""

    def __init__(self, file: str, max_objects: int, max_depth: int) -> None:
        self.file, self.max_objects, self.max_depth = file, max_objects, max_depth
        self.groups: list[GroupRecord] = []
        self.datasets: list[DatasetRecord] = []
        self.links: list[LinkRecord] = []
        self.notes: list[Note] = []
        self.problems: list[tuple[str, str]] = []
        self.first_path: dict[int, str] = {}  # by the object's address in the file
        self.met = 0
        self.slots_left = MAX_SLOTS
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
            child = _join(path, name)
            try:
                self.visit(group, name, child)
            except H5BoundError:
                raise
            except READ_ERRORS as error:
                self.problems.append((child, describe(error)))

    def enter(self, group: h5g.GroupID, path: str) -> None:
        """List a group, to be walked next."""
        names = _list_names(group, self.max_objects - self.met)
        self.met += sum(1 + (len(path) + len(name)) // 256 for name in names)
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
            self.links.append(_read_link(group, name, info.type, path))
            return
        first = self.first_path.setdefault(info.u, path)
        if first is not path:
            self.links.append(LinkRecord(path, "hard", first))
            return
        found = h5o.open(group, name)
        if isinstance(found, h5g.GroupID):
            self.enter(found, path)
        elif isinstance(found, h5d.DatasetID):
            record, slots = _read_dataset(found, path, self.slots_left)
            self.slots_left -= slots
            self.datasets.append(record)
        else:
            self.notes.append(Note(path, "committed type"))


def _list_names(group: h5g.GroupID, room: int) -> list[bytes]:
    """Give the names of a group's links, in no order, at most one more than `room`."""
    names: list[bytes] = []

    def keep(name: bytes) -> bool:
        names.append(name)
        return len(names) > room

    # Native order, because for any other HDF5 builds a table of all the links before the first call.
    group.links.iterate(keep, order=h5.ITER_NATIVE)
    return names


def _read_link(group: h5g.GroupID, name: bytes, kind: int, path: str) -> LinkRecord:
    if kind == h5l.TYPE_SOFT:
        return LinkRecord(path, "soft", _decode(group.links.get_val(name)))
    if kind == h5l.TYPE_EXTERNAL:
        file, target = map(_decode, group.links.get_val(name))
        return LinkRecord(path, "external", f"{file}:{target}", file)
    return LinkRecord(path, "user", f"class {kind}")


def _follow(root: h5g.GroupID, path: bytes, max_links: int = 64) -> h5o.ObjectID | LinkRecord:
    """Give the opened object at a path, or the link that leads out of the file on the way to it."""
    found, at = root, "/"
    parts = _split(path)  # the next component last
    followed: set[tuple[str, tuple[bytes, ...]]] = set()
    while parts:
        name = parts.pop()
        here = _join(at, name)
        if not isinstance(found, h5g.GroupID):
            raise DatasetNotFoundError(f"{at!r} is no group, so nothing is at {here!r}")
        if not found.links.exists(name):
            raise DatasetNotFoundError(f"nothing is at {here!r}; {_suggest(found, name)}")
        kind = found.links.get_info(name).type
        if kind == h5l.TYPE_HARD:
            found, at = h5o.open(found, name), here
            continue
        if kind != h5l.TYPE_SOFT:
            return _read_link(found, name, kind, here)
        step = (here, tuple(parts))
        if step in followed or len(followed) == max_links:
            how = "run in a circle" if step in followed else f"are more than {max_links}"
            raise DatasetNotFoundError(f"the soft links on the way {how}, at {here!r}")
        followed.add(step)
        target = found.links.get_val(name)
        parts += _split(target)
        if target.startswith(b"/"):
            found, at = root, "/"
    return found


def _suggest(group: h5g.GroupID, name: bytes) -> str:
    names = sorted(map(_decode, _list_names(group, 10_000)))
    close = difflib.get_close_matches(_decode(name), names)
    if close:
        return f"close to it: {', '.join(map(repr, close))}"
    more = ", …" if len(names) > 5 else ""
    return f"its group holds {', '.join(map(repr, names[:5])) or 'nothing'}{more}"


def _read_dataset(
    dataset: h5d.DatasetID, path: str, slots_left: int, *, ask_sources: bool = False
) -> tuple[DatasetRecord, int]:
    """Give a dataset's record, and how many places of its chunk index were looked at to count its chunks."""
    plist = dataset.get_create_plist()
    layout = "external" if plist.get_external_count() else LAYOUTS[plist.get_layout()]
    outside = _list_outside(dataset, plist) if layout in ("virtual", "external") else ()
    # H5Dget_space opens the sources that a virtual dataset grows with; its mappings know the stored shape.
    alone = layout == "virtual" and outside and not ask_sources
    shape = _read_shape(plist.get_virtual_vspace(0) if alone else dataset.get_space())
    chunks = tuple(map(int, plist.get_chunk())) if layout == "chunked" else None
    dtype, problem = _read_dtype(dataset)
    slots = _count_slots(dataset, shape, chunks) if chunks and shape else 0
    stored_chunks = stored_nbytes = 0
    if slots > slots_left:
        problem = problem or f"to find its stored chunks, {slots:,} places in its index would have to be looked at"
        slots = 0
    elif layout != "virtual":
        stored_chunks = dataset.get_num_chunks() if chunks else 0
        stored_nbytes = dataset.get_storage_size()
    filters = _read_filters(plist) if chunks else ()
    record = DatasetRecord(
        path=path,
        shape=shape,
        dtype=dtype,
        layout=layout,
        chunks=chunks,
        filters=filters,
        stored_nbytes=stored_nbytes,
        stored_chunks=stored_chunks,
        edge_unfiltered=read_edge_unfiltered(plist, shape, chunks) if filters and chunks and shape else False,
        problem=problem,
        outside=outside,
    )
    return record, slots


def _read_shape(space: h5s.SpaceID) -> tuple[int, ...] | None:
    if space.get_simple_extent_type() == h5s.NULL:
        return None
    return tuple(map(int, space.get_simple_extent_dims()))


def _read_dtype(dataset: h5d.DatasetID) -> tuple[np.dtype | None, str | None]:
    try:
        return dataset.dtype, None
    except READ_ERRORS as error:
        return None, f"h5py cannot read its type: {describe(error)}"


def _read_filters(plist: h5p.PropDCID) -> tuple[Filter, ...]:
    found = map(plist.get_filter, range(plist.get_nfilters()))
    return tuple(Filter(code, flags, tuple(options), _decode(name)) for code, flags, options, name in found)


def _list_outside(dataset: h5d.DatasetID, plist: h5p.PropDCID) -> tuple[str, ...]:
    """Give the files that external storage and virtual sources name, through all sources inside this file."""
    root = h5g.open(h5i.get_file_id(dataset), b"/")
    files: dict[str, None] = {}
    sources: set[str] = set()
    pending = [plist]
    while pending:
        plist = pending.pop()
        files |= dict.fromkeys(_decode(plist.get_external(i)[0]) for i in range(plist.get_external_count()))
        count = plist.get_virtual_count() if plist.get_layout() == h5d.VIRTUAL else 0
        for i in range(count):
            file, source = plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)
            if file != ".":
                files[file] = None
            elif source not in sources:
                sources.add(source)
                pending += _follow_source(root, source, files)
    return tuple(files)


def _follow_source(root: h5g.GroupID, source: str, files: dict[str, None]) -> list[h5p.PropDCID]:
    """Give the creation properties of a virtual source in this file; add a link out of it to `files`."""
    if "%" in source:  # a pattern for any number of names, each of which may be a link
        files[f".:{source}"] = None
        return []
    try:
        found = _follow(root, source.encode("utf-8", "surrogateescape"))
    except READ_ERRORS:  # nothing that a read could open
        return []
    if isinstance(found, LinkRecord):
        files[found.file or found.to] = None
    return [found.get_create_plist()] if isinstance(found, h5d.DatasetID) else []


def _count_slots(dataset: h5d.DatasetID, shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Give how many places HDF5 looks at to count the stored chunks, beyond these chunks themselves.

    B-trees hold the stored chunks only; the arrays of later file formats have a place for each declared one.
    """
    if _ask("H5Dget_chunk_index_type", dataset) in (BTREE_1, SINGLE, BTREE_2):
        return 0
    return math.prod(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))


def _ask(function: str, of: h5p.PropDCID | h5d.DatasetID) -> int | None:
    """Give the unsigned int of a getter that h5py lacks, None if it cannot be asked."""
    library = _find_library()
    if library is None:
        return None
    answer = ctypes.c_uint()
    with phil:
        status = library[function](ctypes.c_int64(of.id), ctypes.byref(answer))
    return answer.value if status >= 0 else None


@functools.cache
def _find_library() -> ctypes.CDLL | None:
    """Give the HDF5 library that h5py runs on: another copy would not know h5py's identifiers."""
    # A loaded extension module answers for what it is linked to, except on Windows; there the name of a DLL
    # that is loaded already gives that very DLL.
    places = [Path(h5p.__file__)]
    if sys.platform == "win32":
        home = Path(h5py.__file__).parent
        places = [*home.glob("hdf5*.dll"), *home.with_name("h5py.libs").glob("hdf5*.dll")]
    for place in places:
        try:
            library = ctypes.CDLL(str(place))
        except OSError:
            continue
        if hasattr(library, "H5Pget_chunk_opts") and hasattr(library, "H5Dget_chunk_index_type"):
            return library
    return None


def _read_identity(file: h5py.File) -> tuple[int, int]:
    """Give the file's bytes and modification time, the latter 0 if it is no file of this machine."""
    if file.driver != "fileobj":
        try:
            found = Path(file.filename).stat()
        except (OSError, ValueError):
            return int(file.id.get_filesize()), 0
        return found.st_size, found.st_mtime_ns
    return int(file.id.get_filesize()), 0


def _split(path: bytes) -> list[bytes]:
    """Give the components of a path, the last one first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _join(path: str, name: bytes) -> str:
    return f"{path.rstrip('/')}/{_decode(name)}"


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
