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

A graph that is never culled (``optimize_graph=False``, ``visualize()``) has the same tasks for all blocks of an array.

The names of open, read and close tasks carry a token of the blocks they serve. Copies of one array that were culled
differently may thus be merged in any order (their outputs have equal names, and are interchangeable), and every read
still stands between the open and the close that belong to it.

Where tasks run on a cluster, the inputs of a task travel to its worker. There close does not depend on the blocks but
on ``done[i]``: the address of the worker that has block i.

Blocks that are too large to be held at once are cut into windows. Each opens the source with its first read and has a
close of its own; the one open task gives all of them their handle. Windows do not depend on one another, and all
reads become ready together: dask.order then drains one window before it reads the next (512 blocks in windows of 32: at
most 35 live on 2 threads). A chain of windows would be read to its end first (497 live), and an open task for each
window makes dask's local scheduler, whose ready tasks are a stack, read a window too early now and then (63 live).
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, product
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import clone_key
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.task_spec import Task, TaskRef

from h5bound.session import Handle, Window, in_pool, release_hold, watch_failures, worker_address

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Set

    from dask.typing import Key

    from h5bound.source import Source

    Index = tuple[int, ...]
    Tasks = dict[Key, Task]


@dataclass(frozen=True, eq=False, slots=True)
class Life:
    """How a source is opened and closed: what all arrays of one open layer have in common."""

    name: str  # of the open layer, and of the open task of a graph that is not culled
    source: Source
    window: int  # bytes of blocks between one open and its close
    barrier: bool  # whether blocks wait for the close
    bound_to: Key | None = None  # a task that must have run before the open, from dask.graph_manipulation.bind


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """The blocks of one array, and how each is read."""

    name: str  # of the array: its output keys are (name, *index)
    life: Life
    chunks: tuple[tuple[int, ...], ...]  # elements along each axis
    itemsize: int  # bytes of one element
    read: Callable[..., Any]  # gives a block from what `Source.reader` gives and the arguments
    arguments: Callable[[Index], tuple[Any, ...]]  # of ``read``, for the block at an index

    @property
    def numblocks(self) -> Index:
        """Blocks along each axis."""
        return tuple(map(len, self.chunks))

    def indices(self) -> Iterator[Index]:
        """Give the index of every block, in C order."""
        return product(*map(range, self.numblocks))

    def nbytes(self, index: Index) -> int:
        """Bytes of one block in memory."""
        return self.itemsize * prod(sizes[i] for sizes, i in zip(self.chunks, index, strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class Request:
    """The blocks of one array that a compute needs, in C order."""

    blocks: Blocks
    indices: Sequence[Index]


def plan_windows(requests: Sequence[Request], life: Life) -> list[list[Request]]:
    """Cut requests into windows of at most ``life.window`` bytes, one block at the least; into one without a barrier.

    Arrays that are read together advance together, each block standing where it is in its own array, so that
    what combines the first blocks of two arrays finds them in one window.

    Examples
    --------
    Two arrays of four blocks of 8 bytes, in windows of 32 bytes, give two windows with two blocks of each:

    >>> life = Life("open-f", None, 32, True)
    >>> a, b = (Blocks(name, life, ((1,) * 4,), 8, None, None) for name in "ab")
    >>> windows = plan_windows([Request(a, [(0,), (1,), (2,), (3,)]), Request(b, [(0,), (1,), (2,), (3,)])], life)
    >>> [[(part.blocks.name, part.indices) for part in parts] for parts in windows]
    [[('a', [(0,), (1,)]), ('b', [(0,), (1,)])], [('a', [(2,), (3,)]), ('b', [(2,), (3,)])]]
    """
    if not life.barrier:
        return [list(requests)]
    placed = sorted(
        ((position, order, index) for order, request in enumerate(requests) for position, index in _positions(request)),
        key=lambda place: place[:2],
    )
    blocks = [request.blocks for request in requests]
    windows: list[dict[int, list[Index]]] = []
    room = -1
    for _, order, index in placed:
        nbytes = blocks[order].nbytes(index)
        if not windows or nbytes > room:
            windows.append({})
            room = life.window
        windows[-1].setdefault(order, []).append(index)
        room -= nbytes
    return [[Request(blocks[order], indices) for order, indices in sorted(parts.items())] for parts in windows]


def _positions(request: Request) -> Iterator[tuple[float, Index]]:
    """Give each index with how far through its array it stands, 0 <= position < 1."""
    numblocks = request.blocks.numblocks
    total = prod(numblocks)
    strides = [total // count for count in accumulate(numblocks, mul)]
    for index in request.indices:
        yield sum(i * stride for i, stride in zip(index, strides, strict=True)) / total, index


def build(windows: Sequence[Sequence[Request]], life: Life, *, clustered: bool, opened: str) -> Tasks:
    """Give the tasks that read these windows of blocks, but for the open task.

    Parameters
    ----------
    windows
        Blocks of arrays of one life.
    life
        Of their source.
    clustered
        Whether workers may run the tasks: then close depends on done tasks, not on blocks.
    opened
        The name of the open task.
    """
    tasks: Tasks = {}
    for parts in windows:
        window = Window(_token(life, parts), alone=len(windows) == 1)
        _build_window(tasks, parts, window, opened, life, clustered=clustered)
    return tasks


def open_task(key: str, life: Life, *, early: Window | None) -> Task:
    """Give the task that opens the source: before the first block of the window ``early``, or else with it."""
    after = () if life.bound_to is None else (TaskRef(life.bound_to),)
    return Task(key, open_source, life.source, early, *after)


def _build_window(
    tasks: Tasks, parts: Sequence[Request], window: Window, opened: str, life: Life, *, clustered: bool
) -> None:
    close = f"close-{window.name}"
    handle = TaskRef(opened)
    last = (parts[-1].blocks.name, *parts[-1].indices[-1])
    inputs = []
    for order, part in enumerate(parts):
        blocks = part.blocks
        suffix = f"{order}-{window.name}"
        for index in part.indices:
            output = (blocks.name, *index)
            waits = life.barrier or output == last
            read = (f"read-{suffix}", *index) if waits else output
            tasks[read] = Task(
                read,
                read_block,
                handle,
                window,
                output,
                blocks.read,
                *blocks.arguments(index),
                _data_producer=True,
            )
            if clustered:
                done = (f"done-{suffix}", *index)
                tasks[done] = Task(done, report_worker, TaskRef(read))
                inputs.append(TaskRef(done))
            elif waits:
                inputs.append(TaskRef(read))
            if waits:
                tasks[output] = Task(output, wait_on, TaskRef(read), TaskRef(close))
    if clustered:
        tasks[close] = Task(close, close_everywhere, handle, window, *inputs)
    elif life.barrier:
        tasks[close] = Task(close, close_here, handle, window, *inputs)
    else:  # to depend on all blocks would be to hold them all
        tasks[close] = Task(close, close_after, handle, window, sum(len(part.indices) for part in parts), *inputs)


def _token(life: Life, parts: Sequence[Request]) -> str:
    """Give a name for this set of blocks: equal sets, equal tokens."""
    digest = hashlib.blake2b(repr((life.name, life.bound_to)).encode(), digest_size=16)
    for part in parts:
        digest.update(part.blocks.name.encode())
        digest.update(np.array(part.indices, dtype=np.int64).tobytes())
    return digest.hexdigest()


# What the tasks do.


def open_source(source: Source, early: Window | None, *_after: object) -> Handle:
    """Give a new handle on the source, open already for a window whose blocks are sure to be read in this process."""
    handle = Handle(source)
    if early is not None and not in_pool() and worker_address() is None:
        handle.open(early)
    return handle


def read_block(handle: Handle, window: Window, block: Hashable, read: Callable[..., Any], *args: Any) -> Any:
    """Give one block."""
    return handle.read(window, block, read, *args)


def report_worker(_block: object) -> str | None:
    """Give the address of the worker that has this block."""
    return worker_address()


def close_here(handle: Handle, window: Window, *_blocks: object) -> None:
    """Close the source in this process."""
    handle.close(window)


def close_after(handle: Handle, window: Window, blocks: int, _last: object) -> None:
    """Close the source in this process once so many blocks were read: now, or with the last of them."""
    handle.close_after(window, blocks)


def close_everywhere(handle: Handle, window: Window, *workers: str | None) -> None:
    """Close the source on this worker and on all that read from it."""
    handle.close(window)
    others = {worker for worker in workers if worker} - {worker_address()}
    if not others:
        return
    from distributed import worker_client

    with worker_client(separate_thread=False) as client:
        alive = others & client.nthreads().keys()  # a worker that is gone has nothing open
        outcomes = client.run(release_hold, (handle.name, window.name), workers=sorted(alive), on_error="return")
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not _is_lost_worker(outcome):
            raise outcome


def _is_lost_worker(error: Exception) -> bool:
    from distributed.comm import CommClosedError

    return isinstance(error, CommClosedError)


def wait_on(block: Any, _closed: None) -> Any:
    """Give the block, now that the source is closed."""
    return block


# The layers.


class _LifeLayer(Layer):  # type: ignore[misc]  # dask's Layer is untyped
    """What both layers share: their tasks are made when they are first looked at."""

    has_legacy_tasks = False
    clustered = False  # set where it arrives in another process: only dask.distributed sends layers

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "tasks"} | {"clustered": True}

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
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def _make(self, windows: Sequence[Sequence[Request]], life: Life, opened: str) -> Tasks:
        """Give the tasks for a compute that is about to begin."""
        watch_failures()
        return build(windows, life, clustered=self.clustered or _client_is_current(), opened=opened)


class OpenLayer(_LifeLayer):
    """The open task of a source; once culled, all tasks that the compute needs of its arrays.

    Parameters
    ----------
    life
        Of the source.
    """

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life

    def __dask_tokenize__(self) -> Hashable:
        return self.life.name

    def _build(self) -> Tasks:
        return {self.life.name: open_task(self.life.name, self.life, early=None)}

    def get_output_keys(self) -> Set[Key]:
        """Give the key of the open task."""
        return {self.life.name}

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Give all tasks for the requests among the keys, and what they depend on outside of this layer."""
        requests = [key[1] for key in keys if isinstance(key, tuple) and key[0] == self.life.name]
        requests.sort(key=lambda request: request.blocks.name)
        token = _token(self.life, requests)
        opened = f"open-{token}"
        windows = plan_windows(requests, self.life)
        tasks = self._make(windows, self.life, opened)
        tasks[opened] = open_task(opened, self.life, early=Window(token, alone=True) if len(windows) == 1 else None)
        outside = set() if self.life.bound_to is None else {self.life.bound_to}
        return MaterializedLayer(tasks, annotations=self.annotations), {self.life.name: outside}

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Give this layer under another name, its open bound to another task unless it is bound to one already."""
        bound = bind_to is not None and self.life.bound_to is None
        return _with(self, life=_clone_life(self.life, keys, seed, bind_to)), bound


class BlockLayer(_LifeLayer):
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
        life = self.blocks.life
        windows = plan_windows([Request(self.blocks, list(self.blocks.indices()))], life)
        return self._make(windows, life, life.name)

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
        request = Request(self.blocks, sorted(key[1:] for key in outputs))
        asked: set[Key] = {(self.blocks.life.name, request)}
        return MaterializedLayer({}), dict.fromkeys(outputs, asked)

    def clone(self, keys: set[Key], seed: Hashable, bind_to: Key | None = None) -> tuple[Layer, bool]:
        """Give this layer under another name; it is the open task of its life that is bound to another."""
        life = _clone_life(self.blocks.life, keys, seed, bind_to)
        blocks = replace(self.blocks, name=clone_key(self.blocks.name, seed), life=life)
        return _with(self, blocks=blocks), False


def _with(layer: _LifeLayer, **changes: object) -> _LifeLayer:
    """Give a copy of a layer with other attributes and no tasks yet."""
    new = type(layer).__new__(type(layer))
    new.__dict__.update({key: value for key, value in layer.__dict__.items() if key != "tasks"}, **changes)
    return new


def _clone_life(life: Life, keys: set[Key], seed: Hashable, bind_to: Key | None) -> Life:
    """Give a life under another name; what the open task is bound to already is cloned with it, or stays."""
    bound_to = bind_to
    if life.bound_to is not None:
        bound_to = clone_key(life.bound_to, seed) if life.bound_to in keys else life.bound_to
    return replace(life, name=clone_key(life.name, seed), bound_to=bound_to)


def _client_is_current() -> bool:
    """Tell whether a compute would go to a dask cluster now."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_client

    try:
        get_client()
    except ValueError:
        return False
    return True


def graph_of(blocks: Blocks) -> HighLevelGraph:
    """Give the graph of an array of these blocks."""
    life = blocks.life
    layers = {life.name: OpenLayer(life), blocks.name: BlockLayer(blocks)}
    return HighLevelGraph(layers, {life.name: set(), blocks.name: {life.name}})
