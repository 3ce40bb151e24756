"""One window of units on a worker of a cluster: read them, close the file, and only then use each.

A window is one task. What was read stays where it was read, the close runs in the process that has the file open, and
if a worker dies, another one does its whole window.
"""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, naming
from h5bound.lifecycle.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from h5bound.execution.work import Work, WorkUnit
    from h5bound.lifecycle.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class UnitWindow:
    """The units between one open and its close, with all that is needed to read and use them."""

    source: Source
    work: Work[Any]
    jobs: Mapping[int, Any]
    """Jobs of the units, by the number of their array."""
    units: Sequence[WorkUnit]


def pack_window(window: UnitWindow) -> bytes:
    """Return a window as bytes, which the scheduler passes on without loading them.

    Raise UnsupportedError if its source or its target exists in this process only.
    """
    from distributed.protocol.pickle import dumps

    return bytes(dumps(window, protocol=5))


def run_window(packed: bytes, release: str) -> list[Any]:
    """Return the results of the units of a packed window, in their order.

    Raise H5BoundError if this worker has another version than `release`, does not see the source or the target, or if
    the task was cancelled.
    """
    from distributed import get_worker
    from distributed.protocol.pickle import loads

    # another worker may see other files
    naming_this_worker = partial(naming, f"worker {get_worker().address} of {socket.gethostname()}", H5BoundError)
    with naming_this_worker():
        installed = version("h5bound")
        if release != installed:
            raise H5BoundError(f"h5bound {installed} there, {release} here: install one version everywhere")
        window: UnitWindow = loads(packed)
        if window.work.check is not None:
            window.work.check(next(iter(window.jobs.values())))
    check_cancelled = watch_task()
    loaded: deque[Any] = deque()
    with open_source(window.source, around=naming_this_worker) as opened:
        for unit in window.units:
            check_cancelled()
            loaded.append(window.work.read(opened, window.jobs[unit.array], unit))
    results = []
    for unit in window.units:
        check_cancelled()
        results.append(window.work.use(window.jobs[unit.array], unit, loaded.popleft()))
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
