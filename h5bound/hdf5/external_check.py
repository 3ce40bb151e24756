"""What a dataset draws on: raw data of external storage, sources of a virtual dataset, in whichever file they are.

A source may be virtual itself, or have external storage. HDF5 gives fill values where one is missing, and where it is
too small whatever is in memory. So all of them are judged before the dataset is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import h5py
from h5py import h5d, h5g, h5l, h5o

from h5bound.errors import (
    DatasetNotFoundError,
    H5BoundError,
    SourceNotFoundError,
    UnsafeSourceError,
    UnsupportedError,
    naming,
)
from h5bound.files.file_state import LocalState
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.external_files import MAX_HOPS, find_file
from h5bound.hdf5.hierarchy import MAX_OBJECTS
from h5bound.hdf5.links import count_as_links, decode_name, find_external, join_path, list_names, open_object, read_link
from h5bound.hdf5.virtual_mappings import VirtualMapping, check_selection, read_mappings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from h5py import h5p, h5s


GONE = "no such dataset, for which HDF5 would read fill values"

EXTERNAL_LAYOUTS = frozenset({"external", "virtual"})
"""Layouts of datasets that may draw on other files."""

MAX_NESTED = 32
"""Virtual datasets one in another."""

MAX_SOURCES = 100_000
"""Datasets that the sources of a virtual dataset may draw on in their turn, each as often as it is drawn on."""


def check_external_files(file: h5py.File, path: str, allowed: Sequence[Path]) -> dict[str, LocalState]:
    """Make sure that a dataset opens allowed files only, and that all of them are there with what it takes from them.

    Gives what these files were before they were opened, by their real paths.

    Parameters
    ----------
    file
        The open file.
    path
        Of the dataset in it.
    allowed
        Real paths of directories whose files may be opened.

    Raises
    ------
    UnsafeSourceError
        It would open a file that is not allowed, or so many that it would never end.
    SourceNotFoundError
        A file is not there.
    UnsupportedError
        What it takes from a source is not there, so that HDF5 would make something up.
    """
    found = open_object(file, path)
    assert isinstance(found, h5py.Dataset)
    sources = ExternalCheck(allowed)
    try:
        sources.check(file, found.id)
    except H5BoundError:
        raise
    except READ_ERRORS as error:
        raise UnsupportedError(f"h5py cannot tell what it draws on: {describe(error)}") from error
    return sources.files


@dataclass(slots=True)
class ExternalCheck:
    """Judges what a dataset draws on, and what that draws on."""

    allowed: Sequence[Path]
    """real paths of directories whose files may be opened"""
    weights: dict[tuple[str, int], int] = field(default_factory=dict)
    """how many datasets reading one opens, by its file and address"""
    above: set[tuple[str, int]] = field(default_factory=set)
    """those that draw on the one that is being judged"""
    files: dict[str, LocalState] = field(default_factory=dict)
    """what the other files were before they were opened, by their real paths"""

    def find(self, main: str, name: str, kind: str) -> Path:
        """Give the path of another file, as `find_file`, and keep in mind what that file is now."""
        place = find_file(main, name, kind, self.allowed)
        real = os.path.realpath(place)
        if real not in self.files:
            self.files[real] = LocalState.of(real)
        return place

    def check(self, file: h5py.File, dataset: h5d.DatasetID) -> int:
        """Give how many datasets reading one of an open file would open.

        Raises
        ------
        UnsafeSourceError, SourceNotFoundError, UnsupportedError
            As `check_external_files`.
        """
        key = (os.path.realpath(file.filename), h5o.get_info(dataset).addr)
        if key in self.above:
            raise UnsafeSourceError("it draws on itself")
        if len(self.above) > MAX_NESTED:
            raise UnsafeSourceError(f"more than {MAX_NESTED} virtual datasets one in another")
        if key not in self.weights:
            self.above.add(key)
            self.weights[key] = 1 + self.check_files(file, dataset.get_create_plist(), dataset.get_storage_size())
            self.above.remove(key)
        return self.weights[key]

    def check_files(self, file: h5py.File, plist: h5p.PropDCID, needed: int) -> int:
        """Judge the files that a dataset names; gives how many datasets of them reading it would open."""
        left = needed
        for i in range(plist.get_external_count()):
            raw, offset, size = plist.get_external(i)
            name = decode_name(raw)
            with naming(f"external storage {name!r}"):
                place = self.find(file.filename, name, "external")
                part = min(left, size)
                if part and place.stat().st_size < offset + part:
                    raise UnsupportedError(f"it ends before {offset + part:,} bytes; HDF5 would make up zeros")
                left -= part
        mappings = read_mappings(plist) if plist.get_layout() == h5d.VIRTUAL else []
        by_file = groupby(sorted(mappings, key=lambda mapping: mapping.file), key=lambda mapping: mapping.file)
        return sum(self.check_sources(file, name, list(some)) for name, some in by_file)

    def check_sources(self, file: h5py.File, name: str, mappings: Sequence[VirtualMapping]) -> int:
        """Judge the sources of a virtual dataset in one file, which is opened for that if it is allowed."""
        plain = [mapping for mapping in mappings if not mapping.is_pattern]
        if len(plain) < len(mappings):
            weight = self.check_sources(file, name, plain) if plain else 0
            return weight + sum(self.check_pattern(file, mapping) for mapping in mappings if mapping.is_pattern)
        if name == ".":
            return self.check_mappings(file, mappings)
        with naming(f"virtual source {mappings[0]}"):
            other = self.open_file(file, name, "virtual")
        with other:
            return self.check_mappings(other, mappings)

    def check_pattern(self, file: h5py.File, pattern: VirtualMapping) -> int:
        """Judge the sources that a pattern names, with 0, 1, 2 and so on in it, up to the first that is missing.

        There HDF5 ends, too (H5Pset_virtual_printf_gap, whose default is 0).
        """
        weight, number = 0, 0
        while True:
            mapping = pattern.fill_in(number)
            with naming(f"virtual source {mapping}"), naming(GONE, DatasetNotFoundError, raising=UnsupportedError):
                try:
                    weight += self.check_filled_in(file, mapping)
                except (SourceNotFoundError, DatasetNotFoundError):
                    if not number:
                        raise
                    return weight
                number += 1
                if mapping == pattern.fill_in(number):  # it has %% in it only, for a percent sign
                    return weight
                if weight > MAX_SOURCES:
                    raise UnsafeSourceError(f"more than {MAX_SOURCES:,} sources by the pattern {pattern}")

    def check_filled_in(self, file: h5py.File, mapping: VirtualMapping) -> int:
        """Judge the source of a mapping that is no pattern any more."""
        if mapping.file == ".":
            return self.check_source(file, mapping.path, mapping.selection)
        with self.open_file(file, mapping.file, "virtual") as other:
            return self.check_source(other, mapping.path, mapping.selection)

    def open_file(self, file: h5py.File, name: str, kind: str) -> h5py.File:
        """Give another file that an open one names.

        Raises
        ------
        UnsafeSourceError, SourceNotFoundError
            It may not be opened, or is not there.
        UnsupportedError
            HDF5 cannot open it.
        """
        if file.driver == "fileobj":  # HDF5 would ask the Python object of this file for the other one
            raise UnsafeSourceError("outside the file, which was opened as a Python object and has none beside it")
        place = self.find(file.filename, name, kind)
        try:
            return h5py.File(place, "r")
        except READ_ERRORS as error:
            raise UnsupportedError(f"cannot be opened: {describe(error)}") from error

    def check_mappings(self, file: h5py.File, mappings: Sequence[VirtualMapping]) -> int:
        """Judge the sources of a virtual dataset that are in an open file."""
        weight = 0
        for mapping in mappings:
            with naming(f"virtual source {mapping}"), naming(GONE, DatasetNotFoundError, raising=UnsupportedError):
                weight += self.check_source(file, mapping.path, mapping.selection)
                if weight > len(mappings) + MAX_SOURCES:
                    raise UnsafeSourceError(f"reading its sources would open more than {MAX_SOURCES:,} datasets")
        return weight

    def check_source(self, file: h5py.File, path: str, selection: h5s.SpaceID, hops: int = 0) -> int:
        """Judge what stands at a path of an open file, behind external links to allowed files too."""
        source = open_source(file, path)
        if isinstance(source, h5d.DatasetID):
            weight = self.check(file, source)
            check_selection(selection, source.get_space())
            return weight
        if hops == MAX_HOPS:
            raise UnsafeSourceError(f"more than {MAX_HOPS} external links one behind another")
        name, further = source
        with naming(f"external link to {name}:{further}"), self.open_file(file, name, "link") as other:
            return self.check_source(other, further, selection, hops + 1)


def open_source(file: h5py.File, path: str) -> h5d.DatasetID | tuple[str, str]:
    """Give the dataset that a virtual one is to be taken from, or file and path of an external link on the way to it.

    Raises
    ------
    DatasetNotFoundError
        Nothing is there.
    UnsafeSourceError
        A user-defined link stands on the way.
    UnsupportedError
        No dataset is there.
    """
    link = find_external(file, path)
    if link is not None:
        return link
    found = open_object(file, path)
    if not isinstance(found, h5py.Dataset):
        raise UnsupportedError("not a dataset")
    return found.id


def check_whole_file(file: h5py.File, allowed: Sequence[Path]) -> None:
    """Make sure that nothing of a file leads out of it, but datasets that draw on allowed files.

    Parameters
    ----------
    file
        The open file. All its objects are opened, and no other file but allowed ones.
    allowed
        Real paths of directories whose files may be opened.

    Raises
    ------
    UnsafeSourceError
        There is an external or user-defined link, or a dataset draws on a file that is not allowed.
    SourceNotFoundError, UnsupportedError
        A dataset draws on what is not there.
    """
    groups = [(h5g.open(file.id, b"/"), "/")]
    met: set[int] = set()
    while groups:
        group, path = groups.pop()
        names = list_names(group, MAX_OBJECTS)
        if sum(map(count_as_links, names)) > MAX_OBJECTS:  # the others are not listed, so not judged
            raise UnsafeSourceError(f"{file.filename}: more than {MAX_OBJECTS:,} links in {path!r}")
        for name in names:
            child = join_path(path, name)
            with naming(file.filename):
                found = open_child(group, name, child, met)
            if isinstance(found, h5g.GroupID):
                groups.append((found, child))
            elif isinstance(found, h5d.DatasetID) and may_have_external_files(found.get_create_plist()):
                with naming(f"dataset {child!r} of {file.filename}"):
                    check_external_files(file, child, allowed)


def open_child(group: h5g.GroupID, name: bytes, path: str, met: set[int]) -> h5o.ObjectID | None:
    """Give what a hard link leads to; None where that was met, cannot be opened, or the link is a soft one.

    Raises
    ------
    UnsafeSourceError
        It is another link, which leads out of the file.
    """
    if b"/" in name:  # it would be taken for a path, and the links on it be followed
        return None
    try:
        info = group.links.get_info(name)
        if info.type == h5l.TYPE_SOFT or (info.type == h5l.TYPE_HARD and info.u in met):
            return None
        if info.type == h5l.TYPE_HARD:
            met.add(info.u)
            return h5o.open(group, name)
        link = read_link(group, name, info.type, path)
    except READ_ERRORS:
        return None
    kind = "an external link" if link.kind == "external" else "a user-defined link"
    raise UnsafeSourceError(f"{path!r} is {kind} to {link.to}, which would be followed; open the file that holds it")


def may_have_external_files(plist: h5p.PropDCID) -> bool:
    """Tell whether a dataset may draw on other files."""
    return bool(plist.get_layout() == h5d.VIRTUAL or plist.get_external_count())
