"""Computes that store into the open file that a store serves, refused where they would read what they have overwritten.

dask reads a store through zarr, so none of h5bound's tasks is in such a compute: a callback looks for arrays of zarr in
its tasks. Only stores of an `h5py.File` that is open for writing are watched; any other is in the state in which it was
planned, or cannot be read.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

from h5bound.overwriting.preparation import find_readers, prepare_writes
from h5bound.overwriting.targets import VariablePath
from h5bound.overwriting.task_parts import unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask.typing import Key
    from zarr.abc.store import Store

    from h5bound.views.view import View

XARRAYS_WRAPPER = "ZarrArrayWrapper"
"""Class of xarray that has an array of zarr."""


class _StoreWatch(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """The callback of all local computes of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.views = weakref.WeakValueDictionary[int, "View"]()  # by the id of the store, which keeps its view
        self._written: dict[int, ExitStack] = {}  # by the id of the state of a compute

    def _start(self, _graph: object) -> None:
        self.register()  # again: dask loses registered callbacks when computes overlap in several threads

    def _start_state(self, graph: Mapping[Key, object], state: dict[str, Any]) -> None:
        find = partial(find_readers, graph, state["dependents"], self._find_variable)
        self._written[id(state)] = prepare_writes(graph, find)

    def _finish(self, _graph: object, state: dict[str, Any], _errored: bool) -> None:  # noqa: FBT001 - called by dask
        self._written.pop(id(state), ExitStack()).close()

    def _find_variable(self, leaf: object) -> VariablePath | None:
        """Return which dataset an array of zarr, or of xarray, is."""
        from zarr import Array

        inner: Any = unwrap(leaf)
        inner = inner.get_array() if type(inner).__name__ == XARRAYS_WRAPPER else inner
        view = self._find_view(inner.store) if isinstance(inner, Array) else None
        array = None if view is None else view.keys.arrays.get(inner.path)
        if view is None or array is None:
            return None
        file = view.keys.sources[array.job.origin].path
        return VariablePath(file, array.plan.path, elsewhere=array.job.values.allowed is not None)

    def _find_view(self, store: Any) -> View | None:
        """Return the view of a store, which may be inside others, such as one of zarr that logs."""
        while store is not None and id(store) not in self.views:
            store = getattr(store, "_store", None)
        return self.views.get(id(store))


_watch = _StoreWatch()


def watch_writes(store: Store, view: View) -> None:
    """Refuse computes of a store that read what they have overwritten."""
    _watch.views[id(store)] = view
    _watch.register()
