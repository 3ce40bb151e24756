"""Links of an HDF5 file, each checked before anything is opened through it.

Soft links are followed within the file. External and user-defined links lead out of it: they are only reported.
"""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass

import h5py
from h5py import h5, h5d, h5g, h5l, h5o

from h5bound.errors import DatasetNotFoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe

MAX_LINKS = 64
"""Most soft links on a path."""

SUGGESTIONS = 1000
"""Most names of a group that a misspelled name is compared with."""

SUGGESTION_LENGTH = 64
"""Characters of a name that are compared."""


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A link of a file, except the first hard link to each object."""

    path: str
    """Path of the link."""
    kind: str
    """hard, soft, external or user."""
    to: str
    """hard: first path of the object; soft: as stored; external: ``file:path``; user: ``class N``."""
    file: str | None = None
    """external: the file alone, as stored; else None."""
    target: str | None = None
    """soft: the first path of the object that it leads to; None if it leads to none, or that is not known."""

    def __str__(self) -> str:
        kind = {"external": "an external link", "user": "a user-defined link"}.get(self.kind, f"a {self.kind} link")
        return f"{kind} to {self.to}"


def open_object(file: h5py.File, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """Open the object at a path, one component at a time so that no link leads out of the file.

    At most 64 soft links are followed. The path starts at the root. As in HDF5, empty components and ``.`` are ignored,
    and ``..`` is a name like any other.

    Raise DatasetNotFoundError if there is no object or soft links form a circle, UnsafeSourceError if a component is an
    external or user-defined link, UnsupportedError if h5py cannot open the object.

    >>> import h5py
    >>> with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
    ...     file["entry/data"] = 1.5
    ...     file["there"] = h5py.ExternalLink("other.h5", "/data")
    ...     print(open_object(file, "entry/data")[()])
    ...     open_object(file, "there/x")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    h5bound.errors.UnsafeSourceError: 'there/x' in x.h5: '/there' is an external link to other.h5:/data, ...
    """
    item, _ = _open(file, path)
    if isinstance(item, LinkRecord):
        raise UnsafeSourceError(
            f"{path!r} in {file.filename}: {item.path!r} is {item}, and links out of a file are not followed; open the "
            "file that has the object itself, or pass allow_external=[its directory]"
        )
    return _wrap(file, item)


class PathOpener:
    """Opens objects as `open_object` does, faster for those of a walk through a file, one after another.

    The groups on the last path stay open until `close`: each object is opened from the nearest of them. Links must not
    change meanwhile.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self._trail: list[tuple[bytes, h5g.GroupID]] = []  # names and groups on the last path

    def open(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Return the object at a path. Raise what `open_object` raises."""
        item = None
        with suppress(*READ_ERRORS):
            item = self._open(_split(encode_name(path))[::-1]) if "\0" not in path else None
        # `open_object` follows soft links, and says why there is nothing.
        return open_object(self.file, path) if item is None else _wrap(self.file, item)

    def close(self) -> None:
        """Close the groups."""
        self._trail = []

    def _open(self, names: list[bytes]) -> h5o.ObjectID | None:
        """Return the object at a path; None if there is another link than hard ones on it."""
        trail, shared = self._trail, 0  # another thread may close it
        for name, (other, _) in zip(names, trail, strict=False):
            if name != other:
                break
            shared += 1
        del trail[shared:]
        item = trail[-1][1] if trail else self.file.id
        for name in names[shared:]:
            item = _open_hard(item, name) if isinstance(item, h5g.GroupID) else None
            if isinstance(item, h5g.GroupID):
                trail.append((name, item))
        return h5g.open(item, b"/") if item is self.file.id else item


def _open_hard(group: h5g.GroupID, name: bytes) -> h5o.ObjectID | None:
    """Return the object of a hard link; None if it is another link."""
    return h5o.open(group, name) if group.links.get_info(name).type == h5l.TYPE_HARD else None


def _wrap(file: h5py.File, item: h5o.ObjectID) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """Return h5py's object of a low-level one."""
    if isinstance(item, h5g.GroupID):
        return h5py.Group(item)
    if isinstance(item, h5d.DatasetID):
        return h5py.Dataset(item, readonly=file.mode == "r")
    return h5py.Datatype(item)


def find_external(file: h5py.File, path: str) -> tuple[str, str] | None:
    """Return the file and the path in it if a component of the path is an external link, else None.

    Raise DatasetNotFoundError and UnsupportedError as `open_object` does.
    """
    item, rest = _open(file, path)
    if not isinstance(item, LinkRecord) or item.file is None:
        return None
    target = item.to[len(item.file) + 1 :]
    return item.file, "/".join([target, *map(decode_name, reversed(rest))])


def find_address(file: h5py.File, path: str) -> int | None:
    """Return the address of the object at a path; None if there is none in the file."""
    try:
        item, _ = _open(file, path)
        return None if isinstance(item, LinkRecord) else h5o.get_info(item).addr
    except (DatasetNotFoundError, *READ_ERRORS):
        return None


def _open(file: h5py.File, path: str) -> tuple[h5o.ObjectID | LinkRecord, list[bytes]]:
    if "\0" in path:
        raise DatasetNotFoundError(f"{path!r} in {file.filename}: names in HDF5 have no null characters")
    try:
        item, rest = follow_path(file.id, encode_name(path))
        return h5g.open(file.id, b"/") if item is file.id else item, rest
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{path!r} in {file.filename}: {error}") from None
    except READ_ERRORS as error:
        raise UnsupportedError(f"{path!r} in {file.filename}: h5py cannot open it: {describe(error)}") from error


def follow_path(root: h5g.GroupID, path: bytes) -> tuple[h5o.ObjectID | LinkRecord, list[bytes]]:
    """Open the object at a path, or return the link on the path that leads out of the file.

    `root` is its root group, or the file; it is returned for a path without components. The second value holds the
    components of the path after that link, the last one first.
    """
    item, parent = root, "/"
    parts = _split(path)  # the next component last
    followed: set[tuple[str, tuple[bytes, ...]]] = set()
    while parts:
        name = parts.pop()
        child = join_path(parent, name)
        if not isinstance(item, h5g.GroupID):
            raise DatasetNotFoundError(f"{parent!r} is not a group, so nothing is at {child!r}")
        links = item.links
        if not links.exists(name):
            raise DatasetNotFoundError(f"nothing is at {child!r}; {_suggest(item, name)}")
        link_type = links.get_info(name).type
        if link_type == h5l.TYPE_HARD:
            item, parent = h5o.open(item, name), child
            continue
        if link_type != h5l.TYPE_SOFT:
            return read_link(item, name, link_type, path=child), parts
        step = (child, tuple(parts))
        if step in followed or len(followed) == MAX_LINKS:
            problem = "form a circle" if step in followed else f"are more than {MAX_LINKS}"
            raise DatasetNotFoundError(f"the soft links on the path {problem}, at {child!r}")
        followed.add(step)
        target = links.get_val(name)
        parts += _split(target)
        if target.startswith(b"/"):
            item, parent = root, "/"
    return item, parts


def list_names(group: h5g.GroupID, room: int) -> list[bytes]:
    """Return the names of a group's links, unordered, until they count as more than `room` links."""
    names: list[bytes] = []
    count = 0

    def keep(name: bytes) -> bool:
        nonlocal count
        names.append(name)
        count += count_as_links(name)
        return count > room

    # Native order, because for any other HDF5 builds a table of all the links before the first call.
    group.links.iterate(keep, order=h5.ITER_NATIVE)
    return names


def count_as_links(name: bytes, path: str = "") -> int:
    """Return as how many links a link below this path counts: more for long names, which each path repeats."""
    return 1 + (len(path) + len(name)) // 256


def read_link(group: h5g.GroupID, name: bytes, link_type: int, path: str) -> LinkRecord:
    """Return the record of a soft, external or user-defined link."""
    if link_type == h5l.TYPE_SOFT:
        return LinkRecord(path=path, kind="soft", to=decode_name(group.links.get_val(name)))
    if link_type == h5l.TYPE_EXTERNAL:
        file, target = map(decode_name, group.links.get_val(name))
        return LinkRecord(path=path, kind="external", to=f"{file}:{target}", file=file)
    return LinkRecord(path=path, kind="user", to=f"class {link_type}")


def _suggest(group: h5g.GroupID, name: bytes) -> str:
    names = sorted(map(decode_name, list_names(group, SUGGESTIONS)))
    # Names come from the file, and to compare two takes as long as the product of their lengths.
    short = [other for other in names[:SUGGESTIONS] if len(other) <= SUGGESTION_LENGTH]
    folded = decode_name(name).casefold()
    close = [other for other in short if other.casefold() == folded]
    if not close and len(name) <= SUGGESTION_LENGTH:
        close = difflib.get_close_matches(decode_name(name), short)
    if close:
        return f"similar names: {', '.join(map(repr, close))}"
    more = ", …" if len(names) > 5 else ""
    return f"its group holds {', '.join(repr(other[:SUGGESTION_LENGTH]) for other in names[:5]) or 'nothing'}{more}"


def _split(path: bytes) -> list[bytes]:
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def join_path(path: str, name: bytes) -> str:
    """Return the path of a link in a group."""
    return f"{path.rstrip('/')}/{decode_name(name)}"


def decode_name(name: bytes) -> str:
    """Return a name as text; bytes that are not UTF-8 are lone surrogates (``surrogateescape``)."""
    return name.decode("utf-8", "surrogateescape")


def encode_name(name: str | bytes) -> bytes:
    """Return the bytes of a name, the reverse of `decode_name`."""
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
