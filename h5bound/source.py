"""What a compute opens and closes: an HDF5 file, or any object with ``open`` and ``close``.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.session` holds.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self
from uuid import uuid4

import h5py

from h5bound.decode import DatasetReader
from h5bound.errors import (
    DatasetNotFoundError,
    H5BoundError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedError,
)
from h5bound.links import open_object
from h5bound.stored import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from h5bound.direct import Fetched

    Region = tuple[slice, ...]


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
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def same_file(self, other: Identity) -> bool:
        """Tell whether both are one file: the device may differ, it is each machine's own number."""
        return self.inode == other.inode

    def same_state(self, other: Identity) -> bool:
        """Tell whether both are one file that was not written to in between."""
        return self.same_file(other) and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


@dataclass(frozen=True, slots=True)
class DatasetKey:
    """A dataset as it was when its array was made."""

    path: str
    shape: tuple[int, ...]
    dtype: str


class OpenFile:
    """An open HDF5 file and the readers of those of its datasets that were asked for."""

    __slots__ = ("_expected", "_local", "_lock", "_readers", "file", "identity", "owned")

    def __init__(self, file: h5py.File, identity: Identity | None, *, owned: bool) -> None:
        self.file = file
        self.identity = identity  # what it must still be at the close; None: whoever holds it may write to it
        self.owned = owned  # False: the caller opened it, and will close it
        self._readers: dict[str, DatasetReader] = {}
        self._expected: set[DatasetKey] = set()
        self._lock = Lock()
        try:
            self._local: LocalFile | None = LocalFile(file.id)
        except UnsupportedError:
            self._local = None  # each reader will say why

    def reader(self, name: str) -> DatasetReader:
        """Give the reader of a dataset."""
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                reader = self._readers[name] = DatasetReader(open_dataset(self.file, name), self._local)
            return reader

    def expect(self, what: DatasetKey) -> None:
        """Make sure of a dataset, once: its file may have been written to by whoever held it when the array was made.

        Raises
        ------
        SourceChangedError
            It is gone, or of another shape or type.
        """
        if what in self._expected:
            return
        try:
            dataset = open_dataset(self.file, what.path)
            found = DatasetKey(what.path, dataset.shape, str(dataset.dtype))
        except DatasetNotFoundError:
            found = None
        if found != what:
            raise SourceChangedError(
                f"dataset {what.path!r} of {self.file.filename}: it had shape {what.shape} and type {what.dtype} when "
                f"the array was made, and {f'has {found.shape}, {found.dtype}' if found else 'is gone'}; make it again"
            )
        self._expected.add(what)

    def read(self, name: str, region: Region) -> NDArray[np.generic]:
        """Give what ``file[name][region]`` holds."""
        return self.reader(name).read(region)

    def fetch(self, name: str, region: Region) -> NDArray[np.generic] | Fetched:
        """Give what ``file[name][region]`` holds, or what that is decoded from."""
        return self.reader(name).fetch(region)

    def close(self) -> None:
        """Let go of the datasets, and of the file unless it is the caller's."""
        while self._readers:
            self._readers.popitem()[1].close()
        if self._local is not None:
            self._local.close()
        if self.owned:
            self.file.close()


class H5Source:
    """An HDF5 file by its path, or one that the caller holds open.

    Parameters
    ----------
    path
        The resolved path.
    identity
        What the file was when the array was made; None for one that has no path (in memory, a Python file
        object).
    pinned
        False when the caller held the file open for writing: closing it then changes its time stamp, so that
        only the inode can be asked for.
    held
        Gives the caller's `h5py.File`, or None once that is gone.
    """

    __slots__ = ("held", "identity", "key", "path", "pinned")
    exclusive: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        identity: Identity | None,
        *,
        pinned: bool = True,
        held: Callable[[], h5py.File | None] = lambda: None,
    ) -> None:
        self.path = path
        self.identity = identity
        self.pinned = pinned
        self.held = held
        self.key: Hashable = (path, identity or uuid4().hex)

    @classmethod
    def of(cls, file: str | PathLike[str] | h5py.File) -> Self:
        """Describe a path, or a File that the caller holds or held."""
        if not isinstance(file, h5py.File):
            path = resolve(file)
            return cls(path, Identity.of(path))
        if not file:
            raise H5BoundError(
                "the h5py.File was closed before h5bound could see which file it is: pass its path instead"
            )
        path = str(Path(file.filename).resolve())
        if not Path(path).is_file() or (file.driver == "core" and file.mode != "r"):
            return cls(str(file.filename), None, held=lambda: file)
        if file.mode != "r":
            file.flush()
        return cls(path, Identity.of(path), pinned=file.mode == "r", held=weakref.ref(file))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.identity is None:
            raise UnsupportedError(
                f"{self.path}: the file lives in this process only and cannot travel to another; "
                "compute on threads, or write it to a path"
            )
        return _by_path, (self.path, self.identity, self.pinned)

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
        self._compare(self._now())
        file = open_file(self.path)
        try:
            identity = self._now()
            self._compare(identity)
        except BaseException:
            file.close()
            raise
        return OpenFile(file, identity, owned=True)

    def reader(self, opened: OpenFile) -> OpenFile:
        """Give the open file."""
        return opened

    def check(self, opened: OpenFile) -> None:
        """Compare the file on disk with what was opened."""
        if opened.identity is not None:
            now = Identity.of(self.path)
            if not opened.identity.same_state(now):
                raise SourceChangedError(self._changed(opened.identity, now))

    def close(self, opened: OpenFile) -> None:
        """Close the file unless it is the caller's."""
        opened.close()

    def _now(self) -> Identity | None:
        return None if self.identity is None else Identity.of(self.path)

    def _compare(self, now: Identity | None) -> None:
        if self.identity is None or now is None:
            return
        same = self.identity.same_state if self.pinned else self.identity.same_file
        if not same(now):
            raise SourceChangedError(self._changed(self.identity, now))

    def _changed(self, before: Identity, now: Identity) -> str:
        return (
            f"{self.path}: the file changed after the array was made from it "
            f"(was {before}, is {now}); make the array again"
        )


