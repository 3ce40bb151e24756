"""HDF5 datasets as plain dask arrays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dask.base import tokenize

from h5bound.errors import OptionError, shorten_tracebacks
from h5bound.graph.block_shapes import block_bounds, plan_block_sizes, plan_joined_sizes
from h5bound.graph.collection import make_dask_array, make_lifecycle
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS, resolve_directories
from h5bound.reader.dataset_lookup import find_dataset, locate_object
from h5bound.reader.joined_dataset import (
    check_joinable,
    choose_axis,
    join_chunks,
    join_datasets,
    prefetch_regions_of,
    read_encoded_of,
    read_region_of,
)
from h5bound.reader.many_datasets import check_readable, find_in_files, list_sources
from h5bound.reader.many_files import ManyFiles, check_max_open
from h5bound.reader.open_file import (
    DatasetKey,
    decode_region,
    locate_block,
    prefetch_regions,
    read_encoded,
    read_region,
)
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    import dask.array as da
    import h5py
    import numpy as np

    from h5bound.graph.windows import Lifecycle
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.reader.many_datasets import LocatedDataset

OBJECT_NBYTES = 100
"""Bytes that a text or sequence of variable length is expected to take in memory, where a block shape is chosen."""


@shorten_tracebacks
def from_hdf5(
    path: str | PathLike[str] | h5py.Group | h5py.Dataset | Sequence[Any],
    name: str | None = None,
    *,
    axis: int = 0,
    chunks: Any = None,
    window: int | str | None = None,
    barrier: bool = True,
    max_open: int | None = None,
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
        or URL; one that has none, such as an `io.BytesIO`, can be read in this process only. A list or tuple of these
        gives one array over many files, in this order.
    name
        Path of the dataset in the file, or in the group. Leave it out for an `h5py.Dataset`.
    axis
        The axis along which the datasets of a list of files are joined. They must have one type, of which the order of
        bytes may differ and is that of the first file, equal lengths along the other axes, and equal attributes where
        these give the numbers a meaning: ``scale_factor``, ``add_offset``, ``_FillValue``, ``missing_value``,
        ``_Unsigned``, ``units`` and ``calendar``, of bounds those of their coordinate. Files are joined as they are
        given: `combine` and `ZarrStore` look whether they overlap, or are not in the order of a coordinate, and join
        what differs by rules.
    chunks
        Shape of the blocks, in elements. None for one HDF5 chunk or whole multiples of it, up to 32 MiB and smaller
        for small datasets, the same on every machine, or ``"auto"`` if the dataset is not chunked; ``{}`` for the
        stored chunks, and one block if the dataset is not chunked; or anything that `dask.array.from_array` takes.
        ``"auto"`` gives whole multiples of HDF5 chunks.
    window
        Most bytes of blocks between one open and its close, as a number or text like ``"512 MiB"``. A compute that
        needs more is split into windows, each with its own open and close, so that memory stays bounded. Where it reads
        several files that need more, up to 16 of them share these bytes. None for a sixteenth of what the compute
        reads, at least 128 MiB and a block for each thread (dask's setting ``num_workers``, else each CPU), and at most
        the dask setting ``h5bound.window`` when the array is made, not when it is computed (in the environment
        ``DASK_H5BOUND__WINDOW``), 1 GiB by default. On a cluster also at most a quarter of the memory of the smallest
        worker, whatever is passed.
    barrier
        If False, blocks flow downstream as they are read, without windows, and the file is closed after the last read,
        before the compute returns.
    max_open
        Most files of a list that are open at a time; threads wait if all of these are being read. None for 64.
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
        If the dataset has a null dataspace, or a type that h5py cannot read, or cannot be joined to that of the first
        file.
    UnsafeSourceError
        If the array would have more than 1,000,000 blocks, or the dataset needs files outside `allow_external`.
    H5BoundError
        If the file cannot be opened, or its server refuses access.
    OptionError
        If `chunks`, `window`, `axis`, `max_open` or `storage_options` have no valid value, `name` is missing or one too
        many, or a list of files is empty.

    Notes
    -----
    A compute raises `SourceChangedError` if the file was replaced, edited or truncated since the array was made. If the
    caller held the File open for writing, closing it changes the file as well; then only another file, or another shape
    or type of the dataset, is noticed. External files are not watched.

    A file that another program appends to in SWMR mode is read through ``h5py.File(path, "r", swmr=True)``. The array
    has the shape that was flushed when it was made, or the one that h5py shows if the caller holds the dataset open.

    ``to_zarr`` keeps the chunk grid of the file with ``chunks={}``. To copy datasets, `convert` is many times as fast.

    Of many files, a compute opens those that its blocks need, each for the windows that need it, and at most `max_open`
    at a time in each process, or fewer where the system allows few descriptors; no block spans two files. What the
    scan of a file has found is kept in the user's cache folder (the dask setting ``h5bound.cache``) for as long as the
    file does not change.

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

    Many files are one array, with one lifecycle:

    >>> paths = [path.with_name(f"{number}.h5") for number in range(3)]
    >>> for number, path_of_one in enumerate(paths):
    ...     with h5py.File(path_of_one, "w") as file:
    ...         file["x"] = [number] * (number + 1)
    >>> many = from_hdf5(paths, "x")
    >>> many.chunks, many.compute()
    (((1, 2, 3),), array([0, 1, 1, 2, 2, 2]))

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
    allowed = resolve_directories(allow_external)
    most = check_max_open(max_open, many=isinstance(path, (list, tuple)))
    if isinstance(path, (list, tuple)):
        sources, names = list_sources(path, name, storage_options)
        record, datasets = find_in_files(sources, names, allowed)
        files = ManyFiles([source for source, _ in datasets], max_open=most)
        lifecycle = make_lifecycle(files, window, barrier=barrier)
        return make_joined_array(lifecycle, record, datasets, axis=axis, chunks=chunks, allowed=allowed)
    if axis != 0:
        raise OptionError(f"axis={axis!r}: this is for a list of files, which are joined along an axis")
    path, name = locate_object(path, name)
    source, record = find_dataset(H5Source.of(path, storage_options), name, allowed)
    return make_array(make_lifecycle(source, window, barrier=barrier), source, record, chunks=chunks, allowed=allowed)


def make_array(
    lifecycle: Lifecycle, source: H5Source, record: DatasetRecord, chunks: Any, *, allowed: tuple[Path, ...]
) -> da.Array:
    """Return the array of one dataset."""
    check_readable(source, record)
    dtype, inner, itemsize = find_element(record, chunks)
    assert record.shape is not None
    sizes = plan_block_sizes(
        record.shape,
        chunks,
        itemsize=itemsize,
        chunk_shape=record.chunks,
        subject=f"dataset {record.path!r} of {source.path}",
    )
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


def make_joined_array(
    lifecycle: Lifecycle,
    record: DatasetRecord,
    datasets: Sequence[LocatedDataset],
    *,
    axis: int | None,
    chunks: Any,
    allowed: tuple[Path, ...],
) -> da.Array:
    """Return the array of datasets of many files, joined along an axis; `record` is that of the first one.

    Without an axis it is the array of the first one, which all others have to be equal to. Raise UnsupportedError if
    they cannot be joined, and OptionError if there is no such axis.
    """
    shape, subject = datasets[0][1].shape, f"dataset {record.path!r} of {getattr(lifecycle.source, 'path', '')}"
    dtype, inner, itemsize = find_element(record, chunks)
    options: dict[str, Any] = {"itemsize": itemsize, "chunk_shape": join_chunks(datasets), "subject": subject}
    if axis is None:
        check_joinable(datasets, axis)
        sizes = plan_block_sizes(shape, chunks, **options)
    else:
        axis = choose_axis(axis, len(shape), len(inner), subject=subject)
        check_joinable(datasets, axis)
        lengths = [dataset.shape[axis] for _, dataset in datasets]
        whole = (*shape[:axis], sum(lengths), *shape[axis + 1 :])
        sizes = plan_joined_sizes(whole, chunks, axis=axis, lengths=lengths, **options)
    joined = join_datasets(datasets, axis, block_bounds(sizes), dtype=str(record.dtype), allowed=allowed)
    sizes += tuple((size,) for size in inner)
    return make_dask_array(
        lifecycle,
        tokenize([dataset.path for _, dataset in datasets], str(record.dtype), axis, sizes),
        chunks=sizes,
        dtype=dtype,
        read=read_region_of,
        arguments=joined.locate,
        label=record.path.rpartition("/")[2],
        read_encoded=read_encoded_of,
        decode=decode_region,
        prefetch=prefetch_regions_of,
    )


def find_element(record: DatasetRecord, chunks: Any) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the type of an array, the axes that an array type adds, and the bytes of an element for its blocks."""
    assert record.dtype is not None
    inner: tuple[int, ...] = ()
    dtype = record.dtype
    while dtype.subdtype is not None:  # the elements of an array type may be arrays again
        dtype, inner = dtype.base, inner + dtype.shape
    if dtype.isnative and dtype.names is None:
        dtype = dtype.newbyteorder("=")  # h5py names the order, and netCDF4 then warns that it is not the native one
    nbytes = OBJECT_NBYTES if chunks is None and record.dtype.hasobject else 1
    return dtype, inner, max(record.dtype.itemsize, nbytes)
