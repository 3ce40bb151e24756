"""The parts of tasks: functions and arguments, what blocks are stored in, and the regions that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dask.task_spec import DataNode, Task, TaskRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STORE = "load_store_chunk"
"""Function of dask that writes a block to what is its second argument."""

SUBGRAPH = "_execute_subgraph"
"""Function of dask that runs fused tasks: a graph, the key of its result, the keys of its inputs, and these."""


def list_leaves(value: object) -> Iterator[object]:
    """Yield the functions and arguments of a task, and of those that dask has fused with it."""
    if isinstance(value, DataNode):
        yield from list_leaves(value.value)
    elif isinstance(value, Task):
        yield value.func
        yield from list_leaves((*value.kwargs.values(), value.args))
    elif isinstance(value, dict):
        yield from list_leaves([*value.values()])
    elif isinstance(value, (list, tuple)) and not _is_region(value):
        for item in value:
            yield from list_leaves(item)
    else:
        yield value


def name_functions(leaves: Iterable[object]) -> set[str]:
    """Return the names of the functions among the leaves."""
    return {getattr(leaf, "__name__", "") for leaf in leaves if callable(leaf)}


def find_region(leaves: Iterable[object]) -> str | None:
    """Return the only region among the leaves, else None."""
    regions = {str(tuple(leaf)) for leaf in leaves if isinstance(leaf, (list, tuple)) and _is_region(leaf)}
    return regions.pop() if len(regions) == 1 else None


def _is_region(value: object) -> bool:
    """Return whether a value selects a part of an array."""
    picks = (int, slice, np.integer, np.ndarray, type(None), type(...))
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, picks) for item in value)


def list_stored(task: object, known: Mapping[object, object]) -> Iterator[object]:
    """Yield what a task, and those that dask has fused with it, store blocks in; a `Task` if that is its result.

    `known` are the tasks and data that its references lead to.
    """
    if not isinstance(task, Task):
        return
    function = getattr(task.func, "__name__", "")
    if function == STORE:
        yield _look_up(task.args[1], known)
    elif function == SUBGRAPH:
        graph, _, names, *inputs = task.args
        inside = {**graph, **{name: _look_up(value, known) for name, value in zip(names, inputs, strict=True)}}
        for inner in graph.values():
            yield from list_stored(inner, inside)
    else:
        for argument in task.args:
            yield from list_stored(argument, known)


def _look_up(value: object, known: Mapping[object, object]) -> object:
    """Return what a reference leads to."""
    if isinstance(value, TaskRef):
        value = known.get(value.key)
    return value.value if isinstance(value, DataNode) else value


def unwrap(value: Any) -> Any:
    """Return what is inside xarray's wrappers."""
    while is_wrapper(type(value)):
        value = getattr(value, "array", None)
    return value


def is_wrapper(kind: type | None) -> bool:
    """Return whether a class of xarray wraps an array."""
    return kind is not None and kind.__module__.startswith(("xarray.core.indexing", "xarray.coding."))
