"""A damaged file as HDF5 can read it: what is left of a truncated one, and no heap from which it would never return.

HDF5 refuses a file that is shorter than its superblock says (HDF5 File Format Specification, II.A). It is given one
that says how long the file is: then it reads what is there, and every address beyond is an error.

In a heap of values of variable length HDF5 goes from object to object by their sizes (III.E). Free space of size 0 is
followed by itself: zeros are in place of bytes that were lost. Such a heap is an error before HDF5 has it.
"""

from __future__ import annotations

import io
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h5bound.errors import CorruptChunkError, UnsupportedError
from h5bound.files.file_objects import ObjectLocation
from h5bound.files.local import LocalFile, LocalLocation
from h5bound.files.open import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import h5py

    from h5bound.files.file_state import FileState
    from h5bound.files.protocols import FileBytes, FileLocation

SIGNATURE = b"\x89HDF\r\n\x1a\n"

HEAP = b"GCOL"
"""Signature of a heap of values of variable length."""

MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Superblock:
    """What is needed of a superblock: the bytes at which its fields are."""

    end_at: int
    """Where the end of the file is recorded."""
    address_nbytes: int
    size_nbytes: int
    """Bytes of a size, in heaps too."""
    summed: range | None
    """Bytes that have a checksum, which follows them; None in the earlier versions."""


@dataclass(frozen=True, slots=True)
class GuardedLocation:
    """The location of a file that may be damaged. If `shortened`, HDF5 opens what is left of a truncated one."""

    inner: FileLocation
    shortened: bool = False

    @property
    def path(self) -> str:
        """The path or URL of the file."""
        return self.inner.path

    @property
    def key(self) -> Hashable:
        """Different from that of the file as it is."""
        return self.inner.key, self.shortened

    @property
    def is_remote(self) -> bool:
        """Whether each read is a request to a server."""
        return not isinstance(self.inner, (LocalLocation, ObjectLocation))

    def read_state(self) -> FileState:
        """Return the state of the file now."""
        return self.inner.read_state()

    def open(self, state: FileState) -> tuple[h5py.File, FileBytes | None]:
        """Open the file in this state for reading; return its bytes, too, where they can be read without HDF5."""
        if isinstance(self.inner, ObjectLocation):
            return self._open(self.inner.file), None
        if isinstance(self.inner, LocalLocation):
            file = Path(self.path).open("rb", buffering=0)  # noqa: SIM115 - closed with the view
            opened = self._open(file, close=file.close)
            try:
                return opened, LocalFile.at(self.path)
            except UnsupportedError:
                return opened, None
        from h5bound.files.remote import RemoteLocation
        from h5bound.files.remote_file import RemoteView

        assert isinstance(self.inner, RemoteLocation)
        remote = self.inner.connect(state)
        try:
            return self._open(RemoteView(remote)), remote
        except BaseException:
            remote.check()
            raise

    def _open(self, file: Any, *, close: Callable[[], None] | None = None) -> h5py.File:
        view = GuardedView(file, self.path, shortened=self.shortened)
        if close is not None:
            weakref.finalize(view, close)
        return open_file(self.path, view)


