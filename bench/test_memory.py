"""Memory of a conversion, and of a store of many files, stays within the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.combining import make_series
from bench.memory import MODES, OTHER, combine, convert, write_file
from bench.turns import call_alone

if TYPE_CHECKING:
    from pathlib import Path

ELSE = 32 * 2**20
"""Bytes of what is not data (threads, codecs, modules loaded late), whatever the window."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_memory_of_a_conversion_stays_within_the_window(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source.h5"
    nbytes, window, block = write_file(source, 2**28, (10, 128, 128)), 2**26, 10 * 128 * 128 * 4
    peak = call_alone(convert, mode, source, window)
    assert peak < window + 8 * block + ELSE < 2 * window < nbytes


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, OTHER], ids=["kept", "other"])
def test_memory_of_many_files_stays_within_the_window(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    """50 files of 6 MiB of values, in chunks of 256 KiB."""
    paths = make_series(tmp_path, 50, (24, 256, 512))
    window = 2**26
    assert call_alone(combine, paths, window, chunks) < (ELSE if chunks is None else window + ELSE)
