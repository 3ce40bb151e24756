"""How far reading scales with cores, by what it does one thread at a time."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from bench.peers import open_h5bound
from bench.samples import make_sample
from h5bound.chunk_grid import ChunkGrid
from h5bound.hdf5.chunk_index import index_chunks
from h5bound.reader.open_file import open_dataset
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from pathlib import Path

    from bench.turns import Ratios, Turns


def ask_hdf5(path: Path, name: str) -> None:
    """Call HDF5 as a compute does, and nothing else.

    All of it counts as time under HDF5's lock, although some of it is Python.
    """
    source = H5Source.of(path)
    opened = source.open()
    try:
        dataset = open_dataset(opened.file, name)
        opened.reader(name)
        assert index_chunks(dataset.id, ChunkGrid(dataset.shape, dataset.chunks)) is not None
    finally:
        source.check(opened)
        source.close(opened)


def measure_lock(turns: Turns) -> Ratios:
    """Measure the speed-up of a ``sum()`` that HDF5's lock allows on 64 cores."""
    sample = make_sample(turns.folder, quick=turns.quick)
    ratios = {}
    for codec in ("gzip", "zstd", "none"):
        with open_h5bound(sample.path(codec), "x", None) as array:
            total = array.sum()
        total.compute(scheduler="sync")
        start = perf_counter()
        total.compute(scheduler="sync")
        alone = perf_counter() - start
        start = perf_counter()
        for _ in range(5):
            ask_hdf5(sample.path(codec), "x")
        share = (perf_counter() - start) / 5 / alone
        ratios[codec] = 1 / (share + (1 - share) / 64)
    return ratios
