"""An open file: what becomes of its handle at the close."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys
import h5bound
for _ in range(5):
    array = h5bound.from_hdf5(sys.argv[1], "x", chunks=(10,), window=1600)
    array.map_blocks(lambda block: block, dtype=object).compute(num_workers=4)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="MALLOC_PERTURB_ is glibc's")
def test_text_in_compounds_is_read_in_windows_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.array([(i, f"s{i}") for i in range(800)], dtype=[("n", "i4"), ("text", h5py.string_dtype())])
        file.create_dataset("x", data=values, chunks=(10,))
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}  # freed memory is overwritten
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], env=environment, check=False)
    assert done.returncode == 0
