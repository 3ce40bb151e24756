"""The scheduler of dask that is in force: threads, a cluster, or another one."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import dask.config
import dask.local
import dask.threaded
from dask.base import get_scheduler
from dask.system import CPU_COUNT

from h5bound.errors import H5BoundError
from h5bound.graph.settings import count_pool_threads
from h5bound.lifecycle.handle import worker_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_choosing = Lock()


def get_in_force() -> Callable[..., Any] | None:
    """Return the function of dask's scheduler in force, None for that of threads.

    dask loads distributed to ask it for a client, which takes longer than many a conversion: where nothing else has
    loaded it, there is none. In a task of a worker, the first call connects a client. Only one thread at a time may do
    that, and while another one does, dask finds the configuration of the client, but not the client.
    """
    if "distributed" not in sys.modules and not dask.config.get("scheduler", None):
        return None
    with _choosing:
        try:
            get: Callable[..., Any] | None = get_scheduler()
        except RuntimeError:
            if worker_address() is None:
                raise
            from distributed import get_client

            get = get_client().get
        return get


@contextmanager
def find_client(scheduler: str | None) -> Iterator[Any]:
    """Yield a client of the cluster at an address, or of that in force, or None; raise H5BoundError if none answers."""
    if scheduler is None and "distributed" not in sys.modules:
        yield None
        return
    try:
        from distributed import Client, worker_client
    except ImportError as error:
        error.add_note("a cluster needs more libraries: pip install 'h5bound[distributed]'")
        raise

    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)  # a client that fails would stay the default
        except (OSError, ValueError, AssertionError) as error:  # distributed asserts if its loop is slow to stop
            raise H5BoundError(
                f"scheduler={scheduler!r}: no dask scheduler answers there ({error}); pass the address that "
                "`dask scheduler` shows, like 'tcp://host:8786'"
            ) from error
        with client:
            yield client
        return
    client = getattr(get_in_force(), "__self__", None)
    if not isinstance(client, Client):
        yield None
    elif worker_address() is None:
        yield client
    else:  # in a task, which gives its thread to the tasks that it waits for
        with worker_client() as inner:
            yield inner


def check_scheduler(scheduler: str | None) -> None:
    """Raise H5BoundError if no scheduler answers at an address."""
    if scheduler is not None:
        with find_client(scheduler):
            pass


@contextmanager
def using_cluster(scheduler: str | None) -> Iterator[None]:
    """Use the cluster at an address in this context, with one client; None leaves in force what is."""
    if scheduler is None:
        yield
        return
    with find_client(scheduler) as client, client.as_current():
        yield


def runs_on_threads(scheduler: str | None) -> bool:
    """Return whether tasks run on threads of this process, not on a cluster at an address or in other processes."""
    return scheduler is None and (count_threads() > 0 or get_in_force() is dask.local.get_sync)


@contextmanager
def local_scheduler(workers: int | None) -> Iterator[Callable[..., Any]]:
    """Yield a function like `dask.get`, with callbacks, that runs a graph on the local scheduler in force.

    Threads come from a pool of this run, which is shut down at the end: dask raises the first error while other tasks
    still run, and these would still write to the store.
    """
    threads = count_threads()
    if threads:
        pool = ThreadPoolExecutor(workers or threads)
        try:
            yield partial(dask.threaded.get, pool=pool)
        finally:
            pool.shutdown(cancel_futures=True)
        return
    get: Any = get_in_force()
    options = {} if workers is None else {"num_workers": workers}
    if getattr(get, "func", get).__module__.startswith("dask."):
        yield partial(get, **options)
    else:  # a function of the user's, which may not know callbacks
        yield lambda graph, key, callbacks: get(graph, key, **options)


def count_threads() -> int:
    """Return the number of threads of the scheduler in force, 0 if it has none in this process.

    dask takes a pool or an executor from the user: of a pool of threads only the size is used.
    """
    get: Any = get_in_force()
    if get in (None, dask.threaded.get):
        pool = dask.config.get("pool", None)
    elif getattr(get, "func", None) is dask.local.get_async:  # an executor is the scheduler
        pool = getattr(get.args[0], "__self__", None)
        if not isinstance(pool, ThreadPoolExecutor):
            return 0
    else:
        return 0
    return count_pool_threads(pool)


def expect_threads(workers: int | None) -> int:
    """Return how many threads share a window, as far as this process knows; on a cluster an estimate."""
    return workers or count_threads() or CPU_COUNT
