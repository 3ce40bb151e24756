"""The option ``--html``: the report as one page."""

from __future__ import annotations

import glob
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from h5bound.cli.messages import name_options
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, strip_local
from h5bound.planning.run_options import check_report_path
from h5bound.reports.html_page import render_page
from h5bound.stores.conflicts import check_report, write_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.reports.digest import Digest
    from h5bound.reports.report import Report


def check_page(html: str | None, target: str | None, sources: Sequence[str], *, is_folder: bool = False) -> Path | None:
    """Return the path of the page, None for no page. Raise OptionError if it could not be written at the end."""
    if html is None:
        return None
    path = check_report_path(html, "html")
    place = None if target is None or is_url(target) else Path(strip_local(expand_path(target, "target")))
    folder, store = (place, None) if is_folder else (None, place)
    check_report(path, store, list_files(sources), new_folder=folder, option="html")
    return path


def list_files(sources: Sequence[str]) -> Iterator[str]:
    """Yield the local files that are read, of a pattern those that match it; whether there are any is checked later."""
    for source in sources:
        name = strip_local(expand_path(source, "sources"))
        yield name
        if not is_url(name):
            yield from glob.iglob(name, recursive=True)  # noqa: PTH207 - as the sources are expanded


def write_page(path: Path | None, report: Report) -> None:
    """Write the page of a report; nothing without a path."""
    if path is not None:
        write_digest(path, report.digest(), report.summary())


def write_digest(path: Path, digest: Digest, outcome: str) -> None:
    """Write a page, with options as they are typed. If that fails, the error has the outcome."""
    words = cache(name_options)
    digest = replace(digest, sections=tuple(section.reword(words) for section in digest.sections))
    write_report(path, render_page(digest), outcome)
