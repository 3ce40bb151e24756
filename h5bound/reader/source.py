"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import uuid4

import h5py

from h5bound.errors import H5BoundError, OptionError, SourceChangedError, UnsupportedError
from h5bound.files.file_state import LocalState
from h5bound.files.local import LocalLocation
from h5bound.files.urls import Address, is_url, strip_local
from h5bound.lifecycle.source import open_source
from h5bound.reader.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from contextlib import AbstractContextManager
    from os import PathLike

    from h5bound.files.protocols import FileLocation, FileState


class H5Source:
    """An HDF5 file by its place, or one that the caller holds open.

    Parameters
    ----------
    place
        Where it is.
    identity
        What the file was when the array was made; None for one that has no path (in memory, a Python file
        object).
    pinned
        False when the caller held the file open for writing: closing it then changes its time stamp, so that
        only the inode can be asked for.
    held
        Gives the caller's `h5py.File`, or None once that is gone.
    """

    __slots__ = ("held", "identity", "key", "location", "strict_identity")
    exclusive: ClassVar[bool] = False

    def __init__(
        self,
        location: FileLocation,
        identity: FileState | None,
        *,
        strict_identity: bool = True,
        held: Callable[[], h5py.File | None] = lambda: None,
    ) -> None:
        self.location = location
        self.identity = identity
        self.strict_identity = strict_identity
        self.held = held
        self.key: Hashable = (location.key, identity or uuid4().hex)

    @property
    def path(self) -> str:
        """The place as messages name it."""
        return self.location.path

    @property
    def remote(self) -> bool:
        """Whether each read of it is a request to a server."""
        return not isinstance(self.location, LocalLocation)

    @classmethod
    def of(cls, file: str | PathLike[str] | h5py.File, storage_options: Mapping[str, Any] | None = None) -> Self:
        """Describe a path, a URL that fsspec knows with its options, or a File that the caller holds or held."""
        if not isinstance(file, h5py.File):
            location = find_location(file, storage_options)
            return cls(location, location.identify())
        refuse_options(storage_options)
        if not file:
            raise H5BoundError(
                "the h5py.File was closed before h5bound could see which file it is: pass its path instead"
            )
        path = str(Path(file.filename).resolve())
        if not Path(path).is_file() or (file.driver == "core" and file.mode != "r"):
            return cls(LocalLocation(str(file.filename)), None, held=lambda: file)
        if file.driver == "sec2" and os.fstat(file.id.get_vfd_handle()).st_ino != Path(path).stat().st_ino:
            raise SourceChangedError(f"{path}: another file was put there after it was opened; open it again")
        if file.mode != "r":
            file.flush()
        return cls(LocalLocation(path), LocalState.of(path), strict_identity=file.mode == "r", held=weakref.ref(file))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.identity is None:
            raise UnsupportedError(
                f"{self.path}: the file lives in this process only and cannot travel to another; "
                "compute on threads, or write it to a path"
            )
        return _at_location, (self.location, self.identity, self.strict_identity)

    def __dask_tokenize__(self) -> Hashable:
        return self.key

    def open(self) -> OpenFile:
        """Open the file for reading, or take the one the caller holds.

        Raises
        ------
        SourceChangedError, SourceNotFoundError
            It is not the file that the array was made from.
        """
        held = self.held()
        if held:
            writable = held.mode != "r"
            if not writable:
                self._compare(self._now())
            return OpenFile(held, None if writable else self.identity, owned=False)
        if self.identity is None:
            raise H5BoundError(
                f"{self.path}: the h5py.File was closed, and cannot be opened again by its name; keep it open until "
                "the compute ends"
            )
        identity = self._now()
        self._compare(identity)
        file, stored = self.location.open(identity)
        return OpenFile(file, identity, owned=True, stored=stored)

    def opened(self) -> AbstractContextManager[OpenFile]:
        """Return a context in which the file is open; at its end the file is checked and closed."""
        return open_source(self)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError unless the file is what it was when it was described; it is not opened for that."""
        if not (held := self.held()) or held.mode == "r":
            self._compare(self._now())

    def reader(self, opened: OpenFile) -> OpenFile:
        """Give the open file."""
        return opened

    def check(self, opened: OpenFile) -> None:
        """Compare the file as it is now with what was opened."""
        if opened.identity is not None:
            now = self.location.identify()
            if not opened.identity.same_state(now):
                raise SourceChangedError(self._changed(opened.identity, now))
        if opened.bytes is not None:
            opened.bytes.check()

    def close(self, opened: OpenFile) -> None:
        """Close the file unless it is the caller's."""
        opened.close()

    def _now(self) -> FileState | None:
        return None if self.identity is None else self.location.identify()

    def _compare(self, now: FileState | None) -> None:
        if self.identity is None or now is None:
            return
        same = self.identity.same_state if self.strict_identity else self.identity.same_file
        if not same(now):
            raise SourceChangedError(self._changed(self.identity, now))

    def _changed(self, before: FileState, now: FileState) -> str:
        return (
            f"{self.path}: the file changed after the array was made from it "
            f"(was {before}, is {now}); make the array again"
        )


def _at_location(location: FileLocation, identity: FileState, strict_identity: bool) -> H5Source:  # noqa: FBT001 - called by pickle
    return H5Source(location, identity, strict_identity=strict_identity)


def find_location(path: str | PathLike[str], storage_options: Mapping[str, Any] | None) -> FileLocation:
    """Give the place that a path or a URL stands for; nothing is asked of it yet.

    Raises
    ------
    OptionError
        There are options for a local file.
    """
    if is_url(path):
        from h5bound.files.remote import RemoteLocation

        return RemoteLocation(Address(str(path), storage_options or {}))
    refuse_options(storage_options)
    return LocalLocation(os.path.realpath(strip_local(os.fsdecode(path))))


def share_options(
    source: object,
    target: object,
    storage_options: Mapping[str, Any] | None,
    target_options: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Give the options of fsspec for a source and for a target: only a URL has any.

    Raises
    ------
    OptionError
        There are options, and no URL to use them.
    """
    if not (is_url(source) or is_url(target)):
        refuse_options(storage_options)
    if target_options is None and is_url(target):
        target_options = storage_options
    return storage_options if is_url(source) else None, target_options


def refuse_options(storage_options: Mapping[str, Any] | None) -> None:
    """Raise OptionError if there are options for what is no URL."""
    if storage_options:
        raise OptionError("storage_options: they are for URLs that fsspec knows")
