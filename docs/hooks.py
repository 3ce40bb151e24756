"""What mkdocs adds to the pages: above all the commands, as click knows them, to the reference of the command line."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import click

from h5bound.cli.main import main_group

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "reference/command-line.md"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page for mkdocs. Pages that are alone in their section have no list of pages beside them."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    return "\n".join([markdown, *describe_commands()]) if page.file.src_uri == PAGE else markdown


def describe_commands() -> Iterator[str]:
    """Yield the lines for all commands."""
    with click.Context(main_group, info_name="h5bound") as context:
        yield from describe_examples(main_group)
        for name in main_group.list_commands(context):
            command = main_group.get_command(context, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=context) as inner:
                yield from describe_command(command, inner)


def describe_command(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the lines for one command: what its help says."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ["", f"## {context.command_path}", "", "```text", usage, "```", ""]
    yield from escape(inspect.cleandoc(command.help or "")).splitlines()
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    yield from ["", "| option | |", "|---|---|"]
    yield from (
        f"| {' '.join(f'`{name}`' for name in names.split(', '))} | {escape(text)} |" for names, text in records
    )
    yield from describe_examples(command)


def describe_examples(command: click.Command) -> Iterator[str]:
    """Yield the lines for the examples of a command."""
    if command.epilog:
        yield from ["", "```sh", inspect.cleandoc(command.epilog), "```"]


def escape(text: str) -> str:
    r"""Return text as Markdown that shows it, with options as code.

    >>> print(escape("a * | of --links"))
    a \* \| of `--links`
    """
    return re.sub(r"(?<!\S)(--[a-z-]+)", r"`\1`", re.sub(r"([*_<>|\[\]])", r"\\\1", text))
