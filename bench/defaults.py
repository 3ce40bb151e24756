"""``sum()`` as a user types it, of datasets with the chunks that writers choose, and of blocks of 1 to 128 MiB.

The datasets are 419 MB of 32-bit floats. h5py chooses chunks of 100 KiB, netCDF-C whole records; others are tiny, or
cut one long axis. The reference is ``da.from_array(dataset)``, with the blocks of 128 MiB that dask chooses.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py

import h5bound
from bench.samples import make_sample
from h5bound.graph.block_shapes import grow_chunks

if TYPE_CHECKING:
    from pathlib import Path

    from bench.samples import Sample
    from bench.turns import Ratios, Turns, Way

REFERENCE = "from_array"
WAYS: dict[str, Any] = {"default": None, "auto": "auto", "stored chunks": {}}
"""What is passed as ``chunks`` to `h5bound.from_hdf5`."""

FILTERS = ("gzip", "lzf", "zstd", "none")
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""MiB of a block."""


def sum_with(path: Path, expected: float, chunks: Any) -> float:
    """Return the seconds that opening and summing take."""
    start = perf_counter()
    if chunks == REFERENCE:
        with h5py.File(path) as file:
            total = float(da.from_array(file["x"]).sum().compute())
    else:
        total = float(h5bound.from_hdf5(path, "x", chunks=chunks).sum().compute())
    seconds = perf_counter() - start
    assert math.isclose(total, expected, rel_tol=1e-5), f"{chunks}: {total}, not {expected}"
    return seconds


def compare(turns: Turns, sample: Sample, codec: str, options: dict[str, Any]) -> Ratios:
    """Return how many times as fast as `da.from_array` each way is."""
    path, total = sample.path(codec), sample.total
    ways: dict[str, Way] = {name: partial(sum_with, path, total, chunks) for name, chunks in options.items()}
    ways[REFERENCE] = partial(sum_with, path, total, REFERENCE)
    return turns.compare(ways, REFERENCE)


def make_samples(turns: Turns) -> dict[str, Sample]:
    """Return the same values in the chunks of several writers."""
    whole = make_sample(turns.folder, quick=turns.quick)
    values, (records, *grid) = whole.values, whole.values.shape
    some = values[: records // 4]
    variants: dict[str, tuple[Any, Any]] = {
        "h5py": (values, True),
        "records": (values, (1, *grid)),
        "8 KiB": (some, (1, 32, 64)),
        "1-D": (values.reshape(-1), True),
        "long and thin": (values.reshape(-1, 4), True),
    }
    samples = {}
    for name, (array, chunks) in variants.items():
        folder = turns.folder / f"chunks-{name}"
        folder.mkdir(exist_ok=True)
        samples[name] = replace(whole, folder=folder, values=array, chunks=chunks)
    return samples


def measure_defaults(turns: Turns) -> Ratios:
    """Measure sums by default, in automatic blocks and in blocks of one chunk."""
    samples = make_samples(turns)
    cases = [("h5py", codec) for codec in FILTERS]
    cases += [(name, codec) for name in samples if name != "h5py" for codec in ("gzip", "none")]
    return {
        f"{name}, {codec}: {way}": ratio
        for name, codec in cases
        for way, ratio in compare(turns, samples[name], codec, WAYS if name == "h5py" else {"default": None}).items()
    }


def measure_block_sizes(turns: Turns) -> Ratios:
    """Measure sums in blocks of 1 to 128 MiB of the chunks that h5py chooses."""
    sample = make_samples(turns)["h5py"]
    with h5py.File(sample.path("none")) as file:
        shape, chunks, itemsize = file["x"].shape, file["x"].chunks, file["x"].dtype.itemsize
    options = {
        f"{size} MiB": grow_chunks(shape, chunks, (size << 20) // itemsize)
        for size in SIZES[: 1 if turns.quick else None]
    }
    return {
        f"{codec}: {size}": ratio
        for codec in FILTERS[: 1 if turns.quick else None]
        for size, ratio in compare(turns, sample, codec, options).items()
    }
