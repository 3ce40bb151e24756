"""Tests of `bench.compare`: the script prints its table, and every reader computes the sum."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.compare import BARE, REFERENCE, REPEATS, sum_often

if TYPE_CHECKING:
    from bench.conftest import Sample


@pytest.mark.parametrize("reader", ["h5bound", REFERENCE, BARE])
def test_a_sum_is_timed_several_times(sample: Sample, reader: str) -> None:
    seconds = sum_often(reader, sample.path("gzip"), None)
    assert len(seconds) == REPEATS
    assert all(second > 0 for second in seconds)


@pytest.mark.slow
def test_the_script_prints_a_row_for_each_way() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, root / "bench" / "compare.py", "--quick", "--codecs", "contiguous", "--auto"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    ratios = {reader: float(ratio) for _, reader, _, _, ratio in rows}
    assert {"h5bound", "h5bound, no barrier", REFERENCE, "recipe"} <= ratios.keys()
    assert ratios[REFERENCE] == 1
