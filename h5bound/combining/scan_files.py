"""Scan many files: each once, and not again while it is in the same state; on all cores, or on a cluster.

HDF5 and Python have one lock each for the whole process, so that threads scan no faster than one. Many local files are
scanned by processes of their own, which take a second to start. Files of servers are scanned by threads, which wait at
the same time.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.combining.file_names import name_file
from h5bound.combining.scan_form import ScanDecoder
from h5bound.combining.scan_one import describe_error, scan_one, scan_paths
from h5bound.combining.scan_worker import scan_in_processes
from h5bound.errors import H5BoundError, OptionError
from h5bound.execution.scheduler import expect_threads, find_client, runs_on_threads
from h5bound.files.local import LocalLocation
from h5bound.files.scan_cache import open_cache, split
from h5bound.files.urls import is_url, redact
from h5bound.reports.many_files import BadFile
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from h5bound.combining.file_scan import FileScan
    from h5bound.combining.found_files import FoundFiles
    from h5bound.combining.scan_one import Scanned, ScanOptions
    from h5bound.files.file_state import FileState
    from h5bound.files.scan_cache import CachedScan
    from h5bound.reader.source import H5Source

    Results = Iterator[tuple[int, Scanned]]

LOGGER = logging.getLogger(__name__)

KIND = "files"
"""Kind of the entries of the cache."""

BATCH = 50
"""Files that a process or a worker scans at a time."""

FEWEST = 300
"""Files for each process: to start one takes longer than to scan fewer."""

THREADS = 16
"""Files of servers that are scanned at the same time."""

SHOWN = 10
"""Bad files that the error lists."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file as the user named it, with its source."""

    path: str
    """Path or URL as it was given."""
    source: H5Source | None
    """Its source; None if there is none."""
    error: str = ""
    """Why there is none."""

    @property
    def key(self) -> str:
        """The name of its record in the cache."""
        return "" if self.source is None else str(self.source.location.key)

    @property
    def state(self) -> FileState | None:
        """Its state, if that tells whether a record still holds."""
        return self.source.state if self.source is not None and self.source.strict_state else None

    @property
    def is_local(self) -> bool:
        """Whether another process of this machine can open it by its path."""
        source = self.source
        return source is not None and isinstance(source.location, LocalLocation) and source.caller_file() is None


def scan_files(
    files: FoundFiles,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    cache: bool = True,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[FileScan, ...], tuple[BadFile, ...]]:
    """Return the records of files in their order, and the files that are left out since they cannot be read.

    `workers` is the number of processes. `progress` is called with the number of files that are done, and of all.

    Raise H5BoundError, with the names, if files cannot be read, unless `skip_bad`; OptionError if two are the same.
    """
    named, options = [locate(file, files.find) for file in files.given], files.options
    check_twice(named)
    bad = {i: file.error for i, file in enumerate(named) if file.error}
    store, version, decoder = open_cache(enabled=cache), options.make_version(), ScanDecoder()
    states = {file.key: file.state for file in named if file.state is not None}
    scans = find_known(named, store.get_many(KIND, version, states), decoder)
    LOGGER.info("%s: %s known from the cache", plural(len(named), "file"), f"{len(scans):,}")
    fresh: list[tuple[str, FileState, CachedScan]] = []
    try:
        left = [i for i in range(len(named)) if i not in scans and i not in bad]
        for i, item in run_scans(named, left, options, workers=workers, scheduler=scheduler):
            if item.entry is None:
                bad[i] = item.error
            else:
                scans[i] = decoder.decode(item.entry, named[i].path, item.state)
                if item.alone and item.state is not None and item.state == named[i].state:
                    fresh.append((named[i].key, item.state, item.entry))
            if progress is not None:
                progress(len(scans) + len(bad), len(named))
    finally:
        store.put_many(KIND, version, fresh)
    left_out = tuple(BadFile(show(named[i].path), bad[i]) for i in sorted(bad))
    if bad and (not skip_bad or not scans):
        raise refuse_bad(left_out, len(named), skip_bad=skip_bad)
    return tuple(scans[i] for i in sorted(scans)), left_out


