"""Make dask arrays over a source, and the lifecycle that they share."""

from __future__ import annotations

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


def make_lifecycle(source: Source, window: int | str | None, *, barrier: bool, token: str = "") -> Lifecycle:
    """Return the lifecycle that all arrays with this source and these options share."""
    nbytes = window_nbytes(window)
    name = "open-" + tokenize(token or source.key, nbytes, barrier, dask.get_annotations())
    return Lifecycle(name, source=source, window=nbytes, barrier=barrier)


def make_dask_array(
    lifecycle: Lifecycle,
    token: str,
    *,
    chunks: BlockSizes,
    dtype: np.dtype[Any],
    read: Callable[..., Any],
    arguments: Callable[[BlockIndex], tuple[Any, ...]],
    **functions: Callable[..., Any] | None,
) -> da.Array:
    """Return the array of some blocks; `token` identifies it in its lifecycle; the others are fields of `Blocks`."""
    name = f"{'wait_on' if lifecycle.barrier else 'read'}-{tokenize(lifecycle.name, token)}"
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
