"""Any object with ``open`` and ``close`` as a dask array that opens and closes it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import numpy as np
from dask.base import tokenize
from dask.utils import has_keyword

from h5bound.graph.block_shapes import block_bounds
from h5bound.graph.collection import make_dask_array, make_lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import dask.array as da
    from numpy.typing import DTypeLike

    from h5bound.graph.windows import BlockIndex, Chunks


class ObjectSource:
    """Any object with ``open()`` and ``close()``, and the function that reads from it.

    Both travel in one pickle, so that a bound method goes on belonging to its object.
    """

    __slots__ = ("read", "resource")
    exclusive: ClassVar[bool] = True

    def __init__(self, resource: Any, read: Callable[..., Any]) -> None:
        self.resource = resource
        self.read = read

    @property
    def key(self) -> Hashable:
        """One for each object of this process: a session keeps the object, so that its id stays its own."""
        return id(self.resource)

    def open(self) -> None:
        """Open the object."""
        self.resource.open()

    def reader(self, opened: None) -> Callable[..., Any]:
        """Give the function that reads from it."""
        return self.read

    def check(self, opened: None) -> None:
        """Nothing is known of what may change in it."""

    def close(self, opened: None) -> None:
        """Close the object."""
        self.resource.close()


def from_resource(
    resource: Any,
    read: Callable[..., Any],
    *,
    chunks: Any,
    dtype: DTypeLike,
    window: int | str | None = None,
    barrier: bool = True,
) -> da.Array:
    """Give a dask array whose blocks are read from an object that is open only while they are.

    Parameters
    ----------
    resource
        Any object with ``open()`` and ``close()``. Computes that overlap share it: it is opened by the first
        and closed by the last. Pickled to another process it is a copy, opened and closed there. Arrays of an
        object that defines ``__dask_tokenize__`` have equal keys for equal tokens; of any other, each has its own.
    read
        Called once for each block that is needed, between ``open`` and ``close``, in several threads at once,
        with those of the keywords ``block_id`` and ``block_info`` that its signature takes, as
        `dask.array.map_blocks` gives them. Gives the block. It travels in one pickle with the resource, so it
        may be a method of it.
    chunks
        The sizes of the blocks along each axis, like ``((2, 2), (3,))``; a plain number is one block.
    dtype
        Of the blocks.
    window, barrier
        As for `from_hdf5`.

    Returns
    -------
    dask.array.Array
        Of the shape that ``chunks`` add up to.

    Examples
    --------
    >>> class Counter:
    ...     def open(self): print("open")
    ...     def close(self): print("close")
    ...     def block(self, block_id): return np.full((1,), block_id[0])
    >>> counter = Counter()
    >>> array = from_resource(counter, counter.block, chunks=((1, 1, 1),), dtype="int64")
    >>> array[1:].compute(scheduler="sync")
    open
    close
    array([1, 2])
    """
    if not (hasattr(resource, "open") and hasattr(resource, "close") and callable(read)):
        raise TypeError(f"{resource!r} needs open() and close(), and {read!r} must be callable")
    grid = _explicit_chunks(chunks)
    kind = np.dtype(dtype)
    # To tokenize any other object would be to pickle and load it, which is not ours to do unasked.
    known = hasattr(resource, "__dask_tokenize__")
    token = tokenize(resource, read, grid, kind) if known else uuid4().hex
    keywords = tuple(keyword for keyword in ("block_id", "block_info") if has_keyword(read, keyword))
    lifecycle = make_lifecycle(ObjectSource(resource, read), window, barrier=barrier, token=token)
    return make_dask_array(
        lifecycle, token, _BlockKeywords(grid, block_bounds(grid), kind, keywords), read_by_keywords, grid, kind
    )


def read_by_keywords(read: Callable[..., Any], keywords: dict[str, Any]) -> Any:
    """Give a block of a resource."""
    return read(**keywords)


@dataclass(frozen=True, slots=True)
class _BlockKeywords:
    """The arguments of `read_by_keywords` for a block, with the fields of `dask.array.map_blocks`."""

    chunks: Chunks
    bounds: Chunks
    """where they start and stop along each axis, one more than blocks"""
    dtype: np.dtype[Any]
    keywords: tuple[str, ...]

    def __call__(self, at: BlockIndex) -> tuple[dict[str, Any]]:
        values = {"block_id": at, "block_info": self._info(at) if "block_info" in self.keywords else None}
        return ({keyword: values[keyword] for keyword in self.keywords},)

    def _info(self, at: BlockIndex) -> dict[None, dict[str, Any]]:
        place = [(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, at, strict=True)]
        return {
            None: {
                "shape": tuple(stops[-1] for stops in self.bounds),
                "num-chunks": tuple(map(len, self.chunks)),
                "array-location": place,
                "chunk-shape": tuple(stop - start for start, stop in place),
                "chunk-location": at,
                "dtype": self.dtype,
            }
        }


def _explicit_chunks(chunks: Any) -> Chunks:
    """Give the sizes of blocks that are spelled out, a plain number being one block."""
    try:
        grid = tuple((index(axis),) if hasattr(axis, "__index__") else tuple(map(index, axis)) for axis in chunks)
    except TypeError as error:
        raise ValueError(
            f"chunks={chunks!r}: give the sizes of the blocks along each axis, like ((2, 2), (3,))"
        ) from error
    if not all(sizes and min(sizes) >= 0 for sizes in grid):
        raise ValueError(f"chunks={chunks!r}: each axis needs sizes of 0 or more")
    return grid
