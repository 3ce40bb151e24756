"""Add files to a store that was combined before, and write again what comes from files that changed.

A reader sees the store as it was, or as it is at the end: chunks are written first, of which it sees none that its
metadata do not have, then the documents of arrays, and last that of the root with the consolidated metadata of all. A
chunk with data of old and new files is written again as a whole, with the old elements as they were. A killed append
leaves a marker; the next one begins again with the first file that is new or changed.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.rules import join_files
from h5bound.conversion.provenance import FORM_ERRORS, fingerprint, unusable
from h5bound.conversion.resume import APPENDING, ROOTS, find_state, name_chunks
from h5bound.conversion.transfer import count_written
from h5bound.conversion.write_store import (
    describe_arrays,
    describe_store,
    explaining_unfinished,
    finish,
    make_jobs,
    write_documents,
)
from h5bound.errors import TargetError
from h5bound.execution.work import UnitResult
from h5bound.hdf5.datatypes import text_from_json
from h5bound.planning.store_plan import select_chunks
from h5bound.reports.text import plural
from h5bound.stores.lock import MARKER
from h5bound.stores.metadata import CONSOLIDATED
from h5bound.stores.tree import list_differing_parts
from h5bound.zarr_model.array_spec import shard_counts
from h5bound.zarr_model.node_names import PARTIAL_SUFFIX, RESERVED_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from h5bound.combining.combination import Combination, Grids
    from h5bound.conversion.transfer import Job
    from h5bound.planning.store_plan import Unit
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target

LOGGER = logging.getLogger(__name__)

MAY_CHANGE = {"shape", "attributes"}
"""Fields of an array's metadata document that files may change that are added."""


@dataclass(frozen=True, slots=True, eq=False)
class CombinedStore:
    """A store that was combined before."""

    files: Sequence[Mapping[str, Any]]
    """The entries of its files in the provenance, in their order."""
    rules: Mapping[str, Any]
    settings: Mapping[str, Any]
    written: Mapping[str, int]
    """Bytes of the chunks of each array, by its path in the store."""
    documents: Mapping[str, Document]
    """Metadata documents of its arrays, by their paths, as readers see them."""
    is_whole: bool
    """Whether nobody was adding files to it who did not come to the end."""

    def find_grids(self, targets: Mapping[str, str]) -> Grids:
        """Return the chunks and shards of its arrays, by the path in the source; `targets` has that in the store."""
        return {path: read_grid(self.documents[target]) for path, target in targets.items() if target in self.documents}


def read_combined(target: Target) -> CombinedStore | None:
    """Return what is known of a store that was combined before; None if the target is empty.

    Raise TargetError if it is another store, or is unfinished.
    """
    state = find_state(target, target.keys.read(MARKER))
    if state == "nothing":
        return None
    if state == "condemned" and any(target.keys.read(name) is not None for name in ROOTS[:3]):
        state = "appending"  # killed before the marker said what is done: the root's documents are deleted first
    if state not in ("store", "appending"):
        raise TargetError(f"{target.url}: no complete store, so nothing can be appended; resume=True completes it")
    try:
        provenance = target.read_provenance()
        combined = provenance["combined"]
        return CombinedStore(
            files=combined["files"],
            rules=combined["rules"],
            settings=provenance["settings"],
            written=provenance["written"],
            documents=dict(list_arrays(target)),
            is_whole=state == "store",
        )
    except FORM_ERRORS as error:
        if isinstance(provenance, dict) and "combined" not in provenance:
            raise TargetError(f"{target.url}: this store was not combined from files, so none can be added") from error
        raise unusable(target, error) from error


def list_arrays(target: Target) -> Iterator[tuple[str, Document]]:
    """Yield path and metadata document of each array, from the consolidated metadata of the root."""
    if target.zarr_format == 2:
        copies = json.loads(target.keys.read(".zmetadata") or b"{}")["metadata"]
        arrays = {key: document for key, document in copies.items() if key.endswith(".zarray")}
        yield from ((key.removesuffix(".zarray").rstrip("/"), document) for key, document in arrays.items())
        return
    copies = json.loads(target.keys.read("zarr.json") or b"{}")[CONSOLIDATED]["metadata"]
    yield from ((path, document) for path, document in copies.items() if document["node_type"] == "array")


def read_grid(document: Document) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunks and shards of an array's metadata document."""
    if "chunks" in document:
        return tuple(document["chunks"]), None
    outer = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    for codec in document["codecs"]:
        if codec["name"] == "sharding_indexed":
            return tuple(codec["configuration"]["chunk_shape"]), outer
    return outer, None


