"""An open HDF5 file, the readers of its datasets, and the functions that block tasks call on it.

::

    read_encoded(file, key, region) ──► close ──► decode_region ──► block
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

import h5py
import numpy as np

from h5bound.errors import DatasetNotFoundError, SourceChangedError, UnsupportedError, naming
from h5bound.files.local import LocalFile
from h5bound.files.open import is_live
from h5bound.files.writers import refresh as refresh_dataset
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import read_dtype
from h5bound.hdf5.links import PathOpener, open_object
from h5bound.reader.shared_blocks import SharedBlocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from h5bound.buffers import Block, Region
    from h5bound.files.file_state import FileState
    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import Tables
    from h5bound.reader.dataset_reader import DatasetReader
    from h5bound.reader.encoded import EncodedBlock


@dataclass(frozen=True, slots=True)
class DatasetKey:
    """A dataset as it was when its array was made."""

    path: str
    """Path in the file."""
    shape: tuple[int, ...]
    """Shape in elements."""
    dtype: str
    """Type as h5py reads it."""
    allowed: tuple[Path, ...] | None = None
    """Real paths of the directories whose files it may read from; None if it reads from no other file."""


class OpenFile:
    """An open HDF5 file and the readers of the datasets used so far.

    `state` is the state that the file must still have at the close, None if the caller may write to it. `close`
    closes the file if it is `owned`. `file_bytes` are those of a remote file. `indexes` are the chunk indexes that
    other opens of the same state have found, by dataset; None if it has none to share.
    """

    def __init__(
        self,
        file: h5py.File,
        state: FileState | None,
        *,
        owned: bool,
        file_bytes: FileBytes | None = None,
        indexes: dict[str, list[Tables]] | None = None,
    ) -> None:
        self.file = file
        self.state = state
        self.owned = owned
        self._readers: dict[str, DatasetReader] = {}
        self._checked: set[DatasetKey] = set()
        self._checked_files: set[str] = set()  # datasets whose external files were checked
        self._lock = RLock()
        self._opener = PathOpener(file)
        self.bytes = file_bytes
        self.shared = SharedBlocks()
        self._indexes = indexes
        if file_bytes is None:
            with suppress(UnsupportedError):  # each reader says why
                self.bytes = LocalFile.of(file.id)

    def open_object(self, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
        """Return the object at a path, as :func:`h5bound.hdf5.links.open_object` does."""
        if self.state is None:  # the caller may change links
            return open_object(self.file, path)
        with self._lock:
            return self._opener.open(path)

    def open_dataset(self, name: str, *, refresh: bool = False) -> h5py.Dataset:
        """Return the dataset at a path, as the function :func:`open_dataset` does."""
        return _check_dataset(self.file, name, self.open_object(name), refresh=refresh)

    def reader(self, name: str, dataset: h5py.Dataset | None = None) -> DatasetReader:
        """Return the reader of a dataset; open the dataset unless it is passed."""
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                from h5bound.reader.dataset_reader import DatasetReader

                dataset = self.open_dataset(name) if dataset is None else dataset
                reader = self._readers[name] = DatasetReader(dataset, self.bytes)
                if self._indexes is not None:
                    reader.share_index(self._indexes.setdefault(name, []))
            return reader

    def dataset(self, key: DatasetKey) -> DatasetReader:
        """Return the reader of a dataset that an array was made of.

        The dataset is checked once: the caller may have written to the file since the array was made.
        Raise SourceChangedError if the dataset is gone, or has another shape or type.
        """
        with self._lock:  # one thread opens it
            return self.reader(key.path) if key in self._checked else self._check(key)

    def _check(self, key: DatasetKey) -> DatasetReader:
        """Return the reader of a dataset once it was checked."""
        now = None
        try:
            dataset = self.open_dataset(key.path, refresh=True)
            self.check_external_files(key.path, key.allowed, dataset)
            shape = key.shape if self._has_grown(dataset, key.shape) else dataset.shape
            now = DatasetKey(
                path=key.path, shape=shape, dtype=str(read_dtype(read_type(dataset.id))), allowed=key.allowed
            )
        except DatasetNotFoundError:
            pass
        if now != key:
            raise SourceChangedError(
                f"dataset {key.path!r} of {self.file.filename}: it had shape {key.shape} and type {key.dtype} when the "
                f"array was made, and {f'has {now.shape}, {now.dtype}' if now else 'is gone'}; make the array again"
            )
        self._checked.add(key)
        return self.reader(key.path, dataset)

    def _has_grown(self, dataset: h5py.Dataset, before: tuple[int, ...]) -> bool:
        """Return whether a program that writes in SWMR mode has only added to a dataset of the shape `before`."""
        same = self.file.swmr_mode and len(dataset.shape or ()) == len(before)
        return same and all(now >= then for now, then in zip(dataset.shape or (), before, strict=True))

    def refresh(self) -> None:
        """Show all that was flushed so far by a program that writes in SWMR mode; other files do not change.

        HDF5 shows the same shapes and chunks from then on, until a dataset is refreshed again.
        """
        if not is_live(self.file):
            return
        from h5bound.hdf5.hierarchy import read_hierarchy

        for record in read_hierarchy(self.file, count=False).datasets:
            self.open_dataset(record.path, refresh=True)

    def check_external_files(
        self, name: str, allowed: tuple[Path, ...] | None, dataset: h5py.Dataset | None = None
    ) -> None:
        """Check once the other files that a dataset reads from: for a missing file HDF5 would read fill values.

        `allowed` are real paths of directories whose files it may read from, None if it reads from no other file.
        Raise what `h5bound.hdf5.external_check.check_external_files` raises.
        """
        if allowed is None or name in self._checked_files:
            return
        from h5bound.hdf5.external_check import check_external_files

        dataset = self.open_dataset(name) if dataset is None else dataset
        with naming(f"dataset {name!r} of {self.file.filename}"):
            check_external_files(self.file, dataset.id, allowed)
        self._checked_files.add(name)

    def read(self, name: str, region: Region) -> Block:
        """Return ``file[name][region]``."""
        return self.reader(name).read(region)

    def prefetch(self, name: str, regions: Sequence[Region]) -> None:
        """Announce regions of a dataset that will be read, each once, unless it is only one."""
        if self.bytes is not None and len(regions) > 1:
            self.reader(name).prefetch(regions)

    def close_datasets(self) -> None:
        """Close the datasets: a file that is set aside must not share an open dataset with another handle."""
        self._opener.close()
        while self._readers:
            self._readers.popitem()[1].close()

    def close(self) -> None:
        """Close the datasets, and the file unless it is the caller's."""
        try:
            self.close_datasets()
            if self.bytes is not None:
                self.bytes.close()
        finally:
            if self.owned:
                self.file.close()


