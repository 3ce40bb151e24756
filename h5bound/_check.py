"""Check whether an HDF5 file is whole: open each object, read each attribute, decode each stored chunk."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from h5bound.checking.opening import guard_source
from h5bound.checking.structure import read_structure
from h5bound.checking.values import CHECK, list_damages
from h5bound.conversion.write_store import check_external
from h5bound.errors import shorten_tracebacks
from h5bound.execution.progress import show_progress
from h5bound.execution.run import run_units
from h5bound.execution.scheduler import runs_on_threads
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.planning.options import Settings, parse_globs
from h5bound.planning.run_options import check_limits, check_run
from h5bound.reader.source import H5Source
from h5bound.reports.check import CheckReport
from h5bound.reports.entries import read_version
from h5bound.stores.conflicts import check_report, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py

LOGGER = logging.getLogger(__name__)


@shorten_tracebacks
def check(
    path: str | PathLike[str] | h5py.File,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_external: Sequence[str | PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    max_objects: int = MAX_OBJECTS,
    max_depth: int = MAX_DEPTH,
    max_chunks: int = MAX_CHUNKS,
    report: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
) -> CheckReport:
    """Return what of an HDF5 file is damaged.

    Each object is opened, each attribute is read, and each stored chunk is decoded, by all threads; a check goes on
    after each damage. A thread holds one chunk, or a few small ones. Values of variable length are read through HDF5.
    Of a truncated file, all that is left is checked.

    What a check can say depends on how data is stored. Chunks with a checksum (fletcher32, gzip, bzip2) match it or
    are damaged. Other compressed chunks can be decoded or not, which finds most damage. Of data that is neither, a
    check only says that it can be read. The report has the numbers of each.

    Parameters
    ----------
    path
        The HDF5 file: a path, a URL that fsspec supports, an open `h5py.File`, or a binary file object.
    include, exclude
        Globs of the paths to check, or to leave out, as for `convert`.
    allow_external
        Directories whose files may be read for virtual datasets, external storage and external links. Datasets that
        need other files are listed as not checked. What a link leads to in another file is checked if it is allowed.
    storage_options
        Options passed to fsspec, such as credentials, where `path` is a URL.
    workers
        Number of threads; None for dask's default.
    scheduler
        Address of a dask cluster; None for the scheduler in force.
    max_objects, max_depth, max_chunks
        Refuse a file with more objects and links, deeper groups, or more chunks than this.
    report
        Path of a file to write the report to, as JSON.
    progress
        True for a bar in a terminal or notebook; or a function that is called in this thread, now and then, with the
        bytes checked and in total.

    Returns
    -------
    CheckReport
        `whole`; `damages`, each with the path of the object, the slice of the dataset that is lost, where its bytes
        are in the file, and the reason; and what was not checked.

    Raises
    ------
    SourceNotFoundError, H5BoundError
        The file does not exist, is no HDF5 file, or cannot be opened.
    SourceChangedError
        The file was written to during the check.
    UnsafeSourceError
        The file exceeds a limit.
    OptionError
        An option has an invalid value, or a glob matches nothing.

    Examples
    --------
    >>> import h5py, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     x = file.create_dataset("x", data=range(100), chunks=(50,), compression="gzip")
    ...     offset = x.id.get_chunk_info(1).byte_offset
    >>> check(path).whole
    True
    >>> with path.open("r+b") as file:
    ...     _ = file.seek(offset + 20), file.write(b"damage")
    >>> [(damage.path, damage.region, damage.offset == offset) for damage in check(path).damages]
    [('/x', '[50:100]', True)]
    """
    started = time.perf_counter()
    checked = check_run(
        path, None, window=None, workers=workers, scheduler=scheduler, allow_external=allow_external, report=report,
        storage_options=storage_options, target_options=None, progress=progress,
    )  # fmt: skip
    settings = Settings(include=parse_globs(include, "include"), exclude=parse_globs(exclude, "exclude"))
    limits = check_limits(max_objects=max_objects, max_depth=max_depth, max_chunks=max_chunks)
    source = guard_source(H5Source.of(path, storage_options))
    check_report(checked.report, None, [source.path])
    with show_progress(progress) as meter, source.keep_open(keep=runs_on_threads(scheduler)):
        meter.begin("planning")
        structure = read_structure(source, settings=settings, limits=limits, allowed=checked.allowed)
        check_report(checked.report, None, structure.list_external_files())
        meter.begin("checking")
        results = run_units(
            CHECK, structure.jobs, structure.units, sources=structure.sources, window=checked.window,
            workers=checked.workers, scheduler=scheduler, direct=not source.remote, progress=meter,
        )  # fmt: skip
    check_external(structure.external_states)
    damages, unnamed, unread = list_damages(structure.jobs, results, [source.path for source in structure.sources])
    result = CheckReport(
        source=source.path,
        seconds=time.perf_counter() - started,
        h5bound=read_version(),
        groups=structure.groups,
        datasets=structure.datasets,
        attributes=structure.attributes,
        summed=structure.summed,
        decoded=structure.decoded,
        plain=structure.plain,
        damages=(*structure.damages, *damages),
        unnamed=unnamed,
        unchecked=(*structure.log.skipped, *unread),
        notes=tuple(structure.log.notes),
    )
    LOGGER.info("%s: %s", result.source, result.summary())
    if checked.report is not None:
        write_report(checked.report, result.to_json(), result.summary())
    return result
