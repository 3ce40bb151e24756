"""One dask graph for all units of a conversion or verification, run by whatever scheduler is in force."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import uuid4

import dask
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import List, Task, TaskRef

from h5bound.graph import graph_of
from h5bound.windows import Blocks, Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from h5bound.source import H5Source
    from h5bound.units import Unit

    Progress = Callable[[int, int], None]


class Job(Protocol):
    """What the units of one array have in common."""

    @property
    def origin(self) -> int:
        """Number of the source that they are read from."""


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Work(Generic[Result]):
    """What is done with each unit."""

    name: str
    """of the task that uses it"""
    read: Callable[..., Any]
    """gives the unit from the opened file, its job and itself"""
    use: Callable[[Any], Result]
    """takes what was read, once the file is closed"""


@dataclass(frozen=True, slots=True, eq=False)
class Arguments:
    """The arguments of the read task of each unit: its job and itself."""

    jobs: Sequence[object]
    units: Sequence[Unit]

    def __call__(self, index: tuple[int, ...]) -> tuple[object, Unit]:
        """Give the job and the unit of a block."""
        unit = self.units[index[0]]
        return self.jobs[unit.array], unit


def run_units(
    sources: Sequence[H5Source],
    work: Work[Result],
    jobs: Sequence[Job],
    units: Sequence[Unit],
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
        Bytes of units between one open and its close.
    workers
        Threads; None for dask's choice.
    scheduler
        Address of a cluster; None for the scheduler in force.
    progress
        Called with the bytes that are done, and all.
    """
    results: list[Result] = []
    before, total = 0, sum(unit.nbytes for unit in units)
    by_source: dict[int, list[Unit]] = {}
    for unit in units:
        by_source.setdefault(jobs[unit.array].origin, []).append(unit)

    def tell(done: int, _total: int) -> None:
        if progress is not None:
            progress(before + done, total)

    with find_client(scheduler) as client:
        for number, mine in sorted(by_source.items()):
            graph, names = build_graph(sources[number], work, jobs, mine, window)
            sizes = {name: unit.nbytes for name, unit in zip(names, mine, strict=True)}
            if client is not None:
                results += run_on_cluster(client, graph, names, sizes, tell)
            else:
                results += run_here(graph, names, sizes, workers, tell)
            before += sum(sizes.values())
    return results


def build_graph(
    source: H5Source, work: Work[Any], jobs: Sequence[object], units: Sequence[Unit], window: int
) -> tuple[HighLevelGraph, list[tuple[str, int]]]:
    """Give the graph, and the keys of its last tasks in the order of the units."""
    token = uuid4().hex
    life = Life(f"open-{token}", source, window, barrier=True)
    chunks = (tuple(unit.nbytes for unit in units),)
    blocks = Blocks(f"wait_on-{token}", life, chunks, 1, work.read, Arguments(jobs, units))
    reading = graph_of(blocks)
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
    options: dict[str, Any] = {} if workers is None else {"num_workers": workers}
    with Counter(sizes, progress):
        (written,) = dask.compute(Delayed(last, whole), **options)
    return list(written)


class Counter(Callback):  # type: ignore[misc]  # dask's Callback is untyped
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


@contextmanager
def find_client(scheduler: str | None) -> Iterator[Any]:
    """Give a client of the cluster at an address, else that of the cluster in force; None for a local scheduler."""
    if scheduler is None:
        yield current_client()
        return
    from distributed import Client

    with Client(scheduler) as client:
        yield client


def current_client() -> Any:
    """Give the client of the cluster that dask would compute on now; None for a local scheduler."""
    if "distributed" not in sys.modules or dask.config.get("scheduler", None) not in (None, "distributed"):
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def run_on_cluster(
    client: Any,
    graph: HighLevelGraph,
    names: Sequence[tuple[str, int]],
    sizes: dict[tuple[str, int], int],
    progress: Progress,
) -> list[Any]:
    """Run the graph on a cluster."""
    from distributed import as_completed

    futures = client.get(graph, list(names), sync=False)
    done, total = 0, sum(sizes.values())
    for future in as_completed(futures):
        future.result()  # raises the task's error
        done += sizes[future.key]
        progress(done, total)
    return list(client.gather(futures))
