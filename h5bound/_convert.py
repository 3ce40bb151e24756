"""Whole HDF5 files as Zarr stores: read what is there, plan, refuse what cannot be carried, and only then write.

::

    scan_source ──► plan_store ──► refuse, or report ──► one dask graph ──► documents, the root's last
                                                            │
                open ──► read[unit] ──► close ──► wait_on[unit] ──► write[unit]      (a window at a time)

All arrays of the store are one run of units, so that the source is opened once for each window of memory, whatever
the number of datasets. Nothing is written while the source is open.

What is promised of a process that is killed at any point, of a full disk and of a store that fails: the store is marked
complete or it is not, it is marked last, and what is unfinished is refused by `verify` and by a conversion that is not
told to resume or overwrite. A resumed conversion writes what is not there yet, and its store is byte for byte that of
one that was never interrupted (by the same versions of the codecs). :mod:`h5bound.conversion.resume` says how,
:mod:`h5bound.stores.lock` what keeps a second conversion out. A crash of the machine is not among it: nothing is
flushed to the disk (fsync) that the system does not flush by itself, and it may do that in another order.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from h5bound.conversion.preflight import find_unsupported
from h5bound.conversion.provenance import identify
from h5bound.conversion.resume import check_target_state
from h5bound.conversion.summary import describe_source, list_converted, list_skipped
from h5bound.conversion.transfer import TRANSFER
from h5bound.conversion.write_store import list_longest, write_store
from h5bound.execution.cluster import check_scheduler
from h5bound.execution.run import run_units, runs_on_threads
from h5bound.execution.work import UnitResult
from h5bound.graph.windows import window_nbytes
from h5bound.hdf5.external_files import resolve_directories
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS, Limits
from h5bound.lifecycle.kept_open import keep_open
from h5bound.lifecycle.source import open_source
from h5bound.planning.options import check_options, make_settings
from h5bound.planning.scan import scan_source
from h5bound.planning.store_plan import plan_store, refuse
from h5bound.reader.source import H5Source, share_options
from h5bound.reports import ConversionReport
from h5bound.stores.conflicts import check_external_files, check_report, write_report
from h5bound.stores.generic import reaching
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.store import Store

    from h5bound.conversion.transfer import Job
    from h5bound.lifecycle.source import Source
    from h5bound.planning.work_units import Unit


def convert(
    source: str | PathLike[str] | h5py.File,
    target: str | PathLike[str] | Store,
    *,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    zarr_format: Literal[2, 3] = 3,
    codecs: str = "keep",
    chunks: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
    shards: str | int | tuple[int, ...] | Mapping[str, str | int | tuple[int, ...]] | None = None,
    window: int | str | None = None,
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
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Give the report of a conversion of a whole HDF5 file to a Zarr store, exactly.

    Stored chunks are copied as they are where Zarr has the same codecs and the same grid; all else is decoded and
    encoded anew. What Zarr cannot hold is refused before the first write, all of it at once, or listed in the report.

    Parameters
    ----------
    source
        The HDF5 file: a path, a URL that fsspec knows, or an open `h5py.File`, which is left open.
    target
        The store: a path, a URL that fsspec knows, or a Zarr store object, such as obstore's. A path that ends in
        ``.zip`` becomes one zip file, which is there when it is whole. The store of a writable icechunk session gets
        one commit if all goes well, and none otherwise.
    storage_options
        Of fsspec, such as credentials, for the URLs among source and target. They stand in nothing that is written or
        shown.
    target_options
        The same for the target alone, where it needs others.
    include, exclude
        Globs of paths, like ``"/entry/*"``; one that meets a group stands for all below it. What they leave out is
        listed in the report.
    zarr_format
        3 or 2.
    codecs
        ``"keep"``, or the codec that everything is encoded with: ``"zstd:3"``, ``"blosc-zstd:5"``,
        ``"blosc-lz4:5"``, ``"gzip:5"`` or ``"none"``.
    chunks
        Shape of the chunks, for datasets with as many axes, or a mapping from globs to shapes; None for HDF5's.
    shards
        Size of the shards that chunks are put into (format 3): bytes like ``"64 MiB"``, a shape, or a mapping from
        globs to them. Kept chunks stay undecoded in them.
    window
        How many bytes are read between one open and its close, at most, one chunk at the least; None for the dask
        setting ``h5bound.window``, which is 1 GiB by default. Memory stays below about two windows; on a cluster that
        is the memory of each worker, whose threads share the window between them.
    workers
        Threads; on a cluster windows that are worked on at once. None for dask's choice.
    scheduler
        Address of a dask cluster whose workers can reach source and target; None for the scheduler in force.
    on_unsupported
        ``"skip"`` lists in the report what cannot be carried.
    resume
        Go on with an unfinished conversion of the same source with the same options by the same version: what is
        written already is not written again. Begin where there is nothing yet, and do nothing where all is done.
    overwrite
        Replace a store that is there, or an unfinished one.
    verify
        Compare the store with the source afterwards.
    report
        Where to write the report as JSON.
    dry_run
        Plan only; nothing is written but the report.
    allow_external
        Directories from which other files may be read: external storage, virtual datasets, external links.
    max_objects, max_depth, max_chunks
        What the source may have: objects and links, groups within groups, chunks.
    progress
        Called with the bytes that are done and all bytes, now and then.

    Returns
    -------
    ConversionReport
        What became of each object.

    Raises
    ------
    UnsupportedError, UnsafeSourceError
        The file holds what cannot be carried; lists all of it. Nothing was written.
    TargetError
        The target exists, is no unfinished conversion of this source, or is one that another process is at.
    SourceChangedError
        The file, or another that was read for it, was written to while it was converted. The store is not complete.
    CorruptChunkError
        Data cannot be read. The store is not complete.
    Exception
        What a store or the system raises when it cannot be written to: with a note on what is there now.
    OptionError
        An option has a value that it cannot have.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> with h5py.File(folder / "a.h5", "w") as file:
    ...     file.create_dataset("group/x", data=[1, 2, 3], chunks=(2,))
    <HDF5 dataset "x": shape (3,), type "<i8">
    >>> report = convert(folder / "a.h5", folder / "a.zarr")
    >>> [(entry.path, entry.how) for entry in report.converted]
    [('/', None), ('/group', None), ('/group/x', 'copied')]
    >>> zarr.open_group(folder / "a.zarr", mode="r")["group/x"][:]
    array([1, 2, 3])
    """
    started = time.perf_counter()
    settings = make_settings(
        zarr_format=zarr_format, codecs=codecs, chunks=chunks, shards=shards, include=include, exclude=exclude
    )
    check_options(on_unsupported, resume=resume, overwrite=overwrite)
    source_options, target_options = share_options(source, target, storage_options, target_options)
    nbytes = window_nbytes(window)
    place = open_target(target, zarr_format, target_options)
    place.check_reach(scheduler, writing=True)
    check_scheduler(scheduler)
    h5 = H5Source.of(source, source_options)
    check_report(report, place, [h5.path])
    with reaching(place.url):
        check_target_state(place, h5, resume=resume, overwrite=overwrite or dry_run)
    limits = Limits(max_objects, max_depth, max_chunks)
    with keep_open(h5, keep=not overwrite and runs_on_threads(scheduler)) as kept:
        with open_source(kept) as opened:
            scan = scan_source(
                h5, opened, settings=settings, limits=limits, allowed=resolve_directories(allow_external)
            )
        check_external_files(place, scan.list_external_files())
        check_report(report, place, [h5.path, *scan.list_external_files()])
        plan = plan_store(scan, settings, limits, nbytes)
        skip = on_unsupported == "skip"
        sources: list[Source] = [kept, *(origin.source for origin in scan.origins[1:])]
        run = partial(run_units, sources=sources, window=nbytes, workers=workers, scheduler=scheduler)
        if not skip:
            refuse(scan.hierarchy.file, [*plan.skipped, *find_unsupported(scan, plan, run=run, window=nbytes)])
        place.keys.check_lengths(list_longest(scan, plan))
        written = [UnitResult(unit.array, chunks=len(unit.chunk_coords)) for unit in plan.units]
        failed: dict[str, str] = {}
        if not dry_run:

            def transfer(jobs: Sequence[Job], units: Sequence[Unit]) -> list[UnitResult]:
                with kept.last_use():
                    return run(TRANSFER, jobs, units, progress=progress)

            written, failed = write_store(
                place,
                scan,
                plan,
                identity=identify(scan, settings, limits),
                transfer=transfer,
                skip=skip,
                resume=resume,
                overwrite=overwrite,
            )
    result = ConversionReport(
        describe_source(scan),
        place.url,
        complete=not dry_run,
        seconds=time.perf_counter() - started,
        h5bound=version("h5bound"),
        converted=list_converted(scan, plan, written, failed),
        skipped=list_skipped(plan, failed),
        links=scan.links,
        notes=scan.notes,
    )
    if verify and not dry_run:
        from h5bound._verify import verify as compare

        verification = compare(
            source,
            target,
            storage_options=storage_options,
            target_options=target_options,
            window=window,
            workers=workers,
            scheduler=scheduler,
            allow_external=allow_external,
            progress=progress,
        )
        result = replace(result, verification=verification)
    if report is not None:
        write_report(report, result.to_json())
    return result
