"""How many blocks are in memory while blocks of several files are combined, beside `dask.array.from_array`.

As a script it prints a row for each operation on 24 files of 64 blocks: the most blocks that were in memory with two
threads. Nothing is read from a disk, so that only the order of the
tasks counts. Run it with ``python -m bench.live_blocks``; with ``--cluster`` on a worker of two threads.
"""

from __future__ import annotations

import argparse
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from h5bound import from_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.turns import Ratios, Turns

FILES, BLOCKS = 24, 64
NBYTES = 64
"""Bytes of a block."""


class CountedFile:
    """A file whose blocks are counted while they are in memory."""

    dtype, ndim = np.dtype(float), 2
    live = peak = 0
    lock = threading.Lock()

    def __init__(self, blocks: int) -> None:
        self.shape = blocks, NBYTES // 8

    def open(self) -> None: ...
    def close(self) -> None: ...

    def __dask_tokenize__(self) -> int:
        return id(self)

    def read(self) -> Any:
        block = np.ones((1, NBYTES // 8))
        self.count(1)
        weakref.finalize(block, self.count, -1)
        return block

    def __getitem__(self, _region: object) -> Any:
        return self.read()

    @classmethod
    def count(cls, step: int) -> None:
        with cls.lock:
            cls.live += step
            cls.peak = max(cls.peak, cls.live)


class Sink:
    """A target that keeps nothing."""

    def __setitem__(self, region: object, block: object) -> None: ...


OPERATIONS: dict[str, Callable[[da.Array], da.Array]] = {
    "mean of blocks": lambda x: x.rechunk({0: -1}).map_blocks(lambda b: b.mean(axis=0), drop_axis=0, dtype=float),
    "anomalies": lambda x: x - x.mean(axis=0),
    "climatology": lambda x: da.stack([x[month::12].mean(axis=0) for month in range(12)]),
}

READERS: dict[str, dict[str, Any] | None] = {
    "from_array": None,
    "windows of a block": {"window": NBYTES},
    "windows of a quarter": {"window": NBYTES * BLOCKS // 4},
    "barrier=False": {"barrier": False},
    "default": {},
}


def open_array(options: dict[str, Any] | None, blocks: int) -> da.Array:
    """Return the array of a new file; None for `from_array`."""
    file = CountedFile(blocks)
    if options is None:
        return da.from_array(file, chunks=(1, NBYTES // 8))
    return from_resource(file, file.read, chunks=((1,) * blocks, (NBYTES // 8,)), dtype=float, **options)


def count_live(options: dict[str, Any] | None, operation: str, *, files: int = FILES, blocks: int = BLOCKS) -> int:
    """Return the most blocks in memory while the result of an operation is stored."""
    CountedFile.live = CountedFile.peak = 0
    result = OPERATIONS[operation](da.stack([open_array(options, blocks) for _ in range(files)]))
    da.store(result, Sink(), lock=False)
    return CountedFile.peak


def measure_live(turns: Turns) -> Ratios:
    """Measure the blocks that `from_array` has in memory in units of those of each reader, on two threads."""
    ratios: Ratios = {}
    with dask.config.set(scheduler="threads", num_workers=2):
        for operation in OPERATIONS:
            counts = {name: count_live(READERS[name], operation, files=4 if turns.quick else FILES) for name in READERS}
            reference = counts.pop("from_array")
            ratios |= {f"{operation}: {name}": reference / blocks for name, blocks in counts.items()}
    return ratios


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="on a worker of two threads, not on two threads")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.cluster:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0")
            stack.enter_context(cluster)
            stack.enter_context(Client(cluster))
        else:
            stack.enter_context(dask.config.set(scheduler="threads", num_workers=2))
        print("| | " + " | ".join(READERS) + " |\n|---|" + "---|" * len(READERS))
        for operation in OPERATIONS:
            counts = (str(count_live(options, operation)) for options in READERS.values())
            print(f"| {operation} | " + " | ".join(counts) + " |", flush=True)


if __name__ == "__main__":
    from bench.live_blocks import main as run  # what travels to a worker is found by the name of its module

    run()
