"""Parameters that several commands share, and how their values are read. Paths are completed by the shell."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

ANY_PATH = click.Path(readable=False)
"""A file, directory or URL: errors about it come from the function."""


OPTION_FILES = "h5bound.option_files"
"""Key of the files that options were read from, by the name of the option, in the context of a command."""


class Examples(click.Command):
    """The part of a command that shows its examples in the help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping their lines."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


class Command(Examples):
    """A command with examples."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options. Raise UsageError if two of them contradict each other."""
        rest = super().parse_args(ctx, args)
        if ctx.params.get("quiet") and ctx.params.get("verbose"):
            raise click.UsageError("--quiet and --verbose contradict each other; pass one of them.", ctx)
        check_written(ctx)
        return rest


class Group(Examples, click.Group):
    """A group of commands with examples."""


def check_written(context: click.Context) -> None:
    """Raise UsageError if a report would overwrite the page, or a file of options."""
    written = {f"--{name}": context.params.get(name) for name in ("report", "html")}
    named: dict[Path, str] = {}
    for option, file in [*context.meta.get(OPTION_FILES, {}).items(), *written.items()]:
        if file is None:
            continue
        other = named.setdefault(Path(file).expanduser().resolve(), option)
        if option in written and other != option:
            raise click.UsageError(f"{other} and {option} name one file, {file}; name another one to write.", context)


def read_options(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Read options from a JSON file, since other users can see a command line."""
    if value is None:
        return None
    context.meta.setdefault(OPTION_FILES, {})[option.opts[0]] = value
    try:
        options = json.loads(Path(value).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise click.BadParameter(f"{value}: no such file") from error
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value}: cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(options, dict):
        raise click.BadParameter(f'{value}: not a JSON object, such as {{"profile": "name"}}')
    return options


def parse_rule_options(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Any:
    """Return the values of ``--chunks`` or ``--shards`` by glob, ``*`` for those without one: shapes, or text."""
    rules: dict[str, str | tuple[int, ...]] = {}
    for value in values:
        glob, equals, size = value.rpartition("=")
        lengths = size.split(",")
        is_shape = all(length.strip().isdecimal() for length in lengths)
        rules[glob if equals else "*"] = tuple(map(int, lengths)) if is_shape else size
    return rules or None


def option(name: str, metavar: str, text: str, **options: Any) -> Callable[[Function], Function]:
    """Return the decorator of an option with its metavar and help text."""
    return click.option(name, metavar=metavar, help=text, **options)


def choice(name: str, metavar: str, text: str) -> Callable[[Function], Function]:
    """Return the decorator of an option with a few values, which its metavar lists; the first is the default."""
    values = metavar.strip("[]").split("|")
    return option(name, metavar, text, type=click.Choice(values), default=values[0], show_default=True)


limit = partial(option, metavar="N", type=click.IntRange(1))

json_file = partial(option, metavar="FILE.json", type=click.Path(dir_okay=False, readable=False))


html_file = option(
    "--html",
    "FILE.html",
    "Write the report to this file as one page that a browser opens without a network.  [default: no page]",
    type=click.Path(dir_okay=False, readable=False),
)


def share(*parameters: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Return the decorator that adds parameters to a command, after its own."""

    def add(command: Function) -> Function:
        for parameter in reversed(parameters):
            command = parameter(command)
        return command

    return add


storage_options = json_file(
    "--storage-options", text="fsspec options, such as credentials, for URLs.", callback=read_options
)

allow_external = option(
    "--allow-external",
    "DIR",
    "Allow external links, external storage and virtual datasets to read files in DIR (repeatable).  "
    "[default: external links stay links, the others are refused]",
    multiple=True,
    type=click.Path(file_okay=False, readable=False),
)

share_access = share(
    option(
        "--window",
        "BYTES",
        "Most bytes of values in memory, like '256 MiB'; fewer need more opens of the file.  "
        "[default: the dask setting h5bound.window (1 GiB)]",
    ),
    limit("--workers", text="Threads; with --scheduler, windows that run at once.  [default: one for each CPU]"),
    option("--scheduler", "ADDRESS", "Run on the dask cluster at ADDRESS.  [default: threads of this process]"),
    json_file("--report", text="Write the report, or the error, to this file as JSON.  [default: no file]"),
    html_file,
    allow_external,
    storage_options,
    json_file("--target-options", text="fsspec options for TARGET, if they differ.", callback=read_options),
)
"""Options that ``convert`` and ``verify`` share."""

share_forms = share(
    choice(
        "--nan",
        "[literal|text]",
        "literal: NaN and infinity in attributes as xarray and hdmf-zarr expect them; text: as text, which readers in "
        "all languages take.",
    ),
    choice(
        "--compounds",
        "[struct|columns]",
        "struct: an array of structs where these can hold all members, as AnnData and NWB need it; columns: always "
        "an array for each member.",
    ),
    choice(
        "--names",
        "[exact|portable]",
        "exact: rename only what Zarr, or the place of the store, cannot hold: AnnData and NWB look for these names; "
        "portable: also what another system could not.",
    ),
    choice(
        "--links",
        "[keep|copy]",
        "keep: soft links and further hard links stay links, which most readers of Zarr do not see, but NWB needs; "
        "copy: what they lead to is written in their place.",
    ),
)
"""Options for what readers expect in different forms."""

share_limits = share(
    limit("--max-objects", text="Refuse files with more than N objects and links.  [default: 1000000]"),
    limit("--max-depth", text="Refuse files with groups nested deeper than N.  [default: 64]"),
    limit("--max-chunks", text="Refuse what has more than N chunks.  [default: 10000000]"),
)
"""Options that lift the limits of what is read."""

share_verbosity = share(
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors; the exit code tells the result."),
    click.option("-v", "--verbose", count=True, help="Print all rows, and each step on stderr; -vv with details."),
)


share_rules = share(
    option("--dim", "NAME", "Join the files along the dimension NAME."),
    option("--new-dim", "NAME", "Make a new dimension NAME, along which each file has one element."),
    click.option(
        "--sort/--no-sort",
        default=None,
        help="Order the files by the coordinate of --dim, or take them as given.  [default: as given, if that is "
        "sorted]",
    ),
    option("--sort-by", "PATH", "Order the files by the first value of the variable at PATH."),
    choice("--overlap", "[refuse|first|last]", "Which file counts where several have the same coordinate."),
    choice("--differing", "[refuse|first|drop]", "Variables without --dim that are not equal in all files."),
    choice(
        "--attributes",
        "[refuse|first|table]",
        "Attributes that differ; table: keep them by file in h5bound.json, not in the store's attributes.",
    ),
    option(
        "--unpack",
        "[float32|float64]",
        "Decode variables whose packing (scale_factor, add_offset) differs.  [default: refuse them]",
        type=click.Choice(["float32", "float64"]),
    ),
    click.option(
        "--promote",
        is_flag=True,
        default=None,
        help="Join types that differ in one that holds all values.  [default: refuse]",
    ),
    choice("--missing", "[refuse|fill]", "Variables that some files lack."),
)
"""Options of `combine`, which views of many files have too."""
