"""The page of a report: all that was converted, how, and why not; links that lead somewhere; bounded."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import h5bound
from h5bound.cli.main import run_command
from h5bound.reports.conversion import ConversionReport
from h5bound.reports.entries import Converted, Skipped, SourceInfo
from h5bound.reports.html_page import MAX_LISTS, MAX_TREE
from h5bound.reports.tree import Grid, Leaf, grow_tree
from h5bound.reports.treemap import Box, draw_map, lay_out
from tests.support.html import CheckedHtml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("raw/copied", data=np.zeros((64, 64)), chunks=(16, 64), compression="gzip")
        file["raw/decoded"] = np.arange(3000, dtype=">f4")
        file["others/<b>odd & name"] = np.zeros(3)
        file["link"] = h5py.SoftLink("/raw/copied")
        for i in range(5):
            file.create_dataset(f"odd/{i}", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
    return tmp_path / "a.h5"


def test_the_page_says_what_how_why_not_and_how_much(path: Path) -> None:
    report = h5bound.convert(path, "a.zarr", on_unsupported="skip", verify=True)
    read = CheckedHtml(report.to_html())
    text = "\n".join(read.text)
    for line in (
        f"{path} -> ", "verified: equal", "datasets 3", "windows 1", "compression ", "HDF5 ", "Sizes",
        "Skipped: not in the store", "Why chunks were not copied", "contiguous in the file, without chunks 2 datasets",
        "In another form", "/link → /raw/copied", "copied (64, 64) float64 copied", "chunks 4 chunks of (16, 64)",
        "copied 1 4 ",
    ):  # fmt: skip
        assert line in text, line
    assert report.windows == 1
    rows = {target for target in read.targets if f'<div class="f" id="{target[1:]}">' in report.to_html()}
    assert len(rows) == 3


def test_the_page_of_a_dry_run_and_of_a_complete_store_have_no_speed(path: Path) -> None:
    convert = partial(h5bound.convert, path, "a.zarr", on_unsupported="skip")
    assert "nothing: a dry run" in convert(dry_run=True).to_html()
    first = convert().to_html()
    again = convert(resume=True).to_html()
    assert "<dt>speed</dt>" in first
    assert "<dt>speed</dt>" not in again
    assert "already complete" in again
    assert re.findall(r"<dt>written</dt><dd>(.*?)</dd>", again) == re.findall(r"<dt>written</dt><dd>(.*?)</dd>", first)


def test_the_page_of_many_arrays_has_the_largest_ones_and_counts_the_rest() -> None:
    grid = Grid(type="float32", shape=(10, 10), chunks=(5, 5), nbytes=400)
    arrays = tuple(
        Converted(f"/g{i % 300}/<x>{i}", f"g{i % 300}/x{i}", "copied", 4, i, i, ("<odd>",), grid=grid)
        for i in range(20_000)
    )
    report = ConversionReport(
        SourceInfo("a.h5", 1, 1, "2"), "a.zarr", complete=True, seconds=1.0, h5bound="1", converted=arrays,
        skipped=tuple(Skipped(f"/s{i}", f"reason {i % 5000}") for i in range(20_000)),
    )  # fmt: skip
    html = report.to_html()
    assert len(html.encode()) <= MAX_TREE + MAX_LISTS + 150_000
    read = CheckedHtml(html)
    lines = read.text
    counts = [re.search(r"not shown: .*?([\d,]+) datasets", line) for line in lines]
    rows = sum(line.startswith("<x>") for line in lines)
    assert rows >= 1000
    assert rows + sum(int(found[1].replace(",", "")) for found in counts if found) == 20_000
    assert "<bdi>&lt;x&gt;19999</bdi>" in html
    assert any(re.search(r"not shown: [\d,]+ reasons of [\d,]+ objects", line) for line in lines)


def test_objects_without_a_row_have_no_link() -> None:
    deep = "/g" * 40
    report = ConversionReport(
        SourceInfo("a.h5", 1, 1, "2"), "a.zarr", complete=False, seconds=1.0, h5bound="1",
        converted=(Converted(f"{deep}/x", "", "decoded", 1, 8, 0, ("odd",)), Converted("/empty", "empty")),
        skipped=(Skipped("/empty", "odd", "units"), Skipped(deep, "odd")),
    )  # fmt: skip
    read = CheckedHtml(report.to_html())
    assert len(read.targets) == 1
    assert "… not shown: 10 groups, 1 dataset 8 B" in read.text


def test_areas_are_sizes_and_rectangles_do_not_overlap() -> None:
    box = Box(10, 20, 300, 100)
    sizes = [50, 20, 10, 10, 5, 3, 1, 1]
    boxes = lay_out(sizes, box)
    for size, found in zip(sizes, boxes, strict=True):
        assert found.width * found.height == pytest.approx(size * 300)
        assert found.x >= 10 - 1e-6
        assert found.x + found.width <= 310 + 1e-6
        assert found.y + found.height <= 120 + 1e-6
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(wide, high) < 1e-6


def test_a_map_has_groups_and_the_largest_arrays() -> None:
    grid = Grid(type="u1", shape=(2,))
    leaves = [Leaf(path=f"/entry/{group}/x{i}", grid=grid, nbytes=i) for group in "ab" for i in range(50)]
    html = draw_map(grow_tree(leaves), {49})
    read = CheckedHtml(f'{html}<p id="r49"></p>')
    assert read.targets == ["#r49"]
    assert html.count(">25 others") == 2
    assert draw_map(grow_tree([Leaf(path="/x", grid=grid)]), set()) == ""


def test_each_command_writes_the_page(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File("b.h5", "w") as file:
        file["t"] = np.zeros(3)
        file["t"].dims[0].label = "time"
    for name, command in {
        "convert": ["convert", str(path), "a.zarr", "--on-unsupported", "skip"],
        "verify": ["verify", str(path), "a.zarr"],
        "batch": ["convert", "b.h5", "no.h5", "out/"],
        "combine": ["combine", "b.h5", "c.zarr", "--dim", "time"],
        "refs": ["refs", "b.h5", "b.json"],
        "check": ["check", "b.h5"],
        "checks": ["check", "b.h5", str(path), "no.h5"],
    }.items():
        page = path.parent / "pages" / f"{name}.html"
        page.parent.mkdir(exist_ok=True)
        run_command([*command, "--html", str(page)])
        CheckedHtml(page.read_text(encoding="utf-8"))
    assert "--links copy writes a copy" in (path.parent / "pages" / "convert.html").read_text(encoding="utf-8")
    capsys.readouterr()


@pytest.mark.parametrize("page", ["a.h5", "a.zarr/report.html", "no/such/report.html", "s3://bucket/a.html"])
def test_a_page_that_cannot_be_written_is_refused_first(
    path: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["convert", str(path), "a.zarr", "--on-unsupported", "skip", "--html", page]) == 2
    assert f"--html {page}" in capsys.readouterr().err.replace(f"{path.parent}/", "")
    assert not (path.parent / "a.zarr").exists()


@pytest.mark.parametrize("command", ["combine", "refs", "verify"])
def test_a_page_does_not_overwrite_a_file_that_a_pattern_matches(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0.h5", "1.h5"):
        with h5py.File(name, "w") as file:
            file["t"] = np.zeros(3)
            file["t"].dims[0].label = "time"
    assert run_command(["combine", "*.h5", "c.zarr", "--dim", "time", "--quiet"]) == 0
    more = {"combine": ["new.zarr", "--dim", "time"], "refs": ["new.json", "--dim", "time"], "verify": ["c.zarr"]}
    assert run_command([command, "*.h5", *more[command], "--html", "1.h5"]) == 2
    assert "1.h5: the report would overwrite a file that is read; name another file" in capsys.readouterr().err
    assert all(h5py.is_hdf5(name) for name in ("0.h5", "1.h5"))
