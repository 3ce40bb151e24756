"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.session` holds.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self
from uuid import uuid4

import h5py

from h5bound.address import Address, is_url, strip_local
from h5bound.errors import H5BoundError, SourceChangedError, SourceNotFoundError, UnsupportedError
from h5bound.openfile import OpenFile
from h5bound.settings import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from io import RawIOBase
    from os import PathLike

    from h5bound.filebytes import FileBytes


class Source(Protocol):
    """Something that can be opened, checked and closed."""

    @property
    def key(self) -> Hashable:
        """Equal for the sources of one process that share one open."""

    exclusive: ClassVar[bool]  # whether it can be open only once in a process

    def open(self) -> Any:
        """Open it and give back the opened thing."""

    def reader(self, opened: Any) -> Any:
        """Give what the blocks of this source are read from: others may share the opened thing."""

    def check(self, opened: Any) -> None:
        """Raise SourceChangedError if the opened thing is no longer what the array was made from."""

    def close(self, opened: Any) -> None:
        """Close the opened thing."""


class State(Protocol):
    """What tells one state of a file from another, wherever it is."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def mtime_ns(self) -> int:
        """When it was written to, in nanoseconds; 0 if nobody says."""

    def same_file(self, other: Self) -> bool:
        """Tell whether both are one file."""

    def same_state(self, other: Self) -> bool:
        """Tell whether both are one file that was not written to in between."""

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """What else tells its states from one another, by name: ETags and the like."""


class Place(Protocol):
    """Where an HDF5 file is."""

    @property
    def path(self) -> str:
        """As messages, reports and marks name it: without secrets."""

    @property
    def key(self) -> Hashable:
        """Equal for equal places, and without secrets."""

    def identify(self) -> State:
        """Give the state of the file now; raise SourceNotFoundError if nothing is there."""

    def open(self, state: Any) -> tuple[h5py.File, FileBytes | None]:
        """Open it for reading as it was in a state; gives what its stored bytes are read from as well, if it knows."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one state of a file from another, as ``os.stat`` gives it."""

    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> Self:
        """Give the identity of the file at ``path`` now.

        Raises
        ------
        SourceNotFoundError
            Nothing is there.
        """
        try:
            stat = Path(path).stat()
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{path}: no such file") from error
        except OSError as error:
            raise H5BoundError(f"{path}: it cannot be looked at: {error.strerror}") from error
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def same_file(self, other: Identity) -> bool:
        """Tell whether both are one file: the device may differ, it is each machine's own number."""
        return self.inode == other.inode

    def same_state(self, other: Identity) -> bool:
        """Tell whether both are one file that was not written to in between."""
        return self.same_file(other) and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """Nothing: a local file has a time that is fine enough."""
        return ()


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file of this machine."""

    path: str  # resolved

    @property
    def key(self) -> Hashable:
        """The path."""
        return self.path

    def identify(self) -> Identity:
        """Give the state of the file now."""
        return Identity.of(self.path)

    def open(self, _identity: Identity) -> tuple[h5py.File, None]:
        """Open it for reading."""
        return open_file(self.path), None


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

    __slots__ = ("held", "identity", "key", "pinned", "place")
    exclusive: ClassVar[bool] = False

    def __init__(
        self,
        place: Place,
        identity: State | None,
        *,
        pinned: bool = True,
        held: Callable[[], h5py.File | None] = lambda: None,
    ) -> None:
        self.place = place
        self.identity = identity
        self.pinned = pinned
        self.held = held
        self.key: Hashable = (place.key, identity or uuid4().hex)

    @property
    def path(self) -> str:
        """The place as messages name it."""
        return self.place.path

    @property
    def remote(self) -> bool:
        """Whether each read of it is a request to a server."""
        return not isinstance(self.place, LocalPlace)

    @classmethod
    def of(cls, file: str | PathLike[str] | h5py.File, storage_options: Mapping[str, Any] | None = None) -> Self:
        """Describe a path, a URL that fsspec knows with its options, or a File that the caller holds or held."""
        if not isinstance(file, h5py.File):
            place = find_place(file, storage_options)
            return cls(place, place.identify())
        refuse_options(storage_options)
        if not file:
            raise H5BoundError(
                "the h5py.File was closed before h5bound could see which file it is: pass its path instead"
            )
        path = str(Path(file.filename).resolve())
        if not Path(path).is_file() or (file.driver == "core" and file.mode != "r"):
            return cls(LocalPlace(str(file.filename)), None, held=lambda: file)
        if file.driver == "sec2" and os.fstat(file.id.get_vfd_handle()).st_ino != Path(path).stat().st_ino:
            raise SourceChangedError(f"{path}: another file was put there after it was opened; open it again")
        if file.mode != "r":
            file.flush()
        return cls(LocalPlace(path), Identity.of(path), pinned=file.mode == "r", held=weakref.ref(file))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.identity is None:
            raise UnsupportedError(
                f"{self.path}: the file lives in this process only and cannot travel to another; "
                "compute on threads, or write it to a path"
            )
        return _at_place, (self.place, self.identity, self.pinned)

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
        file, stored = self.place.open(identity)
        return OpenFile(file, identity, owned=True, stored=stored)

    def reader(self, opened: OpenFile) -> OpenFile:
        """Give the open file."""
        return opened

    def check(self, opened: OpenFile) -> None:
        """Compare the file as it is now with what was opened."""
        if opened.identity is not None:
            now = self.place.identify()
            if not opened.identity.same_state(now):
                raise SourceChangedError(self._changed(opened.identity, now))
        if opened.bytes is not None:
            opened.bytes.check()

    def close(self, opened: OpenFile) -> None:
        """Close the file unless it is the caller's."""
        opened.close()

    def _now(self) -> State | None:
        return None if self.identity is None else self.place.identify()

    def _compare(self, now: State | None) -> None:
        if self.identity is None or now is None:
            return
        same = self.identity.same_state if self.pinned else self.identity.same_file
        if not same(now):
            raise SourceChangedError(self._changed(self.identity, now))

    def _changed(self, before: State, now: State) -> str:
        return (
            f"{self.path}: the file changed after the array was made from it "
            f"(was {before}, is {now}); make the array again"
        )


