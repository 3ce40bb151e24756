"""A process of its own for what may crash, hang, or take all memory."""

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
    """What became of a call."""

    value: Any = None
    """what the function gave back"""
    error: str = ""
    """type and message of what it raised"""
    ours: bool = False
    """whether that is one of h5bound's errors"""
    died: str = ""
    """how the process ended, if it did"""
    seconds: float = 0.0
    nbytes: int = 0
    """by how much its memory grew meanwhile, at the peak; 0 where the system does not tell"""


class Worker:
    """Calls functions in a process that is started anew after each crash.

    Parameters
    ----------
    seconds
        What a call may take before its process is killed.
    nbytes
        Memory that the process may take beyond what it has to begin with, where the system has such a limit.
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
        """Give what became of ``function(*arguments)``; both are sent by pickle."""
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
    """Call what comes, until the other end is closed."""
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
        except Exception as caught:  # noqa: BLE001 - whatever it is, the other process judges it
            error, ours = f"{type(caught).__name__}: {caught}", isinstance(caught, H5BoundError)
        seconds = time.perf_counter() - started
        connection.send(Outcome(value, error, ours, "", seconds, max(peak() - before, 0)))


def limit_memory(nbytes: int) -> None:
    """Refuse this process more memory than it has now and `nbytes`."""
    if sys.platform == "linux":
        import resource

        import h5bound  # noqa: F401 - what it loads is no part of what a call takes

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + nbytes, now + nbytes))


def reset_peak() -> int:
    """Give the memory that is in use, in bytes, and have the peak begin there."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Give the most memory that was in use since `reset_peak`, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
