"""The windows in which units are read: how large they are, how many, and which units are in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.execution.work import WorkUnit


WINDOWS = 16
"""Least number of windows, so that the first keys are written soon, and an interruption loses little."""

MIN_WINDOW = 64 * 2**20
"""Bytes below which no window is made smaller: each opens the source, and few units are in flight at its end."""


def choose_window(window: int, total: int) -> int:
    """Return the bytes of a window: a share of `total`, at most `window`.

    >>> choose_window(2**30, 10**8), choose_window(2**30, 10**10), choose_window(2**30, 10**12), choose_window(400, 800)
    (67108864, 625000000, 1073741824, 400)
    """
    return min(window, max(total // WINDOWS, MIN_WINDOW))


def count_windows(sizes: Iterable[int], window: int) -> int:
    """Return in how many windows units of these bytes are read, at most `window` bytes each.

    >>> count_windows([300, 300, 300], 600), count_windows([900], 600), count_windows([], 600)
    (2, 1, 0)
    """
    sizes = list(sizes)
    most = choose_window(window, sum(sizes))
    count, room = 0, -1
    for nbytes in sizes:
        if nbytes > room:
            count, room = count + 1, most
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
