"""The charts of ``docs/images``, drawn from the last record; ``python -m bench.record`` draws them anew.

They are SVG as it is written by hand, without a background and in colours that can be read on white and on black.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records import read_last

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.records import Record

IMAGES = Path(__file__).parents[1] / "docs" / "images"

WIDTH, LEFT, RIGHT = 760, 210, 60
"""Of the whole, of the names, and of the figures behind the bars, in pixels."""
ROW, GAP, TOP = 15, 9, 62
"""Heights of a bar, between two groups, and above the first one."""

STYLE = (
    "text{font:12px system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#727b85}"
    ".title{font-size:15px;font-weight:600}.name,.group{text-anchor:end}.group{font-weight:600}"
    ".own{fill:#2f81f7}.open{fill:#79b1fa}.other{fill:#98a2ad}"
    ".one{stroke:#727b85;stroke-dasharray:3 3;opacity:.7}"
)

LABELS = {
    "h5bound, no barrier": "h5bound, barrier=False",
    "virtualizarr": "VirtualiZarr",
}
"""Of what a record calls otherwise."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure."""

    name: str
    value: float

    @property
    def style(self) -> str:
        """Its class in the style sheet."""
        own = "open" if "no barrier" in self.name else "own"
        return own if self.name.startswith("h5bound") else "other"


@dataclass(frozen=True, slots=True)
class Chart:
    """Groups of bars that begin at zero, with a line at one."""

    title: str
    subtitle: str
    groups: Mapping[str, Sequence[Bar]]

    def draw(self) -> str:
        """Return the SVG."""
        highest = max(bar.value for bars in self.groups.values() for bar in bars)
        scale = (WIDTH - LEFT - RIGHT) / highest
        rows, height = [], TOP
        for group, bars in self.groups.items():
            if group:
                rows.append(f'<text class="group" x="80" y="{height + 11}">{escape(group)}</text>')
            for bar in bars:
                rows += self._draw_bar(bar, height, scale)
                height += ROW
            height += GAP
        one = LEFT + scale
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
                f' height="{height}" role="img" aria-labelledby="title desc">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.subtitle)} {escape("; ".join(self._describe()))}.</desc>',
                f"<style>{STYLE}</style>",
                f'<text class="title" x="10" y="20">{escape(self.title)}</text>',
                f'<text x="10" y="40">{escape(self.subtitle)}</text>',
                f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 6}" y2="{height - GAP + 2}"/>',
                *rows,
                "</svg>\n",
            ]
        )

    def _draw_bar(self, bar: Bar, top: int, scale: float) -> Iterator[str]:
        width, label = bar.value * scale, LABELS.get(bar.name, bar.name)
        yield f'<text class="name" x="{LEFT - 6}" y="{top + 11}">{escape(label)}</text>'
        yield f'<rect class="{bar.style}" x="{LEFT}" y="{top + 1}" width="{width:.1f}" height="{ROW - 3}" rx="2"/>'
        yield f'<text x="{LEFT + width + 5:.1f}" y="{top + 11}">{spell(bar.value)}</text>'

    def _describe(self) -> Iterator[str]:
        for group, bars in self.groups.items():
            text = ", ".join(f"{LABELS.get(bar.name, bar.name)} {spell(bar.value)}" for bar in bars)
            yield f"{group}: {text}" if group else text


def spell(value: float) -> str:
    """Return a figure as the charts show it.

    >>> spell(0.847), spell(3.333), spell(41.2)
    ('0.85', '3.3', '41')
    """
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def describe_run(record: Record) -> str:
    """Return where and when a record was measured."""
    python = record["versions"]["python"].rpartition(".")[0]
    return f"{record['machine']['cpus']} cores, Python {python}, {record['date']}."


def chart_reads(record: Record) -> Chart:
    """Return the chart of the sums of all readers, by codec; h5bound is first, then who is faster."""
    groups: dict[str, list[Bar]] = {}
    for name, ratio in record["ratios"]["read"].items():
        codec, _, reader = name.partition(": ")
        groups.setdefault(codec, []).append(Bar(reader, ratio))
    for bars in groups.values():
        bars.sort(key=lambda bar: (bar.style == "other", bar.style == "open", -bar.value))
    subtitle = (
        f"Times as fast as da.from_array(h5py dataset), the dashed line; longer is better. {describe_run(record)}"
    )
    return Chart("Reading 419 MB in chunks of 2.6 MB, by filter", subtitle, groups)


def chart_conversions(record: Record) -> Chart:
    """Return the chart of conversions, the fastest first."""
    bars = [Bar("cp", 1), *(Bar(name, 1 / ratio) for name, ratio in record["ratios"]["convert"].items())]
    bars.sort(key=lambda bar: bar.value)
    subtitle = f"Times as long as cp of the file, the dashed line; shorter is better. {describe_run(record)}"
    return Chart("Converting 419 MB (156 MB as gzip and shuffle) to Zarr", subtitle, {"": bars})


def draw_all() -> dict[str, str]:
    """Return the charts of the last record, by the name of the file."""
    charts = {"read.svg": chart_reads(read_last("read")), "convert.svg": chart_conversions(read_last("convert"))}
    return {name: chart.draw() for name, chart in charts.items()}


def write_all() -> None:
    """Write the charts of the last record."""
    for name, text in draw_all().items():
        (IMAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_all()
