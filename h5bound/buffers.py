"""Plain buffers that are read and decoded into, and the regions and blocks that arrays are cut into."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
"""A one-dimensional array of bytes."""

Rows: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""The bytes of one chunk, or a row of bytes for each of several."""

Block: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

Region: TypeAlias = tuple[slice, ...]
"""A slice for each axis with 0 <= start <= stop <= extent and no step."""


class DamagedError(Exception):
    """Encoded bytes do not decode to the declared size; the reader adds the name of the chunk."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Bytes of several chunks, which are pieces of one buffer in any order."""

    source: Bytes
    starts: NDArray[np.int64]
    """Offset of each piece in the buffer."""
    sizes: NDArray[np.int64]
    """Bytes of each piece."""

    def __iter__(self) -> Iterator[Bytes]:
        """Yield the pieces."""
        source = self.source
        return (source[a:b] for a, b in zip(self.starts.tolist(), (self.starts + self.sizes).tolist(), strict=True))

    def __len__(self) -> int:
        return self.sizes.size

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Return the rows of a C-contiguous array as pieces."""
        count, nbytes = rows.shape
        return cls(
            source=rows.reshape(-1), starts=np.arange(0, count * nbytes, nbytes), sizes=np.full(count, nbytes, np.int64)
        )

    @classmethod
    def copy_of(cls, parts: Sequence[Bytes]) -> Self:
        """Return arrays as pieces."""
        sizes = np.fromiter((part.size for part in parts), np.int64, len(parts))
        return cls(source=np.concatenate(parts), starts=np.cumsum(sizes) - sizes, sizes=sizes)

    def join(self) -> Bytes:
        """Return all bytes one after another, as a view if they are so."""
        if (self.starts[:-1] + self.sizes[:-1] == self.starts[1:]).all():
            return self.source[int(self.starts[0]) : int(self.starts[-1] + self.sizes[-1])]
        return np.concatenate(list(self))

    def rows(self, nbytes: int, *, head: bool = False) -> Rows:
        """Return pieces of so many bytes in a row each, or their first bytes (`head`).

        Raise DamagedError if a piece has another size, or is shorter than its head.
        """
        wrong = self.sizes < nbytes if head else self.sizes != nbytes
        if wrong.any():
            raise DamagedError(f"{self.sizes[wrong][0]} bytes where {nbytes} are declared")
        step = int(self.starts[1] - self.starts[0]) if len(self) > 1 else nbytes
        if step > 0 and (np.diff(self.starts) == step).all():
            shape, start = (len(self), nbytes), int(self.starts[0])
            return np.ndarray(shape, np.uint8, self.source, start, (step, 1))
        return np.ndarray((self.source.size - nbytes + 1, nbytes), np.uint8, self.source, 0, (1, 1))[self.starts]


def past_end(offset: int, nbytes: int, end: int) -> DamagedError:
    """Return the error for bytes that a file does not have."""
    return DamagedError(
        f"its {nbytes:,} bytes at offset {offset:,} extend past the end of the file ({end:,} bytes); the file is "
        "truncated or its chunk index damaged"
    )


def bytes_of(array: NDArray[np.generic]) -> Bytes:
    """Return the bytes of a C-contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8)


def new_block(shape: tuple[int, ...], dtype: np.dtype[np.generic], *, pooled: bool = False) -> tuple[Block, Block]:
    """Return a new array, and a view of it whose elements are copied byte for byte.

    A large one may be `pooled`: made in the memory of an earlier one (:class:`MemoryPool`).
    """
    nbytes = math.prod(shape) * dtype.itemsize
    buffer = block_memory.take(nbytes) if pooled and nbytes >= POOLED_NBYTES else None
    block = np.ndarray(shape, dtype, buffer=buffer)
    return block, np.ndarray(shape, raw_dtype(dtype), buffer=block)


def new_bytes(nbytes: int) -> Bytes:
    """Return so many bytes of any value; many are in the memory of earlier ones, of a power of 2: few sizes are kept.

    >>> new_bytes(5 << 20).size, new_bytes(5 << 20).base.nbytes
    (5242880, 8388608)
    """
    if nbytes < POOLED_NBYTES:
        return np.empty(nbytes, np.uint8)
    return block_memory.take(1 << (nbytes - 1).bit_length())[:nbytes]


POOLED_NBYTES = 1 << 20
"""Bytes from which on a block comes from the pool."""


class MemoryPool:
    """Memory of arrays that are gone, for arrays of the same size: at most `limit` bytes that are not in use.

    Blocks wait in memory until their file is closed. Memory that the system provides anew for each takes a third of the
    time to read them, where nothing is decoded.

    >>> pool = MemoryPool(100)
    >>> one = pool.take(60); one[:] = 7
    >>> part = one[:5]
    >>> del one
    >>> pool.free_nbytes()  # a view of it is left
    0
    >>> del part
    >>> pool.free_nbytes(), pool.take(60)[0], pool.free_nbytes()
    (60, np.uint8(7), 60)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: deque[Bytes] = deque()  # its single steps need no lock; the last to be freed is the first in use

    def take(self, nbytes: int) -> Bytes:
        """Return an array of so many bytes, of any value."""
        for _ in range(len(self._free)):
            try:
                data = self._free.pop()
            except IndexError:  # another thread took it
                break
            if data.nbytes == nbytes:
                return np.asarray(_Lease(data, self))
            self._free.appendleft(data)
        return np.asarray(_Lease(np.empty(nbytes, np.uint8), self))

    def give(self, data: Bytes) -> None:
        """Take back the memory of an array that is gone; drop what has not been in use for longest beyond the limit."""
        self._free.append(data)
        with suppress(IndexError):  # other threads may take the last ones
            while self.free_nbytes() > self.limit:
                self._free.popleft()

    def free_nbytes(self) -> int:
        """Return the bytes that are not in use."""
        return sum(data.nbytes for data in self._free.copy())


class _Lease:
    """The owner of an array from a pool: numpy deletes it after the array and all views of it."""

    __slots__ = ("__array_interface__", "_data", "_pool")

    def __init__(self, data: Bytes, pool: MemoryPool) -> None:
        self.__array_interface__ = data.__array_interface__
        self._data, self._pool = data, pool

    def __del__(self) -> None:
        self._pool.give(self._data)


block_memory = MemoryPool(128 << 20)
"""Memory of blocks that wait for the close of their file, of about one window of the default size."""


def raw_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return a type of the same size whose elements are copied byte for byte."""
    size = dtype.itemsize
    return np.dtype(f"u{size}" if size in (1, 2, 4, 8) else f"V{size}")


