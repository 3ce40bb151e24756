"""Records of the objects and links of a file, as `h5bound ls` and `H5Store` show them."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import h5py
from h5py import h5z

from h5bound.codecs.filters import explain_missing
from h5bound.errors import H5BoundError, UnsafeSourceError
from h5bound.files.open import MARKED
from h5bound.h5py_compat import READ_ERRORS, describe
from h5bound.hdf5.attributes import read_values
from h5bound.hdf5.dataset import DatasetRecord, read_dataset
from h5bound.hdf5.dimension_scales import read_named_dimensions
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import LinkRecord, find_external, open_object
from h5bound.hdf5.references import Addresses, ReferencePaths
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from h5bound.hdf5.references import Resolve
    from h5bound.reader.open_file import OpenFile

Kind = Literal["group", "dataset", "link", "type", "problem"]

Access = Literal["direct", "h5py", "none"]
"""direct: outside HDF5's lock. h5py: by h5py. none: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """What people want to know of a dataset beside its record."""

    record: DatasetRecord
    dimensions: tuple[str | None, ...] = ()
    """Name of each dimension, from its scale or its label; None where it has none."""
    scale_attributes: frozenset[str] = frozenset()
    """Names of the attributes that hold `dimensions`."""
    access: Access | None = None
    """How it is read; None if it has no elements, or if that was not asked for."""
    reason: str = ""
    """Why it is not read directly."""

    @property
    def nbytes(self) -> int | None:
        """Bytes of the values in memory; None if their length varies, or is unknown."""
        dtype, shape = self.record.dtype, self.record.shape
        if dtype is None or dtype.hasobject:
            return None
        return 0 if shape is None else prod(shape) * dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object or link of a file."""

    path: str
    kind: Kind
    note: str = ""
    """Where a link leads, or why an object cannot be opened."""
    dataset: DatasetEntry | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes as plain values; empty if they were not asked for."""
    hidden: tuple[int, int, int] = (0, 0, 0)
    """Groups, datasets and links below a group that are not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The objects and links of a file, or those below one of its groups."""

    file: str
    """Path or URL."""
    start: str
    """The object that is listed with all below it."""
    entries: tuple[Entry, ...]
    """Objects and links, sorted by path."""
    counts: Mapping[Kind, int]
    """Number of objects and links of each kind, also those that are not listed."""
    stored_nbytes: int
    """Encoded bytes of all datasets."""
    nbytes: int
    """Bytes of all values whose length does not vary."""
    varying: int
    """Datasets whose values are not in `nbytes`."""


class _Item(NamedTuple):
    """An object or link of a file that is perhaps listed."""

    path: str
    kind: Kind
    detail: DatasetRecord | LinkRecord | str | None = None

    @property
    def parts(self) -> list[str]:
        """The names on the path."""
        return split_path(self.path)


def list_file(
    path: str | PathLike[str],
    start: str = "/",
    *,
    storage_options: Mapping[str, Any] | None = None,
    attributes: bool = False,
    depth: int | None = None,
) -> Listing:
    """Return the objects and links of an HDF5 file, or of its object `start`. The file is closed when this returns.

    `depth` is the number of levels below `start` that are listed; all of them are counted. Raise DatasetNotFoundError
    if there is no such object.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1.0, 2.0]
    >>> listing = list_file(path)
    >>> [entry.path for entry in listing.entries], listing.nbytes, listing.entries[1].dataset.access
    (['/', '/x'], 16, 'direct')
    """
    source = H5Source.of(path, storage_options)
    start = "/" + "/".join(split_path(start))
    with ExitStack() as stack:
        opened = enter_file(stack, source)
        objects, addresses = _find_objects(opened.file, start)
        last = None if depth is None else len(split_path(start)) + depth
        hidden = _count_hidden(objects, last)
        reader = EntryReader(opened, ReferencePaths(opened.file, Addresses(addresses)), attributes=attributes)
        entries = tuple(reader.read(item, hidden) for item in objects if len(item.parts[:last]) == len(item.parts))
    datasets = [DatasetEntry(record=item.detail) for item in objects if isinstance(item.detail, DatasetRecord)]
    sizes = [dataset.nbytes for dataset in datasets]
    return Listing(
        file=source.path,
        start=start,
        entries=entries,
        counts=Counter(item.kind for item in objects),
        stored_nbytes=sum(dataset.record.stored_nbytes for dataset in datasets),
        nbytes=sum(filter(None, sizes)),
        varying=sizes.count(None),
    )


