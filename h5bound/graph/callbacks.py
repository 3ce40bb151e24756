"""A dask callback: the closes that a local compute will run, and whether it failed.

One callback for the whole process watches every local compute. Three promises need it:

- A compute that fails closes the source when its last block in flight ends. If it fails outside of a block, as by
  Ctrl-C, no task of h5bound runs any more, and an interactive session keeps the handle in its traceback.
- Arrays of one source in one compute share one open. Culling ensures this, except if a graph was not culled, or
  holds two copies of an array: ``dask.compute(array, dask.delayed(f)(array))``. Such a graph has several closes of one
  source, which need not overlap, so the session is told how many it will get.
- A compute does not read what it has overwritten (:mod:`h5bound.overwriting`).
- A graph that holds handles as data may be computed more than once, so each compute gets handles of its own.

It also narrows the reads of blocks that are sliced (:mod:`h5bound.graph.slices`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback
from dask.task_spec import DataNode, GraphNode, Task, TaskRef

from h5bound.graph.slices import narrow_reads
from h5bound.graph.tasks import close_here, find_opened, make_handle
from h5bound.lifecycle.handle import Handle, Window
from h5bound.lifecycle.session import find_session
from h5bound.overwriting.preparation import prepare_writes
from h5bound.overwriting.targets import VariablePath
from h5bound.overwriting.task_parts import list_leaves

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from dask.typing import Key

    from h5bound.lifecycle.session import Session, Source


class _ComputeWatch(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """The callback; what it keeps is by the id of the running graph."""

    def __init__(self) -> None:
        self._expected: dict[int, list[tuple[Session, Counter[str]]]] = {}
        self._written: dict[int, ExitStack] = {}  # the files that the compute writes to
        super().__init__()

    def _start(self, graph: dict[Key, Any]) -> None:
        self.register()  # again: dask loses registered callbacks when computes overlap in several threads
        # what `dask.cache.Cache` puts in place of tasks
        graph.update({key: DataNode(key, node) for key, node in graph.items() if not isinstance(node, GraphNode)})
        with prepare_writes(graph, partial(_find_block_readers, graph)) as written:  # dask finishes what has started
            several = [(source, windows) for source, windows in count_closes(graph) if windows.total() > 1]
            expected = [(find_session(source, source.key), windows) for source, windows in several]
            narrow_reads(graph)
            self._written[id(graph)] = written.pop_all()
        for session, windows in expected:
            session.expect(windows)
        self._expected[id(graph)] = expected

    def _start_state(self, graph: object, state: dict[str, Any]) -> None:
        cache = state["cache"]
        cache.update({key: value.renew() for key, value in cache.items() if isinstance(value, Handle)})

    def _finish(self, graph: dict[Key, Any], state: dict[str, Any], errored: bool) -> None:  # noqa: FBT001 - dask's
        self._written.pop(id(graph), ExitStack()).close()
        for session, windows in self._expected.pop(id(graph), ()):
            session.expect_no_more(windows)
        if errored:  # the result of an open task may not have arrived
            handles = [value for value in state.get("cache", {}).values() if isinstance(value, Handle)]
            for handle in chain(handles, *(find_opened(*opened) for opened in _windows(graph))):
                handle.release()


compute_watch = _ComputeWatch()
"""The callback of this process. Once registered, it looks at all tasks of each local compute."""


def count_closes(graph: Mapping[Key, object]) -> list[tuple[Source, Counter[str]]]:
    """Return the number of closes of each window that is the only one of its source in a graph, by source."""
    counts: dict[Hashable, tuple[Source, Counter[str]]] = {}
    for source, window in _windows(graph):
        counts.setdefault(source.key, (source, Counter()))[1][window.name] += 1
    return list(counts.values())


def _find_block_readers(graph: Mapping[Key, Any]) -> dict[VariablePath, set[Key]]:
    """Return the tasks that read blocks of datasets: those that depend on an open task."""
    opened = {key: pair[0] for key, pair in ((key, _find_open(node)) for key, node in graph.items()) if pair}
    files = {key: str(getattr(source, "path", "")) for key, source in opened.items()}
    readers: dict[VariablePath, set[Key]] = defaultdict(set)
    for key, node in graph.items():
        for opens in files.keys() & node.dependencies:
            # of a dataset; a variable of netCDF4 raises KeyError for names that its class has not
            for leaf in (leaf for leaf in list_leaves(node) if hasattr(type(leaf), "path")):
                elsewhere = getattr(leaf, "allowed", None) is not None
                file = getattr(leaf, "file", "") or files[opens]  # one of many says which
                readers[VariablePath(str(file), str(getattr(leaf, "path", "")), elsewhere=elsewhere)].add(key)
    return readers


def _windows(graph: Mapping[Key, object]) -> Iterator[tuple[Source, Window]]:
    """Yield the window of each open task that has one, else of each close task, which dask may have fused."""
    for node in graph.values():
        opened = _find_open(node)
        if opened is not None and opened[1] is not None:
            yield opened[0], opened[1]
        task = _unwrap(node)
        if isinstance(task, Task) and task.func is close_here:
            handle, window = task.args[:2]
            opened = _find_open(graph.get(handle.key)) if isinstance(handle, TaskRef) else None
            if window.only_window and opened is not None and opened[1] is None:
                yield opened[0], window


def _find_open(node: object) -> tuple[Source, Window | None] | None:
    """Return the source of an open task, or of a handle that is data, and its window if it has only one."""
    inner = _unwrap(node)
    if isinstance(inner, DataNode):
        handle = inner.value
        return (handle.source, handle.only_window) if isinstance(handle, Handle) else None
    return inner.args[:2] if inner is not None and inner.func is make_handle else None


def _unwrap(node: object) -> Task | DataNode | None:
    """Return a task or data, or what dask wrapped in a task to copy it (ProhibitReuse)."""
    if not isinstance(node, Task):
        return node if isinstance(node, DataNode) else None
    only = node.args[0] if len(node.args) == 1 else None
    return only if isinstance(only, (Task, DataNode)) else node
