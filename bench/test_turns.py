"""Tests of `bench.turns`: each way has its process, and its turns."""

from __future__ import annotations

import os
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from bench.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path


def note(folder: Path, name: str, seconds: float) -> float:
    """Write down the process of a turn; return the seconds."""
    with (folder / name).open("a") as file:
        print(os.getpid(), perf_counter(), file=file)
    return seconds


def test_ways_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    ways = {"fast": partial(note, tmp_path, "fast", 1.0), "slow": partial(note, tmp_path, "slow", 4.0)}
    with Turns(tmp_path) as turns:
        assert turns.compare(ways, "slow", rounds=2) == {"fast": 4}
    fast, slow = ([line.split() for line in (tmp_path / name).read_text().splitlines()] for name in ways)
    assert len({process for process, _ in fast} | {process for process, _ in slow} | {str(os.getpid())}) == 3
    assert [len(fast), len(slow)] == [3, 3]
    order = sorted([(float(when), "f") for _, when in fast] + [(float(when), "s") for _, when in slow])
    assert "".join(name for _, name in order) == "fssffs"
