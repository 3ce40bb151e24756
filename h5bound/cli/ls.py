"""The command ``h5bound ls``."""

from __future__ import annotations

from typing import Any

import click

from h5bound.cli.parameters import ANY_PATH, Command, storage_options


@click.command(
    "ls",
    cls=Command,
    short_help="Show what an HDF5 FILE holds, and how it is stored.",
    epilog="""
    # the tree, with dimensions, types, chunks, filters and sizes
    h5bound ls scan.h5
    h5bound ls scan.h5 | grep lzf
    # a group or a dataset, with its attributes
    h5bound ls scan.h5 /entry/data --attributes
    h5bound ls scan.h5 --depth 1
    h5bound ls https://example.org/scan.h5
    h5bound ls scan.h5 --json | jq '.objects[].path'
    """,
)
@click.argument("file", type=ANY_PATH)
@click.argument("path", default="/")
@click.option("-a", "--attributes", is_flag=True, help="Show the attributes.")
@click.option("--depth", metavar="N", type=click.IntRange(0), help="Show N levels of groups, and count what is below.")
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object, which docs/reference/reports.md describes."
)
@storage_options
def list_command(file: str, path: str, *, as_json: bool, **options: Any) -> int:
    """Show what an HDF5 FILE, or the object at PATH in it, holds, and how it is stored and read.

    A number in brackets refers to a reason below the tree. Datasets without one are read directly, outside HDF5's
    lock.
    """
    from h5bound.cli.display import make_console
    from h5bound.cli.listing import show_tree, to_json
    from h5bound.files.urls import is_url, redact
    from h5bound.listing.entries import list_file

    listing = list_file(file, path, **options)
    if as_json:
        click.echo(to_json(listing))
    else:
        show_tree(make_console(), redact(file) if is_url(file) else file, listing)
    return 0
