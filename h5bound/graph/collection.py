"""dask arrays over a source: what they share, and how they are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.utils import parse_bytes

from h5bound.graph.layers import make_graph
from h5bound.graph.windows import Blocks, Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.graph.windows import BlockIndex, Chunks
    from h5bound.lifecycle.source import Source


def make_lifecycle(source: Source, window: int | str | None, *, barrier: bool, token: str = "") -> Lifecycle:
    """Give the life that all arrays with this source and these options have in common."""
    wanted = dask.config.get("h5bound.window", "1 GiB") if window is None else window
    if not isinstance(wanted, (int, str)) or isinstance(wanted, bool) or parse_bytes(wanted) < 1:
        raise ValueError(f"window={wanted!r}: give a number of bytes, at least 1, or text like '1 GiB'")
    nbytes = parse_bytes(wanted)
    name = "open-" + tokenize(token or source.key, nbytes, barrier, dask.get_annotations())
    return Lifecycle(name, source, nbytes, barrier)


def make_dask_array(
    lifecycle: Lifecycle,
    token: str,
    arguments: Callable[[BlockIndex], tuple[Any, ...]],
    read: Callable[..., Any],
    chunks: Chunks,
    dtype: np.dtype[Any],
    **ways: Callable[..., Any] | None,
) -> da.Array:
    """Give the dask array of some blocks, in whichever of dask's two kinds is in force."""
    name = f"{'wait_on' if lifecycle.barrier else 'read'}-{tokenize(lifecycle.name, token)}"
    blocks = Blocks(name, lifecycle, chunks, dtype.itemsize, read, arguments, **ways)
    meta = np.empty((0,) * len(chunks), dtype)
    if hasattr(da.Array, "expr"):  # array.query-planning
        from h5bound.graph.expression import expression_array

        return expression_array(blocks, meta)
    return da.Array(make_graph(blocks), name, chunks, dtype=dtype, meta=meta)
