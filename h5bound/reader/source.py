"""The source of arrays and conversions: an HDF5 file by its location, or one that the caller holds open."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import h5py
from h5py import check_string_dtype, check_vlen_dtype

from h5bound.errors import H5BoundError, SourceChangedError, UnsupportedError
from h5bound.files.file_objects import ObjectLocation, resolve_object
from h5bound.files.file_state import FileState
from h5bound.files.guarded import GuardedLocation
from h5bound.files.local import LocalLocation
from h5bound.files.open import is_live
from h5bound.files.paths import expand_path
from h5bound.files.unlocked import OTHER_WRITER, is_read_unlocked, is_written_here
from h5bound.files.urls import Address, is_url, refuse_options, strip_local
from h5bound.files.writers import find_open_file, find_writer
from h5bound.lifecycle.handle import worker_address
from h5bound.lifecycle.session import open_source
from h5bound.reader.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import numpy as np

    from h5bound.files.protocols import FileLocation
    from h5bound.hdf5.chunk_index import Tables

LOGGER = logging.getLogger(__name__)

ON_CLUSTER = (
    "make the array or store again. If this compute writes to the file, a cluster cannot: its new variables are in the "
    "file by now, and empty; load the values before they are written, compute with "
    "dask.config.set(scheduler='threads'), or write to another file"
)
"""What to do on a worker, which cannot tell what its own compute has written from what others have."""


class ChunkIndexes(dict[str, "list[Tables]"]):
    """Where the chunks of datasets are, by path; can be referred to weakly."""


class H5Source:
    """An HDF5 file by its location, or one that the caller holds open.

    `state` is the state of the file when the array was made, None if it has no path (in memory, a Python file
    object). If the caller held the file open for writing, or another program writes to it in SWMR mode, `strict_state`
    is False: its size and time stamp change, so only the inode is compared. `caller_file` returns the caller's
    `h5py.File`, or None once that is gone. While `keeps_open`, a file that is closed is set aside for the next open; in
    another process it is not.
    """

    __slots__ = (
        "_idle",
        "_indexes",
        "_shared",
        "caller_file",
        "exclusive",
        "keeps_open",
        "key",
        "location",
        "state",
        "strict_state",
    )

    def __init__(
        self,
        location: FileLocation,
        state: FileState | None,
        *,
        strict_state: bool = True,
        caller_file: Callable[[], h5py.File | None] = lambda: None,
        exclusive: bool = False,
    ) -> None:
        self.location = location
        self.state = state
        self.strict_state = strict_state
        self.caller_file = caller_file
        self.exclusive = exclusive
        self.key: Hashable = (location.key, state or uuid4().hex)
        self.keeps_open = False
        self._idle: list[OpenFile] = []  # the files that were set aside
        self._indexes: dict[str, list[Tables]] | None = None  # that the opens of a conversion share
        self._shared: Callable[[], ChunkIndexes | None] = lambda: None  # those of a compute

    @property
    def path(self) -> str:
        """The path or URL for messages and reports."""
        return self.location.path

    @property
    def live(self) -> bool:
        """Whether another program may write to the file, in SWMR mode, while it is read."""
        return isinstance(self.location, LocalLocation) and self.location.swmr

    @property
    def is_fixed(self) -> bool:
        """Whether the file has a path and nobody wrote to it when it was planned, so that its bytes have places."""
        return self.state is not None and self.strict_state

    @property
    def descriptors(self) -> int:
        """Number of descriptors that the open file takes: that of HDF5, and that of `LocalFile`."""
        return 0 if self.remote else 2

    @property
    def remote(self) -> bool:
        """Whether each read is a request to a server."""
        if isinstance(self.location, GuardedLocation):
            return self.location.is_remote
        return not isinstance(self.location, (LocalLocation, ObjectLocation))

    @classmethod
    def of(cls, file: Any, storage_options: Mapping[str, Any] | None = None) -> Self:
        """Return the source for a path, a URL with its options of fsspec, an open `h5py.File`, or a file object."""
        if not isinstance(file, h5py.File):
            location: FileLocation
            file, own_options = resolve_object(file)
            storage_options = storage_options or own_options
            if isinstance(file, ObjectLocation):
                refuse_options(storage_options)
                location = file
            elif is_url(file):
                from h5bound.files.remote import RemoteLocation

                location = RemoteLocation(Address(url=str(file), options=storage_options or {}))
            else:
                refuse_options(storage_options)
                location = LocalLocation(os.path.realpath(strip_local(expand_path(file))))
            state = location.read_state()
            writer = find_writer(location.path) if isinstance(location, LocalLocation) else None
            return cls(location, state) if writer is None else cls.of(writer)
        refuse_options(storage_options)
        if not file:
            raise H5BoundError("the h5py.File is closed, so h5bound cannot find out which file it is: pass its path")
        path = str(Path(file.filename).resolve())
        if not Path(path).is_file() or (file.driver == "core" and file.mode != "r"):
            return cls(LocalLocation(str(file.filename)), None, caller_file=lambda: file)
        if file.driver == "sec2" and os.fstat(file.id.get_vfd_handle()).st_ino != Path(path).stat().st_ino:
            raise SourceChangedError(f"{path}: the file was replaced after it was opened; open it again")
        if file.mode != "r":
            file.flush()
        location = LocalLocation(path, swmr=is_live(file))
        strict_state = file.mode == "r" and not location.swmr
        find_file = partial(find_open_file, file.id.id)
        return cls(location, FileState.of(path), strict_state=strict_state, caller_file=find_file)

    def find_linked(self, path: str | Path) -> H5Source:
        """Return the source of a local file that this one leads to: one of SWMR mode if this one is, as in HDF5."""
        source = type(self).of(path)
        return source.follow_writer() if self.live and not source.caller_file() else source

    def follow_writer(self) -> H5Source:
        """Return the source of the same local file in SWMR mode, in which another program writes to it."""
        return type(self)(LocalLocation(self.path, swmr=True), self.state, strict_state=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.state is None:
            raise UnsupportedError(
                f"{self.path}: the file exists in this process only and cannot be sent to another; compute on threads, "
                "or write it to a path"
            )
        strict, exclusive = self.strict_state, self.exclusive
        return partial(type(self), self.location, self.state, strict_state=strict, exclusive=exclusive), ()

    def __dask_tokenize__(self) -> Hashable:
        return self.key

    def open(self) -> OpenFile:
        """Open the file for reading, or take the one that the caller holds, or that h5py has open for writing here.

        What is written meanwhile may be the result of this very compute, so only the inode is compared then, and the
        size, which HDF5 never makes less. On a worker nothing may be written: there nobody has checked whether it is.

        Raise SourceChangedError or SourceNotFoundError if it is not the file that the array was made from.
        """
        with suppress(IndexError):
            return self._idle.pop()
        file = self.caller_file()
        if file:
            self.check_unchanged()
            return OpenFile(file, self.state if file.mode == "r" else None, owned=False)
        if self.state is None:
            raise H5BoundError(
                f"{self.path}: the h5py.File was closed, and cannot be opened again by its name; keep it open until "
                "the compute ends"
            )
        state = self.location.read_state()
        is_path = isinstance(self.location, LocalLocation) and not self.live
        writer = find_writer(self.path) if is_path else None
        may_change = worker_address() is None or not self.strict_state
        may_grow = state.size >= self.state.size
        if writer is not None:
            self._compare(self.state, state, only_inode=may_grow and may_change)
            with suppress(ValueError):  # another thread closes it at this moment
                return OpenFile(writer, None if may_change else state, owned=False)
        indexes = self._shared() if self._indexes is None else self._indexes
        unlocked = is_path and is_read_unlocked(self.path)
        self._compare(self.state, state, only_inode=not self.strict_state or (unlocked and may_grow))
        file, file_bytes = self.location.open(state)
        LOGGER.debug("%s: opened", self.path)
        try:
            known = (None, None) if unlocked else (state, indexes)
            return OpenFile(file, known[0], owned=True, file_bytes=file_bytes, indexes=known[1])
        except BaseException:
            file.close()
            raise

    def share(self) -> ChunkIndexes | None:
        """Return what all opens of the file share while it is kept: where chunks are; None if the file may change."""
        if not self.strict_state:
            return None
        shared = self._shared()
        if shared is None:
            shared = ChunkIndexes()
            self._shared = weakref.ref(shared)
        return shared

    def check_unchanged(self) -> None:
        """Raise SourceChangedError unless the file is in the state of this source; the file is not opened."""
        file = self.caller_file()
        if self.state is not None and (not file or file.mode == "r"):
            self._compare(self.state, self.location.read_state(), only_inode=not self.strict_state)

    def check_state(self, now: FileState) -> None:
        """Raise SourceChangedError unless a state of the file that was read just now is that of this source."""
        if self.state is not None:
            self._compare(self.state, now, only_inode=not self.strict_state)

    def opened(self) -> AbstractContextManager[OpenFile]:
        """Return a context in which the file is open; at its end the file is checked and closed.

        It is open once with the computes that read it: until the types of its datasets are known, it may be exclusive.
        """
        return open_source(self, shared=not self.live)

    def reader(self, opened: OpenFile) -> OpenFile:
        """Return the open file; raise SourceChangedError if the caller has closed it, and no bytes can be read."""
        if opened.bytes is None and not opened.file:
            raise SourceChangedError(
                f"{self.path}: this process closed the file while it was read; keep it open until the compute ends, or "
                "compute again"
            )
        return opened

    def check(self, opened: OpenFile) -> None:
        """Raise SourceChangedError or SourceNotFoundError if the file changed since it was opened."""
        if opened.state is not None:
            self._compare(opened.state, self.location.read_state(), only_inode=self.live)
        elif opened.owned and not is_read_unlocked(self.path):
            raise SourceChangedError(
                f"{self.path}: another compute of this process wrote to the file, with netCDF4, and has ended; make "
                "the array again"
            )
        if opened.bytes is not None:
            opened.bytes.check()

    def close(self, opened: OpenFile) -> None:
        """Close the file unless it is the caller's, or set it aside.

        One file at most is set aside; of a remote one, as many as windows that overlap have opened: each of them has
        read its metadata.
        """
        if self.keeps_open and (self.remote or not self._idle):
            opened.close_datasets()
            self._idle.append(opened)
        else:
            self._close(opened)

    def make_exclusive_for(self, dtypes: Iterable[np.dtype[Any] | None]) -> None:
        """Make the source exclusive if one of the types nests values of variable length.

        HDF5 reads such values through the handle of the file that opened their dataset first, and crashes if another
        handle has it open when that one is closed. Plain text and plain sequences are safe.
        """
        for dtype in dtypes:
            if dtype is not None and dtype.hasobject and check_string_dtype(dtype) is None:
                base = check_vlen_dtype(dtype)
                self.exclusive = self.exclusive or dtype.kind != "O" or (base is not None and base.hasobject)

    @contextmanager
    def keep_open(self, *, keep: bool) -> Iterator[None]:
        """Keep the file open between its uses if `keep`: until the first use after `keeps_open` was set to False.

        Each use still checks the file at its end. No file is open at the end of the context. In the context, chunks are
        located once for all opens of the file, unless it may change.
        """
        self.keeps_open = keep
        self._indexes = {} if self.strict_state else None
        try:
            yield
        finally:
            self.keeps_open, self._indexes = False, None
            while self._idle:
                self._close(self._idle.pop())

    def _close(self, opened: OpenFile) -> None:
        opened.close()
        if opened.owned:
            LOGGER.debug("%s: closed", self.path)

    def _compare(self, before: FileState, now: FileState, *, only_inode: bool) -> None:
        # a remote file has no inode: only an unchanged file is known to be the same
        if before.inode != now.inode if only_inode and before.inode is not None else before != now:
            advice = "make the array or store again"
            if worker_address() is not None:
                advice = ON_CLUSTER
            elif not self.remote and is_written_here(self.path):
                advice = OTHER_WRITER
            raise SourceChangedError(
                f"{self.path}: the file changed after it was first read ({before.describe_change(now)}); {advice}"
            )
