"""The configuration of dask: the defaults of h5bound, and how many threads it asks for."""

from __future__ import annotations

from typing import Any

import dask
from dask.system import CPU_COUNT

DEFAULTS: dict[str, Any] = {"window": "1 GiB", "cache": True}
"""The settings ``h5bound.*``, which dask takes from its files, from ``DASK_H5BOUND__WINDOW`` or from this."""

dask.config.update_defaults({"h5bound": DEFAULTS})


def count_pool_threads(pool: object) -> int:
    """Return the number of threads of a pool, or what the configuration says where that is none."""
    size: Any = getattr(pool, "_max_workers", None) or getattr(pool, "_processes", None)
    return int(size or dask.config.get("num_workers", None) or CPU_COUNT)
