"""The highest numbers of descriptors and threads of a process."""

from __future__ import annotations

import threading
from pathlib import Path


class Peak:
    """The highest numbers of descriptors and of threads of this process, beyond those at the start."""

    def __init__(self) -> None:
        self._before = self._now()
        self._highest = self._before
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> Peak:
        self._thread.start()
        return self

    def stop(self) -> dict[str, int]:
        self._ended.set()
        self._thread.join()
        descriptors, threads = (high - low for high, low in zip(self._highest, self._before, strict=True))
        return {"descriptors": descriptors, "threads": threads - 1}

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            self._highest = tuple(map(max, self._highest, self._now()))

    @staticmethod
    def _now() -> tuple[int, ...]:
        try:
            return sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()
        except OSError:  # no descriptor is left to look with
            return 0, threading.active_count()
