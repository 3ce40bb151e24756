"""The command ``h5bound demo``."""

from __future__ import annotations

from pathlib import Path

import click

from h5bound.cli.parameters import Command, share_verbosity
from h5bound.cli.steps import show_steps
from h5bound.reports.text import format_nbytes


@click.command(
    "demo",
    cls=Command,
    epilog="""
    # write, convert and verify a file in ./h5bound-demo
    h5bound demo
    h5bound demo try
    """,
)
@click.argument("directory", default="h5bound-demo", type=click.Path(file_okay=False, path_type=Path))
@share_verbosity
def demo_command(directory: Path, *, quiet: bool, verbose: int) -> int:
    """Write an HDF5 file, convert it to Zarr, and verify it.

    DIRECTORY is ./h5bound-demo if it is not given. It then holds demo.h5 (about 60 MB of values) and demo.zarr. Run
    again, the command replaces these two; files that it did not make are never replaced.
    """
    from h5bound._convert import convert
    from h5bound.cli.demo_file import is_demo, list_next_steps, write_demo
    from h5bound.cli.display import make_console, show_report
    from h5bound.errors import TargetError

    directory.mkdir(parents=True, exist_ok=True)
    source, target = directory / "demo.h5", directory / "demo.zarr"
    repeated = is_demo(source)
    for path in (source, target):
        if path.exists() and not repeated:
            raise TargetError(f"{path}: exists and was not made by h5bound demo; choose another directory")
    again = ", in place of that of an earlier demo" if repeated else ""
    with show_steps(verbose):
        write_demo(source)
        if not quiet:
            click.echo(f"1. wrote the HDF5 file {source} ({format_nbytes(source.stat().st_size)}){again}")
        report = convert(source, target, overwrite=repeated, verify=True, progress=not quiet)
    if quiet:
        return report.exit_code
    click.echo(f"2. converted it to the Zarr store {target} and compared the two:\n")
    show_report(make_console(), report, verbose=verbose > 0)
    click.echo("\n3. what to try next:\n")
    click.echo("\n".join(list_next_steps(source, target)))
    return report.exit_code
