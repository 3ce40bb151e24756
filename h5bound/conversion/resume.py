"""Find the state of a target before a conversion, choose an action, and find the work that is already done.

The action depends on the state and the options, see `ACTIONS`. *continue* and *done* need a marker or provenance of the
same source, settings and version.

The store itself is the journal. A key is written whole or not at all, and the fingerprint decides the bytes of every
key. So *continue* deletes what is not a chunk of the plan (partial files, metadata documents), writes the chunks that
are missing, and then the metadata documents. *replace* writes a marker without a fingerprint before it deletes the
first key: no key that remains can be taken for a chunk of the new store.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.conversion.job import key_of
from h5bound.conversion.other_inputs import other_conversion
from h5bound.conversion.provenance import check_details, parse_provenance, read_provenance, skipped_to_json
from h5bound.conversion.transfer import count_written
from h5bound.errors import TargetError
from h5bound.execution.work import UnitResult
from h5bound.hdf5.type_json import text_from_json
from h5bound.planning.work_units import select_chunks
from h5bound.reports.conversion import ALREADY_COMPLETE, REFUSED
from h5bound.reports.text import plural
from h5bound.stores.conflicts import check_source
from h5bound.stores.differences import list_edited
from h5bound.stores.lock import MARKER, parse_marker
from h5bound.stores.metadata import digest
from h5bound.stores.target import LocalTarget
from h5bound.stores.tree import is_document, is_foreign, read_documents
from h5bound.zarr_model.array_spec import shard_counts
from h5bound.zarr_model.node_names import OWN_KEY, RESERVED_KEYS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from h5bound.conversion.job import Job
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.source import H5Source
    from h5bound.stores.lock import Marker
    from h5bound.stores.target import Target
    from h5bound.zarr_model.node_names import NameLimits

    State = Literal["nothing", "unfinished", "condemned", "appending", "store", "other"]
    Action = Literal["start", "refuse", "continue", "replace", "done"]


APPENDING = "appending"
"""Field of a marker in a store that files are being added to, in place of the fingerprint."""

ACTIONS: dict[State, tuple[Action, Action, Action]] = {
    "nothing": ("start", "start", "start"),
    "unfinished": ("refuse", "continue", "replace"),  # a marker with a fingerprint
    "condemned": ("refuse", "replace", "replace"),  # a marker without one
    "appending": ("refuse", "refuse", "replace"),  # a store that files were being added to
    "store": ("refuse", "done", "replace"),
    "other": ("refuse", "refuse", "refuse"),
}
"""Actions by default, with resume, and with overwrite."""

UNFINISHED = "this is an unfinished conversion; resume=True goes on with it, overwrite=True replaces it"

REFUSALS = {
    "unfinished": UNFINISHED,
    "condemned": UNFINISHED,
    "appending": "files were being added to this store; append=True adds them, overwrite=True replaces it",
    "store": "this store exists; resume=True accepts it if it is complete, overwrite=True replaces it",
    "other": "not a Zarr store, so it stays as it is, also with overwrite=True; choose another target or delete it",
}

FOLDER = (
    "this is a folder that is not a Zarr store; end it with a slash to make a store in it, or choose another target"
)

NODE_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")
"""Documents that make the root a node."""

ROOTS = (*NODE_DOCUMENTS, ".zmetadata", ".zattrs", OWN_KEY)
"""Documents of the root."""


def find_state(target: Target, marker: bytes | None) -> State:
    """Return the state of a target from the content of its marker and its keys."""
    document = parse_marker(marker)
    if "fingerprint" in document:
        return "unfinished"
    if APPENDING in document:
        return "appending"
    if target.keys.is_empty(but=target.marker):
        return "nothing"
    if marker is not None:
        return "condemned"
    return "store" if has_root(target) else "other"


def has_root(target: Target) -> bool:
    """Return whether the root of a target is a group or an array."""
    return any(target.keys.read(name) is not None for name in NODE_DOCUMENTS)


def choose_action(target: Target, state: State, *, resume: bool, overwrite: bool) -> Action:
    """Return the action for a state; raise TargetError instead of *refuse*."""
    action = ACTIONS[state][1 if resume else 2 if overwrite else 0]
    if action == "refuse":
        is_folder = state == "other" and isinstance(target, LocalTarget) and not overwrite
        is_combined = state == "store" and b'"combined"' in (target.keys.read(OWN_KEY) or b"")
        more = "; to combine more files into it, append=True" if is_combined else ""
        raise TargetError(f"{target.url}: {FOLDER if is_folder else REFUSALS[state]}{more}")
    return action


def find_remark(target: Target, source: H5Source, *, resume: bool, overwrite: bool, dry_run: bool) -> str:
    """Return the report's remark on the target: it is complete, or a dry run would be refused; "" for none.

    Raise TargetError, unless this is a dry run, as `check_target_state` does.
    """
    try:
        action = check_target_state(target, source, resume=resume, overwrite=overwrite)
    except TargetError as error:
        if not dry_run:
            raise
        return describe_refusal(error)
    return ALREADY_COMPLETE if action == "done" else ""


def find_name_limits(target: Target, *, resume: bool) -> NameLimits:
    """Return which names a target cannot hold; for a complete store that is resumed, those recorded in it."""
    if resume and target.keys.read(MARKER) is None:
        with suppress(TargetError):
            return parse_provenance(target, read_provenance(target)).name_limits
    return target.find_limits()


def describe_refusal(error: TargetError) -> str:
    """Return what the report of a dry run says of an error."""
    return f"{REFUSED}{error}"


def check_target_state(target: Target, source: H5Source, *, resume: bool, overwrite: bool) -> Action:
    """Return the action for the target as it is now.

    Raise TargetError if it is the source, another conversion writes to it, or its content must stay.
    """
    target.check_free(source.path)
    check_source(target, source)
    state = find_state(target, target.keys.read(MARKER))
    action = choose_action(target, state, resume=resume, overwrite=overwrite)
    if action == "continue" and not target.resumable:
        raise TargetError(
            f"{target.url}: its file system may hold keys that were not written to their end, so the conversion cannot "
            "be resumed; overwrite=True starts over"
        )
    known = source.state is not None and (source.state.mtime_ns or source.state.stamps)
    if resume and action != "start" and not known:
        raise TargetError(
            f"{target.url}: cannot resume: the source {source.path} has no modification time, so it may have changed; "
            "overwrite=True starts over"
        )
    return action


def decide_action(
    target: Target, marker: Marker, description: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Action:
    """Return the action for a target that this conversion has locked.

    `description` is that of this conversion, with its fingerprint. Raise TargetError if its content must stay,
    is the work of another conversion, or has become a store since it was checked.
    """
    state = find_state(target, marker.content)
    try:
        action = choose_action(target, state, resume=resume and state != "store", overwrite=overwrite)
    except TargetError:
        if not marker.content:  # this conversion has just created it, or found it empty
            marker.delete()
        raise
    if action == "continue":
        check_begun(target, marker.content, description)
    return action


def check_begun(target: Target, marker: bytes | None, description: Mapping[str, Any]) -> None:
    """Raise TargetError if the unfinished work of a marker is that of another conversion than is described."""
    there = parse_marker(marker)
    if there["fingerprint"] != description["fingerprint"]:
        raise other_conversion(target, there, description)


def prepare_target(target: Target, marker: Marker, *, description: Mapping[str, Any], action: Action) -> list[str]:
    """Write the marker of this conversion, and return the keys that the target already has."""
    if action == "continue":
        marker.take_over(description)
        return target.keys.list_all()
    if action == "replace":
        marker.write({})
        clear(target)
    marker.write(description)
    return []


def find_done(
    target: Target, scan: SourceScan, plan: StorePlan, *, jobs: Sequence[Job], inputs: Mapping[str, Any]
) -> tuple[list[UnitResult], dict[str, str]]:
    """Return the results of the units of a complete store, and why datasets could not be read, by path.

    Raise TargetError if it was made otherwise, or is not as it was made, of chunks as far as number and bytes tell.
    """
    try:
        provenance = read_provenance(target)
        recorded = parse_provenance(target, provenance)
    except TargetError as error:
        raise TargetError(f"{error}; it cannot be resumed; overwrite=True replaces it") from error
    planned = [skipped_to_json(item) for item in plan.skipped]
    now = json.loads(json.dumps(inputs))
    differs = any(provenance.get(name) != now.get(name) for name in (*now, "external"))
    if differs or provenance["skipped"][: len(planned)] != planned:
        raise other_conversion(target, provenance, inputs)
    check_details(target, recorded, scan)
    failed = {str(text_from_json(item["path"])): item["reason"] for item in provenance["skipped"][len(planned) :]}

    def changed(how: str) -> TargetError:
        return TargetError(f"{target.url}: the store is complete, but {how}; overwrite=True replaces it")

    keys = set(target.keys.list_all())
    documents = dict(read_documents(target, [key for key in keys if is_document(key, target.zarr_format)]))
    for key, difference in list_edited(recorded.documents, {key: digest(documents[key]) for key in documents}):
        raise changed(f"{key} {difference}")
    left, written, leftovers = split_written(target, plan, jobs=jobs, keys=keys)
    lost = sum(len(unit.chunk_coords) for unit in left if jobs[unit.array].path not in failed)
    if lost:
        raise changed(f"{plural(lost, 'chunk')} {'is' if lost == 1 else 'are'} missing")
    for key in sorted(leftovers - documents.keys() - {OWN_KEY}):
        raise changed(f"{key} was added by another program")
    there = count_written(plan, written)
    for path in sorted(path for path in {*recorded.written, *there} if there.get(path) != recorded.written.get(path)):
        before, now_there = recorded.written.get(path, 0), there.get(path, 0)
        raise changed(f"the chunks of {path} have {now_there:,} bytes in place of {before:,}")
    return written, failed


def clear(target: Target) -> None:
    """Delete all but the marker, metadata documents first: an array without some of its chunks would read as fill."""
    if target.marker:
        delete_keys(target, [key for key in target.keys.list_all() if key.rpartition("/")[2] in RESERVED_KEYS])
    target.keys.clear(keep=target.marker)


def delete_keys(target: Target, keys: Collection[str]) -> None:
    """Delete keys except the marker, metadata documents of the root first."""
    target.keys.delete([key for key in ROOTS if key in keys])
    target.keys.delete([key for key in keys if key not in (*ROOTS, MARKER)])


def split_written(
    target: Target, plan: StorePlan, *, jobs: Sequence[Job], keys: Collection[str]
) -> tuple[list[Unit], list[UnitResult], set[str]]:
    """Return the units to write, the results of chunks that are already written, and the keys that belong to neither.

    `jobs` has one for each array of the plan, `keys` are those of the target; of these, files that no reader of Zarr
    reads belong to somebody else, and stay.
    """
    if not keys:
        return list(plan.units), [], set()
    left: list[Unit] = []
    written: list[UnitResult] = []
    leftovers = {key for key in keys if not is_foreign(key)}
    for unit in plan.units:
        names = name_chunks(jobs[unit.array], unit)
        there = np.fromiter((name in leftovers for name in names), bool, len(names))
        present = {name for name, is_there in zip(names, there, strict=True) if is_there}
        leftovers -= present
        if present:
            written.append(UnitResult(unit.array, nbytes=target.keys.measure(present), chunks=int(there.sum())))
        left += select_chunks(unit, plan.arrays[unit.array], ~there)
    return left, written, leftovers


def name_chunks(job: Job, unit: Unit) -> list[str]:
    """Return the key of each chunk of a unit: that of its shard if there are shards."""
    counts = 1 if unit.manifest is None else shard_counts(job.node)
    return [key_of(job, tuple(coords)) for coords in (unit.chunk_coords // counts).tolist()]
