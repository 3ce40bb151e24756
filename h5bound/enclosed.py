"""Files for readers that follow whatever links there are, like h5netcdf: judged as a whole before they are let in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5py import h5d, h5g, h5l, h5o

from h5bound.errors import UnsafeSourceError
from h5bound.links import join_path, list_names, read_link, weigh
from h5bound.outside import naming
from h5bound.settings import MAX_OBJECTS
from h5bound.unreadable import READ_ERRORS
from h5bound.virtual import check_outside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py
    from h5py import h5p


def check_file(file: h5py.File, allowed: Sequence[Path]) -> None:
    """Make sure that nothing of a file leads out of it, but datasets that draw on allowed files.

    Parameters
    ----------
    file
        The open file. All its objects are opened, and no other file but allowed ones.
    allowed
        Real paths of directories whose files may be opened.

    Raises
    ------
    UnsafeSourceError
        There is an external or user-defined link, or a dataset draws on a file that is not allowed.
    SourceNotFoundError, UnsupportedError
        A dataset draws on what is not there.
    """
    groups = [(h5g.open(file.id, b"/"), "/")]
    met: set[int] = set()
    while groups:
        group, path = groups.pop()
        names = list_names(group, MAX_OBJECTS)
        if sum(map(weigh, names)) > MAX_OBJECTS:  # the others are not listed, so not judged
            raise UnsafeSourceError(f"{file.filename}: more than {MAX_OBJECTS:,} links in {path!r}")
        for name in names:
            child = join_path(path, name)
            with naming(file.filename):
                found = open_child(group, name, child, met)
            if isinstance(found, h5g.GroupID):
                groups.append((found, child))
            elif isinstance(found, h5d.DatasetID) and may_draw(found.get_create_plist()):
                with naming(f"dataset {child!r} of {file.filename}"):
                    check_outside(file, child, allowed)


def open_child(group: h5g.GroupID, name: bytes, path: str, met: set[int]) -> h5o.ObjectID | None:
    """Give what a hard link leads to; None where that was met, cannot be opened, or the link is a soft one.

    Raises
    ------
    UnsafeSourceError
        It is another link, which leads out of the file.
    """
    if b"/" in name:  # it would be taken for a path, and the links on it be followed
        return None
    try:
        info = group.links.get_info(name)
        if info.type == h5l.TYPE_SOFT or (info.type == h5l.TYPE_HARD and info.u in met):
            return None
        if info.type == h5l.TYPE_HARD:
            met.add(info.u)
            return h5o.open(group, name)
        link = read_link(group, name, info.type, path)
    except READ_ERRORS:
        return None
    kind = "an external link" if link.kind == "external" else "a user-defined link"
    raise UnsafeSourceError(f"{path!r} is {kind} to {link.to}, which would be followed; open the file that holds it")


def may_draw(plist: h5p.PropDCID) -> bool:
    """Tell whether a dataset may draw on other files."""
    return bool(plist.get_layout() == h5d.VIRTUAL or plist.get_external_count())
