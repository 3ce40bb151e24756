"""The known ways to read HDF5 data with dask, each written out once, next to h5bound and the fastest possible loop.

Each opens one dataset as a dask array, in a context that keeps the file open where that is needed. They differ in who
reads and decodes; all compute on dask's threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dask
import dask.array as da
import deflate
import h5py
import hdf5plugin
import numpy as np
from dask.graph_manipulation import bind, wait_on
from dask.system import CPU_COUNT
from numcodecs import Shuffle, zstd

import h5bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    Region = tuple[slice, ...]

Chunks: TypeAlias = Literal["auto"] | None
"""Blocks as dask chooses them, or one for each stored chunk."""

CODECS: Mapping[str, Mapping[str, Any]] = {
    "gzip": {"shuffle": True, "compression": "gzip", "compression_opts": 4},
    "lzf": {"shuffle": True, "compression": "lzf"},
    "zstd": {"shuffle": True, **hdf5plugin.Zstd(clevel=3)},
    "blosc": hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="lz4"),
    "lz4": hdf5plugin.LZ4(),
    "none": {},
    "contiguous": {"chunks": None},
}
"""How `h5py.Group.create_dataset` is asked for each codec."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One reader of datasets."""

    open: Callable[[Path, str, Chunks], AbstractContextManager[da.Array]]
    """Opens the dataset at a path and name, in blocks."""
    codecs: frozenset[str] = frozenset(CODECS)
    """Codecs that it reads."""
    modules: tuple[str, ...] = ()
    """Modules that it needs beyond the requirements of the tests."""

    @property
    def missing(self) -> str:
        """Why it cannot be tried here; empty if it can."""
        absent = [module for module in self.modules if find_spec(module) is None]
        return f"{', '.join(absent)} not installed" if absent else ""


