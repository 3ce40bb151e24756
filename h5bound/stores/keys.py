"""The keys of a store: the files of a folder, or what any Zarr store has.

Each key is written whole or not at all. The files of a folder are written without zarr, which writes them in place.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from h5bound.errors import H5BoundError, TargetError
from h5bound.files.urls import redact_all
from h5bound.stores.zarr_internals import run
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from zarr.abc.buffer import Buffer
    from zarr.abc.store import Store


Item = TypeVar("Item")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FolderKeys:
    """The files in a folder, which may not be there."""

    root: Path

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys in any order, and return the number of bytes."""
        return sum(write_file(self.root / key, data) for key, data in items)

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a key, None if there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where there is none."""
        return [self.read(key) for key in keys]

    def measure(self, keys: Iterable[str]) -> int:
        """Return the number of bytes of these keys together."""
        return sum((self.root / key).stat().st_size for key in keys)

    def list_all(self) -> list[str]:
        """Return all keys, and files that were not written to their end.

        Raise OSError if a folder cannot be listed, so that its keys are not taken for missing, and TargetError if a
        folder is a symbolic link, so that nothing is written behind it.
        """
        return list(list_files(self.root))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, which may be missing, and the folders that are empty then."""
        folders = set()
        for key in keys:
            path = self.root / key
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for path in folders:
            folder = path
            while folder != self.root and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / prefix)

    def delete_partial(self) -> None:
        """Delete the files that killed workers did not write to their end: others have written these keys since."""
        self.delete([key for key in self.list_all() if key.endswith(PARTIAL_SUFFIX)])

    def clear(self, *, keep: str = "") -> None:
        """Delete everything in the folder except one key."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != keep:
                path.unlink()

    def is_empty(self, *, but: str = "") -> bool:
        """Return whether there is nothing, no other file and no folder either, except perhaps one key."""
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
                    "name a target nearer to the root, or leave that out with exclude"
                )


@dataclass(frozen=True, slots=True, eq=False)
class StoreKeys:
    """The keys of a Zarr store, read and written some at a time."""

    store: Store
    foreign: frozenset[str] = frozenset()
    """Keys that the store raises an error for; it has none of them."""

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys in any order, and return the number of bytes."""

        async def put(item: tuple[str, bytes | memoryview]) -> int:
            await self.store.set(item[0], make_buffer(item[1]))
            return len(item[1])

        return sum(run_each(put, items))

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a key, None if there is none."""
        return self.read_all([key])[0]

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where there is none."""
        from zarr.buffer import default_buffer_prototype

        async def get(key: str) -> bytes | None:
            data = None if key in self.foreign else await self.store.get(key, default_buffer_prototype())
            return None if data is None else data.to_bytes()

        return run_each(get, keys)

    def measure(self, keys: Iterable[str]) -> int:
        """Return the number of bytes of these keys together."""
        return sum(run_each(self.store.getsize, keys))

    def list_all(self) -> list[str]:
        """Return all keys."""

        async def collect() -> list[str]:
            return [key async for key in self.store.list_prefix("")]

        return run(collect())

    def list_names(self) -> list[str]:
        """Return the first parts of all keys."""

        async def collect() -> list[str]:
            return [name async for name in self.store.list_dir("") if name]

        return run(collect())

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, which may be missing."""
        run_each(self.store.delete, keys)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path. Raise NotImplementedError if there are some in a zip file."""
        run(self.store.delete_dir(prefix))

    def delete_partial(self) -> None:
        """Do nothing: such a store has no part of a key."""

    def clear(self, *, keep: str = "") -> None:
        """Delete everything in the store except one key; a zip file or icechunk's session has none to keep."""
        if not keep:
            run(self.store.clear())
            return
        self.delete(key for key in self.list_all() if key != keep)
        run_each(self.store.delete_dir, (name for name in self.list_names() if name != keep))  # empty folders

    def is_empty(self, *, but: str = "") -> bool:
        """Return whether there is nothing except perhaps one key."""
        return set(self.list_names()) <= {but}

    def check_lengths(self, keys: Iterable[str]) -> None:
        """Do nothing: such a store has no limit that is known."""


def write_file(path: Path, data: bytes | memoryview) -> int:
    """Write a file under another name, rename it, and return its number of bytes.

    No other writer has that name: dask may run a task twice at once.
    """
    partial = path.with_name(f"{uuid4().hex}{PARTIAL_SUFFIX}")
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


def list_files(root: Path) -> Iterator[str]:
    """Yield the path of each file in a folder, relative to it; none if the folder is not there."""
    if not root.is_dir():
        return
    top = os.fspath(root)
    for folder, folders, names in os.walk(top, onerror=_raise):
        for name in folders:
            if Path(folder, name).is_symlink():
                raise TargetError(f"{folder}/{name}: this is a symbolic link, and a store is in one folder; delete it")
        base = folder.removeprefix(top).replace(os.sep, "/").lstrip("/")
        yield from ((f"{base}/{name}" for name in names) if base else names)


def _raise(error: OSError) -> None:
    raise error


def make_buffer(data: bytes | memoryview) -> Buffer:
    """Return bytes as zarr's stores take them."""
    from zarr.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(bytes(data))


def run_each(act: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """Return what a coroutine gives for each item, ``async.concurrency`` of zarr's configuration at a time.

    After one has failed no other begins, and those in flight are waited for: nothing is written after the error.
    """
    from zarr import config

    left = deque(enumerate(items))
    count = len(left)
    results: dict[int, Result] = {}

    async def work() -> None:
        while left:
            number, item = left.popleft()
            try:
                results[number] = await act(item)
            except BaseException:
                left.clear()
                raise

    async def work_all() -> None:
        workers = min(len(left), int(config.get("async.concurrency") or len(left)))
        for end in await asyncio.gather(*(work() for _ in range(workers)), return_exceptions=True):
            if end is not None:
                raise end

    run(work_all())
    return [results[number] for number in range(count)]


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Raise what the client of a store raises as a TargetError of one line, without credentials."""
    try:
        yield
    except H5BoundError:
        raise
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        words = " ".join(str(error).split())
        shown = redact_all(words)
        failure = TargetError(f"{url}: it cannot be reached: {type(error).__name__}: {shown}")
        raise failure from (error if shown == words else None)
