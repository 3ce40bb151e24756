"""The tasks of a graph and the functions that they call.

On a cluster a task's inputs travel to its worker. The close then depends on ``done[i]``, the address of the worker that
read block i, and not on the blocks.
"""

from __future__ import annotations

import multiprocessing
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dask.task_spec import DataNode, Task, TaskRef

from h5bound.graph.clusters import is_short_of_memory
from h5bound.graph.windows import name_requests
from h5bound.lifecycle.handle import Handle, Window, naming_on_worker, worker_address
from h5bound.lifecycle.session import open_source, release_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from dask.typing import Key

    from h5bound.graph.windows import BlockRequest, Lifecycle
    from h5bound.lifecycle.session import Source

    Tasks = dict[Key, Task | DataNode]


def build_tasks(
    windows: Sequence[Sequence[BlockRequest]], lifecycle: Lifecycle, *, opened: str, clustered: bool
) -> Tasks:
    """Return all tasks but the open task, whose key is `opened`; `clustered`: whether they may run on a cluster."""
    tasks: Tasks = {}
    for requests in windows:
        only_window = len(windows) == 1
        closed_by_task = lifecycle.barrier and (clustered or only_window)
        window = Window(
            name=name_requests(lifecycle, requests),
            only_window=only_window,
            clustered=clustered,
            blocks=0 if closed_by_task else sum(len(request.indices) for request in requests),
        )
        inputs = _add_blocks(tasks, requests, window, opened=opened, barrier=lifecycle.barrier)
        close = f"close-{window.name}"
        function = close_everywhere if clustered and closed_by_task else close_here
        tasks[close] = Task(close, function, TaskRef(opened), window, *inputs)
    return tasks


def build_open_task(key: str, lifecycle: Lifecycle, *, preopen: Window | None) -> Task:
    """Return the task that makes the handle; it opens the source at once for the window `preopen`."""
    after = () if lifecycle.bound_to is None else (TaskRef(lifecycle.bound_to),)
    return Task(key, make_handle, lifecycle.source, preopen, *after)


def build_open_data(key: str, lifecycle: Lifecycle, *, only_window: Window | None) -> DataNode:
    """Return the handle as data; `h5bound.graph.callbacks` gives each compute a handle of its own."""
    return DataNode(key, Handle(lifecycle.source, only_window))


def reads_stand_alone(windows: Sequence[Sequence[BlockRequest]], lifecycle: Lifecycle) -> bool:
    """Return whether reads may run before others of their source, and nothing has to run before the first one.

    A single read is left out: dask fuses it with what it depends on.
    """
    several = len(windows) > 1 or (not lifecycle.barrier and sum(len(request.indices) for request in windows[0]) > 1)
    return several and lifecycle.bound_to is None


def _add_blocks(
    tasks: Tasks, requests: Sequence[BlockRequest], window: Window, *, opened: str, barrier: bool
) -> list[TaskRef]:
    """Add the tasks of a window's blocks; return the inputs of its close task."""
    # Without a barrier only the last block waits: a close that depended on all blocks would keep them in memory.
    last = (requests[-1].blocks.name, *requests[-1].indices[-1])
    is_local = barrier and not window.clustered
    inputs = []
    for order, request in enumerate(requests):
        blocks = request.blocks
        suffix = f"{order}-{window.name}"
        function = _choose_read(request, is_local=is_local)
        decode = (blocks.decode,) if is_local and blocks.decode is not None else ()
        for index in request.indices:
            output = (blocks.name, *index)
            waits = barrier or output == last
            read = (f"read-{suffix}", *index) if waits else output
            arguments = blocks.arguments(index)
            # A private argument, as dask.array sets it: without it the scheduler of a cluster starts all reads at
            # once, and workers hold blocks that are not used yet.
            call = read_or_defer if barrier and window.clustered else read_block
            tasks[read] = Task(read, call, TaskRef(opened), window, output, function, *arguments, _data_producer=True)
            if window.clustered and barrier:
                done = (f"done-{suffix}", *index)
                tasks[done] = Task(done, report_worker, TaskRef(read))
                inputs.append(TaskRef(done))
            elif waits:
                inputs.append(TaskRef(read))
            if waits:
                tasks[output] = Task(output, wait_on, TaskRef(read), TaskRef(f"close-{window.name}"), *decode)
    return inputs


