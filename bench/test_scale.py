"""Tests of `bench.scale`: the script prints its tables, and their counts are right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from bench.scale import Case, count_all, measure_graph, measure_plan, project

MiB = 2**20
CASES = [Case(1), Case(64, MiB, 4 * MiB), Case(100, MiB, 16 * MiB), Case(65, MiB, 1), Case(1000, MiB)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_array_has_as_many_tasks_as_the_formula_says(case: Case) -> None:
    assert measure_graph(case)["tasks"] == case.count_tasks(clustered=False)
    assert case.make().nbytes == case.blocks * case.block
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        (optimized,) = dask.optimize(case.make())
        assert len(dict(optimized.__dask_graph__())) == case.count_tasks(clustered=True)


def test_a_projection_counts_the_tasks_of_a_sum() -> None:
    case = Case(10**9 // MiB + 1, MiB)
    ((asked, _),) = project({"ms/task": 1.0, "KiB/task": 1.0}, [10**9], [MiB])
    assert asked["blocks"] == case.blocks
    assert asked["tasks"] == pytest.approx(count_all(case) + case.blocks, rel=0.01)


@pytest.mark.slow
def test_the_plan_of_a_conversion_is_a_few_bytes_a_chunk() -> None:
    row = measure_plan(50**3, 16 * 1024)
    assert row["chunks"] == 50**3
    assert row["units"] == -(-(50**3) // 1024)  # of 16 MiB


@pytest.mark.slow
def test_the_script_prints_every_table() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale", "--quick"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    titles = [line for line in done.stdout.splitlines() if line and not line.startswith("|")]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(titles) == 6
    assert len(rows) == 6 + 2 + 1 + 1 + 1 + 2 + 2  # one of them above each table
