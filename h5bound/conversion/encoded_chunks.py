"""Encoded chunks as they are between a read and a write: end to end, or packed into a shard."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import new_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from h5bound.buffers import Bytes

NO_CHUNK = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold (Zarr v3, sharding codec, section 3.2)."""


class EncodedChunks:
    """The encoded bytes of the chunks of a unit, end to end: an array for each would take 200 bytes more a chunk.

    >>> chunks = EncodedChunks(np.array([2, 1]))
    >>> [chunk.size for chunk in chunks], chunks.bounds.tolist()
    ([2, 1], [0, 2, 3])
    """

    def __init__(self, sizes: NDArray[np.int64], data: Bytes | None = None) -> None:
        self.bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])  # start of each, and end of the last
        self.data = new_bytes(int(self.bounds[-1])) if data is None else data

    def cut(self, start: int, stop: int) -> EncodedChunks:
        """Return some of the chunks, as a view."""
        bounds = self.bounds[start : stop + 1]
        return EncodedChunks(np.diff(bounds), self.data[bounds[0] : bounds[-1]])

    def __iter__(self) -> Iterator[Bytes]:
        for start, stop in pairwise(self.bounds.tolist()):
            yield self.data[start:stop]


def pack_shard(
    parts: Sequence[Bytes | bytes], sizes: NDArray[np.int64], *, positions: NDArray[np.int64], count: int
) -> bytes:
    """Return a shard of encoded chunks, which are end to end in `parts`, followed by its index and checksum.

    `sizes` has the bytes of each chunk, `positions` its place in C order; `count` is the number of places in a shard.
    """
    import google_crc32c  # zarr brings it; numcodecs before 0.16.2 has no CRC32C with it

    index = np.full((count, 2), NO_CHUNK, dtype="<u8")
    index[positions, 0] = np.cumsum(sizes) - sizes
    index[positions, 1] = sizes
    table = index.tobytes()
    return b"".join([*parts, table, google_crc32c.value(table).to_bytes(4, "little")])
