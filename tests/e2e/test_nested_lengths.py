"""Compounds with text beside other uses of a file: HDF5 reads them through the handle that opened their dataset first.

Where that handle is closed too early, the process crashes: each case runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CASES = {
    "a windowed array in one compute": """
numbers = from_hdf5(path, "numbers", chunks=4, window="100 B")
for _ in range(12):
    check(*dask.compute(from_hdf5(path, "rows", chunks=4, window="100 B"), numbers))
""",
    "threads that make arrays": """
stop = []
def make():
    while not stop:
        from_hdf5(path, "rows", chunks=4)
        H5Store(path)
threads = [threading.Thread(target=make) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(60):
    check(from_hdf5(path, "rows", chunks=4).compute())
stop.append(True)
for thread in threads:
    thread.join()
""",
}

SCRIPT = """
import dask, h5py, numpy as np, sys, threading
from h5bound import H5Store, from_hdf5

sys.setswitchinterval(1e-5)
path = sys.argv[1]
rows = np.array([(i, f"row {i}") for i in range(40)], np.dtype([("number", "i4"), ("text", h5py.string_dtype())]))
with h5py.File(path, "w") as file:
    file.create_dataset("numbers", data=np.arange(40.0), chunks=(4,))
    file.create_dataset("rows", data=rows, chunks=(4,))

def check(found, numbers=np.arange(40.0)):
    assert (numbers == np.arange(40.0)).all()
    assert [(row["number"], row["text"].decode()) for row in found] == [(i, f"row {i}") for i in range(40)]
"""


@pytest.mark.parametrize("case", CASES)
def test_nothing_crashes_and_the_values_are_right(tmp_path: Path, case: str) -> None:
    command = [sys.executable, "-c", SCRIPT + CASES[case], str(tmp_path / "a.h5")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not ended.returncode, ended.stderr
