"""AttributeBuilder that are not to be written to: what is read stands there, or what is being written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from h5bound.errors import OptionError, TargetError
from h5bound.stores.target import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from h5bound.reader.source import H5Source
    from h5bound.stores.target import Target


def check_source(target: Target, source: H5Source) -> None:
    """Refuse a target that holds the source: to overwrite it would be to delete that first.

    Raises
    ------
    TargetError
        It does.
    """
    if not source.remote:
        check_external_files(target, [source.path])
    elif _holds(target, source):
        raise _inside(target, "the source")


def check_external_files(target: Target, paths: Iterable[str]) -> None:
    """Refuse a target that holds one of these files, which are read.

    Raises
    ------
    TargetError
        It does.
    """
    folder = find_folder(target)
    for path in paths:
        if folder is not None and Path(path).is_relative_to(os.path.realpath(folder)):
            raise _inside(target, path)


def _holds(target: Target, source: H5Source) -> bool:
    """Tell whether a file at a URL is in a store of the same kind of file system."""
    fs = getattr(target.store, "fs", None)
    if fs is None:
        return False
    system, path = source.location.find_system()  # type: ignore[attr-defined]
    mine, other = ({one.protocol} if isinstance(one.protocol, str) else set(one.protocol) for one in (system, fs))
    base = target.store.path.strip("/")  # type: ignore[attr-defined]
    return bool(mine & other) and f"{path.strip('/')}/".startswith(f"{base}/" if base else "")


def _inside(target: Target, what: str) -> TargetError:
    return TargetError(f"{target.url}: {what} is in it, and all that is no part of the store is deleted there")


def find_folder(target: Target) -> Path | None:
    """Give the local folder or zip file that a store is in, whatever class of store it is of; None if in none."""
    from zarr.storage import LocalStore

    if target.kind == "zip":
        return Path(target.store.path)  # type: ignore[attr-defined]
    inner = unwrap(target.store)
    if isinstance(inner, LocalStore):
        return inner.root
    place = getattr(inner, "store", None)  # obstore's, in zarr's ObjectStore
    prefix = getattr(place, "prefix", None) if type(place).__name__ == "LocalStore" else None
    return None if prefix is None else Path(prefix)


def check_report(report: str | PathLike[str] | None, target: Target, paths: Iterable[str]) -> None:
    """Refuse a place where the report could not be written in the end, or where it would destroy something.

    Parameters
    ----------
    report
        Where it is to be; None for nowhere.
    target
        What is converted to, or compared.
    paths
        Of the files that are read.

    Raises
    ------
    TargetError
        It is a folder, a file that is read, or the target or in it; or its folder cannot be written to.
    """
    if report is None:
        return
    path = Path(report).absolute()
    if "\0" in str(path):
        raise OptionError(f"report={report!r}: no path")
    if any(_is_same(path, other) for other in paths):
        raise TargetError(f"{path}: the source itself, or a file that it draws on, is no place for a report")
    folder = find_folder(target)
    if folder is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise TargetError(f"{path}: the target, or in it, is no place for a report; name a file beside it")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise TargetError(f"{path}: no report can be written there; name a file in a folder that can be written to")


def _is_same(path: Path, other: str) -> bool:
    """Tell whether both are there, and one file."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def write_report(report: str | PathLike[str], text: str) -> None:
    """Write the report of what was done already.

    Raises
    ------
    TargetError
        It cannot be written.
    """
    try:
        Path(report).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"{report}: all was done, but the report cannot be written: {error.strerror}") from error
