"""The dask layers that embed the lifecycle of a source in the graph.

::

    open ──► read[i] ──► close ──► wait_on[i] ──► downstream tasks
               └──────────────────────▲

Every array is two layers: its own `BlockLayer`, which outputs the blocks, and an `OpenLayer`, which all arrays of one
lifecycle share. Culling decides which blocks are needed. dask culls the block layers first, and each passes its request
to the open layer as one more key. The open layer is culled last, so it knows all blocks that the compute needs of the
source, and makes *all* tasks for them: one open, the reads, one close, and the outputs. So a slice reads only its own
blocks, and two datasets of one file share one open and one close. Before that, a layer holds only block sizes. Tasks
are made once they are looked at, when all sources of the compute are known: these share a window.

A graph that is never culled (``optimize_graph=False``, ``visualize()``) has the same tasks for all blocks of an array,
and one close for each array; :mod:`h5bound.graph.callbacks` keeps the source open between them.

The names of open, read and close tasks contain a token of the blocks that they serve. Copies of one array that were
culled differently may therefore be merged in any order: outputs with equal names are interchangeable, and every read
stays between the open and the close that belong to it.

Where one process reads a whole window, its blocks stay encoded until the close, which takes less memory, and wait_on
decodes each just before it is used. Where tasks may travel, or there is no barrier, the read task decodes.

Blocks that do not fit into memory together are split into windows. Each window opens the source with its first read and
has its own close; they share one handle. Windows do not depend on one another, and all reads are ready together, so
dask.order finishes one window before it begins the next: with 512 blocks in windows of 32 and 2 threads, at most 34
blocks are in memory. A chain of windows would be read to its end first (497 blocks).

The local scheduler runs what becomes ready last in, first out. After an open task it would read all of its file before
it opens the next one, and what combines blocks across files would find nearly all of them in memory: 1,474 of 1,536
blocks, for 24 files of 64 blocks, each a window. So on threads, where blocks do not all wait for one close anyway, the
handle is data of the graph and not the result of a task. All reads of all files are then ready from the beginning, and
run in the order of dask.order (26 blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dask.base import clone_key
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from h5bound.graph.clusters import largest_window, may_be_clustered
from h5bound.graph.tasks import build_open_data, build_open_task, build_tasks, reads_stand_alone
from h5bound.graph.windows import BlockRequest, Blocks, Lifecycle, name_requests, plan_windows
from h5bound.lifecycle.handle import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Sequence, Set

    from dask.task_spec import Task
    from dask.typing import Key

    from h5bound.graph.tasks import Tasks


class _LifecycleLayer(Layer):  # type: ignore[misc]  # dask's Layer is untyped
    """A layer whose tasks are made when they are first looked at."""

    has_legacy_tasks = False
    travelled = False  # whether the layer was unpickled, as on the scheduler of a cluster

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tasks"} | {"travelled": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks of a layer that was not culled."""
        raise NotImplementedError

    def is_materialized(self) -> bool:
        """Return whether the tasks were made."""
        return "tasks" in self.__dict__

    def __getitem__(self, key: Key) -> Task:
        return self.tasks[key]

    def __iter__(self) -> Iterator[Key]:
        _watch_computes()  # again: dask may have lost its callbacks since the tasks were made
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def _plan_windows(
        self, requests: Sequence[BlockRequest], lifecycle: Lifecycle, sources: int = 1
    ) -> list[list[BlockRequest]]:
        """Return the windows of the next compute; those of a cluster fit into the memory of each worker."""
        most = largest_window(travelled=self.travelled) if lifecycle.barrier else None
        window = lifecycle.window if most is None else min(lifecycle.window, most)
        return plan_windows(requests, replace(lifecycle, window=window), sources)

    def _make_tasks(self, windows: Sequence[Sequence[BlockRequest]], lifecycle: Lifecycle, opened: str) -> Tasks:
        """Return the tasks for the next compute, without the open task."""
        _watch_computes()
        return build_tasks(windows, lifecycle, opened=opened, clustered=may_be_clustered(travelled=self.travelled))