COMPARED_NBYTES = 1 << 20
"""Bytes that are compared at once: what numpy makes of them stays small."""


def same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Return whether two arrays have equal shapes, and equal values down to the payload of a NaN.

    >>> same_bits(np.array([np.nan]), np.array([np.nan])), same_bits(np.array([0.0]), np.array([-0.0]))
    (True, False)
    >>> sequences = np.array([np.array([1, 2]), np.array([3])], object)
    >>> same_bits(sequences, sequences.copy()), same_bits(sequences, sequences[::-1])
    (True, False)
    """
    if one.shape != other.shape:
        return False
    if one.dtype.names is not None:
        return all(same_bits(one[name], other[name]) for name in one.dtype.names)
    if one.dtype.kind == other.dtype.kind == "O":  # text, or sequences
        return all(
            same_bits(a, b) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else bool(a == b)
            for a, b in zip(one.flat, other.flat, strict=True)
        )
    if one.dtype.kind in "OT":
        return bool(np.all(one == other))
    if one.dtype != other.dtype:
        if one.dtype.newbyteorder("=") != other.dtype.newbyteorder("="):
            return False
        other = other.astype(one.dtype)
    if not one.dtype.itemsize or not one.size:
        return True
    raw = raw_dtype(one.dtype)
    raw_one, raw_other = (np.ascontiguousarray(item).reshape(-1).view(raw) for item in (one, other))
    step = max(COMPARED_NBYTES // raw.itemsize, 1)
    return all(
        a.tobytes() == b.tobytes() if raw.kind == "V" else bool(np.array_equal(a, b))
        for start in range(0, raw_one.size, step)
        for a, b in [(raw_one[start : start + step], raw_other[start : start + step])]
    )


DIGEST_NBYTES = 16
"""Bytes of a digest."""


def hash_bits(block: np.ndarray[Any, Any]) -> bytes:
    """Return a digest (BLAKE2b) of an array of fixed-size elements: the same for all that `same_bits` finds equal.

    >>> one = np.array([[1.0, np.nan]])
    >>> hash_bits(one) == hash_bits(one.astype(">f8")), hash_bits(one) == hash_bits(-one)
    (True, False)
    """
    digest = blake2b(digest_size=DIGEST_NBYTES)
    for part in _list_plain(block):
        digest.update(part.dtype.str.encode())
        if part.dtype.itemsize:
            digest.update(bytes_of(np.ascontiguousarray(part)))
    return digest.digest()


def _list_plain(block: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield an array in little-endian order, of a compound that of each member: bytes between them do not count."""
    if block.dtype.names is None:
        yield block.astype(block.dtype.newbyteorder("<"), copy=False)
        return
    for name in block.dtype.names:
        yield from _list_plain(block[name])


REUSED_NBYTES = 8 << 20
"""Bytes whose release makes glibc keep twice as many in each thread."""


def reuse_freed(nbytes: int) -> None:
    """Make the C library keep freed memory: in each thread at least twice `nbytes`, but at most 16 MiB.

    glibc returns free memory to the system that exceeds twice the largest block freed so far (`mallopt(3)`,
    M_TRIM_THRESHOLD). Until a program frees a larger one, the buffers of each chunk are returned after it and come
    back page by page: 70,000 to 280,000 page faults in a ``sum()`` of 160 bitshuffled chunks of 2.6 MB, a third to a
    half of its time. With `nbytes` for three chunks they do not occur.

    The effect is on the whole process and stays, as after any array of that size. Where MALLOC_TRIM_THRESHOLD_ is
    set, as dask's nannies do for their workers, it has no effect.
    """
    np.empty(min(nbytes, REUSED_NBYTES), np.uint8)  # freed at once, and never touched


def is_exact(dtype: np.dtype[Any], to: np.dtype[Any]) -> bool:
    """Return whether every value of a type is one of another type: numbers, or text of fixed length.

    >>> is_exact(np.dtype("i4"), np.dtype("f8")), is_exact(np.dtype("i8"), np.dtype("c16"))
    (True, False)
    """
    if dtype.kind in "iu" and to.kind in "fc":  # numpy takes all integers of 64 bits for floats
        return bool(8 * dtype.itemsize - (dtype.kind == "i") <= np.finfo(to).nmant + 1)
    return (
        dtype.kind in "iufcS"
        and to.kind in "iufcS"
        and (dtype.kind == "S") == (to.kind == "S")
        and bool(np.can_cast(dtype, to, "safe"))
    )