def _choose_read(request: BlockRequest, *, is_local: bool) -> Callable[..., Any] | PrefetchingRead:
    """Return the function that reads the blocks of an array; `is_local` if this process reads the whole window."""
    blocks = request.blocks
    if not is_local:
        return blocks.read
    read = blocks.read_encoded or blocks.read
    if blocks.prefetch is None or len(request.indices) < 2:
        return read
    return PrefetchingRead(read, blocks.prefetch, lambda: list(map(blocks.arguments, request.indices)))


class PrefetchingRead:
    """A function that reads a block, and announces all blocks of the request before the first read.

    dask may read the blocks of a window in any order, so they are announced as a set: `list_reads` returns the
    arguments of all. Pickled to another process, it is the plain `read`: that process does not read all blocks of the
    request.
    """

    def __init__(
        self, read: Callable[..., Any], prefetch: Callable[..., None], list_reads: Callable[[], list[tuple[Any, ...]]]
    ) -> None:
        self._read, self._prefetch, self._list_reads = read, prefetch, list_reads
        self._announced_to: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()

    def announce(self, reader: Any) -> Callable[..., Any]:
        """Announce the blocks to a reader, unless that was done; return the function that reads one."""
        with self._lock:
            if self._announced_to() is not reader:
                self._prefetch(reader, self._list_reads())
                self._announced_to = weakref.ref(reader)
        return self._read

    def announcing(self, reads: list[tuple[Any, ...]]) -> PrefetchingRead:
        """Return the function for other reads."""
        return PrefetchingRead(self._read, self._prefetch, lambda: reads)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (self._read,)


_opened: weakref.WeakValueDictionary[str, Handle] = weakref.WeakValueDictionary()
"""The handles of open tasks that open their source at once, by name, while they live."""


def make_handle(source: Source, preopen: Window | None, *_after: object) -> Handle:
    """Return a new handle; open the source for the window `preopen` if this process will read its blocks."""
    handle = Handle(source)
    # a child process or a worker may not read any of the blocks
    if preopen is not None and multiprocessing.parent_process() is None and worker_address() is None:
        _opened[handle.name] = handle
        handle.open(preopen)
    return handle


def find_opened(source: Source, window: Window) -> list[Handle]:
    """Return the handles for which open tasks opened a source for a window, or are about to."""
    handles = [handle for handle in (reference() for reference in _opened.valuerefs()) if handle is not None]
    return [handle for handle in handles if handle.source.key == source.key and handle.keeps(window)]


def read_block(
    handle: Handle, window: Window, block: Hashable, read: Callable[..., Any] | PrefetchingRead, *args: Any
) -> Any:
    """Return one block, or the encoded block."""
    path = getattr(args[0], "path", None) if args else None
    with naming_on_worker(path), handle.reading(window, block) as reader:
        if isinstance(read, PrefetchingRead):
            read = read.announce(reader)
        return read(reader, *args)


class Deferred(NamedTuple):
    """A block that is read once its window is closed, since the worker had too little memory to keep it until then."""

    source: Source
    read: Callable[..., Any]
    args: tuple[Any, ...]

    def load(self) -> Any:
        """Open the source, read the block and close the source."""
        with open_source(self.source) as reader:
            return self.read(reader, *self.args)


def read_or_defer(handle: Handle, window: Window, block: Hashable, read: Callable[..., Any], *args: Any) -> Any:
    """Return one block on a worker, or what reads it after the close.

    The blocks of a window wait for its last read. A worker that dask pauses for lack of memory begins no task, so that
    it must not get there by reading such blocks: it would wait for itself.
    """
    if is_short_of_memory():
        return Deferred(handle.source, read, args)
    return read_block(handle, window, block, read, *args)


def report_worker(_block: object) -> str | None:
    """Return the address of the worker that has this block."""
    return worker_address()


def close_here(handle: Handle, window: Window, *_blocks: object) -> None:
    """Close the source in this process, unless the last read of the window does."""
    handle.close(window)


def close_everywhere(handle: Handle, window: Window, *workers: str | None) -> None:
    """Close the source on this worker and on all workers that read from it."""
    handle.close(window)
    others = {worker for worker in workers if worker} - {worker_address()}
    if not others:
        return
    from distributed import worker_client
    from distributed.comm import CommClosedError

    with worker_client(separate_thread=False) as client:
        alive = others & client.nthreads().keys()  # a lost worker has nothing open
        outcomes = client.run(release_hold, (handle.name, window.name), workers=sorted(alive), on_error="return")
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not isinstance(outcome, CommClosedError):
            raise outcome


def wait_on(block: Any, _closed: None, decode: Callable[[Any], Any] | None = None) -> Any:
    """Return a block, now that the source is closed."""
    if isinstance(block, Deferred):
        return block.load()
    return block if decode is None else decode(block)
