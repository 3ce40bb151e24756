"""The comparison with other libraries tells right from wrong, and its page is of the cases that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.awkward_cases import REFUSED
from bench.compared import ALL_CASES, PAGE, Job, Outcome, classify, compare_one, run_case
from bench.compared_page import BEGIN, END, write_page
from bench.converters import CONVERTERS

if TYPE_CHECKING:
    from pathlib import Path


def run_here(section: str, case: str, peer: str, folder: Path) -> str:
    """Return the verdict on one library and one case, without a process."""
    (folder / "source").mkdir()
    (folder / "out").mkdir()
    path = folder / "source" / "a.h5"
    expected = ALL_CASES[section][case].write(path)
    job = Job(section=section, case=case, peer=peer, paths=[path], folder=folder / "out", names=list(expected))
    return classify(expected, run_case(job))[0]


@pytest.mark.parametrize(
    ("case", "peer", "verdict"),
    [
        ("Layouts: compact", "h5bound convert", "equal"),
        ("Layouts: compact", "h5py + dask", "equal"),
        ("Layouts: virtual dataset", "kerchunk", "wrong"),
        ("Names and links: second hard link", "kerchunk", "missing"),
        ("Names and links: name `..`", "h5bound convert", "other form"),
        ("Types: fixed text, padded with spaces", "kerchunk", "other form"),
        ("Damage and change: file written again after it was opened", "h5bound ZarrStore", "refused"),
        ("Damage and change: truncated file", "h5bound convert", "refused"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of zarr and of the libraries
def test_a_library_is_judged_by_what_h5py_reads(tmp_path: Path, case: str, peer: str, verdict: str) -> None:
    if CONVERTERS[peer].missing:
        pytest.skip(f"{peer} is not installed")
    section, _, name = case.partition(": ")
    assert run_here(section, name, peer, tmp_path) == verdict


@pytest.mark.slow
def test_a_case_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert compare_one("Types", "sequences", "h5bound convert", tmp_path) == ("equal", "")


@pytest.mark.parametrize(
    ("found", "expected", "verdict"),
    [
        (np.array([1, 2], ">i4"), np.array([1, 2], "<i4"), "equal"),
        (np.array([1, 2], "<i4").view(">i4"), np.array([1, 2], "<i4"), "wrong"),
        (np.array([0x7FC00000], "<u4").view("f4"), np.array([0x7FC00001], "<u4").view("f4"), "wrong"),
        (np.array([[1, 2]]), np.array([1, 2]), "wrong"),
        (np.array([0, 1], "u1"), np.array([False, True]), "other form"),
        (np.array(["a"], object), np.array([b"a"]), "equal"),
        ("°C", b"\xb0C", "other form"),
        ("\ufffdC", b"\xb0C", "wrong"),
        (np.empty(0), None, "other form"),
        ([[1], []], [[1], []], "equal"),
        ([[1], [2]], [[1], []], "wrong"),
        (np.zeros(2), REFUSED, "wrong"),
    ],
)
def test_values_are_compared_bit_for_bit(found: Any, expected: Any, verdict: str) -> None:
    assert classify({"x": expected}, Outcome({"x": found}))[0] == verdict
    told = Outcome({"x": found}, told=["x was altered"])
    assert classify({"x": expected}, told)[0] == verdict.replace("wrong", "told")


def test_what_is_absent_or_ends_early_is_no_success() -> None:
    assert classify({"x": 1}, Outcome())[0] == "missing"
    assert classify({"x": 1}, Outcome(told=["x was left out"]))[0] == "told"
    assert classify({"x": 1}, Outcome(error="OSError: truncated"))[0] == "refused"
    assert classify({"x": 1}, None)[0] == "ended"


def test_the_page_has_every_case_and_library(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    tables = text.partition(BEGIN)[2].partition(END)[0]
    for cases in ALL_CASES.values():
        assert [case for case in cases if f"\n| {case} | " not in tables] == []
    assert [peer for peer in CONVERTERS if f"\n| {peer} | " not in tables] == []
    copy = tmp_path / "page.md"
    copy.write_text(text, encoding="utf-8")
    write_page(copy, [("Types", "bool", "kerchunk", "wrong", "x: 1 | 2")], "2026-01-01")
    written = copy.read_text(encoding="utf-8")
    assert "| bool | **wrong** |" in written
    assert "| bool | kerchunk | `x: 1 \\| 2` |" in written
    assert written.partition(END)[2] == text.partition(END)[2]
