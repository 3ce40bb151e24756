"""Python's garbage, left where it is while a remote file is read.

HDF5 asks for the bytes of a remote file while it has its lock, and fsspec has a thread of its own that gets them. Were
that thread to collect garbage just then, and h5py objects among it, their end would wait for HDF5's lock: neither would
go on. So nothing is collected by itself while anything is asked for.
"""

from __future__ import annotations

import gc
import threading

OVERDUE = 20
"""Where requests never stop, garbage is collected, by who has got an answer, when this many times as much is new as
Python waits for."""


class Uncollected:
    """A context in which no thread collects garbage by itself; any number of threads may be in it."""

    def __init__(self) -> None:
        self._threads = 0  # in it
        self._enabled = False  # whether collection was when the first of them came
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        enabled = gc.isenabled()
        gc.disable()  # before the lock is taken: an object that is collected might want it
        with self._lock:
            self._enabled |= enabled
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads and self._enabled:
                self._enabled = False
                gc.enable()
        if not gc.isenabled() and self._enabled and gc.get_count()[0] > OVERDUE * gc.get_threshold()[0]:
            gc.collect(1)


UNCOLLECTED = Uncollected()
"""For all requests of this process."""
