"""The datasets of one name in many files: each file is scanned once, and what was found is kept in the user's cache.

Datasets that are joined have one type and the same lengths along the other axes. So have the attributes that give their
numbers a meaning: with the scale factor of the first file, numbers of the others would be wrong without a word.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np  # noqa: TC002 - an example uses it

from h5bound.errors import DatasetNotFoundError, H5BoundError, OptionError, UnsafeSourceError, UnsupportedError
from h5bound.files.scan_cache import CachedScan, make_version, open_cache
from h5bound.files.urls import is_url, redact, refuse_options
from h5bound.hdf5.element_types import describe_bytes
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.reader.dataset_lookup import find_dataset, follow_links, locate_object, read_allowed
from h5bound.reader.meanings import MeaningReader
from h5bound.reader.source import H5Source
from h5bound.reports.many_files import BadFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.reader.open_file import OpenFile

    Dims = tuple[str | None, ...]
    ReadDetails = Callable[[OpenFile, h5py.Dataset, DatasetRecord], tuple[Dims, str | None]]

FORM = 4
"""Version of the JSON in the cache."""

REMOTE_THREADS = 16
"""Remote files that are scanned at a time."""


@dataclass(frozen=True, slots=True)
class FileDataset:
    """The dataset of one file, as it is compared with those of the others."""

    path: str
    """Path in the file."""
    shape: tuple[int, ...]
    """Shape in elements."""
    dtype: str
    """The type, as :func:`describe_dtype` writes it."""
    layout: str
    """chunked, contiguous, compact, virtual or external."""
    chunks: tuple[int, ...] | None
    """Shape of a chunk, None unless chunked."""
    meaning: str
    """What its numbers mean, as `MeaningReader` writes it."""
    dims: tuple[str | None, ...] | None = None
    """Names of its axes, None if they were not asked for."""
    digest: str | None = None
    """What is equal for equal values, None if they were not read."""


LocatedDataset = tuple[H5Source, FileDataset]
"""The file that has a dataset, perhaps behind external links, and the dataset."""


def list_sources(
    places: Sequence[Any], name: str | None, storage_options: Mapping[str, Any] | None
) -> tuple[list[H5Source], list[str]]:
    """Return the sources of files, and the path of the dataset in each; options of fsspec are for the URLs among them.

    Raise OptionError if there are no files, or options and no URL.
    """
    if not places:
        raise OptionError("there are no files: the list of paths is empty; did a pattern match nothing?")
    if not any(map(is_url, places)):
        refuse_options(storage_options)
    located = [locate_object(place, name) for place in places]
    sources = [H5Source.of(place, storage_options if is_url(place) else None) for place, _ in located]
    return sources, [path for _, path in located]


def find_readable(
    places: Sequence[Any], storage_options: Mapping[str, Any] | None
) -> tuple[list[Any], tuple[BadFile, ...]]:
    """Return the files that can be opened, and the errors of the others. Each is opened.

    Raise the error of the first one if none can be.
    """
    readable, bad, errors = [], [], []
    for place in places:
        try:
            with list_sources([place], "", storage_options)[0][0].opened():
                readable.append(place)
        except OptionError:
            raise
        except H5BoundError as error:
            errors.append(error)
            bad.append(BadFile(redact(str(place)) if is_url(place) else str(place), str(error)))
    if errors and not readable:
        raise errors[0]
    return readable, tuple(bad)


def find_in_files(
    sources: Sequence[H5Source],
    names: Sequence[str],
    allowed: tuple[Path, ...],
    *,
    details: ReadDetails | None = None,
) -> tuple[DatasetRecord, list[LocatedDataset]]:
    """Return the record of the dataset in the first file, and what was found in each; `names` are its path in each.

    `details` reads names of axes and the digest.

    Raise the errors of `h5bound.from_hdf5`, for the first file that has no such dataset or none that can be read.
    """
    source, record = find_dataset(sources[0], names[0], allowed)
    check_readable(source, record)
    datasets: dict[int, LocatedDataset] = {}
    for name in dict.fromkeys(names):
        numbers = [number for number, own in enumerate(names) if own == name]
        scans = scan_datasets([sources[number] for number in numbers], (name,), allowed, details=details)
        for number, scan in zip(numbers, scans, strict=True):
            datasets[number] = scan.get(name) or read_missing(sources[number], name, allowed, details=details)
    for source, _ in datasets.values():
        source.make_exclusive_for([record.dtype])
    return record, [datasets[number] for number in range(len(sources))]


def scan_datasets(
    sources: Sequence[H5Source],
    names: tuple[str, ...],
    allowed: tuple[Path, ...],
    *,
    details: ReadDetails | None = None,
) -> list[dict[str, LocatedDataset]]:
    """Return the datasets of these names in each file, without those that are missing or cannot be read.

    Files that were scanned before are not opened. Datasets that need other files are always looked at anew.
    """
    cache, version = open_cache(), make_version(FORM, names, getattr(details, "version", None))
    known = {source.path: source.state for source in sources if source.state is not None and source.strict_state}
    texts = cache.get_many("datasets", version, known)
    parsed: dict[str, dict[str, FileDataset]] = {}  # files of one kind have equal texts
    scans: dict[int, dict[str, LocatedDataset]] = {}
    for number, source in enumerate(sources):
        entry = texts.get(source.path)
        if entry is not None and entry.text not in parsed:
            with suppress(ValueError, TypeError, AttributeError):
                parsed[entry.text] = parse_scan(entry.text)
        if entry is not None and entry.text in parsed:
            scans[number] = {name: (source, dataset) for name, dataset in parsed[entry.text].items()}
    missing = [number for number in range(len(sources)) if number not in scans]
    threads = REMOTE_THREADS if any(sources[number].remote for number in missing) else 1
    scan = partial(read_datasets, names=names, allowed=allowed, details=details)
    with ThreadPoolExecutor(threads) as pool:
        scans.update(zip(missing, pool.map(scan, map(sources.__getitem__, missing)), strict=True))
    entries = [
        (source.path, known[source.path], CachedScan(write_scan(scans[number])))
        for number, source in ((number, sources[number]) for number in missing)
        if source.path in known and _is_alone(source, scans[number].values())
    ]
    cache.put_many("datasets", version, entries)
    return [scans[number] for number in range(len(sources))]


def read_datasets(
    source: H5Source, names: tuple[str, ...], allowed: tuple[Path, ...], *, details: ReadDetails | None
) -> dict[str, LocatedDataset]:
    """Return the datasets of these names in one file, without those that are missing or cannot be read."""
    scan: dict[str, LocatedDataset] = {}
    meanings = MeaningReader()
    with source.opened():
        for name in names:
            with suppress(DatasetNotFoundError, UnsupportedError, UnsafeSourceError):
                scan[name] = read_file_dataset(source, name, allowed, details=details, meanings=meanings)
    return scan


def read_missing(
    source: H5Source, name: str, allowed: tuple[Path, ...], *, details: ReadDetails | None
) -> LocatedDataset:
    """Return a dataset that a scan did not find, or raise why; what is missing may be filled in."""
    try:
        return read_file_dataset(source, name, allowed, details=details, meanings=MeaningReader())
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(
            f"{error}; ZarrStore and combine fill it in where files lack it, with missing='fill'"
        ) from None


def read_file_dataset(
    source: H5Source, name: str, allowed: tuple[Path, ...], *, details: ReadDetails | None, meanings: MeaningReader
) -> LocatedDataset:
    """Return what is compared of the dataset of one file. Raise the errors of `find_dataset` and `check_readable`."""
    with follow_links(source, name, allowed) as (owner, opened, path):
        record = read_allowed(opened.file, path, allowed)
        check_readable(owner, record)
        assert record.dtype is not None
        dataset = opened.open_dataset(path)
        dims, digest = (None, None) if details is None else details(opened, dataset, record)
        return owner, FileDataset(
            path=record.path,
            shape=record.shape or (),
            dtype=describe_dtype(record.dtype),
            layout=record.layout,
            chunks=record.chunks,
            meaning=meanings.read(opened, dataset, record),
            dims=dims,
            digest=digest,
        )


def _is_alone(source: H5Source, datasets: Iterable[LocatedDataset]) -> bool:
    """Return whether the state of a file says all of its datasets: no other file has a part in them."""
    return all(owner is source and dataset.layout not in EXTERNAL_LAYOUTS for owner, dataset in datasets)


def check_readable(source: H5Source, record: DatasetRecord) -> None:
    """Raise UnsupportedError if no array can be made of a dataset."""
    subject = f"dataset {record.path!r} of {source.path}"
    if record.dtype is None or record.problem is not None:
        raise UnsupportedError(f"{subject}: h5py cannot read it: {record.problem}")
    if record.shape is None:
        raise UnsupportedError(f"{subject}: it has no elements (a null dataspace)")


def write_scan(scan: Mapping[str, LocatedDataset]) -> str:
    """Return the datasets of a file as JSON text."""
    return json.dumps({name: astuple(dataset) for name, (_, dataset) in scan.items()})


def parse_scan(text: str) -> dict[str, FileDataset]:
    """Return the datasets of `write_scan`. Raise ValueError, TypeError or AttributeError if there are none."""
    datasets = {}
    for name, (path, shape, dtype, layout, chunks, meaning, dims, digest) in json.loads(text).items():
        datasets[name] = FileDataset(
            path=path,
            shape=tuple(map(int, shape)),
            dtype=dtype,
            layout=layout,
            chunks=None if chunks is None else tuple(map(int, chunks)),
            meaning=meaning,
            dims=None if dims is None else tuple(dims),
            digest=digest,
        )
    return datasets


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """Return a type as text, with the names of enumerations, and what sequences and references hold.

    >>> describe_dtype(np.dtype([("a", ">f4"), ("b", "u1", (2,))])), describe_dtype(h5py.string_dtype())
    ('a at 0: >f4, b at 4: (2,) of |u1; 6 bytes', 'text')
    """
    if dtype.names is not None and dtype.fields is not None:
        members = (f"{name} at {dtype.fields[name][1]}: {describe_dtype(dtype[name])}" for name in dtype.names)
        return f"{', '.join(members)}; {dtype.itemsize} bytes"
    if dtype.subdtype is not None:
        return f"{dtype.shape} of {describe_dtype(dtype.base)}"
    if h5py.check_string_dtype(dtype) is not None:
        return "text" if dtype.hasobject else dtype.str
    sequence = h5py.check_vlen_dtype(dtype)
    if sequence is not None:
        return f"sequences of {describe_dtype(sequence)}"
    reference = h5py.check_ref_dtype(dtype)
    inner = reference.__name__ if reference is not None else h5py.check_enum_dtype(dtype) or describe_bytes(dtype)
    return f"{dtype.str} of {inner}" if inner else dtype.str
