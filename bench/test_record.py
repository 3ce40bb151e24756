"""Tests of `bench.record`: every measurement returns ratios, and what became worse is named."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from bench import record, records
from bench.record import MEASUREMENTS, find_worse, main, measure, write_record
from bench.records import RESULTS, read_records

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries that are compared
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_returns_ratios(tmp_path: Path, name: str) -> None:
    ratios = measure(name, tmp_path, quick=True)
    assert ratios
    assert all(ratio > 0 for ratio in ratios.values())


def test_what_of_h5bound_became_worse_by_over_15_percent_is_named() -> None:
    last = {"a": 1.0, "b": 1.0, "gzip: h5bound": 1.0, "gzip: xarray": 1.0}
    now = {"a": 0.86, "b": 0.8, "gzip: h5bound": 0.5, "gzip: xarray": 0.5, "new": 0.1}
    assert list(find_worse(last, now)) == ["b: 0.8, was 1 (20 % worse)", "gzip: h5bound: 0.5, was 1 (50 % worse)"]


def test_a_record_holds_what_was_measured_on_its_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    write_record({"read": {"gzip: h5bound": 2.0}, "convert": {"h5bound": 0.5}})
    path = write_record({"convert": {"h5bound": 0.6}})
    (found,) = read_records()
    assert found["ratios"] == {"read": {"gzip: h5bound": 2.0}, "convert": {"h5bound": 0.6}}
    assert found["command"] == "python -m bench.record read convert"
    assert found["machine"]["cpus"] > 0
    assert {"python", "dask", "h5bound", "hdf5"} <= found["versions"].keys()
    assert socket.gethostname() not in path.read_text()
    assert str(RESULTS.parent) not in path.read_text()


def test_a_comparison_names_what_is_worse_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (tmp_path / "2026-01-01.json").write_text(json.dumps({"ratios": {"convert": {"h5bound": 1.0}}}))
    monkeypatch.setattr(record, "measure", lambda *_, **__: {"h5bound": 0.5})
    main(["convert", "--compare"])
    assert "convert, h5bound: 0.5, was 1 (50 % worse)" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["2026-01-01.json"]
