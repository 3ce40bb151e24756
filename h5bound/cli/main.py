"""The commands: the public functions with their options, and exit codes."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h5bound.cli.display import make_console, show_batch, show_conversion, show_tree, show_verification
from h5bound.errors import H5BoundError, OptionError
from h5bound.files.urls import is_url, redact
from h5bound.reports.text import format_nbytes, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from h5bound.reports.batch import BatchReport

    Function = TypeVar("Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose help shows its examples line by line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping their lines."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="h5bound")
def main_group() -> None:
    """Inspect HDF5 files, convert them to Zarr without loss, and verify the result."""


def read_options(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Read options from a JSON file, since other users can see a command line."""
    if value is None:
        return None
    try:
        options = json.loads(Path(value).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value}: cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(options, dict):
        raise click.BadParameter(f'{value}: not a JSON object, such as {{"profile": "name"}}')
    return options


def option(name: str, metavar: str, text: str, **options: Any) -> Callable[[Function], Function]:
    """Return the decorator of an option with its metavar and help text."""
    return click.option(name, metavar=metavar, help=text, **options)


limit = partial(option, metavar="N", type=click.IntRange(1))


@main_group.command(
    "ls",
    cls=Command,
    epilog="""
    # the tree, with shapes, types, chunks, filters and sizes
    h5bound ls scan.h5
    h5bound ls scan.h5 | grep lzf
    h5bound ls https://example.org/scan.h5
    """,
)
@click.argument("file")
@option("--storage-options", "FILE.json", "fsspec options, such as credentials, for a URL.", callback=read_options)
def list_command(file: str, storage_options: dict[str, Any] | None) -> int:
    """Show what an HDF5 FILE holds, and how it is stored and read."""
    from h5bound.cli.listing import list_file

    entries = list_file(file, storage_options=storage_options)
    show_tree(make_console(), redact(file) if is_url(file) else file, entries)
    return 0


