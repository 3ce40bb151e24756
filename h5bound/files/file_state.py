"""The state of a file, local or remote: equal states mean that nobody wrote to the file in between."""

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
    """The state of a local file, from ``os.stat``."""

    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> Self:
        """Return the state of a file now; raise SourceNotFoundError if there is no file."""
        try:
            stat = Path(path).stat()
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{path}: no such file") from error
        except OSError as error:
            raise H5BoundError(f"{path}: the file cannot be accessed: {error.strerror}") from error
        return cls(device=stat.st_dev, inode=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns)

    def same_file(self, other: LocalState) -> bool:
        """Return whether both are the same file; machines number a shared device differently."""
        return self.inode == other.inode

    def same_state(self, other: LocalState) -> bool:
        """Return whether both are the same file, unchanged."""
        return self.same_file(other) and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    @property
    def stamps(self) -> tuple[tuple[str, str], ...]:
        """Nothing: the modification time of a local file is precise enough."""
        return ()


STAMPS = ("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "Content-MD5", "md5Hash", "sha", "CRC")
"""Names in fsspec's ``info`` for a value that differs when the bytes differ."""

TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""Names in fsspec's ``info`` for the modification time; ``memory://`` has only that of creation."""


@dataclass(frozen=True, slots=True)
class RemoteState:
    """The state of a remote file, from its server."""

    size: int  # bytes
    mtime_ns: int  # 0 if unknown
    stamps: tuple[tuple[str, str], ...]  # name and value of each of STAMPS that the server sends

    def same_file(self, other: RemoteState) -> bool:
        """Return whether both are the same file, which can be known only if it is unchanged."""
        return self.same_state(other)

    def same_state(self, other: RemoteState) -> bool:
        """Return whether both are the same file, unchanged."""
        return self == other

    def stamp(self, name: str) -> str:
        """Return the value of a stamp, "" if the server does not send it."""
        return dict(self.stamps).get(name, "")


def parse_state(info: Mapping[str, Any]) -> RemoteState:
    """Return the state that fsspec's ``info`` describes.

    >>> parse_state({"size": 3, "ETag": '"a"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    RemoteState(size=3, mtime_ns=1445412480000000000, stamps=(('ETag', '"a"'),))
    >>> parse_state({"size": 3, "LastModified": datetime(2015, 10, 21, 7, 28, tzinfo=UTC)}).mtime_ns
    1445412480000000000
    """
    stamps = tuple((name, str(info[name])) for name in STAMPS if info.get(name))
    mtime_ns = next((_parse_time(info[name]) for name in TIMES if info.get(name)), 0)
    return RemoteState(size=int(info["size"]), mtime_ns=mtime_ns, stamps=stamps)


def _parse_time(value: Any) -> int:
    """Return a time in nanoseconds since 1970, 0 if it cannot be parsed."""
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        except ValueError:
            return 0
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return int(value * 1e9) if isinstance(value, (int, float)) else 0
