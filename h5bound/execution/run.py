"""Run work units: on a dask cluster if one is in force, else on the local scheduler.

::

    open ──► read[unit] ──► close ──► wait_on[unit] ──► use[unit]        (a window of units at a time)

:mod:`h5bound.execution.cluster` does the same in tasks of one window each, and :mod:`h5bound.execution.threads` without
a graph, which is left to other schedulers, and to callbacks of dask that the user put in force.

Any number of runs may go on in the threads of a process, also inside the tasks of another compute. Each has threads of
its own, since a pool that is full of tasks that wait for other tasks never ends. Each passes its callbacks to dask's
scheduler itself: those that are registered with dask belong to the whole process, and dask loses some of them where
computes overlap.
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.callbacks import Callback, normalize_callback
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import List, Task, TaskRef

from h5bound.execution.cluster import run_on_cluster
from h5bound.execution.scheduler import count_threads, expect_threads, find_client, local_scheduler, runs_on_threads
from h5bound.execution.threads import run_in_threads
from h5bound.execution.windows import choose_window
from h5bound.execution.work import ByteCount, log_window
from h5bound.graph.callbacks import compute_watch
from h5bound.graph.layers import make_graph
from h5bound.graph.windows import Blocks, Lifecycle
from h5bound.lifecycle.session import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from h5bound.execution.work import Job, Progress, Result, Work, WorkUnit
    from h5bound.lifecycle.session import Source

DIRECT_NBYTES = 2**20
"""Most bytes of all units of a source that are run without a graph. Threads then save less time than they take."""


def run_units(
    work: Work[Result],
    jobs: Sequence[Job],
    units: Sequence[WorkUnit],
    *,
    sources: Sequence[Source],
    window: int,
    workers: int | None = None,
    scheduler: str | None = None,
    direct: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """Read all units, use each once its source is closed, and return the results, grouped by source.

    There is one job for each array. Sources are opened one after another, each once for a window of units. `window` is
    the most bytes between one open and its close; where the work keeps what it reads, of all units in memory, which
    with several threads are those of two windows; on a cluster, those that one worker holds. `workers` is the number of
    threads; on a cluster, of windows that run at the same time. With `direct`, where no unit waits for a server, a few
    small units run in this thread. `progress` is called in this thread with the bytes of the units that were used, and
    of all units; not at all without units.
    """
    units = sorted(units, key=lambda unit: jobs[unit.array].origin)
    counted = ByteCount(sum(unit.nbytes for unit in units), progress)
    with find_client(scheduler) as client:
        if work.keeps:  # a worker reads at least a unit in each thread, whatever the window
            threads = expect_threads(workers) if client is None else 1
            window = choose_window(window, [unit.nbytes for unit in units], threads)
        if client is not None:
            return run_on_cluster(
                client,
                work=work,
                jobs=jobs,
                units=units,
                sources=sources,
                window=window,
                max_windows=workers,
                counted=counted,
            )
    results: list[Result] = []
    for origin, group in groupby(units, key=lambda unit: jobs[unit.array].origin):
        part = list(group)
        few = sum(unit.nbytes for unit in part) <= min(window, DIRECT_NBYTES) and workers in (None, 1)
        run: Callable[..., list[Result]] = partial(run_here, workers=workers, window=window)
        if not users_callbacks():
            threads = count_threads()
            if direct and few and runs_on_threads(scheduler):
                run = run_directly
            elif threads:
                run = partial(run_in_threads, threads=workers or threads, window=window)
        results += run(sources[origin], work, jobs, units=part, counted=counted)
    return results


def run_directly(
    source: Source, work: Work[Result], jobs: Sequence[object], *, units: Sequence[WorkUnit], counted: ByteCount
) -> list[Result]:
    """Run units of one source in this thread: a graph and its threads take longer than a few small units."""
    with open_source(source) as opened:
        parts = [work.read(opened, jobs[unit.array], unit) for unit in units]
    log_window(1, 1, counted)
    results = []
    for unit, part in zip(units, parts, strict=True):
        results.append(work.use(jobs[unit.array], unit, part))
        counted.add(unit.nbytes)
    return results


def run_here(
    source: Source,
    work: Work[Result],
    jobs: Sequence[object],
    *,
    units: Sequence[WorkUnit],
    window: int,
    workers: int | None,
    counted: ByteCount,
) -> list[Result]:
    """Run the units of one source on the local scheduler in force, threads by default."""
    token = uuid4().hex
    lifecycle = Lifecycle(name=f"open-{token}", source=source, window=window, barrier=True)
    blocks = Blocks(
        name=f"wait_on-{token}",
        lifecycle=lifecycle,
        chunks=(tuple(unit.nbytes for unit in units),),
        itemsize=1,
        read=work.read,
        arguments=lambda index: (jobs[units[index[0]].array], units[index[0]]),
    )
    reading = make_graph(blocks)
    name, last = f"{work.name}-{token}", f"results-{token}"
    uses: dict[Any, Task] = {
        (name, i): Task((name, i), work.use, jobs[unit.array], unit, TaskRef((blocks.name, i)))
        for i, unit in enumerate(units)
    }
    layers = {
        **reading.layers,
        name: MaterializedLayer(uses),
        last: MaterializedLayer({last: Task(last, list, List(*map(TaskRef, uses)))}),
    }
    graph = HighLevelGraph(layers, {**reading.dependencies, name: {blocks.name}, last: {name}})
    end = counted.done + sum(unit.nbytes for unit in units)
    with local_scheduler(workers) as get:
        results = get(
            graph.cull({last}).to_dict(), last, callbacks=list_callbacks(UnitsUsed(name, units, counted=counted))
        )
    counted.add(end - counted.done)  # what a scheduler that knows no callbacks has not told
    return list(results)


def list_callbacks(own: Callback) -> list[tuple[Any, ...]]:
    """Return the callbacks of a run: its own, that of the lifecycles, and in the main thread those that are in force.

    dask's progress bars and profilers are registered for the whole process, with no word of the thread that they are
    meant for. Told of several computes at once, some of them fail.
    """
    return [*(users_callbacks() | {normalize_callback(compute_watch)}), normalize_callback(own)]


def users_callbacks() -> set[tuple[Any, ...]]:
    """Return the callbacks that the user put in force for this thread: only the main thread has any."""
    if threading.current_thread() is not threading.main_thread():
        return set()
    modules = {
        callback: [str(getattr(function, "__module__", "")) for function in callback]
        for callback in set(Callback.active)
    }
    return {callback for callback, names in modules.items() if not any(name.startswith("h5bound.") for name in names)}


class UnitsUsed(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Callback of one run that counts the bytes of each unit once it was used; its tasks have keys (`name`, number)."""

    def __init__(self, name: str, units: Sequence[WorkUnit], *, counted: ByteCount) -> None:
        self.name, self.units, self.counted = name, units, counted
        self.windows = self.closed = 0
        super().__init__()

    def _start(self, dsk: Any) -> None:
        self.windows = sum(map(is_close, dsk))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if isinstance(key, tuple) and key[0] == self.name:
            self.counted.add(self.units[key[1]].nbytes)
        elif is_close(key):
            self.closed += 1
            log_window(self.closed, self.windows, self.counted)


def is_close(key: Any) -> bool:
    """Return whether a key is that of the task that closes the source at the end of a window."""
    return isinstance(key, str) and key.startswith("close-")
