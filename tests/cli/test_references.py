"""The command `h5bound refs` writes references, and tells what became of each object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound.cli.main import run_command
from h5bound.views.references import references

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with data that is ranges, and data that is not."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.arange(4000).reshape(40, 100)
        file.create_dataset("gzip", data=values, chunks=(8, 50), compression="gzip", shuffle=True)
        file.create_dataset("lzf", data=values, chunks=(8, 50), compression="lzf")
        file["again"] = h5py.SoftLink("/gzip")
    return path


def test_it_writes_references_and_a_report(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, report = tmp_path / "a.json", tmp_path / "report.json"
    options = ["--base-url", "s3://bucket/x", "--report", str(report)]
    assert run_command(["refs", str(path), str(target), *options]) == 0
    out = capsys.readouterr().out
    assert "2 datasets, 1 group; 10 chunks as ranges of the file; 10 chunks encoded anew (" in out
    assert "in another form: soft link /again -> /gzip: " in out
    assert "--links copy" in out
    assert "encoded: /lzf: no Zarr codec reads what HDF5's filter lzf writes" in out
    assert "codec: /gzip: readers need shuffle, which zarr-python has" in out
    refs = json.loads(target.read_text())
    assert refs["refs"]["gzip/0.0"][0] == "s3://bucket/x/a.h5"
    assert refs["h5bound"]["source"]["path"] == "a.h5"
    told = json.loads(report.read_text())
    assert {array["path"]: (array["ranges"], array["encoded"]) for array in told["arrays"]} == {
        "/gzip": (10, 0),
        "/lzf": (0, 10),
    }
    assert told["codecs"] == {"shuffle": 1}
    assert told["forms"]["link"]["count"] == 1
    assert told["zarr_format"] == 2
    assert run_command(["refs", str(path), str(target)]) == 1
    assert "it exists; pass --overwrite" in capsys.readouterr().err
    assert run_command(["refs", str(path), str(target), "--overwrite", "--quiet", "--zarr-format", "3"]) == 0
    assert capsys.readouterr().out == ""
    assert "gzip/c/0/0" in json.loads(target.read_text())["refs"]


def test_it_tells_what_is_skipped_and_what_is_refused(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("outside", (3,), "i4", external=[("elsewhere", 0, 12)])
    target = str(tmp_path / "a.json")
    assert run_command(["refs", str(path), target]) == 1
    assert run_command(["refs", str(path), target, "--exclude", "/outside"]) == 0
    options = ["--overwrite", "--on-unsupported", "skip"]
    assert run_command(["refs", str(path), target, *options]) == 3
    shown = capsys.readouterr().out
    assert "skipped: /outside: " in shown
    assert "not under --allow-external" in shown
    assert run_command(["refs", str(path), str(tmp_path / "a.txt")]) == 2
    assert ".json, .parquet or .icechunk" in capsys.readouterr().err
    assert run_command(["refs", str(path), target, "--inline-limit", "10", *options]) == 1
    assert "raise --inline-limit, " in capsys.readouterr().err


def test_the_report_is_short_in_python(path: Path, tmp_path: Path) -> None:
    report = references(path, tmp_path / "a.json", zarr_format=3, links="copy")
    text = repr(report)
    assert text.startswith(
        f"<ReferenceReport {path} -> {tmp_path / 'a.json'}\n  3 datasets, 1 group; 20 chunks as ranges"
    )
    assert "readers need numcodecs.shuffle, numcodecs.zlib, which" in text
    assert "1 copied link" in text
    assert "chunks of" in report._repr_html_()
    assert report.exit_code == 0


def test_a_dataset_that_becomes_several_arrays_is_told_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = np.zeros(3, [("a", "i4"), ("b", "i4", (2,)), ("c", "f8")])
    report = references(tmp_path / "a.h5", tmp_path / "a.json")
    assert len(report.arrays) == 3
    assert report.summary().startswith("1 dataset, 1 group; ")
    assert "encoded: /table: Zarr holds its values in another form" in repr(report)
