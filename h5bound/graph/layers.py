"""The dask layers that embed the life of a source in the graph itself.

::

    open ──► read[i] ──► close ──► wait_on[i] ──► whatever is done next
               └──────────────────────▲

Every array is two layers. A `BlockLayer` of its own gives the blocks; an `OpenLayer`, which all arrays of one source
have in common, gives the open task. Culling decides which blocks are needed: it reaches the block layers first, and
each of them passes what is asked of it on to the open layer, as one more key. The open layer is culled last, knows by
then all blocks that the compute wants of the source, and makes *all* tasks for them: one open, the reads, one close,
and the outputs. So a slice reads its own blocks only, and two datasets of a file have one open and one close between
them. Nothing is made before that: the layers hold chunk sizes.

A graph that is never culled (``optimize_graph=False``, ``visualize()``) has the same tasks for all blocks of an array,
and a close for each array; :mod:`h5bound.graph.callbacks` has the source stay open between them.

The names of open, read and close tasks carry a token of the blocks they serve. Copies of one array that were culled
differently may thus be merged in any order (their outputs have equal names, and are interchangeable), and every read
still stands between the open and the close that belong to it.

Where tasks run on a cluster, the inputs of a task travel to its worker. There close does not depend on the blocks but
on ``done[i]``: the address of the worker that has block i.

Blocks that were fetched as they are stored are held so until the close, in less memory, and decoded by wait_on just
before they are used. Where tasks may travel, or flow on without a barrier, the read task decodes them.

Blocks that are too large to be held at once are cut into windows. Each opens the source with its first read and has a
close of its own; the one open task gives all of them their handle. Windows do not depend on one another, and all
reads become ready together: dask.order then drains one window before it reads the next (512 blocks in windows of 32: at
34 live on 2 threads). A chain of windows would be read to its end first (497 live), and an open task for each
window makes dask's local scheduler, whose ready tasks are a stack, read a window too early now and then (63 live).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dask.base import clone_key
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from h5bound.graph.callbacks import watch_computes
from h5bound.graph.tasks import build, open_task
from h5bound.graph.windows import BlockRequest, Blocks, Lifecycle, name_requests, plan_windows
from h5bound.lifecycle.handle import Window

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence, Set

    from dask.task_spec import Task
    from dask.typing import Key

    from h5bound.graph.tasks import Tasks


class _LifecycleLayer(Layer):  # type: ignore[misc]  # dask's Layer is untyped
    """What both layers share: their tasks are made when they are first looked at."""

    has_legacy_tasks = False
    travelled = False  # set where it arrives in another process, as on the scheduler of a cluster

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tasks"} | {"travelled": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def tasks(self) -> Tasks:
        """All tasks of a layer that was not culled."""
        return self._build()

    def _build(self) -> Tasks:
        raise NotImplementedError

    def is_materialized(self) -> bool:
        """Tell whether the tasks were made."""
        return "tasks" in self.__dict__

    def __getitem__(self, key: Key) -> Task:
        return self.tasks[key]

    def __iter__(self) -> Iterator[Key]:
        watch_computes()  # the tasks may be those of an earlier compute, and dask lose the watch since
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def _make(self, windows: Sequence[Sequence[BlockRequest]], lifecycle: Lifecycle, opened: str) -> Tasks:
        """Give the tasks for a compute that is about to begin."""
        watch_computes()
        return build(windows, lifecycle, clustered=_may_be_clustered(travelled=self.travelled), opened=opened)


class OpenLayer(_LifecycleLayer):
    """The open task of a source; once culled, all tasks that the compute needs of its arrays.

    Parameters
    ----------
    life
        Of the source.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__()
        self.lifecycle = lifecycle

    def __dask_tokenize__(self) -> Hashable:
        return self.lifecycle.name

    def _build(self) -> Tasks:
        return {self.lifecycle.name: open_task(self.lifecycle.name, self.lifecycle, preopen=None)}

    def get_output_keys(self) -> Set[Key]:
        """Give the key of the open task."""
        return {self.lifecycle.name}

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Give all tasks for the requests among the keys, and what they depend on outside of this layer."""
        requests = [key[1] for key in keys if isinstance(key, tuple) and key[0] == self.lifecycle.name]
        requests.sort(key=lambda request: request.blocks.name)
        token = name_requests(self.lifecycle, requests)
        opened = f"open-{token}"
        windows = plan_windows(requests, self.lifecycle)
        tasks = self._make(windows, self.lifecycle, opened)
        tasks[opened] = open_task(
            opened, self.lifecycle, preopen=Window(token, only_window=True) if len(windows) == 1 else None
        )
        outside = set() if self.lifecycle.bound_to is None else {self.lifecycle.bound_to}
        return MaterializedLayer(tasks, annotations=self.annotations), {self.lifecycle.name: outside}

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Give this layer under another name, its open bound to another task unless it is bound to one already."""
        bound = bind_to is not None and self.lifecycle.bound_to is None
        return _with(self, lifecycle=_clone_lifecycle(self.lifecycle, keys, seed, bind_to)), bound


