"""The stores of many sources in one folder: ``NAME.h5`` becomes ``NAME.zarr``."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from h5bound.conversion.resume import has_root
from h5bound.errors import OptionError
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, redact, strip_local
from h5bound.stores.keys import reaching
from h5bound.stores.lock import MARKER
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and its store in the folder."""

    source: Any
    """The source as it was given."""
    name: str
    """Path or URL of the source, for reports and errors."""
    target: str
    """Path or URL of the store."""
    nbytes: int | None
    """Size of the file; None if it is not known before the file is opened."""


def plan_pairs(sources: Sequence[Any], folder: Any) -> list[Pair]:
    """Return the store of each source. Raise OptionError if two would be one store, or a source has no name."""
    if not sources:
        raise OptionError("source=[]: name at least one HDF5 file")
    if not isinstance(folder, (str, os.PathLike)):
        raise OptionError(f"target: many sources need a folder, a path or a URL, not {type(folder).__name__}")
    place = expand_path(folder, "target")
    pairs = []
    for source in sources:
        name = name_source(source)
        target = join(place, f"{name_stem(name)}.zarr")
        pairs.append(Pair(source=source, name=show_name(name), target=target, nbytes=find_nbytes(name)))
    check_names(pairs)
    return pairs


def check_names(pairs: Iterable[Pair]) -> None:
    """Raise OptionError if several sources have stores that are one, at least where case does not count."""
    same: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        same[unicodedata.normalize("NFC", pair.target).casefold()].append(pair)
    problems = []
    for group in same.values():
        names = list(dict.fromkeys(pair.name for pair in group))
        if len(group) > 1 and len(names) == 1:
            problems.append(f"{names[0]} is named {len(group)} times; name it once")
        elif len(group) > 1:
            problems.append(
                f"{' and '.join(names)} would become one store, {group[0].target}: convert them into different folders"
            )
    if problems:
        raise OptionError("; ".join(problems))


def name_source(source: Any) -> str:
    """Return the path or URL of a source: a path, a URL, or an open file with a name. Raise OptionError without one."""
    names = [source]
    for attribute in ("filename", "full_name", "name"):  # of h5py.File, fsspec's OpenFile, Python's files
        with suppress(ValueError):  # of a closed h5py.File
            names.append(getattr(source, attribute, None))
    for name in names:
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            return expand_path(name)
    raise OptionError(
        f"source: {source!r} has no name to call its store by; convert it alone, into a store with a name"
    )


def show_name(name: str) -> str:
    """Return the path or URL of a source as reports have it."""
    return redact(name) if is_url(name) else os.path.realpath(strip_local(name))


def name_stem(name: str) -> str:
    """Return the name of a file without its directory and its last suffix.

    >>> [name_stem(name) for name in ("in/run.1.h5", "https://host/a.b.nc?sig=x", "zip://a/b.h5::s3://bucket/c.zip")]
    ['run.1', 'a.b', 'b']
    >>> name_stem("simplecache::https://host/a.h5")
    'a'
    """
    if not is_url(name):
        return PurePath(strip_local(name)).stem
    part = next(part for part in name.split("::") if "://" in part)
    path = part.partition("?")[0].partition("#")[0].partition("://")[2]
    stem = PurePosixPath(path).stem
    if path.endswith("/") or not stem:
        raise OptionError(f"{redact(name)}: this URL does not end in the name of a file")
    return stem


def join(folder: str, name: str) -> str:
    """Return the path or URL of a name in a folder."""
    return f"{folder}{'' if folder.endswith(('/', os.sep)) else '/'}{name}"


def find_nbytes(name: str) -> int | None:
    """Return the size of a local file, None of a URL; 0 if there is none."""
    if is_url(name):
        return None
    try:
        return Path(strip_local(name)).stat().st_size
    except (OSError, ValueError):
        return 0


def holds_store(folder: Any, storage_options: Mapping[str, Any] | None) -> bool:
    """Return whether a folder is a store by itself, or an unfinished one."""
    target = open_target(folder, 3, storage_options, read_only=True)
    with reaching(target.url):
        return has_root(target) or target.keys.read(MARKER) is not None


def is_folder(target: str, options: Mapping[str, Any]) -> bool:
    """Return whether the target of one source is meant as a folder: it ends in a slash, and is not a store."""
    if not target.endswith(("/", os.sep)) or target.rstrip("/" + os.sep).endswith(".zip"):
        return False
    return not holds_store(target, store_options(target, options))


def place_store(source: Any, target: Any, options: Mapping[str, Any]) -> Any:
    """Return the target of one source: where it is meant as a folder, the store of the source's name in it."""
    if not isinstance(target, str) or not is_folder(target, options):
        return target
    return join(target, f"{name_stem(name_source(source))}.zarr")


def check_folder(folder: Any, options: Mapping[str, Any]) -> None:
    """Raise OptionError if the target of many sources is a file or a store."""
    place = os.fspath(folder)
    path = None if is_url(place) else Path(strip_local(place)).absolute()
    if path is not None and path.suffix == ".zip":
        raise OptionError(f"{place}: many sources need a folder; a zip file holds one store")
    for parent in (path, *path.parents) if path is not None else ():
        if parent.exists():
            if not parent.is_dir():
                subject = "this" if parent == path else str(parent)
                raise OptionError(f"{place}: {subject} is a file; many sources need a folder")
            break
    if holds_store(place, store_options(place, options)):
        raise OptionError(f"{place}: this is a Zarr store; many sources need a folder that is none")


def store_options(place: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the options of fsspec for the folder: `storage_options` serve it too if it is a URL."""
    shared: Mapping[str, Any] | None = options.get("storage_options") if is_url(place) else None
    return options.get("target_options") or shared
