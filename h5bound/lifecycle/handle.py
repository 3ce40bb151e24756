"""The handle that the open task passes to the block tasks of a compute."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import Counter
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from h5bound.errors import SourceChangedError, SourceNotFoundError, naming
from h5bound.lifecycle.session import find_session

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from dask.typing import Key

    from h5bound.lifecycle.session import Session, Source


class Window(NamedTuple):
    """The blocks between one open and its close."""

    name: str
    only_window: bool  # whether the compute has no other window of this source
    clustered: bool = False  # whether the close reaches all workers
    blocks: int = 0  # number of blocks if the last of their reads closes the window, 0 if its close task does
    # On a worker, which does not know all reads, a window with `blocks` is closed when the worker gives up the handle:
    # after the last task of the whole cluster that needs it.


READ_AHEAD = os.cpu_count() or 1
"""Blocks of a window that may be read while an older window still has blocks in flight."""


class WindowThrottle:
    """A limit on how far threads read into a window while blocks of older windows are in flight.

    With windows of 32 blocks and 8 threads, at most 46 blocks are in memory; without the limit it was up to 105.
    The last read of a window closes it: until a close task ran, the other threads would read on.
    There is no deadlock: blocks in flight run in other threads and wait for nothing.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()  # blocks of each window
        self._order: dict[str, int] = {}  # of the windows
        self._in_flight: Counter[str] = Counter()  # blocks in flight
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, window: str) -> Iterator[None]:
        """Wait until a block of this window may be read; the block is in flight until the end of the context."""
        with self._changed:
            order = self._order.setdefault(window, len(self._order))
            self._changed.wait_for(
                lambda: (
                    self._begun[window] < READ_AHEAD or all(self._order[other] >= order for other in self._in_flight)
                )
            )
            self._begun[window] += 1
            self._in_flight[window] += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight[window] -= 1
                if not self._in_flight[window]:
                    del self._in_flight[window]
                    self._changed.notify_all()


WATCH_SECONDS = 0.2
"""Interval in which a worker looks whether it still has a task for what keeps a source open."""


