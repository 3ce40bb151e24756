"""A report as one page of its own: opened without a network, in light and dark, on wide and narrow screens."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from h5bound.reports.html_parts import NAME_WIDTH, STYLE, fit, render_table, show
from h5bound.reports.html_tree import paint_tree
from h5bound.reports.remarks import ARROW
from h5bound.reports.text import format_nbytes, plural, printable
from h5bound.reports.tree import grow_tree, order_by_size
from h5bound.reports.treemap import draw_map

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.reports.digest import Digest
    from h5bound.reports.remarks import Fact, Remark, Section
    from h5bound.reports.tree import Branch

MAX_TREE, MAX_LISTS = 700_000, 250_000
"""Bytes of the tree of a page, and of what it says of objects."""

FORMS = ((4000, 400), (2000, 300), (1000, 300), (1000, 150), (500, 100), (200, 60), (100, 30), (30, 10), (0, 0))
"""Numbers of arrays that are shown, the largest ones, and of those with details."""

LIMITS = (1000, 300, 100, 30, 10, 3, 1)
"""Numbers of reasons of one kind, and of objects that each names."""

MAX_ROWS = 2000
"""Rows of a table of files."""

HEADINGS = {
    "failed": "Files that failed",
    "refused": "Files that would be refused",
    "damaged": "Damaged",
    "not checked": "Not checked",
    "differs": "Differences",
    "skipped": "Skipped: not in the store",
    "left out": "Files that were left out",
    "warning": "Warnings",
    "in another form": "In another form",
    "note": "Notes",
    "decoded": "Why chunks were not copied",
    "rechunked": "Rechunking",
    "metadata": "Without values",
    "decided": "Differences between the files, and what was decided",
    "between files": "Between the files",
    "encoded": "Why chunks are no ranges of the file",
    "codec": "Codecs that readers need",
    "not compared": "Not compared",
}
"""What stands above each list."""

ANCHOR = re.compile(r'(?<= id="r)\d+(?=">)')
"""The number of a row."""

MAP_NOTE = "Areas are bytes, in groups; each name leads to its row below."

PAGE_STYLE = """<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:1.2em 1em 4em;max-width:64em;overflow-wrap:anywhere}
h1{font-size:1.35em;line-height:1.3;margin:.2em 0 .4em}
h2{font-size:1.05em;margin:1.8em 0 .4em}
.bad{color:#d1433f}
.tiles{display:flex;flex-wrap:wrap;gap:.6em;margin:1em 0;padding:0}
.tiles div{border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.4em .8em}
.tiles dt{opacity:.7;font-size:.85em}
.tiles dd{margin:0;font-weight:600}
.map{position:relative;height:340px;background:rgba(128,128,128,.15);border-radius:4px;overflow:hidden}
.map div,.map a{position:absolute;overflow:hidden;box-sizing:border-box}
.map div{left:0;right:0;bottom:0}
.map>div{outline:2px solid Canvas;right:auto;bottom:auto}
.map b{display:block;font:600 12px/20px system-ui,sans-serif;padding:0 5px;white-space:nowrap;\
background:rgba(128,128,128,.25)}
.map a{font:12px/1.3 system-ui,sans-serif;color:#fff;background:#666;border:solid Canvas;border-width:0 1px 1px 0;\
padding:3px 5px;text-decoration:none;white-space:nowrap;overflow-wrap:normal}
.map bdi{overflow:hidden;text-overflow:ellipsis}
.map a bdi{display:block}
.map a:hover,.map a:focus-visible{filter:brightness(1.2);outline:0}
.map .copied,.map .ranges{background:#23805a}
.map .decoded,.map .encoded{background:#2f6fb8}
.map .mixed{background:#946a0c}
.h5b{max-width:none}
.h5b a{color:inherit;text-underline-offset:2px}
.h5b :target{outline:2px solid #3f83d1;scroll-margin:3em}
.h5b details>ul{columns:20em}
.h5b li{break-inside:avoid}
@media print{.h5b details{break-inside:avoid}}
</style>"""


def render_page(digest: Digest) -> str:
    """Return the page: figures, sizes, reasons, and a row for each array, or for the largest of very many."""
    head = "".join(
        f"<p{' class=bad' if digest.failed else ''}>{show(line, 10 * NAME_WIDTH)}</p>" for line in digest.list_lines()
    )
    tree, order = grow_tree(digest.leaves), order_by_size(digest.leaves)
    shown, rows = paint_rows(digest, tree, order)
    links = {printable(digest.leaves[number].path): number for number in shown}
    sizes = {printable(leaf.path): leaf.nbytes for leaf in digest.leaves}
    lists = fit(partial(render_lists, digest, links, sizes), LIMITS, MAX_LISTS)
    picture = draw_map(tree, set(links.values()))
    picture = f"<h2>Sizes</h2>{picture}<p><small>{MAP_NOTE}</small></p>" if picture else ""
    totals = render_table(digest.totals, MAX_ROWS)
    table = "" if digest.leaves else render_table(digest.table, MAX_ROWS)
    arrays = f"<h2>Datasets</h2>{rows}" if digest.leaves else ""
    kind, subject = show(digest.kind), show(digest.subject, 10 * NAME_WIDTH)
    style = STYLE.removesuffix("</style>") + PAGE_STYLE.removeprefix("<style>\n")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{kind}: {subject}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{style}</head><body>'
        f"<h1><bdi>{subject}</bdi></h1>{head}{render_figures(digest)}"
        f'{picture}<div class="h5b">{totals}{table}{lists}{arrays}</div></body></html>\n'
    )


def paint_rows(digest: Digest, tree: Branch, order: list[int]) -> tuple[list[int], str]:
    """Return the arrays and empty groups that have a row to link to, and the tree of all rows."""
    html = fit(lambda form: paint_tree(tree, digest.leaves, order=order, form=form, anchors=True), FORMS, MAX_TREE)
    return [int(number) for number in ANCHOR.findall(html)], html


def render_figures(digest: Digest) -> str:
    """Return the numbers of the report as tiles."""
    tiles = "".join(f"<div><dt>{show(name)}</dt><dd>{show(text)}</dd></div>" for name, text in digest.figures)
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def render_lists(digest: Digest, links: Mapping[str, int], sizes: Mapping[str, int], limit: int) -> str:
    """Return what is said of objects, with so many of them for each reason, linked to their rows."""
    parts = []
    for section in digest.sections:
        if section.remarks:
            heading = HEADINGS.get(section.title, section.title.capitalize())
            parts.append(f"<h2>{show(heading)}</h2>")
            parts += [render_remark(remark, links, sizes, limit=limit) for remark in section.remarks[:limit]]
            parts.append(describe_others(section, limit))
    return "".join(parts)


def describe_others(section: Section, limit: int) -> str:
    """Return how many reasons are not shown; "" if all are."""
    rest = section.remarks[limit:]
    count = sum(len(remark.facts) for remark in rest)
    return f"<p><i>… not shown: {plural(len(rest), 'reason')} of {plural(count, 'object')}</i></p>" if rest else ""


def render_remark(remark: Remark, links: Mapping[str, int], sizes: Mapping[str, int], *, limit: int) -> str:
    """Return one reason, and the objects that it holds for."""
    noun, count = remark.facts[0].noun, len(remark.facts)
    names = [f"<li>{link(fact, links)}</li>" for fact in remark.facts[:limit]]
    names += [f"<li>… {count - limit:,} more</li>"] if count > limit else []
    nbytes = sum(sizes.get(fact.name, 0) for fact in remark.facts)
    size = f"<b>{format_nbytes(nbytes)}</b>" if nbytes else ""
    head = f"<span>{show(remark.reason, 5 * NAME_WIDTH)} <i>{plural(count, noun)}</i></span> {size}"
    is_open = " open" if count <= 3 else ""
    return f'<details{is_open}><summary class="n">{head}</summary><ul>{"".join(names)}</ul></details>'


def link(fact: Fact, links: Mapping[str, int]) -> str:
    """Return the name of an object, as a link if it has a row."""
    name = f"<bdi>{show(fact.name, 2 * NAME_WIDTH)}</bdi>".replace(show(ARROW), " → ")
    path = fact.name.partition(ARROW)[0].rpartition("' of ")[2]
    return f'<a href="#r{links[path]}">{name}</a>' if path in links else name
