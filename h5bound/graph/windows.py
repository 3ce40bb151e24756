"""Plan which blocks are read between one open and its close, by pure functions.

A request is the blocks of one array that a compute needs. The requests of a lifecycle are split to fit into memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.utils import parse_bytes

from h5bound.errors import OptionError
from h5bound.graph.settings import DEFAULTS, count_pool_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dask.typing import Key

    from h5bound.lifecycle.session import Source

    BlockIndex = tuple[int, ...]
    BlockSizes = tuple[tuple[int, ...], ...]  # elements of the blocks along each axis, as `dask.array.Array.chunks`


@dataclass(frozen=True, eq=False, slots=True)
class Lifecycle:
    """The lifecycle of a source in a graph; arrays whose lifecycles have equal names share one open layer."""

    name: str  # of the open layer, and of the open task in a graph that is not culled
    source: Source
    window: int  # most bytes of blocks between one open and its close
    barrier: bool  # whether blocks wait for the close
    bound_to: Key | None = None  # task that must run before the open, from dask.graph_manipulation.bind
    default_window: bool = False  # whether nobody asked for this window, so that a share of it may do


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """The blocks of one array, and the functions that read them."""

    name: str  # of the array; its output keys are (name, *index)
    lifecycle: Lifecycle
    chunks: BlockSizes
    itemsize: int  # bytes of one element
    read: Callable[..., Any]  # returns a block, given the result of `Source.reader` and the arguments of the block
    arguments: Callable[[BlockIndex], tuple[Any, ...]]
    read_encoded: Callable[..., Any] | None = None  # like `read`, but returns the input of `decode`
    decode: Callable[[Any], Any] | None = None  # returns the block; called when the source is closed
    prefetch: Callable[[Any, list[tuple[Any, ...]]], None] | None = None  # takes the arguments of the reads to come

    def indices(self) -> Iterator[BlockIndex]:
        """Yield the index of every block, in C order."""
        return product(*(range(len(sizes)) for sizes in self.chunks))

    def nbytes(self, index: BlockIndex) -> int:
        """Return the bytes of one block in memory."""
        return self.itemsize * prod(sizes[i] for sizes, i in zip(self.chunks, index, strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class BlockRequest:
    """The blocks of one array that a compute needs, in C order."""

    blocks: Blocks
    indices: Sequence[BlockIndex]


WINDOWS = 16
"""Least number of windows of a compute where nobody asked for their size."""

MIN_WINDOW = 128 * 2**20
"""Bytes below which no window is made smaller then: each opens the source, and ends with fewer blocks in flight."""


def choose_window(lifecycle: Lifecycle, sizes: Sequence[int], shares: int = 1) -> int:
    """Return the bytes of a window of a compute that reads blocks of these bytes, of which `shares` sources have one.

    The memory of small windows is used again, and that of one large window comes from the system page by page: without
    filters that takes longer than to read. A large block is in them for each thread that the configuration tells of.

    >>> lifecycle = Lifecycle(name="open-f", source=None, window=2**30, barrier=True, default_window=True)
    >>> [choose_window(lifecycle, [10**6] * count) for count in (100, 10_000, 1_000_000)]
    [134217728, 625000000, 1073741824]
    """
    total, most = sum(sizes), lifecycle.window
    if lifecycle.default_window:
        most = min(most, max(total // WINDOWS, MIN_WINDOW))
    if total <= most:
        return most
    if not lifecycle.default_window:
        return most // shares
    threads = count_pool_threads(dask.config.get("pool", None) or dask.config.get("scheduler", None))
    return max(most // shares, min(lifecycle.window // shares, -(-threads // shares) * max(sizes)))


SHARES = 16
"""Most sources that share a window: each opens its source at most so many times as often as it would alone."""


def plan_windows(requests: Sequence[BlockRequest], lifecycle: Lifecycle, sources: int = 1) -> list[list[BlockRequest]]:
    """Split the requested blocks into windows of `choose_window` bytes at most, at least one block each.

    If they do not fit into one, they share its bytes with the other sources that the compute reads: what combines
    blocks of all of them has a window of each in memory. Without a barrier there is a single window. Arrays advance
    together, each by the position of a block in its own array: an operation on the first blocks of two arrays finds
    both in one window.

    Examples
    --------
    Two arrays of four blocks of 8 bytes, in windows of 32 bytes, give two windows with two blocks of each:

    >>> lifecycle = Lifecycle("open-f", source=None, window=32, barrier=True)
    >>> options = {"lifecycle": lifecycle, "chunks": ((1,) * 4,), "itemsize": 8, "read": None, "arguments": None}
    >>> requests = [BlockRequest(Blocks(name, **options), [(0,), (1,), (2,), (3,)]) for name in "ab"]
    >>> windows = plan_windows(requests, lifecycle)
    >>> [[(request.blocks.name, request.indices) for request in window] for window in windows]
    [[('a', [(0,), (1,)]), ('b', [(0,), (1,)])], [('a', [(2,), (3,)]), ('b', [(2,), (3,)])]]
    """
    if not lifecycle.barrier:
        return [list(requests)]
    placed = sorted(
        ((position, order, index) for order, request in enumerate(requests) for position, index in _positions(request)),
        key=lambda place: place[:2],
    )
    sizes = [requests[order].blocks.nbytes(index) for _, order, index in placed]
    most = choose_window(lifecycle, sizes, min(sources, SHARES))
    windows: list[dict[int, list[BlockIndex]]] = []
    room = -1
    for (_, order, index), nbytes in zip(placed, sizes, strict=True):
        if not windows or nbytes > room:
            windows.append({})
            room = most
        windows[-1].setdefault(order, []).append(index)
        room -= nbytes
    return [
        [BlockRequest(requests[order].blocks, indices) for order, indices in sorted(window.items())]
        for window in windows
    ]


def _positions(request: BlockRequest) -> Iterator[tuple[float, BlockIndex]]:
    """Yield each index with its position in its array, 0 <= position < 1."""
    numblocks = list(map(len, request.blocks.chunks))
    total = prod(numblocks)
    strides = [total // count for count in accumulate(numblocks, mul)]
    for index in request.indices:
        yield sum(i * stride for i, stride in zip(index, strides, strict=True)) / total, index


def name_requests(lifecycle: Lifecycle, requests: Sequence[BlockRequest]) -> str:
    """Return a token of these blocks: equal for equal sets."""
    digest = hashlib.blake2b(repr((lifecycle.name, lifecycle.bound_to)).encode(), digest_size=16)
    for request in requests:
        digest.update(request.blocks.name.encode())
        digest.update(np.array(request.indices, dtype=np.int64).tobytes())
    return digest.hexdigest()


def window_nbytes(window: object) -> int:
    """Return the bytes of a window: those passed, or those of the dask setting ``h5bound.window``."""
    if window is None:
        return parse_nbytes(dask.config.get("h5bound.window", DEFAULTS["window"]), "h5bound.window")
    return parse_nbytes(window, "window")


def parse_nbytes(value: object, option: str, *, least: int = 1) -> int:
    """Return a size in bytes; raise OptionError if the value is not a size, or less than `least` bytes.

    >>> parse_nbytes("64 MiB", "window")
    67108864
    """
    try:
        if isinstance(value, str):  # dask takes text without a number for 1
            nbytes = int(parse_bytes(value)) if any(map(str.isdecimal, value)) else -1
        else:
            nbytes = int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else -1
    except (ValueError, OverflowError):
        nbytes = -1
    if nbytes < least:
        raise OptionError(
            f"{option}={value!r} is not a size; pass a number of bytes, at least {least}, or text like '256 MiB'"
        )
    return nbytes
