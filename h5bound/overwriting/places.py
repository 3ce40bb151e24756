"""Where the data of variables is, so that variables of other names and in other files are known to have the same data.

A file may have several names, and so may a dataset. The data of a virtual dataset is in its sources, perhaps in other
files, and that of external storage in bytes of other files.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import h5py
from h5py import h5d, h5o

from h5bound.errors import H5BoundError
from h5bound.files.open import open_file
from h5bound.files.writers import find_named_writer, find_writer
from h5bound.h5py_compat import READ_ERRORS, read_address
from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from h5bound.overwriting.targets import Target, VariablePath

MAX_NESTED = 32
"""Levels of virtual datasets whose sources are virtual."""

MAX_SOURCES = 100_000
"""Sources of a virtual dataset by one pattern."""


@dataclass(frozen=True, slots=True)
class DataPlace:
    """An object of an HDF5 file, or bytes of a file."""

    file: Hashable
    """What is equal for all names of a file."""
    address: Hashable = None
    """Address of the object, or its path in a file that cannot be opened; None for bytes."""
    start: int = 0
    """First byte."""
    stop: int = sys.maxsize
    """Byte after the last one."""

    def overlaps(self, other: DataPlace) -> bool:
        """Return whether both may have the same data: bytes of an HDF5 file may be those of any object."""
        if self.file != other.file:
            return False
        if self.address is not None and other.address is not None:
            return self.address == other.address
        return self.start < other.stop and other.start < self.stop


Places: TypeAlias = frozenset[DataPlace]
"""Where the data of a variable is."""


def identify_file(path: str | Path) -> Hashable:
    """Return what is equal for all names of a local file; the path of any other."""
    with suppress(OSError, ValueError):
        stat = Path(path).stat()
        return stat.st_dev, stat.st_ino
    return str(path)


def _identify_open(file: h5py.File) -> Hashable:
    """Return what `identify_file` returns, also if the file was opened by a relative path from another directory."""
    if file.driver == "sec2":
        stat = os.fstat(file.id.get_vfd_handle())
        return stat.st_dev, stat.st_ino
    return identify_file(file.filename)


def locate_targets(targets: Iterable[Target]) -> dict[Target, Places]:
    """Return where the data of each target is."""
    opened = [target for target in targets if target.dataset is not None]
    others = [target for target in targets if target.dataset is None]
    variables = locate_variables({target.variable for target in others})
    places = {target: frozenset(_list_places(target.dataset)) for target in opened if target.dataset is not None}
    return places | {target: variables[target.variable] for target in others}


def locate_variables(variables: Iterable[VariablePath]) -> dict[VariablePath, Places]:
    """Return where the data of each variable is; each file is opened once."""
    by_file: dict[str, list[VariablePath]] = defaultdict(list)
    for variable in variables:
        by_file[variable.file].append(variable)
    located: dict[VariablePath, Places] = {}
    for path, those in by_file.items():
        whole = DataPlace(identify_file(path))
        with open_unlocked(path) as file:
            for variable in those:
                datasets = _find_datasets(file, variable.path)
                places = frozenset(place for dataset in datasets for place in _list_places(dataset))
                unknown = DataPlace(whole.file, variable.path) if variable.path else whole
                located[variable] = places or frozenset({unknown})
    return located


def find_open_writer(path: str) -> h5py.File | None:
    """Return the file that h5py has open for writing in this process, with whatever driver; else None."""
    return (find_writer(path) if Path(path).exists() else None) or find_named_writer(path)


@contextmanager
def open_unlocked(path: str) -> Iterator[h5py.File | None]:
    """Return the file that h5py writes, or one that netCDF4 has just written out; None if that cannot be opened."""
    file = find_open_writer(path)  # the user's, so it stays open
    if file is not None:
        yield file
        return
    with suppress(H5BoundError):
        file = open_file(path, unlocked=True)
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def _find_datasets(file: h5py.File | None, path: str) -> list[h5py.Dataset]:
    """Return the datasets that a variable may be."""
    group, _, name = path.rpartition("/")
    items = []
    for variant in (path, f"{group}/{NOT_A_COORDINATE}{name}"):
        with suppress(*READ_ERRORS):
            items.append(file[variant] if file is not None and name else None)
    return [dataset for dataset in items if isinstance(dataset, h5py.Dataset)]


def _list_places(dataset: h5py.Dataset, above: Places = frozenset()) -> Iterator[DataPlace]:
    """Yield where the data of a dataset is, below the virtual datasets `above`."""
    address = read_address(dataset.id)
    own = DataPlace(_identify_open(dataset.file), h5o.get_info(dataset.id).addr if address is None else address)
    yield own
    if own in above or len(above) > MAX_NESTED:
        return
    layout = dataset.id.get_create_plist()
    for i in range(layout.get_external_count()):
        name, offset, nbytes = layout.get_external(i)
        for path in _list_files(dataset, os.fsdecode(name), "external"):
            yield DataPlace(identify_file(path), start=offset, stop=offset + nbytes)
    if layout.get_layout() == h5d.VIRTUAL:
        yield from _list_sources(dataset, above | {own})


def _list_sources(dataset: h5py.Dataset, above: Places) -> Iterator[DataPlace]:
    """Yield where the data of the sources of a virtual dataset is."""
    from h5bound.hdf5.virtual_mappings import read_mappings

    by_file: dict[str, set[str]] = defaultdict(set)
    for mapping in read_mappings(dataset.id.get_create_plist()):
        if not mapping.is_pattern:
            by_file[mapping.file].add(mapping.path)
            continue
        for number in range(MAX_SOURCES):  # as far as HDF5 looks for them: up to the first one that is missing
            one = mapping.fill_in(number)
            found = _locate_sources(dataset, one.file, {one.path}, above=above)
            yield from found
            if not found or one == mapping.fill_in(number + 1):
                break
    for name, paths in by_file.items():
        yield from _locate_sources(dataset, name, paths, above=above)


def _locate_sources(dataset: h5py.Dataset, name: str, paths: set[str], *, above: Places) -> Places:
    """Return where the data of sources is that are in one file; nothing if they are missing."""
    found: set[DataPlace] = set()
    for file in [dataset.file.filename] if name == "." else _list_files(dataset, name, "virtual"):
        with open_unlocked(str(file)) as opened:
            for path in paths:
                for source in _find_datasets(opened, path if path.startswith("/") else f"/{path}"):
                    found.update(_list_places(source, above))
    return frozenset(found)


def _list_files(dataset: h5py.Dataset, name: str, reference: str) -> list[Path]:
    """Return the files that HDF5 may find by a name in a dataset; it takes one of them."""
    from h5bound.hdf5.external_files import list_candidates

    access = dataset.id.get_access_plist()
    prefix = os.fsdecode(access.get_efile_prefix() if reference == "external" else access.get_virtual_prefix())
    candidates = [*list_candidates(dataset.file.filename, name, reference), *([Path(prefix, name)] if prefix else [])]
    return [path for path in candidates if os.path.exists(path)]  # noqa: PTH110 - False for a path that is too long
