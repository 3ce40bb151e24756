"""HTML of reports for notebooks: no script, colours as around it, every name escaped, of bounded size."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from h5bound.reports.html_parts import NAME_WIDTH, STYLE, fit, fold, render_section, render_table, show
from h5bound.reports.html_tree import render_tree
from h5bound.reports.text import plural

if TYPE_CHECKING:
    from h5bound.reports.digest import Digest

MAX_HTML = 50_000
"""Bytes of the HTML of one report."""

MAX_SECTIONS = MAX_HTML // 3
"""Bytes of what is said of objects."""

MAX_ROWS = 12
"""Rows of a table that are shown at once; of a longer one after a click."""

LIMITS = (400, 200, 100, 50, 20, 10, 5, 2, 1, 0)
"""Numbers of entries of each list: the first that fits is taken."""


def render(digest: Digest) -> str:
    """Return the HTML. Lists are shortened until it takes at most `MAX_HTML` bytes."""
    lines = [show(line, 2 * NAME_WIDTH) for line in digest.list_lines()]
    head = f"<div><b>{digest.kind}</b> <bdi>{show(digest.subject, 2 * NAME_WIDTH)}</bdi></div>"
    head += "".join(f"<div>{f'<b>{line}</b>' if digest.failed else line}</div>" for line in lines)
    sections = fit(partial(render_sections, digest), LIMITS, MAX_SECTIONS)
    room = MAX_HTML - len(f"{STYLE}{head}{sections}".encode()) - 100
    if digest.leaves:
        body = render_table(digest.totals, MAX_ROWS) + render_tree(digest.leaves, room - 2000)
    else:
        body = fit(partial(render_rows, digest), LIMITS, room)
    return f'{STYLE}<div class="h5b">{head}{body}{sections}</div>'


def render_sections(digest: Digest, limit: int) -> str:
    """Return the HTML of all sections, with at most `limit` objects for each reason."""
    return "".join(render_section(section, limit) for section in digest.sections if section.remarks)


def render_rows(digest: Digest, limit: int) -> str:
    """Return the HTML of the tables, with at most `limit` rows."""
    table = render_table(digest.table, limit)
    if len(digest.table.rows) <= MAX_ROWS:
        return table
    rows = plural(len(digest.table.rows), digest.table.columns[0])
    return render_table(digest.totals, limit) + fold(rows, table)
