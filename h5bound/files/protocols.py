"""Protocols of a file: where it is, and how its bytes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    import h5py

    from h5bound.buffers import Bytes
    from h5bound.files.file_state import FileState

    Range = tuple[int, int]  # offset and nbytes


class FileLocation(Protocol):
    """The location of an HDF5 file."""

    @property
    def path(self) -> str:
        """The path or URL for messages and reports, without secrets."""

    @property
    def key(self) -> Hashable:
        """Equal for equal locations, without secrets."""

    def read_state(self) -> FileState:
        """Return the state of the file now; raise SourceNotFoundError if it does not exist."""

    def open(self, state: FileState) -> tuple[h5py.File, FileBytes | None]:
        """Open the file in this state for reading; return the `h5py.File`, and the file's bytes if it is remote."""


class Readable(Protocol):
    """Bytes that can be read by their offset in a file."""

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Return `nbytes` bytes; raise DamagedError if the file ends before."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out`; raise DamagedError if the file ends before."""


class FileBytes(Protocol):
    """All bytes of a file; threads may read at the same time."""

    is_remote: ClassVar[bool]  # whether each read is a request to a server

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Announce ranges that will be gathered, each once, by any thread and in any order."""

    def gather(self, ranges: Iterable[Range]) -> Readable:
        """Request these ranges together, and return an object to read them from."""

    def check(self) -> None:
        """Raise the error of a failed read that its caller may not have seen."""

    def close(self) -> None:
        """Close the file; nothing may read from it afterwards."""
