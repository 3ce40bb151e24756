"""The keys of a store of zarr: fsspec's, obstore's, memory, a zip file, a class of the user's own."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from h5bound.errors import H5BoundError, TargetError
from h5bound.files.urls import redact_all
from h5bound.stores.zarr_internals import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from zarr.abc.buffer import Buffer
    from zarr.abc.store import Store


Item = TypeVar("Item")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class StoreKeys:
    """The keys of a Zarr store, read and written some at a time."""

    store: Store
    foreign: frozenset[str] = frozenset()
    """Keys for which the store raises an error instead of not having them."""

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys in any order, and return the number of bytes."""

        async def put(item: tuple[str, bytes | memoryview]) -> int:
            await self.store.set(item[0], make_buffer(item[1]))
            return len(item[1])

        return sum(run_each(put, items))

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a key, None if it is missing."""
        return self.read_all([key])[0]

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of each key, None where it is missing."""
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
        """Return the first path component of all keys."""

        async def collect() -> list[str]:
            return [name async for name in self.store.list_dir("") if name]

        return run(collect())

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, which may be missing."""
        run_each(self.store.delete, keys)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path. A zip file raises NotImplementedError if it has any."""
        run(self.store.delete_dir(prefix))

    def delete_partial(self) -> None:
        """Do nothing: these stores write keys atomically."""

    def clear(self, *, keep: str = "") -> None:
        """Delete everything in the store except one key; a zip file or icechunk's session has none to keep."""
        if not keep:
            run(self.store.clear())
            return
        self.delete(key for key in self.list_all() if key != keep)
        run_each(self.store.delete_dir, (name for name in self.list_names() if name != keep))  # empty directories

    def is_empty(self, *, but: str = "") -> bool:
        """Return whether there is nothing except perhaps one key."""
        return set(self.list_names()) <= {but}

    def check_lengths(self, keys: Iterable[str]) -> None:
        """Do nothing: these stores have no known limit."""


def make_buffer(data: bytes | memoryview) -> Buffer:
    """Return bytes in the form that zarr's stores take."""
    from zarr.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(bytes(data))


def run_each(act: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """Return the result of a coroutine for each item, ``async.concurrency`` of zarr's configuration at a time.

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


NO_ACCESS = ("Credential", "Permission", "Auth", "Unauthenticated", "Forbidden", "AccessDenied")
"""Parts of the names of errors of clients that have no access."""


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn any error of a store's client into a TargetError of one line, without credentials."""
    try:
        yield
    except H5BoundError:
        raise
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        words = " ".join(str(error).split())
        shown = redact_all(words)
        name = type(error).__name__
        advice = (
            "; pass credentials in target_options" if "://" in url and any(word in name for word in NO_ACCESS) else ""
        )
        failure = TargetError(f"{url}: it cannot be reached: {name}: {shown}{advice}")
        raise failure from (error if shown == words else None)
