"""A whole store: planned from a survey, and finished with its documents and the mark."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h5bound.chunk_grid import count_chunks
from h5bound.conversion.provenance import fingerprint, skipped_to_json
from h5bound.conversion.resume import begin, decide_action, delete_keys, find_done, is_store, split_written
from h5bound.conversion.summary import list_failed, list_skipped
from h5bound.conversion.transfer import Job
from h5bound.errors import SourceChangedError, TargetError
from h5bound.files.file_state import LocalState
from h5bound.stores.metadata import (
    describe_array,
    describe_group,
    list_items,
    list_root_items,
    make_array,
    make_encoder,
    quiet_zarr,
)
from h5bound.zarr_model.array_spec import make_codecs
from h5bound.zarr_model.attributes import merge_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from h5bound.conversion.transfer import Written
    from h5bound.planning.external_links import Origin
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reports import Skipped
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Marker, Target

    Work = Callable[[Sequence[Job], Sequence[Unit]], list[Written]]


def make_jobs(target: Target, scan: SourceScan, arrays: Iterable[ArrayPlan], *, skip: bool) -> list[Job]:
    """Give what the units of each array have in common."""
    dataset_scan = {item.record.path: item for item in scan.datasets}
    origins = scan.origins
    with quiet_zarr():
        return [
            Job(
                plan.path,
                origins[dataset_scan[plan.path].origin].locate(plan.path),
                dataset_scan[plan.path].origin,
                dataset_scan[plan.path].record.shape or (),
                dataset_scan[plan.path].opaque_only,
                plan.strategy,
                plan.type,
                plan.node,
                make_array(target.store, plan.node, target.zarr_format),
                (
                    make_encoder(plan.node, target.zarr_format)
                    if plan.manifest is not None and plan.manifest.masks.any()
                    else None
                ),
                None if plan.node.shards else make_codecs(plan.node.chain, plan.node.dtype),
                target,
                origins[dataset_scan[plan.path].origin].addresses.needed_for(dataset_scan[plan.path].record.dtype),
                skip,
                scan.allowed_for(dataset_scan[plan.path]),
            )
            for plan in arrays
        ]


def announce(target: Target, jobs: Iterable[Job]) -> None:
    """Write the metadata documents of arrays before any chunk, if the store takes no chunk without them."""
    if target.backend.takes_arrays_first:
        target.keys.write(list_items({job.node.target: describe_array(job.array, job.node) for job in jobs}))


def check_unchanged(scan: SourceScan) -> None:
    """Compare the files on disk with what was surveyed: the source, and all others that were read for it.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        One is not the same any more.
    """
    for origin in scan.origins:
        check_origin(origin)
    for path, before in scan.external_states.items():
        if not before.same_state(LocalState.of(path)):
            raise changed(path)


def check_origin(origin: Origin) -> None:
    """Compare a file on disk with its index; what a caller that holds it open has written is flushed first.

    Raises
    ------
    SourceChangedError, SourceNotFoundError
        It is not the same any more.
    """
    source, index = origin.source, origin.hierarchy
    held = source.held()
    if held and held.mode != "r":
        held.flush()
    source.check_unchanged()
    if not index.mtime_ns or source.identity is None or source.remote:
        return
    now = LocalState.of(source.path)
    if (source.strict_identity or held) and (now.size, now.mtime_ns) != (index.size, index.mtime_ns):
        raise changed(source.path)


def changed(path: str) -> SourceChangedError:
    """Give the error for a file that was written to."""
    return SourceChangedError(f"{path}: the file changed while it was read, so that parts of it may be of two states")


def finish(
    target: Target,
    marker: Marker,
    scan: SourceScan,
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
        target.delete_prefix(scan.targets[path])
    provenance = {
        **identity,
        "complete": True,
        "details": {scan.targets[path]: details for path, details in scan.details.items()},
        "skipped": [skipped_to_json(item) for item in skipped],
    }
    nodes = describe_nodes(target.zarr_format, scan, jobs, failed, provenance)
    target.keys.write(list_items(nodes))
    check_unchanged(scan)
    if not marker.is_ours():
        raise TargetError(f"{target.url}: deleted or taken over by another conversion before this one had finished")
    for item in list_root_items(target.zarr_format, nodes, copies=target.store.supports_consolidated_metadata):
        target.keys.write([item])
    marker.delete()


def describe_nodes(
    zarr_format: int, scan: SourceScan, jobs: Iterable[Job], failed: Collection[str], provenance: Mapping[str, Any]
) -> dict[str, Document]:
    """Give the documents of all nodes by their paths, the mark among those of the root."""
    nodes: dict[str, Document] = {}
    for group in scan.groups:
        attributes = group.attributes if group.target else merge_metadata(dict(group.attributes), provenance)
        nodes[group.target] = describe_group(zarr_format, attributes)
    for dataset_scan in scan.datasets:
        if dataset_scan.ends is not None and dataset_scan.record.path not in failed:
            nodes[dataset_scan.target] = describe_group(zarr_format, dataset_scan.attributes)
    return nodes | {job.node.target: describe_array(job.array, job.node) for job in jobs if job.path not in failed}


def list_longest(scan: SourceScan, plan: StorePlan) -> Iterator[str]:
    """Give the longest key of each group and array."""
    yield from (f"{group.target}/zarr.json" for group in scan.groups)
    for array in plan.arrays:
        last = (count - 1 for count in count_chunks(array.node.shape, array.node.write_shape))
        yield "/".join([array.node.target, "c", *map(str, last)])


def carry_out(
    place: Target,
    scan: SourceScan,
    plan: StorePlan,
    identity: dict[str, Any],
    work: Work,
    *,
    skip: bool,
    resume: bool,
    overwrite: bool,
) -> tuple[list[Written], dict[str, str]]:
    """Write the store; gives what became of its units, and why datasets could not be read, by path.

    Raises
    ------
    TargetError
        Another conversion is writing to it, or it holds what is not to be touched.
    """
    if resume and is_store(place):
        return find_done(place, scan, make_jobs(place, scan, plan.arrays, skip=skip), plan, identity)
    description = {"fingerprint": fingerprint(identity), **identity}
    with place.begin(f"h5bound: {scan.hierarchy.file}", overwrite=overwrite) as (target, marker):
        jobs = [replace(job, owner=marker.owner) for job in make_jobs(target, scan, plan.arrays, skip=skip)]
        action = decide_action(target, marker, description, resume=resume, overwrite=overwrite)
        with telling_unfinished(target):
            keys = begin(target, marker, description, action)
            announce(target, jobs)
            left, written, leftovers = split_written(target, jobs, plan, keys)
            delete_keys(target, leftovers)
            written += work(jobs, left)
            failed = list_failed(jobs, written)
            finish(target, marker, scan, jobs, list_skipped(plan, failed), failed, identity)
    return written, failed


@contextmanager
def telling_unfinished(place: Target) -> Iterator[None]:
    """Have whatever ends the work say what is there now, and what to do about it."""
    try:
        yield
    except BaseException as error:
        if place.backend.marker:
            lost = isinstance(error, SourceChangedError) or not place.backend.resumable
            way = "overwrite" if lost else "resume or overwrite"
            error.add_note(f"{place.url} is unfinished: convert again with {way}")
        raise
