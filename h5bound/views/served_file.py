"""A file that is open while something reads it, and if it is on a server a little longer.

An open file keeps others from writing to it: other programs by its lock, this one since HDF5 opens no file for reading
and for writing. So a local file is closed at the end of a read, unless another one has begun.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.errors import SourceChangedError, SourceNotFoundError
from h5bound.files.local import LocalLocation, read_range
from h5bound.files.remote import RemoteLocation
from h5bound.files.remote_file import RemoteFile
from h5bound.files.unlocked import is_written_here
from h5bound.lifecycle.handle import Handle, Window
from h5bound.reader.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.buffers import Bytes
    from h5bound.reader.many_files import OpenFiles
    from h5bound.reader.source import H5Source

LINGER = 60.0
"""Seconds for which a remote file stays open after a read, which keeps out nobody: each open takes several requests."""

LONGEST_SLEEP = 1.0
"""Seconds after which a thread at the latest sees that its file was garbage collected."""

ONLY_WINDOW = Window("linger", only_window=True, clustered=True)


class ServedFile:
    """A source that is opened for a read, and closed when no other has begun.

    Ranges of its bytes may be read without opening it where it `has_ranges`.
    """

    def __init__(self, source: Any, *, has_ranges: bool) -> None:
        self.source: H5Source = source  # or ManyFiles, which has no ranges
        self.has_ranges = has_ranges
        self._linger = LINGER if source.remote else 0.0
        self._shared = source.share()  # where chunks are, kept for the next open
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._remote: RemoteFile | None = None
        self._handle = Handle(self.source)
        self._last = 0.0  # when the last read ended
        self._reading = 0
        self._is_watched = False  # whether a thread will close the file
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[OpenFile | OpenFiles]:
        """Yield the open file, or those that are joined; raise SourceChangedError at the end if one changed."""
        self.begin()
        try:
            with self._naming_writer(), self._handle.reading(ONLY_WINDOW, threading.get_ident()) as opened:
                if isinstance(opened, OpenFile):
                    refuse_writer(self.source, opened)
                yield opened
                if isinstance(opened, OpenFile) and isinstance(opened.bytes, RemoteFile) and opened.bytes.is_pinned:
                    opened.bytes.check()
                else:
                    self.source.check(opened)
        finally:
            self.end()

    def begin(self) -> None:
        """Announce a read: the file stays open until `end`, once it is open."""
        self._follow_fork()
        with self._lock:
            self._reading += 1

    def end(self) -> None:
        """Close the file after a read, at once or after some time, unless another read has begun."""
        with self._lock:
            self._reading -= 1
            self._last = time.monotonic()
            if not self._linger:
                self._close()
            elif not self._is_watched:
                self._is_watched = True
                threading.Thread(target=watch, args=[weakref.ref(self), self._linger], daemon=True).start()

    @property
    def is_shared(self) -> bool:
        """Whether more than one read has begun, so that the end of one does not close the file."""
        return self._reading > 1

    def read_range(self, offset: int, nbytes: int) -> Bytes:
        """Return bytes of the file, without HDF5 and its lock.

        Raise SourceChangedError if it is not the file that it was at first, and DamagedError if it ends before.
        """
        location, state = self.source.location, self.source.state
        if isinstance(location, LocalLocation):
            data, state = read_range(location.path, offset, nbytes)
            with self._naming_writer():
                self.source.check_state(state)
            return data
        self._follow_fork()
        assert isinstance(location, RemoteLocation)
        assert state is not None
        remote = self._remote = self._remote or location.connect(state)
        data = remote.gather([(offset, nbytes)]).read(offset, nbytes) if nbytes else np.zeros(0, np.uint8)
        if not remote.is_pinned:
            self.source.check_unchanged()
        return data

    def _follow_fork(self) -> None:
        """Begin anew in a forked process, which has no timer, and perhaps a lock that nobody releases."""
        if self._process != os.getpid():
            self._reset()

    def close(self) -> None:
        """Close the file now, unless it is being read."""
        if self._process == os.getpid():
            with self._lock:
                self._close()

    @contextmanager
    def _naming_writer(self) -> Iterator[None]:
        """Say that this process writes to the file, if that is why it changed."""
        try:
            yield
        except SourceChangedError as error:
            if self.source.remote or not self.source.is_fixed or not is_written_here(self.source.path):
                raise
            raise written_here(self.source) from error

    def close_if_idle(self) -> float:
        """Close the file if it was not read for some time, else return the seconds after which to look again."""
        with self._lock:
            left = self._last + self._linger - time.monotonic()
            if self._reading or left > 0:
                return max(left, self._linger / 2)
            self._is_watched = False
            self._close()
            return 0.0

    def _close(self) -> None:
        if not self._reading and self._handle.keeps(ONLY_WINDOW):
            with suppress(SourceChangedError, SourceNotFoundError):  # each read has checked
                self._handle.close(ONLY_WINDOW)


def refuse_writer(source: H5Source, opened: OpenFile) -> None:
    """Raise SourceChangedError if this process has opened a file for writing since it was planned."""
    if opened.state is None and not opened.owned and source.is_fixed:
        raise written_here(source)


def written_here(source: H5Source) -> SourceChangedError:
    """Return the error for a file that this process writes to."""
    return SourceChangedError(
        f"{source.path}: this process has opened the file for writing; close it first, make the store again "
        "from the open h5py.File, or load the values before they are written"
    )


def watch(reference: weakref.ref[ServedFile], seconds: float) -> None:
    """Close a file once it was not read for some time; end soon after it was garbage collected, which closes it."""
    while seconds > 0:
        time.sleep(min(seconds, LONGEST_SLEEP))
        file = reference()
        seconds = 0.0 if file is None else file.close_if_idle()
        del file
