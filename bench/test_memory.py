"""Memory of a conversion stays within its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.memory import MODES, convert, write_file
from bench.turns import call_alone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_memory_stays_within_two_windows(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source.h5"
    nbytes, window, block = write_file(source, 2**27, (10, 128, 128)), 8 * 2**20, 10 * 128 * 128 * 4
    peak = call_alone(convert, mode, source, window)
    # What is not data (threads, codecs, modules loaded late) takes some 20 MiB, whatever the window.
    assert peak < 2 * window + 8 * block + 32 * 2**20 < nbytes
