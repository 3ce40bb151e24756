"""The dask layers that embed the life of a source in the graph itself.

::

    open ──► read[i] ──► close ──► wait_on[i] ──► whatever is done next
               └──────────────────────▲

Every array is two layers. A `BlockLayer` of its own gives the blocks; an `OpenLayer`, which all arrays of one source
have in common, gives the open task. Culling decides which blocks are needed: it reaches the block layers first, and
each of them passes what is asked of it on to the open layer, as one more key. The open layer is culled last, knows by
then all blocks that the compute wants of the source, and makes *all* tasks for them: one open, the reads, one close,
and the outputs. So a slice reads its own blocks only, and two datasets of a file have one open and one close between
them. Nothing is made before that: the layers hold chunk sizes.

A graph that is never culled (``optimize_graph=False``, ``visualize()``) has the same tasks for all blocks of an array,
and a close for each array; :mod:`h5bound.graph.callbacks` has the source stay open between them.

The names of open, read and close tasks carry a token of the blocks they serve. Copies of one array that were culled
differently may thus be merged in any order (their outputs have equal names, and are interchangeable), and every read
still stands between the open and the close that belong to it.

Where tasks run on a cluster, the inputs of a task travel to its worker. There close does not depend on the blocks but
on ``done[i]``: the address of the worker that has block i.

Blocks that were fetched as they are stored are held so until the close, in less memory, and decoded by wait_on just
before they are used. Where tasks may travel, or flow on without a barrier, the read task decodes them.

Blocks that are too large to be held at once are cut into windows. Each opens the source with its first read and has a
close of its own; the one open task gives all of them their handle. Windows do not depend on one another, and all
reads become ready together: dask.order then drains one window before it reads the next (512 blocks in windows of 32: at
34 live on 2 threads). A chain of windows would be read to its end first (497 live), and an open task for each
window makes dask's local scheduler, whose ready tasks are a stack, read a window too early now and then (63 live).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.utils import parse_bytes

from h5bound.graph.layers import graph_of
from h5bound.graph.windows import Blocks, Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.graph.windows import Chunks, Index
    from h5bound.lifecycle.source import Source


def life_of(source: Source, window: int | str | None, *, barrier: bool, token: str = "") -> Life:
    """Give the life that all arrays with this source and these options have in common."""
    wanted = dask.config.get("h5bound.window", "1 GiB") if window is None else window
    if not isinstance(wanted, (int, str)) or isinstance(wanted, bool) or parse_bytes(wanted) < 1:
        raise ValueError(f"window={wanted!r}: give a number of bytes, at least 1, or text like '1 GiB'")
    nbytes = parse_bytes(wanted)
    name = "open-" + tokenize(token or source.key, nbytes, barrier, dask.get_annotations())
    return Life(name, source, nbytes, barrier)


def array_of(
    life: Life,
    token: str,
    arguments: Callable[[Index], tuple[Any, ...]],
    read: Callable[..., Any],
    chunks: Chunks,
    dtype: np.dtype[Any],
    **ways: Callable[..., Any] | None,
) -> da.Array:
    """Give the dask array of some blocks, in whichever of dask's two kinds is in force."""
    name = f"{'wait_on' if life.barrier else 'read'}-{tokenize(life.name, token)}"
    blocks = Blocks(name, life, chunks, dtype.itemsize, read, arguments, **ways)
    meta = np.empty((0,) * len(chunks), dtype)
    if hasattr(da.Array, "expr"):  # array.query-planning
        from h5bound.graph.expression import expression_array

        return expression_array(blocks, meta)
    return da.Array(graph_of(blocks), name, chunks, dtype=dtype, meta=meta)
