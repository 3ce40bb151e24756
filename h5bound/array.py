"""HDF5 datasets as plain dask arrays."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any

import h5py
from dask.base import tokenize

from h5bound.errors import H5BoundError, OptionError, UnsafeSourceError, UnsupportedError, naming, shorten_tracebacks
from h5bound.files.urls import is_url, redact
from h5bound.graph.block_shapes import block_bounds, plan_block_sizes
from h5bound.graph.collection import make_dask_array, make_lifecycle
from h5bound.hdf5.dataset import DatasetRecord, read_dataset
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS, MAX_HOPS, find_file, resolve_directories
from h5bound.hdf5.links import find_external
from h5bound.reader.open_file import (
    DatasetKey,
    decode_region,
    locate_block,
    open_dataset,
    prefetch_regions,
    read_encoded,
    read_region,
)
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    import dask.array as da

    from h5bound.graph.windows import Lifecycle
    from h5bound.reader.open_file import OpenFile

OBJECT_NBYTES = 100
"""Bytes that a text or sequence of variable length is expected to take in memory, where a block shape is chosen."""


@shorten_tracebacks
def from_hdf5(
    path: str | PathLike[str] | h5py.Group | h5py.Dataset,
    name: str | None = None,
    *,
    chunks: Any = None,
    window: int | str | None = None,
    barrier: bool = True,
    allow_external: Sequence[str | PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Return one dataset of an HDF5 file as a dask array that opens the file, reads its blocks and closes it.

    The file is open while this function reads the metadata, and closed when it returns. A compute opens the file once
    in each process that reads blocks, reads the blocks that it needs, and closes the file before any downstream task
    runs.

    Parameters
    ----------
    path
        Path, URL that fsspec supports (``https://…``, ``s3://…``), an open `h5py.File`, `h5py.Group` or
        `h5py.Dataset`, or a binary file object. A File that is open when the blocks are read is used and left open; one
        that was closed since is opened by its path, and closed. A file object of Python or fsspec stands for its path
        or URL; one that has none, such as an `io.BytesIO`, can be read in this process only.
    name
        Path of the dataset in the file, or in the group. Leave it out for an `h5py.Dataset`.
    chunks
        Shape of the blocks, in elements. None for one HDF5 chunk or whole multiples of it, up to 32 MiB and smaller
        for small datasets, the same on every machine, or ``"auto"`` if the dataset is not chunked; ``{}`` for the
        stored chunks, and one block if the dataset is not chunked; or anything that `dask.array.from_array` takes.
        ``"auto"`` gives whole multiples of HDF5 chunks.
    window
        Most bytes of blocks between one open and its close, as a number or text like ``"512 MiB"``. A compute that
        needs more is split into windows, each with its own open and close, so that memory stays bounded. Where it reads
        several files that need more, up to 16 of them share these bytes. None for a sixteenth of what the compute
        reads, at least 128 MiB and at most the dask setting ``h5bound.window`` when the array is made, not when it is
        computed (in the environment ``DASK_H5BOUND__WINDOW``), 1 GiB by default. On a cluster also at most a quarter of
        the memory of the smallest worker, whatever is passed.
    barrier
        If False, blocks flow downstream as they are read, without windows, and the file is closed after the last read,
        before the compute returns.
    allow_external
        Directories from which other files may be read: targets of external links, external storage, and sources of
        virtual datasets. Symbolic links are resolved before paths are compared.
    storage_options
        Options passed to fsspec when `path` is a URL. Never included in dask keys, reports or error messages.

    Returns
    -------
    dask.array.Array
        The shape is the dataset's, with the elements of an HDF5 array type as trailing dimensions; the dtype is h5py's.
        The same state of the file and the same options give the same keys.

    Raises
    ------
    SourceNotFoundError
        If the file does not exist.
    DatasetNotFoundError
        If the file has no such dataset, or the path is a group.
    UnsupportedError
        If the dataset has a null dataspace, or a type that h5py cannot read.
    UnsafeSourceError
        If the array would have more than 1,000,000 blocks, or the dataset needs files outside `allow_external`.
    H5BoundError
        If the file cannot be opened, or its server refuses access.
    OptionError
        If `chunks`, `window` or `storage_options` have no valid value, or `name` is missing or one too many.

    Notes
    -----
    A compute raises `SourceChangedError` if the file was replaced, edited or truncated since the array was made. If the
    caller held the File open for writing, closing it changes the file as well; then only another file, or another shape
    or type of the dataset, is noticed. External files are not watched.

    A file that another program appends to in SWMR mode is read through ``h5py.File(path, "r", swmr=True)``. The array
    has the shape that was flushed when it was made, or the one that h5py shows if the caller holds the dataset open.

    ``to_zarr`` keeps the chunk grid of the file with ``chunks={}``. To copy datasets, `convert` is many times as fast.

    ``to_delayed()`` merges the blocks into one graph, so each delayed block reads all of them. Use
    ``to_delayed(optimize_graph=False)`` to read only one.

    Examples
    --------
    >>> import h5py, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [[1, 2], [3, 4]]
    >>> array = from_hdf5(path, "x")
    >>> array
    dask.array<wait_on:x, shape=(2, 2), dtype=int64, chunksize=(2, 2), chunktype=numpy.ndarray>
    >>> int(array.sum())
    10

    ``to_zarr`` makes one Zarr chunk of a block. With ``chunks={}`` it keeps the chunks of HDF5:

    >>> with h5py.File(path, "a") as file:
    ...     y = file.create_dataset("y", data=range(100), chunks=(10,))
    >>> from_hdf5(path, "y").chunksize, from_hdf5(path, "y", chunks={}).chunksize
    ((100,), (10,))
    >>> import zarr
    >>> _ = from_hdf5(path, "y", chunks={}).to_zarr(path.with_name("y.zarr"))
    >>> zarr.open_array(path.with_name("y.zarr")).chunks
    (10,)
    """
    path, name = locate_object(path, name)
    source = H5Source.of(path, storage_options)
    allowed = resolve_directories(allow_external)
    source, record = find_dataset(source, name, allowed)
    return make_array(make_lifecycle(source, window, barrier=barrier), source, record, chunks=chunks, allowed=allowed)


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
            source, name = H5Source.of(find_file(source.path, link[0], "link", allowed=allowed)), link[1]
    raise UnsafeSourceError(f"{name!r} of {source.path}: the path follows more than {MAX_HOPS} external links")


