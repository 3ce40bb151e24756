"""How many files the windows of one source have open together, and which of them is closed for another."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from h5bound.lifecycle.session import Hold, Session


@dataclass(slots=True, eq=False)
class HeldFile:
    """A file that is held open from its first use until it is closed to make room, or with all others."""

    session: Session
    """The open file of this process, shared with all who read it."""
    hold: Hold
    """What keeps it open; a file that is opened again is held by another one."""
    has_room: threading.Event
    """Set once those are closed that it takes the place of."""
    users: int = 0
    """Contexts of `OpenFiles.using` that read from it at this moment."""
    unchecked: bool = False
    """Whether it was read since it was checked."""


class FileWindow(Protocol):
    """A window that holds files open; `close` may take some away at any moment, in a finalizer too."""

    held: dict[int, HeldFile]
    """By number, the least recently used first."""

    def release(self, held: HeldFile) -> None:
        """Check and close a file, unless others need it open."""


class WindowGroup:
    """The windows of one source that are open in this process: together they have at most `max_open` files open.

    A thread that needs a file waits while each that is open is being read, unless it reads one itself. So those that
    are waited for wait for nothing here. All but `add` and `end_use` is called with the lock of `changed`.
    """

    def __init__(self, max_open: int) -> None:
        self.max_open = max_open
        self.changed = threading.Condition()
        self._windows = weakref.WeakValueDictionary[int, FileWindow]()
        self.process = os.getpid()
        self._uses = Counter[int]()  # files that each thread reads

    def add(self, window: FileWindow) -> None:
        """Count the files of a window until it is garbage collected."""
        self._windows[id(window)] = window

    def begin_use(self, number: int) -> None:
        """Wait until a file may be opened, before it is held."""
        thread = threading.get_ident()
        if not self._uses[thread]:
            self.changed.wait_for(partial(self._has_room, number))
        self._uses[thread] += 1

    def end_use(self, held: HeldFile) -> None:
        """Note that a thread does not read a file any more."""
        thread = threading.get_ident()
        with self.changed:
            held.users -= 1
            self._uses[thread] -= 1
            if not self._uses[thread]:
                del self._uses[thread]
            if not held.users:
                self.changed.notify_all()

    def take_excess(self, window: FileWindow) -> list[tuple[FileWindow, HeldFile]]:
        """Return the files that are not held any more, since too many are, first those of a window."""
        windows = self._list_windows()
        if sum(len(one.held) for one in windows) <= self.max_open:
            return []
        windows.sort(key=lambda one: one is not window)
        users = self._count_users()
        idle = (number for one in windows for number in list(one.held) if not users.get(number))
        excess = list(islice(dict.fromkeys(idle), max(len(users) - self.max_open, 0)))
        found = ((one, one.held.pop(number, None)) for number in excess for one in windows)
        return [(one, held) for one, held in found if held is not None]

    def find_room(self, number: int) -> threading.Event | None:
        """Return what says that those are closed which an open file takes the place of; None for another file."""
        found = (window.held.get(number) for window in self._list_windows())
        return next((held.has_room for held in found if held is not None), None)

    def _list_windows(self) -> list[FileWindow]:
        """Return the windows; another one may be added, or garbage collected, at any moment."""
        found = (reference() for reference in self._windows.valuerefs())
        return [window for window in found if window is not None]

    def _has_room(self, number: int) -> bool:
        windows = self._list_windows()
        if any(number in window.held for window in windows):
            return True
        if sum(len(window.held) for window in windows) < self.max_open:
            return True
        users = self._count_users()
        return len(users) < self.max_open or not all(users.values())

    def _count_users(self) -> dict[int, int]:
        """Return how many read each file that is open."""
        users: dict[int, int] = {}
        for window in self._list_windows():
            for number, held in window.held.copy().items():
                users[number] = users.get(number, 0) + held.users
        return users
