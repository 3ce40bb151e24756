"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from h5bound.errors import H5BoundError, SourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class LocalState:
    """What tells one state of a file from another, as ``os.stat`` gives it."""

    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> Self:
        """Give the identity of the file at ``path`` now.

        Raises
        ------
        SourceNotFoundError
            Nothing is there.
        """
        try:
            stat = Path(path).stat()
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{path}: no such file") from error
        except OSError as error:
            raise H5BoundError(f"{path}: it cannot be looked at: {error.strerror}") from error
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def same_file(self, other: LocalState) -> bool:
        """Tell whether both are one file: the device may differ, it is each machine's own number."""
        return self.inode == other.inode

    def same_state(self, other: LocalState) -> bool:
        """Tell whether both are one file that was not written to in between."""
        return self.same_file(other) and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """Nothing: a local file has a time that is fine enough."""
        return ()


STAMPS = ("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "Content-MD5", "md5Hash", "sha", "CRC")
"""What file systems of fsspec call that which is another for other bytes."""

TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""What they call the time of the last change; ``memory://`` has that of its making."""


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What tells one state of a remote file from another, as its server gives it."""

    size: int  # bytes
    mtime_ns: int  # 0: the server does not say
    stamps: tuple[tuple[str, str], ...]  # those of STAMPS that the server gives, by name

    def same_file(self, other: RemoteState) -> bool:
        """Tell whether both are one file, which is known only of one that was not written to."""
        return self.same_state(other)

    def same_state(self, other: RemoteState) -> bool:
        """Tell whether both are one file that was not written to in between."""
        return self == other

    def stamp(self, *names: str) -> str:
        """Give the first of some stamps that the server gives, or nothing."""
        return next((value for name in names for key, value in self.stamps if key == name), "")


def read_state(info: Mapping[str, Any]) -> RemoteState:
    """Give the state that the answer of fsspec's ``info`` describes.

    >>> read_state({"size": 3, "ETag": '"a"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    RemoteState(size=3, mtime_ns=1445412480000000000, stamps=(('ETag', '"a"'),))
    >>> read_state({"size": 3, "LastModified": datetime(2015, 10, 21, 7, 28, tzinfo=UTC)}).mtime_ns
    1445412480000000000
    """
    stamps = tuple((name, str(info[name])) for name in STAMPS if info.get(name))
    times = [read_time(info[name]) for name in TIMES if info.get(name)]
    return RemoteState(int(info["size"]), next(iter(times), 0), stamps)


def read_time(value: Any) -> int:
    """Give a time in nanoseconds since 1970; 0 if it is none."""
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        except ValueError:
            return 0
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return int(value * 1e9) if isinstance(value, (int, float)) else 0
