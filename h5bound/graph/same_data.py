"""Which variables have the same data: names of one file, links to one dataset, and virtual datasets over it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import h5py
from h5py import h5o

from h5bound.errors import H5BoundError
from h5bound.files.open import open_file
from h5bound.h5py_compat import READ_ERRORS, find_writer

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

Places: TypeAlias = frozenset["Hashable"]
"""Where the data of a variable is: in which objects of which files."""


def identify_file(path: str) -> Hashable:
    """Return what is equal for all names of a local file; the path of any other."""
    with suppress(OSError, ValueError):
        stat = Path(path).stat()
        return stat.st_dev, stat.st_ino
    return path


@contextmanager
def open_written(path: str) -> Iterator[h5py.File | None]:
    """Return the file that h5py writes, or one that netCDF4 has just written out; None if that cannot be opened."""
    file = find_writer(path)  # the user's, so it stays open
    if file is not None:
        yield file
        return
    with suppress(H5BoundError):
        file = open_file(path, beside_writer=True)
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def find_places(file: h5py.File | None, path: str) -> Places:
    """Return where the data of a variable is; its path if the file does not tell.

    The data of a virtual dataset is in its sources, of which those in the file itself are found.
    """
    found = None
    with suppress(*READ_ERRORS):
        found = file[path] if file is not None else None
    if not isinstance(found, h5py.Dataset):
        return frozenset({path})
    info = h5o.get_info(found.id)
    places: set[Hashable] = {(info.fileno, info.addr)}
    if found.is_virtual:
        mappings = found.id.get_create_plist()
        for i in range(mappings.get_virtual_count()):
            if _is_itself(found.file.filename, mappings.get_virtual_filename(i)):
                places |= find_places(found.file, mappings.get_virtual_dsetname(i))
    return frozenset(places)


def _is_itself(path: str, name: str) -> bool:
    """Return whether a virtual source of this name, in a file of that path, is in the file itself."""
    return name == "." or identify_file(str(Path(os.path.realpath(path)).parent / name)) == identify_file(path)
