"""Conversions and verifications beside bare loops that do no more than they must, from the page cache.

Each loop runs over the stored chunks in dask's number of threads. That of copying reads a chunk and writes it as a
file, under another name first, as h5bound does; that of comparing reads the source with h5py, and decodes the chunks of
the store with numcodecs. Ratios are of the seconds of the loop to those of h5bound: 1 is the limit.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

import h5py
import numpy as np
from dask.system import CPU_COUNT

from bench.conversions import read
from bench.memory import write_file
from bench.peers import encode_bare, list_stored
from bench.samples import make_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.peers import StoredChunk
    from bench.turns import Ratios, Turns

    Use = Callable[[Path, Path], None]
    """What is done with a source and a store."""

LARGE_NBYTES = 2_340_000_000
"""Bytes of the values of the larger file, which stores 0.9 GB."""


def copy_bare(source: Path, target: Path) -> None:
    """Write each stored chunk as the file of a Zarr store, without metadata."""
    chunks, shape, _ = list_stored(source, "x")
    descriptor = os.open(source, os.O_RDONLY)

    def copy(chunk: StoredChunk) -> None:
        key = find_key(target, chunk, shape)
        partial_key = key.with_name(uuid4().hex)
        data = os.pread(descriptor, chunk.nbytes, chunk.offset)
        try:
            partial_key.write_bytes(data)
        except FileNotFoundError:
            key.parent.mkdir(parents=True, exist_ok=True)
            partial_key.write_bytes(data)
        partial_key.replace(key)

    with ThreadPoolExecutor(CPU_COUNT) as pool:
        list(pool.map(copy, chunks))
    os.close(descriptor)


def find_key(target: Path, chunk: StoredChunk, shape: tuple[int, ...]) -> Path:
    """Return the file of a chunk in the array ``x`` of a store."""
    return target.joinpath("x", "c", *(str(start // size) for start, size in zip(chunk.origin, shape, strict=True)))


def compare_bare(source: Path, store: Path) -> None:
    """Compare each chunk of a store that has the chunks of the source."""
    from numcodecs import Shuffle, Zlib

    chunks, shape, dtype = list_stored(source, "x")
    shuffle, inflate = Shuffle(dtype.itemsize), Zlib()
    with h5py.File(source, "r") as file, ThreadPoolExecutor(CPU_COUNT) as pool:

        def is_same(chunk: StoredChunk) -> bool:
            region = tuple(slice(start, start + size) for start, size in zip(chunk.origin, shape, strict=True))
            values = file["x"][region]
            data = shuffle.decode(inflate.decode(find_key(store, chunk, shape).read_bytes()))
            return bool(np.array_equal(values.reshape(-1).view("u4"), np.frombuffer(data, "u4")))

        assert all(pool.map(is_same, chunks))


def convert(source: Path, target: Path, *, codecs: str = "keep") -> None:
    """Convert with h5bound."""
    import h5bound

    h5bound.convert(source, target, codecs=codecs)


def verify(source: Path, store: Path) -> None:
    """Verify with h5bound."""
    import h5bound

    assert h5bound.verify(source, store).equal


def encode_into(source: Path, target: Path) -> None:
    """Decode, encode and write each chunk."""
    encode_bare(source, "x", target)


def make_store(write: Use, source: Path, *, target: Path, check: Callable[[Path], bool]) -> float:
    """Return the seconds that it takes to write a store, which is checked and removed."""
    start = perf_counter()
    write(source, target)
    seconds = perf_counter() - start
    assert check(target)
    shutil.rmtree(target)
    return seconds


def compare(use: Use, source: Path, store: Path) -> float:
    """Return the seconds of a comparison."""
    start = perf_counter()
    use(source, store)
    return perf_counter() - start


def has_stored_chunks(source: Path, target: Path) -> bool:
    """Return whether the keys of a store are the stored chunks of its source."""
    chunks, shape, _ = list_stored(source, "x")
    with source.open("rb") as file:
        return all(
            file.seek(chunk.offset) >= 0 and file.read(chunk.nbytes) == find_key(target, chunk, shape).read_bytes()
            for chunk in chunks
        )


def has_sum(expected: float, target: Path) -> bool:
    """Return whether the values of a store have a sum."""
    return bool(read(target).sum(dtype=np.float64) == expected)


def measure_limits(turns: Turns) -> Ratios:
    """Measure conversions and a verification in units of the time of a bare loop."""
    sample = make_sample(turns.folder, quick=turns.quick)
    source, large = sample.path("gzip"), turns.folder / "large.h5"
    write_file(large, 10**7 if turns.quick else LARGE_NBYTES)
    store, target = turns.folder / "store.zarr", turns.folder / "target.zarr"
    convert(source, store)
    ratios: Ratios = {}
    cases: dict[str, tuple[Use, Use, Path, Callable[[Path], bool]]] = {
        "kept, 0.16 GB": (copy_bare, convert, source, partial(has_stored_chunks, source)),
        "kept, 0.9 GB": (copy_bare, convert, large, partial(has_stored_chunks, large)),
        "zstd:3": (encode_into, partial(convert, codecs="zstd:3"), source, partial(has_sum, sample.total)),
    }
    for name, (loop, own, path, check) in cases.items():
        ways = {
            "loop": partial(make_store, loop, path, target=target, check=check),
            "h5bound": partial(make_store, own, path, target=target, check=check),
        }
        ratios[name] = turns.compare(ways, "loop")["h5bound"]
    ways = {"loop": partial(compare, compare_bare, source, store), "h5bound": partial(compare, verify, source, store)}
    ratios["verify"] = turns.compare(ways, "loop")["h5bound"]
    shutil.rmtree(store)
    large.unlink()
    return ratios