class BlockLayer(_LifecycleLayer):
    """The blocks of one array; once culled, nothing but what it asks of the open layer.

    Parameters
    ----------
    blocks
        Of the array.
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = blocks

    def __dask_tokenize__(self) -> Hashable:
        return self.blocks.name

    def _build(self) -> Tasks:
        lifecycle = self.blocks.lifecycle
        windows = plan_windows([BlockRequest(self.blocks, list(self.blocks.indices()))], lifecycle)
        return self._make(windows, lifecycle, lifecycle.name)

    def get_output_keys(self) -> Set[Key]:
        """Give the keys of the blocks."""
        return {(self.blocks.name, *index) for index in self.blocks.indices()}

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Give an empty layer that depends on one request: these blocks, of the open layer.

        `HighLevelGraph.cull` hands what the culled layers depend on to the layers that come after them, untouched.
        """
        name = self.blocks.name
        outputs = {key for key in keys if isinstance(key, tuple) and key[0] == name}
        if not outputs:
            return self, {}
        request = BlockRequest(self.blocks, sorted(key[1:] for key in outputs))
        asked: set[Key] = {(self.blocks.lifecycle.name, request)}
        return MaterializedLayer({}), dict.fromkeys(outputs, asked)

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Give this layer under another name; it is the open task of its life that is bound to another."""
        lifecycle = _clone_lifecycle(self.blocks.lifecycle, keys, seed, bind_to)
        blocks = replace(self.blocks, name=clone_key(self.blocks.name, seed), lifecycle=lifecycle)
        return _with(self, blocks=blocks), False


def _with(layer: _LifecycleLayer, **changes: object) -> _LifecycleLayer:
    """Give a copy of a layer with other attributes and no tasks yet."""
    new = type(layer).__new__(type(layer))
    new.__dict__.update({key: value for key, value in layer.__dict__.items() if key != "tasks"}, **changes)
    return new


def _clone_lifecycle(lifecycle: Lifecycle, keys: set[Key], seed: Hashable, bind_to: Key | None) -> Lifecycle:
    """Give a life under another name; what the open task is bound to already is cloned with it, or stays."""
    bound_to = bind_to
    if lifecycle.bound_to is not None:
        bound_to = clone_key(lifecycle.bound_to, seed) if lifecycle.bound_to in keys else lifecycle.bound_to
    return replace(lifecycle, name=clone_key(lifecycle.name, seed), bound_to=bound_to)


def _may_be_clustered(*, travelled: bool) -> bool:
    """Tell whether the tasks of a layer may run on a dask cluster: there is a client, or this may be the scheduler."""
    if "distributed" not in sys.modules:
        return False
    if travelled:
        return True
    from distributed import get_client

    try:
        get_client()
    except ValueError:
        return False
    return True


def make_graph(blocks: Blocks) -> HighLevelGraph:
    """Give the graph of an array of these blocks."""
    lifecycle = blocks.lifecycle
    layers = {lifecycle.name: OpenLayer(lifecycle), blocks.name: BlockLayer(blocks)}
    return HighLevelGraph(layers, {lifecycle.name: set(), blocks.name: {lifecycle.name}})
