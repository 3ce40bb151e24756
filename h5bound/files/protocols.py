"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    import h5py

    from h5bound.buffers import Bytes

    Range = tuple[int, int]  # offset and nbytes


class FileState(Protocol):
    """What tells one state of a file from another, wherever it is."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def mtime_ns(self) -> int:
        """When it was written to, in nanoseconds; 0 if nobody says."""

    def same_file(self, other: Self) -> bool:
        """Tell whether both are one file."""

    def same_state(self, other: Self) -> bool:
        """Tell whether both are one file that was not written to in between."""

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """What else tells its states from one another, by name: ETags and the like."""


class FileLocation(Protocol):
    """Where an HDF5 file is."""

    @property
    def path(self) -> str:
        """As messages, reports and marks name it: without secrets."""

    @property
    def key(self) -> Hashable:
        """Equal for equal places, and without secrets."""

    def identify(self) -> FileState:
        """Give the state of the file now; raise SourceNotFoundError if nothing is there."""

    def open(self, state: Any) -> tuple[h5py.File, FileBytes | None]:
        """Open it for reading as it was in a state; gives what its stored bytes are read from as well, if it knows."""


class Readable(Protocol):
    """Bytes at their offsets in a file."""

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Give `nbytes` bytes from `offset` on; raise DamagedError if the file ends before."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with the bytes from `offset` on; raise DamagedError if the file ends before."""


class FileBytes(Readable, Protocol):
    """All bytes of a file, which threads may read at the same time."""

    is_remote: ClassVar[bool]  # whether each read is a request to a server

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Take notice of ranges that will be gathered, each once, by any thread and in any order."""

    def gather(self, ranges: Iterable[Range]) -> Readable:
        """Give what these ranges can be read from, with as few waits as there need be."""

    def check(self) -> None:
        """Raise why a read failed, if one has that the caller may not know of."""

    def close(self) -> None:
        """Let go of the file; nothing may read from it any more."""
