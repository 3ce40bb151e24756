"""Register the defaults of h5bound in dask's configuration."""

from __future__ import annotations

from typing import Any

import dask

DEFAULTS: dict[str, Any] = {"window": "1 GiB", "cache": True}
"""The settings ``h5bound.*``, which dask takes from its files, from ``DASK_H5BOUND__WINDOW`` or from this."""

dask.config.update_defaults({"h5bound": DEFAULTS})
