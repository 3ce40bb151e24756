"""What a target holds before a conversion, what is done about it, and what of the work is done already.

=================================  ============  ===============================  ================
the target holds                   by default    with resume                      with overwrite
=================================  ============  ===============================  ================
nothing                            begin         begin                            begin
a marker with a fingerprint        refuse        go on if it is the same          delete and begin
a marker without one, and more     refuse        delete and begin                 delete and begin
a store                            refuse        done, if complete and the same   delete and begin
anything else                      refuse        refuse                           refuse
=================================  ============  ===============================  ================

The store itself is the journal. A key is written under another name first, so that it is there whole or not at all,
and the fingerprint (source, settings, version) decides the bytes of every key. So to go on is to delete whatever is
no chunk that the plan has (leftovers of keys, documents), to write the chunks that are not there, and then the
documents. What an overwriting conversion has to delete is condemned by a marker without a fingerprint, before the
first of it is gone: none of it can be taken for chunks of the new store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.conversion.provenance import parse_provenance, read_provenance_text, spell_skipped
from h5bound.conversion.transfer import Written, key_of
from h5bound.errors import TargetError
from h5bound.hdf5.datatypes import text_from_json
from h5bound.planning.work_units import keep_chunks
from h5bound.stores.conflicts import check_source
from h5bound.stores.local import delete_files
from h5bound.stores.lock import is_claimed, parse_marker, taken
from h5bound.stores.target import MARKER, run_each
from h5bound.zarr_model.array_spec import shard_counts
from h5bound.zarr_model.node_names import RESERVED_KEYS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from h5bound.conversion.transfer import Job
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.source import H5Source
    from h5bound.stores.lock import Claim
    from h5bound.stores.target import Target

    State = Literal["nothing", "unfinished", "condemned", "store", "other"]


ROOTS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata", ".zattrs")
"""Documents of the root, those first that make it a node."""


def look(target: Target, marker: bytes | None) -> State:
    """Give what a target holds, by its marker and its keys."""
    if "fingerprint" in parse_marker(marker):
        return "unfinished"
    if is_bare(target):
        return "nothing"
    if marker is not None:
        return "condemned"
    return "store" if any(target.read(name) is not None for name in ROOTS[:3]) else "other"


def is_bare(target: Target) -> bool:
    """Tell whether nothing is there but perhaps a marker."""
    if target.root is not None:
        return not target.root.exists() or all(path.name == MARKER for path in target.root.iterdir())
    return target.is_empty() or (target.marked and target.list_names() == [MARKER])


def check_place(target: Target, source: H5Source, *, resume: bool, overwrite: bool) -> None:
    """Refuse a target that is not to be written to.

    Raises
    ------
    TargetError
        It is the source, another conversion is writing to it, or what it holds is not to be touched.
    """
    if target.root is not None and target.root.is_file():
        what = "the source itself" if str(target.root.resolve()) == source.path else "a file"
        raise TargetError(f"{target.url}: {what}, not a place for a store")
    check_source(target, source)
    if is_claimed(target):
        raise taken(target.url)
    state = look(target, target.read(MARKER))
    check_state(target, state, resume=resume, overwrite=overwrite)
    if resume and state == "unfinished" and not target.resumable:
        raise TargetError(
            f"{target.url}: its file system may hold keys that were not written to their end, so that it cannot be "
            "resumed; overwrite=True begins anew"
        )
    known = source.identity is not None and (source.identity.mtime_ns or source.identity.stamps)
    if resume and state != "nothing" and not known:
        raise TargetError(
            f"{target.url}: {source.path} is no file on a disk, so that nothing tells whether it is the one that was "
            "converted; overwrite=True begins anew"
        )


def check_state(target: Target, state: State, *, resume: bool, overwrite: bool) -> None:
    """Refuse a target for what it holds.

    Raises
    ------
    TargetError
        It is not to be touched.
    """
    if state == "nothing" or ((resume or overwrite) and state != "other"):
        return
    if state == "other":
        raise TargetError(f"{target.url}: exists and is no Zarr store, so it is not written to; delete it yourself")
    what = "exists" if state == "store" else "an unfinished conversion; resume=True goes on with it"
    raise TargetError(f"{target.url}: {what}{';' if state == 'store' else ','} overwrite=True replaces it")


def decide_state(target: Target, claim: Claim, marker: Mapping[str, Any], *, resume: bool, overwrite: bool) -> State:
    """Give what a target holds, now that no other conversion can alter it.

    Parameters
    ----------
    target
        The store.
    claim
        Of this conversion to it.
    marker
        The document of this conversion's marker, with its fingerprint.
    resume, overwrite
        As passed to `convert`.

    Raises
    ------
    TargetError
        It is not to be touched, or is the work of another conversion.
    """
    state = look(target, claim.found)
    try:
        check_state(target, state, resume=resume and state != "store", overwrite=overwrite)
    except TargetError:
        if not claim.found:  # an empty one is of a conversion that was refused, since it was not the first to lock it
            claim.delete()
        raise
    held = parse_marker(claim.found)
    if resume and state == "unfinished" and held["fingerprint"] != marker["fingerprint"]:
        raise another(target, held, marker)
    return state


def begin(target: Target, claim: Claim, marker: Mapping[str, Any], state: State, *, resume: bool) -> list[str]:
    """Provenance the target as unfinished work of this conversion; gives the keys that it has already."""
    if resume and state == "unfinished":
        claim.keep(marker)
        return target.list_keys()
    if state != "nothing":
        claim.write({})
        clear(target)
    claim.write(marker)
    return []


def another(target: Target, held: Mapping[str, Any], identity: Mapping[str, Any]) -> TargetError:
    """Give the error for work that is not this conversion's, with what makes it another one."""
    parts = list(list_differing(held, json.loads(json.dumps(identity)))) or ["what is left out"]
    return TargetError(
        f"{target.url}: not a conversion of this file with these options by this version (there and here differ: "
        f"{', '.join(parts)}), so it cannot be resumed; overwrite=True replaces it"
    )


