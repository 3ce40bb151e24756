"""Protocols of a file: where it is, what state it is in, and how its bytes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    import h5py

    from h5bound.buffers import Bytes

    Range = tuple[int, int]  # offset and nbytes


class FileState(Protocol):
    """The state of a file, to find out whether it was changed or replaced."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    @property
    def mtime_ns(self) -> int:
        """Modification time in nanoseconds, 0 if unknown."""

    def same_file(self, other: Self) -> bool:
        """Return whether both are the same file."""

    def same_state(self, other: Self) -> bool:
        """Return whether both are the same file, unchanged."""

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """Names and values of ETags and the like."""


class FileLocation(Protocol):
    """Where an HDF5 file is."""

    @property
    def path(self) -> str:
        """The path or URL for messages and reports, without secrets."""

    @property
    def key(self) -> Hashable:
        """Equal for equal locations, without secrets."""

    def identify(self) -> FileState:
        """Return the state of the file now; raise SourceNotFoundError if there is no file."""

    def open(self, state: Any) -> tuple[h5py.File, FileBytes | None]:
        """Open the file in this state for reading; return the `h5py.File`, and the file's bytes if it is remote."""


class Readable(Protocol):
    """Bytes that can be read by their offset in a file."""

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Return `nbytes` bytes; raise DamagedError if the file ends before."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out`; raise DamagedError if the file ends before."""


class FileBytes(Readable, Protocol):
    """All bytes of a file; threads may read at the same time."""

    is_remote: ClassVar[bool]  # whether each read is a request to a server

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Announce ranges that will be gathered, each once, by any thread and in any order."""

    def gather(self, ranges: Iterable[Range]) -> Readable:
        """Request these ranges together, and return what they can be read from."""

    def check(self) -> None:
        """Raise the error of a failed read that its caller may not have seen."""

    def close(self) -> None:
        """Close the file; nothing may read from it afterwards."""
