"""Read only what is sliced out of a block.

dask fuses a block with the slice behind it if nothing else uses the block. Before a local compute begins, the reads of
such blocks are narrowed to what the slice takes, and the slice is counted from there::

    read(0:1000) ─► wait_on ─► [5, :]     becomes     read(5:6) ─► wait_on ─► [0, :]

All other blocks are read whole: results, blocks that several tasks use, and those that lists or masks pick from. So are
those on a cluster, whose scheduler makes the graph.
"""

from __future__ import annotations

import operator
from collections import Counter
from itertools import chain, pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

from dask.array.chunk import getitem
from dask.task_spec import Task, TaskRef

from h5bound.graph.tasks import PrefetchingRead, read_block, wait_on

if TYPE_CHECKING:
    from dask.typing import Key

    Index = tuple[Any, ...]
    Region = tuple[slice, ...]

SLICING = (getitem, operator.getitem)
"""Functions of tasks that slice a block."""

FUNCTION = 3
"""Position of the function among the arguments of `read_block`; the region is the last of them."""

USERS = 2
"""Most tasks that use a read which is narrowed: the slice and the close. Copies of an array may share reads."""


def narrow_reads(graph: dict[Key, Any]) -> None:
    """Narrow the reads of a graph that is about to run, and the slices behind them.

    A narrowed read has a key of its own, since `dask.cache.Cache` keeps values by their keys.
    """
    slices = [(key, node, *sliced) for key, node in graph.items() if (sliced := _find_slice(node)) is not None]
    users = Counter(chain.from_iterable(node.dependencies for node in graph.values() if slices))
    renamed: dict[Key, Key] = {}
    closes, prefetching = set(), set()
    for key, node, block, part in slices:
        read: Any = block if block.func is read_block else graph.get(block.args[0].key)
        places = plan_part(read.args[-1], part.args[1]) if getattr(read, "func", None) is read_block else None
        if places is None or (read is not block and users[read.key] > USERS):
            continue
        region, index = places
        inner, *others = node.args
        inner = {**inner, part.key: _with_arguments(part, part.args[0], index)}
        if read is block:
            inner[block.key] = _with_arguments(read, *read.args[:-1], region)
        else:
            narrowed = Task((*read.key, str(region)), read_block, *read.args[:-1], region, _data_producer=True)
            graph[narrowed.key] = narrowed
            renamed[read.key] = narrowed.key
            closes.add(block.args[1].key)
            del graph[read.key]
            others = [narrowed.ref() if isinstance(arg, TaskRef) and arg.key == read.key else arg for arg in others]
        graph[key] = _with_arguments(node, inner, *others)
        if isinstance(read.args[FUNCTION], PrefetchingRead):
            prefetching.add(read.args[FUNCTION])
    for close in closes:
        if isinstance(graph.get(close), Task):
            graph[close] = graph[close].substitute(renamed)
    for function in prefetching:
        _announce_narrowed(graph, function)


def _find_slice(node: object) -> tuple[Task, Task] | None:
    """Return the task of a block, and that of the slice which dask has fused with it; None if there is none."""
    if not isinstance(node, Task) or not node.args or not isinstance(node.args[0], dict):
        return None
    inner = node.args[0]
    for block, part in pairwise(inner.values()):
        if getattr(block, "func", None) in (wait_on, read_block) and getattr(part, "func", None) in SLICING:
            users = [task.key for task in inner.values() if block.key in task.dependencies]
            if users == [part.key] and isinstance(part.args[0], TaskRef) and node.args[1] != block.key:
                return block, part
    return None


def _announce_narrowed(graph: dict[Key, Any], function: PrefetchingRead) -> None:
    """Make a function announce the narrowed reads in place of those of whole blocks."""
    reads = [
        task for task in graph.values() if getattr(task, "func", None) is read_block and task.args[FUNCTION] is function
    ]
    narrowed = function.announcing([task.args[FUNCTION + 1 :] for task in reads])
    for task in reads:
        graph[task.key] = _with_arguments(task, *task.args[:FUNCTION], narrowed, *task.args[FUNCTION + 1 :])


def _with_arguments(task: Task, *arguments: Any) -> Task:
    """Return a task with other arguments."""
    return Task(task.key, task.func, *arguments, _data_producer=task.data_producer)


def plan_part(region: object, index: object) -> tuple[Region, Index] | None:
    """Return the part of a region that an index of its block takes, with steps, and the same index counted from there.

    Return None if it takes everything, if `region` is no tuple of slices, if the index has other items than numbers,
    slices and new axes, or if a number is out of range. A block may have more axes than its region.

    >>> plan_part((slice(1000, 2000), slice(0, 50)), (5, None, slice(10, 0, -3)))
    ((slice(1005, 1006, None), slice(1, 11, 3)), (0, None, slice(None, None, -1)))
    """
    if not isinstance(region, tuple) or not isinstance(index, tuple):
        return None
    whole = iter(region)
    part, places = [], []
    for item in index:
        axis = None if item is None else next(whole, None)
        if axis is None:
            places.append(item)
            continue
        if type(item) is bool or not isinstance(item, (slice, Integral)):
            return None
        try:
            taken = range(axis.start, axis.stop)[cast("Any", item)]
        except IndexError:
            return None
        if isinstance(taken, range):
            first, last = sorted((taken[0], taken[-1])) if taken else (axis.start, axis.start - 1)
            step = abs(taken.step) if last > first else 1
            part.append(slice(first, last + 1, step if step > 1 else None))
            places.append(slice(None, None, 1 if taken.step > 0 else -1))
        else:
            part.append(slice(taken, taken + 1))
            places.append(0)
    part += whole
    return None if tuple(part) == region else (tuple(part), tuple(places))
