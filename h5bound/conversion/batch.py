"""Convert many sources into one folder, one after another.

Each ``NAME.h5`` becomes the store ``NAME.zarr`` in the folder. All names are checked before anything is written; then a
source that fails becomes an entry of the report, and the others go on. One source at a time: each already uses all
threads, and what is left of a small one is Python, which two threads do not make faster.
"""

from __future__ import annotations

import os
import time
import unicodedata
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, OptionError, append_notes
from h5bound.execution.progress import show_progress
from h5bound.execution.scheduler import using_cluster
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, redact, strip_local
from h5bound.planning.batch_options import spread_options
from h5bound.reports.batch import BatchReport, Failure
from h5bound.reports.entries import read_version
from h5bound.reports.text import plural
from h5bound.stores.conflicts import check_report, write_report
from h5bound.stores.keys import reaching
from h5bound.stores.lock import MARKER
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from h5bound.execution.work import Progress
    from h5bound.reports.conversion import ConversionReport


NODE_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray")
"""Keys that make a folder a store."""

RESUMABLE = ": convert again with resume=True or overwrite=True"
"""End of the note on an unfinished store, which that on all sources says as well."""

UNKNOWN_NBYTES = 2**20
"""Bytes that the progress counts for each source if no size is known before a source is opened."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and its store in the folder."""

    source: Any
    """The source as it was given."""
    name: str
    """Path or URL of the source, for reports and errors."""
    target: str
    """Path or URL of the store."""
    nbytes: int | None
    """Size of the file; None if it is not known before the file is opened."""


def convert_all(
    sources: Sequence[Any], folder: Any, options: Mapping[str, Any], *, convert: Callable[..., ConversionReport]
) -> BatchReport:
    """Convert each source into the folder, and return one report. `options` are those of `convert`, all of them.

    Raise OptionError or TargetError, before anything is written, if the folder or the names cannot be used.
    """
    started = time.perf_counter()
    pairs = plan_pairs(sources, folder)
    folder = expand_path(folder, "target")
    check_folder(folder, options)
    report = options["report"]
    if report is not None:
        check_batch_report(report, pairs, folder=folder, options=options)
    own_options = spread_options(sources, options)
    conversions: list[ConversionReport] = []
    failed: list[Failure] = []
    with show_progress(options["progress"]) as meter, using_cluster(options["scheduler"]):
        meter.begin("converting")
        progress = BatchProgress(pairs, meter)
        for number, (pair, own) in enumerate(zip(pairs, own_options, strict=True), start=1):
            meter.phase = f"file {number:,} of {len(pairs):,}"  # the bytes beside it are those of the files
            shared = {**options, **choose_options(pair, options), **own, "report": None, "scheduler": None}
            try:
                conversions.append(convert(pair.source, pair.target, **{**shared, "progress": progress.update}))
            except Exception as error:  # noqa: BLE001 - the others are converted, whatever it is
                failed.append(Failure(pair.name, pair.target, describe_error(error)))
            except BaseException as error:
                done = f"{len(conversions):,} of {plural(len(pairs), 'source')} converted"
                notes = [note.removesuffix(RESUMABLE) for note in getattr(error, "__notes__", ())]
                error.__notes__ = [*notes, f"{done}; resume=True converts the rest"]
                raise
            progress.end_source()
    result = BatchReport(
        target=os.fspath(folder),
        seconds=time.perf_counter() - started,
        h5bound=read_version(),
        conversions=tuple(conversions),
        failed=tuple(failed),
    )
    if report is not None:
        write_report(report, result.to_json(), result.summary())
    return result


def plan_pairs(sources: Sequence[Any], folder: Any) -> list[Pair]:
    """Return the store of each source. Raise OptionError if two would be one store, or a source has no name."""
    if not sources:
        raise OptionError("source=[]: name at least one HDF5 file")
    if not isinstance(folder, (str, os.PathLike)):
        raise OptionError(f"target: many sources need a folder, a path or a URL, not {type(folder).__name__}")
    place = expand_path(folder, "target")
    pairs = []
    for source in sources:
        name = name_source(source)
        target = join(place, f"{name_stem(name)}.zarr")
        pairs.append(Pair(source=source, name=show_name(name), target=target, nbytes=find_nbytes(name)))
    check_names(pairs)
    return pairs


def check_names(pairs: Iterable[Pair]) -> None:
    """Raise OptionError if several sources have stores that are one, at least where case does not count."""
    same: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        same[unicodedata.normalize("NFC", pair.target).casefold()].append(pair)
    problems = []
    for group in same.values():
        names = list(dict.fromkeys(pair.name for pair in group))
        if len(group) > 1 and len(names) == 1:
            problems.append(f"{names[0]} is named {len(group)} times; name it once")
        elif len(group) > 1:
            problems.append(
                f"{' and '.join(names)} would become one store, {group[0].target}: convert them into different folders"
            )
    if problems:
        raise OptionError("; ".join(problems))


def name_source(source: Any) -> str:
    """Return the path or URL of a source: a path, a URL, or an open file with a name. Raise OptionError without one."""
    names = [source]
    for attribute in ("filename", "full_name", "name"):  # of h5py.File, fsspec's OpenFile, Python's files
        with suppress(ValueError):  # of a closed h5py.File
            names.append(getattr(source, attribute, None))
    for name in names:
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            return expand_path(name)
    raise OptionError(
        f"source: {source!r} has no name to call its store by; convert it alone, into a store with a name"
    )


def show_name(name: str) -> str:
    """Return the path or URL of a source as reports have it."""
    return redact(name) if is_url(name) else os.path.realpath(strip_local(name))


