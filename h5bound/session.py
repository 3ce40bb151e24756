"""One open source a process: what the open task hands to the tasks that depend on it.

A `Handle` travels with the tasks, and says which compute they belong to. A `Session` stays in its process, and is
shared by all handles on one source: the first one that needs the source opens it, the last one that lets go closes it.

::

    closed ──first holder or reader──► open ──no holder and no reader left──► closed

============  ==========================  ==========================================================
where         who opens                   who closes
============  ==========================  ==========================================================
here          the open task if there is   the close task; without a barrier the last read, if that
              one window, else the first  comes later
              read of each
on a cluster  the first read on a worker  the close task, on every worker that read
in a pool     every read                  every read: no process of a pool can reach another
============  ==========================  ==========================================================

A handle *holds* the session for a window of blocks from the first read until the close task. It stops holding it early
when one of its blocks fails, since dask then never runs the close task: the source closes with the last reader in
flight, and a block that dask still runs, or tries again, opens it for itself. So it does when the compute ends in an
error of another kind, such as Ctrl-C, and when the handle is collected.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import weakref
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from dask.callbacks import Callback

from h5bound.errors import SourceChangedError, SourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from h5bound.source import Source

Hold = tuple[str, str]  # the name of a handle, and of a window of its blocks


class Window(NamedTuple):
    """The blocks between one open and its close."""

    name: str
    alone: bool  # all blocks of the compute are in it


class Session:
    """The opened source of this process, and who needs it open.

    Parameters
    ----------
    source
        What is opened and closed.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._opened: Any = None
        self._is_open = False
        self._holds: set[Hold] = set()
        self._readers = 0
        self._lock = threading.Lock()
        self._dropped: deque[str] = deque()  # handles that were collected, perhaps while this thread had the lock
        self.process = os.getpid()

    def enter(self, hold: Hold | None) -> Any:
        """Give the opened source to one reader, and keep it open under ``hold``; each enter needs one `leave`."""
        with self._locked():
            if not self._is_open:
                self._opened = self._source.open()
                self._is_open = True
            self._readers += 1
            if hold is not None:
                self._holds.add(hold)
            return self._opened

    def leave(self, *, failed: str | None = None) -> None:
        """End one reader; ``failed`` is a handle that lost a block, and so must not keep the source open."""
        with self._locked():
            self._readers -= 1
            if failed is not None:
                self._forget(failed)
            self._close_if_idle()

    def release(self, hold: Hold) -> None:
        """Check that the source is what it was, and close it unless someone else needs it.

        Raises
        ------
        SourceChangedError, SourceNotFoundError
            The source changed since it was opened: what was read of it is not to be used.
        """
        with self._locked():
            try:
                self.check()
            finally:
                self._holds.discard(hold)
                self._close_if_idle()

    def drop(self, handle: str) -> None:
        """Close the source unless someone else needs it, from a finalizer: in any thread, at any point."""
        if os.getpid() == self.process:
            self._dropped.append(handle)
            self._sweep()

    def check(self) -> None:
        """Raise if the opened source changed."""
        if self._is_open:
            self._source.check(self._opened)

    def has(self, hold: Hold) -> bool:
        """Tell whether ``hold`` keeps the source open."""
        return hold in self._holds

    def _forget(self, handle: str) -> None:
        self._holds = {hold for hold in self._holds if hold[0] != handle}

    def _close_if_idle(self) -> None:
        if self._is_open and not self._holds and not self._readers:
            opened, self._opened, self._is_open = self._opened, None, False
            self._source.close(opened)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            yield
        self._sweep()

    def _sweep(self) -> None:
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                self._forget(self._dropped.popleft())
                self._close_if_idle()
            finally:
                self._lock.release()


_sessions: weakref.WeakValueDictionary[Hashable, Session] = weakref.WeakValueDictionary()
_sessions_lock = threading.Lock()


def _forget_sessions() -> None:
    """Leave the parent's sessions to the parent: what one opened must not be closed on both sides of a fork."""
    global _sessions, _sessions_lock
    _sessions = weakref.WeakValueDictionary()
    _sessions_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


def _session_of(source: Source, key: Hashable) -> Session:
    with _sessions_lock:
        session = _sessions.get(key)
        if session is None:
            session = _sessions[key] = Session(source)
        return session


