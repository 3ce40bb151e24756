"""The windows in which units are read: how large they are, how many, and which units are in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from h5bound.execution.work import WorkUnit


WINDOWS = 16
"""Least number of windows, so that the first keys are written soon, and an interruption loses little."""

MIN_WINDOW = 64 * 2**20
"""Bytes below which no window is made smaller: each opens the source, and few units are in flight at its end."""


def choose_window(window: int, sizes: Sequence[int], threads: int) -> int:
    """Return the bytes of a window for units of these bytes: a share of all.

    Each thread has a unit in it, if they fit. `window` is the most bytes of what is in memory at a time: one window, or
    with several threads two, since one is read while another one is written.

    >>> choose_window(2**30, [10**6] * 100, 2), choose_window(2**30, [10**8] * 50, 2), choose_window(400, [8] * 100, 2)
    (67108864, 312500000, 200)
    >>> choose_window(2**30, [10**8] * 8, 2), choose_window(2**30, [10**9] * 8, 2), choose_window(400, [8] * 100, 1)
    (200000000, 536870912, 400)
    """
    most = window if threads == 1 else window // 2
    return min(most, max(sum(sizes) // WINDOWS, MIN_WINDOW, threads * max(sizes, default=0)))


def count_windows(sizes: Iterable[int], window: int) -> int:
    """Return in how many windows of this many bytes units of these bytes are read.

    >>> count_windows([300, 300, 300], 600), count_windows([900], 600), count_windows([], 600)
    (2, 1, 0)
    """
    count, room = 0, -1
    for nbytes in sizes:
        if nbytes > room:
            count, room = count + 1, window
        room -= nbytes
    return count


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