def open_dataset(file: h5py.File, name: str, *, refresh: bool = False) -> h5py.Dataset:
    """Return the dataset at a path, following no link out of the file.

    With `refresh`, it has what a program that writes in SWMR mode has flushed so far; else what was seen before.
    Raise DatasetNotFoundError if there is none, UnsafeSourceError if a link on the path leads out of the file,
    UnsupportedError if h5py cannot open it.
    """
    return _check_dataset(file, name, open_object(file, name), refresh=refresh)


def _check_dataset(
    file: h5py.File, name: str, item: h5py.Group | h5py.Dataset | h5py.Datatype, *, refresh: bool
) -> h5py.Dataset:
    """Return the object at a path, refreshed if it is wanted. Raise DatasetNotFoundError if it is no dataset."""
    if isinstance(item, h5py.Dataset):
        if refresh and is_live(file):
            refresh_dataset(item)
        return item
    subject = f"{name!r} in {file.filename}"
    if isinstance(item, h5py.Group):
        names = ", ".join(sorted(map(os.fsdecode, item))[:8]) or "nothing"
        raise DatasetNotFoundError(f"{subject} is a group, not a dataset; it holds {names}")
    raise DatasetNotFoundError(f"{subject} is a committed type, not a dataset")


def locate_block(
    key: DatasetKey, bounds: tuple[tuple[int, ...], ...], index: tuple[int, ...]
) -> tuple[DatasetKey, Region]:
    """Return the arguments of `read_region` for a block; `bounds` are where blocks start and stop along each axis.

    Axes of an array type come after those of the dataset, and have no bounds.
    """
    return key, tuple(slice(stops[i], stops[i + 1]) for stops, i in zip(bounds, index, strict=False))


def read_region(file: OpenFile, key: DatasetKey, region: Region) -> Block:
    """Return a region of a dataset; its slices may have steps."""
    reader = file.dataset(key)
    return reader.read_steps(region) if _has_steps(region) else reader.read(region)


def read_encoded(file: OpenFile, key: DatasetKey, region: Region) -> Block | EncodedBlock:
    """Return the input of `decode_region`: the encoded chunks where they take less memory than the region."""
    return read_region(file, key, region) if _has_steps(region) else file.dataset(key).read_encoded(region)


def decode_region(encoded: Block | EncodedBlock) -> Block:
    """Return a region from what `read_encoded` returned; the file may be closed."""
    return encoded if isinstance(encoded, np.ndarray) else encoded.decode()


def prefetch_regions(file: OpenFile, reads: list[tuple[DatasetKey, Region]]) -> None:
    """Announce the regions of one dataset that will be read, each once, but for those with steps."""
    key = reads[0][0]
    file.dataset(key)
    file.prefetch(key.path, [region for _, region in reads if not _has_steps(region)])


def _has_steps(region: Region) -> bool:
    return any(s.step not in (None, 1) for s in region)
