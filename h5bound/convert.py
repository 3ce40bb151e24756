"""Whole HDF5 files as Zarr stores: read what is there, plan, refuse what cannot be carried, and only then write.

::

    read_survey ──► plan_store ──► refuse, or report ──► one dask graph ──► documents, the root's last
                                                            │
                open ──► read[unit] ──► close ──► wait_on[unit] ──► write[unit]      (a window at a time)

All arrays of the store are one run of units, so that the source is opened once for each window of memory, whatever
the number of datasets. Nothing is written while the source is open.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dask

from h5bound.errors import TargetError
from h5bound.outside import list_allowed
from h5bound.report import ConversionReport, Skipped
from h5bound.run import run_units
from h5bound.settings import (
    MAX_CHUNKS,
    MAX_DEPTH,
    MAX_OBJECTS,
    Limits,
    OptionError,
    make_settings,
    parse_nbytes,
)
from h5bound.source import H5Source
from h5bound.store import (
    begin,
    check_place,
    check_unchanged,
    describe_source,
    finish,
    identify,
    list_converted,
    list_failed,
    make_jobs,
    plan_store,
    refuse,
    split_written,
)
from h5bound.survey import read_survey
from h5bound.target import Target, quiet_zarr
from h5bound.transfer import TRANSFER, Written
from h5bound.units import UNIT_NBYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py

    from h5bound.store import StorePlan


def convert(
    source: str | PathLike[str] | h5py.File,
    target: str | PathLike[str],
    *,
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
        The HDF5 file: a path, or an open `h5py.File`, which is left open.
    target
        The store: a path, or a URL that fsspec knows.
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
        setting ``h5bound.window``, which is 1 GiB by default. Memory stays below about two windows.
    workers
        Threads; None for dask's choice.
    scheduler
        Address of a dask cluster whose workers can reach source and target; None for the scheduler in force.
    on_unsupported
        ``"skip"`` lists in the report what cannot be carried.
    resume
        Go on with an unfinished conversion of the same source with the same options.
    overwrite
        Replace a store that is there.
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
        The target exists, or is no unfinished conversion of this source.
    SourceChangedError
        The file was written to while it was converted. The store is not complete.
    CorruptChunkError
        Data cannot be read. The store is not complete.
    OptionError
        An option has a value that it cannot have.

    Examples
    --------
    >>> import h5py, tempfile, zarr
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
    check_report(report)
    nbytes = window_nbytes(window)
    place = Target(str(target), zarr_format)
    h5 = H5Source.of(source)
    check_place(place, h5, resume=resume or dry_run, overwrite=overwrite)
    limits = Limits(max_objects, max_depth, max_chunks)
    survey = read_survey(h5, settings, limits, list_allowed(allow_external))
    plan = plan_store(survey, settings, limits, min(UNIT_NBYTES, max(nbytes // 8, 1)))
    skip = on_unsupported == "skip"
    if not skip:
        refuse(survey.index.file, plan.skipped)
    written = [Written(unit.array, len(unit.cells), 0) for unit in plan.units]
    failed: dict[str, str] = {}
    if not dry_run:
        identity = identify(survey, settings, limits)
        with quiet_zarr():
            jobs = make_jobs(place, survey, plan.arrays, skip=skip)
        begin(place, identity, resume=resume, overwrite=overwrite)
        left, written = split_written(place, jobs, plan.units) if resume else (list(plan.units), [])
        written += run_units(
            [origin.source for origin in survey.origins],
            TRANSFER,
            jobs,
            left,
            window=nbytes,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
        failed = list_failed(jobs, written)
        for origin in survey.origins:
            check_unchanged(origin)
        finish(place, survey, jobs, list_skipped(plan, failed), failed, identity)
    result = ConversionReport(
        describe_source(survey),
        place.url,
        complete=not dry_run,
        seconds=time.perf_counter() - started,
        h5bound=version("h5bound"),
        converted=list_converted(survey, plan, written, failed),
        skipped=list_skipped(plan, failed),
        links=survey.links,
        notes=survey.notes,
    )
    if verify and not dry_run:
        from h5bound.verify import verify as compare

        verification = compare(
            source,
            target,
            window=window,
            workers=workers,
            scheduler=scheduler,
            allow_external=allow_external,
            progress=progress,
        )
        result = replace(result, verification=verification)
    if report is not None:
        Path(report).write_text(result.to_json(), encoding="utf-8")
    return result


def check_report(report: str | PathLike[str] | None) -> None:
    """Refuse a place where the report could not be written in the end.

    Raises
    ------
    TargetError
        It is a folder, or its folder is not there or cannot be written to.
    """
    if report is None:
        return
    path = Path(report).absolute()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise TargetError(f"{path}: no report can be written there; name a file in a folder that can be written to")


def check_options(on_unsupported: str, *, resume: bool, overwrite: bool) -> None:
    """Refuse options that make no sense.

    Raises
    ------
    OptionError
        An option has a value that it cannot have.
    """
    if on_unsupported not in ("raise", "skip"):
        raise OptionError(f"on_unsupported={on_unsupported!r}: it is 'raise' or 'skip'")
    if resume and overwrite:
        raise OptionError("resume and overwrite: pass one of them")


def window_nbytes(window: int | str | None) -> int:
    """Give the bytes of a window: as passed, or as dask is configured."""
    return parse_nbytes(dask.config.get("h5bound.window", "1 GiB") if window is None else window, "window")


def list_skipped(plan: StorePlan, failed: Mapping[str, str]) -> tuple[Skipped, ...]:
    """Give everything that is not in the store."""
    return (*plan.skipped, *(Skipped(path, reason) for path, reason in failed.items()))