def enter_file(stack: ExitStack, source: H5Source) -> OpenFile:
    """Open a file until the end of a stack, in SWMR mode if another program writes to it in that."""
    try:
        return stack.enter_context(source.opened())
    except H5BoundError as error:
        if source.remote or MARKED not in str(error):
            raise
        with suppress(H5BoundError):
            return stack.enter_context(source.follow_writer().opened())
        raise


def split_path(path: str) -> list[str]:
    """Return the names on a path."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _find_objects(file: h5py.File, start: str) -> tuple[list[_Item], Mapping[int, str]]:
    """Return an object and all below it, sorted by path, and the paths of objects by their addresses."""
    outside = find_external(file, start)
    if outside is not None:
        raise UnsafeSourceError(f"{start!r} in {file.filename} is in another file: list {outside[1]} of {outside[0]}")
    item = open_object(file, start)
    if isinstance(item, h5py.Dataset):
        return [_Item(start, "dataset", read_dataset(item))], {}
    if isinstance(item, h5py.Datatype):
        return [_Item(start, "type")], {}
    hierarchy = read_hierarchy(file, start=start)
    objects = [_Item(path, "group") for path in hierarchy.groups]
    objects += [_Item(record.path, "dataset", record) for record in hierarchy.datasets]
    objects += [_Item(path, "type") for path in hierarchy.committed_types]
    objects += [_Item(link.path, "link", link) for link in hierarchy.links]
    objects += [_Item(path, "problem", reason) for path, reason in hierarchy.problems]
    return sorted(objects, key=lambda item: item.parts), hierarchy.addresses


def _count_hidden(objects: Iterable[_Item], last: int | None) -> Counter[tuple[str, Kind]]:
    """Return the number of objects of each kind below the last level that is listed, by the path of their group."""
    deeper = (item for item in objects if last is not None and len(item.parts) > last)
    return Counter(("/" + "/".join(item.parts[:last]), item.kind) for item in deeper)


class EntryReader:
    """Reads entries from an open file."""

    def __init__(self, opened: OpenFile, resolve: Resolve, *, attributes: bool) -> None:
        self.opened, self.resolve, self.attributes = opened, resolve, attributes

    def read(self, item: _Item, hidden: Counter[tuple[str, Kind]]) -> Entry:
        """Return the entry of an object or a link."""
        path, kind, detail = item
        if isinstance(detail, LinkRecord):
            return Entry(path=path, kind=kind, note=f"{detail.kind} link to {detail.to}")
        if isinstance(detail, str):
            return Entry(path=path, kind=kind, note=f"cannot be opened: {detail}")
        item = self.opened.open_object(path)
        return Entry(
            path=path,
            kind=kind,
            dataset=self.read_dataset(item, detail) if isinstance(detail, DatasetRecord) else None,
            attributes=read_values(item, self.resolve) if self.attributes else {},
            hidden=(hidden[path, "group"], hidden[path, "dataset"], hidden[path, "link"]),
        )

    def read_dataset(self, dataset: h5py.Dataset, record: DatasetRecord, *, with_access: bool = True) -> DatasetEntry:
        """Return the entry of a dataset that was opened by its path."""
        grows = record.layout == "virtual" and record.external_files  # HDF5 would open these to find the shape
        dimensions, scale_attributes = ((), frozenset()) if grows else read_named_dimensions(dataset, self.resolve)
        access, reason = _find_access(dataset, record, self.opened) if with_access else (None, "")
        return DatasetEntry(
            record=record,
            dimensions=dimensions,
            scale_attributes=scale_attributes,
            access=access,
            reason=reason,
        )


def _find_access(dataset: h5py.Dataset, record: DatasetRecord, opened: OpenFile) -> tuple[Access | None, str]:
    """Return how a dataset is read, and why not directly."""
    if record.problem is not None:
        return "none", record.problem
    if record.shape is None:
        return None, ""
    try:
        with closing(DatasetReader(dataset, opened.bytes)) as reader:
            if reader.strategy == "direct":
                return "direct", ""
            for position, item in enumerate(record.filters):
                if not h5z.filter_avail(item.id) and _is_applied(dataset, position):
                    return "none", explain_missing(item)
            return "h5py", reader.reason
    except (H5BoundError, *READ_ERRORS) as error:
        return "none", describe(error)


def _is_applied(dataset: h5py.Dataset, position: int) -> bool:
    """Return whether a stored chunk went through this filter of the pipeline."""
    applied = []

    def look(chunk: Any) -> bool | None:
        """Stop at the first one."""
        if not chunk.filter_mask >> position & 1:
            applied.append(chunk)
        return bool(applied) or None

    dataset.id.chunk_iter(look)
    return bool(applied)
