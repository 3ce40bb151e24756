"""The keys of a local directory: files that are written without zarr, which is slower and does not list all files."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from h5bound.errors import TargetError
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NUMBERED = 16
"""Letters of the name of a partial file that are those of all files of one write, and those that number the file."""


@dataclass(frozen=True, slots=True)
class DirectoryKeys:
    """The files in a directory, which may not be there."""

    root: Path

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys in any order, and return the number of bytes."""
        root, nbytes = os.fspath(self.root), 0
        made, own = {root}, uuid4().hex[:NUMBERED]
        for number, (key, data) in enumerate(items):
            path = f"{root}/{key}"  # a `Path` takes as long as to write a small file
            directory = path.rpartition("/")[0]
            make_directory(directory, made)
            write_file(path, data, partial=f"{directory}/{own}{number:0{NUMBERED}x}{PARTIAL_SUFFIX}")
            nbytes += len(data)
        return nbytes

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a key, None if it is missing."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where it is missing."""
        return [self.read(key) for key in keys]

    def measure(self, keys: Iterable[str]) -> int:
        """Return the number of bytes of these keys together."""
        return sum((self.root / key).stat().st_size for key in keys)

    def list_all(self) -> list[str]:
        """Return all keys and all partial files; nothing if the directory does not exist.

        Raise OSError if a directory cannot be listed: its keys would be taken for missing. Raise TargetError if a
        directory is a symbolic link: keys would be written elsewhere.
        """
        if not self.root.is_dir():
            return []
        keys = []
        for directory, directories, names in walk(os.fspath(self.root)):
            for name in directories:
                if Path(directory, name).is_symlink():
                    raise TargetError(
                        f"{directory}/{name}: this is a symbolic link, and a store is in one directory; delete it"
                    )
            base = directory.removeprefix(os.fspath(self.root)).replace(os.sep, "/").lstrip("/")
            keys += [f"{base}/{name}" for name in names] if base else names
        return keys

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, which may be missing, and the directories that are empty then."""
        directories = set()
        for key in keys:
            path = self.root / key
            path.unlink(missing_ok=True)
            directories.add(path.parent)
        for path in directories:
            directory = path
            while directory != self.root and directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
                directory = directory.parent

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path."""
        with suppress(FileNotFoundError):
            delete_tree(self.root / prefix)

    def delete_partial(self) -> None:
        """Delete the partial files of killed workers: other workers have written these keys since."""
        self.delete([key for key in self.list_all() if key.endswith(PARTIAL_SUFFIX)])

    def clear(self, *, keep: str = "") -> None:
        """Delete everything in the directory except one key."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                delete_tree(path)
            elif path.name != keep:
                path.unlink()

    def is_empty(self, *, but: str = "") -> bool:
        """Return whether the directory has no files and no directories except perhaps one key."""
        return not self.root.exists() or all(path.name == but for path in self.root.iterdir())

    def check_lengths(self, keys: Iterable[str]) -> None:
        """Raise TargetError if the path of a key, as it is written first, is longer than the system's limit."""
        if not hasattr(os, "pathconf"):
            return
        limit = os.pathconf("/", "PC_PATH_MAX")
        for key in keys:
            nbytes = len(os.fsencode((self.root / key).parent.absolute())) + len(f"/{uuid4().hex}{PARTIAL_SUFFIX}") + 1
            if nbytes > limit:
                raise TargetError(
                    f"{self.root}: a path of {nbytes:,} bytes, where this system takes {limit:,}: {key[:60]}…; "
                    "name a target nearer to the root, or skip that with exclude="
                )