class GuardedView(io.RawIOBase):
    """A binary file for HDF5, which reads it under its lock, and takes its `repr` as the name.

    Reads raise CorruptChunkError if HDF5 would not return from what is read.
    """

    def __init__(self, file: Any, name: str, *, shortened: bool) -> None:
        super().__init__()
        self._file, self._name, self._position = file, name, 0
        self._nbytes = file.seek(0, os.SEEK_END)
        self._superblock = self._read_superblock()
        self._changed = self._shorten(self._superblock) if shortened and self._superblock is not None else {}

    def __repr__(self) -> str:
        return self._name

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, and return it."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._nbytes}[whence] + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; return the number of bytes read, fewer at the end of the file."""
        out = memoryview(buffer).cast("B")
        start = self._position
        data = self._read(start, len(out))
        if data.startswith(HEAP) and self._superblock is not None:
            size_nbytes = self._superblock.size_nbytes
            nbytes = int.from_bytes(data[8 : 8 + size_nbytes], "little")
            if is_endless(data if nbytes <= len(data) else self._read(start, nbytes), size_nbytes):
                raise CorruptChunkError(f"the heap of values of variable length at byte {start} is damaged")
        out[: len(data)] = data
        for offset, value in self._changed.items():
            if start <= offset < start + len(data):
                out[offset - start] = value
        self._position += len(data)
        return len(data)

    def _read(self, start: int, nbytes: int) -> bytes:
        """Return bytes of the file, fewer at its end."""
        parts = []
        left = min(nbytes, self._nbytes - start)
        self._file.seek(start)
        while left > 0 and (part := self._file.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _read_superblock(self) -> Superblock | None:
        """Return the superblock, which is at byte 0 or at a power of two from 512 on; None if it is not known."""
        start = 0
        while start < self._nbytes:
            data = self._read(start, 96)
            if data.startswith(SIGNATURE):
                return parse_superblock(data, start)
            start = 2 * start or 512
        return None

    def _shorten(self, superblock: Superblock) -> dict[int, int]:
        """Return the bytes to change, by offset, so that the file ends where it does."""
        end = self._nbytes.to_bytes(superblock.address_nbytes, "little")
        changed = dict(enumerate(end, superblock.end_at))
        if superblock.summed is not None:
            summed = bytearray(self._read(superblock.summed.start, len(superblock.summed)))
            for offset, value in changed.items():
                summed[offset - superblock.summed.start] = value
            checksum = sum_lookup3(bytes(summed)).to_bytes(4, "little")
            changed |= enumerate(checksum, superblock.summed.stop)
        return changed


def parse_superblock(data: bytes, start: int) -> Superblock | None:
    """Return where the fields of a superblock at byte `start` are; None if its version is not known, or it is cut."""
    version = data[8] if len(data) > 16 else None
    place, head = (13, 24 if version == 0 else 28) if version in (0, 1) else (9, 12)
    if version not in (0, 1, 2, 3) or len(data) < head + 4 * data[place] + 4:
        return None
    return Superblock(
        end_at=start + head + 2 * data[place],
        address_nbytes=data[place],
        size_nbytes=data[place + 1],
        summed=range(start, start + head + 4 * data[place]) if version >= 2 else None,
    )


def is_endless(heap: bytes, size_nbytes: int) -> bool:
    """Return whether HDF5 would not return from a heap; sizes in it have `size_nbytes` bytes."""
    head_nbytes = 8 + size_nbytes  # of the heap, and of each object, padded
    if heap.find(bytes(head_nbytes), head_nbytes) < 0:
        return False
    padded = -(-head_nbytes // 8) * 8
    offset = padded
    while offset + padded <= len(heap):
        size = int.from_bytes(heap[offset + 8 : offset + head_nbytes], "little")
        if heap[offset : offset + 2] != bytes(2):  # else free space, whose size is that of its header, too
            size = padded + -(-size // 8) * 8
        elif not size:
            return True
        offset += size
    return False


def sum_lookup3(data: bytes) -> int:
    """Return the checksum of metadata: Bob Jenkins' lookup3, as HDF5 File Format Specification, II.A, has it.

    >>> hex(sum_lookup3(b"")), hex(sum_lookup3(b"Four score and seven years ago"))
    ('0xdeadbeef', '0x17770551')
    """
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    while len(data) > 12:
        x, y, z = split_words(data[:12])
        a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
        for turn in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & MASK) ^ rotate(c, turn)
            c = (c + b) & MASK
            a, b, c = b, c, a
        data = data[12:]
    if data:
        x, y, z = split_words(data.ljust(12, b"\0"))
        a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
        for turn in (14, 11, 25, 16, 4, 14, 24):
            c = ((c ^ b) - rotate(b, turn)) & MASK
            a, b, c = b, c, a
        c = b
    return c


def split_words(data: bytes) -> tuple[int, int, int]:
    """Return three little-endian words of 4 bytes."""
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:], "little")


def rotate(word: int, turn: int) -> int:
    """Return a word of 32 bits rotated to the left."""
    return (word << turn | word >> 32 - turn) & MASK
