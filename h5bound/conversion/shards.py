"""Stored chunks in memory between their reading and their writing: small ones in one piece, not an object each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]


SMALL_NBYTES = 16 << 10
"""Chunks of fewer bytes are put together: an array has about 200 beside its data."""

AT_ONCE = 1024
"""Chunks that are arrays of their own at the same time, while they are put together."""

NO_CHUNK = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold (Zarr v3, sharding codec, section 3.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Chunks one after another."""

    pieces: Sequence[Bytes]
    """one for all chunks, or one for each"""
    bounds: NDArray[np.int64]
    """where each chunk starts when all are put together, and where the last one ends"""

    @classmethod
    def of(cls, parts: Iterable[Bytes], *, small: bool) -> Packed:
        r"""Take up chunks, and put them together if they are small.

        Examples
        --------
        >>> parts = [np.array([1, 2], np.uint8), np.array([3], np.uint8)]
        >>> packed = Packed.of(parts, small=True)
        >>> len(packed.pieces), list(map(bytes, packed))
        (1, [b'\x01\x02', b'\x03'])
        """
        rest = iter(parts)
        sizes = [np.zeros(1, np.int64)]
        pieces: list[Bytes] = []
        while batch := list(islice(rest, AT_ONCE)):
            sizes.append(np.array([part.size for part in batch], np.int64))
            pieces += [np.concatenate(batch)] if small else batch
        bounds = np.cumsum(np.concatenate(sizes))
        return cls([np.concatenate(pieces)] if small and pieces else pieces, bounds)

    def __iter__(self) -> Iterator[memoryview]:
        if len(self.pieces) == len(self.bounds) - 1:
            yield from (memoryview(piece) for piece in self.pieces)
            return
        data = memoryview(self.pieces[0])
        for start, stop in pairwise(map(int, self.bounds)):
            yield data[start:stop]

    def take(self, start: int, stop: int) -> tuple[Sequence[Bytes], NDArray[np.int64]]:
        """Give the bytes of a run of chunks in order, and how many each of them has."""
        sizes = np.diff(self.bounds[start : stop + 1])
        if len(self.pieces) == len(self.bounds) - 1:
            return self.pieces[start:stop], sizes
        return [self.pieces[0][self.bounds[start] : self.bounds[stop]]], sizes


def pack_shard(
    parts: Sequence[NDArray[np.uint8]], sizes: NDArray[np.int64], places: NDArray[np.int64], count: int
) -> bytes:
    """Give a shard of encoded inner chunks, its index at the end with its checksum (Zarr v3, sharding codec).

    Parameters
    ----------
    parts
        The bytes of the chunks, one chunk after another.
    sizes
        How many bytes each chunk has.
    places
        Its position in C order within the shard.
    count
        Positions in a shard.
    """
    import google_crc32c

    index = np.full((count, 2), NO_CHUNK, dtype="<u8")
    index[places, 0] = np.cumsum(sizes) - sizes
    index[places, 1] = sizes
    table = index.tobytes()
    return b"".join([*parts, table, google_crc32c.value(table).to_bytes(4, "little")])
