"""Work units on the local scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from h5bound import convert
from h5bound.execution.run import ByteProgress

if TYPE_CHECKING:
    from pathlib import Path


def test_the_progress_of_one_run_does_not_count_the_units_of_another(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,))
    counted: list[int] = []
    reported: list[tuple[int, int]] = []
    with ByteProgress([8], counted.append, used="write-other", last="results-other"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", window=400, progress=lambda *at: reported.append(at))
    assert counted == []
    assert reported[-1] == (800, 800)
