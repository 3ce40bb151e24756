"""HTML that is read as a browser reads it, and checked."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

VOID = {"meta", "link", "br", "hr", "img", "input"}
"""Elements without an end tag."""


class CheckedHtml(HTMLParser):
    """Reads HTML, and fails where an element has no end, or something would be run or fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.lines: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open
        assert not {"script", "iframe", "object", "embed", "link", "img", "form"} & set(self.tags)
        assert self.tags.count("style") <= 1
        assert len(set(self.ids)) == len(self.ids)
        assert {target[1:] for target in self.targets} <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert "http" not in (value or "")
            assert name not in ("src", "srcset", "xlink:href")
            if name == "href":
                assert value is not None
                assert value.startswith("#")
                self.targets.append(value)
            if name == "id":
                self.ids.append(value or "")
        if tag in ("p", "summary", "tr", "li", "div", "h1", "h2"):
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert "http" not in data
            assert "@import" not in data
            assert "url(" not in data
        elif self.lines and "svg" not in self.open:
            self.lines[-1] += f" {data}"

    @property
    def text(self) -> list[str]:
        """The text of each line that has any."""
        return [" ".join(line.split()) for line in self.lines if line.strip()]