@contextmanager
def open_h5bound(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield the array of h5bound, which needs no open file."""
    yield h5bound.from_hdf5(path, name, chunks=chunks or {})


@contextmanager
def open_without_barrier(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield the array of h5bound whose blocks do not wait for the close."""
    yield h5bound.from_hdf5(path, name, chunks=chunks or {}, barrier=False)


@contextmanager
def open_from_array(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield `dask.array.from_array` of an h5py dataset."""
    with h5py.File(path, "r") as file:
        dataset = file[name]
        yield da.from_array(dataset, chunks=chunks or dataset.chunks or "auto")


@contextmanager
def open_xarray(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield the variable of `xarray.open_dataset`."""
    import xarray as xr

    blocks: Any = chunks or {}
    with xr.open_dataset(path, engine="h5netcdf", chunks=blocks, phony_dims="sort") as dataset:
        yield dataset[name].data


class Holder:
    """A file that tasks open and close, as the recipe needs it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.file: h5py.File | None = None

    def open(self) -> None:
        self.file = h5py.File(self.path, "r")

    def read(self, block_info: Any) -> NDArray[Any]:
        assert self.file is not None
        region = tuple(slice(start, stop) for start, stop in block_info[None]["array-location"])
        return np.asarray(self.file[self.name][region])

    def close(self) -> None:
        assert self.file is not None
        self.file.close()


@contextmanager
def open_recipe(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield the recipe of `dask.graph_manipulation`: reads bound to an open task, and a close task after them."""
    with h5py.File(path, "r") as file:
        dataset = file[name]
        like = da.from_array(dataset, chunks=chunks or dataset.chunks or "auto")
    holder = Holder(path, name)
    reads = da.map_blocks(
        holder.read, chunks=like.chunks, dtype=like.dtype, meta=np.empty((0,) * like.ndim, like.dtype)
    )
    reads = bind(reads, dask.delayed(holder.open, pure=False)())
    closed = bind(dask.delayed(holder.close, pure=False)(), reads)
    array, _ = wait_on(reads, closed)
    yield array


@contextmanager
def open_virtualizarr(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield the array that zarr makes of VirtualiZarr's manifest of the file."""
    import zarr

    registry = import_module("obspec_utils.registry").ObjectStoreRegistry
    local = import_module("obstore.store").LocalStore()
    parse = import_module("virtualizarr.parsers").HDFParser()
    store = parse(url=f"file://{path}", registry=registry({"file://": local}))
    array: Any = zarr.open_group(store, mode="r", zarr_format=3)[name]
    yield da.from_array(array, chunks=chunks or array.chunks)


@contextmanager
def open_pyfive(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield `dask.array.from_array` of a dataset of pyfive, an HDF5 reader in pure Python."""
    with import_module("pyfive").File(str(path)) as file:
        dataset = file[name]
        yield da.from_array(dataset, chunks=chunks or dataset.chunks or "auto")


class Sliceable:
    """A dataset of hidefix as `dask.array.from_array` wants it."""

    def __init__(self, dataset: Any, dtype: np.dtype[Any]) -> None:
        self.dataset, self.dtype = dataset, dtype
        self.shape = tuple(dataset.shape())
        self.ndim = len(self.shape)

    def __getitem__(self, region: Region) -> NDArray[Any]:
        shape = tuple(s.stop - s.start for s in region)
        return np.asarray(self.dataset[region]).reshape(shape)  # it drops axes of one element


@contextmanager
def open_hidefix(path: Path, name: str, chunks: Chunks) -> Iterator[da.Array]:
    """Yield `dask.array.from_array` of a dataset of hidefix, which reads chunks in Rust without HDF5."""
    with h5py.File(path, "r") as file:
        stored, dtype = file[name].chunks, file[name].dtype
    dataset = Sliceable(import_module("hidefix").Index(str(path))[name], dtype)
    yield da.from_array(dataset, chunks=chunks or stored or "auto")


PEERS: Mapping[str, Peer] = {
    "h5bound": Peer(open_h5bound),
    "h5bound, no barrier": Peer(open_without_barrier),
    "from_array": Peer(open_from_array),
    "xarray": Peer(open_xarray, modules=("xarray", "h5netcdf")),
    "recipe": Peer(open_recipe),
    "virtualizarr": Peer(
        open_virtualizarr, frozenset(("gzip", "zstd", "blosc", "none")), ("virtualizarr", "obstore", "obspec_utils")
    ),
    "pyfive": Peer(open_pyfive, frozenset(("gzip", "none", "contiguous")), ("pyfive",)),
    "hidefix": Peer(open_hidefix, frozenset(("gzip", "none")), ("hidefix",)),
}
"""All readers by name, including h5bound."""


# The fastest possible loop: nothing but reading and decoding.


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Where one chunk is."""

    origin: tuple[int, ...]
    """Index of its first element."""
    offset: int
    """Of its first byte in the file."""
    nbytes: int
    """Encoded bytes."""


def list_stored(path: Path, name: str) -> tuple[list[StoredChunk], tuple[int, ...], np.dtype[Any]]:
    """Return the stored chunks of a dataset, the shape of one chunk and the dtype."""
    chunks: list[StoredChunk] = []
    with h5py.File(path, "r") as file:
        dataset = file[name]
        dataset.id.chunk_iter(lambda info: chunks.append(StoredChunk(info.chunk_offset, info.byte_offset, info.size)))
        return chunks, dataset.chunks, dataset.dtype


def decode(descriptor: int, chunk: StoredChunk, nbytes: int, shuffle: Shuffle) -> NDArray[np.uint8]:
    """Return the bytes of a chunk that was shuffled and deflated, with libdeflate and numcodecs' shuffle."""
    stored = os.pread(descriptor, chunk.nbytes, chunk.offset)
    return np.asarray(shuffle.decode(np.frombuffer(deflate.zlib_decompress(stored, nbytes), np.uint8)))


def for_each_chunk(path: Path, name: str, use: Callable[[StoredChunk, NDArray[np.uint8]], float]) -> list[float]:
    """Decode every chunk of a shuffled, deflated dataset in dask's number of threads; return what `use` returns."""
    chunks, shape, dtype = list_stored(path, name)
    nbytes, shuffle = prod(shape) * dtype.itemsize, Shuffle(dtype.itemsize)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(CPU_COUNT) as pool:
            return list(pool.map(lambda chunk: use(chunk, decode(descriptor, chunk, nbytes, shuffle)), chunks))
    finally:
        os.close(descriptor)


def sum_bare(path: Path, name: str) -> float:
    """Return the sum of a shuffled and deflated dataset of 32-bit floats, from a loop over its chunks without dask."""
    return sum(for_each_chunk(path, name, lambda _, data: float(data.view(np.float32).sum())))


def encode_bare(path: Path, name: str, target: Path) -> None:
    """Write a shuffled and deflated dataset as a Zarr array of zstd chunks, from a loop over chunks without dask."""
    import zarr
    from zarr.codecs import ZstdCodec

    with h5py.File(path, "r") as file:
        shape, chunks, dtype = file[name].shape, file[name].chunks, file[name].dtype
    zarr.create_array(target, name=name, shape=shape, chunks=chunks, dtype=dtype, compressors=ZstdCodec(level=3))

    def write(chunk: StoredChunk, data: NDArray[np.uint8]) -> float:
        coords = (str(start // size) for start, size in zip(chunk.origin, chunks, strict=True))
        key = target.joinpath(name, "c", *coords)
        key.parent.mkdir(parents=True, exist_ok=True)
        return key.write_bytes(zstd.compress(data, 3))

    for_each_chunk(path, name, write)
