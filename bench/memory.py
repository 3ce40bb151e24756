"""Peak memory of converting a file of many windows, or of combining many files, above that of an idle process.

The file has 2 GB: 32-bit floats in chunks of 2.6 MB, gzip and shuffle; the files are 200 of 5 MB. Ratios are of the
window that was asked for to the peak.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.combining import LARGE, make_series
from bench.turns import call_alone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.turns import Ratios, Turns

CHUNKS = (10, 256, 256)
OTHER = (48, 128, 128)
"""Chunks of a store of many files that cut across theirs."""

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


def combine(paths: Sequence[Path], window: int, chunks: tuple[int, ...] | None) -> int:
    """Combine files in this process, and return the peak memory above that of two of them."""
    from h5bound import combine as combine_files

    options: Any = {"dim": "time", "window": window, "chunks": chunks and {"t2m": chunks}, "cache": False}
    with TemporaryDirectory(dir=paths[0].parent) as folder:
        combine_files(list(paths[:2]), f"{folder}/two.zarr", **options)
        idle = peak_nbytes()
        combine_files(list(paths), f"{folder}/all.zarr", **options)
    return peak_nbytes() - idle


def measure_memory(turns: Turns) -> Ratios:
    """Measure a window in units of the peak of a conversion."""
    source = turns.folder / "memory.h5"
    write_file(source, 10**7 if turns.quick else 2 * 10**9)
    paths = make_series(turns.folder / "series", 3 if turns.quick else 200, LARGE)
    ratios = {}
    for window in (64 * 2**20, 128 * 2**20)[: 1 if turns.quick else None]:
        shown = f"window of {window >> 20} MiB"
        for mode in MODES[:1] if turns.quick else MODES:
            ratios[f"{mode}, {shown}"] = window / call_alone(convert, mode, source, window)
        for name, chunks in (("kept chunks", None), ("other chunks", OTHER)):
            ratios[f"many files, {name}, {shown}"] = window / max(call_alone(combine, paths, window, chunks), 1)
    return ratios
