"""A whole store: planned from a survey, begun, finished and marked, and what the report says of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from h5bound.attributes import merge_metadata
from h5bound.encoding import make_codecs
from h5bound.errors import SourceChangedError, TargetError, UnsafeSourceError, UnsupportedError
from h5bound.plan import plan_array, plan_sequences
from h5bound.report import Converted, Skipped, Source
from h5bound.target import (
    MARKER,
    describe_array,
    describe_group,
    dump,
    make_array,
    make_encoder,
    write_documents,
)
from h5bound.transfer import Job, Written, key_of
from h5bound.typetext import spell_text
from h5bound.units import plan_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from h5bound.origins import Origin
    from h5bound.plan import ArrayPlan
    from h5bound.report import How
    from h5bound.settings import Limits, Settings
    from h5bound.source import H5Source
    from h5bound.survey import Survey
    from h5bound.target import Document, Target
    from h5bound.units import Unit

MARK_VERSION = 1
"""The version of what stands under ``_h5bound`` of the root."""

MARK_KEYS = frozenset(
    {"version", "h5bound", "source", "external", "settings", "limits", "complete", "details", "skipped"}
)
"""What the mark adds to ``_h5bound`` of the root."""


@dataclass(frozen=True, slots=True, eq=False)
class StorePlan:
    """What becomes of a whole file."""

    arrays: tuple[ArrayPlan, ...]
    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]


def plan_store(survey: Survey, settings: Settings, limits: Limits, unit_nbytes: int) -> StorePlan:
    """Give the plan of a whole file: pure."""
    arrays: list[ArrayPlan] = []
    skipped = list(survey.skipped)
    for facts in survey.datasets:
        try:
            if facts.ends is not None:
                arrays += plan_sequences(facts, settings, limits.max_chunks)
            else:
                arrays.append(plan_array(facts, settings, limits.max_chunks))
        except UnsafeSourceError as error:
            skipped.append(Skipped(facts.record.path, str(error), unsafe=True))
    return StorePlan(tuple(arrays), tuple(plan_units(arrays, unit_nbytes)), tuple(skipped))


def refuse(file: str, skipped: Iterable[Skipped]) -> None:
    """Raise if anything cannot be carried, listing all of it.

    Raises
    ------
    UnsafeSourceError
        The first such thing lies outside the file, or passes a limit.
    UnsupportedError
        The first such thing has no form in Zarr, or cannot be read.
    """
    found = [item for item in skipped if not item.asked]
    if not found:
        return
    kind = UnsafeSourceError if found[0].unsafe else UnsupportedError
    way = "on_unsupported='skip' leaves it out and lists it"
    raise kind(f"{file}: {'; '.join(map(str, found))} ({way})")


def make_jobs(target: Target, survey: Survey, arrays: Iterable[ArrayPlan], *, skip: bool) -> list[Job]:
    """Give what the units of each array have in common."""
    facts = {item.record.path: item for item in survey.datasets}
    origins = survey.origins
    return [
        Job(
            plan.path,
            origins[facts[plan.path].origin].locate(plan.path),
            facts[plan.path].origin,
            facts[plan.path].record.shape or (),
            facts[plan.path].refused,
            plan.way,
            plan.type,
            plan.node,
            make_array(target, plan.node),
            make_encoder(target, plan.node) if plan.stored is not None and plan.stored.masks.any() else None,
            None if plan.node.shards else make_codecs(plan.node.chain, plan.node.dtype),
            target,
            origins[facts[plan.path].origin].addresses,
            skip,
        )
        for plan in arrays
    ]


def check_place(target: Target, source: H5Source, *, resume: bool, overwrite: bool) -> None:
    """Refuse a target that is not to be written to.

    Raises
    ------
    TargetError
        It is the source, it exists, or it is no store that could be overwritten.
    """
    if target.root is not None and target.root.is_file():
        what = "the source itself" if str(target.root.resolve()) == source.path else "a file"
        raise TargetError(f"{target.url}: {what}, not a place for a store")
    if resume or target.is_empty():
        return
    unfinished = target.read(MARKER) is not None
    if not overwrite:
        state = "an unfinished conversion; resume=True goes on with it, overwrite=True" if unfinished else ""
        raise TargetError(f"{target.url}: {state or 'exists; overwrite=True'} replaces it")
    if not unfinished and all(target.read(name) is None for name in ("zarr.json", ".zgroup", ".zarray")):
        raise TargetError(f"{target.url}: not a Zarr store, so it is not overwritten; delete it yourself")


def identify(survey: Survey, settings: Settings, limits: Limits) -> dict[str, Any]:
    """Give what tells one conversion from another: source, settings and version."""
    files = {
        origin.source.path: {
            "path": spell_text(Path(origin.index.file).name),
            "size": origin.index.size,
            "mtime_ns": origin.index.mtime_ns,
        }
        for origin in reversed(survey.origins)
    }
    source = files.pop(survey.origins[0].source.path)
    return {
        "version": MARK_VERSION,
        "h5bound": version("h5bound"),
        "source": source,
        "settings": settings.to_dict(),
        "limits": asdict(limits),
        **({"external": [files[path] for path in sorted(files)]} if files else {}),
    }


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Give a short name for an identity."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()


def begin(target: Target, identity: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Mark the target as unfinished; what is there is deleted, or is the same conversion.

    Raises
    ------
    TargetError
        It is to be resumed, and is not an unfinished conversion of this source with these options.
    """
    mark = {"fingerprint": fingerprint(identity), **identity}
    if resume and not target.is_empty():
        found = target.read(MARKER)
        if found is None or json.loads(found).get("fingerprint") != mark["fingerprint"]:
            raise TargetError(
                f"{target.url}: not an unfinished conversion of this file with these options, so it cannot be "
                "resumed; overwrite=True replaces it"
            )
        return
    if overwrite and not target.is_empty():
        for name in ("zarr.json", ".zgroup", ".zmetadata"):
            target.delete(name)
        target.clear()
    target.write([(MARKER, dump(mark))])