class Handle:
    """The access of one compute to its source, in each process where its tasks run.

    In the process that made the handle, and on a dask worker, it keeps the source open from the first block to the
    close task. In a process pool no process can reach another, so every block opens and closes the source.

    The only window of a compute shares its session with other computes. Several windows of one compute overlap on
    threads, so each opens the source for itself, unless that is exclusive.
    """

    def __init__(self, source: Source, only_window: Window | None = None) -> None:
        self.source = source
        self.only_window = only_window  # where it is known before the first read
        self.name = uuid4().hex
        self._travelled = False
        self._reset()

    def _reset(self) -> None:
        self._failed: set[Hashable] = set()
        # These are by the name of the window:
        self._sessions: dict[str, tuple[Session, weakref.finalize[..., Handle]]] = {}
        self._finished: Counter[str] = Counter()  # blocks read in this process
        self._shared = getattr(self.source, "share", lambda: None)()  # kept for the next windows
        self._lock = threading.Lock()
        self._throttle = WindowThrottle()
        self._is_watched = False

    def renew(self) -> Handle:
        """Return another handle on the same source, for the next compute."""
        return Handle(self.source, self.only_window)

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "only_window": self.only_window, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _travelled=True)
        self._reset()

    def session(self, window: Window) -> Session:
        """Return this process's session for a window; its holds are released when this handle is garbage collected."""
        session = self._sessions.get(window.name, (None,))[0]
        if session is None or session.process != os.getpid():
            shared = window.only_window or self.source.exclusive
            session = find_session(self.source, self.source.key if shared else (self.name, window.name))
            self._sessions[window.name] = session, weakref.finalize(self, session.release_handle, self.name)
        return session

    def keeps(self, window: Window) -> bool:
        """Return whether a window was read in this process, and not closed since."""
        return window.name in self._sessions

    def open(self, window: Window) -> None:
        """Open the source before the first block needs it, if there is room, until the window is closed."""
        session = self.session(window)
        if session.has_room():
            session.acquire((self.name, window.name))
            session.release(failed=self.name if self._failed else None)  # the compute may have ended meanwhile

    @contextmanager
    def reading(self, window: Window, block: Hashable = None) -> Iterator[Any]:
        """Yield the object to read a block from; the source is open until the end of the context.

        The last read of a window may be the one that closes the source. If the context ends in an error, and the
        source changed since it was opened, the change is raised from the error. `block` identifies the block: the
        handle keeps nothing open after a block failed, until the same block was read without an error.
        """
        turn = nullcontext() if window.only_window else self._throttle.turn(window.name)
        with turn:
            session = self.session(window)
            worker = find_worker()
            close_comes = not self._travelled if worker is None else window.clustered
            hold = (self.name, window.name) if close_comes and not self._failed else None
            opened = session.acquire(hold)
            if worker is not None and hold is not None:
                self._watch(worker)
            try:
                yield self.source.reader(opened)
                if hold is None or (worker is not None and window.blocks):
                    session.check()
            except BaseException as error:
                self._failed.add(block)
                self._release_failed(session, opened, error)
                raise
            self._failed.discard(block)
            session.release(failed=self.name if self._failed else None)  # another block may have failed
            with self._lock:
                self._finished[window.name] += 1
                counts = window.blocks and worker is None
                is_last = counts and self._finished[window.name] % window.blocks == 0
            if is_last:
                self._release_window(window)

    def close(self, window: Window) -> None:
        """Close a window in this process, unless its last read does; raise if the source changed while it was open."""
        if not window.blocks:
            self._release_window(window)

    def _release_window(self, window: Window) -> None:
        self.session(window).release_hold((self.name, window.name))
        self._sessions.pop(window.name)[1].detach()

    def release(self) -> None:
        """Release the source once the readers in flight have ended, since no close task will run."""
        self._failed.add(None)
        for session, _ in list(self._sessions.values()):
            session.release_handle(self.name)

    def _watch(self, worker: Any) -> None:
        """Release the source soon after a worker has forgotten the open task, as it does when the compute has ended.

        It then gives up this handle, unless the error of a task that failed keeps it in a reference cycle.
        """
        with self._lock:
            if self._is_watched:
                return
            self._is_watched = True
        with suppress(KeyError):  # a thread that left the task
            key = worker.get_current_task()
            opens = [task for task in list(worker.state.tasks[key].dependencies) if task.type is Handle]
            for task in opens:  # none where dask fused the open task with the read
                if getattr(worker.data.get(task.key), "name", None) == self.name:
                    key = task.key
            worker.loop.add_callback(_look_later, weakref.ref(self), worker, key)

    def _release_failed(self, session: Session, opened: Any, error: BaseException) -> None:
        """End a reader that failed; if the source changed or was closed, raise that as the reason."""
        try:
            if isinstance(error, Exception):
                session.check()
                self.source.reader(opened)
        except (SourceChangedError, SourceNotFoundError) as changed:
            raise changed from error
        finally:
            try:
                session.release(failed=self.name)
            except Exception as closing:  # noqa: BLE001 - the error of the block matters more
                error.add_note(f"closing the source failed as well: {closing!r}")


@contextmanager
def naming_on_worker(path: str | None) -> Iterator[None]:
    """On a dask worker, add a dataset to the error that its file changed: it may be that the compute writes to it."""
    with nullcontext() if path is None or worker_address() is None else naming(f"dataset {path!r}", SourceChangedError):
        yield


def _look_later(found: weakref.ref[Handle], worker: Any, key: Key) -> None:
    """Release the source once the worker has forgotten the task `key`; in the event loop of the worker."""
    worker.loop.call_later(WATCH_SECONDS, _look, found, worker, key)


def _look(found: weakref.ref[Handle], worker: Any, key: Key) -> None:
    handle = found()
    if handle is None:
        return
    if key in worker.state.tasks:
        _look_later(found, worker, key)
    else:
        worker.loop.run_in_executor(None, handle.release)


def find_worker() -> Any:
    """Return the dask worker that runs this task, or None outside of a worker."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def worker_address() -> str | None:
    """Return the address of the dask worker that runs this task, or None outside of a worker."""
    worker = find_worker()
    return None if worker is None else str(worker.address)
