"""The keys that `combine` would write of many files: copied chunks are ranges of theirs, all others are encoded."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.combination import plan_combination
from h5bound.combining.file_names import expand_sources
from h5bound.combining.found_files import FoundFiles
from h5bound.combining.scan_files import naming_left_out, scan_files
from h5bound.combining.scan_one import ScanOptions
from h5bound.combining.summary import make_combination_report
from h5bound.errors import OptionError
from h5bound.execution.progress import show_progress
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.planning.store_plan import refuse_skipped
from h5bound.reports.conversion import SERVED
from h5bound.views.contiguous import make_manifest, plan_ranges
from h5bound.views.key_plan import has_ranges, is_object, list_results, make_keys, make_target, split_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.combining.file_scan import FileScan, VariableScan
    from h5bound.combining.join_plan import JoinPlan
    from h5bound.combining.joined import Rules
    from h5bound.combining.stored_chunks import FileChunks
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.source import H5Source
    from h5bound.views.key_plan import ViewOptions
    from h5bound.views.served_keys import ServedKeys

NO_RANGE = 1
"""Filter mask of a chunk of the store that is none of a file."""

SMALLEST = 512
"""Least bytes of a range, but for a whole piece: smaller ones take more in references than in the file."""

WINDOW = 2**30
"""Bytes of a window in the plan, whose work units are not used."""


def plan_joined_keys(
    files: Any,
    view: ViewOptions,
    rules: Rules,
    *,
    storage_options: Mapping[str, Any] | None,
    skip_bad: bool,
    max_open: int,
    progress: Callable[[int, int], None] | bool | None,
    split: bool,
) -> ServedKeys:
    """Return the keys of the store that `combine` would write of files, as :func:`expand_sources` takes them.

    With `split`, contiguous data has chunks that are byte ranges of the files, where there are even ones. `progress` is
    told of the files that were scanned.

    Raise OptionError or UnsupportedError, with all that stands against it, if they cannot be joined.
    """
    settings = view.settings
    for name, value in (("links", settings.links), ("compounds", settings.compounds)):
        if value not in ("keep", "struct"):
            raise OptionError(f"{name}={value!r}: this is for one file; leave it out where files are joined")
    names = expand_sources(files, storage_options)
    options = ScanOptions(
        dim=rules.dim, settings=settings, limits=view.limits, allowed=view.allowed, storage_options=storage_options
    )
    found = FoundFiles(names, options)
    with show_progress(progress) as meter:
        meter.begin("scanning", "files")
        scans, bad = scan_files(found, skip_bad=skip_bad, progress=meter)
    sources = found.open(scans)
    check_fixed(sources)
    with naming_left_out(bad):
        combination = plan_combination(
            sources, scans, rules=rules, options=options, grids={}, window=WINDOW, threads=1, max_open=max_open,
            split=split_joined if split else None,
        )  # fmt: skip
    scan, plan = combination.scan, combination.plan
    if not view.skip:
        refuse_skipped(scan.hierarchy.file, plan.skipped)
    planned = [list_all_chunks(join) for join in combination.joins]
    arrays = (*(array for array, _ in planned), *plan.arrays[len(planned) :])
    target = make_target(settings.zarr_format)
    keys = make_keys(
        target, scan, replace(plan, arrays=arrays), inputs=combination.inputs, tables=combination.tables,
        have_ranges=[False, *map(has_ranges, scan.sources[1:])], files=[files for _, files in planned],
    )  # fmt: skip
    report = make_combination_report(
        combination, target, written=list_results(arrays), complete=False, window=WINDOW, bad=bad, kept=0, units=(),
    )  # fmt: skip
    report = replace(report.complete_with(target=keys.report.target, remark=SERVED), work=())  # nothing is written
    return replace(keys, combination=report)


def check_fixed(sources: Sequence[H5Source]) -> None:
    """Raise OptionError if a file is written to, or is in memory only."""
    for source in sources:
        if not source.is_fixed:
            raise OptionError(
                f"{source.path}: it is open for writing, or in memory only; of many files each has to stay as it is: "
                "close it, and pass its path"
            )


def list_all_chunks(join: JoinPlan) -> tuple[ArrayPlan, NDArray[np.int32]]:
    """Return the plan of an array with all its chunks, and the number of the file of each that is copied.

    Those that are copied come first. All others have a mask in the manifest, if there is one.
    """
    if not len(join.files):
        return join.array, join.files
    copied, more = join.manifest, (0, len(join.array.chunk_coords))
    manifest = ChunkManifest(
        chunk_coords=np.pad(copied.chunk_coords, (more, (0, 0))),
        offsets=np.pad(copied.offsets, more),
        nbytes=np.pad(copied.nbytes, more),
        masks=np.pad(copied.masks, more, constant_values=NO_RANGE),
    )
    coords = np.concatenate([join.coords, join.array.chunk_coords])
    return replace(join.array, chunk_coords=coords, manifest=manifest), join.files


def split_joined(
    scan: SourceScan, stored: Mapping[str, Mapping[int, FileChunks]], files: Sequence[FileScan]
) -> tuple[SourceScan, dict[str, Mapping[int, FileChunks]]]:
    """Return the scan of many files, and what each stores of their variables, with contiguous data as chunks."""
    if any(map(is_object, getattr(scan.sources[0], "sources", ()))):
        return scan, dict(stored)
    found, datasets = dict(stored), []
    for item in split_all(scan).datasets:
        path = item.record.path
        if item.pieces is not None and item.record.layout == "contiguous" and not item.type.reason:
            item, found[path] = split_pieces(item, stored[path], [file.variables.get(path) for file in files])
        datasets.append(item)
    return replace(scan, datasets=tuple(datasets)), found


def split_pieces(
    item: DatasetScan, stored: Mapping[int, FileChunks], variables: Sequence[VariableScan | None]
) -> tuple[DatasetScan, Mapping[int, FileChunks]]:
    """Return a joined dataset, and what each file stores of it, with chunks if its pieces have even ones."""
    pieces, itemsize, shape = item.pieces, item.type.dtype.itemsize, item.shape
    assert pieces is not None
    contiguous = {
        number: (one.offset, one.shape)
        for number, one in enumerate(variables)
        if one is not None and one.offset is not None and stored[number].is_same
    }
    if not contiguous:
        return item, stored
    axis, lengths = pieces.axis, np.diff(pieces.bounds)
    even = int(np.gcd.reduce([*lengths, *pieces.skipped]))
    part = (*shape[:axis], even, *shape[axis + 1 :])
    if even < lengths.max():  # an interval of the axis is in one piece where those before it have one element
        part = (*(1 for _ in range(axis)), *part[axis:])
    chunks = plan_ranges(part, itemsize, room=prod(part) * itemsize)
    if prod(chunks) * itemsize < SMALLEST and chunks[axis] < lengths.max():
        return item, stored
    own = pieces.drop_axis(chunks)
    split = {
        number: replace(stored[number], chunks=own, manifest=make_manifest(whole, own, itemsize, begin=begin))
        for number, (begin, whole) in contiguous.items()
    }
    record = replace(item.record, layout="chunked", chunks=chunks[: len(item.rows)], edge_unfiltered=False)
    return replace(item, record=record), {**stored, **split}
