"""One variable of an HDF5 file as xarray indexes it: a read opens the file, reads, and closes it again.

With ``chunks=`` xarray itself makes the dask arrays. Their tasks index a variable block by block, so the graph of
:mod:`h5bound.graph` cannot be used. Instead, the compute keeps the file open for its tasks:

==================  ===========================================  ============================================
where               who opens                                    who closes
==================  ===========================================  ============================================
without dask        every read                                   the same read
in this process     the first read of the compute                the compute, before it returns
on a cluster        the first read on each worker                the last read that the worker knows of
                                                                 (:mod:`h5bound.xarray_backend.worker_files`)
in a process pool   every read                                   the same read
==================  ===========================================  ============================================

Readers that overlap share one `Session`. Every read opens and closes its file if the variables are hidden inside the
tasks: with ``inline_array=True``, in a function that a task calls, and on a cluster for a variable of one block.

`LazilyIndexedArray` and two names here come from the private module ``xarray.core.indexing``. xarray's guide to new
backends documents them, and there is no public path to them. If xarray changes them,
`test_the_private_names_of_xarray_do_what_the_engine_needs_of_them` fails.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.callbacks import Callback
from xarray.backends import BackendArray
from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

from h5bound.hdf5.byte_order import restore_byte_order
from h5bound.hdf5.dataset import read_filters
from h5bound.hdf5.raw_objects import is_read_raw
from h5bound.lifecycle.handle import Handle, naming_on_worker
from h5bound.overwriting.preparation import find_readers, prepare_writes
from h5bound.overwriting.targets import VariablePath
from h5bound.overwriting.task_parts import list_leaves, unwrap
from h5bound.reader.open_file import open_dataset
from h5bound.reader.via_h5py import dtype_of, load_plugins, reading
from h5bound.xarray_backend.worker_files import ONLY_WINDOW, WorkerFile, find_block_reads, find_source

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import TypeAlias

    from dask.typing import Key
    from numpy.typing import NDArray
    from xarray.core.indexing import ExplicitIndexer

    from h5bound.reader.dataset_reader import DatasetReader
    from h5bound.reader.open_file import DatasetKey, OpenFile
    from h5bound.reader.source import H5Source

    Pick: TypeAlias = int | np.integer[Any] | slice | NDArray[np.integer[Any]]


LOADED_NBYTES = 256 << 20
"""Most bytes that a compute reads at its start, of variables that netCDF4 overwrites, as it does coordinates."""


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """The place of a variable in an open file, and how it is read."""

    group: str  # path of its group
    name: str  # in h5netcdf
    key: DatasetKey
    plain: bool  # whether it equals its dataset: it has the same shape, and is neither text nor structured
    decode_vlen_strings: bool  # as for h5netcdf


def index_lazily(array: BackendArray) -> Any:
    """Return an array that xarray reads when it is computed. No other module needs private names of xarray."""
    return LazilyIndexedArray(array)


class VariableArray(BackendArray):
    """The values of one variable, read when indexed. Along unlimited dimensions `shape` may exceed the dataset's."""

    __slots__ = ("_files", "dtype", "shape", "source", "spec", "travelled")

    def __init__(
        self,
        source: H5Source,
        spec: VariableSpec,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        travelled: bool = False,
    ) -> None:
        self.source = source
        self.spec = spec
        self.shape = shape
        self.dtype = dtype
        self.travelled = travelled  # whether it was unpickled, as the variables in the graph of a cluster
        self._files: dict[str, WorkerFile] = {}  # by worker; they live as long as one of the variables that keep them
        _holder.register()  # here, since the array may come from another process

    @property
    def variable_path(self) -> VariablePath:
        """The file and the path, by which writes are compared with reads."""
        key = self.spec.key
        return VariablePath(self.source.path, key.path, elsewhere=key.allowed is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), travelled=True), (self.source, self.spec, self.shape, self.dtype)

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        with naming_on_worker(self.spec.key.path):
            return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER_1VECTOR, self._read)

    @property
    def nbytes(self) -> int:
        """Number of bytes of all values, without the text that they refer to."""
        return prod(self.shape) * self.dtype.itemsize

    def read_all(self) -> NDArray[Any]:
        """Return all values."""
        return np.asarray(self._read((slice(None),) * len(self.shape)))

    def _read(self, key: tuple[Pick, ...]) -> Any:
        """Return the values at integers, slices, and at most one array of ascending integers."""
        loaded = _holder.find_loaded(self)
        if loaded is not None:
            whole = tuple(slice(None) if _is_axis(pick) else pick for pick in key)
            return loaded[whole][tuple(filter(_is_axis, key))].copy()
        open_handle = _holder.find(self.source)
        reads = find_block_reads(self.source) if open_handle is None and self.travelled else None
        if reads is not None:
            worker = str(reads.worker.address)
            worker_file = self._files.setdefault(worker, WorkerFile.of(self.source, worker))
            with worker_file.reading(reads) as file:
                return read_values(file, self.spec, key)
        handle = open_handle or Handle(self.source)
        with handle.reading(ONLY_WINDOW) as file:
            values = read_values(file, self.spec, key)
        if open_handle is None:
            handle.close(ONLY_WINDOW)
        elif not self.source.remote:  # for a remote source, the close checks
            handle.session(ONLY_WINDOW).check()
        return values


