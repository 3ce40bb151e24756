"""Verify a store that was combined from many files: they are scanned, joined and planned again."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from h5bound.combining.combination import plan_combination
from h5bound.combining.combined_store import find_grids
from h5bound.combining.compare import verify_combination
from h5bound.combining.file_names import expand_sources
from h5bound.combining.found_files import FoundFiles
from h5bound.combining.joined import Rules
from h5bound.combining.scan_files import refuse_bad, scan_files
from h5bound.combining.scan_one import ScanOptions
from h5bound.conversion.provenance import FORM_ERRORS, parse_provenance, unusable
from h5bound.errors import TargetError
from h5bound.execution.progress import show_progress
from h5bound.execution.run import run_units
from h5bound.execution.scheduler import expect_threads
from h5bound.reports.text import plural
from h5bound.stores.conflicts import check_report, reporting_failure, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from h5bound.planning.run_options import RunOptions
    from h5bound.reports.verification import VerificationReport
    from h5bound.stores.target import Target

MAX_OPEN = 16
"""Most files that are open at a time: they are read through HDF5, which keeps 8 MiB of chunks for each dataset."""


def verify_files(
    sources: Any,
    store: Target,
    document: Mapping[str, Any],
    *,
    checked: RunOptions,
    file_options: Mapping[str, Any] | None,
    progress: Callable[[int, int], None] | bool | None,
) -> VerificationReport:
    """Compare a store with the files that it was combined from; `document` is its provenance.

    Raise TargetError if it is not complete, or its provenance is damaged.
    """
    provenance = parse_provenance(store, document)
    try:
        rules = Rules(**document["combined"]["rules"])
    except FORM_ERRORS as error:
        raise unusable(store, error) from error
    files = expand_sources(sources, file_options)
    options = ScanOptions(
        dim=rules.dim, settings=provenance.settings, limits=provenance.limits, allowed=checked.allowed,
        storage_options=file_options,
    )  # fmt: skip
    found = FoundFiles(files, options)
    check_report(checked.report, store, found.names)
    with reporting_failure(checked.report, store.url), show_progress(progress) as meter:
        meter.begin("scanning", "files")
        shown = meter if progress is True else None  # a function is told of bytes
        scans, bad = scan_files(
            found, workers=checked.workers, scheduler=checked.scheduler, progress=shown, skip_bad=True
        )
        if bad and len(scans) < len(document["combined"]["files"]):  # else the store was made without them
            raise refuse_bad(bad, len(files), skip_bad=True)
        meter.begin("planning")
        combination = plan_combination(
            found.open(scans), scans, rules=rules, options=options, grids=find_grids(store, None),
            window=checked.window, threads=expect_threads(checked.workers), max_open=MAX_OPEN,
        )  # fmt: skip
        check_names(store, document, combination.inputs)
        meter.begin("comparing")
        run = partial(
            run_units, sources=combination.scan.sources, window=checked.window, workers=checked.workers,
            scheduler=checked.scheduler, direct=not (store.remote or found.first.remote),
        )  # fmt: skip
        result = verify_combination(combination, store, run=run, window=checked.window, progress=meter)
    if checked.report is not None:
        write_report(checked.report, result.to_json(), result.summary())
    return result


def check_names(store: Target, document: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raise TargetError if a store is not of as many files, of these names in this order."""
    theirs, ours = ([entry["path"] for entry in item["combined"]["files"]] for item in (document, inputs))
    if theirs != json.loads(json.dumps(ours)):
        only = [*(f"{name} is not in the store" for name in ours if name not in theirs)]
        only += [f"{name} of the store is not among them" for name in theirs if name not in ours]
        raise TargetError(
            f"{store.url}: {plural(len(ours), 'file')} given, but the store was made of {len(theirs):,}: "
            f"{only[0] if only else 'their order is another one'}; name the files that it was made of"
        )
