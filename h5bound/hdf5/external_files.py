"""Which other files may be opened for what an HDF5 file names, and where HDF5 looks for them.

HDF5 opens them without a word: raw data of external storage (CVE-2026-1669), the sources of virtual datasets, the
files of external links. So each is looked for here first, where HDF5 would look, and none is opened before it is known
to be allowed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from h5bound.errors import OptionError, SourceNotFoundError, UnsafeSourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


PREFIXES = {"external": "HDF5_EXTFILE_PREFIX", "virtual": "HDF5_VDS_PREFIX", "link": "HDF5_EXT_PREFIX"}
"""Environment variables with what HDF5 puts before a name."""

MAX_HOPS = 16
"""External links one behind another."""

DENIED = "outside the file, not under allow_external"


def find_file(main: str, name: str, kind: str, allowed: Sequence[Path]) -> Path:
    """Give the path at which HDF5 finds a file that another one names: the first place where anything is.

    Parameters
    ----------
    main
        The file that names it, as it was opened.
    name
        As it stands there.
    kind
        external, virtual or link.
    allowed
        Real paths of directories whose files may be opened.

    Raises
    ------
    UnsafeSourceError
        It may not be opened, or is no regular file.
    SourceNotFoundError
        It is not there.
    """
    if "://" in main:
        raise UnsafeSourceError("outside the file, which is read from a server: only a local file may draw on others")
    places = list_places(main, name, kind)
    place = next(filter(exists, places), None)
    if place is None and any(is_under(folder, allowed) for folder in places):
        raise SourceNotFoundError("no such file")
    if place is None or not is_under(place, allowed):
        raise UnsafeSourceError(DENIED)
    if not place.is_file():
        raise UnsafeSourceError("not a regular file")
    return place


def list_places(main: str, name: str, kind: str) -> list[Path]:
    """Give the places where HDF5 looks for a file, in its order.

    For external storage there is one (H5_combine_path). Sources and links it looks for at one place after another,
    until one opens, and if their name is absolute by its last part as well (H5F_prefix_open_file).
    """
    origin, actual = Path(main).absolute().parent, Path(os.path.realpath(main)).parent
    prefix = os.environ.get(PREFIXES[kind], "")
    whole = re.sub(r"^\$\{ORIGIN\}", lambda _: f"{origin}/", prefix)
    folders = [Path(whole)] if whole not in ("", ".") and kind != "link" else []
    if kind == "external":
        return [Path(*folders, name)]
    listed = [Path(folder) for folder in prefix.split(os.pathsep) if folder]
    last = Path(name).name if Path(name).is_absolute() else name
    places = [folder / last for folder in (*listed, *folders, origin, Path(), actual)]
    return list(dict.fromkeys([Path(name), *places] if last != name else places))


def exists(place: Path) -> bool:
    """Tell whether HDF5 could open what is at a place."""
    try:
        return place.exists()
    except (OSError, ValueError):  # too long, or not to be looked into
        return False


def is_under(place: Path, allowed: Sequence[Path]) -> bool:
    """Tell whether the real path of a file is below one of the directories."""
    real = Path(os.path.realpath(place))
    return any(real.is_relative_to(folder) for folder in allowed)


def resolve_directories(folders: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Give the real paths of directories.

    Raises
    ------
    OptionError
        It is one string: each of its letters would be a directory, a slash the root of all. Or one of them is empty.

    Examples
    --------
    >>> resolve_directories("/data")
    Traceback (most recent call last):
    h5bound.errors.OptionError: allow_external='/data': pass a list of directories, ['/data']
    """
    if isinstance(folders, (str, bytes, os.PathLike)):
        raise OptionError(f"allow_external={folders!r}: pass a list of directories, [{folders!r}]")
    folders = list(folders)
    if not all(map(os.fspath, folders)):
        raise OptionError("allow_external: one of the directories has no name; for the current one pass '.'")
    return tuple(Path(os.path.realpath(folder)) for folder in folders)
