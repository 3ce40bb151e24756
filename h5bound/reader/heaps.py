"""Check the heaps of values of variable length before HDF5 reads them: it never returns from some damaged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.buffers import DamagedError
from h5bound.errors import CorruptChunkError
from h5bound.files.guarded import HEAP, is_endless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.files.local import LocalFile


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
                    endless = self._is_endless(address + self._base)
                except DamagedError:
                    continue
                if endless:
                    raise CorruptChunkError(f"the heap of values of variable length at byte {address} is damaged")
                self._whole.add(address)

    def _is_endless(self, start: int) -> bool:
        head = self._file.read(start, 8 + self._size_nbytes).tobytes()
        if not head.startswith(HEAP):
            return False
        heap = self._file.read(start, int.from_bytes(head[8:], "little")).tobytes()
        return is_endless(heap, self._size_nbytes)