def find_dataset(source: H5Source, name: str, allowed: tuple[Path, ...]) -> tuple[H5Source, DatasetRecord]:
    """Return a dataset's file and record. Raise DatasetNotFoundError if there is none."""
    with follow_links(source, name, allowed) as (found, opened, path):
        record = _read_record(opened.file, path, allowed)
    found.make_exclusive_for([record.dtype])
    return found, record


def _read_record(file: h5py.File, name: str, allowed: tuple[Path, ...]) -> DatasetRecord:
    """Return the record of a dataset, after checking that it needs only allowed files."""
    dataset = open_dataset(file, name, refresh=True)
    record = read_dataset(dataset, count=False)
    if record.layout not in EXTERNAL_LAYOUTS:
        return record
    from h5bound.hdf5.external_check import check_external_files

    with naming(f"dataset {name!r} of {file.filename}"):
        check_external_files(file, dataset.id, allowed)
    return read_dataset(dataset, open_sources=True, count=False)


def make_array(
    lifecycle: Lifecycle, source: H5Source, record: DatasetRecord, chunks: Any, *, allowed: tuple[Path, ...]
) -> da.Array:
    """Return the array of one dataset."""
    subject = f"dataset {record.path!r} of {source.path}"
    if record.dtype is None or record.problem is not None:
        raise UnsupportedError(f"{subject}: h5py cannot read it: {record.problem}")
    if record.shape is None:
        raise UnsupportedError(f"{subject}: it has no elements (a null dataspace)")
    inner: tuple[int, ...] = ()
    dtype = record.dtype
    while dtype.subdtype is not None:  # the elements of an array type may be arrays again
        dtype, inner = dtype.base, inner + dtype.shape
    if dtype.isnative and dtype.names is None:
        dtype = dtype.newbyteorder("=")  # h5py names the order, and netCDF4 then warns that it is not the native one
    nbytes = OBJECT_NBYTES if chunks is None and record.dtype.hasobject else 1
    itemsize = max(record.dtype.itemsize, nbytes)
    sizes = plan_block_sizes(record.shape, chunks, itemsize=itemsize, chunk_shape=record.chunks, subject=subject)
    key = DatasetKey(
        path=record.path,
        shape=record.shape,
        dtype=str(record.dtype),
        allowed=allowed if record.layout in EXTERNAL_LAYOUTS else None,
    )
    arguments = partial(locate_block, key, block_bounds(sizes))
    sizes += tuple((size,) for size in inner)
    return make_dask_array(
        lifecycle,
        tokenize(record.path, str(record.dtype), sizes),
        chunks=sizes,
        dtype=dtype,
        read=read_region,
        arguments=arguments,
        label=record.path.rpartition("/")[2],
        read_encoded=read_encoded,
        decode=decode_region,
        prefetch=prefetch_regions,
    )
