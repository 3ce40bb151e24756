"""HTML of reports and stores: a tree that fits, with pictures of chunks; no markup of the file, nothing to fetch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import h5bound
from h5bound.reports.chunk_picture import draw_chunks
from h5bound.reports.digest import Digest
from h5bound.reports.html import MAX_HTML, render
from h5bound.reports.tree import Grid, Leaf
from tests.support.html import CheckedHtml

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    "<script>alert(1)<", "\"quoted'", "a & b", "<!--", "עברית 12", "new\nline", "x" * 1000, "\u202eturned", "]]>",
    "&lt;", "{{x}}", "`b`",
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("copied", (64, 512, 300), "i2", chunks=(8, 128, 100), compression="gzip")[:8] = 1
        file["decoded"] = np.zeros((3, 4), ">f4")
        file.create_dataset("scalar", data=3)
        file.create_dataset("empty", (0, 3), "i2")
        file["table"] = np.zeros(3, [("a", "i4"), ("b", "i4", (2,))])
        file.create_dataset("null", data=h5py.Empty("f4"))
        file.create_group("nothing")
        for name in ODD_NAMES:
            file.create_dataset(f"names/{name}", data=np.zeros((3, 4)), chunks=(1, 4))
            file[f"names/{name}"].attrs["units"] = f"{name}</td>"
    return tmp_path / "a.h5"


def list_shown(path: Path) -> dict[str, object]:
    """Return everything that has HTML, by names."""
    combined = path.with_name("b.h5")
    with h5py.File(combined, "w") as file:
        file.create_dataset("<b>", data=np.zeros((3, 4)), chunks=(1, 4)).dims[0].label = "t"
    batch = h5bound.convert([path, path.with_name("no.h5")], f"{path.parent}/out/")
    report = h5bound.convert(path, path.with_suffix(".zarr"), verify=True)
    return {
        "plan": h5bound.convert(path, path.with_name("plan.zarr"), dry_run=True, chunks={"/copied": (16, 16, 300)}),
        "report": report,
        "verification": report.verification,
        "batch": batch,
        "combination": h5bound.combine([combined], path.with_name("c.zarr"), dim="t"),
        "references": h5bound.references(path, path.with_suffix(".json")),
        "check": h5bound.check(path),
        "store": h5bound.H5Store(path),
        "view": h5bound.ZarrStore(path),
    }


def test_all_html_is_balanced_escaped_and_fetches_nothing(path: Path) -> None:
    for name, shown in list_shown(path).items():
        html = shown._repr_html_()  # type: ignore[attr-defined]
        assert len(html.encode()) <= MAX_HTML, name
        read = CheckedHtml(html)
        assert "b" in read.tags
        assert "\u202e" not in html
        if name not in ("store", "view"):
            page = shown.to_html()  # type: ignore[attr-defined]
            CheckedHtml(page)
            assert page.startswith("<!DOCTYPE html>")
            assert "\u202e" not in page
        if name in ("plan", "report", "store", "view"):
            assert read.tags.count("svg") >= 10, name
            assert any(line.startswith("<script>alert(1)< (3, 4) float64") for line in read.text), name
            assert "nothing empty group" in read.text
            grid = "128 chunks of (16, 16, 300)" if name == "plan" else "96 chunks of (8, 128, 100)"
            assert f"chunks {grid}" in read.text


@pytest.mark.parametrize(("groups", "each"), [(1, 1000), (100, 10), (1000, 1), (10, 100), (1, 30_000)])
def test_a_thousand_objects_fit_and_what_is_left_out_is_counted(groups: int, each: int) -> None:
    grid = Grid(type="uint16", shape=(16, 64, 64), chunks=(1, 64, 64))
    leaves = tuple(
        Leaf(path=f"/entry_{i:04}/data_{j}", grid=grid, nbytes=2**17, how="copied")
        for i in range(groups)
        for j in range(each)
    )
    html = render(Digest(kind="ConversionReport", subject="a", summary="", leaves=leaves))
    assert MAX_HTML // 2 < len(html.encode()) <= MAX_HTML
    lines = CheckedHtml(html).text
    shown = sum(line.startswith("data_") for line in lines)
    left = [line for line in lines if line.startswith("… not shown")]
    counts = [re.search(r"([\d,]+) datasets?", line) for line in left]
    assert shown >= 50
    assert shown + sum(int(found[1].replace(",", "")) for found in counts if found) == groups * each
    pictured = re.search(r"pictures of (\d+) of", " ".join(lines))
    assert pictured is not None
    assert html.count("<svg") == int(pictured[1]) >= 5


def test_long_names_and_deep_groups_fit_too() -> None:
    grid = Grid(type="uint16", shape=(1,) * 32, chunks=(1,) * 32)
    leaves = tuple(Leaf(path="/".join(["", *["é" * 70] * 200, "x" * 70 + str(i)]), grid=grid) for i in range(1000))
    html = render(Digest(kind="H5Store", subject="é" * 10_000, summary="", leaves=leaves))
    assert len(html.encode()) <= MAX_HTML
    assert re.search("not shown: .*1,000 datasets", html)
    CheckedHtml(html)


def test_a_picture_has_lines_between_chunks_and_the_extents() -> None:
    def count(shape: tuple[int, ...], chunks: tuple[int, ...] | None) -> tuple[int, int, list[str]]:
        svg = draw_chunks(Grid(type="", shape=shape, chunks=chunks))
        CheckedHtml(svg)
        lines = re.findall(r'<path d="(.*?)"/>', svg)
        return svg.count("<path class"), sum(path.count("M") for path in lines), re.findall(r">(\d+)</text>", svg)

    assert count((100,), (10,)) == (1, 2 + 11, ["100"])
    assert count((4, 6), (3, 2)) == (1, 3 + 4, ["6", "4"])
    assert count((4, 6), None) == (1, 4, ["6", "4"])
    assert count((2, 4, 6), (1, 2, 6)) == (3, (3 + 2) + (2 + 3) + (3 + 3), ["6", "4", "2"])
    faces, _, numbers = count((5, 2, 4, 6), (1, 1, 1, 1))
    assert (faces, numbers) == (4, ["5", "6", "4", "2"])
    assert count((10**6, 1), (1, 1))[1] <= 22 + 2
    assert 'class="d"' in draw_chunks(Grid(type="", shape=(10**6, 1), chunks=(1, 1)))
    assert draw_chunks(Grid(type="", shape=())) == draw_chunks(Grid(type="", shape=(3, 0))) == ""
    assert draw_chunks(Grid(type="", shape=None)) == draw_chunks(Grid(type="", shape=(1,) * 10)) == ""


def test_outer_groups_are_open_as_far_as_a_screen_has_room() -> None:
    grid = Grid(type="u1", shape=(2,))
    leaves = [Leaf(path=f"/a/b{i}/x{j}", grid=grid) for i in range(10) for j in range(20)]
    html = render(Digest(kind="H5Store", subject="", summary="", leaves=tuple(leaves)))
    assert html.count("<details open>") == 1 + 1
    few = render(Digest(kind="H5Store", subject="", summary="", leaves=(leaves[0],)))
    assert few.count("<details open>") == 3
