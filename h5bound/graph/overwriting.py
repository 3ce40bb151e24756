"""Computes that write into a file that they read from.

A block must not be read after it was overwritten: a task that reads it has to be the one that writes to it, or one that
this depends on. The order makes no difference at different blocks, nor if what is written was read at the same place:
xarray writes the coordinates of a variable again.

netCDF4 has an HDF5 library of its own, which knows nothing of that of h5py. All variables are defined when a compute
begins, and netCDF4 is asked to write all of that to the file. From then on it changes nothing but the variables that
the compute writes, so all others are read beside it (:mod:`h5bound.files.beside`). A variable that it overwrites is
read before its first write.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.core import reverse_dict
from dask.task_spec import DataNode, Task

from h5bound.errors import SourceChangedError
from h5bound.files.beside import OTHER_WRITER, is_written_here, reading_beside
from h5bound.graph.same_data import find_places, identify_file, open_written
from h5bound.graph.targets import find_target
from h5bound.h5py_compat import find_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set

    from dask.typing import Key

    from h5bound.graph.same_data import Places
    from h5bound.graph.targets import Target, VariablePath

STORE_KEY = "store-map"
"""Part of the keys of tasks that dask makes to write blocks."""

STORE = "load_store_chunk"
"""Function of dask that writes a block."""

WRAPPING = {"_execute_subgraph", "_identity", "to_container"}
"""Functions of tasks that dask wraps around others, or around values."""

COPYING = {*WRAPPING, "getter", "getter_inline", "getter_nofancy", STORE}
"""Functions of tasks that store what they read, block by block."""


@dataclass(frozen=True, slots=True)
class Write:
    """A task that writes to a variable."""

    region: str | None
    """The only region that the task names, so that it reads and writes there; None if it names several."""
    is_copy: bool
    """Whether it writes what it reads, if it reads this variable."""


def _find_writes(graph: Mapping[Key, object]) -> tuple[list[Target], dict[VariablePath, dict[Key, Write]]]:
    """Return the variables of HDF5 files that tasks write to, and these tasks."""
    writes: dict[VariablePath, dict[Key, Write]] = defaultdict(dict)
    targets: dict[int, Target | None] = {}  # by the objects that are written to
    for key, node in graph.items():
        leaves = list(list_leaves(node))
        functions = name_functions(leaves)
        for leaf in leaves if STORE in functions else ():
            target = targets[id(leaf)] if id(leaf) in targets else targets.setdefault(id(leaf), find_target(leaf))
            if target is not None:
                writes[target.variable][key] = Write(region=_find_region(leaves), is_copy=functions <= COPYING)
    return [target for target in targets.values() if target is not None], writes


def name_functions(leaves: Iterable[object]) -> set[str]:
    """Return the names of the functions among the leaves."""
    return {getattr(leaf, "__name__", "") for leaf in leaves if callable(leaf)}


def prepare_writes(
    graph: Mapping[Key, Any],
    find_readers: Callable[[], Mapping[VariablePath, Set[Key]]],
    load: Callable[[VariablePath], bool] = lambda _: False,
) -> ExitStack:
    """Prepare a compute to write into files that it reads from; at the end of the compute, close what is returned.

    `find_readers` returns the tasks that read variables; it is called if the compute stores something. `load` reads all
    of a variable now, and returns False if it cannot.
    Raise SourceChangedError if the compute might read what it has overwritten. Computes on a cluster are not seen.
    """
    with ExitStack() as stack:
        if any(STORE_KEY in str(key[0] if isinstance(key, tuple) else key) for key in graph):
            readers = find_readers()
            names: dict[Hashable, list[VariablePath]] = defaultdict(list)  # what is read of each file
            for variable in readers:
                names[identify_file(variable.file)].append(variable)
            targets, writes = _find_writes(graph) if names else ([], {})
            beside = _prepare_files([target for target in targets if identify_file(target.variable.file) in names])
            for variable in (variable for file in beside for variable in names[file]):
                stack.enter_context(reading_beside(variable.file))
            overwritten = _find_overwritten(names, writes)
            nodes = graph.items() if overwritten else ()
            dependents = reverse_dict({key: getattr(node, "dependencies", ()) for key, node in nodes})
            for variable, tasks in overwritten.items():
                regions = {key: _find_region(list_leaves(graph[key])) for key in readers[variable]}
                if identify_file(variable.file) in beside:
                    if not (_all_precede(regions, tasks, dependents) or load(variable)):
                        raise _overwritten(variable, "load them first, write with engine='h5netcdf', or write to")
                elif not _are_ordered(regions, tasks, dependents):
                    raise _overwritten(variable, "load them first, or write to")
        return stack.pop_all()


def _find_overwritten(
    readers: Mapping[Hashable, list[VariablePath]], writes: Mapping[VariablePath, Mapping[Key, Write]]
) -> dict[VariablePath, dict[Key, Write]]:
    """Return the variables that are read, by file, of which tasks overwrite data, with these tasks."""
    files: dict[Hashable, list[VariablePath]] = defaultdict(list)
    for target in writes:
        files[identify_file(target.file)].append(target)
    found: dict[VariablePath, dict[Key, Write]] = defaultdict(dict)
    for identity in files.keys() & readers.keys():
        written: dict[Hashable, list[tuple[VariablePath, Places]]] = defaultdict(list)
        with open_written(files[identity][0].file) as file:
            for target in files[identity]:
                places = find_places(file, target.path)
                for place in places:
                    written[place].append((target, places))
            for variable in readers[identity]:
                places = find_places(file, variable.path)
                for target, same in (item for place in places for item in written[place]):
                    unordered = {key: Write(region=None, is_copy=False) for key in writes[target]}
                    found[variable].update(writes[target] if same == places else unordered)
    return found


def _prepare_files(targets: Iterable[Target]) -> set[Hashable]:
    """Return the files that netCDF4 writes, and let it write out what it has defined in them.

    Raise SourceChangedError if a file was truncated, or is written by an unknown library.
    """
    beside: dict[str, Target] = {}
    for target in targets:
        file = target.variable.file
        if target.is_anew:
            raise SourceChangedError(
                f"{file}: it was truncated, to be written anew, before what is computed from it was read; its values "
                "are lost. Write with mode='a', or to another file"
            )
        if find_writer(file) is not None:  # netCDF4 may be built with the library of h5py
            continue
        if target.netcdf4 is not None and os.name == "posix":  # elsewhere HDF5 locks what it writes from all others
            beside[file] = target
        elif is_written_here(file):
            raise SourceChangedError(f"{file}: variables are computed from this file and written to it; {OTHER_WRITER}")
    for target in beside.values():
        target.sync()
    return set(map(identify_file, beside))


def _overwritten(variable: VariablePath, advice: str) -> SourceChangedError:
    return SourceChangedError(
        f"variable {variable.path!r} of {variable.file}: it would be overwritten while values are computed from it; "
        f"{advice} another variable or another file"
    )


def _all_precede(readers: Iterable[Key], writes: Iterable[Key], dependents: Mapping[Key, Set[Key]]) -> bool:
    """Return whether each task that reads ends before the first task begins that writes."""
    later = set(writes)
    return all(reader not in later and _all_follow(later, reader, dependents) for reader in readers)


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