def list_differing(held: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """Give what differs between two identities, as they are in JSON.

    >>> list(list_differing({"version": 1, "limits": {"a": 1, "b": 2}}, {"version": 1, "limits": {"a": 3}}))
    ['limits.a 1, 3', 'limits.b 2, None']
    """
    for name in (name for name in mine if name != "fingerprint"):
        there, here = held.get(name), mine[name]
        if isinstance(there, dict) and isinstance(here, dict):
            parts = [part for part in here | there if there.get(part) != here.get(part)]
            yield from (f"{name}.{part} {there.get(part)!r}, {here.get(part)!r}" for part in parts)
        elif there != here:
            yield f"{name} {there!r}, {here!r}"


def is_store(target: Target) -> bool:
    """Tell whether a store is there, and no unfinished work."""
    return look(target, target.read(MARKER)) == "store"


def find_done(
    target: Target, scan: SourceScan, jobs: Sequence[Job], plan: StorePlan, identity: Mapping[str, Any]
) -> tuple[list[Written], dict[str, str]]:
    """Give what became of the units of a complete store, and why datasets could not be read, by path.

    Raises
    ------
    TargetError
        It was made by another conversion, or has lost chunks or documents since.
    """
    try:
        parse_provenance(target)
    except TargetError as error:
        raise TargetError(f"{error}; it cannot be resumed, overwrite=True replaces it") from error
    provenance = read_provenance_text(target)
    planned = [spell_skipped(item) for item in plan.skipped]
    if (
        list(list_differing(provenance, json.loads(json.dumps(identity))))
        or provenance["skipped"][: len(planned)] != planned
    ):
        raise another(target, provenance, identity)
    failed = {str(text_from_json(item["path"])): item["reason"] for item in provenance["skipped"][len(planned) :]}
    keys = set(target.list_keys())
    of_group, of_array = (".zgroup", ".zarray") if target.zarr_format == 2 else ("zarr.json", "zarr.json")
    documents = [f"{group.target}/{of_group}".lstrip("/") for group in scan.groups]
    documents += [f"{job.node.target}/{of_array}" for job in jobs if job.path not in failed]
    bare = [name for name in documents if name not in keys]
    if bare:
        raise TargetError(f"{target.url}: marked complete, but {bare[0]} is missing; overwrite=True replaces it")
    left, written, _ = split_written(target, jobs, plan, keys)
    lost = sum(len(unit.chunk_coords) for unit in left if jobs[unit.array].path not in failed)
    if lost:
        raise TargetError(f"{target.url}: marked complete, but {lost:,} chunks are missing; overwrite=True replaces it")
    return written, failed


def clear(target: Target) -> None:
    """Delete all but the marker, documents first: what has lost chunks is no array any more."""
    if target.marked:
        delete_keys(target, [key for key in target.list_keys() if key.rpartition("/")[2] in RESERVED_KEYS])
    target.clear(keep=MARKER)


def delete_keys(target: Target, keys: Collection[str]) -> None:
    """Delete keys but for the marker, documents of the root first."""
    for group in ([key for key in ROOTS if key in keys], [key for key in keys if key not in (*ROOTS, MARKER)]):
        if target.root is not None:
            delete_files(target.root, group)
        else:
            run_each(target.store.delete, group)


def split_written(
    target: Target, jobs: Sequence[Job], plan: StorePlan, keys: Collection[str]
) -> tuple[list[Unit], list[Written], set[str]]:
    """Give what is to be written yet, what became of that which is there, and the keys that are none of it.

    Parameters
    ----------
    target
        The store.
    jobs
        One for each array of the plan.
    plan
        Of the store.
    keys
        That it has.
    """
    if not keys:
        return list(plan.units), [], set()
    left: list[Unit] = []
    written: list[Written] = []
    leftovers = set(keys)
    for unit in plan.units:
        names = name_chunks(jobs[unit.array], unit)
        there = np.fromiter((name in leftovers for name in names), bool, len(names))
        mine = {name for name, found in zip(names, there, strict=True) if found}
        leftovers -= mine
        if mine:
            written.append(Written(unit.array, int(there.sum()), target.measure(list(mine))))
        left += keep_chunks(unit, plan.arrays[unit.array], ~there)
    return left, written, leftovers


def name_chunks(job: Job, unit: Unit) -> list[str]:
    """Give the key of each cell of a unit: of its shard where there are shards."""
    sizes = [1] * unit.chunk_coords.shape[1] if unit.manifest is None else shard_counts(job.node)
    return [key_of(job, tuple(coords)) for coords in (unit.chunk_coords // sizes).tolist()]
