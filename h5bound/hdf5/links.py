"""Links of an HDF5 file, judged one component at a time before anything is opened through them.

Soft links are followed within the file. Nothing leads out of it: an external or user-defined link is told, and
never followed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import h5py
from h5py import h5, h5d, h5g, h5l, h5o

from h5bound.errors import DatasetNotFoundError, UnsafeSourceError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe

SUGGESTED_FROM = 1000
"""Names of a group that a misspelled one is compared with."""

SUGGESTED_LENGTH = 64
"""Characters of those names, at most."""


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
    found, _ = _open(file, path)
    if isinstance(found, LinkRecord):
        kind = "an external link" if found.kind == "external" else "a user-defined link"
        raise UnsafeSourceError(
            f"{path!r} in {file.filename}: {found.path!r} is {kind} to {found.to}, and links out of a file are not "
            "followed; open the file that holds the object itself"
        )
    if isinstance(found, h5g.GroupID):
        return h5py.Group(found)
    if isinstance(found, h5d.DatasetID):
        return h5py.Dataset(found, readonly=file.mode == "r")
    return h5py.Datatype(found)


def find_external(file: h5py.File, path: str) -> tuple[str, str] | None:
    """Give file and path of the external link that stands on a path, if one does: what follows it goes on from there.

    Raises
    ------
    DatasetNotFoundError
        Nothing is there.
    UnsupportedError
        Something is there, and h5py cannot open it.
    """
    found, left = _open(file, path)
    if not isinstance(found, LinkRecord) or found.file is None:
        return None
    target = found.to[len(found.file) + 1 :]
    return found.file, "/".join([target, *map(decode_name, reversed(left))])


def _open(file: h5py.File, path: str) -> tuple[h5o.ObjectID | LinkRecord, list[bytes]]:
    where = f"{path!r} in {file.filename}"
    if "\0" in path:
        raise DatasetNotFoundError(f"{where}: no name holds a null character")
    try:
        return follow_path(h5g.open(file.id, b"/"), encode_name(path))
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{where}: {error}") from None
    except READ_ERRORS as error:
        raise UnsupportedError(f"{where}: h5py cannot open it: {describe(error)}") from error


def follow_path(root: h5g.GroupID, path: bytes, max_links: int = 64) -> tuple[h5o.ObjectID | LinkRecord, list[bytes]]:
    """Give the opened object at a path, or the link that leads out of the file on the way to it.

    With it come the components of the path that are left behind that link, the last one first.
    """
    found, at = root, "/"
    parts = _split(path)  # the next component last
    followed: set[tuple[str, tuple[bytes, ...]]] = set()
    while parts:
        name = parts.pop()
        here = join_path(at, name)
        if not isinstance(found, h5g.GroupID):
            raise DatasetNotFoundError(f"{at!r} is no group, so nothing is at {here!r}")
        if not found.links.exists(name):
            raise DatasetNotFoundError(f"nothing is at {here!r}; {_suggest(found, name)}")
        kind = found.links.get_info(name).type
        if kind == h5l.TYPE_HARD:
            found, at = h5o.open(found, name), here
            continue
        if kind != h5l.TYPE_SOFT:
            return read_link(found, name, kind, here), parts
        step = (here, tuple(parts))
        if step in followed or len(followed) == max_links:
            how = "run in a circle" if step in followed else f"are more than {max_links}"
            raise DatasetNotFoundError(f"the soft links on the way {how}, at {here!r}")
        followed.add(step)
        target = found.links.get_val(name)
        parts += _split(target)
        if target.startswith(b"/"):
            found, at = root, "/"
    return found, parts


def list_names(group: h5g.GroupID, room: int) -> list[bytes]:
    """Give the names of a group's links, in no order, at most one more than `room`."""
    names: list[bytes] = []
    met = 0

    def keep(name: bytes) -> bool:
        nonlocal met
        names.append(name)
        met += count_as_links(name)
        return met > room

    # Native order, because for any other HDF5 builds a table of all the links before the first call.
    group.links.iterate(keep, order=h5.ITER_NATIVE)
    return names


def count_as_links(name: bytes, path: str = "") -> int:
    """Give how many links one of this name counts for, below this path: one name may be told again and again."""
    return 1 + (len(path) + len(name)) // 256


def read_link(group: h5g.GroupID, name: bytes, kind: int, path: str) -> LinkRecord:
    """Give the record of a link that is not a hard one."""
    if kind == h5l.TYPE_SOFT:
        return LinkRecord(path, "soft", decode_name(group.links.get_val(name)))
    if kind == h5l.TYPE_EXTERNAL:
        file, target = map(decode_name, group.links.get_val(name))
        return LinkRecord(path, "external", f"{file}:{target}", file)
    return LinkRecord(path, "user", f"class {kind}")


def _suggest(group: h5g.GroupID, name: bytes) -> str:
    names = sorted(map(decode_name, list_names(group, SUGGESTED_FROM)))
    # Names come from the file, and comparing two takes as long as their lengths multiplied.
    short = [other for other in names[:SUGGESTED_FROM] if len(other) <= SUGGESTED_LENGTH]
    close = difflib.get_close_matches(decode_name(name), short) if len(name) <= SUGGESTED_LENGTH else []
    if close:
        return f"close to it: {', '.join(map(repr, close))}"
    more = ", …" if len(names) > 5 else ""
    return f"its group holds {', '.join(repr(other[:SUGGESTED_LENGTH]) for other in names[:5]) or 'nothing'}{more}"


def _split(path: bytes) -> list[bytes]:
    """Give the components of a path, the last one first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def join_path(path: str, name: bytes) -> str:
    """Give the path of what stands in a group under a name."""
    return f"{path.rstrip('/')}/{decode_name(name)}"


def decode_name(name: bytes) -> str:
    """Give a name as text; bytes that are not UTF-8 are lone surrogates (``surrogateescape``)."""
    return name.decode("utf-8", "surrogateescape")


def encode_name(name: str | bytes) -> bytes:
    """Return the bytes of a name: the reverse of `decode_name`."""
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
