"""The command ``h5bound check``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from h5bound.cli.parameters import (
    ANY_PATH,
    Command,
    allow_external,
    html_file,
    json_file,
    limit,
    option,
    share_limits,
    share_verbosity,
    storage_options,
)
from h5bound.cli.steps import show_steps

if TYPE_CHECKING:
    from h5bound.reports.check import CheckReport


@click.command(
    "check",
    cls=Command,
    epilog="""
    h5bound check scan.h5
    # many files; in a script the exit code tells
    h5bound check scans/*.h5 --quiet && echo whole
    # what is damaged, as JSON
    h5bound check scan.h5 --report damages.json
    # a part of the file; with the files of virtual datasets
    h5bound check scan.h5 --include /entry/data --allow-external .
    h5bound check s3://bucket/scan.h5
    """,
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=ANY_PATH)
@option("--include", "GLOB", "Check only what GLOB matches (repeatable).  [default: all]", multiple=True)
@option("--exclude", "GLOB", "Leave out what GLOB matches, also of --include (repeatable).", multiple=True)
@share_verbosity
@limit("--workers", text="Threads.  [default: one for each CPU]")
@option("--scheduler", "ADDRESS", "Run on the dask cluster at ADDRESS.  [default: threads of this process]")
@json_file("--report", text="Write what was found to this file as JSON.  [default: no file]")
@html_file
@allow_external
@storage_options
@share_limits
def check_command(
    files: tuple[str, ...], *, quiet: bool, verbose: int, report: str | None, html: str | None, **options: Any
) -> int:
    """Say what of HDF5 FILEs is damaged: objects, attributes, chunks.

    Each object is opened, each attribute read, and each stored chunk decoded. Chunks with a checksum (fletcher32, gzip,
    bzip2) match it or are damaged. Other compressed chunks can be decoded or not, which finds most damage. Data that is
    neither can only be read: nothing tells whether it is right. The numbers of each are shown.

    Of a truncated file, all that is left is checked: what is listed as damaged is lost.

    Exit codes: 0 whole, 1 something is damaged, 2 a file is no HDF5 file, or cannot be opened, or invalid usage, 3
    nothing is damaged, but objects were not checked, and are listed (what --exclude leaves out does not count).
    """
    from h5bound._check import check
    from h5bound.cli.messages import explain, fail
    from h5bound.cli.page import check_page, write_digest
    from h5bound.errors import H5BoundError, OptionError
    from h5bound.planning.run_options import check_report_path
    from h5bound.reports.check import digest_checks, summarize_checks
    from h5bound.reports.entries import REPORT_VERSION
    from h5bound.stores.conflicts import check_report, write_report

    place = None if report is None else check_report_path(report)
    check_report(place, None, files)
    page = check_page(html, None, files)
    options = {name: value for name, value in options.items() if value is not None}
    reports: list[CheckReport] = []
    failed: list[dict[str, str]] = []
    with show_steps(verbose):
        for file in files:
            try:
                reports.append(check(file, progress=not quiet, **options))
            except OptionError:
                raise
            except H5BoundError as error:
                failed.append({"source": file, "error": str(error)})
                fail(explain(error), code=2)
                continue
            if not quiet:
                show_check(reports[-1], file if len(files) > 1 else "", verbose=verbose > 0)
    if len(files) > 1 and not quiet:
        click.echo(summarize_checks(reports, [item["source"] for item in failed]))
    if place is not None:
        entries = [item.to_dict() for item in reports]
        document = (
            entries[0]
            if len(files) == 1 and entries
            else {"version": REPORT_VERSION, "reports": entries, "failed": failed}
        )
        write_report(place, json.dumps(document, indent=2) + "\n", f"{len(entries)} of {len(files)} files were checked")
    if page is not None:
        digest = digest_checks(reports, {item["source"]: item["error"] for item in failed})
        write_digest(page, digest, f"{len(reports)} of {len(files)} files were checked")
    codes = {item.exit_code for item in reports}
    return 2 if failed else next((code for code in (1, 3) if code in codes), 0)


def show_check(report: CheckReport, file: str, *, verbose: bool) -> None:
    """Print the report of a file, with its name if it is one of many, of which a whole one takes one line."""
    from h5bound.cli.display import make_console, show_report
    from h5bound.reports.text import printable

    if file and report.exit_code == 0 and not verbose:
        click.echo(f"{printable(file)}: {report.summary()}")
        return
    click.echo(f"{printable(file)}:" if file else "", nl=bool(file))
    show_report(make_console(), report, verbose=verbose)
