"""The picture of a graph in ``docs/images/graph.svg``, drawn from the graph itself; ``python -m bench.graph_picture``.

dask draws the same with ``array.sum().visualize(optimize_graph=False)``, where Graphviz is installed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import h5py
import numpy as np
from dask.utils import key_split

import h5bound
from bench.chart import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask.typing import Key

NAME = "graph.svg"

COLUMN, ROW, TOP = 124, 46, 84
"""Distances of columns and rows, and the height of the first row, in pixels."""
BOX = (92, 26)
"""Size of a task, in pixels."""

OWN = {"open", "read", "close", "wait_on"}
"""Tasks of h5bound; the others are dask's."""

STYLE = (
    "text{font:12px system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#727b85;text-anchor:middle}"
    ".title{font-size:15px;font-weight:600;text-anchor:start}.sub{text-anchor:start}"
    ".box{fill:#2f81f7}.box.down{fill:#727b85}.in{fill:#fff}"
    ".edge{stroke:#98a2ad;fill:none}.open{fill:#2f81f7;opacity:.12}"
)


@dataclass(frozen=True)
class Picture:
    """A graph from left to right: each task in the column behind all that it needs."""

    needs: Mapping[Key, frozenset[Key]]
    """What each task waits for."""

    @cached_property
    def columns(self) -> dict[Key, int]:
        """Number of the column of each task."""
        columns: dict[Key, int] = {}

        def find(key: Key) -> int:
            if key not in columns:
                columns[key] = 1 + max(map(find, self.needs[key]), default=-1)
            return columns[key]

        for key in self.needs:
            find(key)
        return columns

    @cached_property
    def rows(self) -> dict[Key, float]:
        """Position of each task from top to bottom: that of its block, else the mean of its inputs, or of all."""
        rows: dict[Key, float] = {}
        for key in sorted(self.needs, key=self.columns.__getitem__):
            _, _, number = name(key).partition(" ")
            inputs = [rows[need] for need in self.needs[key] if self.columns[need]]
            if number or inputs:
                rows[key] = float(number) if number else mean(inputs)
        return {key: rows.get(key, mean((min(rows.values()), max(rows.values())))) for key in self.needs}

    def place(self, key: Key) -> tuple[float, float]:
        """Return the middle of the box of a task."""
        return 60 + COLUMN * self.columns[key], TOP + ROW * self.rows[key]

    def draw(self, title: str, subtitle: str) -> str:
        """Return the SVG."""
        keys = sorted(self.needs, key=self.place)
        width = 60 + COLUMN * max(self.columns.values()) + 60
        height = int(TOP + ROW * (max(self.rows.values()) + 0.5)) + 4
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
                f' height="{height}" role="img" aria-labelledby="title desc">',
                f'<title id="title">{escape(title)}</title>',
                f'<desc id="desc">{escape(subtitle)}</desc>',
                f"<style>{STYLE}</style>",
                f'<text class="title" x="10" y="20">{escape(title)}</text>',
                f'<text class="sub" x="10" y="40">{escape(subtitle)}</text>',
                *(line for key in keys for line in self._draw_window(key)),
                *(line for key in keys for line in self._draw_edges(key)),
                *(line for key in keys for line in self._draw_box(key)),
                "</svg>\n",
            ]
        )

    def _draw_window(self, key: Key) -> Iterator[str]:
        """Yield what lies behind a close and the reads before it: meanwhile the file is open."""
        if name(key) == "close":
            tops = [self.place(need)[1] for need in self.needs[key] if self.columns[need]]
            left, right = COLUMN + 60 - BOX[0] / 2 - 8, COLUMN * 2 + 60 + BOX[0] / 2 + 8
            top, bottom = min(tops) - BOX[1] / 2 - 6, max(tops) + BOX[1] / 2 + 6
            yield f'<rect class="open" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="6"/>'

    def _draw_edges(self, key: Key) -> Iterator[str]:
        x, y = self.place(key)
        for need in sorted(self.needs[key], key=self.place):
            if self.columns[need] == 0 and name(key).startswith("close"):
                continue  # the handle that the reads have too
            from_x, from_y = self.place(need)
            start, end, middle = from_x + BOX[0] / 2, x - BOX[0] / 2, (from_x + x) / 2
            yield f'<path class="edge" d="M{start} {from_y}C{middle} {from_y} {middle} {y} {end} {y}"/>'

    def _draw_box(self, key: Key) -> Iterator[str]:
        x, y = self.place(key)
        own = name(key).partition(" ")[0] in OWN
        yield (
            f'<rect class="box{"" if own else " down"}" x="{x - BOX[0] / 2}" y="{y - BOX[1] / 2}" width="{BOX[0]}"'
            f' height="{BOX[1]}" rx="4"/>'
        )
        yield f'<text class="in" x="{x}" y="{y + 4}">{escape(name(key))}</text>'


def name(key: Key) -> str:
    """Return what a box says: what the task does, and the number of the block."""
    text = key_split(key).partition(":")[0].removesuffix("-0").removesuffix("-aggregate")
    return f"{text} {key[1]}" if isinstance(key, tuple) and len(key) > 1 and "-" not in text else text


def draw() -> str:
    """Return the picture of a sum over four blocks in two windows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("temperature", data=np.zeros((20, 20)), chunks=(5, 20))
        total = h5bound.from_hdf5(path, "temperature", chunks={}, window=1600).sum()
        graph = total.__dask_graph__().cull(total.__dask_keys__())
        needs = {key: frozenset(found) for key, found in graph.get_all_dependencies().items()}
    return Picture(needs).draw(
        'from_hdf5("scan.h5", "temperature", chunks={}, window=1600).sum()',
        "Four blocks in two windows. The file is open from the first read of a window to its close.",
    )


if __name__ == "__main__":
    (IMAGES / NAME).write_text(draw(), encoding="utf-8")
