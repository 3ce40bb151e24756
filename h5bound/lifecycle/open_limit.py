"""How many descriptors the open sources of this process take together, and which of them is closed for another.

Holds keep a source open between reads, since opening it again takes time. Hundreds of sources may be held at once, by
several computes, and a system may limit a process to 256 descriptors. So every source that opens is counted here, and
where the next one finds no room, those that nobody reads at this moment are closed, the least recently used first.
Their holds stay: the next read opens them again. A source that does not say what it takes is neither counted nor
closed.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

MOST_DESCRIPTORS = 256
"""Descriptors of all open sources where the system would allow many more; a local HDF5 file takes two."""

SHARE = 4
"""Open sources take at most 1/SHARE of the descriptors that a process may have; the rest is for the program."""


class Suspendable(Protocol):
    """Something open that may be closed until it is needed again."""

    def suspend(self) -> bool:
        """Close it unless it is being used; return whether it was closed. Must not wait for a lock."""


class OpenLimit:
    """The open sources that take descriptors, the least recently used first.

    There is no lock: whoever calls `make_room`, `use` or `forget` has the lock of that source, and each changes the
    dict in single steps. A finalizer in any thread may close a source, and must not wait here while it has HDF5's lock.
    """

    def __init__(self) -> None:
        self._open: dict[Suspendable, int] = {}  # with the descriptors of each

    def has_room(self, descriptors: int) -> bool:
        """Return whether a source can be opened without closing another."""
        return sum(list(self._open.values())) + descriptors <= most_descriptors()

    def make_room(self, opening: Suspendable, descriptors: int) -> None:
        """Count a source that is about to be opened, and close idle ones if there are too many."""
        if not descriptors:
            return
        candidates = list(self._open)
        self._open[opening] = descriptors
        for candidate in candidates:
            if self.has_room(0):
                break
            candidate.suspend()

    def suspend_all(self) -> int:
        """Close all idle sources; return how many were closed."""
        return sum(candidate.suspend() for candidate in list(self._open))

    def use(self, opened: Suspendable) -> None:
        """Note that a source is used."""
        descriptors = self._open.pop(opened, 0)
        if descriptors:
            self._open[opened] = descriptors

    def forget(self, closed: Suspendable) -> None:
        """Stop counting a source."""
        self._open.pop(closed, None)

    def forget_all(self) -> None:
        """Stop counting the sources of the parent process: a child has none of them open."""
        self._open = {}


def most_descriptors() -> int:
    """Return how many descriptors open sources may take in this process now."""
    try:
        import resource
    except ImportError:  # Windows, where only the C library has a limit, of 8192 files
        return MOST_DESCRIPTORS
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_DESCRIPTORS if allowed == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, allowed // SHARE)


def are_exhausted(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, says that there are no descriptors left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__
    return False


open_limit = OpenLimit()
"""The limit of this process."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=open_limit.forget_all)
