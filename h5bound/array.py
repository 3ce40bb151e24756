"""HDF5 datasets as plain dask arrays that open and close their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
from dask.base import tokenize

from h5bound.errors import UnsafeSourceError, UnsupportedError, naming
from h5bound.graph.block_shapes import block_bounds, plan_chunks
from h5bound.graph.collection import make_dask_array, make_lifecycle
from h5bound.hdf5.dataset import DatasetRecord, read_dataset
from h5bound.hdf5.external_check import EXTERNAL_LAYOUTS, check_external_files
from h5bound.hdf5.external_files import MAX_HOPS, find_file, resolve_directories
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import find_external
from h5bound.reader.blocks import decode_region, prefetch_regions, read_encoded, read_region
from h5bound.reader.open_file import DatasetKey, open_dataset
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    import h5py

    from h5bound.buffers import Region
    from h5bound.graph.windows import BlockIndex, Lifecycle

    Bounds = tuple[tuple[int, ...], ...]  # where blocks start and stop along each axis, one more than blocks


def from_hdf5(
    path: str | PathLike[str] | h5py.File,
    name: str,
    *,
    chunks: Any = None,
    window: int | str | None = None,
    barrier: bool = True,
    allow_external: Sequence[str | PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give one dataset of an HDF5 file as a dask array that opens the file, reads its blocks and closes it.

    The file is open while its metadata is read, and closed when this returns. Each compute then opens it once
    in every process that reads blocks, reads those that are needed, and closes it before anything downstream
    sees one of them.

    Parameters
    ----------
    path
        A path, a URL that fsspec knows (``https://…``, ``s3://…``), or an `h5py.File`. A File that is open when the
        blocks are read is used and left open; one that was closed since is opened again by its path, and closed.
    name
        The path of the dataset in the file.
    chunks
        The shape of the blocks, in elements: None for one block per stored chunk (``"auto"`` if it is not
        stored in chunks), or whatever `dask.array.from_array` takes; ``"auto"`` gives whole multiples of
        stored chunks.
    window
        How many bytes of blocks may be read between one open and its close, as a number or like ``"512 MiB"``; None
        for the dask setting ``h5bound.window``, which is 1 GiB by default. A compute that needs more is done
        in windows, each with an open and a close of its own, so that memory stays bounded.
    barrier
        False lets blocks flow downstream as they are read, without windows: the file is closed with the last of
        them, before the compute returns.
    allow_external
        Directories from which other files may be read: those that external links, external storage and virtual
        datasets name. Real paths are compared.
    storage_options
        Of fsspec, such as credentials, for a URL. They stand in no key, report or error.

    Returns
    -------
    dask.array.Array
        Of the dataset's shape, with the elements of an HDF5 array type as trailing dimensions, and the dtype
        that h5py gives it. Its keys are the same for the same state of the file and the same options.

    Raises
    ------
    SourceNotFoundError
        There is no such file.
    DatasetNotFoundError
        There is no such dataset, or it is a group.
    UnsupportedError
        The dataset has no elements (a null dataspace), or a type that h5py cannot read.
    UnsafeSourceError
        It would be more than 1,000,000 blocks, or it reaches out of the file to what is not under `allow_external`.
    H5BoundError
        The file cannot be opened, or its server does not give it.

    Notes
    -----
    Computing raises `SourceChangedError` if the file was replaced, edited or truncated since. For a File that was held
    open for writing, closing it is a change like any other: then only another shape or type of the dataset, or another
    file, can be told. Files that external storage or a virtual dataset draw on are not watched.

    ``to_delayed()`` merges the blocks into one graph, so that each of its pieces reads all of them;
    ``to_delayed(optimize_graph=False)`` does not.

    Examples
    --------
    >>> import h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [[1, 2], [3, 4]]
    >>> array = from_hdf5(path, "x")
    >>> array
    dask.array<wait_on, shape=(2, 2), dtype=int64, chunksize=(2, 2), chunktype=numpy.ndarray>
    >>> int(array.sum())
    10
    """
    allowed = resolve_directories(allow_external)
    source, name = _locate(H5Source.of(path, storage_options), name, allowed)
    with source.opened() as opened:
        record = _read_record(opened.file, name, allowed)
    return _dataset_array(make_lifecycle(source, window, barrier=barrier), source, record, chunks, allowed)


