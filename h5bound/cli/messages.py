"""Messages of the functions in the words of the command line, and errors on stderr."""

from __future__ import annotations

import re
import sys
from ast import literal_eval
from itertools import groupby, islice

import click

from h5bound.errors import append_notes
from h5bound.reports.text import printable

KEYWORDS = (
    "allow_external", "append", "attributes", "base_url", "cache", "chunks", "codecs", "compounds", "differing",
    "dim", "dry_run", "exclude", "html", "include", "inline_limit", "links", "max_chunks", "max_depth", "max_objects",
    "missing", "names", "nan", "new_dim", "on_unsupported", "overlap", "overwrite", "promote", "report", "resume",
    "scheduler", "shards", "skip_bad", "sort", "storage_options", "target_options", "temporary", "unpack", "update",
    "verify", "window", "workers", "zarr_format",
)  # fmt: skip
"""Parameters of the functions that are options here."""

LIST = r"\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]"
"""Pattern of a list that holds lists of lists at most."""

VALUE = rf"""'[^']*'|"[^"]*"|\([^()]*\)|{LIST}|\{{[^{{}}]*\}}|[^\s`'"()\[\]{{}},;:]+|"""
"""Pattern of a value as Python shows it; perhaps there is none."""

KEYWORD = re.compile(
    rf"(?<![^ (`])(?<!\w\()({'|'.join(name if '_' in name else f'{name}(?==)' for name in KEYWORDS)})\b(?:=({VALUE}))?"
)
"""A parameter in a message, perhaps with its value; a word without an underscore only with an equals sign."""

SUBJECT = re.compile(rf"^({'|'.join(KEYWORDS)})(?=: )|^(source|target)s?(?:=|: )")
"""A parameter that begins a message without a value, or one that is no option."""

PHRASES = {
    "(64, 512)": "64,512",
    "sort=False": "--no-sort",
    "allow_external=[its directory]": "--allow-external with its directory",
    "pass h5py.File(FILE, 'r', swmr=True)": "read it in Python, through h5py.File(FILE, 'r', swmr=True)",
    "left out by include or exclude": "left out by --include or --exclude",
    ", or what dask.config.set(scheduler=...) says": "",
    ", or set dask.config.set(scheduler='threads')": "",
}
"""Other words of Python in messages."""

MAX_LINES = 20
"""Most lines of details of an error in a terminal."""

MAX_ITEMS = 3
"""Most lines of a list in them, if not all lines are shown."""


def name_options(message: str) -> str:
    """Return a message of the functions in the words of the command line.

    >>> name_options("chunks='4x4': give a shape like (64, 512), or {GLOB: SHAPE}; overwrite=True; raise max_chunks")
    '--chunks 4x4: give a shape like 64,512, or GLOB=SHAPE; --overwrite; raise --max-chunks'
    >>> name_options("chunks={'/a': (0, 2)}: no shape; skip it with exclude= or pass allow_external=['/data']")
    '--chunks /a=0,2: no shape; skip it with --exclude or pass --allow-external /data'
    """
    message = re.sub(r"\{GLOB: (\w+)\}", r"GLOB=\1", message)
    for phrase, words in PHRASES.items():
        message = message.replace(phrase, words)
    message = SUBJECT.sub(lambda match: name_option(match[1], "") if match[1] else f"{match[2].upper()} ", message)
    return KEYWORD.sub(lambda match: name_option(match[1], match[2] or ""), message)


def name_option(keyword: str, value: str) -> str:
    """Return an option with a value as it is typed.

    >>> name_option("shards", "{'/a': (1, 2), '*': '1 MiB'}"), name_option("resume", "True")
    ('--shards /a=1,2 --shards 1 MiB', '--resume')
    >>> name_option("chunks", "{'/a': ''}")
    '--chunks /a='
    >>> name_option("chunks", "[['/a', [1, 2]]]"), name_option("include", "[]"), name_option("codecs", "''")
    ('--chunks /a=1,2', 'no --include', "--codecs ''")
    >>> name_option("sort", "True"), name_option("sort", "'/run'")
    ('--sort', '--sort-by /run')
    """
    name = f"--{keyword.replace('_', '-')}"
    try:
        given = literal_eval(value) if value and value != "..." else value
    except (ValueError, SyntaxError):
        given = value
    if given is True or not value:
        return name
    if keyword == "sort" and isinstance(given, str):
        name = "--sort-by"
    if given is None or given is False or given == []:
        return f"no {name}"
    items = given.items() if isinstance(given, dict) else given if isinstance(given, list) else [given]
    return " ".join(f"{name} {join(item)}" for item in items)


def join(value: object) -> str:
    """Return a shape, a glob with a shape, or another value as it is typed."""
    match value:
        case (str(glob), size):
            return join(size) if glob == "*" else f"{glob}={join(size) if size != '' else ''}"
        case tuple() | list():
            return ",".join(map(str, value))
    return str(value) or "''"


def fail(message: str, code: int, *, lists_all: str = "--dry-run --on-unsupported skip --verbose") -> int:
    """Print an error on stderr and return the exit code. Details, which follow the first line, are printed before it.

    The last line on stderr is always the error, in one line. `lists_all` are the options that list all details.
    """
    first, *details = name_options(message).strip().splitlines() or [""]
    shown = shorten(details)[:MAX_LINES] if len(details) > MAX_LINES and sys.stderr.isatty() else details
    for line in shown:
        click.echo(printable(line), err=True)
    if len(shown) < len(details):
        more = len(details) - len(shown)
        click.echo(f"  … and {more:,} more; {lists_all} lists all", err=True)
    click.echo(f"h5bound: error: {printable(' '.join(first.split()))}", err=True)
    return code


def fail_usage(error: click.ClickException) -> int:
    """Print how a command is used, and what is wrong, and return the exit code."""
    context = getattr(error, "ctx", None)
    usage = [context.get_usage(), f"Try `{context.command_path} --help`."] if context is not None else []
    return fail("\n".join([" ".join(error.format_message().split()), *usage]), code=2)


def shorten(details: list[str]) -> list[str]:
    """Return the lines of details with at most three of each list, whose lines are indented further.

    >>> shorten(["  odd:", "    /a", "    /b", "    /c", "    /d", "  /x: gone"])
    ['  odd:', '    /a', '    /b', '    /c', '  /x: gone']
    """
    runs = groupby(details, key=lambda line: line.startswith("    "))
    return [line for is_list, run in runs for line in islice(run, MAX_ITEMS if is_list else None)]


def explain(error: BaseException, message: str | None = None) -> str:
    """Return the message of an error, or another one in its place, with its notes."""
    return append_notes(error, str(error) if message is None else message)
