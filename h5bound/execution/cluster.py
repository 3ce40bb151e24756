"""Run work units on a dask cluster: a window of units is one task of one worker.

::

    client ──► window ──► a worker: open ► read each unit ► close ► use each unit ──► results ──► client

Data does not travel: a task gets the places of the data, and returns results. At any time the cluster has a few windows
for each thread, for a file of any size. A window is cut just before it is sent: so the windows of one worker have at
most the bytes of one window together, and workers may come and go.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from h5bound.errors import H5BoundError, naming
from h5bound.lifecycle.session import open_source
from h5bound.reports.entries import read_version
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from h5bound.execution.work import ByteCount, Job, Result, Work, WorkUnit
    from h5bound.lifecycle.session import Source

LOGGER = logging.getLogger(__name__)

WINDOWS_PER_THREAD = 4
"""Least number of windows for each thread of the cluster, so that all threads end at about the same time."""

SENT_PER_THREAD = 2
"""Windows for each thread that the cluster has at a time: the one that runs, and the next one."""

MIN_SENT = 16
"""Least number of windows that the cluster has at a time: a cluster without workers then starts some."""

WINDOW_CHUNKS = 65_536
"""Most chunks of a window: the place of each takes about 60 bytes."""

MEMORY_SHARE = 4
"""Least ratio of a worker's memory to that of its windows, which it holds decoded and encoded."""


