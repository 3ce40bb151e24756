"""What a worker of a cluster does with one window of units: read them, close the file, and only then use each.

All of it is one task. So what was read stays where it was read, the close reaches the process that has the file open,
and a worker that dies leaves nothing behind: its window is begun anew elsewhere.
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
    """those of the units, by the number of their array"""
    units: Sequence[WorkUnit]


def pack_window(window: UnitWindow) -> bytes:
    """Give a window in the form that travels, which the scheduler has no need to understand.

    Raises
    ------
    UnsupportedError
        Its source or its target lives in this process only.
    """
    from distributed.protocol.pickle import dumps

    return bytes(dumps(window, protocol=5))


def run_window(packed: bytes, release: str) -> list[Any]:
    """Give what using each unit gave, in their order.

    Parameters
    ----------
    packed
        What `pack_window` gave.
    release
        The version of h5bound that it comes from.

    Raises
    ------
    H5BoundError
        This worker has another version of h5bound, does not see the source or the target, or was told to stop.
    """
    from distributed import get_worker
    from distributed.protocol.pickle import loads

    naming_this_worker = partial(naming, f"worker {get_worker().address} of {socket.gethostname()}", H5BoundError)
    with naming_this_worker():
        installed = version("h5bound")
        if release != installed:
            raise H5BoundError(f"h5bound {installed} there, {release} here: install one version everywhere")
        window: UnitWindow = loads(packed)
        window.work.check(next(iter(window.jobs.values())))
    stop_if_unwanted = watch_task()
    loaded: deque[Any] = deque()
    with open_source(window.source, around=naming_this_worker) as opened:
        for unit in window.units:
            stop_if_unwanted()
            loaded.append(window.work.read(opened, window.jobs[unit.array], unit))
    done = []
    while loaded:
        stop_if_unwanted()
        done.append(window.work.use(loaded.popleft()))
    return done


def watch_task() -> Callable[[], None]:
    """Give what raises once the scheduler has taken the task of this thread back.

    It does so when whoever asked for the task has cancelled it, or is gone. A thread cannot be stopped from outside.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def stop_if_unwanted() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing" or worker.status.name in ("closing", "closed"):
            raise H5BoundError("stopped: the conversion or verification was cancelled")

    return stop_if_unwanted


def is_at_work(name: str, dask_worker: Any) -> bool:
    """Tell whether a worker is at a task of this name, or about to begin it, cancelled or not."""
    ended = {"memory", "error", "released", "forgotten"}
    return any(
        isinstance(key, str) and key.startswith(name) and task.state not in ended
        for key, task in list(dask_worker.state.tasks.items())
    )
