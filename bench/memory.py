"""Peak memory of converting a file of many windows, above that of an idle process.

The file has 2 GB: 32-bit floats in chunks of 2.6 MB, gzip and shuffle. Ratios are of two windows to the peak.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import h5py
import numpy as np

from bench.turns import call_alone

if TYPE_CHECKING:
    from bench.turns import Ratios, Turns

CHUNKS = (10, 256, 256)
MODES = ("keep", "zstd:3", "to_zarr")
"""``h5bound.convert`` with chunks kept, the same with every chunk re-encoded, and ``from_hdf5(…).to_zarr(…)``."""


def write_file(path: Path, nbytes: int, chunks: tuple[int, int, int] = CHUNKS) -> int:
    """Write a dataset ``x`` of about `nbytes` that repeats ten different chunks; return its size in bytes."""
    count = max(nbytes // (4 * prod(chunks)), 10)
    rng = np.random.default_rng(20180301)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "x",
            (count * chunks[0], *chunks[1:]),
            "f4",
            chunks=chunks,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        for i in range(10):
            dataset[i * chunks[0] : (i + 1) * chunks[0]] = np.round(rng.normal(280, 8, chunks) * 64) / 64
        kept = [dataset.id.read_direct_chunk((i * chunks[0], 0, 0)) for i in range(10)]
        for i in range(10, count):
            mask, data = kept[i % 10]
            dataset.id.write_direct_chunk((i * chunks[0], 0, 0), data, mask)
        return int(dataset.nbytes)


def peak_nbytes() -> int:
    """Return the peak resident memory of this process, as Linux counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise OSError("this system does not report the peak resident memory of a process")


def convert(mode: str, source: Path, window: int) -> int:
    """Convert in this process; return the peak memory above that of the imported modules."""
    import zarr.codecs.numcodecs  # noqa: F401 - part of the idle process

    from h5bound._convert import convert as convert_file
    from h5bound.array import from_hdf5

    idle = peak_nbytes()
    with TemporaryDirectory(dir=source.parent) as folder:
        if mode == "to_zarr":
            from_hdf5(source, "x", chunks={}, window=window).to_zarr(f"{folder}/x.zarr")
        else:
            convert_file(source, f"{folder}/x.zarr", codecs=mode, window=window)
    return peak_nbytes() - idle


def measure_memory(turns: Turns) -> Ratios:
    """Measure two windows in units of the peak of a conversion."""
    source = turns.folder / "memory.h5"
    write_file(source, 10**7 if turns.quick else 2 * 10**9)
    return {
        f"{mode}, windows of {window >> 20} MiB": 2 * window / call_alone(convert, mode, source, window)
        for mode in (MODES[:1] if turns.quick else MODES)
        for window in (64 * 2**20, 128 * 2**20)[: 1 if turns.quick else None]
    }