def _at_place(place: Place, identity: State, pinned: bool) -> H5Source:  # noqa: FBT001 - called by pickle
    return H5Source(place, identity, pinned=pinned)


def find_place(path: str | PathLike[str], storage_options: Mapping[str, Any] | None) -> Place:
    """Give the place that a path or a URL stands for; nothing is asked of it yet.

    Raises
    ------
    OptionError
        There are options for a local file.
    """
    if is_url(path):
        from h5bound.remote import RemotePlace

        return RemotePlace(Address(str(path), storage_options or {}))
    refuse_options(storage_options)
    return LocalPlace(os.path.realpath(strip_local(os.fsdecode(path))))


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


def open_file(path: str, view: RawIOBase | None = None) -> h5py.File:
    """Give the HDF5 file at ``path``, open for reading; through a Python file if it is not of this machine.

    Raises
    ------
    SourceNotFoundError
        Nothing is there.
    H5BoundError
        It cannot be opened; the message names the way out where there is one.
    """
    if view is None and Path(path).exists() and not Path(path).is_file():  # to open a pipe would wait for a writer
        what = "a directory" if Path(path).is_dir() else "no regular file"
        raise H5BoundError(f"{path}: {what}, not an HDF5 file")
    try:
        return h5py.File(view or path, "r")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise H5BoundError(f"{path}: {_explain(error)}") from error


_WAYS_OUT = {
    "file signature not found": "not an HDF5 file",
    "consistency flags": "marked as open for writing: close the program that writes it, or if that writes for readers "
    "(SWMR), pass h5py.File(FILE, 'r', swmr=True); if there is none, one ended without closing the file: clear the "
    "mark with `h5clear -s FILE`",
    "is already open": "open in this process for writing: pass the open h5py.File itself, or close it",
    "truncated file": "truncated: it is shorter than HDF5 recorded; fetch it again",
    "Permission denied": "it may not be read by this user: `chmod +r FILE`, or ask whose it is",
    "unable to lock file": "locked by a program that writes to it, perhaps the one that runs this: close it there, or "
    "set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks",
}


def _explain(error: Exception) -> str:
    message, version = str(error), h5py.version.hdf5_version
    for part, meaning in _WAYS_OUT.items():
        if part in message:
            return f"{meaning} (HDF5 {version})"
    return f"HDF5 {version} cannot open it: {message}"
