"""Conversions to other chunks than the source's, beside ``from_hdf5().rechunk().to_zarr()``, by process time.

The source has 64 fields of 16-bit integers, each in one chunk (gzip).
"""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from time import process_time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import zarr

import h5bound

if TYPE_CHECKING:
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way

MiB = 2**20

REFERENCE = "rechunk"


def make_file(path: Path, edge: int) -> int:
    """Write the source; return the sum of its values."""
    y, x = np.mgrid[:edge, :edge]
    noise = np.random.default_rng(0).integers(0, 64, (64, edge, edge))
    values = (np.arange(64)[:, None, None] * 10 + y + x + noise).astype("i2")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(1, edge, edge), compression="gzip")
    return int(values.sum(dtype=np.int64))


def rechunk_once(way: str, source: Path, *, chunks: tuple[int, ...], window: int | None, expected: int) -> float:
    """Return the process time of a conversion."""
    target = source.with_name(f"{way}.zarr")
    start = process_time()
    if way == REFERENCE:
        h5bound.from_hdf5(source, "x").rechunk(chunks).to_zarr(str(target), component="x")
    else:
        h5bound.convert(source, target, chunks=chunks, codecs="zstd:3", window=window)
    seconds = process_time() - start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of older versions of zarr
        array: Any = zarr.open_group(target, mode="r")["x"]
    assert array.chunks == chunks
    assert int(array[...].sum(dtype=np.int64)) == expected
    shutil.rmtree(target)
    return seconds


def measure_rechunking(turns: Turns) -> Ratios:
    """Measure how much less process time each conversion takes, in default windows and in one of 4 MiB."""
    edge = 64 if turns.quick else 512
    source = turns.folder / "fields.h5"
    expected = make_file(source, edge)
    shapes = [(8, edge, edge), (1, edge // 4, edge // 4), (64, edge // 8, edge // 8), (64, edge // 16, edge // 16)]
    ratios = {}
    for chunks in shapes[: 1 if turns.quick else None]:
        for name, window in {"": None, ", windows of 4 MiB": 4 * MiB}.items():
            once = partial(rechunk_once, source=source, chunks=chunks, window=window, expected=expected)
            ways: dict[str, Way] = {way: partial(once, way) for way in ("h5bound", REFERENCE)}
            ratios[f"{chunks}{name}"] = turns.compare(ways, REFERENCE, rounds=3)["h5bound"]
    return ratios
