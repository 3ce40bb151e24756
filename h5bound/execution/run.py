"""All units of a conversion or verification, run by whatever scheduler is in force: here as one dask graph.

On a cluster they run as :mod:`h5bound.execution.cluster` says.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
    from collections.abc import Iterator, Sequence

    from h5bound.execution.work import Job, Progress, Result, Work, WorkUnit
    from h5bound.lifecycle.source import Source


@dataclass(frozen=True, slots=True, eq=False)
class Arguments:
    """The arguments of the read task of each unit: its job and itself."""

    jobs: Sequence[object]
    units: Sequence[WorkUnit]

    def __call__(self, index: tuple[int, ...]) -> tuple[object, WorkUnit]:
        """Give the job and the unit of a block."""
        unit = self.units[index[0]]
        return self.jobs[unit.array], unit


def run_units(
    sources: Sequence[Source],
    work: Work[Result],
    jobs: Sequence[Job],
    units: Sequence[WorkUnit],
    *,
    window: int,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Read all units, and use each once its source is closed; gives what that gives.

    Parameters
    ----------
    sources
        One after another: opened once for each window, and closed before anything of that window is used.
    work
        What is done.
    jobs
        One for each array.
    units
        Of these arrays.
    window
        Bytes of units between one open and its close; on a cluster of what a worker holds at once.
    workers
        Threads; on a cluster windows that are worked on at once. None for dask's choice.
    scheduler
        Address of a cluster; None for the scheduler in force.
    progress
        Called with the bytes that are done, and all.
    """
    units = sorted(units, key=lambda unit: jobs[unit.array].origin)
    tell = progress or ignore
    with find_client(scheduler) as client:
        if client is not None:
            return run_on_cluster(client, sources, work, jobs, units, window=window, at_once=workers, progress=tell)
    results: list[Result] = []
    before, total = 0, sum(unit.nbytes for unit in units)
    for origin, group in groupby(units, key=lambda unit: jobs[unit.array].origin):
        mine = list(group)
        graph, names = build_graph(sources[origin], work, jobs, mine, window)
        sizes = {name: unit.nbytes for name, unit in zip(names, mine, strict=True)}
        results += run_here(graph, names, sizes, workers, partial(tell_part, tell, before, total))
        before += sum(sizes.values())
    return results


def ignore(_done: int, _total: int) -> None:
    """Take no notice."""


def tell_part(progress: Progress, before: int, total: int, done: int, _part: int) -> None:
    """Tell of a part that comes after others."""
    progress(before + done, total)


def build_graph(
    source: Source, work: Work[Any], jobs: Sequence[object], units: Sequence[WorkUnit], window: int
) -> tuple[HighLevelGraph, list[tuple[str, int]]]:
    """Give the graph, and the keys of its last tasks in the order of the units."""
    token = uuid4().hex
    lifecycle = Lifecycle(f"open-{token}", source=source, window=window, barrier=True)
    chunks = (tuple(unit.nbytes for unit in units),)
    blocks = Blocks(
        f"wait_on-{token}",
        lifecycle=lifecycle,
        chunks=chunks,
        itemsize=1,
        read=work.read,
        arguments=Arguments(jobs, units),
    )
    reading = make_graph(blocks)
    names = [(f"{work.name}-{token}", i) for i in range(len(units))]
    tasks = {name: Task(name, work.use, TaskRef((blocks.name, name[1]))) for name in names}
    layer = MaterializedLayer(tasks)
    layers = {**reading.layers, f"{work.name}-{token}": layer}
    return HighLevelGraph(layers, {**reading.dependencies, f"{work.name}-{token}": {blocks.name}}), names


def run_here(
    graph: HighLevelGraph,
    names: Sequence[tuple[str, int]],
    sizes: dict[tuple[str, int], int],
    workers: int | None,
    progress: Progress,
) -> list[Any]:
    """Run the graph on the local scheduler in force, threads by default."""
    last = f"written-{uuid4().hex}"
    task = Task(last, list, List(*map(TaskRef, names)))
    whole = HighLevelGraph(
        {**graph.layers, last: MaterializedLayer({last: task})}, {**graph.dependencies, last: {names[0][0]}}
    )
    with run_options(workers) as options, ByteProgress(sizes, progress):
        (written,) = dask.compute(Delayed(last, whole), **options)
    return list(written)


def runs_on_threads(scheduler: str | None) -> bool:
    """Return whether units run in this process: on no cluster, and in no pool of the caller."""
    local = (None, dask.threaded.get, dask.local.get_sync)
    return scheduler is None and dask.base.get_scheduler() in local and dask.config.get("pool", None) is None


@contextmanager
def run_options(workers: int | None) -> Iterator[dict[str, Any]]:
    """Give dask's options for the local scheduler in force: where that is threads, some that have ended at the end.

    dask itself raises the first error and leaves tasks in flight behind, which would go on writing to the store.
    """
    given = {} if workers is None else {"num_workers": workers}
    if dask.base.get_scheduler() not in (None, dask.threaded.get) or dask.config.get("pool", None) is not None:
        yield given
        return
    pool = ThreadPoolExecutor(workers or dask.config.get("num_workers", None) or CPU_COUNT)
    try:
        yield {"pool": pool}
    finally:
        pool.shutdown(cancel_futures=True)


class ByteProgress(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Counts the bytes of the units that are done: half of a unit's when it was read, half when it was used.

    Parameters
    ----------
    sizes
        Bytes of each unit, by the key of its last task.
    progress
        What is told of it.
    """

    def __init__(self, sizes: dict[tuple[str, int], int], progress: Progress) -> None:
        self.sizes, self.progress = sizes, progress
        self.read = {key[1]: nbytes for key, nbytes in sizes.items()}
        self.halves, self.total = 0, sum(sizes.values())
        super().__init__()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        nbytes = self.sizes.get(key)
        if nbytes is None and isinstance(key, tuple) and str(key[0]).startswith("read-"):
            nbytes = self.read[key[1]]
        if nbytes is not None:
            self.halves += nbytes
            self.progress(self.halves // 2, self.total)
