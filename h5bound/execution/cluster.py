"""Units run on a dask cluster: a window of them is one task of one worker.

::

    client ──► window ──► a worker: open ► read each unit ► close ► use each unit ──► numbers ──► client

What says where data is travels to the workers, and what became of it travels back: data does neither. A few windows for
each thread are with the cluster at a time, whatever the size of the file. They are cut just before they are sent, so
that the windows that a worker is at have the bytes of one together, and so that workers may come and go.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from dask.base import get_scheduler

from h5bound.errors import H5BoundError
from h5bound.execution.worker import UnitWindow, is_at_work, pack_window, run_window
from h5bound.lifecycle.handle import worker_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.execution.work import Job, Progress, Work, WorkUnit
    from h5bound.lifecycle.source import Source


WINDOWS_EACH = 4
"""Windows for each thread of the cluster at the least, where there are as many units: all threads end together then."""

AT_ONCE_EACH = 2
"""Windows for each thread that are with the cluster at a time: one that is worked on, and the next one."""

AT_ONCE = 16
"""Windows that are with a cluster at a time at the least: they make one without workers yet start some."""

WINDOW_CHUNKS = 65_536
"""ChunkCoords of a window at most: what says where they are takes about 60 bytes for each."""

MEMORY_SHARE = 4
"""The memory of a worker is at least so many times its windows: these are held decoded, and encoded as well."""


class ClusterThrottle(NamedTuple):
    """How much is sent to the workers that there are."""

    nbytes: int  # of a window
    windows: int  # that are with the cluster at a time


def plan_throttle(window: int, total: int, workers: Sequence[tuple[int, int]]) -> ClusterThrottle:
    """Give how much is sent to workers such that each of them holds ``window`` bytes at most, or one unit a thread.

    Parameters
    ----------
    window
        Bytes of units that a worker may hold.
    total
        Bytes of all units.
    workers
        Threads and memory of each, the memory in bytes, 0 for no limit.

    Examples
    --------
    1,200 bytes on three workers of two threads:

    >>> plan_throttle(80, 1200, [(2, 0)] * 3)
    ClusterThrottle(nbytes=40, windows=16)

    No more than a quarter of the smallest memory, and four windows for each thread at the least:

    >>> plan_throttle(80, 1200, [(2, 240), (2, 800), (2, 800)]), plan_throttle(800, 1200, [(2, 0)] * 9)
    (ClusterThrottle(nbytes=30, windows=16), ClusterThrottle(nbytes=16, windows=36))
    """
    threads = sum(count for count, _ in workers)
    if not threads:
        return ClusterThrottle(1, AT_ONCE)
    held = min(min(window, memory // MEMORY_SHARE or window) // max(count, 1) for count, memory in workers)
    return ClusterThrottle(max(min(held, total // (threads * WINDOWS_EACH)), 1), max(threads * AT_ONCE_EACH, AT_ONCE))


def take_window(left: deque[WorkUnit], jobs: Sequence[Job], nbytes: int) -> list[WorkUnit]:
    """Take the units of one window off the left: of one source, at most so many bytes, one unit at the least."""
    taken = [left.popleft()]
    origin, chunk_coords = jobs[taken[0].array].origin, len(taken[0].chunk_coords)
    nbytes -= taken[0].nbytes
    while left and left[0].nbytes <= nbytes and jobs[left[0].array].origin == origin:
        chunk_coords += len(left[0].chunk_coords)
        if chunk_coords > WINDOW_CHUNKS:
            break
        nbytes -= left[0].nbytes
        taken.append(left.popleft())
    return taken


def run_on_cluster(
    client: Any,
    sources: Sequence[Source],
    work: Work[Any],
    jobs: Sequence[Job],
    units: Sequence[WorkUnit],
    *,
    window: int,
    at_once: int | None,
    progress: Progress,
) -> list[Any]:
    """Read all units on workers, and use each once its source is closed; gives what that gives, in their order.

    Parameters
    ----------
    client
        Of the cluster.
    sources, work, jobs, units
        As for :func:`~h5bound.execution.run.run_units`; units of one source after those of another.
    window
        Bytes of units that a worker holds, at most, one unit for each of its threads at the least.
    at_once
        Windows that are worked on at a time; None for as many as the workers have threads.
    progress
        Called with the bytes that are done, and all.

    Raises
    ------
    H5BoundError
        The cluster lost its workers, or was lost. What the work itself raises comes as it is.
    """
    from distributed import as_completed

    left, total = deque(units), sum(unit.nbytes for unit in units)
    name = f"{work.name}-{uuid4().hex}"
    running: dict[Any, tuple[int, int]] = {}  # number and bytes of the window of each future
    results: dict[int, list[Any]] = {}  # by number
    finished, sent, done = as_completed(loop=client.loop), 0, 0
    with explaining_losses(), stopping(client, running, name):
        while left or running:
            pace = plan_throttle(window, total, list_workers(client))
            while left and len(running) < (at_once or pace.windows):
                mine = take_window(left, jobs, pace.nbytes)
                used = {unit.array: jobs[unit.array] for unit in mine}
                packed = pack_window(UnitWindow(sources[jobs[mine[0].array].origin], work, used, mine))
                future = client.submit(run_window, packed, version("h5bound"), key=f"{name}-{sent}")
                running[future] = sent, sum(unit.nbytes for unit in mine)
                finished.add(future)
                sent += 1
            batch = finished.next_batch()
            for future, result in zip(batch, client.gather(batch), strict=True):
                number, nbytes = running.pop(future)
                results[number] = result
                done += nbytes
                progress(done, total)
    if units:
        work.tidy(jobs[units[0].array])
    return [item for number in sorted(results) for item in results[number]]


def list_workers(client: Any) -> list[tuple[int, int]]:
    """Give the threads of each worker, and its memory in bytes, 0 for no limit."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [(worker["nthreads"], worker["memory_limit"] or 0) for worker in workers]


