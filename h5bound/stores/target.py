"""The Zarr store that a conversion writes, as keys and their bytes: any store of zarr's, by its path, URL or object.

Chunks are written first and documents last, the root's document last of all. Until then no node of the store can
be opened; `MARKER` says whose unfinished work it is.

==========  ==========================================  =====================================================
kind        what it is                                  what an unfinished conversion leaves
==========  ==========================================  =====================================================
folder      a local directory                           chunks, and the marker
keys        fsspec's and obstore's stores, memory …     chunks, and the marker
zip         one file, written by this process           nothing: the file is there when it is whole
icechunk    a session of a repository                   nothing: it is one commit, or none
==========  ==========================================  =====================================================
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import zipfile
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from h5bound.errors import H5BoundError, TargetError
from h5bound.files.urls import redact_all
from h5bound.stores.local import delete_path, list_files, read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from zarr.abc.store import Store


MARKER = "h5bound-unfinished.json"
"""The key that is there from the first write to the last."""

FOREIGN = frozenset({MARKER, ".zgroup", ".zarray", ".zattrs", ".zmetadata"})
"""Keys of the root that icechunk cannot have."""

Item = TypeVar("Item")

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Target:
    """A store, and the format that it has; travels to other processes if the store does."""

    store: Store = field(repr=False)
    """may hold credentials, in `storage_options`"""
    zarr_format: Literal[2, 3]
    url: str
    """what reports and errors call it"""

    @cached_property
    def kind(self) -> Literal["folder", "keys", "zip", "icechunk"]:
        """What sort of store it is."""
        from zarr.storage import LocalStore, ZipStore

        if type(self.store) is LocalStore:
            return "folder"
        if isinstance(self.store, ZipStore):
            return "zip"
        icechunk = sys.modules.get("icechunk")
        return "icechunk" if icechunk is not None and isinstance(self.store, icechunk.IcechunkStore) else "keys"

    @cached_property
    def root(self) -> Path | None:
        """The directory, None where the store is none."""
        return Path(self.store.root) if self.kind == "folder" else None  # type: ignore[attr-defined]

    @property
    def marked(self) -> bool:
        """Whether a key says that a conversion is unfinished; else there is nothing until it is finished."""
        return self.kind in ("folder", "keys")

    @cached_property
    def resumable(self) -> bool:
        """Whether what an unfinished conversion left can be told from what it did not write, key by key.

        Of fsspec's file systems only those that are asynchronous by themselves put a key there whole: they are
        object stores. The others write files in place.
        """
        fs = getattr(self.store, "fs", None)
        return self.marked and (not hasattr(fs, "sync_fs") or is_memory(self.store))

    def travels(self, *, writing: bool) -> bool:
        """Tell whether other processes that get the store have the same one."""
        from zarr.storage import ZipStore

        inner = unwrap(self.store)
        if is_memory(inner) or (writing and isinstance(inner, ZipStore)):
            return False
        try:
            pickle.dumps(self.store)
        except Exception:  # noqa: BLE001 - whatever the store's reason is
            return False
        return True

    def check_reach(self, scheduler: str | None, *, writing: bool) -> None:
        """Refuse a store that the processes where tasks run would not have.

        Parameters
        ----------
        scheduler
            Address of a cluster; None for the scheduler in force.
        writing
            Whether they write to it, or only read.

        Raises
        ------
        TargetError
            They are other processes, and it is in this one.
        """
        import dask.base
        import dask.local
        import dask.threaded

        here = scheduler is None and dask.base.get_scheduler() in (None, dask.threaded.get, dask.local.get_sync)
        if not here and not self.travels(writing=writing):
            raise TargetError(
                f"{self.url}: only this process can use it, and tasks run in others; "
                "name a folder or a URL, or set dask.config.set(scheduler='threads')"
            )

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys, each whole or not at all; gives how many bytes that were. Their order is not kept."""
        if self.root is not None:
            return sum(write_file(self.root / key, data) for key, data in items)
        from zarr.core.buffer import default_buffer_prototype

        make = default_buffer_prototype().buffer.from_bytes

        async def put(item: tuple[str, bytes | memoryview]) -> int:
            await self.store.set(item[0], make(bytes(item[1])))
            return len(item[1])

        return sum(run_each(put, list(items)))

    def read(self, key: str) -> bytes | None:
        """Give the bytes of a key, None if there is no such key."""
        return self.read_all([key])[0]

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Give the bytes of each key, None where there is no such key."""
        if self.root is not None:
            return [read_file(self.root / key) for key in keys]
        from zarr.core.buffer import default_buffer_prototype

        async def get(key: str) -> bytes | None:
            if self.kind == "icechunk" and key in FOREIGN:
                return None  # it raises for keys that are none of Zarr v3
            found = await self.store.get(key, default_buffer_prototype())
            return None if found is None else found.to_bytes()

        return run_each(get, keys) if self.is_there else [None] * len(keys)

    @property
    def is_there(self) -> bool:
        """Whether there is anything that could be asked for keys."""
        path = getattr(self.store, "path", None) if self.kind == "zip" and self.store.read_only else None
        return path is None or zipfile.is_zipfile(path)

    def measure(self, keys: Sequence[str]) -> int:
        """Give how many bytes the keys have together."""
        if self.root is not None:
            return sum((self.root / key).stat().st_size for key in keys)
        return sum(run_each(self.store.getsize, keys))

    def delete(self, key: str) -> None:
        """Delete a key if it is there."""
        run(self.store.delete(key))

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path.

        Raises
        ------
        TargetError
            The store cannot delete, and there are such keys.
        """
        try:
            run(self.store.delete_dir(prefix))
        except NotImplementedError as error:
            raise TargetError(
                f"{self.url}: {prefix} was written in part before it could not be read, and nothing can be deleted "
                "from a zip; leave it out with exclude, or convert into a folder"
            ) from error

    def clear(self, *, keep: str = "") -> None:
        """Delete everything but one key. What stands beside the store is not touched."""
        if self.kind in ("zip", "icechunk"):
            run(self.store.clear())
        elif self.root is not None:
            for path in self.root.iterdir():
                if path.name != keep:
                    delete_path(path)
        else:
            run_each(self.store.delete, [key for key in self.list_keys() if key != keep])
            run_each(self.store.delete_dir, [name for name in self.list_names() if name != keep])  # empty folders

    def list_keys(self) -> list[str]:
        """Give all keys."""
        if self.root is not None:
            return list(list_files(self.root))

        async def collect() -> list[str]:
            return [key async for key in self.store.list_prefix("")]

        return run(collect())

    def list_names(self) -> list[str]:
        """Give the first parts of all keys."""

        async def collect() -> list[str]:
            return [name async for name in self.store.list_dir("") if name]

        return run(collect())

    def is_empty(self) -> bool:
        """Tell whether nothing is there: no file, and no key."""
        if self.root is not None:
            return not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir()))
        if self.kind == "zip" and self.store.read_only:
            return not self.store.path.exists()  # type: ignore[attr-defined]
        return not self.list_names()


