"""Peak memory of converting a file of many windows, above that of an idle process.

As a script it makes a file of 2 GB (32-bit floats in chunks of 2.6 MB, gzip and shuffle) and converts it in windows of
64 and 128 MiB, each in a process of its own; it prints one line for each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path

import h5py
import numpy as np

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


def convert(mode: str, source: str, target: str, window: int) -> int:
    """Convert in this process; return the peak memory above that of the imported modules."""
    import zarr.codecs.numcodecs  # noqa: F401 - part of the idle process

    from h5bound._convert import convert as convert_file
    from h5bound.array import from_hdf5

    idle = peak_nbytes()
    if mode == "to_zarr":
        from_hdf5(source, "x", window=window).to_zarr(target)
    else:
        convert_file(source, target, codecs=mode, window=window)
    return peak_nbytes() - idle


def measure(mode: str, source: Path, window: int) -> int:
    """Return the result of `convert` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [sys.executable, __file__, "--mode", mode, "--window", str(window), str(source), f"{folder}/x.zarr"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(done.stdout)


def main() -> None:
    """Read the command line and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nbytes", type=int, default=2 * 10**9)
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--window", type=int, default=0)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.files:
        source, target = options.files
        print(convert(options.mode, source, target, options.window))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "source.h5"
        nbytes = write_file(file, options.nbytes)
        print(f"{nbytes / 1e9:.2f} GB, {file.stat().st_size / 1e9:.2f} GB stored")
        for mode in MODES:
            for window in (64 * 2**20, 128 * 2**20):
                peak = measure(mode, file, window)
                print(
                    f"{mode:8} window {window >> 20:4} MiB: peak {peak / 2**20:5.0f} MiB, {peak / window:.2f} windows"
                )


if __name__ == "__main__":
    main()