class H5Store(Mapping[str, da.Array]):
    """The datasets of an HDF5 file by their paths, as dask arrays that share one open and one close per compute.

    The file is open while its metadata is read, and closed when the store is made. Arrays are made when asked for: a
    dataset that h5py cannot read is among the names, and asking for it raises what `from_hdf5` raises. Iterating gives
    each dataset once, by the first of its paths in name order; other links to it work as names too.

    Parameters
    ----------
    path, chunks, window, barrier, allow_external, storage_options
        As `from_hdf5` takes them, for all arrays alike.

    Raises
    ------
    SourceNotFoundError, H5BoundError
        The file is not there, or cannot be opened.

    Examples
    --------
    >>> import dask, h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1, 2, 3]
    ...     file["group/y"] = [0.5, 1.5]
    >>> store = H5Store(path)
    >>> sorted(store)
    ['group/y', 'x']
    >>> [float(value) for value in dask.compute(store["x"].sum(), store["group/y"].mean())]
    [6.0, 1.0]
    """

    def __init__(
        self,
        path: str | PathLike[str] | h5py.File,
        *,
        chunks: Any = None,
        window: int | str | None = None,
        barrier: bool = True,
        allow_external: Sequence[str | PathLike[str]] = (),
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = H5Source.of(path, storage_options)
        with self._source.opened() as opened:
            hierarchy = read_hierarchy(opened.file, count=False)
        self._records = {record.path.strip("/"): record for record in hierarchy.datasets}
        self._life_of = partial(make_lifecycle, window=window, barrier=barrier)
        self._life = self._life_of(self._source)
        self._chunks = chunks
        self._allowed = resolve_directories(allow_external)

    def __getitem__(self, name: str) -> da.Array:
        record = self._records.get(name.strip("/"))
        if record is not None and record.layout not in EXTERNAL_LAYOUTS:
            return _dataset_array(self._life, self._source, record, self._chunks)
        source, at = _locate(self._source, name, self._allowed)  # a link, or one that may reach out of the file
        with source.opened() as opened:
            record = _read_record(opened.file, at, self._allowed)
        lifecycle = self._life if source is self._source else self._life_of(source)
        return _dataset_array(lifecycle, source, record, self._chunks, self._allowed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.strip("/") in self._records or super().__contains__(name))

    __eq__ = object.__eq__  # that of a mapping would compare arrays
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<H5Store of {self._source.path}: {len(self)} datasets>"


@dataclass(frozen=True, slots=True)
class _Regions:
    """The arguments of `read_region` for a block."""

    what: DatasetKey
    bounds: Bounds  # along the axes of the dataset; those of an array type come after them

    def __call__(self, at: BlockIndex) -> tuple[DatasetKey, Region]:
        return self.what, tuple(slice(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, at, strict=False))


# How arrays are put together.


def _locate(source: H5Source, name: str, allowed: tuple[Path, ...]) -> tuple[H5Source, str]:
    """Give the file that holds what stands at a path, and its path there: behind external links if any are allowed."""
    for _ in range(MAX_HOPS if allowed else 0):
        with source.opened() as opened:
            link = find_external(opened.file, name)
        if link is None:
            return source, name
        with naming(f"{name!r} of {source.path} is an external link to {link[0]}:{link[1]}"):
            source, name = H5Source.of(find_file(source.path, link[0], "link", allowed)), link[1]
    if allowed:
        raise UnsafeSourceError(f"{name!r} of {source.path}: more than {MAX_HOPS} external links one behind another")
    return source, name


def _read_record(file: h5py.File, name: str, allowed: tuple[Path, ...]) -> DatasetRecord:
    """Give the record of a dataset, once it is known to open no file but allowed ones."""
    dataset = open_dataset(file, name)
    record = read_dataset(dataset, count=False)
    if record.layout not in EXTERNAL_LAYOUTS:
        return record
    with naming(f"dataset {name!r} of {file.filename}"):
        check_external_files(file, name, allowed)
    return read_dataset(dataset, open_sources=True, count=False)


def _dataset_array(
    lifecycle: Lifecycle, source: H5Source, record: DatasetRecord, chunks: Any, allowed: tuple[Path, ...] = ()
) -> da.Array:
    """Give the array of one dataset."""
    where = f"dataset {record.path!r} of {source.path}"
    if record.dtype is None or record.problem is not None:
        raise UnsupportedError(f"{where}: h5py cannot read it: {record.problem}")
    if record.shape is None:
        raise UnsupportedError(f"{where}: it has no elements (a null dataspace)")
    inner: tuple[int, ...] = ()
    dtype = record.dtype
    while dtype.subdtype is not None:  # an array type may be one of arrays
        dtype, inner = dtype.base, inner + dtype.shape
    grid = plan_chunks(where, record.shape, record.dtype.itemsize, record.chunks, chunks)
    bounds = block_bounds(grid)
    grid += tuple((size,) for size in inner)
    token = tokenize(record.path, str(record.dtype), grid)
    return make_dask_array(
        lifecycle,
        token,
        chunks=grid,
        dtype=dtype,
        read=read_region,
        arguments=_Regions(
            DatasetKey(
                path=record.path,
                shape=record.shape,
                dtype=str(record.dtype),
                allowed=allowed if record.layout in EXTERNAL_LAYOUTS else None,
            ),
            bounds,
        ),
        read_encoded=read_encoded,
        decode=decode_region,
        prefetch=prefetch_regions if source.remote else None,
    )
