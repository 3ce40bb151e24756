"""The open source of a process, and the holds and readers that need it open.

A `Source` is a small picklable description; the object that it opens stays in its process.
A `Handle` (:mod:`h5bound.lifecycle.handle`) travels with the tasks of one compute. A `Session` stays in its process,
and all handles on one source share it: the first that acquires the source opens it, the last release closes it.

::

    closed ──first hold or reader──► open ──no hold and no reader left──► closed

============  ==========================  ==========================================================
where         who opens                   who closes
============  ==========================  ==========================================================
locally       the open task if there is   the close task; the last read of a window if there are
              one window, else the first  several (other threads would read on before a close
              read of each window         task), or if there is no barrier
on a cluster  the first read on a worker  the close task, on every worker that read; without a
                                          barrier each worker, once no task needs the handle
in a pool     every read                  every read: no process of a pool can reach another
============  ==========================  ==========================================================

A handle keeps the source open from a window's first read to its close task. If a block fails, dask never runs that
task, so the holds of the handle are released at once and the last active reader closes the source. A block that still
runs, or is tried again, then opens the source for itself. The holds are also released when the compute ends in an error
of another kind, such as Ctrl-C, and when the handle is garbage collected.

A source that is held, but not read at this moment, may be closed for another one (:mod:`h5bound.lifecycle.open_limit`).
The next reader opens it again. It is checked first, so what was read from it is as good as after a close.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from h5bound.lifecycle.open_limit import are_exhausted, open_limit

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager


class Source(Protocol):
    """Something that can be opened, checked and closed."""

    @property
    def key(self) -> Hashable:
        """Equal for the sources of one process that share one open."""

    exclusive: bool  # whether it can be open only once in a process
    # A source whose opens share what they find has `share() -> object`: they do while that object is kept.
    # A source that is closed for another one while it is held has `descriptors: int` too: how many it takes while open.

    # A source of many files has `parts: int` too: how many.

    def open(self) -> Any:
        """Open the source and return the open object."""

    def reader(self, opened: Any) -> Any:
        """Return the object that blocks are read from; sources with equal keys share the opened one.

        Raise SourceChangedError if it can no longer be read from.
        """

    def check(self, opened: Any) -> None:
        """Raise SourceChangedError if the source is no longer what the array was made from."""

    def close(self, opened: Any) -> None:
        """Close the opened object."""


Hold = tuple[str, str]  # the names of a handle and of the window for which it keeps the source open


class Session:
    """A source in this process, open while a hold or a reader needs it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._descriptors: int = getattr(source, "descriptors", 0)
        self._opened: Any = None
        self._is_open = False
        self.holds: set[Hold] = set()
        self._readers = 0
        self._expected: list[Counter[str]] = []  # by compute: how often each window is still to be closed
        self._lock = threading.Lock()
        self._collected: deque[str] = deque()  # names of collected handles; a finalizer may run while the lock is held
        self.process = os.getpid()

    def acquire(self, hold: Hold | None) -> Any:
        """Return the opened source to one reader, and keep it open under `hold`; each call needs one `release`."""
        with self._locked():
            if not self._is_open:
                self._open()
            open_limit.use(self)
            self._readers += 1
            if hold is not None:
                self.holds.add(hold)
            return self._opened

    def release(self, *, failed: str | None = None) -> None:
        """End one reader. `failed`: the handle whose block raised; its holds are released."""
        with self._locked():
            self._readers -= 1
            if failed is not None:
                self._remove_holds(failed)
            self._close_if_idle()

    def release_hold(self, hold: Hold) -> None:
        """Check the source, and close it unless another hold or reader needs it.

        Raise SourceChangedError or SourceNotFoundError if the source changed: data read from it must not be used.
        """
        with self._locked():
            try:
                self.check()
            finally:
                self.holds.discard(hold)
                for expected in self._expected:
                    if expected[hold[1]]:
                        expected[hold[1]] -= 1
                        break
                self._close_if_idle()

    def expect(self, windows: Counter[str]) -> None:
        """Stay open, once opened, until each window was released as often as counted, or until `expect_no_more`."""
        with self._locked():
            self._expected.append(windows)

    def expect_no_more(self, windows: Counter[str]) -> None:
        """Stop expecting the windows of this very object."""
        with self._locked():
            self._expected = [expected for expected in self._expected if expected is not windows]
            self._close_if_idle()

    def release_handle(self, handle: str) -> None:
        """Release the holds of a handle; a finalizer may call this in any thread at any point."""
        if os.getpid() == self.process:
            self._collected.append(handle)
            self._release_collected()

    def has_room(self) -> bool:
        """Return whether the source is open, or can be opened without closing another one."""
        return self._is_open or open_limit.has_room(self._descriptors)

    def suspend(self) -> bool:
        """Close the source until its next reader, unless it is being read; return whether it was closed.

        It stays open if it changed: the release of a hold has to raise that.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._is_open or self._readers:
                return False
            try:
                self.check()
            except Exception:  # noqa: BLE001 - this may be the thread of another compute
                return False
            self._close()
            return True
        finally:
            self._lock.release()
            self._release_collected()

    def check(self) -> None:
        """Raise if the opened source changed."""
        if self._is_open:
            self._source.check(self._opened)

    def check_held(self) -> None:
        """Raise if the source changed, unless it was closed meanwhile: then it was checked."""
        with self._locked():
            self.check()

    def _remove_holds(self, handle: str) -> None:
        self.holds = {hold for hold in self.holds if hold[0] != handle}

    def _close_if_idle(self) -> None:
        needed = self.holds or self._readers or any(expected.total() for expected in self._expected)
        if self._is_open and not needed:
            self._close()

    def _open(self) -> None:
        """Open the source; if no descriptors are left, close all that are idle and try once more."""
        open_limit.make_room(self, self._descriptors)
        try:
            try:
                self._opened = self._source.open()
            except Exception as error:
                if not (are_exhausted(error) and open_limit.suspend_all()):
                    raise
                self._opened = self._source.open()
        except BaseException:
            open_limit.forget(self)
            raise
        self._is_open = True

    def _close(self) -> None:
        opened, self._opened, self._is_open = self._opened, None, False
        try:
            self._source.close(opened)
        finally:
            open_limit.forget(self)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            yield
        self._release_collected()

    def _release_collected(self) -> None:
        while self._collected and self._lock.acquire(blocking=False):
            try:
                while self._collected:  # another thread may have taken the last one before the lock
                    self._remove_holds(self._collected.popleft())
                self._close_if_idle()
            finally:
                self._lock.release()


_sessions: weakref.WeakValueDictionary[Hashable, Session] = weakref.WeakValueDictionary()

_sessions_lock = threading.Lock()


def _forget_sessions() -> None:
    """Forget the sessions of the parent process: a child that closed them would close them for the parent too."""
    global _sessions, _sessions_lock
    _sessions = weakref.WeakValueDictionary()
    _sessions_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


def find_session(source: Source, key: Hashable) -> Session:
    """Return the one session of this process with this key."""
    with _sessions_lock:
        session = _sessions.get(key)
        if session is None:
            session = _sessions[key] = Session(source)
        return session


@contextmanager
def open_source(
    source: Source, around: Callable[[], AbstractContextManager[None]] = nullcontext, *, shared: bool = False
) -> Iterator[Any]:
    """Open a source and yield the object to read from; check it and close it at the end, after an error as well.

    It is opened once with all that share it if it is exclusive, or if this is `shared`.

    Raise SourceChangedError or SourceNotFoundError if the source changed while it was open: that explains an error of
    the read. The source is opened and checked inside `around`, which does not see the errors of a read.
    """
    session = find_session(source, source.key) if source.exclusive or shared else Session(source)
    with around():
        opened = session.acquire(None)
    try:
        try:
            yield source.reader(opened)
        finally:
            with around():
                session.check()
    finally:
        session.release()


def suspend_session(key: Hashable) -> None:
    """Close the source with this key in this process, unless it is being read; what holds it opens it again."""
    with _sessions_lock:
        session = _sessions.get(key)
    if session is not None:
        session.suspend()


def release_hold(hold: Hold) -> Exception | None:
    """Release a hold in all sessions of this process; return the error if the source changed."""
    with _sessions_lock:
        sessions = [session for session in _sessions.values() if hold in session.holds]
    try:
        for session in sessions:
            session.release_hold(hold)
    except Exception as error:  # noqa: BLE001 - the close task raises it on its own worker
        return error
    return None
