"""Make dask arrays over a source, and the lifecycle that they share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize

from h5bound.graph.layers import make_graph
from h5bound.graph.windows import Blocks, Lifecycle, window_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.graph.windows import BlockIndex, BlockSizes
    from h5bound.lifecycle.session import Source

MAX_LABEL = 30
"""Characters of a label in the name of an array. dask takes 32 for a token."""


def make_lifecycle(source: Source, window: int | str | None, *, barrier: bool, token: str = "") -> Lifecycle:
    """Return the lifecycle that all arrays with this source and these options share.

    Of tasks with one name dask runs any, so an exclusive source shares none with one that is not.
    """
    nbytes, default = window_nbytes(window), window is None
    name = "open-" + tokenize(token or source.key, source.exclusive, nbytes, default, barrier, dask.get_annotations())
    return Lifecycle(name=name, source=source, window=nbytes, barrier=barrier, default_window=default)


def make_dask_array(
    lifecycle: Lifecycle,
    token: str,
    *,
    chunks: BlockSizes,
    dtype: np.dtype[Any],
    read: Callable[..., Any],
    arguments: Callable[[BlockIndex], tuple[Any, ...]],
    label: str = "",
    **functions: Callable[..., Any] | None,
) -> da.Array:
    """Return the array of some blocks; `token` identifies it in its lifecycle; the others are fields of `Blocks`.

    `label` is part of its name, and so of its repr.
    """
    name = f"{name_prefix('wait_on' if lifecycle.barrier else 'read', label)}-{tokenize(lifecycle.name, token)}"
    blocks = Blocks(
        name=name,
        lifecycle=lifecycle,
        chunks=chunks,
        itemsize=dtype.itemsize,
        read=read,
        arguments=arguments,
        **functions,
    )
    meta = np.empty((0,) * len(chunks), dtype)
    if hasattr(da.Array, "expr"):  # array.query-planning
        from h5bound.graph.expression import make_expression_array

        return make_expression_array(blocks, meta)
    return da.Array(make_graph(blocks), name, chunks, dtype=dtype, meta=meta)


def name_prefix(task: str, label: str) -> str:
    """Return the part of a name before its token: the word that dask shows, one without hyphens.

    >>> name_prefix("wait_on", "sea-level (2 m)"), name_prefix("wait_on", "")
    ('wait_on:sea_level_2_m', 'wait_on')
    """
    words = re.sub(r"[^\w.]+", "_", label).strip("_")[:MAX_LABEL]
    return f"{task}:{words}" if words else task
