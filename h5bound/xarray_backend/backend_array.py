"""One variable of an HDF5 file as xarray indexes it: a read opens the file, reads, and closes it again.

xarray itself makes the dask arrays that its ``chunks=`` asks for, of tasks that index a variable block by block, and
has no place for a graph of ours. So it is the compute that keeps the file open for them:

==================  ===========================================  ============================================
where               who opens                                    who closes
==================  ===========================================  ============================================
without dask        every read                                   the same read
in this process     the first read of the compute                the compute, before it gives its result
on a cluster        the first read of a variable on each worker  the worker, when none has followed the last
                                                                 one for `LINGER` seconds
in a process pool   every read                                   the same read
==================  ===========================================  ============================================

Readers that overlap share one `Session`. A compute that meets more than `MAX_HELD` files, or cannot be seen (with
``inline_array=True`` the variables are within the tasks), keeps none open: there, every read opens and closes its file.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.callbacks import Callback
from xarray.backends import BackendArray
from xarray.core.indexing import (
    ExplicitlyIndexed,
    ImplicitToExplicitIndexingAdapter,
    IndexingSupport,
    explicit_indexing_adapter,
)

from h5bound.hdf5.dataset import read_filters
from h5bound.lifecycle.handle import Handle, Window, worker_address
from h5bound.reader.open_file import open_dataset
from h5bound.reader.via_h5py import load_plugins, lock_variable_length

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import TypeAlias

    from numpy.typing import NDArray
    from xarray.core.indexing import ExplicitIndexer

    from h5bound.reader.open_file import DatasetKey, OpenFile
    from h5bound.reader.source import H5Source

    Pick: TypeAlias = int | np.integer[Any] | slice | NDArray[np.integer[Any]]


MAX_HELD = 64
"""Files that one compute holds open: some systems let a process open no more than 256."""

LINGER = 1.0
"""Seconds: a worker is not told that a compute has ended."""

ONLY_WINDOW = Window("xarray", only_window=True, clustered=True)


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """Where a variable is found in an open file."""

    group: str  # path of its group
    name: str  # as h5netcdf has it
    dataset: DatasetKey
    plain: bool  # whether netCDF has it as its dataset is: of that shape, and no text or structure
    decode_vlen_strings: bool  # as h5netcdf takes it


class VariableArray(BackendArray):
    """The values of one variable, read when they are indexed.

    Parameters
    ----------
    source
        The file.
    place
        Of the variable in it.
    shape, dtype
        Of the variable. Along an unlimited dimension it may be longer than its dataset.
    """

    __slots__ = ("_on_worker", "dtype", "place", "shape", "source")

    def __init__(self, source: H5Source, place: VariableSpec, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.source = source
        self.place = place
        self.shape = shape
        self.dtype = dtype
        self._on_worker = Lingering(source)
        _holder.register()  # in this process, to which it may have travelled

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.place, self.shape, self.dtype)

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: tuple[Pick, ...]) -> Any:
        """Give the values at integers, slices, and at most one array of ascending integers."""
        on_worker = worker_address() is not None
        held = self._on_worker.handle() if on_worker else _holder.find(self.source)
        handle = held or Handle(self.source)
        with handle.reading(ONLY_WINDOW) as file:
            values = read_values(file, self.place, key)
        if held is None:
            handle.close(ONLY_WINDOW)
        elif on_worker or not self.source.remote:  # else a server is asked at the close
            handle.session(ONLY_WINDOW).check()
        return values


class Lingering:
    """Keeps a file open from one read to the next, as long as they follow one another.

    Parameters
    ----------
    source
        The file.
    """

    def __init__(self, source: H5Source) -> None:
        self._source = source
        self._handle: Handle | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def handle(self) -> Handle:
        """Give the handle to read with now."""
        with self._lock:
            self._until = time.monotonic() + LINGER
            if self._handle is None:
                self._handle = Handle(self._source)
                self._wait(LINGER)
            return self._handle

    def _wait(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._let_go)
        timer.daemon = True
        timer.start()

    def _let_go(self) -> None:
        with self._lock:
            rest = self._until - time.monotonic()
            if rest > 0:
                self._wait(rest)
            elif self._handle is not None:
                self._handle.abandon()
                self._handle = None


def read_values(opened: OpenFile, place: VariableSpec, key: tuple[Pick, ...]) -> Any:
    """Give the values of a variable as h5netcdf does."""
    reader = opened.dataset(place.dataset)
    if place.plain and not any(map(_is_scattered, key)):
        block = reader.read(tuple(map(_slice, key, place.dataset.shape)))
        return block[tuple(slice(None) if isinstance(pick, slice) else 0 for pick in key)]
    dataset = open_dataset(opened.file, place.dataset.path)
    load_plugins(read_filters(dataset))
    if place.plain:
        return dataset[key]
    import h5netcdf

    options = {"phony_dims": "access", "decode_vlen_strings": place.decode_vlen_strings}
    with lock_variable_length(dataset.dtype), h5netcdf.File(opened.file, "r", **options) as root:
        group = root if place.group == "/" else root[place.group]
        return group.variables[place.name][key]


def _is_scattered(pick: Pick) -> bool:
    """Tell whether it picks other than neighbours."""
    return isinstance(pick, np.ndarray) or (isinstance(pick, slice) and pick.step not in (None, 1))


def _slice(pick: Pick, length: int) -> slice:
    """Give what it picks as bounds.

    >>> _slice(-1, 5), _slice(slice(3, 9), 5), _slice(slice(4, 2), 5)
    (slice(4, 5, None), slice(3, 5, None), slice(4, 4, None))
    """
    places = range(length)[pick if isinstance(pick, slice) else slice(pick, pick + 1 or None)]
    return slice(places.start, max(places.start, places.stop))


class _FileHolder(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Has the local computes that read a file keep it open until they end."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, list[H5Source]] = {}  # by the id of a compute's state
        self._held: dict[Hashable, tuple[Handle, int]] = {}  # and the number of computes, by the key of a source
        self._lock = threading.Lock()

    def find(self, source: H5Source) -> Handle | None:
        """Give the handle of the computes that read a file now."""
        with self._lock:
            return self._held.get(source.key, (None, 0))[0]

    def _start(self, _graph: object) -> None:
        self.register()  # once more: dask loses what is not, when computes overlap in several threads

    def _start_state(self, _graph: object, state: dict[str, Any]) -> None:
        met = {source.key: source for source in map(_find_source, state["cache"].values()) if source is not None}
        if len(met) <= MAX_HELD:
            self._met[id(state)] = list(met.values())
            with self._lock:
                for key, source in met.items():
                    handle, computes = self._held.get(key) or (Handle(source), 0)
                    self._held[key] = handle, computes + 1

    def _finish(self, _graph: object, state: dict[str, Any], errored: bool) -> None:  # noqa: FBT001 - called by dask
        with ExitStack() as stack:
            for source in self._met.pop(id(state), ()):
                with self._lock:
                    handle, computes = self._held.pop(source.key)
                    if computes > 1:
                        self._held[source.key] = handle, computes - 1
                        continue
                stack.callback(handle.abandon) if errored else stack.callback(handle.close, ONLY_WINDOW)


_holder = _FileHolder()


def _find_source(value: object) -> H5Source | None:
    """Give the file of what xarray has wrapped a variable in, to decode it and to have dask index it."""
    while isinstance(value, (ExplicitlyIndexed, ImplicitToExplicitIndexingAdapter)):
        if isinstance(value, VariableArray):
            return value.source
        value = getattr(value, "array", None)
    return None
