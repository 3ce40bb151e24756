"""HTML of reports for notebooks: no script, colours as around it, every name escaped, of bounded size."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from h5bound.reports.text import cut, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.reports.digest import Digest, Table
    from h5bound.reports.remarks import Section

MAX_HTML = 50_000
"""Bytes of the HTML of one report."""

MAX_ROWS = 12
"""Rows of a table that are shown at once; of a longer one after a click."""

NAME_WIDTH = 120
"""Characters of a name or reason."""

LONG = 32
"""Characters of a cell from which on it is folded where the page is narrow."""

STYLE = """<style>
.h5bound-report table {border-collapse: collapse; margin: .4em 0}
.h5bound-report th, .h5bound-report td {text-align: right; padding: .1em .8em .1em 0; background: none; color: inherit}
.h5bound-report th, .h5bound-report td {white-space: nowrap}
.h5bound-report .text, .h5bound-report .long {text-align: left}
.h5bound-report .long {white-space: normal; overflow-wrap: anywhere}
.h5bound-report th {border-bottom: 1px solid; font-weight: 600}
.h5bound-report summary {cursor: pointer}
.h5bound-report ul {margin: .2em 0 .4em 0; padding-left: 2em}
</style>"""


def render(digest: Digest) -> str:
    """Return the HTML, with so many entries of each list that it is not too long."""
    html = ""
    for limit in (400, 200, 100, 50, 20, 10, 5, 2, 1, 0):
        html = render_entries(digest, limit)
        if len(html.encode()) <= MAX_HTML:
            break
    return html


def render_entries(digest: Digest, limit: int) -> str:
    """Return the HTML with so many entries of each list."""
    parts = [f"<div><b>{digest.kind}</b> {show(digest.subject, 2 * NAME_WIDTH)}</div>"]
    lines = [show(line, 2 * NAME_WIDTH) for line in digest.list_lines()]
    parts += [f"<div>{f'<b>{line}</b>' if digest.failed else line}</div>" for line in lines]
    table = render_table(digest.table, limit)
    if len(digest.table.rows) > MAX_ROWS:
        rows = plural(len(digest.table.rows), digest.table.columns[0])
        parts += [render_table(digest.totals, limit), fold(rows, table)]
    else:
        parts.append(table)
    parts += [render_section(section, limit) for section in digest.sections if section.remarks]
    return f'{STYLE}<div class="h5bound-report">{"".join(parts)}</div>'


def render_table(table: Table, limit: int) -> str:
    """Return the HTML of a table, without end tags that HTML does not need."""
    if not table.rows:
        return ""
    head = "".join(cell("th", title, left=i < table.texts) for i, title in enumerate(table.columns))
    rows = [
        "<tr>" + "".join(cell("td", text, left=i < table.texts) for i, text in enumerate(row))
        for row in table.rows[:limit]
    ]
    more = count_more(len(table.rows), limit)
    rows += [f'<tr><td class="text" colspan="{len(table.columns)}">{more}'] if more else []
    return f"<table><thead><tr>{head}<tbody>{''.join(rows)}</table>"


def cell(tag: str, text: str, *, left: bool) -> str:
    """Return a cell of a table."""
    kind = " class=long" if left and len(text) > LONG else " class=text" if left else ""
    return f"<{tag}{kind}>{show(text, NAME_WIDTH)}"


def render_section(section: Section, limit: int) -> str:
    """Return the HTML of what is said of some things: each reason once, with the names after a click."""
    shown = max(1, limit // 10)
    parts = []
    for remark in section.remarks[:shown]:
        if len(remark.facts) == 1:
            parts.append(f"<div>{show(f'{section.title}: {remark.describe()}', 3 * NAME_WIDTH)}</div>")
        else:
            title = f"{section.title}: {plural(len(remark.facts), remark.facts[0].noun)}: {remark.reason}"
            parts.append(fold(cut(title, 3 * NAME_WIDTH), render_list([fact.name for fact in remark.facts], limit)))
    rest = len(section.remarks) - shown
    return "".join(
        [*parts, f"<div>{escape(section.title)}: … and {plural(rest, 'other reason')}</div>"] if rest > 0 else parts
    )


def render_list(names: Sequence[str], limit: int) -> str:
    """Return the HTML of a list."""
    items = [show(name, NAME_WIDTH) for name in names[:limit]]
    more = count_more(len(names), limit)
    return "<ul>" + "".join(f"<li>{item}" for item in ([*items, more] if more else items)) + "</ul>"


def fold(title: str, content: str) -> str:
    """Return content that is shown after a click on its title."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def count_more(count: int, limit: int) -> str:
    """Return how many entries are not shown, as text."""
    return f"… and {count - limit:,} more" if count > limit else ""


def show(text: str, width: int) -> str:
    """Return printable text in HTML, without the middle of long text."""
    return escape(cut(text, width))
