"""All datasets of an HDF5 file as dask arrays: a mapping of paths."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import dask.array as da
import h5py

from h5bound.array import make_array, make_joined_array
from h5bound.errors import DatasetNotFoundError, H5BoundError, OptionError, shorten_tracebacks
from h5bound.files.file_state import advise_list
from h5bound.graph.collection import make_lifecycle
from h5bound.hdf5.attributes import read_values
from h5bound.hdf5.dimension_scales import read_dimension_names
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS, resolve_directories
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import SUGGESTION_LENGTH, SUGGESTIONS
from h5bound.hdf5.references import ReferencePaths
from h5bound.listing.entries import DatasetEntry, EntryReader, split_path
from h5bound.listing.reprs import MAX_LINES, MAX_READ, Count, Row, read_row, render_html, render_text
from h5bound.reader.dataset_lookup import find_dataset, follow_links, locate_object
from h5bound.reader.joined_files import JoinedFiles
from h5bound.reader.many_datasets import find_readable, list_sources
from h5bound.reader.many_files import check_max_open
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from h5bound.reports.many_files import BadFile

CLOSE = 0.8
"""Least similarity of paths, which share the names of groups."""


class H5Store(Mapping[str, da.Array]):
    """All datasets of an HDF5 file as dask arrays that share one open and one close per compute.

    The file is open while its metadata is read, and closed when the store is made. The keys are the paths of the
    datasets. Iteration yields each dataset once, by its first path in name order; other links to it are keys as well,
    which key completion offers and iteration does not yield.
    A dataset that h5py cannot read is among the keys; accessing it raises what `from_hdf5` raises. The path of a group
    is a key as well, which iteration does not yield: it gives the `H5Store` of that group. As in h5py, paths are
    relative to the group of the store, and a path that begins with a slash starts at the root of the file.

    Parameters
    ----------
    path
        As for `from_hdf5`: a path, a URL, a file object, an `h5py.File`, or an `h5py.Group` for the datasets below it.
        A list or tuple of these gives the datasets of many files, in this order.
    dim
        The dimension along which the datasets of a list of files are joined as they are given, by the name that `dims`
        returns; `combine` and `ZarrStore` look for overlaps and another order, and have rules for what differs. Keys,
        groups, attributes and names of dimensions are those of the first file. A dataset without the dimension is that
        of the first file; the others have to have the same, with the same values where these take at most 1 MiB: larger
        ones are not compared. A dataset that a file lacks, or that cannot be joined, is an error when it is accessed.
    skip_bad
        True to leave out those files of a list that cannot be opened, which all are then; `bad` lists them.
    chunks, window, barrier, max_open, allow_external, storage_options
        See `from_hdf5`. They apply to all arrays.

    Raises
    ------
    SourceNotFoundError
        If the file does not exist.
    H5BoundError
        If the file cannot be opened, or its server refuses access.
    OptionError
        If `window`, `dim`, `max_open` or `storage_options` have no valid value, `path` is a dataset, or a list of files
        is empty.

    Examples
    --------
    >>> import dask, h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1, 2, 3]
    ...     file["group/y"] = [0.5, 1.5]
    ...     file["group/y"].attrs["units"] = "K"
    >>> store = H5Store(path)
    >>> sorted(store), store.groups()
    (['group/y', 'x'], ['group'])
    >>> [float(value) for value in dask.compute(store["x"].sum(), store["group/y"].mean())]
    [6.0, 1.0]
    >>> store["group"].attrs("y"), store["group"].dims("y")
    ({'units': 'K'}, (None,))

    Many files are one store:

    >>> paths = [path.with_name(f"{number}.h5") for number in range(3)]
    >>> for number, path_of_one in enumerate(paths):
    ...     with h5py.File(path_of_one, "w") as file:
    ...         file["level"] = [10.0, 20.0]
    ...         file["t"] = [[number, number]]
    ...         file["t"].dims[0].label = "time"
    >>> store = H5Store(paths, dim="time")
    >>> store["t"].shape, store["level"].shape
    ((3, 2), (2,))
    """

    @shorten_tracebacks
    def __init__(
        self,
        path: str | PathLike[str] | h5py.Group | Sequence[Any],
        *,
        dim: str | None = None,
        chunks: Any = None,
        window: int | str | None = None,
        barrier: bool = True,
        max_open: int | None = None,
        skip_bad: bool = False,
        allow_external: Sequence[str | PathLike[str]] = (),
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(path, h5py.Dataset):
            raise OptionError(f"{path!r} is one dataset: pass it to from_hdf5, or its file or a group to H5Store")
        self._make_lifecycle = partial(make_lifecycle, window=window, barrier=barrier)
        self._chunks = chunks
        self._allowed = resolve_directories(allow_external)
        self._joined: JoinedFiles | None = None
        self._bad: tuple[BadFile, ...] = ()
        self._max_open = check_max_open(max_open, many=isinstance(path, (list, tuple)))
        if isinstance(path, (list, tuple)):
            self._read_many(path, dim, storage_options, skip_bad=skip_bad)
            return
        if skip_bad:
            raise OptionError("skip_bad=True: this is for a list of files, of which bad ones are left out")
        if dim is not None:
            advice = advise_list(path)
            raise OptionError(f"dim={dim!r}: this is for a list of files, which are joined along a dimension{advice}")
        path, root = locate_object(path, "")
        self._read(H5Source.of(path, storage_options), normalize(root))

    def _read(self, source: H5Source, root: str) -> None:
        """Read what is in a group."""
        with source.opened() as opened:
            opened.refresh()
            hierarchy = read_hierarchy(opened.file, start=root, count=False)
        source.make_exclusive_for(record.dtype for record in hierarchy.datasets)
        self._source, self._root = source, root
        self._lifecycle = self._make_lifecycle(source)
        self._records = {record.path: record for record in hierarchy.datasets}
        self._groups = dict.fromkeys(hierarchy.groups)
        self._links = {link.path: link.kind for link in hierarchy.links}

    def _read_many(
        self, paths: Sequence[Any], dim: str | None, storage_options: Mapping[str, Any] | None, *, skip_bad: bool
    ) -> None:
        """Read what is in many files."""
        if not isinstance(dim, str):
            raise OptionError(f"dim={dim!r}: pass the name of the dimension along which the files are joined")
        if skip_bad:
            paths, self._bad = find_readable(paths, storage_options)
        sources, roots = list_sources(paths, "", storage_options)
        if len(set(map(normalize, roots))) > 1:
            raise OptionError("groups of many files are joined if all have the same path in their files")
        self._read(sources[0], normalize(roots[0]))
        self._joined = JoinedFiles(
            sources, dim, self._records, allowed=self._allowed, max_open=self._max_open,
            make_lifecycle=self._make_lifecycle,
        )  # fmt: skip

    @shorten_tracebacks
    def __getitem__(self, name: str) -> Any:  # an array, or a store for the path of a group
        path = self._locate(name)
        if path in self._groups:
            return self._enter(self._source, path)
        source, record = self._source, self._records.get(path)
        try:
            if record is None:  # a link, perhaps to another file
                with follow_links(source, path, self._allowed) as (owner, opened, inner):
                    is_group = isinstance(opened.open_object(inner), h5py.Group)
                if is_group and self._joined is not None and owner is not source:
                    raise self._joined.refuse_group(name)
                if is_group:
                    return self._enter(owner, inner)
            if self._joined is not None:
                lifecycle, record, datasets, axis = self._joined.find(path)
                return make_joined_array(
                    lifecycle, record, datasets, axis=axis, chunks=self._chunks, allowed=self._allowed
                )
            if record is None or record.layout in EXTERNAL_LAYOUTS:
                source, record = find_dataset(source, path, self._allowed)
        except DatasetNotFoundError as error:
            raise self._explain(name, error) from None
        lifecycle = self._lifecycle if source is self._source else self._make_lifecycle(source)
        return make_array(lifecycle, source, record, chunks=self._chunks, allowed=self._allowed)

    def __iter__(self) -> Iterator[str]:
        return map(self._relative, self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        path = self._locate(name)
        if path in self._records or path in self._groups:
            return True
        try:
            with follow_links(self._source, path, self._allowed) as (_, opened, inner):
                return not isinstance(opened.open_object(inner), h5py.Datatype)
        except H5BoundError:  # there is nothing, or it is in a file that is not allowed
            return False

    __eq__ = object.__eq__  # the one of Mapping would compare arrays
    __hash__ = object.__hash__

    @property
    def bad(self) -> tuple[BadFile, ...]:
        """The files of a list that were left out, since they cannot be opened."""
        return self._bad

    def groups(self) -> list[str]:
        """Return the paths of all groups below this one."""
        return [self._relative(path) for path in self._groups if path != self._root]

    @shorten_tracebacks
    def attrs(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of a dataset or group, by default those of the group of the store.

        The values are numbers, numpy arrays and text, or lists of them. A reference is the path of its target, "" for
        a null reference; a null dataspace is None. What cannot be read is the text ``<cannot be read: reason>``.

        Raises
        ------
        DatasetNotFoundError
            If there is no such object.
        """
        path = self._locate(name)
        try:
            with follow_links(self._source, path, self._allowed) as (_, opened, inner):
                return read_values(opened.open_object(inner))
        except DatasetNotFoundError as error:
            raise self._explain(name, error) from None

    @shorten_tracebacks
    def dims(self, name: str) -> tuple[str | None, ...]:
        """Return the names of a dataset's dimensions, from its dimension scales or labels; None where it has none.

        Raises
        ------
        DatasetNotFoundError
            If there is no such dataset.
        """
        path = self._locate(name)
        try:
            with follow_links(self._source, path, self._allowed) as (_, opened, inner):
                return read_dimension_names(opened.open_dataset(inner), ReferencePaths(opened.file))
        except DatasetNotFoundError as error:
            raise self._explain(name, error) from None

    def __repr__(self) -> str:
        return render_text(self._describe(), self._first(MAX_LINES), total=self._count())

    def _repr_html_(self) -> str:
        rows = self._first(None)
        problem = ""
        try:
            with self._source.opened() as opened:
                reader = EntryReader(opened, ReferencePaths(opened.file), attributes=False)
                rows[:MAX_READ] = [read_row(reader, row) for row in rows[:MAX_READ]]
        except H5BoundError as error:
            problem = str(error)
        groups = [f"/{self._relative(path)}" for path in self._groups]
        return render_html(self._describe(), rows, groups, total=self._count(), problem=problem)

    def _ipython_key_completions_(self) -> list[str]:
        return sorted([*self, *self.groups(), *self._list_links()])

    def _list_links(self) -> list[str]:
        """Return the paths of the links that may be followed."""
        followed = {"hard", "soft", *(["external"] if self._allowed else [])}
        return [self._relative(path) for path, kind in self._links.items() if kind in followed]

    def _count(self) -> Count:
        """Return the numbers that the reprs show."""
        return Count(datasets=len(self), groups=len(self._groups), links=len(self._links))

    def _first(self, limit: int | None) -> list[Row]:
        """Return the first datasets, or all; of many files with the shape of all."""
        records, many = islice(self._records.items(), limit), self._joined
        if many is None:
            return [Row(self._relative(path), DatasetEntry(record=record)) for path, record in records]
        return [
            Row(self._relative(path), DatasetEntry(record=many.show(record)), lack=many.describe_lack(path))
            for path, record in records
        ]

    def _describe(self) -> str:
        """Return the name of the file, and of the group if that is not the root."""
        files = self._source.path if self._joined is None else self._joined.path
        files += f" ({len(self._bad):,} left out)" if self._bad else ""
        return files if self._root == "/" else f"{files}: {self._root}"

    def _locate(self, name: str) -> str:
        """Return a path from the root of the file. Raise DatasetNotFoundError if the key is no path."""
        if not isinstance(name, str):
            raise DatasetNotFoundError(f"{name!r}: the keys of an H5Store are paths, such as 'entry/data'")
        return normalize(name if name.startswith("/") else f"{self._root}/{name}")

    def _relative(self, path: str) -> str:
        """Return a path below the group of the store."""
        return path[len(self._root) :].lstrip("/")

    def _enter(self, source: H5Source, path: str) -> Self:
        """Return the store of a group, with the same options."""
        store = copy.copy(self)
        H5Store._read(store, source, normalize(path))
        return store

    def _explain(self, name: str, error: DatasetNotFoundError) -> DatasetNotFoundError:
        """Return an error with the names in the whole store that are close to a name, without a long traceback."""
        names = [*self, *self.groups(), *self._list_links()][:SUGGESTIONS]
        last = split_path(name)[-1:]
        close = [other for other in names if split_path(other)[-1:] == last]
        if not close and len(name) <= SUGGESTION_LENGTH:
            short = [other for other in names if len(other) <= SUGGESTION_LENGTH]
            close = difflib.get_close_matches(name, short, cutoff=CLOSE)
        if not close or name in close:
            return DatasetNotFoundError(str(error))
        similar = ", ".join(map(repr, close[:3]))
        return DatasetNotFoundError(
            f"{name!r} in {self._describe()}: no such dataset or group; similar names: {similar}"
        )


def normalize(path: str) -> str:
    """Return a path from the root of the file, without what HDF5 ignores."""
    return "/" + "/".join(split_path(path))