def plan_throttle(window: int, total: int, workers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the bytes of a window, and how many windows the cluster has at a time.

    Each worker then holds at most ``window`` bytes, or one unit a thread.

    ``total`` is the bytes of all units. ``workers`` has the threads and bytes of memory (0: no limit) of each worker.

    1,200 bytes on three workers of two threads:

    >>> plan_throttle(80, 1200, [(2, 0)] * 3)
    (40, 16)

    No more than a quarter of the smallest memory, and at least four windows for each thread:

    >>> plan_throttle(80, 1200, [(2, 240), (2, 800), (2, 800)]), plan_throttle(800, 1200, [(2, 0)] * 9)
    ((30, 16), (16, 36))
    """
    threads = sum(count for count, _ in workers)
    if not threads:
        return 1, MIN_SENT
    per_thread = min(min(window, memory // MEMORY_SHARE or window) // max(count, 1) for count, memory in workers)
    nbytes = max(min(per_thread, total // (threads * WINDOWS_PER_THREAD)), 1)
    return nbytes, max(threads * SENT_PER_THREAD, MIN_SENT)


def take_window(left: deque[WorkUnit], jobs: Sequence[Job], nbytes: int) -> list[WorkUnit]:
    """Remove and return the next window of the units left: one, or several of one source with at most ``nbytes``."""
    taken = [left.popleft()]
    origin, chunks = jobs[taken[0].array].origin, len(taken[0].chunk_coords)
    nbytes -= taken[0].nbytes
    while left and left[0].nbytes <= nbytes and jobs[left[0].array].origin == origin:
        chunks += len(left[0].chunk_coords)
        if chunks > WINDOW_CHUNKS:
            break
        nbytes -= left[0].nbytes
        taken.append(left.popleft())
    return taken


def run_on_cluster(
    client: Any,
    *,
    work: Work[Result],
    jobs: Sequence[Job],
    units: Sequence[WorkUnit],
    sources: Sequence[Source],
    window: int,
    max_windows: int | None,
    counted: ByteCount,
) -> list[Result]:
    """Run units on the workers of a cluster, as :func:`~h5bound.execution.run.run_units` describes it.

    The units of one source follow each other. ``window`` is the bytes that one worker holds, at least one unit for
    each of its threads. ``max_windows`` is how many windows run at the same time; None for as many as there are
    threads. Raise H5BoundError if the cluster loses its workers or is lost; errors of the work are raised unchanged.
    """
    from distributed import as_completed
    from distributed.protocol.pickle import dumps

    left = deque(units)
    name = f"{work.name}-{uuid4().hex}"
    running: dict[Any, tuple[int, int]] = {}  # number and bytes of the window of each future
    results: dict[int, list[Result]] = {}  # by the number of the window
    finished, sent = as_completed(loop=client.loop), 0
    seen: set[str] = set()
    with explaining_losses(), cancelling(client, running, name):
        while left or running:
            window_nbytes, max_sent = plan_throttle(window, counted.total, list_workers(client, seen))
            while left and len(running) < (max_windows or max_sent):
                taken = take_window(left, jobs, window_nbytes)
                used = {unit.array: jobs[unit.array] for unit in taken}
                source = sources[jobs[taken[0].array].origin]
                # bytes, which the scheduler does not load; raises UnsupportedError for objects of this process only
                packed = bytes(dumps((source, work, used, taken), protocol=5))
                future = client.submit(run_window, packed, read_version(), key=f"{name}-{sent}")
                running[future] = sent, sum(unit.nbytes for unit in taken)
                finished.add(future)
                sent += 1
            batch = finished.next_batch()
            for future, result in zip(batch, client.gather(batch), strict=True):
                number, nbytes = running.pop(future)
                results[number] = result
                counted.add(nbytes)
            LOGGER.info("%s done: %s", plural(len(results), "window"), counted)
    if units and work.delete_partial is not None:
        work.delete_partial(jobs[units[0].array])
    return [item for number in sorted(results) for item in results[number]]


def run_window(packed: bytes, release: str) -> list[Any]:
    """Return the results of the units of a packed window, in their order.

    A window is one task: data stays where it was read, the close runs in the process that has the file open, and if a
    worker dies, another one runs its whole window. Raise H5BoundError if this worker has another version than
    `release`, does not see the source or the target, or if the task was cancelled.
    """
    from distributed import get_worker
    from distributed.protocol.pickle import loads

    # another worker may see other files
    naming_this_worker = partial(naming, f"worker {get_worker().address} of {socket.gethostname()}", H5BoundError)
    with naming_this_worker():
        installed = read_version()
        if release != installed:
            raise H5BoundError(f"h5bound {installed} there, {release} here: install one version everywhere")
        source, work, jobs, units = loads(packed)
        if work.check is not None:
            work.check(next(iter(jobs.values())))
    check_cancelled = watch_task()
    loaded: deque[Any] = deque()
    with open_source(source, around=naming_this_worker) as opened:
        for unit in units:
            check_cancelled()
            loaded.append(work.read(opened, jobs[unit.array], unit))
    results = []
    for unit in units:
        check_cancelled()
        results.append(work.use(jobs[unit.array], unit, loaded.popleft()))
    return results


def watch_task() -> Callable[[], None]:
    """Return a function that raises H5BoundError once the scheduler has taken back the task of this thread.

    That happens when the client has cancelled the task or is gone. A thread cannot be stopped from outside.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def check_cancelled() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing" or worker.status.name in ("closing", "closed"):
            raise H5BoundError("stopped: the conversion or verification was cancelled")

    return check_cancelled


def is_running(name: str, dask_worker: Any) -> bool:
    """Return whether a worker runs, or is about to run, a task whose key starts with `name`, cancelled or not."""
    ended = {"memory", "error", "released", "forgotten"}
    return any(
        isinstance(key, str) and key.startswith(name) and task.state not in ended
        for key, task in list(dask_worker.state.tasks.items())
    )


def list_workers(client: Any, seen: set[str]) -> list[tuple[int, int]]:
    """Return the threads and the memory in bytes of each worker, 0 for no limit. `seen` has the addresses until now."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for address in seen - workers.keys():
        LOGGER.info("worker %s is lost: others repeat its windows", address)
    for address in workers.keys() - seen:
        LOGGER.info("worker %s: %s", address, plural(workers[address]["nthreads"], "thread"))
    seen.clear()
    seen.update(workers)
    return [(worker["nthreads"], worker["memory_limit"] or 0) for worker in workers.values()]


@contextmanager
def cancelling(client: Any, running: dict[Any, tuple[int, int]], name: str) -> Iterator[None]:
    """Cancel the windows that still run at the end, and wait until no worker runs one.

    If the scheduler is gone, the workers notice that themselves.
    """
    try:
        yield
    finally:
        with suppress(OSError):  # the connection may be lost by now
            if running and client.status == "running":
                client.cancel(list(running), force=True)
            while running and client.status == "running":
                time.sleep(0.05)  # these requests may overtake the cancellation
                processing = [key for keys in client.processing().values() for key in keys]
                if any(str(key).startswith(name) for key in processing):
                    continue
                if not any(client.run(is_running, name, on_error="ignore").values()):
                    break


@contextmanager
def explaining_losses() -> Iterator[None]:
    """Raise H5BoundError, with what to do, if workers died, the cluster was restarted, or its scheduler is gone."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    hint = "resume=True continues an unfinished conversion"
    try:
        yield
    except KilledWorker as error:
        raise H5BoundError(
            f"{plural(error.allowed_failures + 1, 'worker')} died while processing the same window, the last of them "
            f"{error.last_worker.address}; perhaps they had too little memory for a window; {hint}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise H5BoundError(f"the cluster was restarted, or is gone; {hint}") from error
