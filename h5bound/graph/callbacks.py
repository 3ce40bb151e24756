"""A dask callback: the closes that a local compute will run, and whether it failed.

One callback for the whole process watches every local compute. Three promises need it:

- A compute that fails closes the source when its last block in flight ends. If it fails outside of a block, as by
  Ctrl-C, no task of h5bound runs any more, and an interactive session keeps the handle in its traceback.
- Arrays of one source in one compute share one open. Culling ensures this, except if a graph was not culled, or
  holds two copies of an array: ``dask.compute(array, dask.delayed(f)(array))``. Such a graph has several closes of one
  source, which need not overlap, so the session is told how many it will get.
- A compute does not read what it has overwritten (:mod:`h5bound.graph.overwriting`).

It also narrows the reads of blocks that are sliced (:mod:`h5bound.graph.slices`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback
from dask.task_spec import Task, TaskRef

from h5bound.graph.overwriting import list_leaves, prepare_writes
from h5bound.graph.slices import narrow_reads
from h5bound.graph.targets import VariablePath
from h5bound.graph.tasks import close_here, find_opened, make_handle
from h5bound.lifecycle.handle import Handle, Window
from h5bound.lifecycle.session import find_session

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
        self._written[id(graph)] = prepare_writes(graph, partial(_find_block_readers, graph))
        several = [(source, windows) for source, windows in count_closes(graph) if windows.total() > 1]
        expected = [(find_session(source, source.key), windows) for source, windows in several]
        for session, windows in expected:
            session.expect(windows)
        self._expected[id(graph)] = expected
        narrow_reads(graph)

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
    opened = {key: task for key, task in ((key, _unwrap(node)) for key, node in graph.items()) if task is not None}
    files = {key: str(getattr(task.args[0], "path", "")) for key, task in opened.items() if task.func is make_handle}
    readers: dict[VariablePath, set[Key]] = defaultdict(set)
    for key, node in graph.items():
        for opens in files.keys() & node.dependencies:
            for name in {getattr(leaf, "path", None) for leaf in list_leaves(node)}:  # of a dataset
                readers[VariablePath(files[opens], str(name))].add(key)
    return readers


def _windows(graph: Mapping[Key, object]) -> Iterator[tuple[Source, Window]]:
    """Yield the window of each open task that has one, else of each close task, which dask may have fused."""
    for node in graph.values():
        task = _unwrap(node)
        if task is None:
            continue
        if task.func is make_handle and task.args[1] is not None:
            yield task.args[:2]
        elif task.func is close_here:
            handle, window = task.args[:2]
            opened = _unwrap(graph.get(handle.key)) if isinstance(handle, TaskRef) else None
            if window.only_window and opened is not None and opened.func is make_handle and opened.args[1] is None:
                yield opened.args[0], window


def _unwrap(node: object) -> Task | None:
    """Return a task, or the task that dask wrapped to copy it (ProhibitReuse)."""
    if not isinstance(node, Task):
        return None
    only = node.args[0] if len(node.args) == 1 else None
    return only if isinstance(only, Task) else node
