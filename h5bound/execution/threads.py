"""Run work units in threads of this process, without a graph: dask's scheduler takes 0.4 ms for each unit.

::

    window k:      open ──► read[unit] ──► close ──► use[unit]
    window k + 1:                             open ──► read[unit] ──► close ──► use[unit]

The units of a window are used while those of the next one are read, so that none of several threads waits for a close.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from h5bound.execution.windows import cut_windows
from h5bound.execution.work import log_window
from h5bound.lifecycle.session import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from h5bound.execution.work import ByteCount, Result, Work, WorkUnit
    from h5bound.lifecycle.session import Source


def run_in_threads(
    source: Source,
    work: Work[Result],
    jobs: Sequence[object],
    *,
    units: Sequence[WorkUnit],
    window: int,
    threads: int,
    counted: ByteCount,
) -> list[Result]:
    """Run the units of one source, in windows of so many bytes, and return their results.

    After an error, what runs is waited for, nothing else begins, and the source is closed.
    """
    windows = cut_windows(units, window)
    results: list[Future[Result]] = []
    using: dict[Future[Result], int] = {}  # bytes that are done then
    with ThreadPoolExecutor(threads) as pool:
        calls = Calls(pool)
        for number, part in enumerate(windows, 1):
            reading: list[Future[Any]] = []
            with open_source(source) as opened, calls.stopping():
                for unit in part:
                    reading.append(calls.submit(work.read, opened, jobs[unit.array], unit))  # noqa: PERF401 - Ctrl-C
                finish({**using, **dict.fromkeys(reading, 0)}, counted)
            log_window(number, len(windows), counted)
            using = {}
            with calls.stopping():
                for unit in part:  # a future keeps its result, which may be large
                    using[calls.submit(work.use, jobs[unit.array], unit, reading.pop(0).result())] = unit.nbytes
                results += using
                if threads == 1 or number == len(windows):  # with one thread, nothing is gained by an open source
                    finish(using, counted)
                    using = {}
    return [future.result() for future in results]


def finish(futures: Mapping[Future[Any], int], counted: ByteCount) -> None:
    """Wait for the end of all futures, and count their bytes; raise the first error."""
    for future in as_completed(futures):
        future.result()
        counted.add(futures[future])


class Calls:
    """The calls that run in a pool, counted by themselves: Ctrl-C may lose a future or a thread that is just made."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._changed = threading.Condition()
        self._running = 0
        self._stopped = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Return the future of a call, which raises CancelledError after `stopping` has seen an exception."""
        return self._pool.submit(self._run, function, *args)

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._changed:
            if self._stopped:
                raise CancelledError
            self._running += 1
        try:
            return function(*args)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """After any exception, Ctrl-C included, let no other call begin, and wait for those that run."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._stopped = True
                self._changed.wait_for(lambda: not self._running)
            raise
