"""Many small HDF5 files, and threads that read them."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import h5py
import numpy as np

from bench.beside_writers import set_limit
from bench.peak import Peak
from h5bound.reader.many_files import ManyFiles
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from pathlib import Path

    from h5bound.reader.many_files import OpenFiles


def make_files(folder: Path, count: int) -> list[Path]:
    """Write files whose dataset "x" has as its values the number of the file, and return their paths."""
    paths = [folder / f"{number:05}.h5" for number in range(count)]
    with h5py.File(paths[0], "w") as file:
        file["x"] = np.zeros(3, "i4")
    for number, path in enumerate(paths[1:], start=1):
        shutil.copy(paths[0], path)
        with h5py.File(path, "r+") as file:
            file["x"][:] = number
    return paths


def read_numbers(opened: OpenFiles, numbers: list[int]) -> bool:
    """Return whether all files have the values that `make_files` wrote."""
    for number in numbers:
        with opened.using(number) as file:
            if file.read("x", (slice(0, 3),)).tolist() != [number] * 3:
                return False
    return True


def read_within(limit: int, paths: list[Path], threads: int) -> dict[str, int]:
    """Read all files in any order in each of some threads of a process with so many descriptors."""
    set_limit(limit)
    orders = [random.Random(seed).sample(range(len(paths)), len(paths)) for seed in range(threads)]
    peak = Peak().start()
    with ThreadPoolExecutor(threads) as pool, ManyFiles(list(map(H5Source.of, paths))).opened() as opened:
        right = all(pool.map(read_numbers, [opened] * threads, orders))
    return {"right": right, **peak.stop()}
