"""The tasks of a graph: open, read, close and wait_on, and what each of them does."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from dask.task_spec import Task, TaskRef

from h5bound.graph.windows import name_requests
from h5bound.lifecycle.handle import Handle, Window, in_pool, worker_address
from h5bound.lifecycle.session import release_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from dask.typing import Key

    from h5bound.graph.windows import BlockRequest, Lifecycle
    from h5bound.lifecycle.source import Source

    Tasks = dict[Key, Task]


def build(windows: Sequence[Sequence[BlockRequest]], lifecycle: Lifecycle, *, clustered: bool, opened: str) -> Tasks:
    """Give the tasks that read these windows of blocks, but for the open task.

    Parameters
    ----------
    windows
        Blocks of arrays of one life.
    life
        Of their source.
    clustered
        Whether workers may run the tasks: then close depends on done tasks, not on blocks.
    opened
        The name of the open task.
    """
    tasks: Tasks = {}
    for parts in windows:
        only_window = len(windows) == 1
        blocks = 0 if only_window or clustered else sum(len(part.indices) for part in parts)
        window = Window(name_requests(lifecycle, parts), only_window, clustered, blocks)
        _build_window(tasks, parts, window, opened, lifecycle, clustered=clustered)
    return tasks


def open_task(key: str, lifecycle: Lifecycle, *, preopen: Window | None) -> Task:
    """Give the task that opens the source: before the first block of the window ``early``, or else with it."""
    after = () if lifecycle.bound_to is None else (TaskRef(lifecycle.bound_to),)
    return Task(key, open_source, lifecycle.source, preopen, *after)


def _build_window(
    tasks: Tasks, parts: Sequence[BlockRequest], window: Window, opened: str, lifecycle: Lifecycle, *, clustered: bool
) -> None:
    close = f"close-{window.name}"
    handle = TaskRef(opened)
    last = (parts[-1].blocks.name, *parts[-1].indices[-1])
    inputs = []
    for order, part in enumerate(parts):
        blocks = part.blocks
        suffix = f"{order}-{window.name}"
        here = lifecycle.barrier and not clustered
        how = _choose_read(part, here=here)
        finish = () if blocks.finish is None or not here else (blocks.finish,)
        for index in part.indices:
            output = (blocks.name, *index)
            waits = lifecycle.barrier or output == last
            read = (f"read-{suffix}", *index) if waits else output
            arguments = blocks.arguments(index)
            tasks[read] = Task(read, read_block, handle, window, output, how, *arguments, _data_producer=True)
            if clustered:
                done = (f"done-{suffix}", *index)
                tasks[done] = Task(done, report_worker, TaskRef(read))
                inputs.append(TaskRef(done))
            elif waits:
                inputs.append(TaskRef(read))
            if waits:
                tasks[output] = Task(output, wait_on, TaskRef(read), TaskRef(close), *finish)
    if clustered:
        tasks[close] = Task(close, close_everywhere, handle, window, *inputs)
    elif lifecycle.barrier:
        tasks[close] = Task(close, close_here, handle, window, *inputs)
    else:  # to depend on all blocks would be to hold them all
        tasks[close] = Task(close, close_after, handle, window, sum(len(part.indices) for part in parts), *inputs)


def _choose_read(part: BlockRequest, *, here: bool) -> Callable[..., Any]:
    """Give what reads the blocks of an array: otherwise than elsewhere if all of a window are read in this process."""
    blocks = part.blocks
    read = blocks.fetch if here and blocks.fetch is not None else blocks.read
    return PrefetchingRead(read, part) if here and blocks.prefetch is not None and len(part.indices) > 1 else read


class PrefetchingRead:
    """Reads a block of a request, after what it is read from was told, once, that all of them will be read.

    The order in which dask reads the blocks of a window is nobody's to prefetch: only which they are.

    Parameters
    ----------
    read
        Gives a block.
    request
        The blocks of one array in a window of a compute in this process. Pickled to another one nothing is foreseen.
    """

    def __init__(self, read: Callable[..., Any], request: BlockRequest) -> None:
        self._read, self._request = read, request
        self._told: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()

    def __call__(self, reader: Any, *args: Any) -> Any:
        """Give a block."""
        blocks = self._request.blocks
        if blocks.prefetch is not None and self._told() is not reader:
            with self._lock:
                if self._told() is not reader:
                    blocks.prefetch(reader, [blocks.arguments(index) for index in self._request.indices])
                    self._told = weakref.ref(reader)
        return self._read(reader, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unprefetched, (self._read,)


def _unprefetched(read: Callable[..., Any]) -> Callable[..., Any]:
    return read


def open_source(source: Source, preopen: Window | None, *_after: object) -> Handle:
    """Give a new handle on the source, open already for a window whose blocks are sure to be read in this process."""
    handle = Handle(source)
    if preopen is not None and not in_pool() and worker_address() is None:
        handle.open(preopen)
    return handle


def read_block(handle: Handle, window: Window, block: Hashable, read: Callable[..., Any], *args: Any) -> Any:
    """Give one block."""
    with handle.reading(window, block) as reader:
        return read(reader, *args)


def report_worker(_block: object) -> str | None:
    """Give the address of the worker that has this block."""
    return worker_address()


def close_here(handle: Handle, window: Window, *_blocks: object) -> None:
    """Close the source in this process."""
    handle.close(window)


def close_after(handle: Handle, window: Window, blocks: int, _last: object) -> None:
    """Close the source in this process once so many blocks were read: now, or with the last of them."""
    handle.close_after(window, blocks)


def close_everywhere(handle: Handle, window: Window, *workers: str | None) -> None:
    """Close the source on this worker and on all that read from it."""
    handle.close(window)
    others = {worker for worker in workers if worker} - {worker_address()}
    if not others:
        return
    from distributed import worker_client

    with worker_client(separate_thread=False) as client:
        alive = others & client.nthreads().keys()  # a worker that is gone has nothing open
        outcomes = client.run(release_hold, (handle.name, window.name), workers=sorted(alive), on_error="return")
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not _is_lost_worker(outcome):
            raise outcome


def _is_lost_worker(error: Exception) -> bool:
    from distributed.comm import CommClosedError

    return isinstance(error, CommClosedError)


def wait_on(block: Any, _closed: None, finish: Callable[[Any], Any] | None = None) -> Any:
    """Return the block, now that the source is closed."""
    return block if finish is None else finish(block)
