"""Convert whole HDF5 files to Zarr stores: scan the file, plan, refuse what cannot be converted, and only then write.

::

    scan_source ──► plan_store ──► refuse, or report ──► one dask graph ──► metadata documents, the root's last
                                                            │
                open ──► read[unit] ──► close ──► wait_on[unit] ──► write[unit]      (a window at a time)

The units of all arrays are in one graph, so the source is opened once for each window of memory, not for each dataset;
the first window takes over the file that the scan opened, and all take over a remote one. No chunk appears while a
local source is open: those that are copied into a directory are written at once, under partial names, and renamed.

A process may be killed at any point, a disk may be full, a store may fail: the root's metadata document is written
last, so a store that opens is complete. `verify` refuses an unfinished store, and `convert` does unless it resumes or
overwrites. A resumed conversion writes what is missing, and its store is byte for byte that of an uninterrupted one by
the same versions of the codecs: see :mod:`h5bound.conversion.resume`, and :mod:`h5bound.stores.lock` for how a second
conversion is kept out. A crash of the machine is not covered: nothing is flushed to the disk (fsync).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from h5bound.conversion.batch import convert_all
from h5bound.conversion.folder import place_store
from h5bound.conversion.provenance import list_inputs
from h5bound.conversion.resume import find_name_limits, find_remark
from h5bound.conversion.spill import check_visible, transfer_units
from h5bound.conversion.summary import make_report
from h5bound.conversion.write_store import find_resume_remark, list_longest, write_store
from h5bound.errors import shorten_tracebacks
from h5bound.execution.progress import show_progress, split_progress
from h5bound.execution.run import run_units
from h5bound.execution.scheduler import check_scheduler, expect_threads, runs_on_threads
from h5bound.execution.windows import choose_window, count_windows
from h5bound.execution.work import UnitResult
from h5bound.files.urls import share_options
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.planning.array_options import check_applied
from h5bound.planning.options import SETTINGS, make_settings
from h5bound.planning.run_options import check_conversion, check_limits, check_run
from h5bound.planning.scan import scan_source
from h5bound.planning.store_plan import plan_store, refuse_skipped
from h5bound.reader.source import H5Source
from h5bound.reports.conversion import ALREADY_COMPLETE
from h5bound.stores.conflicts import check_outside, check_report, reporting_failure, write_report
from h5bound.stores.keys import reaching
from h5bound.stores.resolve import open_target
from h5bound.stores.tree import list_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.store import Store

    from h5bound.conversion.keywords import CodecLike, Options, Source, SourceType
    from h5bound.reports.batch import BatchReport
    from h5bound.reports.conversion import ConversionReport


LOGGER = logging.getLogger(__name__)

VERIFY_OPTIONS = ("storage_options", "target_options", "window", "workers", "scheduler", "allow_external")
"""Options that a verification after the conversion shares with it."""


@overload
def convert(
    source: list[SourceType] | tuple[SourceType, ...], target: str | PathLike[str], **options: Unpack[Options]
) -> BatchReport: ...


@overload
def convert(source: Source, target: str | PathLike[str] | Store, **options: Unpack[Options]) -> ConversionReport: ...


@shorten_tracebacks
def convert(
    source: str | PathLike[str] | h5py.File | list[Any] | tuple[Any, ...],
    target: str | PathLike[str] | Store,
    *,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    zarr_format: Literal[2, 3] = 3,
    codecs: CodecLike | Sequence[CodecLike] = "keep",
    nan: Literal["literal", "text"] = "literal",
    compounds: Literal["struct", "columns"] = "struct",
    chunks: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
    shards: str | int | tuple[int, ...] | Mapping[str, str | int | tuple[int, ...]] | None = None,
    names: Literal["exact", "portable"] = "exact",
    links: Literal["keep", "copy"] = "keep",
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
) -> ConversionReport | BatchReport:
    """Convert a whole HDF5 file to a Zarr store without loss, or many files to a store each.

    Stored chunks are copied as they are if Zarr can have the same chunk grid and codecs; all other data is decoded and
    re-encoded. If the file has anything that Zarr cannot hold, an error lists all of it before the first write, or
    it is skipped and listed in the report.

    Parameters
    ----------
    source
        The HDF5 file: a path, a URL that fsspec supports, an open `h5py.File`, which is left open, or a binary file
        object, as for `from_hdf5`. Or a list of them, converted one after another: then `target` is a folder, and each
        ``NAME.h5`` becomes ``NAME.zarr`` in it. A file that fails does not stop the others, and raises nothing: look at
        `complete` or `failed` of the report. Run again with `resume` to convert what is missing.
    target
        The store: a path, a URL that fsspec supports, or a Zarr store object, for example of obstore. Text that ends in
        a slash and is no store is a folder, in which ``NAME.h5`` becomes ``NAME.zarr``. A path that ends
        in ``.zip`` becomes one zip file, which appears once it is complete. The store of a writable icechunk session
        gets one commit, only if the conversion succeeds.
    storage_options
        Options passed to fsspec, such as credentials, where `source` or `target` is a URL. They are never included in
        stores, reports or error messages.
    target_options
        Options passed to fsspec for `target`; None for those in `storage_options`.
    include, exclude
        Globs of paths to convert or to skip, like ``"/entry/*"``. A glob that matches a group selects everything
        in it. What is left out is listed in the report, and is no failure.
    zarr_format
        3 or 2.
    codecs
        ``"keep"`` copies stored chunks where possible. ``"zstd:3"``, ``"blosc-zstd:5"``, ``"blosc-lz4:5"``,
        ``"gzip:5"`` and ``"none"`` encode all data again, as does a codec of numcodecs or zarr, or a list of them:
        Blosc, Zstd, GZip, Zlib, BZ2, Shuffle and Fletcher32, which give back every bit.
    nan
        How attributes have NaN and infinities, which JSON does not know: ``"literal"`` as xarray and hdmf-zarr write
        and read them (icechunk takes text only), or ``"text"`` for readers in other languages.
    compounds
        ``"struct"`` makes an array of each dataset of compounds, if that can hold all members; if not, and with
        ``"columns"`` always, a group with an array for each member, which AnnData and hdmf-zarr do not open.
    chunks
        Shape of the chunks of datasets with as many axes, or a mapping from globs to shapes, of which the first that
        fits applies; None for the chunks of HDF5. Chunks are cut to the shape of the dataset.
    shards
        Size of the shards that chunks are put into (format 3 only): bytes like ``"64 MiB"``, a shape, or a mapping
        from globs to them. Copied chunks are not decoded for that.
    names
        ``"exact"`` keeps each name that Zarr and `target` can hold, which a folder is asked: whether it tells ``Sex``
        from ``sex``. ``"portable"`` also renames what some other system could not hold; AnnData and hdmf-zarr do not
        find such nodes. The report lists them.
    links
        ``"keep"`` keeps soft links and further hard links as links, which most readers of Zarr do not see; ``"copy"``
        puts what they lead to in their place. Links to nothing and in a circle stay links. The report lists them.
    window
        Most bytes of values in memory between reads and writes, but at least a chunk for each thread; None for the dask
        setting ``h5bound.window``, by default 1 GiB. What is read between one open and its close has at most half of
        it, since the next values are read while these are written. It is less where a sixteenth of the data is, but no
        less than 64 MiB and a chunk for each thread, so that keys are written from the beginning. On a cluster this is
        the memory of each worker, whose threads share it.
    temporary
        Directory for temporary files, which are as large as an array in memory. They are needed where `chunks` or
        `shards` differ from the chunks of HDF5 so much that no box of whole ones fits into a window: such an array is
        read in two passes. None for a folder in `target` if that is a directory, else for the system's directory for
        such files. On a cluster all workers have to reach it. Nothing is left in it.
    workers
        Number of threads; on a cluster the number of windows that are processed at once. None for dask's default.
    scheduler
        Address of a dask cluster whose workers can reach `source` and `target`; None for the scheduler in force.
    on_unsupported
        ``"raise"`` refuses a file with objects that cannot be converted, ``"skip"`` skips and lists them.
    resume
        Continue an unfinished conversion of the same source with the same options by the same version; keys that are
        already written are not written again. Start if the target does not exist, and do nothing if it is complete.
    overwrite
        Replace an existing store, or an unfinished one.
    verify
        Compare the store with the source when done.
    report
        Path of a file to write the report to, as JSON; its `error` says why, if the run is refused or fails.
    dry_run
        Return the plan as a report without writing the store. Its `remark` says why the conversion would be refused.
    allow_external
        Directories whose files may be read for external storage and virtual datasets, which are refused without that,
        and for external links, which stay links.
    max_objects, max_depth, max_chunks
        Refuse a source with more objects and links (1,000,000), deeper groups (64) or more chunks (10,000,000).
    progress
        True for a bar in a terminal or notebook; or a function that is called in this thread, now and then, with the
        bytes done and in total: of the data that is in the store by now, as it was held in memory (stored bytes where
        chunks are copied), and of all that is to be written, which with `resume` is what is missing. With `verify` the
        total is twice as much, and the second half is the comparison. Of a list of sources, bytes of their files.

    Returns
    -------
    ConversionReport
        The result for each object. For a list of sources a `BatchReport`: `conversions` has the report of each that was
        converted, `failed` the error of each that was not.

    Raises
    ------
    UnsupportedError, UnsafeSourceError
        The file has objects that cannot be converted; the message lists them. Nothing was written.
    TargetError
        The target exists, holds another conversion, or is being written by another process.
    SourceChangedError
        The file, or another one that it reads, was written to during the conversion. The store is not complete.
    CorruptChunkError
        Data cannot be read. The store is not complete.
    OptionError
        An option has an invalid value, or applies to nothing in the file; or two sources of a list would become one
        store, or the folder is one. Nothing was written.
    Exception
        What the store or the system raises if it cannot be written, with a note on how to continue.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> from pathlib import Path
    >>> directory = Path(tempfile.mkdtemp())
    >>> with h5py.File(directory / "a.h5", "w") as file:
    ...     file.create_dataset("group/x", data=[1, 2, 3], chunks=(2,))
    <HDF5 dataset "x": shape (3,), type "<i8">
    >>> report = convert(directory / "a.h5", directory / "a.zarr")
    >>> [(entry.path, entry.how) for entry in report.converted]
    [('/', None), ('/group', None), ('/group/x', 'copied')]
    >>> zarr.open_group(directory / "a.zarr", mode="r")["group/x"][:]
    array([1, 2, 3])
    """
    options = {name: value for name, value in locals().items() if name not in ("source", "target")}
    started = time.perf_counter()
    settings = make_settings(**{name: options[name] for name in SETTINGS})
    check_conversion(on_unsupported, resume=resume, overwrite=overwrite, verify=verify, dry_run=dry_run)
    limits = check_limits(max_objects=max_objects, max_depth=max_depth, max_chunks=max_chunks)
    checked = check_run(
        source, target, window=window, workers=workers, scheduler=scheduler, allow_external=allow_external,
        report=report, storage_options=storage_options, target_options=target_options, progress=progress,
        temporary=temporary,
    )  # fmt: skip
    skip, window_nbytes = on_unsupported == "skip", checked.window
    if isinstance(source, (list, tuple)):
        return convert_all(source, target, {**options, "report": checked.report}, convert=convert)
    target = place_store(source, target, options)
    file_options, store_options = share_options(
        source, target, storage_options=storage_options, target_options=target_options
    )
    store = open_target(target, settings.zarr_format, store_options)
    settings = settings if store.takes_nan else replace(settings, nan="text")
    store.check_reach(scheduler, writing=True)
    check_scheduler(scheduler)
    file = H5Source.of(source, file_options)
    check_report(checked.report, store, [file.path])
    with reporting_failure(checked.report, store.url), reaching(store.url):
        remark = find_remark(store, file, resume=resume, overwrite=overwrite, dry_run=dry_run)
    # no store is deleted while its source is open here, and on a cluster the file is read elsewhere
    keep = (file.remote or not overwrite) and runs_on_threads(scheduler)
    converting, comparing = split_progress(progress) if verify else (progress, progress)
    with reporting_failure(checked.report, store.url), show_progress(converting) as meter, file.keep_open(keep=keep):
        meter.begin("planning")
        with file.opened() as opened:
            opened.refresh()
            find_limits = partial(find_name_limits, store, resume=resume)
            scan = scan_source(
                file, opened, settings=settings, limits=limits, allowed=checked.allowed, find_name_limits=find_limits
            )
        check_outside(store, scan.list_external_files())
        check_report(checked.report, store, [file.path, *scan.list_external_files()])
        check_applied(scan, settings)
        plan = plan_store(scan, settings, limits, window=window_nbytes, threads=expect_threads(checked.workers))
        check_visible(store, plan, checked.temporary, on_threads=runs_on_threads(scheduler))
        run = partial(
            run_units, sources=scan.sources, window=window_nbytes, workers=checked.workers, scheduler=scheduler,
            direct=not (store.remote or file.remote),
        )  # fmt: skip
        if not skip:
            refuse_skipped(scan.hierarchy.file, plan.skipped)
        store.keys.check_lengths(list_longest(scan, plan))
        written = [UnitResult(unit.array, chunks=len(unit.chunk_coords)) for unit in plan.units]
        failed: dict[str, str] = {}
        file.keeps_open = keep and file.remote  # each open of a remote file takes several requests
        inputs = list_inputs(scan, settings, limits)
        if dry_run and resume and remark in ("", ALREADY_COMPLETE):
            remark = find_resume_remark(store, scan, plan, inputs=inputs, skip=skip) or remark
        if not dry_run:
            transfer = partial(transfer_units, run=run, temporary=checked.temporary, progress=meter)
            meter.begin("converting")
            written, failed = write_store(
                store, scan, plan, inputs=inputs, transfer=transfer, skip=skip, resume=resume, overwrite=overwrite
            )
    sizes = [unit.nbytes for unit in plan.units]
    chosen = choose_window(window_nbytes, sizes, expect_threads(checked.workers))
    result = make_report(
        scan, plan, store, written=written, failed=failed, complete=not dry_run, window=chosen,
        foreign=list_foreign(store) if resume and not dry_run else (),
    )  # fmt: skip
    result = replace(result, seconds=time.perf_counter() - started, remark=remark, windows=count_windows(sizes, chosen))
    LOGGER.info("%s: converted to %s: %s", result.source.path, result.target, result.summary())
    if verify:
        from h5bound._verify import verify as compare

        shared = {name: options[name] for name in VERIFY_OPTIONS}
        with reporting_failure(checked.report, store.url):
            result = replace(result, verification=compare(source, target, **shared, progress=comparing))
    if checked.report is not None:
        write_report(checked.report, result.to_json(), result.summary())
    return result
