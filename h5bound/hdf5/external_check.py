"""Check the files and datasets that a dataset reads from: external storage, and the sources of a virtual dataset.

A source may be virtual itself, or have external storage. Where one is missing, HDF5 reads fill values; where one is too
small, it reads uninitialised memory. So all of them are checked before the dataset is read.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import h5py
from h5py import h5d, h5o

from h5bound.errors import (
    DatasetNotFoundError,
    H5BoundError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
    naming,
)
from h5bound.files.file_state import FileState
from h5bound.files.open import explain_error, is_live
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.external_files import MAX_HOPS, find_file, is_itself
from h5bound.hdf5.links import decode_name, find_external, open_object
from h5bound.hdf5.virtual_mappings import VirtualMapping, check_selection, read_mappings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from h5py import h5p, h5s


MAX_NESTED = 32
"""Levels of virtual datasets whose sources are virtual."""

MAX_SOURCES = 100_000
"""Datasets that one read may open; one that is a source twice counts twice."""

GONE = "no such dataset, for which HDF5 would read fill values"


def check_external_files(file: h5py.File, dataset: h5d.DatasetID, allowed: Sequence[Path]) -> dict[str, FileState]:
    """Check that a dataset opens allowed files only, and that these have all elements that it reads from them.

    Return the states of these files before they were opened, by real path. `allowed` are real paths of directories.

    Raise UnsafeSourceError if the dataset would open another file or too many datasets, SourceNotFoundError if a file
    is missing, UnsupportedError if a source is smaller than what the dataset reads of it: HDF5 would make up values.
    """
    check = ExternalCheck(allowed)
    try:
        check.count_dataset(file, dataset)
    except H5BoundError:
        raise
    except READ_ERRORS as error:
        raise UnsupportedError(f"h5py cannot read which other files it needs: {describe(error)}") from error
    return check.states


@dataclass(slots=True)
class ExternalCheck:
    """A check of a dataset and of all datasets and files that it reads from.

    The methods ``count_*`` return how many datasets a read would open, and raise as `check_external_files` does.
    """

    allowed: Sequence[Path]
    """Real paths of directories whose files may be opened."""
    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    """Datasets that reading one opens, by its file and address."""
    above: set[tuple[str, int]] = field(default_factory=set)
    """Datasets that read from the one that is being checked."""
    states: dict[str, FileState] = field(default_factory=dict)
    """States of the other files before they were opened, by real path."""

    def find(self, main: str, name: str, reference: str) -> Path:
        """Return the path of another file, as `find_file` does, and note its state."""
        path = find_file(main, name, reference, allowed=self.allowed)
        real = os.path.realpath(path)
        if real not in self.states:
            self.states[real] = FileState.of(real)
        return path

    def open_file(self, file: h5py.File, name: str, reference: str) -> h5py.File:
        """Open another file that an open one names, if it is allowed."""
        if file.driver == "fileobj":  # HDF5 would ask the Python object of this file for the other one
            raise UnsafeSourceError("outside the file, which was opened as a Python object and has no directory")
        path = self.find(file.filename, name, reference)
        try:
            return h5py.File(path, "r", swmr=is_live(file))
        except READ_ERRORS as error:
            detail = explain_error(str(error), str(path), None) or describe(error)
            raise UnsupportedError(f"the file cannot be opened: {detail}") from error

    def count_dataset(self, file: h5py.File, dataset: h5d.DatasetID) -> int:
        """Check a dataset of an open file."""
        key = (os.path.realpath(file.filename), h5o.get_info(dataset).addr)
        if key in self.above:
            raise UnsafeSourceError("the virtual dataset is a source of itself")
        if len(self.above) > MAX_NESTED:
            raise UnsafeSourceError(f"more than {MAX_NESTED} levels of virtual datasets")
        if key not in self.counts:
            self.above.add(key)
            plist = dataset.get_create_plist()
            self.check_external_storage(file, plist, dataset.get_storage_size())
            mappings = read_mappings(plist) if plist.get_layout() == h5d.VIRTUAL else []
            by_file = groupby(sorted(mappings, key=lambda mapping: mapping.file), key=lambda mapping: mapping.file)
            gone: list[H5BoundError] = []
            counts = [self.count_file(file, name, list(group), gone=gone) for name, group in by_file]
            if gone and 0 not in dataset.shape:  # HDF5 may open its sources for this: all are allowed
                raise gone[0]
            self.counts[key] = 1 + sum(counts)
            self.above.remove(key)
        return self.counts[key]

    def check_external_storage(self, file: h5py.File, plist: h5p.PropDCID, nbytes: int) -> None:
        """Check the files of a dataset's external storage, which hold `nbytes` bytes of it together."""
        left = nbytes
        for i in range(plist.get_external_count()):
            raw, offset, size = plist.get_external(i)
            name = decode_name(raw)
            with naming(f"external storage {name!r}"):
                path = self.find(file.filename, name, "external")
                part = min(left, size)
                if part and path.stat().st_size < offset + part:
                    raise UnsupportedError(
                        f"the file has fewer than {offset + part:,} bytes; HDF5 would make up zeros for the rest"
                    )
                left -= part

    def count_file(
        self, file: h5py.File, name: str, mappings: Sequence[VirtualMapping], *, gone: list[H5BoundError]
    ) -> int:
        """Check the mappings of a virtual dataset to one file, which is opened once for all without a pattern."""
        count, plain = 0, [mapping for mapping in mappings if not mapping.is_pattern]
        if is_itself(file.filename, name):
            count = self.count_mappings(file, plain)
        elif plain:
            with naming(f"virtual source {plain[0]}"):
                other = self.open_file(file, name, "virtual")
            with other:
                count = self.count_mappings(other, plain)
        return count + sum(self.count_pattern(file, mapping, gone) for mapping in mappings if mapping.is_pattern)

    def count_pattern(self, file: h5py.File, pattern: VirtualMapping, gone: list[H5BoundError]) -> int:
        """Check the sources of a pattern, with 0, 1, 2 and so on in their names, up to the first that is missing.

        HDF5 stops there, too (H5Pset_virtual_printf_gap, whose default is 0). Without any source, the error is added to
        `gone`: a dataset without elements has none.
        """
        count, number = 0, 0
        while True:
            mapping = pattern.fill_in(number)
            subject = f"virtual source {mapping}"
            with naming(subject), ExitStack() as stack:
                try:
                    source = file
                    if not is_itself(file.filename, mapping.file):
                        source = stack.enter_context(self.open_file(file, mapping.file, "virtual"))
                    if find_external(source, mapping.path) is None:
                        open_object(source, mapping.path)
                except SourceNotFoundError as error:
                    gone += [] if number else [SourceNotFoundError(f"{subject}: {error}")]
                    return count
                except DatasetNotFoundError as error:
                    gone += [] if number else [UnsupportedError(f"{subject}: {GONE}: {error}")]
                    return count
                with naming(GONE, DatasetNotFoundError, raising=UnsupportedError):
                    count += self.count_source(source, mapping.path, mapping.selection)
            number += 1
            if mapping == pattern.fill_in(number):  # its only % is %%, for a percent sign
                return count
            if count > MAX_SOURCES:
                raise UnsafeSourceError(f"more than {MAX_SOURCES:,} sources by the pattern {pattern}")

    def count_mappings(self, file: h5py.File, mappings: Sequence[VirtualMapping]) -> int:
        """Check the sources of a virtual dataset in an open file."""
        count = 0
        for mapping in mappings:
            with naming(f"virtual source {mapping}"), naming(GONE, DatasetNotFoundError, raising=UnsupportedError):
                count += self.count_source(file, mapping.path, mapping.selection)
                if count > len(mappings) + MAX_SOURCES:
                    raise UnsafeSourceError(f"reading its sources would open more than {MAX_SOURCES:,} datasets")
        return count

    def count_source(self, file: h5py.File, path: str, selection: h5s.SpaceID, hops: int = 0) -> int:
        """Check the source at a path of an open file, perhaps behind external links to allowed files."""
        link = find_external(file, path)
        if link is None:
            source = open_object(file, path)
            if not isinstance(source, h5py.Dataset):
                raise UnsupportedError("the source is not a dataset")
            count = self.count_dataset(file, source.id)
            check_selection(selection, source.id.get_space())
            return count
        if hops == MAX_HOPS:
            raise UnsafeSourceError(f"a chain of more than {MAX_HOPS} external links")
        name, linked_path = link
        with naming(f"external link to {name}:{linked_path}"), self.open_file(file, name, "link") as other:
            return self.count_source(other, linked_path, selection, hops=hops + 1)
