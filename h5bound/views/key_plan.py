"""Plan the keys of a view as a conversion does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from h5bound.conversion.provenance import list_inputs
from h5bound.conversion.summary import make_report
from h5bound.conversion.write_store import describe_store, make_jobs
from h5bound.execution.work import UnitResult
from h5bound.files.file_objects import ObjectLocation
from h5bound.planning.array_options import check_applied
from h5bound.planning.scan import scan_source
from h5bound.planning.store_plan import StorePlan, plan_all, refuse_skipped
from h5bound.reports.conversion import SERVED
from h5bound.stores.metadata import dump
from h5bound.stores.resolve import open_target
from h5bound.views.contiguous import split_contiguous
from h5bound.views.served_array import ServedArray
from h5bound.views.served_keys import SCHEME, ServedKeys
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from h5bound.combining.joined import Rules
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.reader.source import H5Source
    from h5bound.stores.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """The options of a view, checked."""

    settings: Settings
    limits: Limits
    allowed: tuple[Path, ...]
    """Real paths of directories whose files may be read."""
    skip: bool
    """Whether what Zarr cannot hold is left out."""
    rules: Rules | None
    """How many files are joined; None for one file."""


def plan_keys(source: H5Source, options: ViewOptions, *, split: bool = False) -> ServedKeys:
    """Return the keys of the store that a conversion of a file would write.

    With `split`, contiguous data has chunks that are byte ranges of the file, which a conversion encodes.

    Raise UnsupportedError or UnsafeSourceError if there is something that cannot be converted, unless it is
    skipped, and OptionError if a glob matches nothing.
    """
    settings, limits = options.settings, options.limits
    with source.keep_open(keep=True):
        with source.opened() as opened:
            scan = scan_source(source, opened, settings=settings, limits=limits, allowed=options.allowed)
        check_applied(scan, settings)
        have_ranges = [has_ranges(origin.source) for origin in scan.origins]
        scan = split_all(scan) if split else scan
        arrays, skipped = plan_all(scan, settings, limits)
        plan = StorePlan(tuple(arrays), (), tuple(skipped))
        if not options.skip:
            refuse_skipped(scan.hierarchy.file, skipped)
    return make_keys(
        make_target(settings.zarr_format), scan, plan, inputs=list_inputs(scan, settings, limits),
        have_ranges=have_ranges,
    )  # fmt: skip


def make_target(zarr_format: Literal[2, 3]) -> Target:
    """Return a store that is never written, for the form of its keys."""
    from zarr.storage import MemoryStore

    return open_target(MemoryStore(), zarr_format, None)


def make_keys(
    target: Target,
    scan: SourceScan,
    plan: StorePlan,
    *,
    inputs: Mapping[str, Any],
    have_ranges: Sequence[bool],
    tables: Mapping[str, Any] = MappingProxyType({}),
    files: Sequence[NDArray[np.int32]] = (),
) -> ServedKeys:
    """Return the keys of a plan. `files` are those of `ServedArray`, of the first arrays."""
    jobs = make_jobs(target, scan, plan, skip=False)
    nodes, root, provenance = describe_store(
        target.zarr_format, scan, jobs, failed=(), skipped=plan.skipped, written={}, inputs=inputs
    )
    items = {**nodes, OWN_KEY: {**provenance, **tables}, **root}
    report = make_report(scan, plan, target, written=list_results(plan.arrays), failed={}, complete=False, window=0)
    records = {item.record.path: item.record for item in scan.datasets}
    served = {
        job.node.target: ServedArray(
            number=number,
            plan=array,
            job=job,
            record=records[array.path],
            files=files[number] if number < len(files) else None,
        )
        for number, (array, job) in enumerate(zip(plan.arrays, jobs, strict=True))
    }
    return ServedKeys(
        documents={key: dump(document) for key, document in items.items()},
        arrays=served,
        sources=scan.sources,
        have_ranges=have_ranges,
        report=replace(report, target=f"{SCHEME}{scan.sources[0].path}", remark=SERVED),
        external_states=scan.external_states,
        zarr_format=target.zarr_format,
    )


def list_results(arrays: Sequence[ArrayPlan]) -> list[UnitResult]:
    """Return the results that arrays would have if all their chunks were written."""
    return [UnitResult(number, chunks=len(array.chunk_coords)) for number, array in enumerate(arrays)]


def split_all(scan: SourceScan) -> SourceScan:
    """Return the scan with contiguous data as chunks, of all files whose bytes may be read without HDF5."""
    datasets = list(scan.datasets)
    for number, origin in enumerate(scan.origins):
        if not has_ranges(origin.source):
            continue
        with origin.source.opened() as opened:
            datasets = [
                split_contiguous(opened, origin.locate(item.record.path), item) if item.origin == number else item
                for item in datasets
            ]
    return replace(scan, datasets=tuple(datasets))


def has_ranges(source: H5Source) -> bool:
    """Return whether bytes of a file may be read without HDF5: no file object, and no file that somebody writes."""
    if not source.is_fixed or is_object(source):
        return False
    if source.remote:
        return True
    with source.opened() as opened:
        return opened.bytes is not None


def is_object(source: H5Source) -> bool:
    """Return whether a file is a Python object, which is read through HDF5."""
    return isinstance(source.location, ObjectLocation)
