"""A picture of the chunks of an array, as dask has one of the blocks of its arrays: lines in the colour of the text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.reports.tree import Grid

SIZE = 110
"""Pixels of the longest side of a face."""

MAX_LINES = 18
"""Most lines of a face along each axis; where there are more chunks, some lines are left out and the face is darker."""

MAX_AXES = 9
"""Most axes of an array that has a picture."""

TEXT_ROOM = 46
"""Pixels for the numbers beside a face."""


class Axis(NamedTuple):
    """One axis of an array."""

    extent: int
    chunk: int
    length: float
    """Pixels."""

    def list_lines(self) -> list[float]:
        """Return the positions of lines between chunks, and at both ends, in pixels."""
        count = -(-self.extent // self.chunk)
        step = max(1, -(-count // MAX_LINES))
        return [min(i * self.chunk, self.extent) * self.length / self.extent for i in range(0, count, step)] + [
            self.length
        ]

    @property
    def is_dense(self) -> bool:
        """Whether some lines are left out."""
        return -(-self.extent // self.chunk) > MAX_LINES


def draw_chunks(grid: Grid) -> str:
    """Return the picture as SVG, three axes in one body; "" without elements or axes, and for many axes."""
    shape = grid.shape or ()
    if not 0 < len(shape) <= MAX_AXES or 0 in shape:
        return ""
    chunks = [max(1, min(pair)) for pair in zip(shape, grid.chunks or shape, strict=True)]
    axes = [Axis(*axis) for axis in zip(shape, chunks, scale(shape), strict=True)]
    parts, left, height = [], 0.0, 0.0
    while axes:
        count = len(axes) % 3 or 3
        body, width, bottom = draw_body(axes[:count], left)
        parts += body
        left, height, axes = left + width, max(height, bottom), axes[count:]
    label = grid.describe_chunks() or "no chunks"
    return f'<svg width="{left:.0f}" height="{height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def scale(shape: Sequence[int]) -> list[float]:
    """Return the pixels of the axes: their ratios, less of it the larger they are, as dask has them.

    >>> scale((10, 20)), [round(length) for length in scale((1, 10**9))]
    ([55.0, 110.0], [23, 110])
    """
    longest = max(shape)
    return [SIZE / soften(longest / extent) for extent in shape]


def soften(ratio: float) -> float:
    """Return a smaller ratio for one that is hard to draw."""
    return ratio if ratio <= math.e else math.log(min(ratio, 100) + 12.4)


def draw_body(axes: list[Axis], left: float) -> tuple[list[str], float, float]:
    """Return the faces of one to three axes and their numbers, with the width and the height of all."""
    if len(axes) == 1:
        axes = [Axis(1, 1, scale((1, 10**9))[0]), *axes]
        numbers = axes[1:]
    else:
        numbers = axes
    *outer, down, right = axes
    depth = outer[0].length / 1.7 if outer else 0.0
    x, y = left + depth + 1, depth + 1
    parts = [draw_face((x, y), right, down, skews=((1, 0), (0, 1)))]
    if outer:
        back = outer[0]._replace(length=depth)
        parts.append(draw_face((left + 1, 1), right, back, skews=((1, 0), (1, 1))))
        parts.append(draw_face((left + 1, 1), back, down, skews=((1, 1), (0, 1))))
    width, height = depth + right.length + TEXT_ROOM, depth + down.length + 20
    parts.append(write_number(x + right.length / 2, y + down.length + 14, numbers[-1].extent))
    if len(numbers) > 1:
        parts.append(
            write_number(x + right.length + 5, y + down.length / 2 + 4, down.extent, style="text-anchor:start")
        )
    if outer:
        turned = (left + depth / 2 - 7, depth / 2 + down.length + 12)
        parts.append(write_number(*turned, outer[0].extent, turn=45))
    return parts, width, height


def draw_face(
    origin: tuple[float, float], first: Axis, second: Axis, *, skews: tuple[tuple[int, int], tuple[int, int]]
) -> str:
    """Return one face: its area, and lines between the chunks along two axes, whose directions are `skews`."""
    (ax, ay), (bx, by) = skews
    (x, y), a, b = origin, first.length, second.length
    corners = f"M{show(x)} {show(y)}l{show(ax * a)} {show(ay * a)} {show(bx * b)} {show(by * b)} "
    area = f"{corners}{show(-ax * a)} {show(-ay * a)}z"
    lines = "".join(draw_lines(origin, first, (ax, ay), end=(bx * b, by * b)))
    lines += "".join(draw_lines(origin, second, (bx, by), end=(ax * a, ay * a)))
    kind = "d" if first.is_dense or second.is_dense else "a"
    return f'<path class="{kind}" d="{area}"/><path d="{lines}"/>'


def draw_lines(
    origin: tuple[float, float], axis: Axis, direction: tuple[int, int], *, end: tuple[float, float]
) -> Iterator[str]:
    """Yield the lines across an axis."""
    for position in axis.list_lines():
        x, y = origin[0] + direction[0] * position, origin[1] + direction[1] * position
        yield f"M{show(x)} {show(y)}l{show(end[0])} {show(end[1])}"


def show(number: float) -> str:
    """Return a coordinate in few characters.

    >>> show(1.0), show(-0.04), show(12.345)
    ('1', '0', '12.3')
    """
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def write_number(x: float, y: float, number: int, *, style: str = "", turn: int = 0) -> str:
    """Return a number beside a face, in the middle of x unless its style has another anchor, perhaps turned."""
    place = f'x="{show(x)}" y="{show(y)}"'
    style = f' style="{style}"' if style else ""
    turned = f' transform="rotate({turn} {show(x)} {show(y)})"' if turn else ""
    return f"<text {place}{style}{turned}>{number}</text>"
