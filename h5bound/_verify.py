"""A Zarr store compared with the HDF5 file that it was made from, bit for bit.

The file is read anew, its values by h5py itself where that has the filters and the file is on a disk, and all that is
expected follows from that and from the options of the conversion. Compared are the tree, every attribute, shape, type,
fill value and dimension names of every array, the consolidated metadata, the values wherever the file or the store has
any, and one element where neither has. What the store says was left out for an error is tried again. As in a conversion
the file is open for a window of memory at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from h5bound.conversion.provenance import parse_provenance, read_provenance_text
from h5bound.conversion.write_store import check_unchanged
from h5bound.errors import TargetError
from h5bound.execution.run import run_units, runs_on_threads
from h5bound.graph.windows import window_nbytes
from h5bound.hdf5.external_files import resolve_directories
from h5bound.lifecycle.kept_open import keep_open
from h5bound.lifecycle.source import open_source
from h5bound.planning.scan import scan_source
from h5bound.planning.source_values import cut_units
from h5bound.planning.store_plan import plan_store
from h5bound.reader.source import H5Source, share_options
from h5bound.reports import Difference, VerificationReport
from h5bound.stores.conflicts import check_report, write_report
from h5bound.stores.generic import reaching
from h5bound.stores.metadata import quiet_zarr
from h5bound.stores.resolve import find_target
from h5bound.stores.tree import compare_copies, read_tree
from h5bound.verification.tree import compare_tree
from h5bound.verification.values import COMPARE, list_differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike

    import h5py
    from zarr.abc.store import Store

    from h5bound.execution.work import UnitResult
    from h5bound.lifecycle.source import Source
    from h5bound.verification.nodes import Comparison


def verify(
    source: str | PathLike[str] | h5py.File,
    target: str | PathLike[str] | Store,
    *,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    window: int | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: str | PathLike[str] | None = None,
    allow_external: Sequence[str | PathLike[str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> VerificationReport:
    """Give every difference between a Zarr store and the HDF5 file that it was made from.

    Parameters
    ----------
    source
        The HDF5 file: a path, a URL that fsspec knows, or an open `h5py.File`, which is left open.
    target
        A store that `convert` wrote: its path, its URL, or a Zarr store object.
    storage_options
        Of fsspec, for the URLs among source and target.
    target_options
        The same for the target alone, where it needs others.
    window
        How many bytes are read between one open and its close, as for `convert`.
    workers
        Threads; on a cluster windows that are worked on at once. None for dask's choice.
    scheduler
        Address of a dask cluster; None for the scheduler in force.
    report
        Where to write the report as JSON.
    allow_external
        Directories from which other files may be read, as for the conversion.
    progress
        Called with the bytes that are done and all bytes, now and then.

    Returns
    -------
    VerificationReport
        Equal if there is no difference. What the conversion left out, and said so, is listed and not compared.

    Raises
    ------
    TargetError
        The store is not there, not complete, or not one of h5bound's; or a document of it is damaged. Or it was
        replaced meanwhile, or the report cannot be written where it is wanted.
    SourceNotFoundError, SourceChangedError
        The file is not there, or it or another that was read for it is written to meanwhile.

    Examples
    --------
    >>> import h5py, pathlib, tempfile
    >>> from h5bound import convert
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with h5py.File(folder / "a.h5", "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> _ = convert(folder / "a.h5", folder / "a.zarr")
    >>> verify(folder / "a.h5", folder / "a.zarr").equal
    True
    """
    started = time.perf_counter()
    source_options, target_options = share_options(source, target, storage_options, target_options)
    h5 = H5Source.of(source, source_options)
    place = find_target(target, target_options)
    place.check_reach(scheduler, writing=False)
    check_report(report, place, [h5.path])
    with reaching(place.url):
        provenance, told = parse_provenance(place), read_provenance_text(place)
    nbytes = window_nbytes(window)
    allowed = resolve_directories(allow_external)
    with keep_open(h5, keep=runs_on_threads(scheduler)) as kept:
        with open_source(kept) as opened:
            scan = scan_source(h5, opened, settings=provenance.settings, limits=provenance.limits, allowed=allowed)
        check_report(report, place, scan.list_external_files())
        plan = plan_store(scan, provenance.settings, provenance.limits, nbytes)
        sources: list[Source] = [kept, *(origin.source for origin in scan.origins[1:])]
        with quiet_zarr():
            tree = read_tree(place)
            comparison = compare_tree(scan, plan, tree, provenance, sources)
            for node, what in compare_copies(place, tree.nodes):
                comparison.add(comparison.path_of(node), what)
        units = cut_units([job.values for job in comparison.jobs], comparison.chunk_coords, nbytes)
        with kept.last_use():
            results = run_units(
                COMPARE,
                comparison.jobs,
                units,
                sources=sources,
                window=nbytes,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
            )
    check_unchanged(scan)
    if read_provenance_text(place) != told:
        raise TargetError(f"{place.url}: the store was replaced while it was compared; compare again")
    result = VerificationReport(
        source=h5.path,
        target=place.url,
        arrays=len({job.path for job in comparison.jobs if job.arrays}),
        attributes=comparison.attributes,
        nbytes=sum(item.nbytes for item in results),
        seconds=time.perf_counter() - started,
        differences=(*comparison.differences, *compare_values(comparison, results)),
        skipped=provenance.skipped,
    )
    if report is not None:
        write_report(report, result.to_json())
    return result


def compare_values(comparison: Comparison, results: Sequence[UnitResult]) -> Iterator[Difference]:
    """Yield a difference for each dataset whose values differ, or were left out though they can be read."""
    unreadable = {comparison.jobs[item.array].path for item in results if item.unreadable}
    for path, what in list_differences(comparison.jobs, results).items():
        if path not in comparison.retried:
            yield Difference(path, what)
    for path, reason in comparison.retried.items():
        if path not in unreadable:
            yield Difference(path, f"not in the store, and its report says why, but it can be read: {reason}")
