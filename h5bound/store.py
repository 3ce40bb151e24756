"""A whole store: planned from a survey, and finished with its documents and the mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.attributes import merge_metadata
from h5bound.documents import (
    describe_array,
    describe_group,
    make_array,
    make_encoder,
    quiet_zarr,
    write_nodes,
    write_root,
)
from h5bound.encoding import make_codecs
from h5bound.errors import SourceChangedError, TargetError, UnsafeSourceError, UnsupportedError
from h5bound.mark import spell_skipped
from h5bound.plan import plan_array, plan_sequences
from h5bound.report import Skipped
from h5bound.source import Identity
from h5bound.transfer import Job
from h5bound.units import plan_units

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from h5bound.claim import Claim
    from h5bound.documents import Document
    from h5bound.origins import Origin
    from h5bound.plan import ArrayPlan
    from h5bound.settings import Limits, Settings
    from h5bound.survey import Survey
    from h5bound.target import Target
    from h5bound.units import Unit


@dataclass(frozen=True, slots=True, eq=False)
class StorePlan:
    """What becomes of a whole file."""

    arrays: tuple[ArrayPlan, ...]
    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]


def plan_store(survey: Survey, settings: Settings, limits: Limits, window: int) -> StorePlan:
    """Give the plan of a whole file, read in windows of so many bytes: pure."""
    arrays: list[ArrayPlan] = []
    skipped = list(survey.skipped)
    room = limits.max_chunks
    for facts in survey.datasets:
        try:
            sequences = facts.ends is not None
            plans = plan_sequences(facts, settings, room) if sequences else (plan_array(facts, settings, room),)
            room -= sum(len(plan.cells) for plan in plans)
            arrays += plans
        except UnsafeSourceError as error:
            skipped.append(Skipped(facts.record.path, str(error), unsafe=True))
    return StorePlan(tuple(arrays), tuple(plan_units(arrays, window)), tuple(skipped))


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
    with quiet_zarr():
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
                origins[facts[plan.path].origin].addresses.needed_for(facts[plan.path].record.dtype),
                skip,
                survey.allowed_for(facts[plan.path]),
            )
            for plan in arrays
        ]


def announce(target: Target, jobs: Iterable[Job]) -> None:
    """Write the documents of arrays before any chunk, where a store takes no chunk without them."""
    if target.kind == "icechunk":
        write_nodes(target, {job.node.target: describe_array(job.array, job.node) for job in jobs})


def check_unchanged(survey: Survey) -> None:
    """Compare the files on disk with what was surveyed: the source, and all others that were read for it.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        One is not the same any more.
    """
    for origin in survey.origins:
        check_origin(origin)
    for path, before in survey.beside.items():
        if not before.same_state(Identity.of(path)):
            raise changed(path)


def check_origin(origin: Origin) -> None:
    """Compare a file on disk with its index; what a caller that holds it open has written is flushed first.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        It is not the same any more.
    """
    source, index = origin.source, origin.index
    held = source.held()
    if held and held.mode != "r":
        held.flush()
    opened = source.open()
    source.close(opened)
    if not index.mtime_ns or source.identity is None or source.remote:
        return
    now = Identity.of(source.path)
    if (source.pinned or held) and (now.size, now.mtime_ns) != (index.size, index.mtime_ns):
        raise changed(source.path)


def changed(path: str) -> SourceChangedError:
    """Give the error for a file that was written to."""
    return SourceChangedError(f"{path}: the file changed while it was read, so that parts of it may be of two states")


def finish(
    target: Target,
    claim: Claim,
    survey: Survey,
    jobs: Sequence[Job],
    skipped: Iterable[Skipped],
    failed: Collection[str],
    identity: Mapping[str, Any],
) -> None:
    """Write all documents, the root's last, and delete the marker that says that the store is unfinished.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        What was read is not what is there now.
    TargetError
        Another conversion has taken the store over.
    """
    for path in failed:
        target.delete_prefix(survey.targets[path])
    mark = {
        **identity,
        "complete": True,
        "details": {survey.targets[path]: details for path, details in survey.details.items()},
        "skipped": [spell_skipped(item) for item in skipped],
    }
    nodes = describe_nodes(target.zarr_format, survey, jobs, failed, mark)
    write_nodes(target, nodes)
    check_unchanged(survey)
    if not claim.is_held():
        raise TargetError(f"{target.url}: deleted or taken over by another conversion before this one had finished")
    write_root(target, nodes)
    claim.delete()


def describe_nodes(
    zarr_format: int, survey: Survey, jobs: Iterable[Job], failed: Collection[str], mark: Mapping[str, Any]
) -> dict[str, Document]:
    """Give the documents of all nodes by their paths, the mark among those of the root."""
    nodes: dict[str, Document] = {}
    for group in survey.groups:
        attributes = group.attributes if group.target else merge_metadata(dict(group.attributes), mark)
        nodes[group.target] = describe_group(zarr_format, attributes)
    for facts in survey.datasets:
        if facts.ends is not None and facts.record.path not in failed:
            nodes[facts.target] = describe_group(zarr_format, facts.attributes)
    return nodes | {job.node.target: describe_array(job.array, job.node) for job in jobs if job.path not in failed}
