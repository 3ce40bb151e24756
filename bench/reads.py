"""Reads of all readers: ``sum()`` and slices of 32-bit floats, from the page cache, beside `da.from_array`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import dask
import numpy as np

import h5bound
from bench.peers import CODECS, PEERS, sum_bare
from bench.samples import make_sample

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.peers import Chunks
    from bench.samples import Sample
    from bench.turns import Ratios, Turns, Way

REFERENCE = "from_array"
BARE = "bare loop"

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


def sum_once(reader: str, path: Path, chunks: Chunks, expected: float) -> float:
    """Return the seconds that opening and summing take."""
    start = perf_counter()
    if reader == BARE:
        total = sum_bare(path, "x")
    else:
        with PEERS[reader].open(path, "x", chunks) as array:
            total = float(array.sum().compute())
    seconds = perf_counter() - start
    assert math.isclose(total, expected, rel_tol=1e-5), f"{reader}: {total}, not {expected}"
    return seconds


def sum_in_blocks(reader: str, path: Path, block: str, expected: float) -> float:
    """Return the same for blocks of a size that dask is asked for."""
    with dask.config.set({"array.chunk-size": block}):
        return sum_once(reader, path, "auto", expected)


def slice_once(reader: str, path: Path, region: tuple[slice, ...], expected: float) -> float:
    """Return the seconds that opening and reading a slice take."""
    start = perf_counter()
    with PEERS[reader].open(path, "x", None) as array:
        values = array[region].compute()
    seconds = perf_counter() - start
    assert float(values.sum(dtype=np.float64)) == expected, reader
    return seconds


def check_once(path: Path) -> float:
    """Return the seconds that a check of all chunks takes."""
    start = perf_counter()
    report = h5bound.check(path)
    seconds = perf_counter() - start
    assert report.whole, str(report)
    return seconds


def list_readers(codec: str, *names: str) -> list[str]:
    """Return the readers that are installed and read a codec: all, or those of the names."""
    return [name for name in names or PEERS if codec in PEERS[name].codecs and not PEERS[name].missing]


def collect(turns: Turns, cases: Iterable[tuple[str, dict[str, Way]]]) -> Ratios:
    """Return the ratios of several cases, each by the name of the case and of the reader."""
    return {
        f"{case}: {reader}": ratio for case, ways in cases for reader, ratio in turns.compare(ways, REFERENCE).items()
    }


def measure_reads(turns: Turns) -> Ratios:
    """Measure sums in blocks of one chunk of 2.6 MB, by codec."""
    sample = make_sample(turns.folder, quick=turns.quick)

    def list_ways(codec: str) -> dict[str, Way]:
        readers = list_readers(codec) + ([BARE] if codec == "gzip" else [])
        chunks: Chunks = "auto" if codec == "contiguous" else None
        return {reader: partial(sum_once, reader, sample.path(codec), chunks, sample.total) for reader in readers}

    return collect(turns, ((codec, list_ways(codec)) for codec in CODECS))


def measure_auto_blocks(turns: Turns) -> Ratios:
    """Measure sums in blocks that dask chooses, of many chunks."""
    sample = make_sample(turns.folder, quick=turns.quick)
    readers = ("h5bound", REFERENCE)
    return collect(
        turns,
        (
            (codec, {reader: partial(sum_once, reader, sample.path(codec), "auto", sample.total) for reader in readers})
            for codec in ("gzip", "blosc", "none")
        ),
    )


def measure_slices(turns: Turns) -> Ratios:
    """Measure slices across chunks."""
    sample = make_sample(turns.folder, quick=turns.quick)

    def list_ways(codec: str, shares: tuple[slice, ...]) -> dict[str, Way]:
        region = cut(shares, sample.values.shape)
        expected = float(sample.values[region].sum(dtype=np.float64))
        readers = list_readers(codec, "h5bound", REFERENCE)
        return {reader: partial(slice_once, reader, sample.path(codec), region, expected) for reader in readers}

    return collect(
        turns,
        (
            (f"{name}, {codec}", list_ways(codec, shares))
            for name, shares in SLICES.items()
            for codec in ("gzip", "none")
        ),
    )


def make_small(whole: Sample, folder: Path, edge: int) -> Sample:
    """Return a sixth of a sample in chunks of this edge."""
    folder = folder / f"{edge}"
    folder.mkdir(exist_ok=True)
    values = whole.values[: len(whole.values) // 6]
    return replace(whole, folder=folder, values=values, chunks=(1, *(min(edge, n) for n in values.shape[1:])))


def measure_checks(turns: Turns) -> Ratios:
    """Measure how many times as fast as sums of h5bound checks of the file are, and for gzip a bare decoding loop."""
    whole = make_sample(turns.folder, quick=turns.quick)
    small = make_small(whole, turns.folder, edge=64)
    ratios: dict[str, float] = {}
    for size, sample in (("2.6 MB", whole), ("16 KiB", small)):
        for codec in ("gzip", "blosc", "none"):
            path = sample.path(codec)
            ways: dict[str, Way] = {
                "sum": partial(sum_in_blocks, "h5bound", path, "8 MiB", sample.total),
                "check": partial(check_once, path),
            }
            ways |= {BARE: partial(sum_once, BARE, path, None, sample.total)} if codec == "gzip" else {}
            ratios |= {f"{size}, {codec}: {way}": ratio for way, ratio in turns.compare(ways, "sum").items()}
    return ratios


def measure_small_chunks(turns: Turns) -> Ratios:
    """Measure sums of a sixth of the values in chunks of 4 to 64 KiB, in blocks of 8 MiB."""
    whole = make_sample(turns.folder, quick=turns.quick)

    def list_ways(small: Sample, codec: str) -> dict[str, Way]:
        path, total = small.path(codec), small.total
        return {reader: partial(sum_in_blocks, reader, path, "8 MiB", total) for reader in ("h5bound", REFERENCE)}

    edges = {"64 KiB": 128, "16 KiB": 64, "4 KiB": 32}
    codecs = [codec for codec in CODECS if codec != "contiguous"]
    return collect(
        turns,
        (
            (f"{size}, {codec}", list_ways(small, codec))
            for size, small in ((size, make_small(whole, turns.folder, edge)) for size, edge in edges.items())
            for codec in codecs
        ),
    )
