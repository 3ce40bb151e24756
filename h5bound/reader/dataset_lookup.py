"""Find a dataset by its path: in which file it is, perhaps behind external links, and what is known of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any

import h5py

from h5bound.errors import H5BoundError, OptionError, UnsafeSourceError, naming
from h5bound.files.urls import is_url, redact
from h5bound.hdf5.dataset import DatasetRecord, read_dataset
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS, MAX_HOPS, find_file
from h5bound.hdf5.links import find_external
from h5bound.reader.open_file import open_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source


def locate_object(place: Any, name: str | bytes | None) -> tuple[Any, str]:
    """Return the file of an `h5py.Dataset` or `h5py.Group`, or any other `place` as it is, and the path in the file.

    Raise OptionError if there is no name, or one too many, and H5BoundError if the object is closed.
    """
    if isinstance(place, (h5py.Dataset, h5py.Group)) and not place:
        kind = type(place).__name__
        raise H5BoundError(f"the h5py.{kind} is closed, so h5bound cannot find out which file it is: pass its path")
    if isinstance(place, h5py.Dataset) and name is not None:
        raise OptionError(f"name={name!r}: the dataset {place.name!r} was passed itself; leave the name out")
    if name is None and not isinstance(place, h5py.Dataset):
        file = redact(place) if is_url(place) else place
        raise OptionError(f"name=None: pass the path of a dataset in {file!r}, or an h5py.Dataset instead of both")
    if not isinstance(name, (str, bytes, NoneType)):
        raise OptionError(f"name={name!r}: the path of a dataset is text, such as 'entry/data'")
    name = os.fsdecode(name or "")
    if not isinstance(place, (h5py.Dataset, h5py.Group)) or isinstance(place, h5py.File):
        return place, name
    if place.name is None:
        raise OptionError(f"{place!r} has no path in its file, and h5bound opens what it reads by its path")
    return place.file, name if name.startswith("/") else f"{os.fsdecode(place.name)}/{name}".rstrip("/")


@contextmanager
def follow_links(source: H5Source, name: str, allowed: tuple[Path, ...]) -> Iterator[tuple[H5Source, OpenFile, str]]:
    """Open the file of an object, perhaps another one after following external links to `allowed` files.

    Yield its source, the open file and the path of the object in it.
    """
    for _ in range(MAX_HOPS):
        with source.opened() as opened:
            link = find_external(opened.file, name) if allowed else None
            if link is None:
                yield source, opened, name
                return
        with naming(f"{name!r} of {source.path} is an external link to {link[0]}:{link[1]}"):
            source, name = source.find_linked(find_file(source.path, link[0], "link", allowed=allowed)), link[1]
    raise UnsafeSourceError(f"{name!r} of {source.path}: the path follows more than {MAX_HOPS} external links")


def find_dataset(source: H5Source, name: str, allowed: tuple[Path, ...]) -> tuple[H5Source, DatasetRecord]:
    """Return a dataset's file and record. Raise DatasetNotFoundError if there is none."""
    with follow_links(source, name, allowed) as (owner, opened, path):
        record = read_allowed(opened.file, path, allowed)
    owner.make_exclusive_for([record.dtype])
    return owner, record


def read_allowed(file: h5py.File, name: str, allowed: tuple[Path, ...]) -> DatasetRecord:
    """Return the record of a dataset in an open file, after checking that it needs only allowed files."""
    dataset = open_dataset(file, name, refresh=True)
    record = read_dataset(dataset, count=False)
    if record.layout not in EXTERNAL_LAYOUTS:
        return record
    from h5bound.hdf5.external_check import check_external_files

    with naming(f"dataset {name!r} of {file.filename}"):
        check_external_files(file, dataset.id, allowed)
    return read_dataset(dataset, open_sources=True, count=False)
