"""The command ``h5bound verify``."""

from __future__ import annotations

from typing import Any

import click

from h5bound.cli.parameters import ANY_PATH, Command, share_access, share_verbosity
from h5bound.cli.steps import show_steps


@click.command(
    "verify",
    cls=Command,
    epilog="""
    h5bound verify scan.h5 scan.zarr
    # in a script: nothing on stdout, the exit code tells
    h5bound verify scan.h5 scan.zarr --quiet && echo equal
    # a store of many files
    h5bound verify 'days/*.nc' year.zarr
    """,
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=ANY_PATH)
@click.argument("target", type=ANY_PATH)
@share_verbosity
@share_access
def verify_command(sources: tuple[str, ...], target: str, *, quiet: bool, verbose: int, **options: Any) -> int:
    """Compare the Zarr store TARGET with the HDF5 file SOURCE. Values and attributes are equal if all bits are.

    Of a store that combine wrote, name all files.

    What the conversion skipped is listed and not compared. `h5bound convert SOURCE... FOLDER/ --resume --verify`
    compares many files with their stores, and converts those that are missing.

    Exit codes, as those of cmp: 0 equal, 1 different, 2 they cannot be compared, or invalid usage.
    """
    from h5bound._verify import verify
    from h5bound.cli.display import make_console, show_report
    from h5bound.cli.page import check_page, write_page

    if not sources:
        raise click.UsageError(f"Name the HDF5 file and the Zarr store, like `h5bound verify scan.h5 {target}`.")
    page = check_page(options.pop("html"), target, sources)
    with show_steps(verbose):
        result = verify(sources[0] if len(sources) == 1 else list(sources), target, progress=not quiet, **options)
    write_page(page, result)
    if not quiet:
        show_report(make_console(), result, verbose=verbose > 0)
    return result.exit_code
