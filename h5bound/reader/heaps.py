"""Check the heaps of values of variable length before HDF5 reads them: it never returns from some damaged ones.

HDF5 goes from object to object by their sizes (HDF5 File Format Specification, III.E). Free space of size 0 is
followed by itself: zeros are in place of bytes that were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.buffers import DamagedError
from h5bound.errors import CorruptChunkError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.files.local import LocalFile

SIGNATURE = b"GCOL"

FREE = 0
"""Index of the object that is free space; its size is that of its header, too."""


class HeapCheck:
    """The check of heaps of a file, each once. `base` is the byte from which addresses count."""

    def __init__(self, file: LocalFile, *, size_nbytes: int, base: int) -> None:
        self._file, self._size_nbytes, self._base = file, size_nbytes, base
        self._whole: set[int] = set()

    def check(self, addresses: Iterable[int]) -> None:
        """Raise CorruptChunkError if HDF5 would not return from a heap; all else that is damaged it finds itself."""
        for address in addresses:
            if address not in self._whole:
                try:
                    is_endless = self._is_endless(address + self._base)
                except DamagedError:
                    continue
                if is_endless:
                    raise CorruptChunkError(f"the heap of values of variable length at byte {address} is damaged")
                self._whole.add(address)

    def _is_endless(self, start: int) -> bool:
        head_nbytes = 8 + self._size_nbytes  # of the heap, and of each object, padded
        head = self._file.read(start, head_nbytes).tobytes()
        if not head.startswith(SIGNATURE):
            return False
        heap = self._file.read(start, int.from_bytes(head[8:], "little")).tobytes()
        if heap.find(bytes(head_nbytes), head_nbytes) < 0:
            return False
        padded = -(-head_nbytes // 8) * 8
        at = padded
        while at + padded <= len(heap):
            size = int.from_bytes(heap[at + 8 : at + head_nbytes], "little")
            if heap[at : at + 2] != bytes(2):
                size = padded + -(-size // 8) * 8
            elif not size:
                return True
            at += size
        return False