def find_grids(target: Target, store: CombinedStore | None) -> Grids:
    """Return the chunks and shards of the arrays that a store has, by their paths in it.

    Without a `store` to append to, those with which a complete one at the target was planned: it may be resumed.
    """
    if store is not None:
        return {path: read_grid(document) for path, document in store.documents.items()}
    with suppress(*FORM_ERRORS):
        grids = target.read_provenance()["combined"]["grids"]
        return {path: (tuple(chunks), shards and tuple(shards)) for path, (chunks, shards) in grids.items()}
    return {}


def find_kept(target: Target, store: CombinedStore, combination: Combination, *, update: bool) -> int:
    """Return how many of the first files are in the store as they are now, with all that comes from them.

    Raise TargetError if files of the store are not among those to combine, have another order, or changed without
    `update`, or if an array would be another one with the new files.
    """
    now = combination.inputs["combined"]["files"]
    names, before = ([text_from_json(entry["path"]) for entry in entries] for entries in (now, store.files))
    if names[: len(before)] != before:
        lost = [name for name in before if name not in names]
        if lost:
            raise TargetError(
                f"{target.url}: the store has {lost[0]}{f' and {len(lost) - 1:,} more' if lost[1:] else ''}, not "
                "among the files; name all files, those that are in the store too"
            )
        raise TargetError(
            f"{target.url}: the files of the store are not the first of all files in the same order, so none can be "
            "added at its end; overwrite=True combines all of them anew"
        )
    changed = [number for number, entry in enumerate(store.files) if entry != json.loads(json.dumps(now[number]))]
    if changed and not update:
        more = f" and {len(changed) - 1:,} more" if changed[1:] else ""
        raise TargetError(
            f"{target.url}: {before[changed[0]]}{more} changed since the store was made; update=True writes again what "
            "comes from there"
        )
    kept = min([len(before), *changed])
    moved = find_moved(combination, kept)
    if kept == len(now) and not store.is_whole:  # what was written of the last ones is not known
        return 0
    if kept < len(now):
        if not target.takes_more:
            raise TargetError(
                f"{target.url}: nothing can be added to a zip file; combine into a directory, or overwrite=True "
                "combines all files anew"
            )
        check_same_arrays(target, store, combination)
    return min(kept, moved)


def find_moved(combination: Combination, kept: int) -> int:
    """Return the first of the `kept` files whose elements are others, or elsewhere, than without the files after them.

    Files that overlap may cut those before them.
    """
    if not kept or combination.rules.overlap == "refuse":
        return kept
    now, before = combination.joined, join_files(combination.files[:kept], replace(combination.rules, sort=False))
    for path, variable in now.variables.items():
        other = before.variables.get(path)
        if other is not None and other.axis is not None:
            for ours, theirs in ((variable.starts, other.starts), (variable.skips, other.skips)):
                moved = np.flatnonzero(ours[:kept] != theirs[:kept])
                kept = min([kept, *moved[:1].tolist()])
    return kept


def append_store(
    target: Target,
    store: CombinedStore,
    combination: Combination,
    *,
    first: int,
    transfer: Callable[[Sequence[Job], Sequence[Unit]], list[UnitResult]],
) -> tuple[list[UnitResult], int]:
    """Write what comes from the files from number `first` on.

    Return the results for all units of the plan, and the bytes of the chunks with elements of these files.
    """
    scan, plan = combination.scan, combination.plan
    description = {APPENDING: fingerprint(combination.inputs), **combination.inputs}
    message = f"h5bound: {plural(len(combination.files) - first, 'file')} added"
    with target.begin(message, overwrite=False) as (started, marker):
        jobs = make_jobs(started, scan, plan, skip=False, owner=marker.owner)
        affected, others = split_units(combination, store, first)
        with explaining_unfinished(started):
            marker.write(description)
            keys = set(started.keys.list_all())
            is_known = store.is_whole and first >= len(store.files)  # else chunks may be there that no file has now
            if not is_known:
                started.keys.delete(find_stale(combination, jobs, keys=keys))
            if started.takes_arrays_first:
                write_documents(started, describe_arrays(jobs))
            known = store.written if is_known else None
            stay = count_others(started, known, jobs, affected=affected, others=others, keys=keys)
            checked = [replace(job, only_changed=first < len(store.files)) for job in jobs]
            LOGGER.info("%s: %d of %d units to write", started.url, len(affected), len(plan.units))
            added = transfer(checked, affected)
            nodes, root, provenance = describe_store(
                started.zarr_format, scan, jobs, failed=(), skipped=plan.skipped, inputs=combination.inputs,
                written=count_written(plan, [*stay, *added]),
            )  # fmt: skip
            write_documents(started, nodes.items())
            finish(started, marker, scan, root=root, provenance={**provenance, **combination.tables})
    return [*stay, *added], sum(result.nbytes for result in added)


