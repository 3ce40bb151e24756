"""What all HTML is made of: the stylesheet, escaped text, tables, lists, and parts that fold."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from h5bound.reports.text import cut, plural, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeVar

    from h5bound.reports.digest import Table
    from h5bound.reports.remarks import Section

    Form = TypeVar("Form")

NAME_WIDTH = 120
"""Characters of a name or reason."""

LONG = 32
"""Characters of a cell from which on it is folded where the page is narrow."""

STATES = {
    "copied", "decoded", "mixed", "metadata", "equal", "different", "refused", "ranges", "encoded", "converted",
    "whole", "damaged",
}  # fmt: skip
"""What becomes of an array or a file: words that have a colour."""

STYLE = """<style>
.h5b{font-size:13px;line-height:1.5;max-width:60em;text-align:left;overflow-wrap:anywhere}
.h5b.h5b details{all:unset;display:block}
.h5b.h5b details details,.h5b.h5b details>p,.h5b.h5b details>div{margin:0 0 0 1.1em}
.h5b.h5b summary,.h5b.h5b p{all:unset;display:flex;flex-wrap:wrap;gap:0 .7em;padding:.1em 0}
.h5b.h5b summary{cursor:pointer}
.h5b.h5b .n{flex-wrap:nowrap}
.h5b.h5b details>p,.h5b.h5b .t p{padding-left:1.1em}
.h5b.h5b summary::-webkit-details-marker{display:none}
.h5b.h5b summary::after{display:none}
.h5b.h5b summary::before{all:unset;content:"▸";width:.8em;margin-right:-.4em;opacity:.6}
.h5b.h5b details[open]>summary::before{content:"▾"}
.h5b.h5b summary:hover,.h5b.h5b p:hover{background:rgba(128,128,128,.13)}
.h5b.h5b summary:focus-visible{outline:1px solid}
.h5b i{font-style:normal;opacity:.7}
.h5b p>b,.h5b summary>b{font-weight:400;margin-left:auto;flex:none;white-space:nowrap}
.h5b em{font-style:normal}
.h5b em::before{content:"";display:inline-block;width:.6em;height:.6em;margin-right:.35em;border-radius:2px;\
background:#888}
.h5b em.copied::before,.h5b em.equal::before,\
.h5b em.converted::before,.h5b em.whole::before,.h5b em.ranges::before{background:#2f9e6e}
.h5b em.decoded::before,.h5b em.encoded::before{background:#3f83d1}
.h5b em.mixed::before{background:#c99a1c}
.h5b em.different::before,.h5b em.damaged::before,.h5b em.refused::before{background:#d1433f}
.h5b .f{display:flex;flex-wrap:wrap;gap:.4em 2em;align-items:flex-start;padding:.2em 0 .5em}
.h5b table{border-collapse:collapse;margin:.3em 0;font-size:inherit;border:0;width:auto}
.h5b th,.h5b td{text-align:right;vertical-align:top;padding:.1em .9em .1em 0;background:none;color:inherit;border:0;\
white-space:nowrap;font-size:inherit;line-height:inherit}
.h5b thead th{border-bottom:1px solid rgba(128,128,128,.5);font-weight:600}
.h5b tbody th{font-weight:400;opacity:.7}
.h5b.h5b .l,.h5b.h5b tbody th{text-align:left}
.h5b.h5b .w{text-align:left;white-space:normal;overflow-wrap:anywhere}
.h5b .o{overflow-x:auto}
.h5b ul{margin:.1em 0 .4em;padding-left:2.2em;list-style:disc}
.h5b.h5b li{margin:0}
.h5b svg{overflow:visible;flex:none;max-width:100%}
.h5b svg path{fill:none;stroke:currentColor;stroke-width:.7;opacity:.55}
.h5b svg .a,.h5b svg .d{fill:#e8a15b;stroke-width:1.4;opacity:.65}
.h5b svg .d{fill:#a8632a}
.h5b svg text{fill:currentColor;font-size:11px;text-anchor:middle}
</style>"""
"""Colours are those of the text around it, or can be seen on light and dark ground.

The class twice counts for more than what the stylesheets of sites say of all details.
"""


def fit(make: Callable[[Form], str], forms: Iterable[Form], room: int) -> str:
    """Return what is made of the first form that takes at most `room` bytes; else of the last one."""
    html = ""
    for form in forms:
        html = make(form)
        if len(html.encode()) <= room:
            break
    return html


def render_table(table: Table, limit: int) -> str:
    """Return the HTML of a table."""
    if not table.rows:
        return ""
    head = "".join(cell("th", title, left=i < table.texts) for i, title in enumerate(table.columns))
    rows = [
        f"<tr>{''.join(cell('td', text, left=i < table.texts) for i, text in enumerate(row))}</tr>"
        for row in table.rows[:limit]
    ]
    more = count_more(len(table.rows), limit)
    rows += [f'<tr><td class="l" colspan="{len(table.columns)}">{more}</td></tr>'] if more else []
    head = f"<thead><tr>{head}</tr></thead>"
    return f'<div class="o"><table class="h">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def cell(tag: str, text: str, *, left: bool) -> str:
    """Return a cell of a table."""
    kind = ' class="w"' if left and len(text) > LONG else ' class="l"' if left else ""
    words = f'<em class="{text}">{text}</em>' if text in STATES else show(text)
    return f"<{tag}{kind}>{words}</{tag}>"


def render_facts(facts: Mapping[str, str]) -> str:
    """Return a table with a row for each title that has text."""
    rows = (
        f'<tr><th>{show(title)}</th><td class="w">{show(text, 3 * NAME_WIDTH)}</td></tr>'
        for title, text in facts.items()
        if text
    )
    return f'<table class="h"><tbody>{"".join(rows)}</tbody></table>'


def render_section(section: Section, limit: int) -> str:
    """Return the HTML of a section: each reason once, with the names of its objects after a click."""
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
    """Return the HTML of a list of names."""
    items = [f"<bdi>{show(name)}</bdi>" for name in names[:limit]]
    more = count_more(len(names), limit)
    return f"<ul>{''.join(f'<li>{item}</li>' for item in ([*items, more] if more else items))}</ul>"


def fold(title: str, content: str) -> str:
    """Return content that is shown after a click on its title."""
    return f'<details><summary class="n"><span>{escape(title)}</span></summary>{content}</details>'


def count_more(count: int, limit: int) -> str:
    """Return how many entries are not shown, as text."""
    return f"… and {count - limit:,} more" if count > limit else ""


def show(text: str, width: int = NAME_WIDTH) -> str:
    """Return text as HTML: shortened in the middle if it is long, with escapes for what cannot be printed."""
    return escape(cut(printable(text), width))
