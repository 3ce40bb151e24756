"""Scan files in processes of their own, which know nothing of the program that starts them.

A process of `multiprocessing` would run the user's script once more, unless that is guarded against it. Here batches of
paths go in by the standard input of ``python -m h5bound.combining.scan_worker``, and their records come out by its
standard output.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from h5bound.combining.scan_one import scan_paths
from h5bound.errors import H5BoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from h5bound.combining.scan_one import Scanned, ScanOptions

    Batch = Sequence[str]


def serve() -> None:
    """Scan batches of paths from the standard input until it ends; the first thing in it is the options."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no result
    options = pickle.load(sys.stdin.buffer)
    while True:
        try:
            batch = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(scan_paths(batch, options), results)
        results.flush()


@contextmanager
def start_process(options: ScanOptions) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that scans batches; it ends with the context."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "h5bound.combining.scan_worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdin is not None
        pickle.dump(options, process.stdin)
        yield process
    finally:
        process.kill()
        process.communicate()


def scan_in_processes(
    batches: Sequence[Batch], options: ScanOptions, count: int
) -> Iterator[tuple[int, list[Scanned]]]:
    """Yield the records of batches of paths, with the number of each batch, as so many processes have them.

    Raise H5BoundError if a process dies.
    """
    done: SimpleQueue[tuple[int, list[Scanned] | Exception]] = SimpleQueue()
    stopped = Event()

    def work(numbers: range) -> None:
        number = numbers.start
        try:
            with start_process(options) as process:
                for number in numbers:
                    if stopped.is_set():
                        return
                    assert process.stdin is not None
                    assert process.stdout is not None
                    pickle.dump(list(batches[number]), process.stdin)
                    process.stdin.flush()
                    done.put((number, pickle.load(process.stdout)))
        except Exception as error:  # noqa: BLE001 - whoever waits for the records has to be told
            done.put((number, error))

    with ThreadPoolExecutor(count) as threads:
        try:
            for k in range(count):
                threads.submit(work, range(k, len(batches), count))
            for _ in batches:
                number, result = done.get()
                if isinstance(result, Exception):
                    raise H5BoundError(
                        f"the process that scanned {batches[number][0]} and files after it has died: {result}; "
                        "dask.config.set(num_workers=1), or DASK_NUM_WORKERS=1 in the environment, scans all files in "
                        "this process"
                    ) from result
                yield number, result
        finally:
            stopped.set()


if __name__ == "__main__":
    serve()
