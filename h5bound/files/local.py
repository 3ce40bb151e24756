"""Local files: their location, and their bytes read without HDF5's lock."""

from __future__ import annotations

import os
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import h5py
import numpy as np
from h5py import h5f, h5fd

from h5bound.buffers import Bytes, past_end
from h5bound.errors import H5BoundError, SourceNotFoundError, UnsupportedError
from h5bound.files.file_state import FileState
from h5bound.files.open import open_file
from h5bound.files.unlocked import is_read_unlocked
from h5bound.h5py_compat import read_driver, read_file_end

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from h5bound.files.protocols import Range


class LocalFile:
    """The bytes of a local HDF5 file, while its descriptor is open.

    `descriptor` is closed with this object at the latest; `end` is the byte at which the file ends.
    """

    is_remote: ClassVar[bool] = False

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor, self.end = descriptor, end
        self._close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def of(cls, file: h5f.FileID) -> Self:
        """Return the bytes of an open file, through a duplicate of HDF5's descriptor.

        It stays on the same file when the file is renamed, and when HDF5 closes its own descriptor during a read.

        Raise UnsupportedError if the bytes may differ from what HDF5 reads: another driver than the default one, a file
        that is open for writing, or one that another program writes (SWMR).
        """
        if not hasattr(os, "preadv"):
            raise UnsupportedError("this operating system has no preadv")
        if read_driver(file) != h5fd.SEC2:
            raise UnsupportedError("the file is not open with HDF5's default driver")
        if file.get_intent() != h5f.ACC_RDONLY:
            raise UnsupportedError("the file is open for writing, or in SWMR mode")
        if h5py.version.hdf5_version_tuple < (2, 0, 0) and file.get_create_plist().get_userblock():
            raise UnsupportedError("HDF5 before 2.0 does not count the user block in the offsets of chunks")
        end = read_file_end(file)
        return cls(os.dup(file.get_vfd_handle()), sys.maxsize if end is None else end)

    @classmethod
    def at(cls, path: str) -> Self:
        """Return the bytes of a file that HDF5 has not open, in a tenth of the time.

        Raise SourceNotFoundError if it is gone, UnsupportedError if they may differ from what HDF5 reads.
        """
        if not hasattr(os, "preadv"):
            raise UnsupportedError("this operating system has no preadv")
        if h5py.version.hdf5_version_tuple < (2, 0, 0):
            raise UnsupportedError("HDF5 before 2.0 does not count the user block in the offsets of chunks")
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise SourceNotFoundError(f"{path}: no such file") from None
        except OSError as error:
            raise H5BoundError(f"{path}: the file cannot be opened: {error.strerror}") from error
        return cls(descriptor, os.fstat(descriptor).st_size)

    def read_state(self) -> FileState:
        """Return the state of the file now."""
        return FileState.of(self._descriptor)

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Do nothing: local reads need no announcement."""

    def gather(self, ranges: Iterable[Range]) -> Self:
        """Return this file: local reads need not be requested together."""
        return self

    def check(self) -> None:
        """Do nothing: each read raises its own error."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with the bytes from `offset` on; raise DamagedError if the file ends before."""
        view = memoryview(out)
        if offset + len(view) > self.end:
            raise past_end(offset, len(view), self.end)
        fill(self._descriptor, offset, view)

    def read_parts(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Fill at most 1024 arrays, one after another; raise DamagedError if the file ends before."""
        nbytes = sum(part.size for part in parts)
        if offset + nbytes > self.end:
            raise past_end(offset, nbytes, self.end)
        if os.preadv(self._descriptor, parts, offset) != nbytes:
            for part in parts:
                self.read_into(offset, part)
                offset += part.size

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Return `nbytes` bytes from `offset` on; raise DamagedError, before it allocates, if there are fewer."""
        end = os.fstat(self._descriptor).st_size
        if offset + nbytes > end:
            raise past_end(offset, nbytes, end)
        out = np.empty(nbytes, np.uint8)
        self.read_into(offset, out)
        return out

    def close(self) -> None:
        """Close the descriptor; nothing may read from it afterwards."""
        self._descriptor = -1
        self._close()


def read_range(path: str, offset: int, nbytes: int) -> tuple[Bytes, FileState]:
    """Return bytes of a file, which is open only meanwhile, and its state after they were read.

    Raise DamagedError, before memory is allocated, if the file ends before, and SourceNotFoundError if it is gone.
    """
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below; Windows has no `os.preadv`
    except FileNotFoundError:
        raise SourceNotFoundError(f"{path}: no such file") from None
    with file:
        end = os.fstat(file.fileno()).st_size
        if offset + nbytes > end:
            raise past_end(offset, nbytes, end)
        file.seek(offset)
        data = file.read(nbytes)
        while len(data) < nbytes:  # one read returns 2 GiB at most
            part = file.read(nbytes - len(data))
            if not part:
                raise past_end(offset, nbytes, os.fstat(file.fileno()).st_size)
            data += part
        return np.frombuffer(data, np.uint8), FileState.of(file.fileno())


def fill(descriptor: int, offset: int, view: memoryview) -> None:
    """Fill a buffer with the bytes of an open file from `offset` on; raise DamagedError if the file ends before."""
    while view:
        count = os.preadv(descriptor, [view[: 1 << 30]], offset)
        if not count:
            raise past_end(offset, len(view), os.fstat(descriptor).st_size)
        view, offset = view[count:], offset + count


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """The location of a local file."""

    path: str
    """The real path."""
    swmr: bool = False
    """Whether another program may write to the file in SWMR mode while it is read."""

    @property
    def key(self) -> Hashable:
        """The real path."""
        return self.path

    def read_state(self) -> FileState:
        """Return the state of the file now."""
        return FileState.of(self.path)

    def open(self, _state: FileState) -> tuple[h5py.File, None]:
        """Open the file for reading."""
        return open_file(self.path, swmr=self.swmr, unlocked=is_read_unlocked(self.path)), None
