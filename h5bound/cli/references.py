"""The command ``h5bound refs``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import click

from h5bound.cli.parameters import (
    ANY_PATH,
    Command,
    allow_external,
    choice,
    html_file,
    json_file,
    option,
    share_forms,
    share_limits,
    share_rules,
    share_verbosity,
    storage_options,
)

RULE_NAMES = ("dim", "new_dim", "overlap", "differing", "attributes", "unpack", "promote", "missing")
"""Options that join files, beside those of their order."""

FORMATS: dict[str | None, Literal[2, 3] | None] = {None: None, "2": 2, "3": 3}
"""Values of ``--zarr-format``."""


@click.command(
    "refs",
    cls=Command,
    short_help="Write references to HDF5 files, which readers open as Zarr.",
    epilog="""
    h5bound refs scan.h5 scan.json
    # where readers will find the file
    h5bound refs scan.h5 scan.json --base-url s3://bucket/scans/
    # a file on a server; only its metadata is read
    h5bound refs s3://bucket/scan.h5 scan.json
    # many files, joined to one store
    h5bound refs 'days/*.nc' year.json --dim time
    # many chunks: kerchunk's parquet form
    h5bound refs scan.h5 scan.parquet
    # an icechunk repository, which notices if the file changes
    h5bound refs scan.h5 scan.icechunk
    # leave out what Zarr cannot hold, and list it
    h5bound refs scan.h5 scan.json --on-unsupported skip --report report.json
    """,
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=ANY_PATH)
@click.argument("target", type=ANY_PATH)
@share_rules
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read.  [default: refuse]")
@option("--include", "GLOB", "Refer only to what GLOB matches (repeatable).  [default: all]", multiple=True)
@option("--exclude", "GLOB", "Leave out what GLOB matches, also of --include (repeatable).", multiple=True)
@option(
    "--zarr-format",
    "[2|3]",
    "Format of the store that readers see. All readers of kerchunk's forms know 2.  [default: 2; in icechunk 3]",
    type=click.Choice(["2", "3"]),
)
@option("--base-url", "URL", "Folder in which readers find SOURCE, or all of them.  [default: where they are now]")
@option(
    "--inline-limit",
    "BYTES",
    "Most bytes of a chunk that has to be encoded anew and is put into TARGET; 1024 times as many in all.",
    default="64 KiB",
    show_default=True,
)
@choice("--on-unsupported", "[raise|skip]", "raise: refuse a file with objects that Zarr cannot hold; skip: skip them.")
@share_forms
@click.option("--overwrite", is_flag=True, help="Replace existing references.  [default: they are kept]")
@share_verbosity
@json_file("--report", text="Write the report to this file as JSON.  [default: no file]")
@html_file
@allow_external
@storage_options
@share_limits
def references_command(
    sources: tuple[str, ...],
    target: str,
    *,
    zarr_format: str | None,
    quiet: bool,
    verbose: int,
    sort: bool | None,
    sort_by: str | None,
    **options: Any,
) -> int:
    """Write references to HDF5 files to TARGET: a Zarr store whose chunks are byte ranges of SOURCE.

    TARGET ends in .json, or in .parquet for kerchunk's form of many references. xarray, zarr and fsspec read both
    (reference://), without h5bound. Or it ends in .icechunk, for a new icechunk repository. Nothing is copied but small
    data that Zarr cannot read as it is stored; where that is large, it is refused and listed; icechunk holds it. SOURCE
    must stay as it is.

    With --dim or --new-dim many files are joined by the rules of h5bound combine. A chunk of the store that is none of
    a file has to be small as well.

    Exit codes: 0 all referred to (what --include or --exclude leaves out does not count), 1 failed, 2 invalid usage, 3
    some files or objects left out and listed.
    """
    from h5bound.cli.display import make_console, show_report
    from h5bound.cli.page import check_page, write_page
    from h5bound.cli.steps import show_steps
    from h5bound.views.references import references

    if not sources:
        raise click.UsageError(f"Name the HDF5 file and the references, like `h5bound refs {target} out.json`.")
    is_joined = options["dim"] is not None or options["new_dim"] is not None
    if len(sources) > 1 and not is_joined:
        raise click.UsageError("Name the dimension along which the files are joined: --dim NAME, or --new-dim NAME.")
    rules = {name: options.pop(name) for name in RULE_NAMES} | {"sort": sort_by or sort}
    given = {name: value for name, value in rules.items() if value not in (None, "refuse")}
    quiet_icechunk(target)
    page = check_page(options.pop("html"), target, sources)
    options = {name: value for name, value in options.items() if value is not None}
    with show_steps(verbose):
        report = references(
            list(sources) if is_joined else sources[0], target, zarr_format=FORMATS[zarr_format],
            progress=not quiet, **options, **given,
        )  # fmt: skip
    write_page(page, report)
    if not quiet:
        show_report(make_console(), report, verbose=verbose > 0)
    return int(report.exit_code)


def quiet_icechunk(target: str) -> None:
    """Make icechunk log errors alone: else it warns of commits of others to the same folder at the same time."""
    if target.endswith(".icechunk"):
        with suppress(ImportError):
            import icechunk

            icechunk.set_logs_filter("error")
