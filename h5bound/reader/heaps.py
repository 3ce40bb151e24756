"""Heaps of values of variable length, read and checked without HDF5, which never returns from some damaged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.errors import CorruptChunkError
from h5bound.files.guarded import HEAP, is_endless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h5bound.files.local import LocalFile

LENGTH = "length"
"""The field for the length of a value of variable length in the file (HDF5 File Format Specification, VIII)."""

ADDRESS = "address"
"""The field for the address of the heap that has the value."""

NUMBER = "number"
"""The field for the number of the object in the heap."""


class Heaps:
    """The heaps of a local file. `base` is the byte from which addresses count."""

    def __init__(self, file: LocalFile, *, size_nbytes: int, base: int) -> None:
        self._file, self._size_nbytes, self._base = file, size_nbytes, base
        self._whole: set[int] = set()

    def check(self, addresses: Iterable[int]) -> None:
        """Raise CorruptChunkError if HDF5 would not return from a heap; all else that is damaged it finds itself.

        Each heap is checked once.
        """
        for address in addresses:
            if address not in self._whole:
                if is_endless(self._read(address), self._size_nbytes):
                    raise CorruptChunkError(f"the heap of values of variable length at byte {address} is damaged")
                self._whole.add(address)

    def read_elements(self, values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return the elements of all these values, unordered, without those that are not in the file.

        The heaps were checked. One is held at a time: many addresses may be in the same bytes.
        """
        parts, last, objects = [], -1, dict[int, bytes]()
        for length, address, number in values[np.argsort(values[ADDRESS])].tolist():
            if address != last:
                last, objects = address, self._list_objects(self._read(address))
            data = objects.get(number, b"")
            parts.append(data[: min(length, len(data) // dtype.itemsize) * dtype.itemsize])
        return np.frombuffer(b"".join(parts), dtype)

    def _read(self, address: int) -> bytes:
        """Return the bytes of a heap, none if it is not in the file."""
        start = address + self._base
        try:
            head = self._file.read(start, 8 + self._size_nbytes).tobytes()
            nbytes = int.from_bytes(head[8:], "little")
            return self._file.read(start, nbytes).tobytes() if head.startswith(HEAP) else b""
        except DamagedError:
            return b""

    def _list_objects(self, heap: bytes) -> dict[int, bytes]:
        """Return the objects of a heap by their numbers (HDF5 File Format Specification, III.E)."""
        objects = {}
        offset = head = -(-(8 + self._size_nbytes) // 8) * 8
        while offset + head <= len(heap):
            number = int.from_bytes(heap[offset : offset + 2], "little")
            nbytes = int.from_bytes(heap[offset + 8 : offset + 8 + self._size_nbytes], "little")
            if number:
                objects[number] = heap[offset + head : offset + head + nbytes]
                nbytes = head + -(-nbytes // 8) * 8
            offset += max(nbytes, head)
        return objects
