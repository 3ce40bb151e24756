"""Compare a Zarr store with the HDF5 file that it was made from, bit for bit.

The file is scanned and planned again with the options of the conversion: the store must equal the plan. The tree,
all attributes, the shape, type, fill value and dimension names of every array, and the consolidated metadata are
compared, then all values that the file or the store holds, and one element of each array that has none. Values are read
by h5py itself where it has the filters and the file is local. Datasets that the store lists as unreadable are tried
again. As in a conversion, the file is open for one window at a time; values are compared while it is, and what is found
counts once the close has found the file unchanged.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from h5bound.combining.verify_files import verify_files
from h5bound.conversion.provenance import describe_other_source, parse_provenance, read_provenance
from h5bound.conversion.write_store import check_unchanged
from h5bound.errors import OptionError, TargetError, naming, shorten_tracebacks
from h5bound.execution.progress import show_progress
from h5bound.execution.run import run_units
from h5bound.execution.scheduler import expect_threads, runs_on_threads
from h5bound.files.urls import share_options
from h5bound.planning.run_options import check_run
from h5bound.planning.scan import scan_source
from h5bound.planning.store_plan import plan_store
from h5bound.reader.source import H5Source
from h5bound.reports.verification import VerificationReport
from h5bound.stores.conflicts import check_report, reporting_failure, write_report
from h5bound.stores.keys import reaching
from h5bound.stores.resolve import find_target
from h5bound.stores.tree import read_tree
from h5bound.verification.results import check_same_store, list_all_differences
from h5bound.verification.tree import compare_documents, compare_tree
from h5bound.verification.two_passes import compare_values
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.store import Store

    from h5bound.stores.target import Target


LOGGER = logging.getLogger(__name__)


@shorten_tracebacks
def verify(
    source: str | PathLike[str] | h5py.File | Sequence[str | PathLike[str] | h5py.File],
    target: str | PathLike[str] | Store,
    *,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    window: int | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: str | PathLike[str] | None = None,
    allow_external: Sequence[str | PathLike[str]] = (),
    progress: Callable[[int, int], None] | bool | None = None,
) -> VerificationReport:
    """Compare a Zarr store with the HDF5 file that it was made from, bit for bit.

    Parameters
    ----------
    source
        The HDF5 file: a path, a URL that fsspec supports, an open `h5py.File`, which is left open, or a
        binary file object, as for `from_hdf5`. Of a store that `combine` wrote all files, as they were passed to it.
    target
        A store that `convert` or `combine` wrote: a path, a URL that fsspec supports, or a Zarr store object.
    storage_options
        Options passed to fsspec, such as credentials, where `source` or `target` is a URL.
    target_options
        Options passed to fsspec for `target`; None for those in `storage_options`.
    window
        Most bytes that are read between one open and its close; None for the dask setting ``h5bound.window``.
    workers
        Number of threads; on a cluster the number of windows that are processed at once. None for dask's default.
    scheduler
        Address of a dask cluster; None for the scheduler in force.
    report
        Path of a file to write the report to, as JSON.
    allow_external
        Directories whose files may be read, as for `convert`.
    progress
        True for a bar in a terminal or notebook; or a function that is called in this thread, now and then, with the
        bytes compared and in total.

    Returns
    -------
    VerificationReport
        All differences. Objects that the conversion skipped are listed again and not compared.

    Raises
    ------
    TargetError
        The store does not exist, is not complete, was not written by h5bound, has a damaged metadata document, or was
        replaced during the comparison; or the report cannot be written.
    SourceNotFoundError, SourceChangedError
        The file does not exist; or the file, or another one that it reads, was written to during the comparison.
    OptionError
        An option has an invalid value.

    Examples
    --------
    >>> import h5py, pathlib, tempfile
    >>> from h5bound import convert
    >>> directory = pathlib.Path(tempfile.mkdtemp())
    >>> with h5py.File(directory / "a.h5", "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> _ = convert(directory / "a.h5", directory / "a.zarr")
    >>> verify(directory / "a.h5", directory / "a.zarr").equal
    True
    """
    started = time.perf_counter()
    checked = check_run(
        source, target, window=window, workers=workers, scheduler=scheduler, allow_external=allow_external,
        report=report, storage_options=storage_options, target_options=target_options, progress=progress,
    )  # fmt: skip
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    file_options, store_options = share_options(
        first, target, storage_options=storage_options, target_options=target_options
    )
    store = find_target(target, store_options)
    store.check_reach(scheduler, writing=False)
    with reaching(store.url):
        document = read_provenance(store)
    check_sources(source, document, store)
    if "combined" in document:
        return verify_files(source, store, document, checked=checked, file_options=file_options, progress=progress)
    file = H5Source.of(source, file_options)
    check_report(checked.report, store, [file.path])
    provenance = parse_provenance(store, document)
    settings, limits = provenance.settings, provenance.limits
    keep = runs_on_threads(scheduler)
    with reporting_failure(checked.report, store.url), show_progress(progress) as meter, file.keep_open(keep=keep):
        meter.begin("planning")
        with file.opened() as opened:
            scan = scan_source(file, opened, allowed=checked.allowed, **provenance.scan_options)
        check_report(checked.report, store, scan.list_external_files())
        other = describe_other_source(provenance, scan)
        with naming(other or "the settings of the store", OptionError, raising=TargetError):
            plan = plan_store(scan, settings, limits, window=checked.window, threads=expect_threads(checked.workers))
        with quiet_zarr():
            tree = read_tree(store)
            comparison = compare_tree(scan, plan, tree, provenance=provenance)
            compare_documents(comparison, store)
        units = comparison.cut(checked.window)
        file.keeps_open = file.keeps_open and file.remote
        meter.begin("comparing")
        run = partial(
            run_units, sources=scan.sources, window=checked.window, workers=checked.workers, scheduler=scheduler,
            direct=not (store.remote or file.remote),
        )  # fmt: skip
        results = compare_values(comparison.jobs, units, run=run, progress=meter)
    check_unchanged(scan)
    check_same_store(store, document)
    result = VerificationReport(
        source=file.path,
        target=store.url,
        arrays=len({job.path for job in comparison.jobs if job.arrays}),
        attributes=comparison.attributes,
        nbytes=sum(item.nbytes for item in results),
        seconds=time.perf_counter() - started,
        differences=(differences := tuple(list_all_differences(comparison, results, other))),
        skipped=provenance.skipped,
        foreign=tuple(tree.foreign),
        remark=other if differences else "",
    )
    LOGGER.info("%s: compared with %s: %s", result.target, result.source, result.summary())
    if checked.report is not None:
        write_report(checked.report, result.to_json(), result.summary())
    return result


def check_sources(source: Any, document: Mapping[str, Any], store: Target) -> None:
    """Raise OptionError if many files are named of a store that was made from one."""
    if isinstance(source, (list, tuple)) and "combined" not in document:
        raise OptionError(f"source={source!r}: {store.url} was made from one file; name that")