def name_stem(name: str) -> str:
    """Return the name of a file without its directory and its last suffix.

    >>> [name_stem(name) for name in ("in/run.1.h5", "https://host/a.b.nc?sig=x", "zip://a/b.h5::s3://bucket/c.zip")]
    ['run.1', 'a.b', 'b']
    >>> name_stem("simplecache::https://host/a.h5")
    'a'
    """
    if not is_url(name):
        return PurePath(strip_local(name)).stem
    part = next(part for part in name.split("::") if "://" in part)
    path = part.partition("?")[0].partition("#")[0].partition("://")[2]
    stem = PurePosixPath(path).stem
    if path.endswith("/") or not stem:
        raise OptionError(f"{redact(name)}: this URL does not end in the name of a file")
    return stem


def join(folder: str, name: str) -> str:
    """Return the path or URL of a name in a folder."""
    return f"{folder}{'' if folder.endswith(('/', os.sep)) else '/'}{name}"


def find_nbytes(name: str) -> int | None:
    """Return the size of a local file, None of a URL; 0 if there is none."""
    if is_url(name):
        return None
    try:
        return Path(strip_local(name)).stat().st_size
    except (OSError, ValueError):
        return 0


def holds_store(folder: Any, storage_options: Mapping[str, Any] | None) -> bool:
    """Return whether a folder is a store by itself, or an unfinished one."""
    target = open_target(folder, 3, storage_options, read_only=True)
    with reaching(target.url):
        return any(target.keys.read(key) is not None for key in (*NODE_DOCUMENTS, MARKER))


def is_folder(target: str, options: Mapping[str, Any]) -> bool:
    """Return whether the target of one source is meant as a folder: it ends in a slash, and is not a store."""
    if not target.endswith(("/", os.sep)) or target.rstrip("/" + os.sep).endswith(".zip"):
        return False
    return not holds_store(target, store_options(target, options))


def place_store(source: Any, target: Any, options: Mapping[str, Any]) -> Any:
    """Return the target of one source: where it is meant as a folder, the store of the source's name in it."""
    if not isinstance(target, str) or not is_folder(target, options):
        return target
    return join(target, f"{name_stem(name_source(source))}.zarr")


def check_folder(folder: Any, options: Mapping[str, Any]) -> None:
    """Raise OptionError if the target of many sources is a file or a store."""
    place = os.fspath(folder)
    path = None if is_url(place) else Path(strip_local(place)).absolute()
    if path is not None and path.suffix == ".zip":
        raise OptionError(f"{place}: many sources need a folder; a zip file holds one store")
    for parent in (path, *path.parents) if path is not None else ():
        if parent.exists():
            if not parent.is_dir():
                subject = "this" if parent == path else str(parent)
                raise OptionError(f"{place}: {subject} is a file; many sources need a folder")
            break
    if holds_store(place, store_options(place, options)):
        raise OptionError(f"{place}: this is a Zarr store; many sources need a folder that is none")


def store_options(place: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the options of fsspec for the folder: `storage_options` serve it too if it is a URL."""
    shared: Mapping[str, Any] | None = options.get("storage_options") if is_url(place) else None
    return options.get("target_options") or shared


def choose_options(pair: Pair, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `storage_options` for one source: none where both it and its store are local, though others are not."""
    remote = is_url(pair.name) or is_url(pair.target)
    return {"storage_options": options["storage_options"] if remote else None}


def check_batch_report(report: Path, pairs: Iterable[Pair], *, folder: str, options: Mapping[str, Any]) -> None:
    """Raise OptionError or TargetError if the report could not be written, or would overwrite a file or a store.

    It may be in the folder, which may not exist yet.
    """
    made = None if is_url(folder) or options["dry_run"] else Path(strip_local(folder))
    for pair in pairs:
        target = open_target(pair.target, 3, store_options(pair.target, options))
        check_report(report, target, [pair.name], new_folder=made)


def describe_error(error: Exception) -> str:
    """Return the message of an error with its notes; it names the type of one that is not ours."""
    return append_notes(error, str(error) if isinstance(error, H5BoundError) else f"{type(error).__name__}: {error}")


class BatchProgress:
    """The progress of all sources, in bytes of their files: a source that is half done counts for half of its bytes.

    A source of unknown size counts as much as the mean of the others.

    >>> shown = []
    >>> pairs = [Pair(name, name, target=name, nbytes=size) for name, size in (("a", 300), ("b", 100))]
    >>> progress = BatchProgress(pairs, lambda done, total: shown.append((done, total)))
    >>> progress.update(5, 10), progress.update(0, 10), progress.end_source(), progress.end_source()
    (None, None, None, None)
    >>> shown
    [(150, 400), (300, 400), (400, 400)]
    """

    def __init__(self, pairs: Sequence[Pair], report: Progress) -> None:
        known = [pair.nbytes for pair in pairs if pair.nbytes is not None]
        mean = sum(known) // len(known) if known else UNKNOWN_NBYTES
        self.left = [mean if pair.nbytes is None else pair.nbytes for pair in reversed(pairs)]
        self.total = sum(self.left)
        self.report = report
        self.before = self.done = 0

    def update(self, done: int, total: int) -> None:
        """Report the progress of the source in hand."""
        self._advance(self.before + self.left[-1] * done // max(total, 1))

    def end_source(self) -> None:
        """Report that the source in hand is done, or failed."""
        self.before += self.left.pop()
        self._advance(self.before)

    def _advance(self, done: int) -> None:
        if done > self.done:
            self.done = done
            self.report(done, self.total)
