"""Reads: ``sum()`` and slices of 419 MB of 32-bit floats in chunks of 2.6 MB, from the page cache."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest

from bench.conftest import repeat
from bench.peers import CODECS, PEERS, open_h5bound, sum_bare
from h5bound.chunk_grid import ChunkGrid
from h5bound.hdf5.chunk_index import index_chunks
from h5bound.reader.open_file import open_dataset
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.conftest import Sample
    from bench.peers import Chunks

pytestmark = pytest.mark.filterwarnings(
    # raised by zarr 3.1 for the codecs that VirtualiZarr names
    "ignore:Numcodecs codecs are not in the Zarr version 3 specification:UserWarning",
)

OF_ONE_CHUNK = [(name, codec) for codec in CODECS for name, peer in PEERS.items() if codec in peer.codecs]
OF_MANY_CHUNKS = [
    (name, codec)
    for codec in ("gzip", "blosc", "none", "contiguous")
    for name in ("h5bound", "from_array", "xarray", "virtualizarr")
    if codec in PEERS[name].codecs
]


def run(benchmark: BenchmarkFixture, sample: Sample, codec: str, function: Callable[[], Any]) -> Any:
    """Time a function and return its result."""
    benchmark.extra_info.update(sample.describe(codec))
    return repeat(benchmark, function, rounds=sample.rounds)


def open_peer(name: str) -> Any:
    """Return the opener of a peer, or skip the test."""
    peer = PEERS[name]
    if peer.missing:
        pytest.skip(peer.missing)
    return peer.open


def sum_with(opener: Any, path: Path, chunks: Chunks) -> float:
    with opener(path, "x", chunks) as array:
        return float(array.sum().compute())


@pytest.mark.parametrize(("peer", "codec"), [*OF_ONE_CHUNK, ("bare loop", "gzip")])
def test_a_sum_over_blocks_of_one_chunk(benchmark: BenchmarkFixture, sample: Sample, peer: str, codec: str) -> None:
    benchmark.group = f"sum, native blocks, {codec}"
    path = sample.path(codec)
    if peer == "bare loop":
        result = run(benchmark, sample, codec, lambda: sum_bare(path, "x"))
    else:
        opener = open_peer(peer)
        result = run(benchmark, sample, codec, lambda: sum_with(opener, path, None))
    assert result == pytest.approx(float(sample.values.sum(dtype=np.float64)), rel=1e-5)


@pytest.mark.parametrize(("peer", "codec"), OF_MANY_CHUNKS)
def test_a_sum_over_blocks_of_many_chunks(benchmark: BenchmarkFixture, sample: Sample, peer: str, codec: str) -> None:
    benchmark.group = f"sum, automatic blocks, {codec}"
    path, opener = sample.path(codec), open_peer(peer)
    result = run(benchmark, sample, codec, lambda: sum_with(opener, path, "auto"))
    assert result == pytest.approx(float(sample.values.sum(dtype=np.float64)), rel=1e-5)


@pytest.mark.parametrize("codec", ["gzip", "lzf", "zstd", "blosc", "lz4", "bitshuffle", "none"])
@pytest.mark.parametrize("peer", ["h5bound", "from_array"])
@pytest.mark.parametrize("edge", [32, 64, 128])
def test_a_sum_over_small_chunks(
    benchmark: BenchmarkFixture,
    sample: Sample,
    tmp_path_factory: pytest.TempPathFactory,
    peer: str,
    codec: str,
    edge: int,
) -> None:
    """A sixth of the values in chunks of 4 to 64 KiB, in blocks of 8 MiB."""
    folder = tmp_path_factory.getbasetemp() / f"small-{edge}"
    folder.mkdir(exist_ok=True)
    values = sample.values[: len(sample.values) // 6]
    small = replace(sample, folder=folder, values=values, chunks=(1, *(min(edge, size) for size in values.shape[1:])))
    benchmark.group = f"sum, chunks of {edge * edge * 4} bytes, {codec}"
    path, opener = small.path(codec), open_peer(peer)
    with dask.config.set({"array.chunk-size": "8 MiB"}):
        result = run(benchmark, small, codec, lambda: sum_with(opener, path, "auto"))
    assert result == pytest.approx(float(small.values.sum(dtype=np.float64)), rel=1e-5)


SLICES = {
    "box": (slice(None), slice(1 / 4, 3 / 4), slice(1 / 4, 3 / 4)),  # a quarter of every chunk
    "slab": (slice(1 / 3, 1 / 3), slice(None), slice(None)),  # one element deep
    "line": (slice(None), slice(1 / 3, 1 / 3), slice(1 / 3, 1 / 3)),  # one element wide
}
"""Slices across chunks. Bounds are fractions of the extent; equal bounds select one element."""


def cut(shares: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a slice in elements."""
    return tuple(
        s if s.start is None else slice(int(s.start * size), max(int(s.stop * size), int(s.start * size) + 1))
        for s, size in zip(shares, shape, strict=True)
    )


@pytest.mark.parametrize("codec", ["gzip", "none"])
@pytest.mark.parametrize("peer", ["h5bound", "from_array", "xarray", "virtualizarr", "pyfive", "hidefix"])
@pytest.mark.parametrize("shares", SLICES.values(), ids=SLICES)
def test_a_slice_across_chunks(
    benchmark: BenchmarkFixture, sample: Sample, peer: str, codec: str, shares: tuple[slice, ...]
) -> None:
    region = cut(shares, sample.values.shape)
    benchmark.group = f"slice {region}, {codec}"
    path, opener = sample.path(codec), open_peer(peer)

    def read() -> Any:
        with opener(path, "x", None) as array:
            return array[region].compute()

    result = run(benchmark, sample, codec, read)
    np.testing.assert_array_equal(result, sample.values[region])


def ask_hdf5(path: Path, name: str) -> int:
    """Call HDF5 as a compute does, and nothing else; return the number of stored chunks.

    All of it counts as time under HDF5's lock, although some of it is Python.
    """
    source = H5Source.of(path)
    opened = source.open()
    try:
        dataset = open_dataset(opened.file, name)
        opened.reader(name)
        manifest = index_chunks(dataset.id, ChunkGrid(dataset.shape, dataset.chunks))
        assert manifest is not None
        return len(manifest.chunk_coords)
    finally:
        source.check(opened)
        source.close(opened)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_what_is_done_under_hdf5s_lock(benchmark: BenchmarkFixture, sample: Sample, codec: str) -> None:
    """Measure the fraction of a single-threaded ``sum()`` under HDF5's lock: its inverse limits what threads gain."""
    path = sample.path(codec)
    with open_h5bound(path, "x", None) as array:
        total = array.sum()
    total.compute(scheduler="sync")
    start = perf_counter()
    total.compute(scheduler="sync")
    alone = perf_counter() - start
    start = perf_counter()
    result = run(benchmark, sample, codec, lambda: ask_hdf5(path, "x"))
    asked = (perf_counter() - start) / (sample.rounds + (sample.rounds > 1))
    benchmark.extra_info.update(seconds_on_one_thread=alone, share_under_lock=asked / alone)
    assert result == np.prod([-(-n // c) for n, c in zip(sample.values.shape, sample.chunks, strict=True)])
