"""What the graph itself costs: building it, computing one element of it, and all of a small one.

The blocks are chunks of one 64-bit integer without a codec; only the one in the middle was ever written.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py

import h5bound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way


def make_file(folder: Path, blocks: int) -> Path:
    """Write a file with `blocks` chunks of one element: 7 in the middle, 3 elsewhere; return its path."""
    path = folder / f"{blocks}-blocks.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", (blocks,), "i8", chunks=(1,), fillvalue=3)
        dataset[blocks // 2] = 7
    return path


def make_array(reader: str, path: Path) -> da.Array:
    """Return the array in blocks of one element."""
    if reader == "h5bound":
        return h5bound.from_hdf5(path, "x", chunks=(1,))
    return da.from_array(h5py.File(path)["x"], chunks=(1,))  # closed once the array is garbage


def time_building(reader: str, path: Path, blocks: int) -> float:
    """Return the seconds that building takes."""
    start = perf_counter()
    array = make_array(reader, path)
    seconds = perf_counter() - start
    assert array.numblocks == (blocks,)
    return seconds


def time_element(reader: str, path: Path, blocks: int) -> float:
    """Return the seconds that computing one element takes."""
    element = make_array(reader, path)[blocks // 2]
    start = perf_counter()
    value = element.compute()
    seconds = perf_counter() - start
    assert value == 7
    return seconds


def time_all(reader: str, path: Path, blocks: int) -> float:
    """Return the seconds that computing all elements ten times takes."""
    array = make_array(reader, path)
    start = perf_counter()
    values: list[Any] = [array.compute() for _ in range(10)]
    seconds = perf_counter() - start
    assert all(value.sum() == 3 * (blocks - 1) + 7 for value in values)
    return seconds


def measure_graphs(turns: Turns) -> Ratios:
    """Measure graphs of 100,000 and of 64 blocks, beside those of `da.from_array`."""
    many, few = 1_000 if turns.quick else 100_000, 64
    cases: dict[str, tuple[Callable[[str, Path, int], float], int]] = {
        "build 100,000 blocks": (time_building, many),
        "one element of 100,000": (time_element, many),
        "64 blocks": (time_all, few),
    }
    ratios = {}
    for case, (function, blocks) in cases.items():
        path = make_file(turns.folder, blocks)
        ways: dict[str, Way] = {reader: partial(function, reader, path, blocks) for reader in ("h5bound", "from_array")}
        ratios[case] = turns.compare(ways, "from_array")["h5bound"]
    return ratios
