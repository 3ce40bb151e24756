"""The command line: the public functions with tables, a progress bar and exit codes, and nothing else."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h5bound.address import is_url, redact
from h5bound.errors import H5BoundError
from h5bound.report import format_nbytes, plural, printable
from h5bound.settings import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.table import Table

    from h5bound.report import ConversionReport, VerificationReport

LONG = 40
"""Characters of the longest path that a table shows in one line, whatever the width of the terminal."""

WIDE = 10_000
"""Columns where the output is not a terminal: lines are not to be broken there."""


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
    from rich.text import Text
    from rich.tree import Tree

    from h5bound.listing import list_file

    entries = list_file(file, storage_options=storage_options)
    console = make_console()
    root = Tree(Text(printable(redact(file) if is_url(file) else file), style="bold"))
    nodes = {"/": root}
    styles = {"group": "bold blue", "dataset": "green", "link": "cyan", "type": "magenta", "problem": "red"}
    for entry in entries:
        if entry.path == "/":
            continue
        parent, _, name = entry.path.rpartition("/")
        line = Text(printable(name), style=styles[entry.kind])
        line.append(f"  {printable(entry.text)}" if entry.kind != "group" else "/", style="default")
        nodes[entry.path] = nodes.get(parent or "/", root).add(line)
    console.print(root)
    counts = {kind: sum(entry.kind == kind for entry in entries) for kind in ("group", "dataset")}
    console.print(f"{plural(counts['group'], 'group')}, {plural(counts['dataset'], 'dataset')}")
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
    from h5bound.convert import convert

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
def verify_command(source: str, target: str, report: str | None, **options: Any) -> int:
    """Compare the Zarr store TARGET with the HDF5 file SOURCE, bit for bit.

    Exit code 0: equal. 1: not equal, or failed. 2: bad use.
    """
    from h5bound.convert import check_report
    from h5bound.verify import verify

    check_report(report, source)
    console = make_console()
    with watch(console, "comparing") as progress:
        result = verify(source, target, progress=progress, **options)
    if report is not None:
        Path(report).write_text(result.to_json(), encoding="utf-8")
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
    from h5bound.convert import convert
    from h5bound.demo import is_demo, write_demo
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


def make_console() -> Console:
    """Give what is printed to: as wide as the terminal, or not broken into lines at all."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=WIDE, soft_wrap=True)


@contextmanager
def watch(console: Console, *phases: str) -> Iterator[Callable[[int, int], None]]:
    """Give what is told of the progress: a bar on a terminal, now and then a line on stderr elsewhere.

    Each time that it begins anew it is about the next of the phases.
    """
    if not console.is_terminal:
        yield PlainProgress(*phases)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=console, transient=True) as bar:
        tasks = [bar.add_task(phases[0], total=None)]
        reached = 0

        def update(done: int, total: int) -> None:
            nonlocal reached
            if done < reached and len(tasks) < len(phases):
                bar.remove_task(tasks[-1])
                tasks.append(bar.add_task(phases[len(tasks)], total=total))
            reached = done
            bar.update(tasks[-1], completed=done, total=total)

        yield update


class PlainProgress:
    """Writes a line to stderr every few seconds.

    Parameters
    ----------
    phases
        What is going on, one after another.
    """

    SECONDS = 5.0

    def __init__(self, *phases: str) -> None:
        self.phases = list(phases)
        self.reached = 0
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take notice of the bytes that are done, and of all."""
        if done < self.reached and len(self.phases) > 1:
            self.phases.pop(0)
        self.reached = done
        now = time.monotonic()
        if now - self.last >= self.SECONDS:
            self.last = now
            click.echo(f"{self.phases[0]}: {format_nbytes(done)} of {format_nbytes(total)}", err=True)


def show_conversion(console: Console, report: ConversionReport) -> None:
    """Print what became of each dataset, what was left out, and the sum."""
    from rich.text import Text

    table = make_table("dataset", "how", "chunks", "stored", "written", "why not copied")
    long = max((len(printable(entry.path)) for entry in report.arrays), default=0) > LONG
    table.columns[0].no_wrap, table.columns[0].overflow = not long, "fold"
    for entry in report.arrays:
        table.add_row(
            Text(printable(entry.path)),
            Text(entry.how or "", style=STYLES[entry.how or ""]),
            f"{entry.chunks:,}",
            format_nbytes(entry.stored_nbytes),
            format_nbytes(entry.written_nbytes) if report.complete else "",
            Text(printable("; ".join(entry.reasons))),
        )
    if report.arrays:
        console.print(table)
    show_list(console, "note", [f"{printable(item.path)}: {printable(item.note)}" for item in report.notes])
    show_list(console, "skipped", list(map(str, report.skipped)))
    console.print(Text(report.summary(), style="bold"))
    if report.verification is not None:
        show_verification(console, report.verification)


def show_verification(console: Console, report: VerificationReport) -> None:
    """Print every difference, and the sum."""
    from rich.text import Text

    show_list(console, "differs", list(map(str, report.differences)))
    console.print(Text(report.summary(), style="bold green" if report.equal else "bold red"))


def show_list(console: Console, title: str, lines: list[str]) -> None:
    """Print lines under a title each."""
    from rich.text import Text

    for line in lines:
        console.print(Text(f"{title}: {line}", style=STYLES[title]))


def make_table(*columns: str) -> Table:
    """Give an empty table; numbers stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        number = column in ("chunks", "stored", "written")
        table.add_column(column, justify="right" if number else "left", no_wrap=number or column == "how")
    return table


KEYWORD = re.compile(r"\b(overwrite|resume|on_unsupported)=(?:True|'(\w*)')")
"""How errors of the functions name what are options here."""

STYLES = {
    "copied": "green", "mixed": "yellow", "decoded": "cyan", "metadata": "dim", "": "default",
    "skipped": "yellow", "note": "dim", "differs": "red",
}  # fmt: skip


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
