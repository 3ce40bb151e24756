"""The command ``h5bound refs``."""

from __future__ import annotations

from typing import Any

import click

from h5bound.cli.messages import name_options
from h5bound.cli.parameters import ANY_PATH, Command, allow_external, choice, option, share_forms, storage_options

SHOWN = 5
"""Reasons that are listed of each kind."""


@click.command(
    "refs",
    cls=Command,
    epilog="""
    h5bound refs scan.h5 scan.json
    # where the file will be
    h5bound refs scan.h5 scan.json --base-url s3://bucket/scans/
    # a file on a server; only its metadata is read
    h5bound refs s3://bucket/scan.h5 scan.json
    # many chunks: kerchunk's parquet, for format 2
    h5bound refs scan.h5 scan.parquet --zarr-format 2
    """,
)
@click.argument("source", type=ANY_PATH)
@click.argument("target", type=ANY_PATH)
@option("--include", "GLOB", "Refer only to what GLOB matches (repeatable).  [default: all]", multiple=True)
@option("--exclude", "GLOB", "Leave out what GLOB matches, also of --include (repeatable).", multiple=True)
@choice("--zarr-format", "[3|2]", "Format of the store that readers see.")
@option("--base-url", "URL", "Folder in which readers find SOURCE.  [default: where it is now]")
@option(
    "--inline-limit",
    "BYTES",
    "Most bytes of a chunk that has to be encoded anew and is put into TARGET; 1024 times as many in all.",
    default="64 KiB",
    show_default=True,
)
@choice("--on-unsupported", "[raise|skip]", "raise: refuse a file with objects that Zarr cannot hold; skip: skip them.")
@share_forms
@click.option("--overwrite", is_flag=True, help="Replace an existing TARGET.  [default: it is refused]")
@allow_external
@storage_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def references_command(source: str, target: str, *, zarr_format: str, quiet: bool, **options: Any) -> int:
    """Write references to the HDF5 file SOURCE: a Zarr store in TARGET.json whose chunks are byte ranges of SOURCE.

    xarray, zarr and fsspec read them (reference://), without h5bound. Nothing is copied but small data that Zarr cannot
    read as it is stored; where that is large, it is refused. SOURCE must stay as it is.

    Exit codes: 0 all referred to, 1 failed, 2 invalid usage, 3 some objects skipped and listed.
    """
    from h5bound.cli.display import make_console
    from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
    from h5bound.reports.conversion import list_sections
    from h5bound.reports.text import plural, printable
    from h5bound.views.references import write_references

    limits: dict[str, Any] = {"max_objects": MAX_OBJECTS, "max_depth": MAX_DEPTH, "max_chunks": MAX_CHUNKS}
    found, report = write_references(source, target, zarr_format=3 if zarr_format == "3" else 2, **options, **limits)
    refs, skipped = found["refs"], [item for item in report.skipped if not item.asked]
    if not quiet:
        ranges = sum(isinstance(value, list) for value in refs.values())
        inlined = sum(isinstance(value, str) and value.startswith("base64:") for value in refs.values())
        click.echo(f"{target}: {plural(ranges, 'chunk')} of {source}; {plural(inlined, 'chunk')} inlined")
        for item in skipped:
            click.echo(printable(name_options(f"  skipped {item}")))
        width = make_console().width
        for section in list_sections(report):
            if section.title in ("warning", "in another form"):
                for line in section.reword(name_options).list_lines(SHOWN, width):
                    click.echo(f"  {line}")
    return 3 if skipped else 0