def parse_rule_options(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Any:
    """Return the values of ``--chunks`` or ``--shards`` by glob, ``*`` for those without one: shapes, or text."""
    rules: dict[str, str | tuple[int, ...]] = {}
    for value in values:
        glob, equals, size = value.rpartition("=")
        lengths = size.split(",")
        is_shape = all(length.strip().isdecimal() for length in lengths)
        rules[glob if equals else "*"] = tuple(map(int, lengths)) if is_shape else size
    return rules or None


SHARED = (
    option("--window", "BYTES", "Bytes to read before SOURCE is closed, like '256 MiB'.  [default: 1 GiB]"),
    limit("--workers", text="Number of threads."),
    option("--scheduler", "ADDRESS", "Address of the dask cluster to run on."),
    option("--report", "FILE.json", "Write the report to this file.", type=click.Path(dir_okay=False)),
    option(
        "--allow-external",
        "DIR",
        "Allow external links, external storage and virtual datasets to read files in DIR (repeatable).",
        multiple=True,
        type=click.Path(file_okay=False),
    ),
    option("--storage-options", "FILE.json", "fsspec options, such as credentials, for URLs.", callback=read_options),
    option("--target-options", "FILE.json", "fsspec options for TARGET, if they differ.", callback=read_options),
)
"""The parameters that ``convert`` and ``verify`` share."""


def share(command: Callable[..., int]) -> Callable[..., int]:
    """Add the shared parameters to a command, after its own."""
    for parameter in reversed(SHARED):
        command = parameter(command)
    return command


@main_group.command(
    "convert",
    cls=Command,
    epilog="""
    h5bound convert scan.h5 scan.zarr --verify
    # show which datasets would be copied or decoded, and why
    h5bound convert scan.h5 scan.zarr --dry-run
    # skip objects that Zarr cannot hold, and list them
    h5bound convert scan.h5 scan.zarr --on-unsupported skip --report report.json
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
@option("--include", "GLOB", "Convert only paths matching GLOB (repeatable).", multiple=True)
@option("--exclude", "GLOB", "Leave out paths matching GLOB (repeatable).", multiple=True)
@option("--zarr-format", "[3|2]", "Format of TARGET.", type=click.Choice(["3", "2"]), default="3", show_default=True)
@option(
    "--codecs",
    "CODEC",
    "keep stored chunks as they are, or re-encode all: zstd:3, blosc-zstd:5, blosc-lz4:5, gzip:5, none.",
    default="keep",
    show_default=True,
)
@option("--chunks", "[GLOB=]SHAPE", "Shape of chunks, like 64,512.", multiple=True, callback=parse_rule_options)
@option(
    "--shards", "[GLOB=]SIZE", "Shape or bytes of shards, like '256 MiB'.", multiple=True, callback=parse_rule_options
)
@option(
    "--on-unsupported",
    "[raise|skip]",
    "raise: refuse a file with objects that cannot be converted; skip: skip and list them.",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
)
@click.option("--resume", is_flag=True, help="Continue an unfinished conversion.")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option("--verify", is_flag=True, help="Compare the store with the source when done.")
@click.option("--dry-run", is_flag=True, help="Show the plan without writing the store.")
@limit("--max-objects", text="Refuse files with more than N objects and links.  [default: 1000000]")
@limit("--max-depth", text="Refuse files with groups nested deeper than N.  [default: 64]")
@limit("--max-chunks", text="Refuse files with more than N stored chunks.  [default: 10000000]")
@share
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("target")
def convert_command(sources: tuple[str, ...], target: str, zarr_format: str, **options: Any) -> int:
    """Convert the HDF5 file SOURCE to the Zarr store TARGET. Values and attributes keep all their bits.

    With several sources, or if TARGET ends in / and is no store, TARGET is a folder, and each NAME.h5 becomes NAME.zarr
    in it. A file that fails does not stop the others; --resume converts what is missing.

    In a GLOB, * also matches /, and a group stands for everything in it.

    Exit codes: 0 all converted, 1 failed, 2 invalid usage, 3 some objects skipped and listed.
    """
    from h5bound._convert import convert
    from h5bound.conversion.batch import is_folder

    options = {name: value for name, value in options.items() if value is not None}
    options["zarr_format"] = 3 if zarr_format == "3" else 2
    if len(sources) > 1 or is_folder(target, options):
        batch: BatchReport = convert(list(sources), target, progress=True, **options)
        show_batch(make_console(), batch)
        return batch.exit_code
    report = convert(sources[0], target, progress=True, **options)
    show_conversion(make_console(), report)
    return report.exit_code


@main_group.command(
    "verify",
    cls=Command,
    epilog="""
    h5bound verify scan.h5 scan.zarr
    """,
)
@share
@click.argument("source")
@click.argument("target")
def verify_command(source: str, target: str, **options: Any) -> int:
    """Compare the Zarr store TARGET with the HDF5 file SOURCE. Values and attributes are equal if all bits are.

    What the conversion skipped is listed and not compared.

    Exit codes: 0 equal, 1 different or failed, 2 invalid usage.
    """
    from h5bound._verify import verify

    result = verify(source, target, progress=True, **options)
    show_verification(make_console(), result)
    return result.exit_code


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
def demo_command(directory: Path) -> int:
    """Write an HDF5 file to DIRECTORY, convert it to Zarr, and verify it."""
    from h5bound._convert import convert
    from h5bound.cli.demo import is_demo, write_demo
    from h5bound.errors import TargetError

    directory.mkdir(parents=True, exist_ok=True)
    source, target = directory / "demo.h5", directory / "demo.zarr"
    repeated = is_demo(source)
    for path in (source, target):
        if path.exists() and not repeated:
            raise TargetError(f"{path}: exists and was not made by h5bound demo; choose another directory")
    console = make_console()
    write_demo(source)
    size = format_nbytes(source.stat().st_size)
    console.print(f"wrote {source} ({size}); [bold]h5bound ls {source}[/bold] shows its contents")
    report = convert(source, target, overwrite=repeated, verify=True, progress=True)
    show_conversion(console, report)
    return report.exit_code


OPTIONS = [str(item.name) for item in convert_command.params if isinstance(item, click.Option)]
KEYWORD = re.compile(
    rf"(?<![^ (])({'|'.join(name if '_' in name else f'{name}(?==)' for name in OPTIONS)})\b(?:=True\b|(='[^']*'|=))?"
)
"""Arguments of the functions in their errors, which are options here."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(arguments))


def run_command(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on stderr."""
    try:
        return int(main_group.main(arguments, prog_name="h5bound", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return 2
    except OptionError as error:
        return fail(str(error), code=2)
    except (KeyboardInterrupt, click.Abort) as error:
        return fail(explain("interrupted", error.__cause__ or error))
    except BrokenPipeError:  # the reader of the output has gone, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except H5BoundError as error:
        return fail(explain(str(error), error))
    except Exception as error:  # noqa: BLE001 - any error ends in one line
        return fail(explain(f"{type(error).__name__}: {error}", error))


def explain(message: str, error: BaseException) -> str:
    """Return a message with the notes of its error, such as how to continue an unfinished conversion."""
    return "; ".join([message, *getattr(error, "__notes__", ())])


def fail(message: str, code: int = 1) -> int:
    """Print an error in one line and return the exit code."""
    click.echo(f"h5bound: error: {printable(' '.join(name_options(message).split()))}", err=True)
    return code


def name_options(message: str) -> str:
    """Return a message of the functions in the words of the command line.

    >>> name_options("chunks='4x4': give a shape like (64, 512), or {GLOB: SHAPE}; overwrite=True; raise max_chunks")
    '--chunks 4x4: give a shape like 64,512, or GLOB=SHAPE; --overwrite; raise --max-chunks'
    """
    message = re.sub(r"\{GLOB: (\w+)\}", r"GLOB=\1", message.replace("(64, 512)", "64,512"))
    return KEYWORD.sub(
        lambda m: "--" + m[1].replace("_", "-") + (m[2] or "").replace("=", " ", 1).replace("'", ""), message
    )