def check_same_arrays(target: Target, store: CombinedStore, combination: Combination) -> None:
    """Raise TargetError if an array of the store would have another type, chunks, codecs or fill value, or is gone."""
    jobs = make_jobs(target, combination.scan, combination.plan, skip=False)
    _, root, _ = describe_store(
        target.zarr_format, combination.scan, jobs, failed=(), skipped=combination.plan.skipped,
        inputs=combination.inputs, written={},
    )  # fmt: skip
    if target.zarr_format == 2:
        planned = {key.removesuffix("/.zarray"): item for key, item in root[".zmetadata"]["metadata"].items()}
    else:
        planned = root["zarr.json"][CONSOLIDATED]["metadata"]
    for path, document in store.documents.items():
        now = json.loads(json.dumps(planned.get(path)))
        parts = ["nothing of it"] if now is None else set(list_differing_parts(document, now)) - MAY_CHANGE
        if parts:
            raise TargetError(
                f"{target.url}: with the new files the array {path} would have another {', '.join(sorted(parts))}; "
                "overwrite=True combines all files anew"
            )


def find_stale(combination: Combination, jobs: Sequence[Job], *, keys: set[str]) -> list[str]:
    """Return what a killed append left: partial files, and chunks of joined arrays that are not of the plan.

    The latter may also be of files that had more elements.
    """
    planned = {name for unit in combination.plan.units for name in name_chunks(jobs[unit.array], unit)}
    prefixes = tuple(f"{join.array.node.target}/" for join in combination.joins)
    return [
        key
        for key in keys - planned
        if key.endswith(PARTIAL_SUFFIX) or (key.startswith(prefixes) and key.rpartition("/")[2] not in RESERVED_KEYS)
    ]


def list_new_units(combination: Combination, store: CombinedStore, first: int) -> list[Unit]:
    """Return the units of what comes from the files from number `first` on; none if there is no such file."""
    return split_units(combination, store, first)[0] if first < len(combination.files) else []


def split_units(combination: Combination, store: CombinedStore, first: int) -> tuple[list[Unit], list[Unit]]:
    """Return the units of what comes from the files from number `first` on, and those of all else."""
    affected: list[Unit] = []
    others: list[Unit] = []
    for unit in combination.plan.units:
        array = combination.plan.arrays[unit.array]
        variable = combination.joined.variables[array.path]
        if variable.axis is None:
            from_first = variable.source >= first
            is_affected = np.full(len(unit.chunk_coords), from_first or array.node.target not in store.documents)
        else:
            begin = int(variable.starts[first]) if array.node.target in store.documents else 0
            counts = 1 if unit.manifest is None else shard_counts(array.node)
            ends = (unit.chunk_coords // counts + 1)[:, variable.axis] * array.node.write_shape[variable.axis]
            is_affected = ends > begin
        affected += select_chunks(unit, array, is_affected)
        others += select_chunks(unit, array, ~is_affected)
    return affected, others


def count_others(
    target: Target,
    known: Mapping[str, int] | None,
    jobs: Sequence[Job],
    *,
    affected: Sequence[Unit],
    others: Sequence[Unit],
    keys: set[str],
) -> list[UnitResult]:
    """Return the results of the units that stay as they are.

    Their keys are not measured one by one if the bytes of all are `known`: then those that are written again are.
    """
    chunks = [UnitResult(unit.array, chunks=len(unit.chunk_coords)) for unit in others]
    if known is None:
        sizes = [(unit.array, target.keys.measure(set(name_chunks(jobs[unit.array], unit)) & keys)) for unit in others]
        return chunks + [UnitResult(array, nbytes=nbytes) for array, nbytes in sizes]
    left = {number: known.get(job.node.target, 0) for number, job in enumerate(jobs)}
    for unit in affected:
        left[unit.array] -= target.keys.measure(set(name_chunks(jobs[unit.array], unit)) & keys)
    return chunks + [UnitResult(array, nbytes=max(nbytes, 0)) for array, nbytes in left.items()]
