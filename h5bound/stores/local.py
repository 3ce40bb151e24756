"""A folder as a store: its keys are the files in it, each whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from h5bound.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def write_file(path: Path, data: bytes | memoryview) -> int:
    """Write a file under a name of its own first, so that it is there whole or not at all; gives its bytes.

    The name is no other writer's: a task that dask runs twice at once does not write into the file of its twin.
    """
    partial = path.with_name(f"{uuid4().hex}.partial")
    try:
        try:
            partial.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return len(data)


def check_lengths(root: Path, keys: Iterable[str]) -> None:
    """Refuse keys whose files the system has no paths for.

    Raises
    ------
    TargetError
        A path would be too long, with the name that its file is written under first.
    """
    if not hasattr(os, "pathconf"):
        return
    most = os.pathconf("/", "PC_PATH_MAX")
    for key in keys:
        nbytes = len(os.fsencode((root / key).parent.absolute())) + len(f"/{uuid4().hex}.partial") + 1
        if nbytes > most:
            raise TargetError(
                f"{root}: a path of {nbytes:,} bytes, where this system takes {most:,}: {key[:60]}…; name a place "
                "nearer to the root, or leave that out with exclude"
            )


def read_file(path: Path) -> bytes | None:
    """Give the bytes of a file, None if there is no such file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def list_files(root: Path) -> Iterator[str]:
    """Give the keys of a folder that may not be there, also what was left of some that were not written to their end.

    Raises
    ------
    OSError
        A folder cannot be listed: what is in it must not be taken for missing.
    TargetError
        A folder in it is a symbolic link: what is behind that is not to be written to.
    """
    if not root.is_dir():
        return
    top = os.fspath(root)
    for folder, folders, names in os.walk(top, onerror=_raise):
        for name in folders:
            if Path(folder, name).is_symlink():
                raise TargetError(f"{folder}/{name}: a symbolic link, and a store is in one folder; delete it")
        base = folder.removeprefix(top).replace(os.sep, "/").lstrip("/")
        yield from ((f"{base}/{name}" for name in names) if base else names)


def _raise(error: OSError) -> None:
    raise error


def delete_files(root: Path, keys: Iterable[str]) -> None:
    """Delete keys that may be there, and the folders that hold nothing any more."""
    folders = set()
    for key in keys:
        path = root / key
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        place = folder
        while place != root and place.is_dir() and not any(place.iterdir()):
            place.rmdir()
            place = place.parent


def delete_path(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