class _LazyTasks(Mapping[Any, Any]):
    """Tasks that are made when they are first looked at, after all layers of a graph are culled."""

    def __init__(self, build: Callable[[], Tasks]) -> None:
        self._build = build

    @cached_property
    def _tasks(self) -> Tasks:
        return self._build()

    def __getitem__(self, key: Key) -> Any:
        return self._tasks[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def count_sources(keys: Collection[Any]) -> int:
    """Return the number of lifecycles that there are requests for among the keys."""
    return len({key[0] for key in keys if isinstance(key, tuple) and isinstance(key[-1], BlockRequest)})


class OpenLayer(_LifecycleLayer):
    """The open task of a lifecycle; once culled, all tasks of the compute for its arrays."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__()
        self.lifecycle = lifecycle

    def __dask_tokenize__(self) -> Hashable:
        return self.lifecycle.name

    @cached_property
    def tasks(self) -> Tasks:
        """The open task."""
        return {self.lifecycle.name: build_open_task(self.lifecycle.name, self.lifecycle, preopen=None)}

    def get_output_keys(self) -> Set[Key]:
        """Return the key of the open task."""
        return {self.lifecycle.name}

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Return a layer with all tasks for the requests among the keys, and its dependencies on other layers."""
        requests = [key[1] for key in keys if isinstance(key, tuple) and key[0] == self.lifecycle.name]
        requests.sort(key=lambda request: request.blocks.name)
        # `keys` grows while dask culls the layers of other sources: their number is known when the tasks are looked at
        tasks = _LazyTasks(lambda: self._build(requests, count_sources(keys)))
        outside = set() if self.lifecycle.bound_to is None else {self.lifecycle.bound_to}
        return MaterializedLayer(tasks, annotations=self.annotations), {self.lifecycle.name: outside}

    def _build(self, requests: Sequence[BlockRequest], sources: int) -> Tasks:
        """Return all tasks for some requests of a compute that reads from so many sources."""
        token = name_requests(self.lifecycle, requests)
        opened = f"open-{token}"
        sources += getattr(self.lifecycle.source, "parts", 1) - 1
        windows = self._plan_windows(requests, self.lifecycle, sources)
        tasks = self._make_tasks(windows, self.lifecycle, opened)
        only_window = Window(token, only_window=True) if len(windows) == 1 else None
        if reads_stand_alone(windows, self.lifecycle) and not may_be_clustered(travelled=self.travelled):
            tasks[opened] = build_open_data(opened, self.lifecycle, only_window=only_window)
        else:
            tasks[opened] = build_open_task(opened, self.lifecycle, preopen=only_window)
        return tasks

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Return this layer under another name; bind its open task to another task unless it is bound already."""
        bound = bind_to is not None and self.lifecycle.bound_to is None
        return _with(self, lifecycle=_clone_lifecycle(self.lifecycle, keys, seed, bind_to=bind_to)), bound


class BlockLayer(_LifecycleLayer):
    """The blocks of one array; once culled, only a request to the open layer."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = blocks

    def __dask_tokenize__(self) -> Hashable:
        return self.blocks.name

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks that read all blocks."""
        lifecycle = self.blocks.lifecycle
        windows = self._plan_windows([BlockRequest(self.blocks, list(self.blocks.indices()))], lifecycle)
        return self._make_tasks(windows, lifecycle, lifecycle.name)

    def get_output_keys(self) -> Set[Key]:
        """Return the keys of the blocks."""
        return {(self.blocks.name, *index) for index in self.blocks.indices()}

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Return an empty layer that depends on one key of the open layer: the request for these blocks.

        `HighLevelGraph.cull` passes the dependencies of a culled layer unchanged to the layers that it culls next.
        """
        name = self.blocks.name
        outputs = {key for key in keys if isinstance(key, tuple) and key[0] == name}
        if not outputs:
            return self, {}
        request = BlockRequest(self.blocks, sorted(key[1:] for key in outputs))
        requested: set[Key] = {(self.blocks.lifecycle.name, request)}
        return MaterializedLayer({}), dict.fromkeys(outputs, requested)

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Return this layer under another name; the open task, not a block, is bound to another task."""
        lifecycle = _clone_lifecycle(self.blocks.lifecycle, keys, seed, bind_to=bind_to)
        blocks = replace(self.blocks, name=clone_key(self.blocks.name, seed), lifecycle=lifecycle)
        return _with(self, blocks=blocks), False


def _with(layer: _LifecycleLayer, **changes: object) -> _LifecycleLayer:
    """Return a copy of a layer with other attributes and no tasks yet."""
    new = type(layer).__new__(type(layer))
    new.__dict__.update({key: value for key, value in layer.__dict__.items() if key != "tasks"}, **changes)
    return new


def _clone_lifecycle(lifecycle: Lifecycle, keys: set[Key], seed: Hashable, bind_to: Key | None) -> Lifecycle:
    """Return a lifecycle under another name; a task that it is bound to is cloned if among the keys."""
    bound_to = bind_to
    if lifecycle.bound_to is not None:
        bound_to = clone_key(lifecycle.bound_to, seed) if lifecycle.bound_to in keys else lifecycle.bound_to
    return replace(lifecycle, name=clone_key(lifecycle.name, seed), bound_to=bound_to)


def _watch_computes() -> None:
    """Register the callback that watches computes, which is loaded for the first one."""
    from h5bound.graph.callbacks import compute_watch

    compute_watch.register()


def make_graph(blocks: Blocks) -> HighLevelGraph:
    """Return the graph of an array of these blocks."""
    lifecycle = blocks.lifecycle
    layers = {lifecycle.name: OpenLayer(lifecycle), blocks.name: BlockLayer(blocks)}
    return HighLevelGraph(layers, {lifecycle.name: set(), blocks.name: {lifecycle.name}})
