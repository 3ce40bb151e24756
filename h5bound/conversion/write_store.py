"""Write a whole store: its chunks, its metadata documents, and the root's document last."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from h5bound.chunk_grid import count_chunks
from h5bound.conversion.job import Job
from h5bound.conversion.provenance import describe_provenance, fingerprint, read_provenance
from h5bound.conversion.resume import (
    check_begun,
    decide_action,
    delete_keys,
    describe_refusal,
    find_done,
    find_state,
    prepare_target,
    split_written,
)
from h5bound.conversion.summary import list_skipped
from h5bound.conversion.transfer import count_written
from h5bound.errors import SourceChangedError, TargetError
from h5bound.execution.work import list_problems
from h5bound.files.file_state import FileState
from h5bound.planning.source_values import describe_values
from h5bound.reader.many_files import ManyFiles
from h5bound.reports.text import plural
from h5bound.stores.differences import list_edited
from h5bound.stores.lock import MARKER
from h5bound.stores.metadata import (
    describe_array,
    describe_group,
    describe_root,
    digest,
    dump,
    is_spelled_otherwise,
    list_items,
    make_array,
)
from h5bound.zarr_model.array_spec import make_encoders
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from h5bound.execution.work import UnitResult
    from h5bound.hdf5.hierarchy import Hierarchy
    from h5bound.planning.origins import Origin
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.source import H5Source
    from h5bound.reports.entries import Skipped
    from h5bound.stores.lock import Marker
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target

LOGGER = logging.getLogger(__name__)

AGAIN = ": run it again with "
"""What precedes the options in the note on an unfinished store."""


def make_jobs(target: Target, scan: SourceScan, plan: StorePlan, *, skip: bool, owner: str = "") -> list[Job]:
    """Return the job of each array."""
    dataset_scans = {item.record.path: item for item in scan.datasets}
    with quiet_zarr():
        return [
            Job(
                values=describe_values(scan, dataset_scans[array.path], array, write_shape=array.node.write_shape),
                strategy=array.strategy,
                node=array.node,
                array=make_array(target.store, array.node, target.zarr_format),
                codecs=make_encoders(array.node),
                target=target,
                skip=skip,
                owner=owner,
                layout=array.spill,
            )
            for array in plan.arrays
        ]


def write_store(
    target: Target,
    scan: SourceScan,
    plan: StorePlan,
    *,
    inputs: dict[str, Any],
    transfer: Callable[[Sequence[Job], Sequence[Unit]], list[UnitResult]],
    skip: bool,
    resume: bool,
    overwrite: bool,
    tables: Mapping[str, Any] = MappingProxyType({}),
    message: str = "",
) -> tuple[list[UnitResult], dict[str, str]]:
    """Write the store; return the results of its units, and why datasets could not be read, by path.

    `inputs` are source, settings, limits and version: they decide the bytes of every key. `transfer` reads and writes
    the units of jobs. With `skip`, a dataset that cannot be read is skipped and reported. Raise TargetError if another
    conversion is writing to the target, or its content must stay. `tables` are more fields of the provenance, `message`
    describes the commit where there is one.
    """
    if resume and find_state(target, target.keys.read(MARKER)) == "store":
        return take_done(target, scan, plan, inputs=inputs, skip=skip)
    description = {"fingerprint": fingerprint(inputs), **inputs}
    with target.begin(f"h5bound: {message or scan.hierarchy.file}", overwrite=overwrite) as (started, marker):
        jobs = make_jobs(started, scan, plan, skip=skip, owner=marker.owner)
        action = decide_action(started, marker, description, resume=resume, overwrite=overwrite)
        with explaining_unfinished(started), deleting_partial(started, marker):
            keys = prepare_target(started, marker, description=description, action=action)
            if started.takes_arrays_first:
                write_documents(started, describe_arrays(jobs))
            left, results, leftovers = split_written(started, plan, jobs=jobs, keys=keys)
            LOGGER.info("%s: %s; %d of %d units to write", started.url, action, len(left), len(plan.units))
            delete_keys(started, leftovers)
            results += transfer(jobs, left)
            failed = list_problems(jobs, results)
            for path in failed:
                started.delete_prefix(scan.targets[path])
            nodes, root, provenance = describe_store(
                started.zarr_format, scan, jobs, failed=failed, skipped=list_skipped(plan, failed), inputs=inputs,
                written=count_written(plan, results, failed=failed),
            )  # fmt: skip
            write_documents(started, nodes.items())
            finish(started, marker, scan, root=root, provenance={**provenance, **tables})
    return results, failed


def take_done(
    target: Target, scan: SourceScan, plan: StorePlan, *, inputs: dict[str, Any], skip: bool
) -> tuple[list[UnitResult], dict[str, str]]:
    """Return what `find_done` returns for a complete store.

    Raise TargetError also if a metadata document is not the one that the plan makes, whatever the provenance says.
    """
    jobs = make_jobs(target, scan, plan, skip=skip)
    results, failed = find_done(target, scan, plan, jobs=jobs, inputs=inputs)
    nodes, root = describe_documents(target.zarr_format, scan, jobs, failed=failed)
    planned = {**nodes, **root}
    recorded = read_provenance(target)["documents"]  # which those of the store are equal to
    for key, _ in list_edited({key: digest(document) for key, document in planned.items()}, recorded):
        if key not in planned or not is_spelled_otherwise(key, planned[key], target.keys.read(key)):
            raise TargetError(
                f"{target.url}: the store is complete, but {key} is not what this conversion makes: another program "
                "changed it, and the provenance; overwrite=True replaces it"
            )
    return results, failed


def find_resume_remark(target: Target, scan: SourceScan, plan: StorePlan, *, inputs: dict[str, Any], skip: bool) -> str:
    """Return the remark of a dry run with resume on the work in the target; "" if it would be taken over."""
    content = target.keys.read(MARKER)
    state = find_state(target, content)
    try:
        if state == "store":
            take_done(target, scan, plan, inputs=inputs, skip=skip)
        elif state == "unfinished":
            check_begun(target, content, {"fingerprint": fingerprint(inputs), **inputs})
    except TargetError as error:
        return describe_refusal(error)
    return ""


def finish(target: Target, marker: Marker, scan: SourceScan, root: Document, provenance: Document) -> None:
    """Write the documents of the root, and delete the marker of the unfinished conversion.

    Raise SourceChangedError or SourceNotFoundError if a file changed since it was read, and TargetError if another
    conversion has taken the store over.
    """
    check_unchanged(scan)
    if not marker.is_ours():
        raise TargetError(f"{target.url}: deleted, or replaced by another conversion, while this one ran")
    target.write_root(root, provenance)
    marker.delete()
    count = plural(len(provenance["documents"]), "metadata document")
    LOGGER.info("%s: %s written, the store is complete", target.url, count)


def write_documents(target: Target, items: Iterable[tuple[str, Document]]) -> None:
    """Write metadata documents by their keys."""
    target.keys.write((key, dump(document)) for key, document in items)


def describe_arrays(jobs: Iterable[Job]) -> Iterable[tuple[str, Document]]:
    """Return the metadata documents of arrays by their keys."""
    return list_items({job.node.target: describe_array(job.array, job.node) for job in jobs})


def describe_store(
    zarr_format: int,
    scan: SourceScan,
    jobs: Iterable[Job],
    *,
    failed: Collection[str],
    skipped: Iterable[Skipped],
    inputs: Mapping[str, Any],
    written: Mapping[str, int],
) -> tuple[Document, Document, Document]:
    """Return the metadata documents of all nodes but the root, those of the root, and the provenance, by their keys."""
    items, root = describe_documents(zarr_format, scan, jobs, failed=failed)
    documents = [*items.items(), *root.items()]
    return items, root, describe_provenance(inputs, scan, skipped, documents=documents, written=written)


def describe_documents(
    zarr_format: int, scan: SourceScan, jobs: Iterable[Job], *, failed: Collection[str] = ()
) -> tuple[Document, Document]:
    """Return the metadata documents of all nodes but the root, and those of the root, by their keys.

    `failed` are the paths of datasets that could not be read, which are left out.
    """
    nodes = {group.target: describe_group(zarr_format, group.attributes) for group in scan.groups}
    for dataset_scan in scan.datasets:
        if dataset_scan.record.path not in failed:
            for target in dataset_scan.groups:
                attributes = dataset_scan.attributes if target == dataset_scan.target else {}
                nodes[target] = describe_group(zarr_format, attributes)
    nodes |= {job.node.target: describe_array(job.array, job.node) for job in jobs if job.path not in failed}
    return dict(list_items(nodes)), describe_root(zarr_format, nodes)


def check_unchanged(scan: SourceScan) -> None:
    """Raise SourceChangedError or SourceNotFoundError if a file changed since it was scanned."""
    for origin in scan.origins:
        check_origin(origin)
    check_external(scan.external_states)


def check_external(states: Mapping[str, FileState]) -> None:
    """Raise SourceChangedError or SourceNotFoundError if files of virtual datasets or external storage changed."""
    for path, before in states.items():
        if before != FileState.of(path):
            raise changed(path)


def check_origin(origin: Origin) -> None:
    """Raise SourceChangedError or SourceNotFoundError if a file changed since its hierarchy was read.

    A file that the caller holds open is flushed first.
    """
    many: object = origin.source
    if isinstance(many, ManyFiles):
        for source in many.sources:
            check_file(source, source.state)
    else:
        check_file(origin.source, origin.hierarchy)


def check_file(source: H5Source, before: Hierarchy | FileState | None) -> None:
    """Raise what `check_origin` raises for one file, of which size and time of modification were those of `before`."""
    file = source.caller_file()
    if file and file.mode != "r":
        file.flush()
    source.check_unchanged()
    if before is None or not before.mtime_ns or source.state is None or source.remote or source.live:
        return
    now = FileState.of(source.path)
    if (source.strict_state or file) and (now.size, now.mtime_ns) != (before.size, before.mtime_ns):
        raise changed(source.path)


def changed(path: str) -> SourceChangedError:
    """Return the error for a file that was written to."""
    return SourceChangedError(f"{path}: the file changed while it was read; parts of it may be of two states")


def list_longest(scan: SourceScan, plan: StorePlan) -> Iterator[str]:
    """Yield the longest key of each group and array."""
    yield from (f"{group.target}/zarr.json" for group in scan.groups)
    for array in plan.arrays:
        last = (count - 1 for count in count_chunks(array.node.shape, array.node.write_shape))
        yield "/".join([array.node.target, "c", *map(str, last)])


@contextmanager
def deleting_partial(target: Target, marker: Marker) -> Iterator[None]:
    """Delete the keys that have not appeared if there is any exception, and the store is still that of this conversion.

    Windows that were read and not used leave them; a killed conversion leaves them to the one that continues it.
    """
    try:
        yield
    except BaseException:
        if marker.is_ours():
            target.keys.delete_partial()
        raise


@contextmanager
def explaining_unfinished(target: Target, again: str = "resume=True") -> Iterator[None]:
    """Add a note to any exception: the store is unfinished, and how to continue, by the option `again`."""
    try:
        yield
    except BaseException as error:
        if target.marker:
            restart = isinstance(error, SourceChangedError) or not target.resumable
            options = "overwrite=True" if restart else f"{again} or overwrite=True"
            smaller = (
                ", and a smaller window=, fewer workers= or smaller shards" if isinstance(error, MemoryError) else ""
            )
            error.add_note(f"{target.url} is unfinished{AGAIN}{options}{smaller}")
        raise
