"""Convert many sources into one folder, one after another.

All names are checked before anything is written; then a source that fails becomes an entry of the report, and the
others go on. One source at a time: each already uses all threads, and what is left of a small one is Python, which two
threads do not make faster.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h5bound.conversion.folder import Pair, check_folder, plan_pairs, store_options
from h5bound.conversion.write_store import AGAIN
from h5bound.errors import H5BoundError, append_notes
from h5bound.execution.progress import show_progress
from h5bound.execution.scheduler import using_cluster
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, strip_local
from h5bound.planning.batch_options import spread_options
from h5bound.reports.batch import BatchReport, Failure
from h5bound.reports.entries import read_version
from h5bound.reports.text import plural
from h5bound.stores.conflicts import check_report, write_report
from h5bound.stores.resolve import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from h5bound.execution.work import Progress
    from h5bound.reports.conversion import ConversionReport


RESUMABLE = f"{AGAIN}resume=True or overwrite=True"
"""End of the note on an unfinished store, which that on all sources says as well."""

UNKNOWN_NBYTES = 2**20
"""Bytes that the progress counts for each source if no size is known before a source is opened."""


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
            local = not (is_url(pair.name) or is_url(pair.target))  # though others may not be
            shared = {**options, **({"storage_options": None} if local else {}), **own}
            shared |= {"report": None, "scheduler": None}
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
