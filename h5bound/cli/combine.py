"""The command ``h5bound combine``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from h5bound.cli.messages import fail
from h5bound.cli.parameters import (
    ANY_PATH,
    Command,
    choice,
    option,
    parse_rule_options,
    share_access,
    share_limits,
    share_rules,
    share_verbosity,
)
from h5bound.cli.steps import show_steps
from h5bound.reports.text import plural


@click.command(
    "combine",
    cls=Command,
    short_help="Combine many HDF5 files of one shape into one Zarr store.",
    epilog="""
    h5bound combine 'days/*.nc' year.zarr --dim time --verify
    # what differs between the files, and how much is copied
    h5bound combine 'days/*.nc' year.zarr --dim time --dry-run
    # in cron: add the files that are new
    h5bound combine 'days/*.nc' s3://bucket/year.zarr --dim time --append
    # files differ in attributes such as history, and in their packing
    h5bound combine 'days/*.nc' year.zarr --dim time --attributes first --unpack float32
    # a new dimension: each file is one element of it
    h5bound combine runs/*.h5 runs.zarr --new-dim run
    """,
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=ANY_PATH)
@click.argument("target", metavar="TARGET", type=ANY_PATH, default="")
@share_rules
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read.  [default: refuse]")
@click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep what is read of files for the next time, or not.  [default: kept in the folder that the dask setting "
    "h5bound.cache names, or in the user's cache folder]",
)
@click.option("--append", is_flag=True, help="Add the files that are not in TARGET yet.")
@click.option("--update", is_flag=True, help="With --append: write again what comes from files that changed or moved.")
@option("--include", "GLOB", "Combine only what GLOB matches (repeatable).  [default: all]", multiple=True)
@option("--exclude", "GLOB", "Leave out what GLOB matches, also of --include (repeatable).", multiple=True)
@choice("--zarr-format", "[3|2]", "Format of TARGET.")
@option("--codecs", "CODEC", "As for convert.", default="keep", show_default=True)
@option("--chunks", "[GLOB=]SHAPE", "As for convert (repeatable).", multiple=True, callback=parse_rule_options)
@option("--shards", "[GLOB=]SIZE", "As for convert (repeatable).", multiple=True, callback=parse_rule_options)
@option("--temporary", "DIR", "As for convert.", type=click.Path(file_okay=False, writable=True))
@choice("--on-unsupported", "[raise|skip]", "As for convert.")
@choice("--nan", "[literal|text]", "As for convert.")
@choice("--names", "[exact|portable]", "As for convert.")
@click.option("--resume", is_flag=True, help="Continue unfinished work.  [default: it is refused]")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.  [default: it is refused]")
@click.option("--verify", is_flag=True, help="Compare the store with the files when done.  [default: not compared]")
@click.option("--dry-run", is_flag=True, help="Show the plan without writing the store.")
@share_verbosity
@share_access
@share_limits
def combine_command(
    sources: tuple[str, ...],
    target: str,
    zarr_format: str,
    *,
    quiet: bool,
    verbose: int,
    sort: bool | None,
    sort_by: str | None,
    **options: Any,
) -> int:
    """Combine many HDF5 files of one shape into the Zarr store TARGET, exactly.

    SOURCE is a file, or a pattern in quotes like 'days/*.nc', whose matches are sorted by name. Variables with the
    dimension --dim are joined along it, file after file; all others have to be equal in all files. Chunks are copied as
    they are stored where they fall on the chunk grid of TARGET. What differs between the files is refused before
    anything is written, unless an option says what to do.

    Exit codes: 0 all combined, 1 failed or different, 2 invalid usage, 3 some files or objects left out and listed.
    """
    from h5bound._combine import combine
    from h5bound.cli.display import make_console, show_report
    from h5bound.cli.page import check_page, write_page

    if not sources:
        files = shlex.quote(target or "days/*.nc")
        raise click.UsageError(
            f"Name the HDF5 files, then the Zarr store: `h5bound combine {files} out.zarr --dim time`."
        )
    page = check_page(options.pop("html"), target, sources)
    options = {name: value for name, value in options.items() if value is not None}
    options |= {"zarr_format": 3 if zarr_format == "3" else 2, "sort": sort_by or sort, "progress": not quiet}
    with show_steps(verbose):
        report = combine(sources[0] if len(sources) == 1 else list(sources), target, **options)
    write_page(page, report)
    if not quiet:
        show_report(make_console(), report, verbose=verbose > 0)
    compared = report.verification
    if compared is not None and not compared.equal:
        return fail(f"{target}: {plural(len(compared.differences), 'difference')} from the files", code=1)
    return report.exit_code
