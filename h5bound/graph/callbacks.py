"""What dask tells of a local compute: which closes are to come when it begins, and whether it failed when it ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback
from dask.task_spec import Task, TaskRef

from h5bound.graph.tasks import close_after, close_here, open_source
from h5bound.lifecycle.handle import Handle, Window
from h5bound.lifecycle.session import find_session

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from dask.typing import Key

    from h5bound.lifecycle.session import Session
    from h5bound.lifecycle.source import Source


class _Watch(Callback):  # type: ignore[misc]  # dask's Callback is untyped
    """Keeps a source open between the windows of one compute, and has it closed when that fails.

    A graph that was not culled, or that has a copy of an array (``dask.delayed(f)(array)`` makes one), has several
    closes of one source, which need not overlap: a session is told how many are to come. And the traceback of a
    compute that failed may keep its handles from being collected, so that they are told.
    """

    def __init__(self) -> None:
        self._expected: dict[int, list[tuple[Session, Counter[str]]]] = {}  # by the id of the running graph
        super().__init__()

    def _start(self, graph: Mapping[Key, object]) -> None:
        self.register()  # once more: dask loses what is not, when computes overlap in several threads
        several = [(source, windows) for source, windows in list_windows(graph) if windows.total() > 1]
        if several:
            expected = [(find_session(source, source.key), windows) for source, windows in several]
            self._expected[id(graph)] = expected
            for session, windows in expected:
                session.expect(windows)

    def _finish(self, graph: object, state: dict[str, Any], errored: bool) -> None:  # noqa: FBT001 - called by dask
        for session, windows in self._expected.pop(id(graph), ()):
            session.expect_no_more(windows)
        for value in state.get("cache", {}).values() if errored else ():
            if isinstance(value, Handle):
                value.abandon()


_watch = _Watch()


def watch_computes() -> None:
    """Have dask tell of the computes of this process from now on; it costs each of them a look at all its tasks."""
    _watch.register()


def list_windows(graph: Mapping[Key, object]) -> list[tuple[Source, Counter[str]]]:
    """Give each source with the windows that the graph closes, but for those that are opened for themselves."""
    found: dict[Hashable, tuple[Source, Counter[str]]] = {}
    for source, window in _windows(graph):
        found.setdefault(source.key, (source, Counter()))[1][window.name] += 1
    return list(found.values())


def _windows(graph: Mapping[Key, object]) -> Iterator[tuple[Source, Window]]:
    """Give the window of each open task that knows it, else those of its close tasks: dask may fuse a close task."""
    for node in graph.values():
        task = _unwrap(node)
        if task is None:
            continue
        if task.func is open_source and task.args[1] is not None:
            yield task.args[:2]
        elif task.func in (close_here, close_after):
            handle, window = task.args[:2]
            opened = _unwrap(graph.get(handle.key)) if isinstance(handle, TaskRef) else None
            if window.only_window and opened is not None and opened.func is open_source and opened.args[1] is None:
                yield opened.args[0], window


def _unwrap(node: object) -> Task | None:
    """Give a task, or what a copy of one has as its only argument (dask's ProhibitReuse)."""
    if not isinstance(node, Task):
        return None
    only = node.args[0] if len(node.args) == 1 else None
    return only if isinstance(only, Task) else node
