"""The command line: the public functions with options and exit codes, and nothing else."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h5bound.cli.display import make_console, show_conversion, show_tree, show_verification, watch
from h5bound.errors import H5BoundError, OptionError
from h5bound.files.urls import is_url, redact
from h5bound.reports import format_nbytes, printable

if TYPE_CHECKING:
    from collections.abc import Callable


class Lines(click.Command):
    """A command whose help keeps its examples as they are written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples line by line."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="h5bound")
def main_group() -> None:
    """Look into HDF5 files, convert them to Zarr exactly, and compare the two."""


def read_options(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Give the options in a file: on the command line everyone could read them."""
    if value is None:
        return None
    try:
        held = json.loads(Path(value).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value}: {type(error).__name__}, not a file with a JSON object") from error
    if not isinstance(held, dict):
        raise click.BadParameter(f'{value}: not a JSON object, such as {{"profile": "name"}}')
    return held


@main_group.command(
    "ls",
    cls=Lines,
    epilog="""
    # the tree: shape, type, chunks, filters, sizes, way of reading
    h5bound ls scan.h5
    h5bound ls scan.h5 | grep lzf
    h5bound ls https://example.org/scan.h5
    """,
)
@click.argument("file")
@click.option(
    "--storage-options",
    callback=read_options,
    metavar="FILE.json",
    help="Options of fsspec for a FILE that is a URL, such as credentials.",
)
def list_command(file: str, storage_options: dict[str, Any] | None) -> int:
    """Show what an HDF5 FILE holds, and how each dataset is stored and read."""
    from h5bound.cli.listing import list_file

    entries = list_file(file, storage_options=storage_options)
    show_tree(make_console(), redact(file) if is_url(file) else file, entries)
    return 0


def parse_shape(text: str) -> str | tuple[int, ...]:
    """Give a shape like ``100,200``, or the text itself where it is none."""
    parts = text.split(",")
    return tuple(map(int, parts)) if all(part.strip().isdecimal() for part in parts) else text


def parse_rules(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Any:
    """Give what ``--chunks`` and ``--shards`` stand for: one size, or sizes by glob."""
    rules = {}
    for value in values:
        glob, equals, size = value.rpartition("=")
        rules[glob if equals else "*"] = parse_shape(size)
    return rules or None


SHARED = (
    click.argument("source"),
    click.argument("target"),
    click.option("--window", metavar="BYTES", help="Memory for blocks, like '256 MiB'.  [default: 1 GiB]"),
    click.option("--workers", type=click.IntRange(1), metavar="N", help="Threads."),
    click.option("--scheduler", metavar="ADDRESS", help="Run on this dask cluster."),
    click.option("--report", type=click.Path(dir_okay=False), metavar="FILE.json", help="Write the report there."),
    click.option(
        "--allow-external",
        multiple=True,
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="Files in DIR may be read too: external links and storage, virtual datasets.",
    ),
    click.option(
        "--storage-options",
        callback=read_options,
        metavar="FILE.json",
        help="Options of fsspec for SOURCE and TARGET that are URLs, such as credentials.",
    ),
    click.option("--target-options", callback=read_options, metavar="FILE.json", help="Others for TARGET."),
)
"""What ``convert`` and ``verify`` both take."""


def share(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command with what is shared, after what is its own."""
    for parameter in reversed(SHARED):
        command = parameter(command)
    return command


@main_group.command(
    "convert",
    cls=Lines,
    epilog="""
    h5bound convert scan.h5 scan.zarr --verify
    # what would be copied, what decoded, and why
    h5bound convert scan.h5 scan.zarr --dry-run
    # leave out what Zarr cannot hold, and list it
    h5bound convert scan.h5 scan.zarr --on-unsupported skip --report report.json
    # encode all anew, in chunks of another shape
    h5bound convert scan.h5 scan.zarr --codecs zstd:5 --chunks '/entry/*=64,512'
    # many small chunks in few files
    h5bound convert scan.h5 scan.zarr --shards '256 MiB'
    # only a part
    h5bound convert scan.h5 scan.zarr --include '/entry/data*' --exclude '*/raw'
    # go on where it was interrupted
    h5bound convert scan.h5 scan.zarr --resume
    # on a cluster, into a bucket
    h5bound convert scan.h5 s3://bucket/scan.zarr --scheduler tcp://10.0.0.1:8786
    # from a server; fsspec also finds credentials in the environment
    h5bound convert s3://bucket/scan.h5 scan.zarr --storage-options s3.json
    # into one zip file, which is there when it is whole
    h5bound convert scan.h5 scan.zip
    """,
)
@click.option("--include", multiple=True, metavar="GLOB", help="Only what meets this; may be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not what meets this; may be repeated.")
@click.option("--zarr-format", type=click.Choice(["3", "2"]), default="3", show_default=True)
@click.option(
    "--codecs",
    default="keep",
    show_default=True,
    metavar="CODEC",
    help="keep stored chunks, or encode all: zstd:3, blosc-zstd:5, blosc-lz4:5, gzip:5, none.",
)
@click.option("--chunks", multiple=True, callback=parse_rules, metavar="[GLOB=]SHAPE", help="Chunk shape, like 64,512.")
@click.option(
    "--shards",
    multiple=True,
    callback=parse_rules,
    metavar="[GLOB=]SIZE",
    help="Put chunks into shards of this shape, or bytes.",
)
@click.option(
    "--on-unsupported",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="skip: leave out what cannot be carried, and list it.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished conversion.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there.")
@click.option("--verify", is_flag=True, help="Compare the store with the source afterwards.")
@click.option("--dry-run", is_flag=True, help="Show the plan; write nothing.")
@click.option("--max-objects", type=click.IntRange(1), metavar="N", help="Objects and links.  [default: 1000000]")
@click.option("--max-depth", type=click.IntRange(1), metavar="N", help="Groups in groups.  [default: 64]")
@click.option("--max-chunks", type=click.IntRange(1), metavar="N", help="Chunks.  [default: 10000000]")
@share
def convert_command(source: str, target: str, zarr_format: str, **options: Any) -> int:
    """Convert the HDF5 file SOURCE to the Zarr store TARGET, exactly.

    Exit code 0: all of it. 3: with what was left out listed. 1: failed. 2: bad use.
    """
    from h5bound._convert import convert

    given = {name: value for name, value in options.items() if value is not None}
    console = make_console()
    with watch(console, "converting", "comparing") as progress:
        report = convert(source, target, zarr_format=3 if zarr_format == "3" else 2, progress=progress, **given)
    show_conversion(console, report)
    return report.exit_code


@main_group.command(
    "verify",
    cls=Lines,
    epilog="""
    h5bound verify scan.h5 scan.zarr
    # exit code 0 only if they are equal
    h5bound verify scan.h5 scan.zarr && rm scan.h5
    """,
)
@share
def verify_command(source: str, target: str, **options: Any) -> int:
    """Compare the Zarr store TARGET with the HDF5 file SOURCE, bit for bit.

    Exit code 0: equal. 1: not equal, or failed. 2: bad use.
    """
    from h5bound._verify import verify

    console = make_console()
    with watch(console, "comparing") as progress:
        result = verify(source, target, progress=progress, **options)
    show_verification(console, result)
    return result.exit_code


@main_group.command(
    "demo",
    cls=Lines,
    epilog="""
    # make, convert and verify a file in ./h5bound-demo
    h5bound demo
    h5bound demo try
    """,
)
@click.argument("folder", default="h5bound-demo", type=click.Path(file_okay=False, path_type=Path))
def demo_command(folder: Path) -> int:
    """Make a realistic HDF5 file in FOLDER, convert it to Zarr, and verify it."""
    from h5bound._convert import convert
    from h5bound.cli.demo import is_demo, write_demo
    from h5bound.errors import TargetError

    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / "demo.h5", folder / "demo.zarr"
    again = is_demo(source)
    for path in (source, target):
        if path.exists() and not again:
            raise TargetError(f"{path}: exists, and no demo made it; name another folder")
    console = make_console()
    write_demo(source)
    size = format_nbytes(source.stat().st_size)
    console.print(f"made {source} ({size}); it looks like this with [bold]h5bound ls {source}[/bold]")
    with watch(console, "converting", "comparing") as progress:
        report = convert(source, target, overwrite=again, verify=True, progress=progress)
    show_conversion(console, report)
    return report.exit_code


KEYWORD = re.compile(r"\b(overwrite|resume|on_unsupported)=(?:True|'(\w*)')")
"""How errors of the functions name what are options here."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and end the process with its exit code."""
    sys.exit(run_command(arguments))


def run_command(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit code. An error is one line on stderr."""
    try:
        return int(main_group.main(arguments, prog_name="h5bound", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return 2
    except OptionError as error:
        return fail(str(error), code=2)
    except (KeyboardInterrupt, click.Abort) as error:
        return fail(tell("interrupted", error.__cause__ or error))
    except BrokenPipeError:  # whoever read the output has gone, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except H5BoundError as error:
        return fail(tell(str(error), error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends in one line
        return fail(tell(f"{type(error).__name__}: {error}", error))


def tell(message: str, error: BaseException) -> str:
    """Give a message with the notes of its error, such as what an unfinished conversion has left.

    >>> tell("a.zarr: exists; overwrite=True replaces it, on_unsupported='skip' does not", ValueError())
    'a.zarr: exists; --overwrite replaces it, --on-unsupported skip does not'
    """
    words = "; ".join([message, *getattr(error, "__notes__", ())])
    return KEYWORD.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' + found[2] if found[2] else ''}", words)


def fail(message: str, code: int = 1) -> int:
    """Say what went wrong, in one line; gives the exit code."""
    click.echo(f"h5bound: error: {printable(' '.join(message.split()))}", err=True)
    return code
