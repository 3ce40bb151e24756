"""Computes that write into files that they read from, prepared before they begin, or refused.

netCDF4 has an HDF5 library of its own, which knows nothing of that of h5py. All variables are defined when a compute
begins, and netCDF4 is asked to write all of that to the file. From then on it changes nothing but the variables that
the compute writes, so all others are read without a lock (:mod:`h5bound.files.unlocked`). A variable that it overwrites
is read before its first write.

An object of an unknown class may write to any file that this process has open for writing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask.core import reverse_dict
from dask.task_spec import Task

from h5bound.errors import SourceChangedError
from h5bound.files.unlocked import OTHER_WRITER, is_written_here, list_written_here, reading_unlocked
from h5bound.overwriting.order import Write, all_precede, are_ordered
from h5bound.overwriting.places import find_open_writer, identify_file, locate_targets, locate_variables
from h5bound.overwriting.targets import find_targets
from h5bound.overwriting.task_parts import STORE, SUBGRAPH, find_region, list_leaves, list_stored, name_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Set

    from dask.typing import Key

    from h5bound.overwriting.places import DataPlace, Places
    from h5bound.overwriting.targets import Target, VariablePath

STORE_KEY = "store-map"
"""Part of the keys of tasks that dask makes to write blocks."""

WRAPPING = {SUBGRAPH, "_identity", "to_container"}
"""Functions of tasks that dask wraps around others, or around values."""

COPYING = {*WRAPPING, "getter", "getter_inline", "getter_nofancy", STORE}
"""Functions of tasks that store what they read, block by block."""


@dataclass(slots=True)
class Stores:
    """The tasks of a compute that store blocks, by what they write to."""

    writes: dict[Target, dict[Key, Write]] = field(default_factory=dict)
    unknown: dict[str, dict[Key, Write]] = field(default_factory=lambda: defaultdict(dict))
    """By a description of the object of which it is not known where it writes."""


@dataclass(slots=True)
class Overwrite:
    """The tasks that overwrite data of one variable that is read."""

    tasks: dict[Key, Write] = field(default_factory=dict)
    by_netcdf4: bool = False
    """Whether netCDF4 does, in a file that is read without a lock."""
    unknown: str = ""
    """A description of an object that perhaps writes."""


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
            stores = _find_stores(graph) if readers else Stores()
            unlocked = _prepare_files(stores.writes, readers)
            for variable in readers:
                if identify_file(variable.file) in unlocked:
                    stack.enter_context(reading_unlocked(variable.file))
            overwrites = _find_overwrites(readers, stores, unlocked)
            nodes = graph.items() if overwrites else ()
            dependents = reverse_dict({key: getattr(node, "dependencies", ()) for key, node in nodes})
            for variable, overwrite in overwrites.items():
                regions = {key: find_region(list_leaves(graph[key])) for key in readers[variable]}
                if overwrite.by_netcdf4:
                    right = all_precede(regions, overwrite.tasks, dependents) or load(variable)
                else:
                    right = are_ordered(regions, overwrite.tasks, dependents)
                if not right:
                    raise _explain(variable, overwrite)
        return stack.pop_all()


def find_readers(
    graph: Mapping[Key, object], dependents: Mapping[Key, set[Key]], find: Callable[[object], VariablePath | None]
) -> dict[VariablePath, set[Key]]:
    """Return the tasks that read variables: those that depend on a variable, or have it inside.

    `find` returns the variable that a part of a task is, if it is one.
    """
    readers: dict[VariablePath, set[Key]] = defaultdict(set)
    for key, node in graph.items():
        leaves = list(list_leaves(node))
        for variable in filter(None, map(find, leaves)):
            readers[variable] |= dependents[key] if name_functions(leaves) <= WRAPPING else {key}
    return readers


def _find_stores(graph: Mapping[Key, object]) -> Stores:
    """Return the tasks that store blocks, and what they write to."""
    stores = Stores()
    known: dict[int, list[Target] | None] = {}  # by the objects that are written to
    for key, node in graph.items():
        leaves = list(list_leaves(node))
        functions = name_functions(leaves)
        if STORE not in functions:
            continue
        write = Write(region=find_region(leaves), is_copy=functions <= COPYING)
        for stored in list(list_stored(node, graph)) or [None]:
            targets = known[id(stored)] if id(stored) in known else known.setdefault(id(stored), find_targets(stored))
            if targets is None:
                stores.unknown[_describe(stored)][key] = Write()
            for target in targets or ():
                stores.writes.setdefault(target, {})[key] = write if target.is_exact else Write()
    return stores


def _prepare_files(targets: Iterable[Target], readers: Iterable[VariablePath]) -> set[Hashable]:
    """Return the files that netCDF4 writes, and let it write out what it has defined in them.

    Raise SourceChangedError if a file that is read was truncated, or is written by an unknown library.
    """
    unlocked: dict[Hashable, Target] = {}
    read = {identify_file(variable.file) for variable in readers}
    is_elsewhere = any(variable.elsewhere for variable in readers)
    for target in targets:
        file = target.variable.file
        identity = identify_file(file)
        if target.dataset is not None or not (identity in read or (is_elsewhere and target.netcdf4 is not None)):
            continue
        if target.is_anew and identity in read:
            raise SourceChangedError(
                f"{file}: it was truncated, to be written anew, before what is computed from it was read; its values "
                "are lost. Write with mode='a', or to another file"
            )
        if find_open_writer(file) is not None:  # netCDF4 may be built with the library of h5py
            continue
        if target.netcdf4 is not None and os.name == "posix":  # elsewhere HDF5 locks what it writes from all others
            unlocked[identity] = target
        elif is_written_here(file):
            raise SourceChangedError(f"{file}: variables are computed from this file and written to it; {OTHER_WRITER}")
    for target in unlocked.values():
        target.sync()
    return set(unlocked)


def _find_overwrites(
    readers: Iterable[VariablePath], stores: Stores, unlocked: Set[Hashable]
) -> dict[VariablePath, Overwrite]:
    """Return what is overwritten of the variables that are read."""
    written: dict[Hashable, list[tuple[DataPlace, Target]]] = defaultdict(list)  # by file, and by object
    located = locate_targets(stores.writes)
    for target, places in located.items():
        for place in places:
            written[place.file].append((place, target))
            written[place.file, place.address].append((place, target))
    files = {variable: identify_file(variable.file) for variable in readers}
    needed = [variable for variable, file in files.items() if file in written or variable.elsewhere]
    read = locate_variables(needed if stores.writes or stores.unknown else ())
    overwrites: dict[VariablePath, Overwrite] = defaultdict(Overwrite)
    for variable, places in read.items():
        for target in {target for place in places for target in _list_overlapping(place, written)}:
            for key, write in stores.writes[target].items():
                exact = write if located[target] == places else Write()
                before = overwrites[variable].tasks.get(key, exact)  # by another target of this task
                overwrites[variable].tasks[key] = exact if before == exact else Write()
            is_unlocked = target.netcdf4 is not None and identify_file(target.variable.file) in unlocked
            overwrites[variable].by_netcdf4 = overwrites[variable].by_netcdf4 or is_unlocked
    for description, tasks in stores.unknown.items():
        for variable in _list_written_here(files, read):
            overwrites[variable].tasks |= tasks
            overwrites[variable].unknown = description
    return overwrites


def _list_overlapping(place: DataPlace, written: Mapping[Hashable, list[tuple[DataPlace, Target]]]) -> list[Target]:
    """Return the targets that write to a place; `written` has them by file and by object."""
    objects = [(place.file, place.address), (place.file, None)]
    near = [pair for key in (objects if place.address is not None else [place.file]) for pair in written.get(key, ())]
    return [target for other, target in near if place.overlaps(other)]


def _list_written_here(
    files: Mapping[VariablePath, Hashable], read: Mapping[VariablePath, Places]
) -> list[VariablePath]:
    """Return the variables whose data is in files that this process has open for writing."""
    opened = list_written_here()
    variables = []
    for variable, file in files.items():
        places = {file, *(place.file for place in read.get(variable, ()))}
        if places & opened or find_open_writer(variable.file) is not None:
            variables.append(variable)
    return variables


def _describe(stored: object) -> str:
    """Return what an object is in which blocks are stored."""
    kind = type(stored)
    return "what a task returns" if isinstance(stored, Task) else f"a {kind.__module__}.{kind.__qualname__}"


def _explain(variable: VariablePath, overwrite: Overwrite) -> SourceChangedError:
    what, advice = "would", "load them first, or write to another variable or another file"
    if overwrite.unknown:
        what, advice = (
            "might",
            (
                f"they are stored in {overwrite.unknown}, which may write to any file that this process has open for "
                "writing. Load them first, store in the h5py.Dataset itself, or close the file"
            ),
        )
    elif overwrite.by_netcdf4:
        advice = "load them first, write with engine='h5netcdf', or write to another variable or another file"
    return SourceChangedError(
        f"variable {variable.path!r} of {variable.file}: it {what} be overwritten while values are computed from it; "
        f"{advice}"
    )
