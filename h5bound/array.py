"""HDF5 datasets, and any other resource, as plain dask arrays that open and close what they read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.utils import has_keyword, parse_bytes

from h5bound.chunks import plan_chunks
from h5bound.errors import UnsafeSourceError, UnsupportedError
from h5bound.graph import graph_of
from h5bound.index import read_index
from h5bound.links import find_external
from h5bound.openfile import DatasetKey, OpenFile, open_dataset
from h5bound.outside import MAX_HOPS, find_file, list_allowed, naming
from h5bound.records import DatasetRecord, read_dataset
from h5bound.resource import ObjectSource
from h5bound.source import H5Source
from h5bound.virtual import OUTSIDE, check_outside
from h5bound.windows import Blocks, Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    import h5py
    from numpy.typing import DTypeLike, NDArray

    from h5bound.direct import Fetched
    from h5bound.openfile import Region
    from h5bound.source import Source

    Index = tuple[int, ...]
    Chunks = tuple[tuple[int, ...], ...]
    Bounds = tuple[tuple[int, ...], ...]  # where blocks start and stop along each axis, one more than blocks

Read = TypeVar("Read")


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
    allowed = list_allowed(allow_external)
    source, name = _locate(H5Source.of(path, storage_options), name, allowed)
    record = _look(source, lambda file: _read_record(file, name, allowed))
    return _dataset_array(_life_of(source, window, barrier=barrier), source, record, chunks, allowed)


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
        found = _look(self._source, partial(read_index, count=False))
        self._records = {record.path.strip("/"): record for record in found.datasets}
        self._life_of = partial(_life_of, window=window, barrier=barrier)
        self._life = self._life_of(self._source)
        self._chunks = chunks
        self._allowed = list_allowed(allow_external)

    def __getitem__(self, name: str) -> da.Array:
        record = self._records.get(name.strip("/"))
        if record is not None and record.layout not in OUTSIDE:
            return _dataset_array(self._life, self._source, record, self._chunks)
        source, at = _locate(self._source, name, self._allowed)  # a link, or one that may reach out of the file
        record = _look(source, lambda file: _read_record(file, at, self._allowed))
        life = self._life if source is self._source else self._life_of(source)
        return _dataset_array(life, source, record, self._chunks, self._allowed)

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


def from_resource(
    resource: Any,
    read: Callable[..., Any],
    *,
    chunks: Any,
    dtype: DTypeLike,
    window: int | str | None = None,
    barrier: bool = True,
) -> da.Array:
    """Give a dask array whose blocks are read from an object that is open only while they are.

    Parameters
    ----------
    resource
        Any object with ``open()`` and ``close()``. Computes that overlap share it: it is opened by the first
        and closed by the last. Pickled to another process it is a copy, opened and closed there. Arrays of an
        object that defines ``__dask_tokenize__`` have equal keys for equal tokens; of any other, each has its own.
    read
        Called once for each block that is needed, between ``open`` and ``close``, in several threads at once,
        with those of the keywords ``block_id`` and ``block_info`` that its signature takes, as
        `dask.array.map_blocks` gives them. Gives the block. It travels in one pickle with the resource, so it
        may be a method of it.
    chunks
        The sizes of the blocks along each axis, like ``((2, 2), (3,))``; a plain number is one block.
    dtype
        Of the blocks.
    window, barrier
        As for `from_hdf5`.

    Returns
    -------
    dask.array.Array
        Of the shape that ``chunks`` add up to.

    Examples
    --------
    >>> class Counter:
    ...     def open(self): print("open")
    ...     def close(self): print("close")
    ...     def block(self, block_id): return np.full((1,), block_id[0])
    >>> counter = Counter()
    >>> array = from_resource(counter, counter.block, chunks=((1, 1, 1),), dtype="int64")
    >>> array[1:].compute(scheduler="sync")
    open
    close
    array([1, 2])
    """
    if not (hasattr(resource, "open") and hasattr(resource, "close") and callable(read)):
        raise TypeError(f"{resource!r} needs open() and close(), and {read!r} must be callable")
    grid = _explicit_chunks(chunks)
    kind = np.dtype(dtype)
    # To tokenize any other object would be to pickle and load it, which is not ours to do unasked.
    known = hasattr(resource, "__dask_tokenize__")
    token = tokenize(resource, read, grid, kind) if known else uuid4().hex
    keywords = tuple(keyword for keyword in ("block_id", "block_info") if has_keyword(read, keyword))
    life = _life_of(ObjectSource(resource, read), window, barrier=barrier, token=token)
    return _array(life, token, _BlockKeywords(grid, _bounds(grid), kind, keywords), read_by_keywords, grid, kind)


# What the block tasks call.


def read_region(opened: OpenFile, what: DatasetKey, region: Region) -> NDArray[np.generic]:
    """Give a region of a dataset."""
    opened.expect(what)
    return opened.read(what.path, region)


def fetch_region(opened: OpenFile, what: DatasetKey, region: Region) -> NDArray[np.generic] | Fetched:
    """Give a region of a dataset, or what it is decoded from."""
    opened.expect(what)
    return opened.fetch(what.path, region)


def foresee_regions(opened: OpenFile, reads: list[tuple[Any, ...]]) -> None:
    """Tell an open file which regions of a dataset will be read."""
    what = reads[0][0]
    opened.expect(what)
    opened.foresee(what.path, [region for _, region in reads])


def read_by_keywords(read: Callable[..., Any], keywords: dict[str, Any]) -> Any:
    """Give a block of a resource."""
    return read(**keywords)


@dataclass(frozen=True, slots=True)
class _Regions:
    """The arguments of `read_region` for a block."""

    what: DatasetKey
    bounds: Bounds  # along the axes of the dataset; those of an array type come after them

    def __call__(self, at: Index) -> tuple[DatasetKey, Region]:
        return self.what, tuple(slice(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, at, strict=False))


@dataclass(frozen=True, slots=True)
class _BlockKeywords:
    """The arguments of `read_by_keywords` for a block, with the fields of `dask.array.map_blocks`."""

    chunks: Chunks
    bounds: Bounds
    dtype: np.dtype[Any]
    keywords: tuple[str, ...]

    def __call__(self, at: Index) -> tuple[dict[str, Any]]:
        values = {"block_id": at, "block_info": self._info(at) if "block_info" in self.keywords else None}
        return ({keyword: values[keyword] for keyword in self.keywords},)

    def _info(self, at: Index) -> dict[None, dict[str, Any]]:
        place = [(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, at, strict=True)]
        return {
            None: {
                "shape": tuple(stops[-1] for stops in self.bounds),
                "num-chunks": tuple(map(len, self.chunks)),
                "array-location": place,
                "chunk-shape": tuple(stop - start for start, stop in place),
                "chunk-location": at,
                "dtype": self.dtype,
            }
        }


# How arrays are put together.


def _explicit_chunks(chunks: Any) -> Chunks:
    """Give the sizes of blocks that are spelled out, a plain number being one block."""
    try:
        grid = tuple((index(axis),) if hasattr(axis, "__index__") else tuple(map(index, axis)) for axis in chunks)
    except TypeError as error:
        raise ValueError(
            f"chunks={chunks!r}: give the sizes of the blocks along each axis, like ((2, 2), (3,))"
        ) from error
    if not all(sizes and min(sizes) >= 0 for sizes in grid):
        raise ValueError(f"chunks={chunks!r}: each axis needs sizes of 0 or more")
    return grid


def _bounds(chunks: Chunks) -> Bounds:
    """Give the bounds of the blocks along each axis, in elements."""
    return tuple(tuple(accumulate(sizes, initial=0)) for sizes in chunks)


def _locate(source: H5Source, name: str, allowed: tuple[Path, ...]) -> tuple[H5Source, str]:
    """Give the file that holds what stands at a path, and its path there: behind external links if any are allowed."""
    for _ in range(MAX_HOPS if allowed else 0):
        link = _look(source, partial(find_external, path=name))
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
    if record.layout not in OUTSIDE:
        return record
    with naming(f"dataset {name!r} of {file.filename}"):
        check_outside(file, name, allowed)
    return read_dataset(dataset, ask_sources=True, count=False)


def _look(source: H5Source, read: Callable[[h5py.File], Read]) -> Read:
    """Give what a function reads of the metadata, with the file open for that long."""
    opened = source.open()
    try:
        found = read(opened.file)
        source.check(opened)
    finally:
        source.close(opened)
    return found


def _life_of(source: Source, window: int | str | None, *, barrier: bool, token: str = "") -> Life:
    """Give the life that all arrays with this source and these options have in common."""
    wanted = dask.config.get("h5bound.window", "1 GiB") if window is None else window
    if not isinstance(wanted, (int, str)) or isinstance(wanted, bool) or parse_bytes(wanted) < 1:
        raise ValueError(f"window={wanted!r}: give a number of bytes, at least 1, or text like '1 GiB'")
    nbytes = parse_bytes(wanted)
    name = "open-" + tokenize(token or source.key, nbytes, barrier, dask.get_annotations())
    return Life(name, source, nbytes, barrier)


def _dataset_array(
    life: Life, source: H5Source, record: DatasetRecord, chunks: Any, allowed: tuple[Path, ...] = ()
) -> da.Array:
    """Give the array of one dataset."""
    where = f"dataset {record.path!r} of {source.path}"
    if record.dtype is None or record.problem is not None:
        raise UnsupportedError(f"{where}: h5py cannot read it: {record.problem}")
    if record.shape is None:
        raise UnsupportedError(f"{where}: it has no elements (a null dataspace)")
    dtype, inner = record.dtype.base, record.dtype.shape
    grid = plan_chunks(where, record.shape, record.dtype.itemsize, record.chunks, chunks)
    bounds = _bounds(grid)
    grid += tuple((size,) for size in inner)
    token = tokenize(record.path, str(record.dtype), grid)
    judged = allowed if record.layout in OUTSIDE else None
    arguments = _Regions(DatasetKey(record.path, record.shape, str(record.dtype), judged), bounds)
    foresee = foresee_regions if source.remote else None
    return _array(life, token, arguments, read_region, grid, dtype, fetch=fetch_region, foresee=foresee)


def _array(
    life: Life,
    token: str,
    arguments: Callable[[Index], tuple[Any, ...]],
    read: Callable[..., Any],
    chunks: Chunks,
    dtype: np.dtype[Any],
    **ways: Callable[..., Any] | None,
) -> da.Array:
    """Give the dask array of some blocks, in whichever of dask's two kinds is in force."""
    name = f"{'wait_on' if life.barrier else 'read'}-{tokenize(life.name, token)}"
    blocks = Blocks(name, life, chunks, dtype.itemsize, read, arguments, **ways)
    meta = np.empty((0,) * len(chunks), dtype)
    if hasattr(da.Array, "expr"):  # array.query-planning
        from h5bound.expression import expression_array

        return expression_array(blocks, meta)
    return da.Array(graph_of(blocks), name, chunks, dtype=dtype, meta=meta)
