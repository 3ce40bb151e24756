"""Choose block sizes from the chunk shape and the ``chunks`` option, by pure functions."""

from __future__ import annotations

from contextlib import suppress
from itertools import accumulate
from math import isqrt, prod
from numbers import Integral
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.array.core import normalize_chunks
from dask.utils import parse_bytes

from h5bound.chunk_grid import count_chunks
from h5bound.errors import OptionError, UnsafeSourceError
from h5bound.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BLOCKS = 1_000_000

DEFAULT_NBYTES = 32 * 2**20
"""Most bytes of a block by default. Larger ones are hardly faster (`docs/benchmarks.md`); each thread holds some."""

BALANCE_NBYTES = 512 * 2**10
"""What one core reads and decodes in the half millisecond that dask spends on a block; 0.25 to 0.8 MB by filter."""

BLOCK_CHUNKS = 100_000
"""Most chunks of a block by default. Chunks that were never written take no bytes, but HDF5 takes time for each."""

MAX_SHOWN = 100
"""Characters of the option in an error."""


def plan_block_sizes(
    shape: tuple[int, ...],
    chunks: Any,
    *,
    itemsize: int,
    chunk_shape: tuple[int, ...] | None,
    subject: str,
    total: int | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the blocks along each axis, in elements.

    `chunks` is the option: None for `plan_default_shape`, or "auto" if the dataset is not chunked; ``{}`` for one block
    per chunk, or one block if the dataset is not chunked; or anything that `dask.array.from_array` takes. Chunks of
    HDF5 (`chunk_shape`) may exceed the dataset. `total` is the number of elements of all datasets that are read
    together, by default those of this one. `subject` names the dataset and its file in errors. Raise OptionError
    for other values, and UnsafeSourceError, before a list of blocks is made, if there would be more than 1,000,000.

    >>> plan_block_sizes((10, 10), {}, itemsize=8, chunk_shape=(4, 20), subject="x")
    ((4, 4, 2), (10,))
    >>> plan_block_sizes((10, 10), {0: "100 B", 1: 6}, itemsize=8, chunk_shape=(4, 3), subject="x")
    ((4, 4, 2), (6, 4))
    """
    previous = chunk_shape and tuple(max(min(size, length), 1) for size, length in zip(chunk_shape, shape, strict=True))
    requested = chunks
    if chunks is None:
        requested = plan_default_shape(shape, previous, itemsize, total=total) if previous else "auto"
    elif isinstance(chunks, dict) and not chunks:
        requested = previous or -1
    wanted = _by_axis(shape, requested, subject)
    if 0 in shape:  # dask would divide by zero
        wanted = [-1 if isinstance(want, str) else want for want in wanted]
    limit = _automatic_size(wanted, shape, itemsize=itemsize, chunk_shape=chunk_shape)
    count = prod(map(_least_blocks, wanted, shape))
    if limit is not None:
        count = max(count, prod(shape) // (2 * limit))
    check_count(count, requested, subject)
    sizes = _normalize(wanted, shape, limit=limit, previous=previous)
    check_count(prod(map(len, sizes)), requested, subject)
    return sizes


def check_count(count: int, chunks: Any, subject: str) -> None:
    """Raise UnsafeSourceError if there are more blocks than a graph can hold."""
    if count > MAX_BLOCKS:
        raise UnsafeSourceError(
            f"{subject}: chunks={shorten(chunks)} gives {count:,} blocks, more than the {MAX_BLOCKS:,} that a "
            'graph can hold; use chunks="auto" or larger chunks'
        )


def plan_joined_sizes(
    shape: tuple[int, ...],
    chunks: Any,
    *,
    axis: int,
    lengths: Sequence[int],
    itemsize: int,
    chunk_shape: tuple[int, ...] | None,
    subject: str,
) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of blocks of datasets that are joined along an axis; none of them spans two datasets.

    `shape` is that of all together, `lengths` are theirs along the axis. `chunks` is the option of `plan_block_sizes`:
    sizes along the axis begin anew in each dataset, and a list of sizes has to end where a dataset ends. Raise the
    errors of `plan_block_sizes`.

    >>> plan_joined_sizes((9, 4), (3, 2), axis=0, lengths=(5, 0, 4), itemsize=1, chunk_shape=None, subject="x")
    ((3, 2, 3, 1), (2, 2))
    """
    wanted = _by_axis(shape, chunks, subject)
    requested, listed = chunks, wanted[axis] if isinstance(wanted[axis], (tuple, list)) else None
    if listed is not None:
        missing = set(accumulate(lengths)) - set(accumulate(listed, initial=0))
        if missing:
            raise OptionError(
                f"{subject}: chunks={shorten(chunks)}: no block ends at {min(missing)} of axis {axis}, where a file "
                "ends, and blocks do not span files; pass one size, or rechunk the array"
            )
        wanted[axis] = max(listed, default=1)
    if chunks is not None and chunks != {}:
        requested = tuple(min(want, max(lengths)) if _is_size(want) else want for want in wanted)
    longest = (*shape[:axis], max(lengths), *shape[axis + 1 :])
    sizes = plan_block_sizes(
        longest, requested, itemsize=itemsize, chunk_shape=chunk_shape, subject=subject, total=prod(shape)
    )
    size = max(sizes[axis])
    count = len(listed) if listed is not None else sum(-(-length // max(size, 1)) for length in lengths)
    check_count(count * prod(map(len, sizes)) // max(len(sizes[axis]), 1), chunks, subject)
    along = listed
    if along is None:
        along = [min(size, length - start) for length in lengths for start in range(0, length, max(size, 1))] or [0]
    return (*sizes[:axis], tuple(along), *sizes[axis + 1 :])


def plan_default_shape(
    shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int, *, total: int | None = None
) -> tuple[int, ...]:
    """Return the shape of the blocks by default: whole multiples of chunks, not larger than they need to be.

    Many blocks share the work out to many cores, but dask takes its time for them one after another. Together that is
    least with blocks of the square root of BALANCE_NBYTES times the bytes of all. The number of cores here has no part
    in it: the same file gives the same blocks everywhere.

    Chunks of 100 kB, as h5py chooses them, in 419 MB: 36 blocks; and chunks of 1 MiB in 419 GB:

    >>> plan_default_shape((400, 512, 512), (25, 32, 32), 4), plan_default_shape((400_000, 512, 512), (1, 512, 512), 4)
    ((100, 192, 192), (32, 512, 512))
    """
    if 0 in shape:
        return tuple(max(length, 1) for length in shape)
    itemsize = max(itemsize, 1)
    nbytes = min(isqrt(BALANCE_NBYTES * (total or prod(shape)) * itemsize), DEFAULT_NBYTES)
    return grow_chunks(shape, chunks, min(nbytes // itemsize, BLOCK_CHUNKS * prod(chunks)))


def grow_chunks(shape: tuple[int, ...], chunks: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return a shape of whole multiples of chunks with at most ``size`` elements, at least one chunk.

    All axes grow by the same factor until one is whole, and blocks along an axis are of one size if possible.

    >>> grow_chunks((400, 512, 512), (25, 32, 32), 2**20), grow_chunks((10, 4), (1, 4), 36)
    ((75, 96, 128), (5, 4))
    """
    room = size // prod(chunks)
    counts = count_chunks(shape, chunks)
    block = list(shape)
    for done, axis in enumerate(sorted(range(len(shape)), key=counts.__getitem__)):
        most = max(int(room ** (1 / (len(shape) - done)) + 1e-9), 1)
        multiple = -(-counts[axis] // -(-counts[axis] // most))
        block[axis] = min(multiple * chunks[axis], shape[axis])
        room //= multiple
    return tuple(block)


def _normalize(
    wanted: list[Any], shape: tuple[int, ...], *, limit: int | None, previous: tuple[int, ...] | None
) -> tuple[tuple[int, ...], ...]:
    chunks = tuple("auto" if isinstance(want, str) else want for want in wanted)
    sizes = list(normalize_chunks(chunks, shape, limit=limit, dtype=np.dtype("V1"), previous_chunks=previous))
    for axis, want in enumerate(wanted):
        if previous is not None and isinstance(want, str):
            size = max(sizes[axis][0] // previous[axis], 1) * previous[axis]
            whole, rest = divmod(shape[axis], size)
            sizes[axis] = (size,) * whole + ((rest,) if rest else ())
    return tuple(sizes)


def _automatic_size(
    wanted: list[Any], shape: tuple[int, ...], *, itemsize: int, chunk_shape: tuple[int, ...] | None
) -> int | None:
    """Return the elements that a block of automatic size may have, at least one chunk; None if no axis is automatic."""
    texts = [want for want in wanted if isinstance(want, str)]
    if not texts:
        return None
    texts = [text for text in texts if text != "auto"] or [dask.config.get("array.chunk-size")]
    least = prod(
        _largest(want, length) if not isinstance(want, str) else chunk_shape[axis] if chunk_shape else 1
        for axis, (want, length) in enumerate(zip(wanted, shape, strict=True))
    )
    limit: int = min(map(parse_bytes, texts))
    return max(limit // max(itemsize, 1), least, 1)


def _largest(want: Any, length: int) -> int:
    """Return the elements of the largest block along an axis."""
    if isinstance(want, (tuple, list)):
        return max(want, default=1)
    return max(length if want in (None, -1) else min(int(want), length), 1)


def _by_axis(shape: tuple[int, ...], chunks: Any, subject: str) -> list[Any]:
    """Return the option for each axis; raise OptionError if it names other axes, or has a value that is not a size."""
    ndim = len(shape)
    problem = None
    wanted = [chunks] * ndim
    if isinstance(chunks, dict):
        unknown = ", ".join(sorted(map(repr, chunks.keys() - set(range(-ndim, ndim)))))
        problem = f"there is no axis {unknown} in the shape {shape}, and axes are numbers" if unknown else None
        wanted = [chunks.get(axis, chunks.get(axis - ndim)) for axis in range(ndim)]
    elif isinstance(chunks, (tuple, list)):
        explicit = ndim == 1 < len(chunks) and all(map(_is_size, chunks))
        wanted = [chunks] if explicit else list(chunks)
        if ndim and len(wanted) != ndim:  # a scalar takes whatever the other datasets of its file have
            problem = f"there are sizes for {len(wanted)} axes, and the shape is {shape}"
    else:
        problem = None if shape else _find_problem(chunks, 1)
    problem = problem or next(filter(None, map(_find_problem, wanted, shape)), None)
    if problem is not None:
        raise OptionError(
            f"{subject}: chunks={shorten(chunks)}: {problem}; pass elements along each axis, as (64, 512) or {{0: 64}}"
            ", -1 for a whole axis, a size like '64 MiB', 'auto', or {} for the stored chunks"
        )
    pairs = zip(wanted, shape, strict=False)
    return [min(int(want), max(length, 1)) if _is_size(want) else want for want, length in pairs]


def _find_problem(want: Any, length: int) -> str | None:
    """Return what is wrong with the option for an axis, None if dask takes it."""
    if want is None:
        return None
    if isinstance(want, str):
        with suppress(ValueError):
            if want == "auto" or (want[-1:].isalpha() and parse_bytes(want) >= 1):
                return None
        return f"{want!r} is not a size in bytes"
    if isinstance(want, (tuple, list)):
        if not all(_is_size(size) and size >= 0 for size in want):
            return f"{shorten(want)} are not sizes of blocks"
        return None if sum(want) == length else f"the blocks {shorten(want)} add up to {sum(want)}, not to {length}"
    if _is_size(want) and (want == -1 or want >= min(length, 1)):
        return None
    return f"{want!r} is neither 1 or more, nor -1 for the whole axis"


def shorten(value: object) -> str:
    """Return the repr of a value, without the middle of a long one."""
    return cut(repr(value), MAX_SHOWN)


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _least_blocks(want: Any, length: int) -> int:
    """Return a lower bound of the number of blocks along an axis, without a list of them."""
    if isinstance(want, Integral) and int(want) > 0:
        return max(-(-length // int(want)), 1)
    return len(want) if isinstance(want, (tuple, list)) else 1


def block_bounds(chunks: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return the bounds of the blocks along each axis, in elements: one more than there are blocks.

    >>> block_bounds(((4, 4, 2), (10,)))
    ((0, 4, 8, 10), (0, 10))
    """
    return tuple(tuple(accumulate(sizes, initial=0)) for sizes in chunks)
