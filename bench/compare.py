"""``sum()`` with every reader, each in processes of its own, which take turns.

What one reader leaves behind in a process, such as freed memory, would help the next one. Each process computes the sum
several times; the first, which includes the imports, is reported apart from the median of the others. Ratios are
medians of the ratios to `from_array` in the same round. As a script it prints one table, in some minutes; ``--quick``
uses small files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, cast

from bench.conftest import Sample, make_values
from bench.peers import CODECS, PEERS, sum_bare

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.peers import Chunks

REFERENCE = "from_array"
BARE = "bare loop"
REPEATS = 6
"""Sums in one process."""


def sum_often(reader: str, path: Path, chunks: Chunks) -> list[float]:
    """Return the seconds of each of several sums."""
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        if reader == BARE:
            sum_bare(path, "x")
        else:
            with PEERS[reader].open(path, "x", chunks) as array:
                float(array.sum().compute())
        seconds.append(perf_counter() - start)
    return seconds


def measure(reader: str, path: Path, chunks: Chunks) -> list[float]:
    """Return the same, measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", reader, str(path), chunks or "native"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return cast("list[float]", json.loads(done.stdout.splitlines()[-1]))


def compare(sample: Sample, codec: str, chunks: Chunks) -> Iterable[tuple[str, float, float, float]]:
    """Yield each reader, its first and later seconds, and how many times as fast as the reference it was later."""
    readers = [name for name, peer in PEERS.items() if codec in peer.codecs and not peer.missing]
    readers += [BARE] if (codec, chunks) == ("gzip", None) else []
    first: dict[str, list[float]] = {reader: [] for reader in readers}
    later: dict[str, list[float]] = {reader: [] for reader in readers}
    for turn in range(sample.rounds):
        for reader in readers[turn % len(readers) :] + readers[: turn % len(readers)]:
            seconds = measure(reader, sample.path(codec), chunks)
            first[reader].append(seconds[0])
            later[reader].append(median(seconds[1:]))
    for reader in readers:
        ratios = [reference / own for reference, own in zip(later[REFERENCE], later[reader], strict=True)]
        yield reader, median(first[reader]), median(later[reader]), median(ratios)


def main() -> None:
    """Read the command line and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files, once")
    parser.add_argument("--rounds", type=int, default=6, help="processes for each reader and codec")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--auto", action="store_true", help="in dask's automatic blocks, not one for each chunk")
    parser.add_argument("--measure", nargs=3, metavar=("READER", "PATH", "CHUNKS"), help="one process, as JSON")
    options = parser.parse_args()
    if options.measure is not None:
        reader, path, chunks = options.measure
        print(json.dumps(sum_often(reader, Path(path), None if chunks == "native" else "auto")))
        return
    shape, chunk = ((40, 64, 64), (10, 32, 32)) if options.quick else ((400, 512, 512), (10, 256, 256))
    with TemporaryDirectory() as folder:
        sample = Sample(Path(folder), make_values(shape), chunk, 1 if options.quick else options.rounds)
        print(f"| filters | reader | first, s | later, s | times as fast as {REFERENCE} |\n|---|---|---|---|---|")
        for codec in options.codecs:
            for reader, first, later, ratio in compare(sample, codec, "auto" if options.auto else None):
                print(f"| {codec} | {reader} | {first:.3f} | {later:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
