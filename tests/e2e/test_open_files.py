"""Many files at once under a real limit of descriptors, in a process of its own."""

from __future__ import annotations

import sys

import pytest

from bench.beside_writers import write_back
from bench.open_files import measure
from bench.turns import call_alone

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")]


@pytest.mark.parametrize(
    ("case", "limit", "files"),
    [
        ("two-computes", 64, 80),
        ("threads-arrays", 64, 80),
        ("worker", 256, 130),
        ("worker-task", 256, 130),
    ],
)
def test_files_beyond_the_limit_are_read_right_and_in_a_quarter_of_it(case: str, limit: int, files: int) -> None:
    found = call_alone(measure, case, "h5bound", limit=limit, files=files)
    assert found.get("right"), found
    assert found["descriptors"] <= limit // 4 + 16  # and those of dask, and of the files that threads are reading
    assert found.get("writable", True)
    assert found["threads"] <= 8 + 2


@pytest.mark.parametrize("writer", ["h5netcdf", "netcdf4"])
def test_a_file_is_written_back_within_the_limit_and_in_a_process_of_its_own(writer: str) -> None:
    found = call_alone(write_back, "h5bound", writer, limit=64)
    assert found["written"], found
    assert found["source is the same"]
    assert found["descriptors"] <= 4  # two of h5bound, one of the writer, one of its test whether it may write
