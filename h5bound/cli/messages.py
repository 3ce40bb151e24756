"""Messages of the functions in the words of the command line, and errors on stderr."""

from __future__ import annotations

import re
from ast import literal_eval

import click

from h5bound.reports.text import printable

KEYWORDS = (
    "allow_external", "chunks", "codecs", "dry_run", "exclude", "include", "max_chunks", "max_depth", "max_objects",
    "on_unsupported", "overwrite", "report", "resume", "scheduler", "shards", "storage_options", "target_options",
    "verify", "window", "workers", "zarr_format",
)  # fmt: skip
"""Parameters of the functions that are options here."""

VALUE = r"""'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|[^\s`'"()\[\]{},;:]+|"""

KEYWORD = re.compile(
    rf"(?<![^ (`])({'|'.join(name if '_' in name else f'{name}(?==)' for name in KEYWORDS)})\b(?:=({VALUE}))?"
)
"""A parameter in a message, perhaps with its value; a word without an underscore only with an equals sign."""

PHRASES = {
    "(64, 512)": "64,512",
    "left out by include or exclude": "left out by --include or --exclude",
    "chunks or shards": "--chunks or --shards",
}
"""Other words of Python in messages."""

MAX_LINES = 20
"""Most lines of details of an error."""


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
    return KEYWORD.sub(lambda match: name_option(match[1], match[2] or ""), message)


def name_option(keyword: str, value: str) -> str:
    """Return an option with a value as it is typed.

    >>> name_option("shards", "{'/a': (1, 2), '/b': '1 MiB'}"), name_option("resume", "True")
    ('--shards /a=1,2 --shards /b=1 MiB', '--resume')
    """
    name = f"--{keyword.replace('_', '-')}"
    try:
        given = literal_eval(value)
    except (ValueError, SyntaxError):
        given = value
    if given is True or given == "":
        return name
    if isinstance(given, dict):
        return " ".join(f"{name} {glob}={join(size)}" for glob, size in given.items())
    if isinstance(given, list):
        return " ".join(f"{name} {item}" for item in given)
    return f"{name} {join(given)}"


def join(value: object) -> str:
    """Return a shape or another value as it is typed."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def fail(message: str, code: int) -> int:
    """Print an error on stderr and return the exit code. Details, which follow the first line, are printed before it.

    The last line on stderr is always the error, in one line.
    """
    first, *details = name_options(message).strip().splitlines() or [""]
    for line in details[:MAX_LINES]:
        click.echo(printable(line), err=True)
    if len(details) > MAX_LINES:
        more = len(details) - MAX_LINES
        click.echo(f"  … and {more:,} more; --dry-run --on-unsupported skip --verbose lists all", err=True)
    click.echo(f"h5bound: error: {printable(' '.join(first.split()))}", err=True)
    return code


def explain(error: BaseException, message: str | None = None) -> str:
    """Return the message of an error with its notes, such as how to continue an unfinished conversion."""
    first, newline, details = (str(error) if message is None else message).partition("\n")
    return "; ".join([first, *getattr(error, "__notes__", ())]) + newline + details
