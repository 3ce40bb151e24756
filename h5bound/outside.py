"""Which other files a dataset would make HDF5 open, and whether they are allowed.

HDF5 opens them without a word: raw data of external storage (CVE-2026-1669), and the sources of virtual datasets,
for which it gives fill values where they are missing. So each is looked for here first, where HDF5 would look.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
from h5py import h5d

from h5bound.errors import DatasetNotFoundError, H5BoundError, SourceNotFoundError, UnsafeSourceError
from h5bound.index import open_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from h5bound.index import DatasetRecord

PREFIXES = {"external": "HDF5_EXTFILE_PREFIX", "virtual": "HDF5_VDS_PREFIX", "link": "HDF5_EXT_PREFIX"}
"""Environment variables that HDF5 puts before a relative name (H5Pset_efile_prefix, H5Pset_virtual_prefix)."""


def explain_outside(file: h5py.File, record: DatasetRecord, allowed: Sequence[Path]) -> tuple[str | None, bool]:
    """Give why a dataset must not be read, and whether that is because it leaves the file; None if it may be.

    Parameters
    ----------
    file
        The open file.
    record
        Of the dataset.
    allowed
        Real paths of directories whose files may be opened.
    """
    for name in record.outside:
        reason = explain_file(str(file.filename), name, record.layout, allowed)
        if reason is not None:
            what = "external storage" if record.layout == "external" else "virtual source"
            return f"{what} {name!r}: {reason}", True
    if record.layout == "virtual":
        return explain_sources(file, record.path), False
    return None, False


def explain_file(main: str, name: str, layout: str, allowed: Sequence[Path]) -> str | None:
    """Give why a file that another one names must not be opened; None if it may be."""
    if name.startswith(".:"):
        return "a pattern, which may lead out of the file"
    places = [place.resolve() for place in find_places(main, name, layout)]
    for place in places:
        if not any(place.is_relative_to(folder) for folder in allowed):
            return "outside the file, not under allow_external"
    if not any(place.is_file() for place in places):
        return "no such file" if allowed else "outside the file, not under allow_external"
    return None


def find_linked_file(main: str, name: str, allowed: Sequence[Path]) -> Path:
    """Give the real path of the file that HDF5 would open for an external link.

    Raises
    ------
    UnsafeSourceError
        It may not be opened.
    SourceNotFoundError
        It is not there.
    """
    place = find_places(main, name, "link")[0].resolve()
    if not any(place.is_relative_to(folder) for folder in allowed):
        raise UnsafeSourceError("outside the file, not under allow_external")
    if not place.is_file():
        raise SourceNotFoundError("no such file")
    return place


def find_places(main: str, name: str, layout: str) -> list[Path]:
    """Give the places where HDF5 would look for a file, those that are there; the first of all if none is."""
    prefix = os.environ.get(PREFIXES[layout], "")
    folders = [Path(folder) for folder in prefix.split(":") if folder and folder != "."]
    origin = Path(main).resolve().parent
    if layout != "external":  # raw data are looked for in the working directory only
        folders.append(origin)
    places = [*(folder / name for folder in folders), Path(name)]
    if layout == "link" and Path(name).is_absolute():  # H5F_prefix_open_file then looks for its last part
        places += [folder / Path(name).name for folder in (*folders, Path())]
    return [place for place in places if place.exists()] or places[:1]


def explain_sources(file: h5py.File, path: str) -> str | None:
    """Give what is missing of the sources of a virtual dataset; None if all are there."""
    dataset = open_object(file, path)
    assert isinstance(dataset, h5py.Dataset)
    for name, source in list_sources(dataset):
        if "%" in name or "%" in source:
            return f"virtual sources {name}:{source}: a pattern, of which HDF5 does not tell what is missing"
        found = find_source(file, name, source)
        if found is not None:
            return f"virtual source {name}:{source}: {found}; HDF5 would give fill values for it"
    return None


def list_sources(dataset: h5py.Dataset) -> Iterator[tuple[str, str]]:
    """Give file and dataset of each source of a virtual dataset."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5d.VIRTUAL:
        for i in range(plist.get_virtual_count()):
            yield plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)


def find_source(file: h5py.File, name: str, source: str) -> str | None:
    """Give what is wrong with one source; None if it is there."""
    if name == ".":
        return look_up(file, source)
    places = [place for place in find_places(str(file.filename), name, "virtual") if place.is_file()]
    if not places:
        return "no such file"
    try:
        with h5py.File(places[0], "r") as other:
            return look_up(other, source)
    except OSError as error:
        return f"cannot be opened ({error})"


def look_up(file: h5py.File, path: str) -> str | None:
    """Give what is wrong with a dataset that is a source; None if it is there."""
    try:
        found = open_object(file, path)
    except DatasetNotFoundError:
        return "no such dataset"
    except H5BoundError as error:
        return str(error)
    return None if isinstance(found, h5py.Dataset) else "not a dataset"


def list_allowed(folders: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Give the real paths of directories."""
    return tuple(Path(folder).resolve() for folder in folders)