def find_known(
    named: Sequence[NamedFile], known: Mapping[str, CachedScan], decoder: ScanDecoder
) -> dict[int, FileScan]:
    """Return the records from the cache by the numbers of their files, without those of another form."""
    scans = {}
    for i, file in enumerate(named):
        entry = known.get(file.key)
        if entry is not None:
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                scans[i] = decoder.decode(entry, file.path, file.state)
    return scans


def locate(file: Any, find: Callable[[Any], H5Source]) -> NamedFile:
    """Return a file with its source, which `find` returns; it is not opened."""
    name = name_file(file)
    try:
        return NamedFile(name, find(file))
    except OptionError:
        raise
    except Exception as error:  # noqa: BLE001 - all files that cannot be read are told together
        return NamedFile(name, None, describe_error(error))


def check_twice(named: Sequence[NamedFile]) -> None:
    """Raise OptionError if one file has two names."""
    first: dict[str, str] = {}
    for file in named:
        if file.source is None or file.source.state is None:
            continue
        other = first.setdefault(file.key, file.path)
        if other is not file.path:
            raise OptionError(f"sources: {show(other)} and {show(file.path)} are one file; name each file once")


def show(path: str) -> str:
    """Return a path or URL without secrets."""
    return redact(path) if is_url(path) else path


def run_scans(
    named: Sequence[NamedFile],
    left: Sequence[int],
    options: ScanOptions,
    *,
    workers: int | None,
    scheduler: str | None,
) -> Results:
    """Yield the records of the files of some numbers, each with its number."""
    with find_client(scheduler) as client:
        if client is not None:
            here = [i for i in left if not (named[i].is_local or is_url(named[i].path))]
            yield from run_on_cluster(client, named, sorted(set(left) - set(here)), options=options)
            left = here
    local = [i for i in left if named[i].is_local]
    count = min(workers or expect_threads(None), len(local) // FEWEST) if runs_on_threads(None) else 1
    if count > 1:
        batches = list(split(local, BATCH))
        paths = [[named[i].key for i in batch] for batch in batches]
        for number, results in scan_in_processes(paths, options, count):
            yield from zip(batches[number], results, strict=True)
        left = [i for i in left if not named[i].is_local]
    yield from run_here(named, left, options)


def run_here(named: Sequence[NamedFile], left: Sequence[int], options: ScanOptions) -> Results:
    """Yield the records of files that are scanned in this process: those of servers by threads."""
    remote = [i for i in left if is_url(named[i].path)]
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            futures = {threads.submit(scan_one, named[i].source, options): i for i in remote}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            threads.shutdown(cancel_futures=True)
    for i in left:
        if not is_url(named[i].path):
            yield i, scan_one(named[i].source, options)


def run_on_cluster(client: Any, named: Sequence[NamedFile], left: Sequence[int], *, options: ScanOptions) -> Results:
    """Yield the records of files that the workers of a cluster scan, which see them by the same paths."""
    from distributed import as_completed as as_they_end

    batches = list(split(left, BATCH))
    names = [[file.path if is_url(file.path) else file.key for file in map(named.__getitem__, b)] for b in batches]
    futures = client.map(scan_paths, names, options=options, pure=False)
    numbers = {future.key: number for number, future in enumerate(futures)}
    try:
        for future, results in as_they_end(futures, loop=client.loop, with_results=True):
            yield from zip(batches[numbers[future.key]], results, strict=True)
    finally:
        client.cancel(futures)


def refuse_bad(bad: Sequence[BadFile], count: int, *, skip_bad: bool) -> H5BoundError:
    """Return the error for files that cannot be read, of which it lists some."""
    advice = "" if skip_bad or len(bad) == count else "; skip_bad=True leaves them out"
    return H5BoundError("\n".join([f"{len(bad):,} of {plural(count, 'file')} cannot be read{advice}", *list_bad(bad)]))


def list_bad(bad: Sequence[BadFile]) -> list[str]:
    """Return a line for each of the first bad files, with its error, and one for the others."""
    lines = [item.error if item.path in item.error else f"{item.path}: {item.error}" for item in bad[:SHOWN]]
    return lines + ([f"… and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else [])


@contextmanager
def naming_left_out(bad: Sequence[BadFile]) -> Iterator[None]:
    """Add the bad files that are left out to the refusal of the others."""
    try:
        yield
    except H5BoundError as error:
        if bad:
            error.add_note("\n".join([f"left out: {plural(len(bad), 'file')} that cannot be read", *list_bad(bad)]))
        raise
