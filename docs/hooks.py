"""What mkdocs adds to the pages: the commands, as click knows them, to the reference, and the notebooks as pages."""

from __future__ import annotations

import inspect
import json
import re
from html import escape as escape_html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from mkdocs.structure.files import File

from h5bound.cli.main import main_group

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "reference/command-line.md"


def on_files(files: Any, *, config: Any) -> Any:
    """Return the files of the site for mkdocs, with a page for each notebook."""
    for path in sorted((Path(config.docs_dir) / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=to_markdown(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page for mkdocs. Pages that are alone in their section have no list of pages beside them."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri.startswith("notebooks/"):
        return markdown
    markdown = re.sub(r"(\]\(\S*notebooks/[\w-]+)\.ipynb\)", r"\1.md)", markdown)
    return "\n".join([markdown, *describe_commands()]) if page.file.src_uri == PAGE else markdown


def to_markdown(path: Path) -> str:
    """Return a notebook as a page, with its outputs. Links to other notebooks lead to their pages."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [re.sub(r"\.ipynb\)", ".md)", part) for cell in cells for part in list_parts(cell)]
    return "\n\n".join([*parts, f"[Download this notebook]({path.name})."]) + "\n"


def list_parts(cell: Any) -> Iterator[str]:
    """Yield the Markdown of a cell and of its outputs."""
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for output in cell.get("outputs", ()):
        data = output.get("data") or {"text/plain": output["text"]}
        if "text/html" in data:
            html = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))  # a blank line ends HTML in Markdown
            yield f'<div class="notebook-output">{html}</div>'
        else:
            yield f'<pre class="notebook-output">{escape_html("".join(data["text/plain"]))}</pre>'


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
    """Return text as Markdown that shows it, with options as code."""
    return re.sub(r"(?<!\S)(--[a-z-]+)", r"`\1`", re.sub(r"([*_<>|\[\]])", r"\\\1", text))
