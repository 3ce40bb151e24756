"""The stored bytes of an open HDF5 file, read without HDF5's lock."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import h5py
import numpy as np
from h5py import h5f, h5fd

from h5bound.buffers import Bytes, DamagedError
from h5bound.errors import UnsupportedError
from h5bound.files.file_state import LocalState
from h5bound.files.open import open_file
from h5bound.h5py_compat import read_file_end

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from h5bound.files.protocols import Range


class LocalFile:
    """A descriptor of an open HDF5 file.

    It is a duplicate of HDF5's own descriptor, so that it is the same file whatever has become of its name,
    and it stays the same file if HDF5 closes its own while a read is under way.

    Raises
    ------
    UnsupportedError
        The file is not read by HDF5's default driver, may be written to, or is being written by others
        (SWMR): what is stored need not be what HDF5 would give.
    """

    __slots__ = ("_descriptor", "_end", "_file", "_lock")
    is_remote: ClassVar[bool] = False

    def __init__(self, file: h5f.FileID) -> None:
        if not hasattr(os, "preadv"):
            raise UnsupportedError("this system has no preadv")
        if file.get_access_plist().get_driver() != h5fd.SEC2:
            raise UnsupportedError("the file is not read by HDF5's default driver")
        if file.get_intent() != h5f.ACC_RDONLY:
            raise UnsupportedError("the file is open for writing, or for reading while it is written")
        if h5py.version.hdf5_version_tuple < (2, 0, 0) and file.get_create_plist().get_userblock():
            raise UnsupportedError("this HDF5 leaves the user block out of the offsets of chunks")
        end = read_file_end(file)
        self._end = sys.maxsize if end is None else end
        self._file: h5f.FileID | None = file
        self._descriptor = -1
        self._lock = threading.Lock()

    @property
    def descriptor(self) -> int:
        """The descriptor, duplicated when it is first asked for."""
        if self._descriptor < 0:
            with self._lock:
                if self._descriptor < 0 and self._file is not None:
                    self._descriptor = os.dup(self._file.get_vfd_handle())
        return self._descriptor

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Nothing is gained by it."""

    def gather(self, ranges: Iterable[Range]) -> Self:
        """Give this file: nothing is gained by more."""
        return self

    def check(self) -> None:
        """Each read has raised its own error."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with the bytes from `offset` on.

        Raises
        ------
        DamagedError
            The file ends before.
        """
        view = memoryview(out)
        if offset + len(view) > self._end:
            raise DamagedError(f"it ends at {offset + len(view)}, and the file at {self._end}, as HDF5 has it")
        while view:
            count = os.preadv(self.descriptor, [view[: 1 << 30]], offset)
            if not count:
                raise DamagedError(f"the file ends {len(view)} bytes before it does")
            view, offset = view[count:], offset + count

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Give `nbytes` bytes from `offset` on; none are allocated for what the file does not have."""
        beyond = offset + nbytes - os.fstat(self.descriptor).st_size
        if beyond > 0:
            raise DamagedError(f"the file ends {beyond} bytes before it does")
        out = np.empty(nbytes, np.uint8)
        self.read_into(offset, out)
        return out

    def close(self) -> None:
        """Close the descriptor, if there is one; nothing may read from it any more."""
        with self._lock:
            descriptor, self._descriptor, self._file = self._descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """A file of this machine."""

    path: str  # resolved

    @property
    def key(self) -> Hashable:
        """The path."""
        return self.path

    def identify(self) -> LocalState:
        """Give the state of the file now."""
        return LocalState.of(self.path)

    def open(self, _identity: LocalState) -> tuple[h5py.File, None]:
        """Open it for reading."""
        return open_file(self.path), None
