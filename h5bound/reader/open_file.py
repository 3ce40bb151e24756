"""An open HDF5 file, and its datasets as they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import h5py

from h5bound.errors import DatasetNotFoundError, SourceChangedError, UnsupportedError, naming
from h5bound.files.local import LocalFile
from h5bound.hdf5.links import open_object
from h5bound.reader.dataset_reader import DatasetReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from h5bound.files.protocols import FileBytes, FileState

    Region = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class DatasetKey:
    """A dataset as it was when its array was made."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    allowed: tuple[Path, ...] | None = None
    """real paths of directories whose files it may draw on; None if it draws on none"""


class OpenFile:
    """An open HDF5 file and the readers of those of its datasets that were asked for."""

    __slots__ = ("__weakref__", "_checked", "_judged", "_lock", "_readers", "bytes", "file", "identity", "owned")

    def __init__(
        self, file: h5py.File, identity: FileState | None, *, owned: bool, stored: FileBytes | None = None
    ) -> None:
        self.file = file
        self.identity = identity  # what it must still be at the close; None: whoever holds it may write to it
        self.owned = owned  # False: the caller opened it, and will close it
        self._readers: dict[str, DatasetReader] = {}
        self._checked: set[DatasetKey] = set()
        self._judged: set[str] = set()
        self._lock = Lock()
        self.bytes = open_bytes(file) if stored is None else stored  # None: each reader will say why

    def reader(self, name: str) -> DatasetReader:
        """Give the reader of a dataset."""
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                reader = self._readers[name] = DatasetReader(open_dataset(self.file, name), self.bytes)
            return reader

    def dataset(self, key: DatasetKey) -> DatasetReader:
        """Return the reader of a dataset that an array was made of.

        The dataset is checked once: whoever held the file open when the array was made may have written to it since.
        Raise SourceChangedError if the dataset is gone, or has another shape or type.
        """
        if key not in self._checked:
            self._check_dataset(key)
            self._checked.add(key)
        return self.reader(key.path)

    def _check_dataset(self, key: DatasetKey) -> None:
        try:
            dataset = open_dataset(self.file, key.path)
            self.check_external_files(key.path, key.allowed)
            now = DatasetKey(path=key.path, shape=dataset.shape, dtype=str(dataset.dtype), allowed=key.allowed)
        except DatasetNotFoundError:
            now = None
        if now != key:
            raise SourceChangedError(
                f"dataset {key.path!r} of {self.file.filename}: it had shape {key.shape} and type {key.dtype} when the "
                f"array was made, and {f'has {now.shape}, {now.dtype}' if now else 'is gone'}; make the array again"
            )

    def check_external_files(self, name: str, allowed: tuple[Path, ...] | None) -> None:
        """Judge once what a dataset draws on: HDF5 makes something up for a source that has gone since, or is not here.

        Parameters
        ----------
        name
            Of the dataset.
        allowed
            Real paths of directories whose files it may draw on; None if it draws on none.

        Raises
        ------
        UnsafeSourceError, SourceNotFoundError, UnsupportedError
            As `check_external_files`.
        """
        if allowed is None or name in self._judged:
            return
        from h5bound.hdf5.external_check import check_external_files  # it imports what opens files

        with naming(f"dataset {name!r} of {self.file.filename}"):
            check_external_files(self.file, name, allowed)
        self._judged.add(name)

    def read(self, name: str, region: Region) -> NDArray[np.generic]:
        """Give what ``file[name][region]`` holds."""
        return self.reader(name).read(region)

    def read_via_h5py(self, name: str, region: Region) -> NDArray[np.generic]:
        """Give what h5py itself reads of ``file[name][region]``."""
        return self.reader(name).read_via_h5py(region)

    def prefetch(self, name: str, regions: Sequence[Region]) -> None:
        """Take notice of regions of a dataset that will be read, each once, if each would be a request to a server."""
        if self.bytes is not None and self.bytes.is_remote and len(regions) > 1:
            self.reader(name).prefetch(regions)

    def close(self) -> None:
        """Let go of the datasets, and of the file unless it is the caller's."""
        while self._readers:
            self._readers.popitem()[1].close()
        if self.bytes is not None:
            self.bytes.close()
        if self.owned:
            self.file.close()


def open_bytes(file: h5py.File) -> LocalFile | None:
    """Give what the stored bytes of an open file are read from without HDF5; None where HDF5 may know better."""
    try:
        return LocalFile(file.id)
    except UnsupportedError:
        return None


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
