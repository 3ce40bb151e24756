"""Run work units in threads of this process, without a graph: dask's scheduler takes 0.4 ms for each unit.

::

    window k:      open ──► read[unit] ──► close ──► use[unit]
    window k + 1:                             open ──► read[unit] ──► close ──► use[unit]

The units of a window are used while those of the next one are read, so that none of several threads waits for a close.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, Any

from h5bound.execution.work import log_window
from h5bound.lifecycle.session import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
        for number, part in enumerate(windows, 1):
            with open_source(source) as opened:
                reading = [pool.submit(work.read, opened, jobs[unit.array], unit) for unit in part]
                finish({**using, **dict.fromkeys(reading, 0)}, counted)
            log_window(number, len(windows), counted)
            using = {}
            for unit in part:  # a future keeps its result, which may be large
                using[pool.submit(work.use, jobs[unit.array], unit, reading.pop(0).result())] = unit.nbytes
            results += using
            if threads == 1:  # nothing is gained by a source that is open meanwhile
                finish(using, counted)
                using = {}
        finish(using, counted)
    return [future.result() for future in results]


def cut_windows(units: Iterable[WorkUnit], nbytes: int) -> list[list[WorkUnit]]:
    """Return the units in windows of at most `nbytes` bytes, or of one unit that is larger."""
    windows: list[list[WorkUnit]] = []
    room = -1
    for unit in units:
        if not windows or unit.nbytes > room:
            windows.append([])
            room = nbytes
        windows[-1].append(unit)
        room -= unit.nbytes
    return windows


def finish(futures: Mapping[Future[Any], int], counted: ByteCount) -> None:
    """Wait for the end of all futures, and count their bytes; raise the first error once none runs."""
    try:
        for future in as_completed(futures):
            future.result()
            counted.add(futures[future])
    except BaseException:
        for future in futures:
            future.cancel()
        wait(futures)
        raise
