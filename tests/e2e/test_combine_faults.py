"""Combinations and appends that fail or are killed at every operation on their files.

A reader sees no store, or the one before, or the one at the end; and the next run ends with the bytes of one that was
not interrupted.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import combine, verify
from h5bound.errors import TargetError
from tests.combining.test_combine import expect, write_day
from tests.support.own_document import read_own
from tests.support.saboteur import Sabotage, Saboteur

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr"),
]

OPTIONS = ["--dim", "time", "--workers", "1"]


@pytest.fixture(scope="module")
def saboteur() -> Iterator[Saboteur]:
    """Give a process that runs the command line."""
    with Saboteur() as server:
        yield server


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Give three files, of which the second ends within a chunk."""
    return [
        write_day(tmp_path / f"{i}.nc", start, length) for i, (start, length) in enumerate([(0, 4), (4, 3), (7, 2)])
    ]


def read_files(target: Path) -> dict[str, bytes]:
    """Return all keys and their bytes."""
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def read_as_reader(target: Path) -> dict[str, Any] | None:
    """Return the values of all arrays as a reader of Zarr sees them; None if there is no store."""
    try:
        group = zarr.open_group(target, mode="r")
    except (FileNotFoundError, ValueError):
        return None
    return {name: array[...] for name, array in group.arrays()}


def is_same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether two stores have the same values."""
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_an_interrupted_combination_is_no_store_and_is_resumed(
    paths: list[Path], tmp_path: Path, saboteur: Saboteur, how: Any
) -> None:
    whole = tmp_path / "whole.zarr"
    combine(paths, whole, dim="time")
    expected, target = read_files(whole), tmp_path / "out.zarr"
    arguments = ["combine", *map(str, paths), str(target), *OPTIONS]
    for number in range(1, 500):
        shutil.rmtree(target, ignore_errors=True)
        run = saboteur.run(arguments, Sabotage(folder=str(target), how=how, at=number))
        if run.code == 0:
            assert read_files(target) == expected
            if how == "kill" or len(run.operations) < number:
                break
            continue  # it was not needed
        values = read_as_reader(target)
        assert values is None or is_same(values, expect(paths))
        with pytest.raises(TargetError):
            verify(paths, target)
        assert saboteur.run([*arguments, "--resume"]).code == 0
        assert read_files(target) == expected
    assert 20 < number < 499


@pytest.mark.parametrize(("how", "named"), [("kill", 0), ("kill", 2), ("fail", 2)])
def test_an_interrupted_append_is_seen_as_before_or_as_whole(
    paths: list[Path], tmp_path: Path, saboteur: Saboteur, *, how: Any, named: int
) -> None:
    begun, target, whole = (tmp_path / f"{name}.zarr" for name in ("begun", "out", "whole"))
    combine(paths[:2], begun, dim="time")
    shutil.copytree(begun, whole)
    combine(paths, whole, dim="time", append=True)
    before, after, expected = expect(paths[:2]), expect(paths), read_files(whole)
    arguments = ["combine", *map(str, paths[named:]), str(target), *OPTIONS, "--append"]
    seen = set()
    for number in range(1, 500):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(begun, target)
        run = saboteur.run(arguments, Sabotage(folder=str(target), how=how, at=number))
        values = read_as_reader(target)
        assert values is not None
        seen.add("before" if is_same(values, before) else "after")
        assert is_same(values, before) or is_same(values, after)
        if run.code == 0:
            assert read_files(target) == expected
            if how == "kill" or len(run.operations) < number:
                break
            continue
        assert saboteur.run(arguments).code == 0
        assert read_files(target) == expected
    assert 20 < number < 499
    assert seen == {"before", "after"}


def test_what_a_killed_append_began_is_deleted_by_one_of_other_files(
    paths: list[Path], tmp_path: Path, saboteur: Saboteur
) -> None:
    """It brought a variable and a group, whose documents readers without the root's metadata would see."""
    begun, target, whole, odd = (tmp_path / name for name in ("begun.zarr", "out.zarr", "whole.zarr", "odd.nc"))
    combine(paths[:2], begun, dim="time")
    shutil.copytree(begun, whole)
    combine(paths, whole, dim="time", append=True)
    expected = read_files(whole)
    shutil.copyfile(paths[2], odd)
    with h5py.File(odd, "a") as file:
        file["new"] = file["inner/new"] = np.arange(len(file["time"]))
        for name in ("new", "inner/new"):
            file[name].dims[0].attach_scale(file["time"])
    arguments = ["combine", str(odd), str(target), *OPTIONS, "--append", "--missing", "fill"]
    left = 0
    for number in range(1, 500):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(begun, target)
        saboteur.run(arguments, Sabotage(folder=str(target), how="kill", at=number))
        if read_own(target)["combined"]["rules"]["missing"] == "fill":  # all is written, but for the root's documents
            break
        left += (target / "new").exists()
        combine(paths, target, dim="time", append=True, update=True)
        assert read_files(target) == expected
    assert 0 < left < number < 499
