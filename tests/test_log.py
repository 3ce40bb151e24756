"""The logger ``h5bound``: the steps of a conversion, for those who ask for them."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import pytest

import h5bound
from h5bound.cli.main import run_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a small file."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/x", data=range(100), chunks=(10,))
        file["y"] = [1.0]
        file.create_dataset("unwritten", (8,), "f8", chunks=(4,))
    return tmp_path / "a.h5"


def test_the_steps_are_messages_of_the_logger(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = source.with_suffix(".zarr")
    with caplog.at_level(logging.INFO, logger="h5bound"):
        h5bound.convert(source, target, verify=True)
    text = caplog.text
    steps = (
        "a.h5: found 2 groups, 3 datasets",
        "plan: 1 array to copy, 1 to decode, 1 without chunks to write, 808 B",
        "a.zarr: start; 2 of 2 units to write",
        "window 1 of 1 was read, and the file closed\n",
        "the store is complete",
        "a.zarr: 3 datasets (1 copied, 1 decoded, 1 metadata), 2 groups; ",
        "a.h5: equal; 3 datasets",
    )
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    assert "/y: decode, contiguous" not in text
    assert {record.name.partition(".")[0] for record in caplog.records} == {"h5bound"}
    with caplog.at_level(logging.DEBUG, logger="h5bound"):
        h5bound.verify(source, target)
    assert "/y: decode, contiguous" in caplog.text
    assert caplog.text.count("a.h5: opened") == caplog.text.count("a.h5: closed") > 0


def test_nothing_is_printed_by_default(source: Path) -> None:
    script = f"import h5bound; h5bound.convert({str(source)!r}, {str(source.with_suffix('.zarr'))!r}, verify=True)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    handlers = logging.getLogger("h5bound").handlers
    assert [type(handler) for handler in handlers] == [logging.NullHandler]


def test_verbose_prints_the_steps_on_stderr(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(source.with_suffix(".zarr"))
    assert run_command(["convert", str(source), target, "-v"]) == 0
    shown = capsys.readouterr()
    assert "plan: 1 array to copy" in shown.err
    assert "/g/x" not in shown.err
    assert "/g/x" in shown.out
    assert run_command(["verify", str(source), target, "-vv"]) == 0
    assert "/y: decode, contiguous" in capsys.readouterr().err
    assert run_command(["verify", str(source), target]) == 0
    assert capsys.readouterr().err == ""


class Damage(logging.Handler):
    """A handler that changes a chunk of a store as soon as it is complete."""

    def __init__(self, chunk: Path) -> None:
        super().__init__()
        self.chunk = chunk

    def emit(self, record: logging.LogRecord) -> None:
        """Overwrite the chunk once the conversion is done."""
        if "converted to" in record.getMessage():
            self.chunk.write_bytes(bytes(self.chunk.stat().st_size))


@pytest.mark.parametrize("options", [[], ["--quiet"]], ids=["shown", "quiet"])
def test_a_difference_after_a_conversion_is_an_error(
    options: list[str], source: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source.with_suffix(".zarr")
    handler = Damage(target / "g/x/c/1")
    logging.getLogger("h5bound").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, logger="h5bound"):
            assert run_command(["convert", str(source), str(target), "--verify", *options]) == 1
    finally:
        logging.getLogger("h5bound").removeHandler(handler)
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == f"h5bound: error: {target}: 1 difference from {source}"
    assert bool(options) == (shown.out == "")


def test_quiet_prints_nothing_but_errors(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(source.with_suffix(".zarr"))
    assert run_command(["convert", str(source), target, "--quiet", "--verify"]) == 0
    assert run_command(["verify", str(source), target, "-q"]) == 0
    assert run_command(["convert", str(source), str(source.parent / "out"), "-q", "--dry-run"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run_command(["convert", str(source), target, "--quiet"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("h5bound: error: ")
