"""What each core asks of memory and of the disk, beside what a copy by numpy gets: the bounds that no lock sets.

Bytes of the files are counted by the kernel. Those of memory are an upper bound, from the number of times that the
values, as they are stored and decoded, are read and written: what stays in a cache of the processor does not count
less. Ratios are of the memory bandwidth on two threads to what one core asks for: how many cores fill it. As a script,
``python -m bench.bandwidth``, it prints a table.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, process_time
from typing import TYPE_CHECKING, NamedTuple

import dask
import numpy as np

from bench.cores import list_cases
from bench.samples import make_sample
from bench.turns import Turns, call_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.turns import Ratios

MIB = 2**20
PASSES = {
    "sum, none": (2, 1),  # from the kernel's memory into the block; the sum
    "sum": (3, 4),  # into a buffer, decompress; decompressed, shuffled twice, the sum
    "convert": (4, 0),  # into a buffer, and out of it
    "convert --codecs zstd:3": (7, 4),  # the same and decompress; decompressed, shuffled twice, compressed
    "convert --chunks of one step": (7, 6),  # the same; cut out of a box
    "verify": (6, 8),  # source and store; decompressed, shuffled twice, compared
}
"""How often the stored and the decoded bytes are read or written at most."""


class Demand(NamedTuple):
    """What a function asks for on one thread."""

    seconds: float
    """Of processor time."""
    file_nbytes: int
    """Bytes read from files and written to them."""


def copy_gigabytes(threads: int, nbytes: int) -> float:
    """Return the GB that as many threads read and write in a second, each between two arrays of `nbytes`."""
    arrays = [(np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)) for _ in range(threads)]

    def copy(source: np.ndarray[tuple[int], np.dtype[np.uint8]], target: object) -> None:
        for _ in range(4):
            np.copyto(target, source)  # type: ignore[arg-type]

    best = 0.0
    for _ in range(5):
        workers = [Thread(target=copy, args=pair) for pair in arrays]
        start = perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, threads * 4 * 2 * nbytes / (perf_counter() - start) / 1e9)
    return best


def measure_demand(function: Callable[[], object]) -> Demand:
    """Return what the second call of a function takes on one thread of dask."""
    with dask.config.set(scheduler="threads", num_workers=1):
        function()
        before, start = count_file_nbytes(), process_time()
        function()
        return Demand(process_time() - start, count_file_nbytes() - before)


def count_file_nbytes() -> int:
    """Return the bytes that this process has read from files and written to them so far, from the page cache too."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(lines["rchar"]) + int(lines["wchar"])


def list_demands(turns: Turns) -> dict[str, tuple[Demand, float]]:
    """Return what each case of :mod:`bench.cores` asks for, and the bytes of memory that it moves at most."""
    sample = make_sample(turns.folder, quick=turns.quick)
    found = {}
    for name, function in list_cases(sample):
        if turns.quick and name != "convert":
            continue
        demand = call_alone(measure_demand, function)
        kind = ("sum, none" if name.endswith("none") else "sum") if name.startswith("sum") else name
        decoded = sample.values.nbytes // (1 if "2.6 MB" in name or not name.startswith("sum") else 6)
        stored_passes, decoded_passes = PASSES[kind]
        stored = demand.file_nbytes / (1 if kind.startswith("sum") else 2)
        found[name] = demand, stored_passes * stored + decoded_passes * decoded
    return found


def measure_bandwidth(turns: Turns) -> Ratios:
    """Measure how many cores fill the memory bandwidth that two threads get."""
    if not Path("/proc/self/io").exists():
        return {}
    most = call_alone(copy_gigabytes, 2, MIB if turns.quick else 256 * MIB)
    return {name: most / (moved / demand.seconds / 1e9) for name, (demand, moved) in list_demands(turns).items()}


def main() -> None:
    """Print a table."""
    for threads in (1, 2):
        print(f"copies on {threads} threads: {call_alone(copy_gigabytes, threads, 256 * MIB):.0f} GB/s")
    print("\n| case | processor time, s | files, GB/s | memory, GB/s |\n|---|---|---|---|")
    with TemporaryDirectory() as folder, Turns(Path(folder)) as turns:
        for name, (demand, moved) in list_demands(turns).items():
            files, memory = (nbytes / demand.seconds / 1e9 for nbytes in (demand.file_nbytes, moved))
            print(f"| {name} | {demand.seconds:.2f} | {files:.2f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