def read_values(opened: OpenFile, spec: VariableSpec, key: tuple[Pick, ...]) -> Any:
    """Return the values of a variable as h5netcdf does."""
    reader = opened.dataset(spec.key)
    if spec.plain and not any(map(_is_scattered, key)):
        block = reader.read(tuple(map(_slice, key, spec.key.shape)))
        return block[tuple(slice(None) if isinstance(pick, slice) else 0 for pick in key)]
    dataset = open_dataset(opened.file, spec.key.path)
    load_plugins(read_filters(dataset.id))
    if is_read_raw(dataset.id.get_type()):
        return _read_picks(reader, key, spec.key.shape)
    if spec.plain:
        with reading(dataset, key):
            return dataset[key]
    import h5netcdf

    options = {"phony_dims": "access", "decode_vlen_strings": spec.decode_vlen_strings}
    with reading(dataset, key), h5netcdf.File(opened.file, "r", **options) as root:
        group = root if spec.group == "/" else root[spec.group]
        values = group.variables[spec.name][key]
    return restore_byte_order(values, dtype_of(dataset)) if isinstance(values, (np.ndarray, np.void)) else values


def _read_picks(reader: DatasetReader, key: tuple[Pick, ...], shape: tuple[int, ...]) -> Any:
    """Return what a key selects along each axis, of a type that h5py may not read."""
    pairs = zip(key, shape, strict=True)
    block = reader.read(tuple(slice(0, n) if _is_scattered(pick) else _slice(pick, n) for pick, n in pairs))
    for axis in reversed(range(len(key))):
        pick = key[axis]
        chosen: Any = pick if _is_scattered(pick) else slice(None) if _is_axis(pick) else 0
        block = block[(slice(None),) * axis + (chosen,)]
    return block


def _is_axis(pick: Pick) -> bool:
    """Return whether it leaves an axis."""
    return isinstance(pick, (slice, np.ndarray))


def _is_scattered(pick: Pick) -> bool:
    """Return whether it selects elements that are not contiguous."""
    return isinstance(pick, np.ndarray) or (isinstance(pick, slice) and pick.step not in (None, 1))


def _slice(pick: Pick, length: int) -> slice:
    """Return the slice from the first to the last element that it selects.

    >>> _slice(-1, 5), _slice(slice(3, 9), 5), _slice(slice(4, 2), 5)
    (slice(4, 5, None), slice(3, 5, None), slice(4, 4, None))
    """
    indices = range(length)[pick if isinstance(pick, slice) else slice(pick, pick + 1 or None)]
    return slice(indices.start, max(indices.start, indices.stop))


def _find_variables(graph: Mapping[Key, object]) -> dict[Key, list[VariableArray]]:
    """Return the variables in each task of a compute."""
    variables_of = {
        key: [variable for variable in map(unwrap, list_leaves(node)) if isinstance(variable, VariableArray)]
        for key, node in graph.items()
    }
    return {key: variables for key, variables in variables_of.items() if variables}


def _find_path(leaf: object) -> VariablePath | None:
    """Return which variable is inside xarray's wrappers, None if there is none."""
    variable = unwrap(leaf)
    return variable.variable_path if isinstance(variable, VariableArray) else None


class _FileHolder(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """The files that local computes read, open until these end; the values that they overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[int, ExitStack] = {}  # the files that a compute writes to, by the id of its state
        self._loaded: dict[int, dict[Hashable, NDArray[Any]]] = defaultdict(dict)  # by that id
        self._sources: dict[int, list[H5Source]] = {}  # by the id of a compute's state
        self._held: dict[Hashable, tuple[Handle, int]] = {}  # by source key: the handle and the number of computes
        self._lock = threading.Lock()

    def find(self, source: H5Source) -> Handle | None:
        """Return the handle that running computes of a file share, None without one."""
        with self._lock:
            return self._held.get(source.key, (None, 0))[0]

    def find_loaded(self, array: VariableArray) -> NDArray[Any] | None:
        """Return all values of a variable if they were read before a running compute overwrites them."""
        key = array.source.key, array.spec
        return next((loaded[key] for loaded in list(self._loaded.values()) if key in loaded), None)

    def _load(self, graph: Mapping[Key, object], state: int, path: VariablePath) -> bool:
        """Read all values of a variable that a compute will overwrite; return False if they are too many."""
        loaded = self._loaded[state]
        for array in chain(*_find_variables(graph).values()):
            if array.variable_path == path:
                if array.nbytes + sum(values.nbytes for values in loaded.values()) > LOADED_NBYTES:
                    return False
                loaded[array.source.key, array.spec] = array.read_all()
        return True

    def _start(self, _graph: object) -> None:
        self.register()  # again: dask loses registered callbacks when computes overlap in several threads

    def _start_state(self, graph: Mapping[Key, object], state: dict[str, Any]) -> None:
        find_all = partial(find_readers, graph, state["dependents"], _find_path)
        self._written[id(state)] = prepare_writes(graph, find_all, partial(self._load, graph, id(state)))
        sources = {source.key: source for source in map(find_source, state["cache"].values()) if source is not None}
        self._sources[id(state)] = list(sources.values())
        with self._lock:
            for key, source in sources.items():
                handle, computes = self._held.get(key) or (Handle(source), 0)
                self._held[key] = handle, computes + 1

    def _finish(self, _graph: object, state: dict[str, Any], errored: bool) -> None:  # noqa: FBT001 - called by dask
        self._loaded.pop(id(state), None)
        with self._written.pop(id(state), ExitStack()) as stack:
            for source in self._sources.pop(id(state), ()):
                with self._lock:
                    handle, computes = self._held.pop(source.key)
                    if computes > 1:
                        self._held[source.key] = handle, computes - 1
                        continue
                stack.callback(handle.release) if errored else stack.callback(handle.close, ONLY_WINDOW)


_holder = _FileHolder()
