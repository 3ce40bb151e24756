"""The commands: the public functions with their options, and exit codes."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any

import click

from h5bound import __version__
from h5bound.cli.check import check_command
from h5bound.cli.combine import combine_command
from h5bound.cli.ending import Interruption
from h5bound.cli.messages import explain, fail, fail_usage
from h5bound.cli.parameters import (
    ANY_PATH,
    Command,
    Group,
    choice,
    option,
    parse_rule_options,
    share_access,
    share_forms,
    share_limits,
    share_verbosity,
    storage_options,
)
from h5bound.cli.references import references_command
from h5bound.cli.steps import show_steps
from h5bound.cli.verify import verify_command
from h5bound.errors import H5BoundError, OptionError
from h5bound.reports.text import format_nbytes, plural

if TYPE_CHECKING:
    from h5bound.reports.batch import BatchReport


@click.group(
    cls=Group,
    epilog="""
    # write an HDF5 file, convert it and verify the result
    h5bound demo
    h5bound ls scan.h5
    h5bound convert scan.h5 scan.zarr
    h5bound verify scan.h5 scan.zarr
    h5bound combine 'days/*.nc' year.zarr --dim time
    h5bound refs scan.h5 scan.json
    h5bound check scan.h5
    # in ~/.bashrc: Tab completes options and paths (or zsh_source, fish_source)
    eval "$(_H5BOUND_COMPLETE=bash_source h5bound)"
    """,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
def main_group() -> None:
    """Inspect HDF5 files, convert them to Zarr without loss, verify the result, or refer to the files as Zarr.

    h5bound COMMAND --help says what a command does by default, and what its exit codes mean.
    """


@main_group.command(
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


@main_group.command(
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
    from h5bound.conversion.batch import is_folder

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


@main_group.command(
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
    from h5bound.cli.demo import is_demo, list_next_steps, write_demo
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


for command in (combine_command, verify_command, references_command, check_command):
    main_group.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code, or by the signal that interrupted it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (`>&-`), or a program without a console
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):  # names of any language on a terminal or in a pipe that has not all
            stream.reconfigure(errors="backslashreplace")
    with Interruption() as interruption:
        code = run_command(sys.argv[1:] if arguments is None else arguments)
    interruption.end(code)


def run_command(arguments: list[str]) -> int:
    """Run the command line and return its exit code. The last line on stderr is the error, if there is one."""
    failed = 2 if arguments[:1] in (["verify"], ["check"]) else 1  # of these, 1 is a result
    try:
        return int(main_group.main(arguments or ["--help"], prog_name="h5bound", standalone_mode=False) or 0)
    except click.ClickException as error:
        return fail_usage(error)
    except OptionError as error:
        return fail(explain(error), code=2)
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__ or error
        if isinstance(cause, EOFError):  # click takes it for the end of its own input
            return fail(explain(cause, f"EOFError: {cause}"), code=failed)
        return fail(explain(cause, "interrupted"), code=128 + SIGINT)
    except BrokenPipeError:  # the reader of the output has gone, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failed
    except H5BoundError as error:
        return fail(explain(error), code=failed)
    except Exception as error:  # noqa: BLE001 - any error ends in one line
        return fail(explain(error, f"{type(error).__name__}: {error}"), code=failed)


if __name__ == "__main__":
    main()
