"""Encoded chunks between their reading and their writing, and the shards that are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from h5bound.buffers import Bytes


NO_CHUNK = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold (Zarr v3, sharding codec, section 3.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedChunks:
    """The encoded bytes of the chunks of a unit, end to end: an array for each would take 200 bytes more a chunk."""

    data: Bytes
    bounds: NDArray[np.int64]
    """Where each chunk starts in `data`, and where the last one ends."""

    @classmethod
    def allocate(cls, sizes: NDArray[np.int64]) -> EncodedChunks:
        """Return chunks of so many bytes each, to be filled.

        >>> chunks = EncodedChunks.allocate(np.array([2, 1]))
        >>> [chunk.size for chunk in chunks], chunks.bounds.tolist()
        ([2, 1], [0, 2, 3])
        """
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        return cls(np.empty(bounds[-1], np.uint8), bounds)

    def __iter__(self) -> Iterator[Bytes]:
        for start, stop in pairwise(self.bounds.tolist()):
            yield self.data[start:stop]

    def pack_shard(self, start: int, stop: int, positions: NDArray[np.int64], count: int) -> bytes:
        """Return a shard of some of the chunks, its index at the end with its checksum (Zarr v3, sharding codec).

        Parameters
        ----------
        start, stop
            Numbers of the chunks, half-open.
        positions
            Position of each in the shard, in C order.
        count
            Positions in a shard.
        """
        import google_crc32c

        bounds = self.bounds[start : stop + 1]
        index = np.full((count, 2), NO_CHUNK, dtype="<u8")
        index[positions, 0] = bounds[:-1] - bounds[0]
        index[positions, 1] = np.diff(bounds)
        table = index.tobytes()
        return b"".join([self.data[bounds[0] : bounds[-1]], table, google_crc32c.value(table).to_bytes(4, "little")])
