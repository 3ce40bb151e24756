"""Whether tasks may run on a dask cluster, and how much memory its workers have."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

MEMORY_SHARE = 4
"""Least ratio of the memory of a worker to a window: blocks of several windows, and results, are there beside it."""

BUSY_SHARE = 2
"""A worker whose process takes more than 1/BUSY_SHARE of its memory reads no block that would wait for a close."""


def may_be_clustered(*, travelled: bool) -> bool:
    """Return whether tasks may run on a dask cluster: this process has a client, or may be the scheduler."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_client

    with suppress(ValueError):
        return travelled or get_client() is not None
    return False


def largest_window(*, travelled: bool) -> int | None:
    """Return the most bytes of a window on the workers of the cluster; None if nothing limits their memory.

    A graph that `travelled` is made by the scheduler, in its process.
    """
    if not may_be_clustered(travelled=travelled):
        return None
    limits = [limit for limit in (_list_limits() if travelled else _ask_limits()) if limit]
    return max(min(limits) // MEMORY_SHARE, 1) if limits else None


def _list_limits() -> list[int | None]:
    """Return the memory of each worker of the scheduler in this process, in bytes."""
    from distributed import Scheduler

    schedulers = list(Scheduler._instances)  # noqa: SLF001 - there is no public way to it
    return [worker.memory_limit for scheduler in schedulers for worker in list(scheduler.workers.values())]


def _ask_limits() -> list[int | None]:
    """Return the memory of each worker of this client, in bytes."""
    from distributed import get_client

    client: Any = get_client()
    if client.asynchronous:
        return []
    return [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]


def is_short_of_memory() -> bool:
    """Return whether this is a worker whose process takes a large part of the memory that it may have."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return False
    limit = worker.memory_manager.memory_limit
    return bool(limit) and worker.monitor.get_process_memory() > limit // BUSY_SHARE
