"""Combine many HDF5 files into one Zarr store.

::

    scan each file ──► join by the rules ──► plan ──► refuse, or report ──► one dask graph ──► metadata, the root's last

Nothing is written before all files are scanned; then one error lists everything that stands against joining them.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from h5bound.combining.append import append_store, split_units
from h5bound.combining.changes import find_changes
from h5bound.combining.combination import plan_combination
from h5bound.combining.combined_store import find_combined, find_grids
from h5bound.combining.compare import verify_combination
from h5bound.combining.differences import name_files
from h5bound.combining.file_names import expand_sources
from h5bound.combining.found_files import FoundFiles
from h5bound.combining.rule_options import make_rules
from h5bound.combining.scan_files import naming_left_out, scan_files
from h5bound.combining.scan_one import ScanOptions
from h5bound.combining.stored_files import NEW, add_stored
from h5bound.combining.summary import make_combination_report
from h5bound.conversion.resume import find_remark
from h5bound.conversion.spill import check_visible, transfer_units
from h5bound.conversion.write_store import list_longest, write_store
from h5bound.errors import OptionError, shorten_tracebacks
from h5bound.execution.progress import show_progress, split_progress
from h5bound.execution.run import run_units
from h5bound.execution.scheduler import check_scheduler, expect_threads, runs_on_threads
from h5bound.execution.windows import choose_window
from h5bound.execution.work import UnitResult
from h5bound.files.urls import share_options
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.planning.options import make_settings
from h5bound.planning.run_options import check_conversion, check_limits, check_run
from h5bound.planning.store_plan import refuse_skipped
from h5bound.reports.conversion import ALREADY_COMPLETE
from h5bound.stores.conflicts import check_outside, check_report, reporting_failure, write_report
from h5bound.stores.keys import reaching
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.store import Store

    from h5bound.combining.append import Appended
    from h5bound.combining.combination import Combination
    from h5bound.conversion.keywords import CodecLike
    from h5bound.planning.run_options import RunOptions
    from h5bound.reports.combination import CombinationReport
    from h5bound.stores.target import Target

LOGGER = logging.getLogger(__name__)


@shorten_tracebacks
def combine(
    sources: str | PathLike[str] | h5py.File | Sequence[str | PathLike[str] | h5py.File],
    target: str | PathLike[str] | Store,
    *,
    dim: str | None = None,
    new_dim: str | None = None,
    sort: bool | str | None = None,
    overlap: Literal["refuse", "first", "last"] = "refuse",
    differing: Literal["refuse", "first", "drop"] = "refuse",
    attributes: Literal["refuse", "first", "table"] = "refuse",
    unpack: Literal["float32", "float64"] | None = None,
    promote: bool = False,
    missing: Literal["refuse", "fill"] = "refuse",
    skip_bad: bool = False,
    cache: bool = True,
    append: bool = False,
    update: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    zarr_format: Literal[2, 3] = 3,
    codecs: CodecLike | Sequence[CodecLike] = "keep",
    chunks: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
    shards: str | int | tuple[int, ...] | Mapping[str, str | int | tuple[int, ...]] | None = None,
    nan: Literal["literal", "text"] = "literal",
    names: Literal["exact", "portable"] = "exact",
    window: int | str | None = None,
    temporary: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    on_unsupported: Literal["raise", "skip"] = "raise",
    resume: bool = False,
    overwrite: bool = False,
    verify: bool = False,
    report: str | PathLike[str] | None = None,
    dry_run: bool = False,
    allow_external: Sequence[str | PathLike[str]] = (),
    max_objects: int = MAX_OBJECTS,
    max_depth: int = MAX_DEPTH,
    max_chunks: int = MAX_CHUNKS,
    progress: Callable[[int, int], None] | bool | None = None,
) -> CombinationReport:
    """Combine many HDF5 files of one shape into one Zarr store, exactly.

    Variables with the dimension `dim` are joined along it, file after file; all others have to be equal in all files.
    Stored chunks are copied as they are where they fall on the chunk grid of the store; only chunks with elements of
    several files are decoded. What differs between the files is refused, in one table, unless an option says what to
    do.

    Parameters
    ----------
    sources
        The files: a list of paths, URLs or open `h5py.File`, or text with ``*``, whose matches are sorted by name.
    target
        The store, as for `convert`.
    dim
        The dimension along which files are joined.
    new_dim
        In place of `dim`: the name of a new dimension, along which each file has one element.
    sort
        True to order the files by the coordinate of `dim`, or the path of another variable to order them by. Else they
        are joined in the order in which they are given: False takes any, None refuses one in which the coordinate is
        not sorted.
    overlap
        Which file has the values where several have the same coordinate: ``"first"`` or ``"last"``.
    differing
        What becomes of variables without `dim` that are not equal in all files: ``"first"`` takes those of the first
        file, ``"drop"`` leaves them out.
    attributes
        What becomes of attributes that differ: ``"first"`` takes those of the first file, ``"table"`` keeps them by
        file in ``h5bound.json``, and not in the attributes of the store.
    unpack
        Type of variables whose packing (``scale_factor``, ``add_offset``) differs: they are decoded as xarray does.
    promote
        True to join different types in the one that holds all their values.
    missing
        ``"fill"`` gives variables that some files lack ``_FillValue`` or ``missing_value`` there, else the fill value
        of HDF5.
    skip_bad
        True to leave out files that cannot be read, and list them.
    cache
        Whether what is read of the files before they are joined is kept in the user's cache folder, and taken from it
        for files that are in the same state.
    append
        True to add the files that are not in the store yet. Those that are there need not be named, and may be gone.
        Readers see the old store until all is written. Options stay those of the store; only where one of `overlap`,
        `differing`, `attributes`, `unpack`, `promote` and `missing` refused what differs, it may say what to do from
        now on, and `exclude` may name what the store does not have.
    update
        With `append`: True to write again what comes from files that changed or grew, or that come to another place
        since a file is added before them. Readers may meet old and new values meanwhile where values that they see are
        replaced.
    storage_options, target_options, include, exclude, zarr_format, codecs, chunks, shards, nan, names
        As for `convert`.
    window, temporary, workers, scheduler, on_unsupported, resume, overwrite, verify, report, dry_run, allow_external,
    progress
        As for `convert`.
    max_objects, max_depth, max_chunks
        Refuse a file with more objects and links, deeper groups, or a store with more chunks than this.

    Returns
    -------
    CombinationReport
        The files, what differs, and the result for each array.

    Raises
    ------
    OptionError, UnsupportedError
        The files cannot be joined, unless an option says how. The `differences` of the error has all that differs.
        Nothing was written.
    UnsafeSourceError, TargetError, SourceChangedError, CorruptChunkError
        As for `convert`.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> from pathlib import Path
    >>> directory = Path(tempfile.mkdtemp())
    >>> for day in range(2):
    ...     with h5py.File(directory / f"day{day}.h5", "w") as file:
    ...         file["time"] = [24 * day, 24 * day + 12]
    ...         file["time"].make_scale("time")
    ...         file["t"] = [280.0 + day, 285.0 + day]
    ...         file["t"].dims[0].attach_scale(file["time"])
    >>> report = combine(f"{directory}/day*.h5", directory / "days.zarr", dim="time")
    >>> zarr.open_group(directory / "days.zarr", mode="r")["t"][:]
    array([280., 285., 281., 286.])
    """
    started = time.perf_counter()
    settings = make_settings(
        zarr_format=zarr_format, codecs=codecs, chunks=chunks, shards=shards, include=include, exclude=exclude,
        nan=nan, names=names, compounds="struct", links="keep",
    )  # fmt: skip
    rules = make_rules(
        dim=dim, new_dim=new_dim, sort=sort, overlap=overlap, differing=differing, attributes=attributes,
        unpack=unpack, promote=promote, missing=missing, zarr_format=settings.zarr_format,
    )  # fmt: skip
    check_conversion(
        on_unsupported, resume=resume, overwrite=overwrite, verify=verify, dry_run=dry_run, append=append,
        update=update, skip_bad=skip_bad, cache=cache,
    )  # fmt: skip
    check_append(append=append, update=update, resume=resume, overwrite=overwrite)
    limits = check_limits(max_objects=max_objects, max_depth=max_depth, max_chunks=max_chunks)
    checked = check_run(
        [], target, window=window, workers=workers, scheduler=scheduler, allow_external=allow_external,
        report=report, storage_options=storage_options, target_options=target_options, progress=progress,
        temporary=temporary,
    )  # fmt: skip
    files = expand_sources(sources, storage_options)
    file_options, store_options = share_options(
        files[0], target, storage_options=storage_options, target_options=target_options
    )
    store = open_target(target, settings.zarr_format, store_options)
    settings = settings if store.takes_nan else replace(settings, nan="text")
    store.check_reach(scheduler, writing=True)
    check_scheduler(scheduler)
    found = FoundFiles(
        files, ScanOptions(dim=rules.dim, settings=settings, limits=limits, allowed=checked.allowed,
        storage_options=file_options),
    )  # fmt: skip
    check_report(checked.report, store, found.names)
    check_outside(store, found.list_local(), role="source")
    converting, comparing = split_progress(progress) if verify else (progress, progress)
    with reporting_failure(checked.report, store.url), show_progress(converting) as meter:
        before = find_combined(store, rules=rules, settings=settings) if append else None
        resume = resume or append  # a first run that was killed is continued
        remark = ""
        if before is None:
            with reaching(store.url):
                remark = find_remark(store, found.first, resume=resume, overwrite=overwrite, dry_run=dry_run)
        meter.begin("scanning", "files")
        scans, bad = scan_files(
            found, workers=checked.workers, scheduler=scheduler, skip_bad=skip_bad, cache=cache,
            progress=meter if progress is True else None,
        )  # fmt: skip
        meter.begin("planning")
        all_files = add_stored(before, scans, sources=found.open(scans), rules=rules)
        with naming_left_out(bad):
            combination = plan_combination(
                all_files.sources, all_files.scans, rules=rules, options=found.options, grids=find_grids(store, before),
                window=checked.window, threads=expect_threads(checked.workers), store=before,
            )  # fmt: skip
            check_combination(store, combination, checked, skip=on_unsupported == "skip", scheduler=scheduler)
        run = partial(
            run_units, sources=combination.scan.sources, window=checked.window, workers=checked.workers,
            scheduler=scheduler, direct=not (store.remote or found.first.remote),
        )  # fmt: skip
        changes = None if before is None else find_changes(before, combination, all_files.numbers, update=update)
        remark = ALREADY_COMPLETE if changes is not None and changes.is_done else remark
        meter.begin("combining" if changes is None else "adding" if changes.only_adds else "updating")
        written = [UnitResult(unit.array, chunks=len(unit.chunk_coords)) for unit in combination.plan.units]
        appended: Appended | None = None
        if changes is not None and changes.is_done:
            arrays, nbytes = enumerate(combination.plan.arrays), changes.store.written
            written += [UnitResult(i, nbytes=nbytes.get(array.node.target, 0)) for i, array in arrays]
        elif not dry_run:
            transfer = partial(transfer_units, run=run, temporary=checked.temporary, progress=meter)
            if changes is not None:
                appended = append_store(combination, changes, transfer=transfer)
                written = appended.results
            else:
                written, _ = write_store(
                    store, combination.scan, combination.plan, inputs=combination.inputs, transfer=transfer,
                    skip=False, resume=resume, overwrite=overwrite, tables=combination.tables,
                    message=name_files([file.path for file in combination.files]),
                )  # fmt: skip
    new = combination.plan.units if changes is None else split_units(combination, changes)[0]
    chosen = choose_window(checked.window, [unit.nbytes for unit in new], expect_threads(checked.workers))
    result = make_combination_report(
        combination, store, written=written, complete=not dry_run, window=chosen, bad=bad,
        kept=0 if changes is None else int(changes.kept.sum()), units=new, appended=appended,
        added=None if changes is None else int((all_files.numbers == NEW).sum()),
    )  # fmt: skip
    result = result.complete_with(seconds=time.perf_counter() - started, remark=remark)
    LOGGER.info("%s: %s", store.url, result.summary())
    if verify:
        with reporting_failure(checked.report, store.url), show_progress(comparing) as meter:
            meter.begin("comparing")
            compared = verify_combination(combination, store, run=run, window=checked.window, progress=meter)
        result = result.complete_with(verification=compared)
    if checked.report is not None:
        write_report(checked.report, result.to_json(), result.summary())
    return result


def check_append(*, append: bool, update: bool, resume: bool, overwrite: bool) -> None:
    """Raise OptionError if options exclude each other."""
    if append and (resume or overwrite):
        other = "resume" if resume else "overwrite"
        raise OptionError(f"append=True and {other}=True exclude each other; pass one of them")
    if update and not append:
        raise OptionError("update=True: pass append=True too; it writes again what comes from files that changed")


def check_combination(
    store: Target, combination: Combination, checked: RunOptions, *, skip: bool, scheduler: str | None
) -> None:
    """Raise an error if the plan cannot be carried out. Nothing was written."""
    scan, plan = combination.scan, combination.plan
    check_outside(store, scan.external_states)
    check_visible(store, plan, checked.temporary, on_threads=runs_on_threads(scheduler))
    if not skip:
        refuse_skipped(scan.hierarchy.file, plan.skipped)
    store.keys.check_lengths(list_longest(scan, plan))
