"""Block shapes from stored chunks: pure."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from numbers import Integral
from typing import Any

import dask
import numpy as np
from dask.array.core import normalize_chunks
from dask.utils import parse_bytes

from h5bound.errors import OptionError, UnsafeSourceError

MAX_BLOCKS = 1_000_000


def plan_chunks(
    where: str, shape: tuple[int, ...], itemsize: int, stored: tuple[int, ...] | None, chunks: Any
) -> tuple[tuple[int, ...], ...]:
    """Give the sizes of the blocks along each axis, in elements.

    Parameters
    ----------
    where
        What to name in an error.
    shape
        Of the dataset.
    itemsize
        Bytes of one element.
    stored
        The shape of the stored chunks, None if the dataset is not stored in chunks. It may exceed the
        dataset's.
    chunks
        None for the stored chunks, or whatever `dask.array.from_array` takes.

    Raises
    ------
    UnsafeSourceError
        It would be more than 1,000,000 blocks: found before a list of them is made.

    Examples
    --------
    >>> plan_chunks("x", (10, 10), 8, (4, 20), None)
    ((4, 4, 2), (10,))
    >>> plan_chunks("x", (10, 10), 8, (4, 3), {0: "100 B", 1: 6})
    ((4, 4, 2), (6, 4))
    """
    if chunks is None:
        chunks = "auto" if stored is None else tuple(map(_clip, stored, shape))
    wanted = _by_axis(where, chunks, shape)
    if isinstance(chunks, dict):
        chunks = tuple(wanted)
    if 0 in shape and any(isinstance(want, str) for want in wanted):  # dask would divide by the bytes of nothing
        chunks = wanted = [-1 if isinstance(want, str) else want for want in wanted]
    limit = _automatic_size(wanted, shape, itemsize, stored)
    count = prod(map(_least_blocks, wanted, shape))
    if limit is not None:
        count = max(count, prod(shape) // (2 * limit))
    if count <= MAX_BLOCKS:
        sizes = _normalize(chunks, wanted, shape, limit, stored)
        count = prod(map(len, sizes))
        if count <= MAX_BLOCKS:
            return sizes
    raise UnsafeSourceError(
        f"{where}: {count:,} blocks of chunks={chunks!r} are more than the {MAX_BLOCKS:,} that a graph can hold; "
        'use chunks="auto" or larger chunks'
    )


def _normalize(
    chunks: Any, wanted: list[Any], shape: tuple[int, ...], limit: int | None, stored: tuple[int, ...] | None
) -> tuple[tuple[int, ...], ...]:
    if limit is not None:
        chunks = tuple("auto" if isinstance(want, str) else want for want in wanted)
    previous = None if stored is None else tuple(map(_clip, stored, shape))
    sizes: list[tuple[int, ...]] = list(
        normalize_chunks(chunks, shape, limit=limit, dtype=np.dtype("V1"), previous_chunks=previous)
    )
    for axis, want in enumerate(wanted):
        if stored is not None and isinstance(want, str):
            whole = max(sizes[axis][0] // stored[axis], 1) * stored[axis]
            sizes[axis] = _cut(shape[axis], whole)
    return tuple(sizes)


def _automatic_size(
    wanted: list[Any], shape: tuple[int, ...], itemsize: int, stored: tuple[int, ...] | None
) -> int | None:
    """Give the elements that a block of automatic size may have, at least one stored chunk; None if none is wanted."""
    texts = [want for want in wanted if isinstance(want, str)]
    if not texts:
        return None
    texts = [text for text in texts if text != "auto"] or [dask.config.get("array.chunk-size")]
    least = prod(
        _largest(want, length) if not isinstance(want, str) else stored[axis] if stored else 1
        for axis, (want, length) in enumerate(zip(wanted, shape, strict=True))
    )
    limit: int = min(map(parse_bytes, texts))
    return max(limit // max(itemsize, 1), least, 1)


def _largest(want: Any, length: int) -> int:
    """Give the elements of the largest block along an axis."""
    if isinstance(want, (tuple, list)):
        return max(want, default=1)
    return max(length if want in (None, -1) else min(int(want), length), 1)


def _clip(size: int, length: int) -> int:
    return max(min(size, length), 1)


def _cut(length: int, size: int) -> tuple[int, ...]:
    """Cut an axis into pieces of one size and a rest.

    >>> _cut(10, 4), _cut(0, 4)
    ((4, 4, 2), (0,))
    """
    whole, rest = divmod(length, size)
    return (size,) * whole + ((rest,) if rest or not whole else ())


def _by_axis(where: str, chunks: Any, shape: tuple[int, ...]) -> list[Any]:
    """Give what is wanted along each axis.

    Raises
    ------
    OptionError
        It is wanted of an axis that is not there, or is no size.
    """
    ndim = len(shape)
    wanted = [chunks] * ndim
    if isinstance(chunks, dict):
        unknown = chunks.keys() - set(range(-ndim, ndim))
        if unknown:
            raise OptionError(f"{where}: chunks={chunks!r}: no such axes, {sorted(map(str, unknown))}; it has {ndim}")
        wanted = [chunks.get(axis, chunks.get(axis - ndim)) for axis in range(ndim)]
    elif isinstance(chunks, (tuple, list)):
        wanted = list(chunks) if len(chunks) == ndim else [None] * ndim
    for want, length in zip(wanted, shape, strict=True):
        if isinstance(want, Integral) and int(want) < min(length, 1) and want != -1:
            raise OptionError(f"{where}: chunks={chunks!r}: a size is at least 1, or -1 for the whole axis")
    return wanted


def _least_blocks(want: Any, length: int) -> int:
    """Count the blocks along an axis at the least, without listing them."""
    if isinstance(want, Integral) and int(want) > 0:
        return max(-(-length // int(want)), 1)
    return len(want) if isinstance(want, (tuple, list)) else 1


def block_bounds(chunks: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Give where the blocks start and stop along each axis, in elements: one more than blocks.

    >>> block_bounds(((4, 4, 2), (10,)))
    ((0, 4, 8, 10), (0, 10))
    """
    return tuple(tuple(accumulate(sizes, initial=0)) for sizes in chunks)