@contextmanager
def stopping(client: Any, running: dict[Any, tuple[int, int]], name: str) -> Iterator[None]:
    """Cancel what is still running in the end, and wait until no worker is at it any more.

    Where the scheduler is gone nobody can be asked: the workers notice that themselves.
    """
    try:
        yield
    finally:
        with suppress(OSError):  # of a connection that is lost meanwhile
            if running and client.status == "running":
                client.cancel(list(running), force=True)
            while running and client.status == "running":
                time.sleep(0.05)  # what is asked here may overtake what was cancelled
                processing = [key for keys in client.processing().values() for key in keys]
                if any(str(key).startswith(name) for key in processing):
                    continue
                if not any(client.run(is_at_work, name, on_error="ignore").values()):
                    break


@contextmanager
def explaining_losses() -> Iterator[None]:
    """Have what a lost cluster raises say what to do.

    Raises
    ------
    H5BoundError
        Workers died, the cluster was restarted, or its scheduler is gone.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    again = "a conversion goes on from there with resume=True"
    try:
        yield
    except KilledWorker as error:
        raise H5BoundError(
            f"{error.allowed_failures + 1} workers died at one window, the last of them "
            f"{error.last_worker.address}; perhaps they had too little memory for a window; {again}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise H5BoundError(f"the cluster was restarted, or is gone; {again}") from error


@contextmanager
def find_client(scheduler: str | None) -> Iterator[Any]:
    """Give a client of the cluster at an address, else that of the cluster in force; None for a local scheduler.

    Raises
    ------
    H5BoundError
        No scheduler answers at the address.
    """
    if scheduler is None:
        with current_client() as client:
            yield client
        return
    from distributed import Client

    try:
        client = Client(scheduler, set_as_default=False)  # one that fails would stay the default
    except (OSError, ValueError) as error:
        raise H5BoundError(
            f"scheduler={scheduler!r}: no dask scheduler answers there ({error}); pass the address that "
            "`dask scheduler` shows, like 'tcp://host:8786'"
        ) from error
    with client:
        yield client


def check_scheduler(scheduler: str | None) -> None:
    """Refuse an address where no scheduler answers.

    Raises
    ------
    H5BoundError
        None does.
    """
    if scheduler is not None:
        with find_client(scheduler):
            pass


@contextmanager
def current_client() -> Iterator[Any]:
    """Give the client of the cluster that dask would compute on now; None for a local scheduler."""
    if "distributed" not in sys.modules:
        yield None
        return
    from distributed import Client, worker_client

    client = getattr(get_scheduler(), "__self__", None)
    if not isinstance(client, Client):
        yield None
    elif worker_address() is None:
        yield client
    else:  # this is a task: it leaves its thread to those that it waits for
        with worker_client() as inner:
            yield inner
