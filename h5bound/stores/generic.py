"""Any other Zarr store as a target: fsspec's, obstore's, memory, a class of the user's own.

Such a store has no lock. Its marker names its owner. It is created only where there is none, which is atomic in stores
that can do so (`set_if_not_exists`), and read back. A conversion with resume or overwrite takes the marker over, since
nothing says whether its owner still runs. The old owner notices that before it writes a work unit or the root, and
fails.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from h5bound.errors import H5BoundError, TargetError
from h5bound.files.urls import redact_all
from h5bound.stores.lock import MARKER, busy, parse_marker
from h5bound.stores.metadata import dump
from h5bound.stores.zarr_internals import run, unwrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from zarr.abc.buffer import Buffer
    from zarr.abc.store import Store


Item = TypeVar("Item")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class GenericBackend:
    """A store that is written key by key, under a marker with the name of its owner."""

    store: Store
    marker = MARKER
    takes_arrays_first = False

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store."""
        return StoreKeys(self.store)

    @property
    def resumable(self) -> bool:
        """Whether a key that an interrupted conversion left is whole.

        Of fsspec's file systems only those that are asynchronous by themselves are object stores, which write a key
        whole. The others write files in place.
        """
        return not hasattr(getattr(self.store, "fs", None), "sync_fs") or is_memory(self.store)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store."""
        return not is_memory(unwrap(self.store)) and is_picklable(self.store)

    def check_free(self, url: str, source: str) -> None:
        """Do nothing: nothing says whether the owner of a marker still runs."""

    def begin(self, url: str, message: str, *, overwrite: bool) -> AbstractContextManager[GenericBackend]:
        """Return a context that gives this backend: what is written stays, under the marker."""
        return nullcontext(self)

    def lock(self, url: str) -> AbstractContextManager[OwnedKey]:
        """Return a context that gives the marker. Raise TargetError if another conversion was faster."""
        return nullcontext(OwnedKey(self.keys, url))


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


class OwnedKey:
    """A marker that is a key with the name of its owner. Raise TargetError if another conversion was faster."""

    def __init__(self, keys: StoreKeys, url: str) -> None:
        self.keys, self.owner = keys, uuid4().hex
        self.content = keys.read(MARKER)
        if self.content is None:
            with reaching(url):
                run(keys.store.set_if_not_exists(MARKER, make_buffer(dump({"owner": self.owner}))))
            if not self.is_ours():
                raise busy(url)

    def write(self, document: Mapping[str, Any]) -> None:
        """Write a document and the name of this conversion."""
        self.keys.write([(MARKER, dump({**document, "owner": self.owner}))])

    take_over = write

    def is_ours(self) -> bool:
        """Return whether the marker has the name of this conversion."""
        return parse_marker(self.keys.read(MARKER)).get("owner") == self.owner

    def delete(self) -> None:
        """Delete the key."""
        self.keys.delete([MARKER])


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


def is_memory(store: Store) -> bool:
    """Return whether a store is in the memory of this process, so that a copy elsewhere is another store."""
    from zarr.storage import MemoryStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", "")
    return isinstance(store, MemoryStore) or protocol == "memory"


def is_picklable(store: Store) -> bool:
    """Return whether a store can be sent to other processes."""
    try:
        pickle.dumps(store)
    except Exception:  # noqa: BLE001 - each store has a reason of its own
        return False
    return True
