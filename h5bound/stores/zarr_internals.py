"""Private names of zarr. No other module imports from ``zarr.core`` or reads a private field of a store."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zarr.abc.store import Store

Result = TypeVar("Result")

_opening = Lock()


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine of a store, run in zarr's own event loop.

    fsspec and obstore tie a store to the loop that first used it, and zarr's arrays use zarr's loop, which is private.
    """
    from zarr.core.sync import sync

    return sync(coroutine)


def ensure_open(store: Store) -> None:
    """Open a store unless it is open: of threads that begin to read at once, zarr lets all but one fail."""
    with _opening:
        if not store._is_open:  # noqa: SLF001 - no public name tells it
            run(store._ensure_open())  # noqa: SLF001 - as `Store.open` does, of a store that exists


def unwrap(store: Store) -> Store:
    """Return the store below those that only pass it on; `WrapperStore` documents its field ``_store`` for that."""
    from zarr.storage import WrapperStore

    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001 - documented by zarr
    return store