def split_written(target: Target, jobs: Sequence[Job], units: Sequence[Unit]) -> tuple[list[Unit], list[Written]]:
    """Give the units that are not in the store yet, and what became of those that are."""
    there = set(target.list_keys())
    left, done = [], []
    for unit in units:
        keys = {key_of(jobs[unit.array], cell) for cell in key_cells(jobs[unit.array], unit)}
        if keys <= there:
            done.append(Written(unit.array, len(unit.cells), target.measure(keys)))
        else:
            left.append(unit)
    return left, done


def key_cells(job: Job, unit: Unit) -> Iterable[tuple[int, ...]]:
    """Give the cells of the keys that a unit writes: of shards where there are shards."""
    sizes = [a // b for a, b in zip(job.node.write_shape, job.node.chunks, strict=True)]
    divide = unit.stored is not None
    return (
        tuple(i // size if divide else i for i, size in zip(cell, sizes, strict=True)) for cell in unit.cells.tolist()
    )


def check_unchanged(origin: Origin) -> None:
    """Compare the file on disk with what was surveyed.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        It is not the same any more.
    """
    source, index = origin.source, origin.index
    opened = source.open()
    source.close(opened)
    if not index.mtime_ns or source.identity is None:
        return
    now = type(source.identity).of(source.path)
    if source.pinned and (now.size, now.mtime_ns) != (index.size, index.mtime_ns):
        raise SourceChangedError(f"{source.path}: the file changed while it was converted; convert it again")


def list_failed(jobs: Sequence[Job], written: Iterable[Written]) -> dict[str, str]:
    """Give the datasets of which something could not be read, with the first reason."""
    failed: dict[str, str] = {}
    for item in written:
        if item.problem:
            failed.setdefault(jobs[item.array].path, item.problem)
    return failed


def finish(
    target: Target,
    survey: Survey,
    jobs: Sequence[Job],
    skipped: Iterable[Skipped],
    failed: Mapping[str, str],
    identity: Mapping[str, Any],
) -> None:
    """Write all documents, the root's last, and delete what says that the store is unfinished."""
    nodes: dict[str, Document] = {}
    zarr_format = target.zarr_format
    mark = {
        **identity,
        "complete": True,
        "details": {survey.targets[path]: details for path, details in survey.details.items()},
        "skipped": [{**item.to_dict(), "path": spell_text(item.path)} for item in skipped],
    }
    for group in survey.groups:
        attributes = group.attributes if group.target else merge_metadata(dict(group.attributes), mark)
        nodes[group.target] = describe_group(zarr_format, attributes)
    for facts in survey.datasets:
        if facts.ends is not None and facts.record.path not in failed:
            nodes[facts.target] = describe_group(zarr_format, facts.attributes)
    for job in jobs:
        if job.path in failed:
            target.delete_prefix(job.node.target)
        else:
            nodes[job.node.target] = describe_array(job.array, job.node)
    write_documents(target, nodes)
    target.delete(MARKER)


def list_converted(
    survey: Survey, plan: StorePlan, written: Iterable[Written], failed: Mapping[str, str]
) -> tuple[Converted, ...]:
    """Give the report's entry of each group and dataset that is in the store, by path."""
    chunks, nbytes = [0] * len(plan.arrays), [0] * len(plan.arrays)
    for item in written:
        chunks[item.array] += item.chunks
        nbytes[item.array] += item.nbytes
    numbers: dict[str, list[int]] = {}
    for number, array in enumerate(plan.arrays):
        numbers.setdefault(array.path, []).append(number)
    entries = [Converted(group.path, group.target) for group in survey.groups]
    for facts in survey.datasets:
        path = facts.record.path
        if path in numbers and path not in failed:
            mine = numbers[path]
            first = plan.arrays[mine[0]]
            count, size = sum(chunks[i] for i in mine), sum(nbytes[i] for i in mine)
            entries.append(
                Converted(path, facts.target, tell_way(first), count, first.stored_nbytes, size, explain(first))
            )
    return tuple(sorted(entries, key=lambda entry: entry.path.split("/")))


def tell_way(plan: ArrayPlan) -> How:
    """Give the word of the report for the way that a dataset went."""
    if not len(plan.cells):
        return "metadata"
    if plan.stored is None:
        return "decoded"
    return "mixed" if plan.stored.masks.any() else "copied"


def explain(plan: ArrayPlan) -> tuple[str, ...]:
    """Give the reasons why stored chunks were not kept."""
    if plan.stored is None or not plan.stored.masks.any():
        return plan.reasons
    count = int((plan.stored.masks != 0).sum())
    return (f"{count:,} of {len(plan.cells):,} chunks encoded anew: HDF5 stored them otherwise",)


def describe_source(survey: Survey) -> Source:
    """Give the report's entry of the source."""
    index = survey.index
    return Source(index.file, index.size, index.mtime_ns, h5py.version.hdf5_version)
