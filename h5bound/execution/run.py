"""Run work units: on a dask cluster if one is in force, else as a dask graph on the local scheduler.

::

    open ──► read[unit] ──► close ──► wait_on[unit] ──► use[unit]        (a window of units at a time)

:mod:`h5bound.execution.cluster` does the same in tasks of one window each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.local
import dask.threaded
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.system import CPU_COUNT
from dask.task_spec import List, Task, TaskRef

from h5bound.execution.cluster import find_client, run_on_cluster
from h5bound.graph.layers import make_graph
from h5bound.graph.windows import Blocks, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from h5bound.execution.work import Job, Progress, Result, Work, WorkUnit
    from h5bound.lifecycle.session import Source


def run_units(
    work: Work[Result],
    jobs: Sequence[Job],
    units: Sequence[WorkUnit],
    *,
    sources: Sequence[Source],
    window: int,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Read all units, use each once its source is closed, and return the results, grouped by source.

    There is one job for each array. Sources are opened one after another, each once for a window of units. `window` is
    the bytes between one open and its close; on a cluster, the bytes that one worker holds. `workers` is the number of
    threads; on a cluster, of windows that run at the same time. `progress` gets the bytes done and in total.
    """
    units = sorted(units, key=lambda unit: jobs[unit.array].origin)
    total = sum(unit.nbytes for unit in units)
    report = progress or (lambda _done, _total: None)
    with find_client(scheduler) as client:
        if client is not None:
            return run_on_cluster(
                client,
                work=work,
                jobs=jobs,
                units=units,
                sources=sources,
                window=window,
                max_windows=workers,
                progress=report,
            )
    results: list[Result] = []
    done = 0
    for origin, group in groupby(units, key=lambda unit: jobs[unit.array].origin):
        part = list(group)

        def report_part(nbytes: int, before: int = done) -> None:
            report(before + nbytes, total)

        results += run_here(
            sources[origin],
            work,
            jobs,
            units=part,
            window=window,
            workers=workers,
            progress=report_part,
        )
        done += sum(unit.nbytes for unit in part)
    return results


def run_here(
    source: Source,
    work: Work[Result],
    jobs: Sequence[object],
    *,
    units: Sequence[WorkUnit],
    window: int,
    workers: int | None,
    progress: Callable[[int], None],
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
    sizes = [unit.nbytes for unit in units]
    with local_options(workers) as options, ByteProgress(sizes, progress, used=name, last=last):
        (results,) = dask.compute(Delayed(last, graph), **options)
    return list(results)


def runs_on_threads(scheduler: str | None) -> bool:
    """Return whether tasks run on threads of this process, not on a cluster at an address or in other processes."""
    return scheduler is None and dask.base.get_scheduler() in (None, dask.threaded.get, dask.local.get_sync)


@contextmanager
def local_options(workers: int | None) -> Iterator[dict[str, Any]]:
    """Yield the options of `dask.compute` for the local scheduler in force.

    Threads come from a pool that is shut down at the end: dask raises the first error while other tasks still run,
    and these would still write to the store.
    """
    if dask.base.get_scheduler() not in (None, dask.threaded.get) or dask.config.get("pool", None) is not None:
        yield {} if workers is None else {"num_workers": workers}
        return
    pool = ThreadPoolExecutor(workers or dask.config.get("num_workers", None) or CPU_COUNT)
    try:
        yield {"pool": pool}
    finally:
        pool.shutdown(cancel_futures=True)


class ByteProgress(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Callback that reports the bytes done: half of a unit's bytes when it was read, half when it was used.

    dask calls it for every local compute of the process: only the graph of these units has the key `last`. `sizes` has
    the bytes of each unit by the number in its keys, `used` is the name in the keys of tasks that use units.
    """

    def __init__(self, sizes: Sequence[int], progress: Callable[[int], None], *, used: str, last: str) -> None:
        self.sizes, self.progress, self.used, self.last = sizes, progress, used, last
        self.halves = 0
        super().__init__()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if self.last in dsk and isinstance(key, tuple) and str(key[0]).startswith(("read-", self.used)):
            self.halves += self.sizes[key[1]]
            self.progress(self.halves // 2)
