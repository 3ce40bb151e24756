"""The files that a user names: paths, URLs, patterns, open files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from h5bound.errors import OptionError
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, redact, strip_local


def expand_sources(sources: Any, storage_options: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the files of a path, a pattern with ``*``, or a list of them, URLs and open files, in their order.

    Files that match a pattern are sorted by name. Raise OptionError if there are none.
    """
    if isinstance(sources, (str, bytes, os.PathLike, h5py.File)) or hasattr(sources, "read"):
        sources = [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, Mapping):
        raise OptionError(f"sources={sources!r}: pass a list of paths, or a pattern like 'data/*.nc'")
    files: list[Any] = []
    for source in sources:
        if isinstance(source, (str, bytes, os.PathLike)):
            files += expand_pattern(expand_path(source, "sources"), storage_options)
        else:
            files.append(source)
    if not files:
        raise OptionError("sources=[]: name at least one HDF5 file")
    return files


def expand_pattern(name: str, storage_options: Mapping[str, Any] | None) -> list[str]:
    """Return the files that match a pattern, sorted; a name without one as it is.

    Raise OptionError if none match, or it is a folder.
    """
    place = strip_local(name)
    if is_url(name):
        found = match_url(name, storage_options) if "*" in name.partition("?")[0] else [name]
    elif glob.has_magic(place) and not Path(place).exists():
        found = sorted(glob.glob(place, recursive=True))  # noqa: PTH207 - a Path would change the names
    else:
        if Path(place).is_dir():
            raise OptionError(
                f"sources={name!r}: this is a folder; name its files, like {place.rstrip('/') + '/*.nc'!r}"
            )
        found = [place]
    if not found:
        raise OptionError(f"sources={redact(name) if is_url(name) else name!r}: no file matches this pattern")
    return found


def match_url(url: str, storage_options: Mapping[str, Any] | None) -> list[str]:
    """Return the URLs that match a pattern, sorted."""
    from fsspec.core import url_to_fs

    system, pattern = url_to_fs(url, **(storage_options or {}))
    return sorted(system.unstrip_protocol(path) for path in system.glob(pattern))


def name_file(file: Any) -> str:
    """Return the path or URL of a file as its record has it."""
    return file if isinstance(file, str) else str(getattr(file, "filename", None) or getattr(file, "name", file))