def _by_path(path: str, identity: Identity, pinned: bool) -> H5Source:  # noqa: FBT001 - called by pickle
    return H5Source(path, identity, pinned=pinned)


class ObjectSource:
    """Any object with ``open()`` and ``close()``, and the function that reads from it.

    Both travel in one pickle, so that a bound method goes on belonging to its object.
    """

    __slots__ = ("read", "resource")
    exclusive: ClassVar[bool] = True

    def __init__(self, resource: Any, read: Callable[..., Any]) -> None:
        self.resource = resource
        self.read = read

    @property
    def key(self) -> Hashable:
        """One for each object of this process: a session keeps the object, so that its id stays its own."""
        return id(self.resource)

    def open(self) -> None:
        """Open the object."""
        self.resource.open()

    def reader(self, opened: None) -> Callable[..., Any]:
        """Give the function that reads from it."""
        return self.read

    def check(self, opened: None) -> None:
        """Nothing is known of what may change in it."""

    def close(self, opened: None) -> None:
        """Close the object."""
        self.resource.close()


def resolve(path: str | PathLike[str]) -> str:
    """Give the real path of a local file.

    Raises
    ------
    UnsupportedError
        It is a URL.
    """
    name = os.fsdecode(path).removeprefix("file://")
    if "://" in name:
        raise UnsupportedError(f"{name}: a URL; h5bound reads local files, so copy it to one first")
    return str(Path(name).resolve())


def open_file(path: str) -> h5py.File:
    """Give the HDF5 file at ``path``, open for reading.

    Raises
    ------
    SourceNotFoundError
        Nothing is there.
    H5BoundError
        It cannot be opened; the message names the way out where there is one.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise H5BoundError(f"{path}: {_explain(path, error)}") from error


def open_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Give the dataset at a path, without following links out of the file.

    Raises
    ------
    DatasetNotFoundError
        Nothing is there, or a group, or a committed type.
    UnsafeSourceError
        A link on the way leads out of the file.
    UnsupportedError
        h5py cannot open it.
    """
    found = open_object(file, name)
    if isinstance(found, h5py.Dataset):
        return found
    where = f"{name!r} in {file.filename}"
    if isinstance(found, h5py.Group):
        inside = ", ".join(sorted(map(os.fsdecode, found))[:8]) or "nothing"
        raise DatasetNotFoundError(f"{where} is a group, not a dataset; it holds {inside}")
    raise DatasetNotFoundError(f"{where} is a committed type, not a dataset")


_WAYS_OUT = {
    "file signature not found": "not an HDF5 file",
    "consistency flags": "marked as open for writing by a program that did not close it: close that, or "
    "clear the mark with `h5clear -s FILE`",
    "is already open": "open in this process for writing: pass the open h5py.File itself, or close it",
    "truncated file": "truncated: it is shorter than HDF5 recorded; fetch it again",
    "unable to lock file": "locked by a program that writes to it, perhaps the one that runs this: close it there, or "
    "set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks",
}


def _explain(path: str, error: Exception) -> str:
    if Path(path).is_dir():
        return "a directory, not an HDF5 file"
    message = str(error)
    for part, meaning in _WAYS_OUT.items():
        if part in message:
            return meaning
    with suppress(OSError):
        if not Path(path).stat().st_size:
            return "empty, not an HDF5 file"
    return f"HDF5 {h5py.version.hdf5_version} cannot open it: {message}"
