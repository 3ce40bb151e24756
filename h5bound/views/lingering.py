"""A file that stays open a little after each read, since the next one often comes soon."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from h5bound.errors import SourceChangedError, SourceNotFoundError
from h5bound.lifecycle.handle import Handle, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source

LINGER = 0.1
"""Seconds for which a local file stays open after a read: meanwhile HDF5 lets no other program write to it."""

REMOTE_LINGER = 60.0
"""Seconds for which a remote file stays open, which keeps out nobody: each open takes several requests."""

ONLY_WINDOW = Window("linger", only_window=True, clustered=True)


class LingeringFile:
    """A source that is opened for a read, and closed when none came for some time."""

    def __init__(self, source: H5Source) -> None:
        self._source = source
        self._linger = REMOTE_LINGER if source.remote else LINGER
        self._shared = source.share()  # where chunks are, kept for the next open
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._handle = Handle(self._source)
        self._last = 0.0  # when the last read ended
        self._reading = 0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[OpenFile]:
        """Yield the open file; raise SourceChangedError at the end if it is not the file that it was at first."""
        if self._process != os.getpid():  # a forked process has no timer, and perhaps a lock that nobody releases
            self._reset()
        with self._lock:
            self._reading += 1
        try:
            with self._handle.reading(ONLY_WINDOW, threading.get_ident()) as opened:
                yield opened
                self._source.check(opened)
        finally:
            with self._lock:
                self._reading -= 1
                self._last = time.monotonic()
                if self._timer is None:
                    self._wait(self._linger)

    def close(self) -> None:
        """Close the file now, unless it is being read."""
        if self._process == os.getpid():
            with self._lock:
                self._close()

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, close_or_wait, [weakref.ref(self)])
        self._timer.daemon = True
        self._timer.start()

    def close_or_wait(self) -> None:
        """Close the file if it was not read for some time, else look again later."""
        with self._lock:
            left = self._last + self._linger - time.monotonic()
            self._timer = None
            if self._reading or left > 0:
                self._wait(max(left, self._linger / 2))
            else:
                self._close()

    def _close(self) -> None:
        if not self._reading and self._handle.keeps(ONLY_WINDOW):
            with suppress(SourceChangedError, SourceNotFoundError):  # each read has checked
                self._handle.close(ONLY_WINDOW)


def close_or_wait(reference: weakref.ref[LingeringFile]) -> None:
    """Close a file that was not read for some time; one that was garbage collected is closed."""
    file = reference()
    if file is not None:
        file.close_or_wait()
