"""Find the other files that an HDF5 file names where HDF5 looks for them, and refuse those that are not allowed.

HDF5 opens other files silently: raw data of external storage (CVE-2026-1669), sources of virtual datasets, targets of
external links. So h5bound first looks for each where HDF5 would look, and HDF5 opens only those that are allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from h5bound.errors import OptionError, SourceNotFoundError, UnsafeSourceError
from h5bound.files.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence


EXTERNAL_LAYOUTS = frozenset({"external", "virtual"})
"""Layouts of datasets that may read from other files."""

PREFIXES = {"external": "HDF5_EXTFILE_PREFIX", "virtual": "HDF5_VDS_PREFIX", "link": "HDF5_EXT_PREFIX"}
"""Environment variables with the directories that HDF5 puts before a name."""

MAX_HOPS = 16
"""External links in a chain."""

DENIED = "outside the file, not under allow_external"
"""Begin of the message for what is not allowed; what to do follows."""


def find_file(main: str, name: str, reference: str, allowed: Sequence[Path]) -> Path:
    """Return the path at which HDF5 finds the file `name` that the file `main` refers to; `main` is a path.

    `reference` is external, virtual or link; `allowed` are real paths of directories. Raise UnsafeSourceError if the
    file may not be opened or is not a regular file, SourceNotFoundError if it is missing.
    """
    if "://" in main:
        raise UnsafeSourceError("outside the file, which is on a server: only a local file may read from other files")
    candidates = list_candidates(main, name, reference)
    if not allowed:
        raise UnsafeSourceError(f"{DENIED}; {advise(name, candidates)} reads it")
    path = next(filter(os.path.exists, candidates), None)  # False for a path that is too long or not accessible
    if path is None and any(is_under(candidate, allowed) for candidate in candidates):
        raise SourceNotFoundError("no such file")
    if path is None or not is_under(path, allowed):
        raise UnsafeSourceError(f"{DENIED}; {advise(name, candidates)} reads it")
    if not path.is_file():
        raise UnsafeSourceError("not a regular file")
    return path


def advise(name: str, candidates: Sequence[Path]) -> str:
    """Return which directory has to be allowed so that a file is read.

    An absolute name may be that of a server: it is not looked for.
    """
    near = candidates[1:] if Path(name).is_absolute() else candidates
    path = next(filter(os.path.exists, near), candidates[0])
    return f"allow_external=[{os.path.normpath(path.parent)!r}]"


def is_itself(main: str, name: str) -> bool:
    """Return whether HDF5 finds the file `main` itself as a virtual source of this name."""
    if name == "." or "://" in main or not Path(main).exists():
        return name == "."
    path = next(filter(os.path.exists, list_candidates(main, name, "virtual")), None)
    return path is not None and path.samefile(main)


def list_candidates(main: str, name: str, reference: str) -> list[Path]:
    """Return the paths where HDF5 looks for a file, in its order.

    For external storage this is one path (H5_combine_path). For sources and links HDF5 tries several until one opens,
    also the last part of an absolute name (H5F_prefix_open_file).
    """
    origin, actual = Path(main).absolute().parent, Path(os.path.realpath(main)).parent
    prefix = os.environ.get(PREFIXES[reference], "")
    whole = re.sub(r"^\$\{ORIGIN\}", lambda _: f"{origin}/", prefix)
    directories = [Path(whole)] if whole not in ("", ".") and reference != "link" else []
    if reference == "external":
        return [Path(*directories, name)]
    prefixes = [Path(directory) for directory in prefix.split(os.pathsep) if directory]
    last = Path(name).name if Path(name).is_absolute() else name
    paths = [directory / last for directory in (*prefixes, *directories, origin, Path(), actual)]
    return list(dict.fromkeys([Path(name), *paths] if last != name else paths))


def is_under(path: Path, allowed: Sequence[Path]) -> bool:
    """Return whether the real path of a file is below one of the directories."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(directory) for directory in allowed)


def resolve_directories(directories: object) -> tuple[Path, ...]:
    """Return the real paths of the directories of `allow_external`.

    Raise OptionError for what is not a directory, and for a single string: each of its letters would be a directory.

    >>> resolve_directories("/data")
    Traceback (most recent call last):
    h5bound.errors.OptionError: allow_external='/data': pass a list of directories, ['/data']
    """
    if isinstance(directories, (str, bytes, os.PathLike)):
        raise OptionError(f"allow_external={directories!r}: pass a list of directories, [{directories!r}]")
    if not isinstance(directories, Iterable):
        raise OptionError(f"allow_external={directories!r}: pass a list of directories")
    paths = [expand_path(directory, "allow_external") for directory in directories]
    for path in paths:
        if not Path(path).is_dir():
            raise OptionError(f"allow_external={path!r}: there is no such directory")
    return tuple(Path(os.path.realpath(path)) for path in paths)
