"""The command ``h5bound convert``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from h5bound.cli.messages import fail
from h5bound.cli.parameters import (
    ANY_PATH,
    Command,
    choice,
    option,
    parse_rule_options,
    share_access,
    share_forms,
    share_limits,
    share_verbosity,
)
from h5bound.cli.steps import show_steps
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from h5bound.reports.batch import BatchReport


@click.command(
    "convert",
    cls=Command,
    epilog="""
    h5bound convert scan.h5 scan.zarr --verify
    # show which datasets would be copied or decoded, and why
    h5bound convert scan.h5 scan.zarr --dry-run
    # skip objects that Zarr cannot hold, and list them
    h5bound convert scan.h5 scan.zarr --on-unsupported skip --report report.json
    # one page: what was converted, how, and why chunks were not copied
    h5bound convert scan.h5 scan.zarr --html report.html
    # re-encode all chunks, some in another shape
    h5bound convert scan.h5 scan.zarr --codecs zstd:5 --chunks '/entry/*=64,512'
    # put many small chunks into few files
    h5bound convert scan.h5 scan.zarr --shards '256 MiB'
    # convert a part of the file
    h5bound convert scan.h5 scan.zarr --include '/entry/data*' --exclude '*/raw'
    # continue an interrupted conversion
    h5bound convert scan.h5 scan.zarr --resume
    # run on a cluster, write to a bucket
    h5bound convert scan.h5 s3://bucket/scan.zarr --scheduler tcp://10.0.0.1:8786
    # read from a bucket; fsspec also finds credentials in the environment
    h5bound convert s3://bucket/scan.h5 scan.zarr --storage-options s3.json
    # convert many files into a folder, each to a store of its own
    h5bound convert scans/*.h5 stores/
    # write one zip file, which appears once it is complete
    h5bound convert scan.h5 scan.zip
    """,
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=ANY_PATH)
@click.argument("target", type=ANY_PATH)
@option("--include", "GLOB", "Convert only what GLOB matches (repeatable).  [default: all]", multiple=True)
@option("--exclude", "GLOB", "Leave out what GLOB matches, also of --include (repeatable).", multiple=True)
@choice("--zarr-format", "[3|2]", "Format of TARGET.")
@option(
    "--codecs",
    "CODEC",
    "keep: copy stored chunks, decode where Zarr has no such codec. Or encode all again with zstd:3, blosc-zstd:5, "
    "blosc-lz4:5, gzip:5 (name:level) or none.",
    default="keep",
    show_default=True,
)
@option(
    "--chunks",
    "[GLOB=]SHAPE",
    "Shape of chunks, like 64,512, for datasets with as many axes (repeatable).  [default: the chunks of HDF5]",
    multiple=True,
    callback=parse_rule_options,
)
@option(
    "--shards",
    "[GLOB=]SIZE",
    "Shape or bytes of shards, like '256 MiB' (repeatable).  [default: no shards]",
    multiple=True,
    callback=parse_rule_options,
)
@option(
    "--temporary",
    "DIR",
    "Where to put temporary files if --chunks takes two passes; it needs room for an array in memory.  "
    "[default: TARGET if it is a directory, else that of the system]",
    type=click.Path(file_okay=False, writable=True),
)
@choice(
    "--on-unsupported",
    "[raise|skip]",
    "raise: refuse a file with objects that cannot be converted; skip: skip and list them.",
)
@share_forms
@click.option("--resume", is_flag=True, help="Continue an unfinished conversion.  [default: it is refused]")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.  [default: it is refused]")
@click.option("--verify", is_flag=True, help="Compare the store with the source when done.  [default: not compared]")
@click.option("--dry-run", is_flag=True, help="Show the plan without writing the store.")
@share_verbosity
@share_access
@share_limits
def convert_command(
    sources: tuple[str, ...], target: str, zarr_format: str, *, quiet: bool, verbose: int, **options: Any
) -> int:
    """Convert the HDF5 file SOURCE to the Zarr store TARGET. Values and attributes keep all their bits.

    With several sources, or if TARGET ends in / and is no store, TARGET is a folder, and each NAME.h5 becomes NAME.zarr
    in it. End a folder with / also after *.h5, which may match one file only. A file that fails does not stop the
    others; --resume converts what is missing.

    By default a dataset is copied if Zarr can have its chunks and codecs: the stored bytes stay as they are. Else it is
    decoded, and encoded again with Blosc (zstd, level 5, shuffle) in the chunks that HDF5 has, or in chunks of about
    4 MiB where it has none. Chunks that were never written are not written.

    A GLOB is a path from the root, like /entry/data. In it * matches anything, also /, and a group stands for all that
    is in it. What --exclude matches is left out also if --include matches it.

    Exit codes: 0 all converted (what --include or --exclude leaves out does not count), 1 failed or different, 2
    invalid usage, 3 some objects skipped and listed. Ctrl-C ends it as it ends any program (130 in a shell).
    """
    from h5bound._convert import convert
    from h5bound.cli.display import make_console, show_report
    from h5bound.cli.page import check_page, write_page
    from h5bound.conversion.folder import is_folder

    if not sources:
        raise click.UsageError(f"Name the HDF5 file and the Zarr store, like `h5bound convert {target} scan.zarr`.")
    if target.startswith("memory:"):
        raise click.UsageError(f"{target}: a store in memory ends with the command; name a directory or another URL.")
    html = options.pop("html")
    options = {name: value for name, value in options.items() if value is not None}
    options["zarr_format"] = 3 if zarr_format == "3" else 2
    options["progress"] = not quiet
    many = len(sources) > 1 or is_folder(target, options)
    page = check_page(html, target, sources, is_folder=many)
    with show_steps(verbose):
        if many:
            batch: BatchReport = convert(list(sources), target, **options)
            write_page(page, batch)
            return finish_batch(batch, quiet=quiet, verbose=verbose > 0)
        report = convert(sources[0], target, **options)
    write_page(page, report)
    if not quiet:
        show_report(make_console(), report, verbose=verbose > 0)
    if report.verification is not None and not report.verification.equal:
        return fail(f"{target}: {plural(len(report.verification.differences), 'difference')} from {sources[0]}", code=1)
    return report.exit_code


def finish_batch(report: BatchReport, *, quiet: bool, verbose: bool) -> int:
    """Print the report of many sources, what failed on stderr, and return the exit code."""
    from h5bound.cli.display import make_console, show_report

    if not quiet:
        show_report(make_console(), report, verbose=verbose)
    if report.exit_code != 1:
        return report.exit_code
    different = sum(one.exit_code == 1 for one in report.conversions)
    counts = (
        [f"{len(report.failed):,} of {plural(len(report.failed) + len(report.conversions), 'file')} failed"]
        if report.failed
        else []
    )
    counts += ["1 store differs" if different == 1 else f"{different:,} stores differ"] if different else []
    details = [f"  {item}" for item in report.failed] if quiet else []
    return fail("\n".join([f"{report.target}: {'; '.join(counts)}", *details]), code=1, lists_all="--report")