@contextmanager
def reaching(target: Target) -> Iterator[None]:
    """Have what a store raises when it is first read or written say which store that is, in one line.

    Raises
    ------
    TargetError
        Its server does not answer, does not know it, or lets nobody in.
    """
    try:
        yield
    except H5BoundError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the store's client has
        words = " ".join(str(error).split())
        shown = redact_all(words)
        failure = TargetError(f"{target.url}: it cannot be reached: {type(error).__name__}: {shown}")
        raise failure from (error if shown == words else None)


def unwrap(store: Store) -> Store:
    """Give the store that does the work, below those that only pass it on."""
    from zarr.storage import WrapperStore

    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001 - the way to it that zarr names
    return store


def is_memory(store: Store) -> bool:
    """Tell whether a store is in the memory of this process, so that one that travelled is another one."""
    from zarr.storage import MemoryStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", "")
    return isinstance(store, MemoryStore) or protocol == "memory"


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Give the result of one of zarr's coroutines."""
    from zarr.core.sync import sync

    return sync(coroutine)


def run_each(act: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Give what a coroutine gives for each item, ``async.concurrency`` of zarr's configuration at a time.

    After one has failed no other is begun, and those in flight are waited for: nothing goes on behind the error.
    """
    from zarr import config

    left = deque(enumerate(items))
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
    return [results[number] for number in range(len(items))]
