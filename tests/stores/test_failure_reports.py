"""What is refused, or fails, writes its error to the file of the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
import pytest

from h5bound import combine, convert, verify
from h5bound.cli.main import run_command
from h5bound.errors import H5BoundError, OptionError
from tests.combining.test_combine import write_day, write_days

if TYPE_CHECKING:
    from pathlib import Path


def test_a_combination_that_is_refused_reports_each_difference(tmp_path: Path) -> None:
    paths, report = write_days(tmp_path, [4, 4]), tmp_path / "report.json"
    combine(paths, tmp_path / "out.zarr", dim="time", append=True, report=report)
    paths.append(write_day(tmp_path / "002.nc", 8, 4, scale=2.0))
    assert json.loads(report.read_text())["complete"]
    command = ["combine", *map(str, paths), f"{tmp_path}/out.zarr", "--dim", "time", "--append", "--quiet"]
    assert run_command([*command, "--report", str(report)]) == 2
    told = json.loads(report.read_text())
    assert (told["version"], told["complete"], told["target"]) == (1, False, f"{tmp_path}/out.zarr")
    assert told["error"].startswith("the files cannot be joined: 1 difference")
    (row,) = told["differences"]
    assert (row["kind"], row["variable"], row["files"]) == ("refused", "/t", "002.nc")


@pytest.mark.parametrize("what", ["truncated", "exists", "unsupported", "compared"])
def test_a_conversion_or_comparison_that_fails_reports_its_error(tmp_path: Path, what: str) -> None:
    path, target, report = write_day(tmp_path / "a.nc", 0, 4), tmp_path / "out.zarr", tmp_path / "report.json"
    if what == "exists":
        convert(path, target)
    if what == "unsupported":
        with h5py.File(path, "a") as file:
            file.create_dataset("external", (4,), "i4", external=[(tmp_path / "raw.bin", 0, 16)])
    if what == "compared":
        convert(path, target)
    if what in ("truncated", "compared"):
        path.write_bytes(path.read_bytes()[:1000])
    report.write_text("that of an earlier run")
    with pytest.raises(H5BoundError) as error:
        (verify if what == "compared" else convert)(path, target, report=report)
    told = json.loads(report.read_text())
    assert (told["complete"], told["target"], told["error"]) == (False, str(target), str(error.value))


def test_a_report_never_replaces_what_is_read(tmp_path: Path) -> None:
    path, raw = write_day(tmp_path / "a.nc", 0, 4), tmp_path / "raw.bin"
    with h5py.File(path, "a") as file:
        file.create_dataset("external", data=[1, 2, 3], dtype="i4", external=[(raw, 0, 12)])
    before = raw.read_bytes(), path.read_bytes()
    for report in (raw, path):
        with pytest.raises(OptionError, match="would overwrite a file that is read"):
            convert(path, tmp_path / "out.zarr", report=report, allow_external=[tmp_path])
    assert (raw.read_bytes(), path.read_bytes()) == before
