"""Read the elements of a Zarr array, decoded in the thread that asks for them.

zarr decodes in threads of its own, up to 32, and the C library keeps freed memory for each thread: together they held
more than the windows of a verification. Of stores that wait for servers many keys have to be requested at once.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.stores.zarr_internals import ensure_open, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    import zarr
    from numpy.typing import NDArray


class ThisThread(ThreadPoolExecutor):
    """An executor that calls functions at once; an event loop takes subclasses of this pool alone, which has no thread.

    >>> ThisThread(1).submit(divmod, 7, 2).result()
    (3, 1)
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Call a function, and return its result."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            future.set_exception(error)
        return future


def read_elements(array: zarr.Array[Any], region: tuple[slice, ...]) -> NDArray[Any]:
    """Return the elements of a region; raise what zarr raises.

    The main thread leaves that to zarr: it has no more than a few small regions to read, and a loop of its own handles
    signals there, which takes 0.4 ms.
    """
    if not is_local(array) or threading.current_thread() is threading.main_thread() or runs_loop():
        return np.asarray(array[region or ...])
    ensure_open(unwrap(array.store))
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(ThisThread(1))
        return np.asarray(runner.run(get_elements(array, region)))


async def get_elements(array: zarr.Array[Any], region: tuple[slice, ...]) -> Any:
    """Return the elements of a region, as the coroutine that zarr has for that."""
    return await array.async_array.getitem(region or ...)


def reads_in_parts(array: zarr.Array[Any]) -> bool:
    """Return whether chunks of a shard are read without the others, and a request for each takes little time."""
    return array.shards is not None and is_local(array)


def is_local(array: zarr.Array[Any]) -> bool:
    """Return whether the keys of an array are at hand, and in no event loop of the store's."""
    from zarr.storage import LocalStore, MemoryStore, ZipStore

    return type(unwrap(array.store)) in (LocalStore, MemoryStore, ZipStore)


def runs_loop() -> bool:
    """Return whether an event loop runs in this thread: a second one cannot."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