class Handle:
    """What the open task gives to the block tasks of one compute, in whichever process they run.

    In the process that made it, and on a dask worker, it holds the source open from the first block until the
    close task. In a process pool nobody can reach the other processes, so there every block opens and closes
    the source.

    A window that is all of its compute shares the session with whatever else has the source open. Windows of one
    compute overlap on several threads: each opens the source for itself, if that can be open more than once.

    Parameters
    ----------
    source
        What is opened and closed.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = uuid4().hex
        self._travelled = False
        self._reset()

    def _reset(self) -> None:
        self._failed: set[Hashable] = set()
        self._sessions: dict[str, tuple[Session, weakref.finalize[..., Handle]]] = {}  # by the name of the window
        self._finished: Counter[str] = Counter()  # blocks read in this process, by the name of the window
        self._expected: dict[str, int] = {}  # blocks after which a window is to be closed
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _travelled=True)
        self._reset()

    def session(self, window: Window) -> Session:
        """Give the session of this process for a window, which lets go of it when this handle is collected."""
        session, _ = self._sessions.get(window.name, (None, None))
        if session is None or session.process != os.getpid():
            shared = window.alone or self.source.exclusive
            session = _session_of(self.source, self.source.key if shared else (self.name, window.name))
            self._sessions[window.name] = session, weakref.finalize(self, session.drop, self.name)
        return session

    def open(self, window: Window) -> None:
        """Open the source before the first block needs it, and keep it open until this window is closed."""
        session = self.session(window)
        session.enter((self.name, window.name))
        session.leave()

    def read(self, window: Window, block: Hashable, read: Callable[..., Any], *args: Any) -> Any:
        """Give ``read(what the source is read from, *args)``, with the source open from before it until after it.

        Raises
        ------
        SourceChangedError, SourceNotFoundError
            The read failed, and the source is not what it was.
        """
        session = self.session(window)
        hold = None if self._failed or not self._may_hold() else (self.name, window.name)
        opened = session.enter(hold)
        try:
            result = read(self.source.reader(opened), *args)
            if hold is None:
                session.check()
        except BaseException as error:
            self._failed.add(block)
            self._leave_after(session, error)
            raise
        self._failed.discard(block)
        session.leave(failed=self.name if self._failed else None)  # another block may have failed meanwhile
        with self._lock:
            self._finished[window.name] += 1
            last = self._finished[window.name] == self._expected.get(window.name)
        if last:
            self.close(window)
        return result

    def close(self, window: Window) -> None:
        """End a window in this process; raises if the source changed while it was open."""
        self.session(window).release((self.name, window.name))
        _, finalizer = self._sessions.pop(window.name)
        finalizer.detach()

    def close_after(self, window: Window, blocks: int) -> None:
        """End a window in this process once so many blocks of it were read: now, or in the last of these reads."""
        with self._lock:
            self._expected[window.name] = blocks
            last = self._finished[window.name] >= blocks
        if last:
            self.close(window)

    def abandon(self) -> None:
        """Let go of the source in this process once the readers in flight have ended; no close task will run."""
        self._failed.add(None)
        for session, _ in list(self._sessions.values()):
            session.drop(self.name)

    def _may_hold(self) -> bool:
        return not self._travelled or worker_address() is not None

    def _leave_after(self, session: Session, error: BaseException) -> None:
        """End a reader that failed, raising what explains the error if that is a change of the source."""
        try:
            if isinstance(error, Exception):
                session.check()
        except (SourceChangedError, SourceNotFoundError) as changed:
            raise changed from error
        finally:
            try:
                session.leave(failed=self.name)
            except Exception as closing:  # noqa: BLE001 - the block's own error is the one to show
                error.add_note(f"closing the source failed as well: {closing!r}")


def release_hold(hold: Hold) -> Exception | None:
    """Close what ``hold`` keeps open in this process; gives the error of a source that changed."""
    with _sessions_lock:
        sessions = list(_sessions.values())
    for session in sessions:
        if session.has(hold):
            try:
                session.release(hold)
            except Exception as error:  # noqa: BLE001 - it is raised by the close task, on its own worker
                return error
    return None


class _AbandonHandles(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Tells the handles of a local compute that has failed: its traceback may keep them from being collected."""

    def _finish(self, _graph: object, state: dict[str, Any], errored: bool) -> None:  # noqa: FBT001 - called by dask
        for value in state.get("cache", {}).values() if errored else ():
            if isinstance(value, Handle):
                value.abandon()


_abandon_handles = _AbandonHandles()


def watch_failures() -> None:
    """Have the next compute tell its handles if it fails.

    To be asked for by each compute: dask loses its callbacks when computes overlap in several threads. It stays among
    dask's callbacks, where it costs one call per compute.
    """
    _abandon_handles.register()


def worker_address() -> str | None:
    """Give the address of the dask worker that runs this task, or None outside of one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return None


def in_pool() -> bool:
    """Tell whether this is a child process: one that cannot know whether the blocks are read in it."""
    return multiprocessing.parent_process() is not None
