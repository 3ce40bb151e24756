"""Add files to a store that was combined before, and write again what comes from files that changed.

A reader sees the store as it was, or as it is at the end: chunks are written first, of which it sees none that its
metadata do not have, then the documents of arrays, and last that of the root with the consolidated metadata of all. A
chunk with data of old and new files is written again as a whole, with the old elements as they were. A killed append
leaves a marker, which says which files it has written to which places.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.combining.differences import name_files
from h5bound.conversion.provenance import fingerprint
from h5bound.conversion.resume import APPENDING, name_chunks
from h5bound.conversion.transfer import count_written
from h5bound.conversion.write_store import (
    deleting_partial,
    describe_arrays,
    describe_store,
    explaining_unfinished,
    finish,
    make_jobs,
    write_documents,
)
from h5bound.execution.work import UnitResult
from h5bound.planning.pieces import IN_STORE
from h5bound.planning.work_units import Unit, select_chunks
from h5bound.reports.combination import ChunkCounts
from h5bound.stores.tree import read_chunk_coords
from h5bound.zarr_model.array_spec import estimate_itemsize, shard_counts
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX, RESERVED_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from h5bound.combining.changes import Changes
    from h5bound.combining.combination import Combination
    from h5bound.combining.combined_store import CombinedStore
    from h5bound.conversion.job import Job
    from h5bound.stores.target import Target

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Appended:
    """What was done to a store that files were added to."""

    results: list[UnitResult]
    """For all units of the plan, and for the chunks that stay."""
    nbytes: int
    """Encoded bytes of the chunks that were added or have changed."""
    chunks: Sequence[ChunkCounts]
    """By array of the plan."""


def append_store(
    combination: Combination, changes: Changes, *, transfer: Callable[[Sequence[Job], Sequence[Unit]], list[UnitResult]]
) -> Appended:
    """Write what comes to a store, and return what was done; `transfer` reads and writes the units of jobs."""
    scan, plan, target = combination.scan, combination.plan, changes.store.target
    description = {APPENDING: fingerprint(combination.inputs), **combination.inputs, **combination.tables}
    with target.begin(describe_commit(combination, changes), overwrite=False) as (started, marker):
        jobs = make_jobs(started, scan, plan, skip=False, owner=marker.owner)
        affected, others = split_units(combination, changes)
        with explaining_unfinished(started, again="append=True"), deleting_partial(started, marker):
            marker.write(description)
            keys, torn = sorted(started.keys.list_all()), list[Unit]()
            started.keys.delete(find_abandoned(changes.store, combination, keys))
            if not changes.only_adds or any(map(is_partly_stored, jobs)):
                gone, torn = find_unplanned(combination, changes, jobs, keys=keys)
            if not changes.only_adds:  # else chunks may be there that no file has now
                stale = {*find_stale(combination, keys), *gone}
                started.keys.delete(stale)
                keys = [key for key in keys if key not in stale]
            if started.takes_arrays_first:
                write_documents(started, describe_arrays(jobs))
            known = changes.store.written if changes.only_adds else None
            there = [set(list_chunks(keys, job.node.target)) for job in jobs]
            written = name_units(jobs, [*affected, *torn])
            stay = count_others(started, known, jobs, written=written, others=others, there=there)
            checked = [replace(take_from_store(job), only_changed=not changes.only_adds) for job in jobs]
            LOGGER.info("%s: %d of %d units to write", started.url, len(affected), len(plan.units))
            added = transfer(checked, affected)
            if torn:  # a layout for two passes does not have them
                added += transfer([replace(job, layout=None) for job in checked], torn)
            nodes, root, provenance = describe_store(
                started.zarr_format, scan, jobs, failed=(), skipped=plan.skipped, inputs=combination.inputs,
                written=count_written(plan, [*stay, *added]),
            )  # fmt: skip
            write_documents(started, nodes.items())
            finish(started, marker, scan, root=root, provenance={**provenance, **combination.tables})
    return Appended(
        results=[*stay, *added],
        nbytes=sum(result.nbytes - result.unchanged_nbytes for result in added),
        chunks=compare_chunks(written, there, added),
    )


def compare_chunks(
    written: Sequence[set[str]], there: Sequence[set[str]], results: Sequence[UnitResult]
) -> list[ChunkCounts]:
    """Return what became of the chunks of each array, from the keys that were made, and those that were there."""
    same = Counter[int]()
    for result in results:
        same[result.array] += result.unchanged
    return [
        ChunkCounts(
            added=len(new - old), changed=len(new & old) - same[number], same=same[number], untouched=len(old - new)
        )
        for number, (new, old) in enumerate(zip(written, there, strict=True))
    ]


def describe_commit(combination: Combination, changes: Changes) -> str:
    """Return the message of a commit that adds files."""
    files = [file.path for file, kept in zip(combination.files, changes.kept, strict=True) if not kept]
    return f"h5bound: {name_files(files)} added"


def take_from_store(job: Job) -> Job:
    """Return the job of an array that reads from the store what is of files that are not read."""
    pieces = job.values.pieces
    if pieces is None or not is_partly_stored(job):
        return job
    return replace(job, values=replace(job.values, pieces=replace(pieces, store=job.array)))


def is_partly_stored(job: Job) -> bool:
    """Return whether an array has elements of files that are not read."""
    pieces = job.values.pieces
    return pieces is not None and IN_STORE in pieces.files


def find_stale(combination: Combination, keys: Sequence[str]) -> list[str]:
    """Return what no reader is to see: partial files, and spills."""
    nodes = {target.partition("/")[0] for target in combination.scan.targets.values()}
    spills = {name for name in (key.partition("/")[0] for key in keys) if name.endswith(PARTIAL_SUFFIX)} - nodes
    return [key for key in keys if key.endswith(PARTIAL_SUFFIX) or key.partition("/")[0] in spills]


def find_abandoned(store: CombinedStore, combination: Combination, keys: Iterable[str]) -> list[str]:
    """Return the keys of the arrays and groups that a killed run began, and that no file has now."""
    if store.attempted is None:
        return []
    begun = {variable.target for variable in store.attempted.variables.values()} | {*store.attempted.groups.values()}
    prefixes = tuple(f"{path}/" for path in begun - {*combination.scan.targets.values()} if path)
    return [key for key in keys if key.startswith(prefixes)]


def find_unplanned(
    combination: Combination, changes: Changes, jobs: Sequence[Job], *, keys: Sequence[str]
) -> tuple[list[str], list[Unit]]:
    """Return the chunks of joined arrays that are there, and are not in the plan, where something changes.

    First the keys of those that no file has now: they are of a killed run, of files that had more elements, or of those
    whose place others take. Then units of those that have other elements which only the store has.
    """
    planned = {name for unit in combination.plan.units for name in name_chunks(jobs[unit.array], unit)}
    numbers = {job.node.target: number for number, job in enumerate(jobs)}
    gone: list[str] = []
    torn: list[Unit] = []
    for join in combination.joins:
        node, axis = join.array.node, join.pieces.axis
        number = numbers[node.target]
        found = (
            (key, read_chunk_coords(jobs[number].array, key[len(node.target) + 1 :]))
            for key in list_chunks(keys, node.target)
        )
        named = [(key, coords) for key, coords in found if coords is not None and key not in planned]
        coords = np.array([coords for _, coords in named], np.int64).reshape(-1, len(node.shape))
        is_affected = changes.affect(combination.joined.variables[join.array.path], coords, node.write_shape)
        is_torn = join.pieces.have_files(coords[:, axis], node.write_shape[axis], in_store=True)
        is_torn &= (coords * np.asarray(node.write_shape, np.int64) < node.shape).all(axis=1)
        gone += [named[row][0] for row in np.flatnonzero(is_affected & ~is_torn).tolist()]
        size = max(prod(node.write_shape) * estimate_itemsize(node.dtype), 1)
        torn += [Unit(number, coords[[row]], size) for row in np.flatnonzero(is_affected & is_torn)]
    return gone, torn


def list_chunks(keys: Sequence[str], path: str) -> list[str]:
    """Return the keys of the chunks of an array, from sorted keys."""
    prefix = f"{path}/"
    begin, end = bisect_left(keys, prefix), bisect_left(keys, f"{path}0")  # "0" comes after "/"
    chunks = (key for key in keys[begin:end] if not key.endswith(PARTIAL_SUFFIX))
    return [key for key in chunks if key.rpartition("/")[2] not in RESERVED_KEYS]


def split_units(combination: Combination, changes: Changes) -> tuple[list[Unit], list[Unit]]:
    """Return the units of what is written, and those of all else."""
    affected: list[Unit] = []
    others: list[Unit] = []
    for unit in combination.plan.units:
        array = combination.plan.arrays[unit.array]
        counts = 1 if unit.manifest is None else shard_counts(array.node)
        variable = combination.joined.variables[array.path]
        is_affected = changes.affect(variable, unit.chunk_coords // counts, array.node.write_shape)
        affected += select_chunks(unit, array, is_affected)
        others += select_chunks(unit, array, ~is_affected)
    return affected, others


def count_others(
    target: Target,
    known: Mapping[str, int] | None,
    jobs: Sequence[Job],
    *,
    written: Sequence[set[str]],
    others: Sequence[Unit],
    there: Sequence[set[str]],
) -> list[UnitResult]:
    """Return the results of the chunks that stay as they are, also of files that are not read.

    `there` are the keys of the chunks of each array, `written` those that are made. They are not measured one by one if
    the bytes of all are `known`: then those that are written again are.
    """
    results = [UnitResult(unit.array, chunks=len(unit.chunk_coords)) for unit in others]
    planned = name_units(jobs, others if any(map(is_partly_stored, jobs)) else ())
    for number, job in enumerate(jobs):
        stay, again = there[number] - written[number], there[number] & written[number]
        if known is None:
            nbytes = target.keys.measure(stay)
        else:
            nbytes = max(known.get(job.node.target, 0) - target.keys.measure(again), 0)
        only_there = len(stay - planned[number]) if is_partly_stored(job) else 0
        results.append(UnitResult(number, nbytes=nbytes, chunks=only_there))
    return results


def name_units(jobs: Sequence[Job], units: Sequence[Unit]) -> list[set[str]]:
    """Return the keys of the chunks of units, for each array."""
    names: list[set[str]] = [set() for _ in jobs]
    for unit in units:
        names[unit.array].update(name_chunks(jobs[unit.array], unit))
    return names
