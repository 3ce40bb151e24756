"""A separate process for code that may crash, hang, or take all memory."""

from __future__ import annotations

import multiprocessing
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from h5bound.errors import H5BoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

STARTING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    value: Any = None
    """Return value."""
    error: str = ""
    """Type and message of the exception."""
    ours: bool = False
    """Whether it is an error of h5bound."""
    died: str = ""
    """How the process ended; "" if it is alive."""
    seconds: float = 0.0
    nbytes: int = 0
    """Growth of its memory at the peak; 0 where the system does not report it."""


class Worker:
    """Calls functions in a process that is restarted after each crash.

    Parameters
    ----------
    seconds
        Time limit of a call, after which the process is killed.
    nbytes
        Memory that the process may take in addition to what it starts with, where the system can limit it.
    """

    def __init__(self, seconds: float, nbytes: int) -> None:
        self.seconds = seconds
        self.nbytes = nbytes
        self.starts = 0
        self._connection: Connection | None = None
        self._process: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        """Call ``function(*arguments)``, both sent by pickle, and return how that ended."""
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._connection.send((function, arguments))
        try:
            if self._connection.poll(self.seconds):
                outcome: Outcome = self._connection.recv()
                return outcome
        except (EOFError, ConnectionError):
            self._process.join()
            died = f"ended with {self._process.exitcode}"
            self.stop()
            return Outcome(died=died)
        self.stop()
        return Outcome(died=f"took more than {self.seconds:g} s")

    def stop(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._connection = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self.nbytes), daemon=True)
        self._process.start()
        other.close()
        self.starts += 1
        assert self._connection.poll(STARTING_SECONDS)
        self._connection.recv()


def serve(connection: Connection, nbytes: int) -> None:
    """Call what is received, until the other end is closed."""
    limit_memory(nbytes)
    connection.send("ready")
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, ConnectionError):
            return
        before = reset_peak()
        started = time.perf_counter()
        value, error, ours = None, "", False
        try:
            value = function(*arguments)
        except Exception as caught:  # noqa: BLE001 - the other process decides what it means
            error, ours = f"{type(caught).__name__}: {caught}", isinstance(caught, H5BoundError)
        seconds = time.perf_counter() - started
        connection.send(Outcome(value, error, ours, "", seconds, max(peak() - before, 0)))


def limit_memory(nbytes: int) -> None:
    """Limit the memory of this process to what it has now plus `nbytes`."""
    if sys.platform == "linux":
        import resource

        import h5bound  # noqa: F401 - loaded before the memory of a call is measured

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + nbytes, now + nbytes))


def reset_peak() -> int:
    """Reset the peak, and return the memory in use, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the peak of the memory in use since `reset_peak`, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
