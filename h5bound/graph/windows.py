"""Which blocks are read between one open and its close: pure.

A life says how a source is opened and closed, blocks are those of one array, and a request is what a compute wants of
them. The requests of one life are cut into windows that fit into memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dask.typing import Key

    from h5bound.lifecycle.source import Source

    BlockIndex = tuple[int, ...]
    Chunks = tuple[tuple[int, ...], ...]  # sizes of the blocks along each axis


@dataclass(frozen=True, eq=False, slots=True)
class Lifecycle:
    """How a source is opened and closed: what all arrays of one open layer have in common."""

    name: str  # of the open layer, and of the open task of a graph that is not culled
    source: Source
    window: int  # bytes of blocks between one open and its close
    barrier: bool  # whether blocks wait for the close
    bound_to: Key | None = None  # a task that must have run before the open, from dask.graph_manipulation.bind


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """The blocks of one array, and how each is read."""

    name: str  # of the array: its output keys are (name, *index)
    lifecycle: Lifecycle
    chunks: Chunks  # in elements
    itemsize: int  # bytes of one element
    read: Callable[..., Any]  # gives a block from what `Source.reader` gives and the arguments
    arguments: Callable[[BlockIndex], tuple[Any, ...]]  # of ``read``, for the block at an index
    fetch: Callable[..., Any] | None = None  # as ``read``, or gives what ``finish`` turns into the block
    finish: Callable[[Any], Any] | None = None  # gives the block from what ``fetch`` gave, once the source is closed
    prefetch: Callable[[Any, list[tuple[Any, ...]]], None] | None = None  # is told the arguments of the reads to come

    @property
    def numblocks(self) -> BlockIndex:
        """Blocks along each axis."""
        return tuple(map(len, self.chunks))

    def indices(self) -> Iterator[BlockIndex]:
        """Give the index of every block, in C order."""
        return product(*map(range, self.numblocks))

    def nbytes(self, index: BlockIndex) -> int:
        """Bytes of one block in memory."""
        return self.itemsize * prod(sizes[i] for sizes, i in zip(self.chunks, index, strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class BlockRequest:
    """The blocks of one array that a compute needs, in C order."""

    blocks: Blocks
    indices: Sequence[BlockIndex]


def plan_windows(requests: Sequence[BlockRequest], lifecycle: Lifecycle) -> list[list[BlockRequest]]:
    """Cut requests into windows of at most ``life.window`` bytes, one block at the least; into one without a barrier.

    Arrays that are read together advance together, each block standing where it is in its own array, so that
    what combines the first blocks of two arrays finds them in one window.

    Examples
    --------
    Two arrays of four blocks of 8 bytes, in windows of 32 bytes, give two windows with two blocks of each:

    >>> life = Lifecycle("open-f", None, 32, True)
    >>> a, b = (Blocks(name, life, ((1,) * 4,), 8, None, None) for name in "ab")
    >>> requests = [BlockRequest(blocks, [(0,), (1,), (2,), (3,)]) for blocks in (a, b)]
    >>> windows = plan_windows(requests, life)
    >>> [[(part.blocks.name, part.indices) for part in parts] for parts in windows]
    [[('a', [(0,), (1,)]), ('b', [(0,), (1,)])], [('a', [(2,), (3,)]), ('b', [(2,), (3,)])]]
    """
    if not lifecycle.barrier:
        return [list(requests)]
    placed = sorted(
        ((position, order, index) for order, request in enumerate(requests) for position, index in _positions(request)),
        key=lambda place: place[:2],
    )
    blocks = [request.blocks for request in requests]
    windows: list[dict[int, list[BlockIndex]]] = []
    room = -1
    for _, order, index in placed:
        nbytes = blocks[order].nbytes(index)
        if not windows or nbytes > room:
            windows.append({})
            room = lifecycle.window
        windows[-1].setdefault(order, []).append(index)
        room -= nbytes
    return [[BlockRequest(blocks[order], indices) for order, indices in sorted(parts.items())] for parts in windows]


def _positions(request: BlockRequest) -> Iterator[tuple[float, BlockIndex]]:
    """Give each index with how far through its array it stands, 0 <= position < 1."""
    numblocks = request.blocks.numblocks
    total = prod(numblocks)
    strides = [total // count for count in accumulate(numblocks, mul)]
    for index in request.indices:
        yield sum(i * stride for i, stride in zip(index, strides, strict=True)) / total, index


def name_requests(lifecycle: Lifecycle, parts: Sequence[BlockRequest]) -> str:
    """Give a name for this set of blocks: equal sets, equal tokens."""
    digest = hashlib.blake2b(repr((lifecycle.name, lifecycle.bound_to)).encode(), digest_size=16)
    for part in parts:
        digest.update(part.blocks.name.encode())
        digest.update(np.array(part.indices, dtype=np.int64).tobytes())
    return digest.hexdigest()
