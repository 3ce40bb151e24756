"""Files that block tasks of a dask worker read: open from the first read to the last one that the worker knows of.

dask does not tell a worker when a compute ends. But the worker knows which tasks it was given, and a task that reads
blocks of a variable depends on it, since with ``chunks=`` the variable is a task of its own. So each read looks for
another task that will read the same file. If there is none, the file is closed before the read returns: when the client
has its result, no worker has the file open. A later task opens it again.

A task that is awaited may never come: another one failed, the compute was cancelled, or the task was moved to another
worker. So the worker looks now and then at a file that a read left open.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from h5bound.errors import SourceChangedError, SourceNotFoundError
from h5bound.lifecycle.handle import Handle, Window
from h5bound.overwriting.task_parts import is_wrapper, unwrap
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from dask.typing import Key

    from h5bound.reader.open_file import OpenFile


ONLY_WINDOW = Window("xarray", only_window=True, clustered=True)
"""The one window of all reads of variables: only blocks of a graph of h5bound are cut into several."""

PATIENCE = 0.05
"""Seconds that a worker without other work keeps a file for its next task, which the scheduler may be sending."""

INTERVAL = 0.2
"""Seconds after which a worker looks again whether a task still awaits a file that is open."""


class BlockReads(NamedTuple):
    """A task of a worker that reads blocks of a variable that it depends on."""

    worker: Any
    task: Key


def find_block_reads(source: H5Source) -> BlockReads | None:
    """Return the running task of a worker if it depends on a variable of this file, else None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        worker = get_worker()
        task = worker.state.tasks[worker.get_current_task()]
    except (ValueError, KeyError):
        return None
    depends = any(_is_variable(worker, dependency, source) for dependency in list(task.dependencies))
    return BlockReads(worker, task.key) if depends else None


def _is_variable(worker: Any, task: Any, source: H5Source) -> bool:
    """Return whether the result of a task, which the worker has, is a variable of this file."""
    if not is_wrapper(task.type):
        return False
    found = find_source(worker.data.get(task.key))
    return found is not None and found.key == source.key


class WorkerFile:
    """A file that tasks of one worker read; see the module."""

    def __init__(self, source: H5Source) -> None:
        self._source = source
        self._handle = Handle(source)
        self._ended: set[Key] = set()  # tasks that have read, while they run
        self._is_watched = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, source: H5Source, worker: str) -> WorkerFile:
        """Return the one of a worker in this process, which lives as long as the variables that keep it."""
        with _lock:
            file = _files.get((worker, source.key))
            if file is None:
                file = _files[worker, source.key] = cls(source)
            return file

    @contextmanager
    def reading(self, reads: BlockReads) -> Iterator[OpenFile]:
        """Yield the open file; check it at the end, and close it if no other task will read it."""
        with ExitStack() as stack:
            with self._lock:
                opened = stack.enter_context(self._handle.reading(ONLY_WINDOW))
            yield opened
        self._wait_for_task(reads)
        with self._lock:
            self._ended.add(reads.task)
            if not self._is_wanted(reads.worker):
                self._handle.close(ONLY_WINDOW)
                return
            self._handle.session(ONLY_WINDOW).check()
            if not self._is_watched:
                self._is_watched = True
                self._watch_later(reads.worker)

    def _wait_for_task(self, reads: BlockReads) -> None:
        """Wait a little for the next task, unless there is one."""
        end = time.monotonic() + PATIENCE
        while not reads.worker.state.ready and time.monotonic() < end:
            with self._lock:
                self._ended.add(reads.task)
                if self._is_wanted(reads.worker):
                    return
            time.sleep(0.001)

    def _watch_later(self, worker: Any) -> None:
        worker.loop.add_callback(worker.loop.call_later, INTERVAL, self._watch, worker)

    def _watch(self, worker: Any) -> None:
        """Close the file if no task awaits it any more, else look again later; in the worker's event loop."""
        if not self._lock.acquire(blocking=False):  # a task opens or closes the file
            self._watch_later(worker)
            return
        try:
            is_kept = self._handle.keeps(ONLY_WINDOW)
            self._is_watched = is_kept and self._is_wanted(worker)
        finally:
            self._lock.release()
        if self._is_watched:
            self._watch_later(worker)
        elif is_kept:
            worker.loop.run_in_executor(None, self._close_unless_wanted, worker)

    def _close_unless_wanted(self, worker: Any) -> None:
        with self._lock, suppress(SourceChangedError, SourceNotFoundError):  # each read has checked
            if not self._is_wanted(worker):
                self._handle.close(ONLY_WINDOW)

    def _is_wanted(self, worker: Any) -> bool:
        """Return whether a task that this worker knows of has not read the file yet."""
        tasks = _list_tasks(worker.state)
        self._ended &= {task.key for task in tasks}
        return any(
            task.key not in self._ended
            and any(_is_variable(worker, other, self._source) for other in list(task.dependencies))
            for task in tasks
        )


def _list_tasks(state: Any) -> list[Any]:
    """Return the tasks that a worker will run or runs; in this order, none is missed that moves on meanwhile."""
    while True:
        with suppress(RuntimeError):  # the thread of the worker has changed one of them
            return [*state.waiting, *state.constrained, *state.ready, *state.executing]


_files: weakref.WeakValueDictionary[tuple[str, Hashable], WorkerFile] = weakref.WeakValueDictionary()

_lock = threading.Lock()


def _forget_files() -> None:
    """Forget the files of the parent process, and a lock that one of its threads may have held."""
    global _files, _lock
    _files, _lock = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_files)


def find_source(value: object) -> H5Source | None:
    """Return the file of a variable that is inside xarray's wrappers for decoding and indexing."""
    source = getattr(unwrap(value), "source", None)
    return source if isinstance(source, H5Source) else None