def walk(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each directory, the names of directories in it, and those of files, as `os.walk` does from Python 3.12 on.

    Earlier it calls itself for each level. Raise OSError if a directory cannot be listed.
    """
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as found:
            entries = list(found)
        directories = [entry.name for entry in entries if entry.is_dir()]
        yield directory, directories, [entry.name for entry in entries if not entry.is_dir()]
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def delete_tree(path: Path) -> None:
    """Delete a directory and all in it, and nothing behind a symbolic link."""
    try:
        shutil.rmtree(path)
    except RecursionError:  # before Python 3.13, where there are hundreds of levels
        empty_levels(path)
        shutil.rmtree(path)


def empty_levels(path: Path) -> None:
    """Delete all below the directories in a directory: each one further down is moved up before.

    All is opened in what is open already, so that a link which another program puts there meanwhile is not followed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    root = os.open(path, flags)
    try:
        while names := [entry.name for entry in list_entries(root) if entry.is_dir(follow_symlinks=False)]:
            for name in names:
                inner = os.open(name, flags, dir_fd=root)
                try:
                    for entry in list_entries(inner):
                        if entry.is_dir(follow_symlinks=False):
                            os.rename(entry.name, uuid4().hex, src_dir_fd=inner, dst_dir_fd=root)
                        else:
                            os.unlink(entry.name, dir_fd=inner)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)


def list_entries(directory: int) -> list[os.DirEntry[str]]:
    """Return what is in an open directory."""
    with os.scandir(directory) as entries:
        return list(entries)


def make_directory(path: str, made: set[str]) -> None:
    """Make a directory and those above it, unless they are in `made`, to which they are added."""
    missing = []
    while path not in made:
        missing.append(path)
        path = path.rpartition("/")[0]
    for directory in reversed(missing):
        with suppress(FileExistsError, FileNotFoundError):  # `write_partial` makes what is missing above `made`
            os.mkdir(directory)  # noqa: PTH102
    made.update(missing)


class HeldKeys:
    """Keys that are written under partial names, and appear together later, perhaps in another process.

    A ``with`` statement deletes them if it ends with an error. Nothing else does, but for a conversion that fails, or
    continues one that was killed: see :meth:`DirectoryKeys.delete_partial`.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self.nbytes = 0
        self._name = uuid4().hex[:NUMBERED]  # of its own: dask may run a task twice at once
        self._made = {self.root}
        self._keys: list[str] = []  # their paths would take five times the memory

    def write(self, key: str, data: bytes | memoryview) -> None:
        """Write a key."""
        partial = self._find_partial(len(self._keys), key)
        make_directory(partial.rpartition("/")[0], self._made)
        write_partial(partial, data)
        self._keys.append(key)
        self.nbytes += len(data)

    def appear(self) -> int:
        """Rename all keys, and return their bytes. Raise TargetError if one is gone."""
        try:
            for number, key in enumerate(self._keys):
                os.replace(self._find_partial(number, key), f"{self.root}/{key}")  # noqa: PTH105
        except FileNotFoundError as error:
            raise TargetError(f"{self.root}: deleted, or replaced by another conversion, while this one ran") from error
        return self.nbytes

    def delete(self) -> None:
        """Delete what was written."""
        for number, key in enumerate(self._keys):
            delete_quietly(self._find_partial(number, key))

    def _find_partial(self, number: int, key: str) -> str:
        """Return the path that a key has until it appears."""
        directory = f"{self.root}/{key}".rpartition("/")[0]
        return f"{directory}/{self._name}{number:0{NUMBERED}x}{PARTIAL_SUFFIX}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._made = {self.root}  # nothing is written later, and there may be a directory for each key
        if kind is not None:
            self.delete()


def write_file(path: str, data: bytes | memoryview, *, partial: str) -> None:
    """Write a file under a name of its own (dask may run a task twice at once), and rename it."""
    write_partial(partial, data)
    try:
        os.replace(partial, path)  # noqa: PTH105
    except BaseException:
        delete_quietly(partial)
        raise


def write_partial(path: str, data: bytes | memoryview) -> None:
    """Write a file, or nothing."""
    try:
        try:
            write_new(path, data)
        except FileNotFoundError:
            make_parents(path)
            write_new(path, data)
    except BaseException:
        delete_quietly(path)
        raise


def make_parents(path: str) -> None:
    """Make the missing directories above a file, as ``Path.mkdir(parents=True)``, which calls itself for each one."""
    missing = list(takewhile(lambda parent: not parent.is_dir(), Path(path).parents))
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)


def delete_quietly(path: str) -> None:
    """Delete a file that is perhaps not there, in an error handler."""
    with suppress(OSError):
        Path(path).unlink()


def write_new(path: str, data: bytes | memoryview) -> None:
    """Write a file in few calls: each lets go of the GIL, and waits for it afterwards where other threads write too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)
