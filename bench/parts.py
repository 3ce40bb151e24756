"""Small parts of large blocks: the bytes that are read for one row, and the time that one element takes.

The row is one of 4,000 of a contiguous dataset of 160 MB; the elements are of 100,000 chunks of one element, each
computed alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr

import h5bound
from bench.turns import call_alone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.turns import Ratios, Turns, Way

REFERENCE = "from_array"
READERS = ("h5bound", "h5bound engine", "xarray", REFERENCE)
"""``from_hdf5``; ``open_dataset`` with the engines h5bound and h5netcdf, without dask; ``da.from_array``."""

ELEMENTS = 20


@contextmanager
def open_array(reader: str, path: Path) -> Iterator[Any]:
    """Yield the dataset ``x`` as a user opens it."""
    if reader == "h5bound":
        yield h5bound.from_hdf5(path, "x")
    elif reader == REFERENCE:
        with h5py.File(path) as file:
            yield da.from_array(file["x"])
    else:
        engine = "h5bound" if reader == "h5bound engine" else "h5netcdf"
        with xr.open_dataset(path, engine=engine, **PHONY[engine]) as dataset:
            yield dataset["x"]


PHONY: dict[str, dict[str, Any]] = {"h5bound": {}, "h5netcdf": {"phony_dims": "sort"}}


def count_bytes(reader: str, path: Path, row: int) -> int:
    """Return the bytes that this process reads from files for one row, once other rows were read."""
    with open_array(reader, path) as array:
        array[row + 1].compute()
        before = _bytes_read()
        values = array[row].compute()
        nbytes = _bytes_read() - before
        assert (np.asarray(values) == np.arange(values.size) + row * values.size).all()
    return nbytes


def _bytes_read() -> int:
    """Return the bytes that this process has read so far, as Linux counts them."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def time_elements(reader: str, path: Path, count: int) -> float:
    """Return the seconds that single elements take."""
    places = np.random.default_rng(0).integers(0, count, ELEMENTS).tolist()
    with open_array(reader, path) as array:
        array[0].compute()
        start = perf_counter()
        values = [float(array[place].compute()) for place in places]
        seconds = perf_counter() - start
    assert values == places
    return seconds


def measure_parts(turns: Turns) -> Ratios:
    """Measure bytes that are read for a row, and single elements, beside `da.from_array`."""
    rows, chunks = (40, 1000) if turns.quick else (4000, 100_000)
    contiguous, tiny = turns.folder / "rows.h5", turns.folder / "tiny.h5"
    with h5py.File(contiguous, "w") as file:
        file["x"] = np.arange(rows * 5000.0).reshape(rows, 5000)
    with h5py.File(tiny, "w") as file:
        file.create_dataset("x", data=np.arange(float(chunks)), chunks=(1,))
    counts = {reader: partial(count_bytes, reader, contiguous, 5) for reader in READERS}
    nbytes = {reader: count() if turns.quick else call_alone(count) for reader, count in counts.items()}
    ways: dict[str, Way] = {reader: partial(time_elements, reader, tiny, chunks) for reader in READERS}
    elements = turns.compare(ways, REFERENCE)
    return {
        f"bytes of a row: {reader}": nbytes[REFERENCE] / n for reader, n in nbytes.items() if reader != REFERENCE
    } | {f"element: {reader}": ratio for reader, ratio in elements.items()}
