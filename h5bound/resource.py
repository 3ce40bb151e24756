"""Any object with ``open`` and ``close`` as a dask array that opens and closes it."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from operator import index
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from dask.base import tokenize

from h5bound.errors import OptionError, shorten_tracebacks
from h5bound.graph.block_shapes import block_bounds
from h5bound.graph.collection import make_dask_array, make_lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import dask.array as da
    from numpy.typing import DTypeLike

    from h5bound.graph.windows import BlockIndex, BlockSizes


@shorten_tracebacks
def from_resource(
    resource: Any,
    read: Callable[..., Any],
    *,
    chunks: Any,
    dtype: DTypeLike,
    window: int | str | None = None,
    barrier: bool = True,
) -> da.Array:
    """Return a dask array whose blocks are read from an object that is open only while they are read.

    Each compute opens the object, reads the blocks that it needs, and closes the object before any
    downstream task runs.

    Parameters
    ----------
    resource
        Any object with ``open()`` and ``close()``. Computes that overlap share the object: the first opens it, the last
        closes it. In another process it is a pickled copy, which is opened and closed there. If the object defines
        ``__dask_tokenize__``, arrays with equal tokens have equal keys; else each array has its own keys.
    read
        Function that returns a block. It is called once for each block that is needed, between ``open`` and ``close``,
        in several threads at once, with those of the keywords ``block_id`` and ``block_info`` that its signature takes
        (both for ``**kwargs``), as `dask.array.map_blocks` passes them. It is pickled together with the resource, so it
        may be its method.
    chunks
        Sizes of the blocks along each axis, such as ``((2, 2), (3,))``. A plain number is one block.
    dtype
        Data type of the blocks.
    window, barrier
        See `from_hdf5`.

    Returns
    -------
    dask.array.Array
        The shape is the sum of `chunks` along each axis.

    Raises
    ------
    TypeError
        If `resource` has no ``open`` or no ``close``, or `read` is not callable.
    OptionError
        If `chunks` or `window` have no valid value.

    Examples
    --------
    >>> class Instrument:
    ...     def open(self): print("open")
    ...     def close(self): print("close")
    ...     def block(self, block_id): return np.full((1,), block_id[0])
    >>> instrument = Instrument()
    >>> array = from_resource(instrument, instrument.block, chunks=((1, 1, 1),), dtype="int64")
    >>> array[1:].compute(scheduler="sync")
    open
    close
    array([1, 2])
    """
    if not (hasattr(resource, "open") and hasattr(resource, "close")):
        raise TypeError(f"the resource {resource!r} needs the methods open() and close()")
    if not callable(read):
        raise TypeError(f"read must be a function, not {read!r}")
    sizes = _check_sizes(chunks)
    dtype = np.dtype(dtype)
    # dask would pickle an object without a token of its own to tokenize it; a resource may not allow that.
    has_token = hasattr(resource, "__dask_tokenize__")
    token = tokenize(resource, read, sizes, dtype) if has_token else uuid4().hex
    return make_dask_array(
        make_lifecycle(ObjectSource(resource, read), window, barrier=barrier, token=token),
        token,
        chunks=sizes,
        dtype=dtype,
        read=read_by_keywords,
        arguments=_BlockKeywords(chunks=sizes, bounds=block_bounds(sizes), dtype=dtype, keywords=_list_keywords(read)),
    )


def _check_sizes(chunks: Any) -> BlockSizes:
    """Return the sizes of the blocks along each axis as integers."""
    try:
        sizes = tuple((index(axis),) if hasattr(axis, "__index__") else tuple(map(index, axis)) for axis in chunks)
    except TypeError as error:
        raise OptionError(
            f"chunks={chunks!r}: give the sizes of the blocks along each axis, like ((2, 2), (3,))"
        ) from error
    if not all(axis and min(axis) >= 0 for axis in sizes):
        raise OptionError(f"chunks={chunks!r}: each axis needs at least one size, and all of them 0 or more")
    return sizes


def _list_keywords(read: Callable[..., Any]) -> tuple[str, ...]:
    """Return which keywords of a block a function takes; dask does not count ``**kwargs``."""
    try:
        parameters = signature(read).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return ()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = {parameter.name for parameter in parameters}
    return tuple(keyword for keyword in ("block_id", "block_info") if takes_all or keyword in names)


@dataclass(frozen=True, eq=False)
class ObjectSource:
    """An object with ``open()`` and ``close()``, and the function that reads from it.

    Both are in one pickle: a bound method still belongs to its object afterwards.
    """

    resource: Any
    read: Callable[..., Any]
    exclusive = True

    @property
    def key(self) -> Hashable:
        """The id of the object, which a session keeps alive."""
        return id(self.resource)

    def open(self) -> None:
        """Open the object."""
        self.resource.open()

    def reader(self, opened: None) -> Callable[..., Any]:
        """Return the function that reads from the object."""
        return self.read

    def check(self, opened: None) -> None:
        """Do nothing: changes of the object cannot be noticed."""

    def close(self, opened: None) -> None:
        """Close the object."""
        self.resource.close()


def read_by_keywords(read: Callable[..., Any], keywords: dict[str, Any]) -> Any:
    """Return a block of a resource."""
    return read(**keywords)


@dataclass(frozen=True, slots=True)
class _BlockKeywords:
    """The arguments of `read_by_keywords` for a block, as `dask.array.map_blocks` has them."""

    chunks: BlockSizes
    bounds: BlockSizes  # where the blocks start and stop along each axis, one more than blocks
    dtype: np.dtype[Any]
    keywords: tuple[str, ...]

    def __call__(self, block_id: BlockIndex) -> tuple[dict[str, Any]]:
        location = [(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, block_id, strict=True)]
        info = {
            "shape": tuple(stops[-1] for stops in self.bounds),
            "num-chunks": tuple(map(len, self.chunks)),
            "array-location": location,
            "chunk-shape": tuple(stop - start for start, stop in location),
            "chunk-location": block_id,
            "dtype": self.dtype,
        }
        values = {"block_id": block_id, "block_info": {None: info}}
        return ({keyword: values[keyword] for keyword in self.keywords},)
