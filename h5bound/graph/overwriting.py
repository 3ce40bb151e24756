"""The order of reads and writes in a compute that writes into a file that it reads from.

A block must not be read after it was overwritten: a task that reads it has to be the one that writes to it, or one that
this depends on. The order makes no difference at different blocks, nor if what is written was read at the same place:
xarray writes the coordinates of a variable again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from dask.core import reverse_dict
from dask.task_spec import DataNode, Task

from h5bound.errors import SourceChangedError
from h5bound.files.local import OTHER_WRITER, is_written_here
from h5bound.h5py_compat import find_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Set

    from dask.typing import Key

STORE_KEY = "store-map"
"""Part of the keys of tasks that dask makes to write blocks."""

STORE = "load_store_chunk"
"""Function of dask that writes a block."""

WRAPPING = {"_execute_subgraph", "_identity", "to_container"}
"""Functions of tasks that dask wraps around others, or around values."""

COPYING = {*WRAPPING, "getter", "getter_inline", "getter_nofancy", STORE}
"""Functions of tasks that store what they read, block by block."""


@dataclass(frozen=True, slots=True)
class VariablePath:
    """Where a variable is that tasks read or write."""

    file: str
    """Real path."""
    path: str
    """Path in the file."""


@dataclass(frozen=True, slots=True)
class Write:
    """A task that writes to a variable."""

    region: str | None
    """The only region that the task names, so that it reads and writes there; None if it names several."""
    is_copy: bool
    """Whether it writes what it reads, if it reads this variable."""


def _find_writes(graph: Mapping[Key, object]) -> dict[VariablePath, dict[Key, Write]]:
    """Return the tasks that write to variables of HDF5 files, through xarray or an `h5py.Dataset`."""
    writes: dict[VariablePath, dict[Key, Write]] = defaultdict(dict)
    variables: dict[int, VariablePath | None] = {}  # by the objects that are written to
    for key, node in graph.items():
        leaves = list(list_leaves(node))
        functions = name_functions(leaves)
        for leaf in leaves if STORE in functions else ():
            variable = (
                variables[id(leaf)] if id(leaf) in variables else variables.setdefault(id(leaf), _find_variable(leaf))
            )
            if variable is not None:
                writes[variable][key] = Write(region=_find_region(leaves), is_copy=functions <= COPYING)
    return writes


def name_functions(leaves: Iterable[object]) -> set[str]:
    """Return the names of the functions among the leaves."""
    return {getattr(leaf, "__name__", "") for leaf in leaves if callable(leaf)}


def refuse_overwriting(graph: Mapping[Key, Any], find_readers: Callable[[], Mapping[VariablePath, Set[Key]]]) -> None:
    """Raise SourceChangedError if a compute might read what it has overwritten.

    `find_readers` returns the tasks that read variables; it is called if the compute stores something.
    Computes on a cluster are not seen.
    """
    if not any(STORE_KEY in str(key[0] if isinstance(key, tuple) else key) for key in graph):
        return
    readers = find_readers()
    files = {variable.file for variable in readers}
    writes = {
        variable: tasks for variable, tasks in (_find_writes(graph) if files else {}).items() if variable.file in files
    }
    dependents = reverse_dict({key: node.dependencies for key, node in graph.items()}) if writes else {}
    for variable, tasks in writes.items():
        if find_writer(variable.file) is None and is_written_here(variable.file):
            raise SourceChangedError(
                f"{variable.file}: variables are computed from this file and written to it; {OTHER_WRITER}"
            )
        regions = {key: _find_region(list_leaves(graph[key])) for key in readers.get(variable, ())}
        if not _are_ordered(regions, tasks, dependents):
            raise SourceChangedError(
                f"variable {variable.path!r} of {variable.file}: it would be overwritten while values are computed "
                "from it; load them first, or write to another variable or another file"
            )


def _are_ordered(
    readers: Mapping[Key, str | None], writes: Mapping[Key, Write], dependents: Mapping[Key, Set[Key]]
) -> bool:
    """Return whether each task that reads a variable ends before a task begins that overwrites what it reads.

    `readers` are the tasks that read, with the only region that each names.
    """
    if all(write.is_copy and write.region and key in readers for key, write in writes.items()):
        return True
    at: dict[str | None, set[Key]] = defaultdict(set)
    for key, write in writes.items():
        at[write.region].add(key)
    for reader, region in readers.items():
        known = region is not None and region in at
        later = (at[region] | at[None] if known else set(writes)) - {reader}
        if not _all_follow(later, reader, dependents):
            return False
    return True


def _all_follow(later: set[Key], key: Key, dependents: Mapping[Key, Set[Key]]) -> bool:
    """Return whether the tasks `later` depend on the task `key`."""
    found: set[Key] = set()
    new = {key}
    while new and not later <= found:
        new = {after for before in new for after in dependents[before]} - found
        found |= new
    return later <= found


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


def _is_region(value: object) -> bool:
    """Return whether a value selects a part of an array."""
    picks = (int, slice, np.integer, np.ndarray, type(None), type(...))
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, picks) for item in value)


def _find_region(leaves: Iterable[object]) -> str | None:
    """Return the only region among the leaves, else None."""
    regions = {str(tuple(leaf)) for leaf in leaves if isinstance(leaf, (list, tuple)) and _is_region(leaf)}
    return regions.pop() if len(regions) == 1 else None


def _find_variable(leaf: Any) -> VariablePath | None:
    """Return the variable that an object writes to, None if it is no such object."""
    if isinstance(leaf, h5py.Dataset):
        return VariablePath(os.path.realpath(leaf.file.filename), leaf.name) if leaf and leaf.name else None
    store = getattr(leaf, "datastore", None)  # as in what xarray writes to for h5netcdf and netCDF4
    file, group = getattr(store, "_filename", None), getattr(store, "_group", None)
    if not isinstance(file, str):
        return None
    return VariablePath(
        os.path.realpath(file), f"{'/' + (group or '').strip('/')}/{leaf.variable_name}".replace("//", "/")
    )
