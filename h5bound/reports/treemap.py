"""Rectangles whose areas are the sizes of groups and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from h5bound.reports.html_parts import show
from h5bound.reports.text import format_nbytes, plural, printable
from h5bound.reports.tree import label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.reports.tree import Branch, Leaf

WIDTH, HEIGHT = 1000.0, 340.0
"""Of the map, as a page shows it on a wide screen; on others the rectangles have the same shares of it."""

TITLE = 20.0
"""Height of the name of a group."""

MAX_ITEMS = 24
"""Rectangles in one: those of the largest, and one for all others."""

MIN_TITLED, MIN_NAMED = 50.0, (40.0, 20.0)
"""Height of a group, and width and height of an array, from which on it has its name."""


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def place(self, outer: Box) -> str:
        """Return its place in another one, as CSS."""
        names = ("left", "top", "width", "height")
        shares = (
            (self.x - outer.x) / outer.width,
            (self.y - outer.y) / outer.height,
            self.width / outer.width,
            self.height / outer.height,
        )
        return ";".join(f"{name}:{100 * share:.2f}%" for name, share in zip(names, shares, strict=True))


class Item(NamedTuple):
    """What a rectangle stands for: a group, an array with its number, or several that are not shown."""

    nbytes: int
    branch: Branch | None = None
    leaf: Leaf | None = None
    number: int = -1
    others: int = 0


def draw_map(tree: Branch, rows: set[int]) -> str:
    """Return the HTML of the map of a tree; "" if nothing has a size. `rows` are the arrays that links lead to."""
    while not tree.leaves and len(tree.branches) == 1:
        (tree,) = tree.branches.values()
    whole = Box(x=0, y=0, width=WIDTH, height=HEIGHT)
    body = "".join(paint_items(list_items(tree), whole, rows))
    return f'<div class="map">{body}</div>' if body else ""


def paint_items(items: Sequence[Item], outer: Box, rows: set[int]) -> Iterator[str]:
    """Yield the HTML of items in a rectangle, with what is in a group inside of its own."""
    for item, box in zip(items, lay_out([item.nbytes for item in items], outer), strict=True):
        place = box.place(outer)
        if item.branch is not None:
            titled = box.height >= MIN_TITLED
            name = f"{printable(item.branch.name)}, {format_nbytes(item.nbytes)}"
            inside = box._replace(y=box.y + TITLE, height=box.height - TITLE) if titled else box
            head = f"<b><bdi>{show(item.branch.name)}</bdi> {format_nbytes(item.nbytes)}</b>" if titled else ""
            inner = "".join(paint_items(list_arrays(item.branch), inside, rows))
            top = f"{100 * TITLE / box.height:.2f}%" if titled else "0"
            yield f'<div style="{place}" title="{show(name)}">{head}<div style="top:{top}">{inner}</div></div>'
        else:
            yield paint_item(item, place, rows, named=box.width >= MIN_NAMED[0] and box.height >= MIN_NAMED[1])


def paint_item(item: Item, place: str, rows: set[int], *, named: bool) -> str:
    """Return the HTML of an array, or of several."""
    size = format_nbytes(item.nbytes)
    if item.leaf is None:
        text = f"{plural(item.others, 'other')}, {size}"
        return f'<a style="{place}" title="{text}">{text if named else ""}</a>'
    link = f' href="#r{item.number}"' if item.number in rows else ""
    text = f"<bdi>{show(label(item.leaf), 60)}</bdi> {size}" if named else ""
    title = show(f"{printable(item.leaf.path)}, {size}, {item.leaf.how}".removesuffix(", "))
    kind = f' class="{show(item.leaf.how)}"' if item.leaf.how else ""
    return f'<a{kind}{link} style="{place}" title="{title}">{text}</a>'


def list_items(branch: Branch) -> list[Item]:
    """Return the groups and arrays of a group, the largest first, and one item for all others."""
    items = [Item(leaf.nbytes, leaf=leaf, number=number) for number, leaf in branch.leaves]
    return shorten([*items, *(Item(inner.nbytes, branch=inner) for inner in branch.branches.values())])


def list_arrays(branch: Branch) -> list[Item]:
    """Return all arrays below a group, the largest first, and one item for all others."""
    stack, items = [branch], []
    while stack:
        inner = stack.pop()
        items += [Item(leaf.nbytes, leaf=leaf, number=number) for number, leaf in inner.leaves]
        stack += inner.branches.values()
    return shorten(items)


def shorten(items: Sequence[Item]) -> list[Item]:
    """Return the largest items, and one for all others."""
    found = sorted((item for item in items if item.nbytes), key=lambda item: -item.nbytes)
    others = found[MAX_ITEMS:]
    rest = sum(item.nbytes for item in others)
    return [*found[:MAX_ITEMS], *([Item(rest, others=len(others))] if rest else [])]


def lay_out(sizes: Sequence[int], box: Box) -> list[Box]:
    """Return a rectangle for each size, all as square as they can be in rows (a squarified treemap, Bruls et al. 2000).

    >>> [tuple(map(round, found)) for found in lay_out([2, 1, 1], Box(0, 0, 100, 50))]
    [(0, 0, 50, 50), (50, 0, 50, 25), (50, 25, 50, 25)]
    """
    boxes: list[Box] = []
    sizes = list(sizes)
    while sizes:
        side = min(box.width, box.height)
        scale = box.width * box.height / sum(sizes)
        count = 1
        while count < len(sizes) and measure(sizes[: count + 1], scale, side) <= measure(sizes[:count], scale, side):
            count += 1
        row, sizes = sizes[:count], sizes[count:]
        thickness = sum(row) * scale / side
        at = 0.0
        for size in row:
            length = size * scale / thickness
            if box.width >= box.height:
                boxes.append(Box(x=box.x, y=box.y + at, width=thickness, height=length))
            else:
                boxes.append(Box(x=box.x + at, y=box.y, width=length, height=thickness))
            at += length
        box = (
            box._replace(x=box.x + thickness, width=max(box.width - thickness, 1e-9))
            if box.width >= box.height
            else box._replace(y=box.y + thickness, height=max(box.height - thickness, 1e-9))
        )
    return boxes


def measure(row: Sequence[int], scale: float, side: float) -> float:
    """Return the worst ratio of the sides of rectangles in a row."""
    total = sum(row) * scale
    return max(max(side**2 * size * scale / total**2, total**2 / (side**2 * size * scale)) for size in row)
