"""Tests of `bench.chart`: the charts of the documentation are those of the last record, and say what they show."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.chart import IMAGES, draw_all
from bench.graph_picture import NAME, draw

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", ["read.svg", "convert.svg"])
def test_the_charts_are_drawn_from_the_last_record(name: str) -> None:
    drawn = draw_all()[name]
    assert (IMAGES / name).read_text(encoding="utf-8") == drawn, "run python -m bench.chart"
    root = ElementTree.fromstring(drawn)
    assert len(drawn) < 30_000
    assert root.findtext(f"{SVG}title")
    texts = {text.text for text in root.iter(f"{SVG}text")}
    description = root.findtext(f"{SVG}desc")
    assert description is not None
    assert all(part in description for part in texts if part and part.startswith("h5bound"))
    assert all(0 < float(rect.attrib["width"]) < 500 for rect in root.iter(f"{SVG}rect"))


def test_the_picture_of_a_graph_is_drawn_from_the_graph() -> None:
    drawn = draw()
    assert (IMAGES / NAME).read_text(encoding="utf-8") == drawn, "run python -m bench.graph_picture"
    texts = [text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert texts.count("close") == 2
    assert {"open", "read 3", "wait_on 3", "sum"} <= set(texts)
