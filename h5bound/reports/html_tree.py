"""HTML of a tree of arrays: what fits, with shapes, sizes and pictures of chunks; what is left out is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.reports.chunk_picture import draw_chunks
from h5bound.reports.html_parts import fit, render_facts, show
from h5bound.reports.text import format_nbytes, plural
from h5bound.reports.tree import describe_rest, find_branches, grow_tree, label, order_by_rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.reports.tree import Branch, Leaf

NAME = 60
"""Characters of a name in the tree."""

MAX_DEPTH = 30
"""Levels of groups that are shown."""

OPEN_LINES, OPEN_DETAILS = 40, 2
"""Most lines that are seen before a click, and most arrays of a tree whose details are."""

FORMS = (
    (2000, 60), (1000, 60), (1000, 30), (1000, 15), (700, 20), (500, 15), (350, 15), (350, 8), (250, 12), (250, 6),
    (150, 8), (80, 6), (40, 5), (20, 3), (8, 2), (3, 1), (1, 0), (0, 0),
)  # fmt: skip
"""Numbers of leaves that are shown, and of those with details: the first that fits is taken."""


def render_tree(leaves: Sequence[Leaf], room: int) -> str:
    """Return the HTML of a tree in at most `room` bytes; "" without leaves."""
    if not leaves:
        return ""
    tree = grow_tree(leaves)
    order = order_by_rank(tree)
    return fit(lambda form: paint_tree(tree, leaves, order=order, form=form), FORMS, room)


def paint_tree(
    tree: Branch, leaves: Sequence[Leaf], *, order: Sequence[int], form: tuple[int, int], anchors: bool = False
) -> str:
    """Return the HTML with so many leaves, and so many of them with details, as the form says.

    Those are the first ones of the order. With anchors, each array has an id that links lead to.
    """
    count, details = form
    shown = order[:count]
    detailed = [number for number in shown if leaves[number].grid is not None][:details]
    painter = TreePainter(tree, leaves, shown=shown, detailed=detailed, anchors=anchors)
    datasets = sum(leaf.grid is not None for leaf in leaves)
    is_part = 0 < len(detailed) < datasets
    note = f"<div><i>pictures of {len(detailed):,} of {plural(datasets, 'dataset')}</i></div>" if is_part else ""
    return f'<div class="t">{"".join(painter.paint(tree, 0))}{note}</div>'


class TreePainter:
    """Makes the lines of a tree, for the leaves that are shown."""

    def __init__(
        self, tree: Branch, leaves: Sequence[Leaf], *, shown: Sequence[int], detailed: Sequence[int], anchors: bool
    ) -> None:
        self.shown, self.detailed = set(shown), set(detailed)
        self.branches = find_branches(tree, (leaves[number] for number in shown))
        self.anchors = anchors
        self.opened = self.find_opened(tree)
        self.open_leaves = " open" if len(leaves) <= OPEN_DETAILS else ""

    def find_opened(self, tree: Branch) -> set[int]:
        """Return the identities of the groups that are open at first: outer ones before those in them."""
        opened, queue, lines = set(), [tree], 0
        for branch in queue:
            inner = [one for one in branch.branches.values() if id(one) in self.branches]
            count = len(inner) + sum(number in self.shown for number, _ in branch.leaves)
            if lines + count <= OPEN_LINES:
                opened.add(id(branch))
                queue += inner
                lines += count
        return opened

    def paint(self, branch: Branch, depth: int) -> Iterator[str]:
        """Yield the HTML of what is in a group: arrays first, then groups, then what is left out."""
        for number, leaf in branch.leaves:
            if number in self.shown:
                yield self.paint_leaf(number, leaf)
        inner = list(branch.branches.values())
        shown = [one for one in inner if id(one) in self.branches] if depth < MAX_DEPTH else []
        for one in shown:
            size = f"<b>{format_nbytes(one.nbytes)}</b>" if one.datasets else ""
            head = f"<summary><bdi>{show(one.name, NAME)}</bdi> <i>{one.describe()}</i> {size}</summary>"
            yield f"<details{' open' if id(one) in self.opened else ''}>{head}"
            yield from self.paint(one, depth + 1)
            yield "</details>"
        kept = set(map(id, shown))
        text, size = describe_rest(
            (leaf for number, leaf in branch.leaves if number not in self.shown),
            (one for one in inner if id(one) not in kept),
        )
        if text:
            yield f"<p><i>{text}</i> <b>{size}</b></p>"

    def paint_leaf(self, number: int, leaf: Leaf) -> str:
        """Return the HTML of an array, or of a group that holds nothing."""
        anchor = f' id="r{number}"' if self.anchors else ""
        if leaf.grid is None:
            return f"<p{anchor}><bdi>{show(label(leaf), NAME)}</bdi> <i>empty group</i></p>"
        grid = leaf.grid
        how = f' <em class="{show(leaf.how)}">{show(leaf.how)}</em>' if leaf.how else ""
        size = "" if grid.nbytes is None and not leaf.nbytes else format_nbytes(leaf.nbytes)
        line = (
            f"<bdi>{show(label(leaf), NAME)}</bdi> <i>{show(grid.describe_shape())} {show(grid.type)}</i>{how} "
            f"<b>{size}</b>"
        )
        if number not in self.detailed:
            return f"<p{anchor}>{line}</p>"
        facts = {"chunks": grid.describe_chunks(), **leaf.facts()}
        body = f'<div class="f"{anchor}>{render_facts(facts)}{draw_chunks(grid)}</div>'
        return f"<details{self.open_leaves}><summary>{line}</summary>{body}</details>"
