"""Many HDF5 files as one source: each is opened by the first who reads from it, and closed with all others."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import weakref
import zlib
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from h5bound.errors import OptionError, SourceChangedError, SourceNotFoundError, UnsupportedError
from h5bound.files.local import LocalFile, LocalLocation
from h5bound.files.unlocked import is_read_unlocked
from h5bound.files.writers import find_writer
from h5bound.lifecycle.session import find_session, open_source
from h5bound.reader.window_group import HeldFile, WindowGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import ChunkIndexes, H5Source
    from h5bound.reader.window_group import FileWindow

MAX_OPEN = 64
"""Files of one window that are open at a time; a remote one keeps its metadata in memory, a local one a descriptor."""


def check_max_open(value: object, *, many: bool) -> int:
    """Return how many files are open at a time; None stands for MAX_OPEN.

    Raise OptionError if it is not a number of at least 1, or given for one file.
    """
    if value is None:
        return MAX_OPEN
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise OptionError(f"max_open={value!r}: it must be a whole number, at least 1")
    if not many:
        raise OptionError(f"max_open={value!r}: this is for a list of files, of which so many are open at a time")
    return int(value)


class SharedIndexes(dict[int, "ChunkIndexes | None"]):
    """What the opens of each file share, by its number; can be referred to weakly."""


class ManyFiles:
    """HDF5 files that are read as one source, each by its number.

    The open object is an `OpenFiles`. At most `max_open` files are open at a time in a process, in all of these
    together, and fewer where :mod:`h5bound.lifecycle.open_limit` allows fewer: those that nobody reads at this moment
    are checked and closed, the least recently used first; if all are being read, threads wait. Each file has one
    session, which it shares with all who read it.
    """

    exclusive = False  # windows that overlap share the sessions of their files
    descriptors = 0  # each file is counted, and closed for another, by its own session
    state = None  # each file has its own
    is_fixed = False  # as a whole: no byte of it has a place
    keeps_open = False  # files are not set aside: that would keep any number of them open

    def __init__(self, sources: Sequence[H5Source], *, max_open: int = MAX_OPEN) -> None:
        self.sources = tuple(sources)
        self.max_open = max_open
        keys = repr([source.key for source in self.sources]).encode("utf-8", "surrogateescape")
        self.key: Hashable = ("many files", hashlib.blake2b(keys, digest_size=16).hexdigest())
        self._shared: Callable[[], SharedIndexes | None] = lambda: None
        self._group = WindowGroup(self.max_open)

    @property
    def path(self) -> str:
        """The first path and the number of the others, for messages and reports."""
        more = len(self.sources) - 1
        return f"{self.sources[0].path} and {more:,} more" if more else self.sources[0].path

    @property
    def parts(self) -> int:
        """Number of files: they share a window as those of as many sources do."""
        return len(self.sources)

    @property
    def remote(self) -> bool:
        """Whether reads of a file are requests to a server."""
        return any(source.remote for source in self.sources)

    @property
    def live(self) -> bool:
        """Whether another program may write to a file, in SWMR mode, while it is read."""
        return any(source.live for source in self.sources)

    @property
    def strict_state(self) -> bool:
        """Whether no file may change."""
        return all(source.strict_state for source in self.sources)

    def caller_file(self) -> None:
        """Return None: `sources` know which files the caller holds open."""

    def __reduce__(self) -> tuple[object, ...]:
        return load_files, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        """The sources as bytes, packed once: a pool of processes gets them with each block."""
        return zlib.compress(pickle.dumps((self.sources, self.max_open)), 1)

    def __dask_tokenize__(self) -> Hashable:
        return self.key

    def open(self) -> OpenFiles:
        """Return an object that opens each file when it is read; no file is opened now."""
        if self._group.process != os.getpid():  # a fork has none of the files of its parent
            self._group = WindowGroup(self.max_open)
        return OpenFiles(self.sources, self._group, shared=self._shared())

    def share(self) -> SharedIndexes:
        """Return what all opens of the files share while it is kept: where their chunks are."""
        shared = self._shared()
        if shared is None:
            shared = SharedIndexes()
            self._shared = weakref.ref(shared)
        return shared

    def reader(self, opened: OpenFiles) -> OpenFiles:
        """Return the open files."""
        return opened

    def check(self, opened: OpenFiles) -> None:
        """Raise SourceChangedError or SourceNotFoundError if a file changed since it was opened."""
        opened.check()

    def close(self, opened: OpenFiles) -> None:
        """Close all files."""
        opened.close()

    def check_unchanged(self) -> None:
        """Raise SourceChangedError unless all files are in the state of their sources; no file is opened."""
        for source in self.sources:
            source.check_unchanged()

    def opened(self) -> AbstractContextManager[OpenFiles]:
        """Return a context in which files can be opened; at its end they are checked and closed."""
        return open_source(self, shared=not self.live)

    @contextmanager
    def keep_open(self, *, keep: bool) -> Iterator[None]:
        """Locate the chunks of each file once for all its opens in the context."""
        shared = self.share()
        yield
        del shared


@lru_cache(maxsize=4)
def load_files(packed: bytes) -> ManyFiles:
    """Return the source that was pickled; the last ones are kept."""
    sources, max_open = pickle.loads(zlib.decompress(packed))  # as safe as the pickle that this is a part of
    return ManyFiles(sources, max_open=max_open)


@dataclass(frozen=True, slots=True, eq=False)
class FirstUse:
    """What is done with a file before it is used."""

    prepare: Callable[[OpenFile], None]
    lock: threading.Lock = field(default_factory=threading.Lock)


class OpenFiles:
    """Files that are open from their first use until `close`; any thread may use any of them."""

    def __init__(self, sources: Sequence[H5Source], group: WindowGroup, *, shared: SharedIndexes | None) -> None:
        self._sources = sources
        self._group = group
        self._shared = shared
        self._name = uuid4().hex
        self._uses = count()
        self.held: dict[int, HeldFile] = {}  # by number, the least recently used first
        self._lock = group.changed  # of all that is above; never kept while a file is opened, checked or closed
        self._checking = threading.Lock()  # whoever finds all checked must know that no check is still to fail
        self._first_uses: dict[int, FirstUse] = {}  # what is to be done with files, by number
        self._changed: Exception | None = None  # of a file that was closed to make room
        group.add(self)

    @contextmanager
    def using(self, number: int) -> Iterator[OpenFile]:
        """Yield a file, which is open until the end of the context, and then until `close` or until there is no room.

        Contexts may be nested: then there is no wait for room. Raise SourceChangedError or SourceNotFoundError if a
        file changed: this one, or one that is closed to make room.
        """
        source, (held, idle) = self._sources[number], self._hold(number)
        try:
            with ExitStack() as stack:  # each is closed, also after an error
                if idle:
                    stack.callback(held.has_room.set)
                for window, other in idle:
                    stack.callback(window.release, other)
            held.has_room.wait()
            opened = held.session.acquire(held.hold)
            try:
                file = source.reader(opened)
                self._prepare(number, file)
                yield file
            except Exception as error:
                try:
                    held.session.check()
                    source.reader(opened)
                except (SourceChangedError, SourceNotFoundError) as changed:
                    raise changed from error
                raise
            finally:
                held.unchecked = True
                held.session.release()
        finally:
            self._group.end_use(held)

    def find_path(self, number: int) -> str:
        """Return the path or URL of a file."""
        return self._sources[number].path

    @contextmanager
    def reading_bytes(self, number: int) -> Iterator[LocalFile | None]:
        """Yield the bytes of a file, which HDF5 does not open; None if others may be in its memory.

        Raise SourceChangedError or SourceNotFoundError if it is not the same file, at the beginning and at the end.
        """
        source, file = self._sources[number], None
        if source.is_fixed and isinstance(source.location, LocalLocation) and source.caller_file() is None:
            source.check_unchanged()
            if find_writer(source.path) is None and not is_read_unlocked(source.path):
                with suppress(UnsupportedError):
                    file = LocalFile.at(source.path)
        try:
            yield file
        finally:
            if file is not None:
                state = file.read_state()
                file.close()
                source.check_state(state)

    def on_first_use(self, number: int, prepare: Callable[[OpenFile], None]) -> None:
        """Call a function with a file before it is used next; its other users wait until the function has returned."""
        self._first_uses[number] = FirstUse(prepare)

    def check(self) -> None:
        """Raise SourceChangedError or SourceNotFoundError if a file changed before it was checked after its last read.

        A file that was closed to make room was checked then.
        """
        with self._checking:
            if self._changed is not None:
                raise self._changed
            with self._lock:
                read = [held for held in self.held.values() if held.unchecked]
            for held in read:
                held.unchecked = False
                try:
                    held.session.check_held()
                except BaseException:
                    held.unchecked = True
                    raise

    def close(self) -> None:
        """Close all files that nobody else needs."""
        with ExitStack() as stack:
            for number in list(self.held)[::-1]:
                stack.callback(self._close_file, number)

    def _close_file(self, number: int) -> None:
        """Close a file, which is counted as open until then."""
        held = self.held.get(number)
        if held is not None:  # else it was closed to make room
            held.session.release_handle(self._name)
            self.held.pop(number, None)

    def _hold(self, number: int) -> tuple[HeldFile, list[tuple[FileWindow, HeldFile]]]:
        """Return a file that is about to be used, and those that are to be closed for it, each with its window."""
        source = self._sources[number]
        with self._lock:
            self._group.begin_use(number)
            room, held = self._group.find_room(number), self.held.pop(number, None)
            if held is None:
                session, hold = find_session(source, source.key), (self._name, str(next(self._uses)))
                held = HeldFile(session=session, hold=hold, has_room=room or threading.Event())
                if self._shared is not None and number not in self._shared:
                    self._shared[number] = source.share()
            self.held[number] = held
            held.users += 1
            idle = self._group.take_excess(self)
            if room is None and not idle:
                held.has_room.set()
            return held, idle

    def _prepare(self, number: int, file: OpenFile) -> None:
        first = self._first_uses.get(number)
        if first is not None:
            with first.lock:
                if self._first_uses.get(number) is first:
                    first.prepare(file)
                    self._first_uses.pop(number, None)  # another one may have been asked for meanwhile

    def release(self, held: HeldFile) -> None:
        """Check and close a file, unless others need it open."""
        with self._checking:
            try:
                held.session.release_hold(held.hold)
            except Exception as error:
                self._changed = error
                raise
