"""The state of a file, local or remote, by which a change or a replacement is noticed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from h5bound.errors import H5BoundError, SourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping


STAMPS = ("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "Content-MD5", "md5Hash", "sha", "CRC")
"""Names in fsspec's ``info`` for a value that differs when the bytes differ."""

TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""Names in fsspec's ``info`` for the modification time; ``memory://`` has only that of creation."""


def advise_list(path: object) -> str:
    """Return what to do with a pattern in place of a list of files, after a semicolon; "" for another path."""
    name = str(path)
    lister = "fsspec.open_files(...)" if "://" in name else "sorted(glob.glob(...))"
    return f"; pass the files of a pattern as a list: {lister}" if "*" in name.partition("?")[0] else ""


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file. Equal states mean that nobody wrote to the file in between."""

    size: int
    """Size in bytes."""
    mtime_ns: int
    """Modification time in nanoseconds since 1970, 0 if unknown."""
    inode: int | None = None
    """Inode of a local file; machines number a shared device differently, so the device is not compared."""
    stamps: tuple[tuple[str, str], ...] = ()
    """Names and values of the STAMPS of a remote file."""
    ctime_ns: int = field(default=0, compare=False, repr=False)
    """Time of the last change of a local file, which no program sets. It is compared where a false alarm costs little:
    a new name or other permissions change it too, and a copy has its own."""

    @classmethod
    def of(cls, path: str | int) -> Self:
        """Return the state of a local file, or of an open descriptor; raise SourceNotFoundError if there is no file."""
        try:
            stat = os.stat(path)  # noqa: PTH116 - a descriptor is no Path
        except FileNotFoundError:
            raise SourceNotFoundError(f"{path}: no such file{advise_list(path)}") from None
        except OSError as error:
            raise H5BoundError(f"{path}: the file cannot be accessed: {error.strerror}") from error
        return cls(size=stat.st_size, mtime_ns=stat.st_mtime_ns, inode=stat.st_ino, ctime_ns=stat.st_ctime_ns)

    def describe_change(self, now: Self) -> str:
        """Return the differences in a later state.

        >>> FileState(size=4296, mtime_ns=1).describe_change(FileState(size=6352, mtime_ns=1))
        'size 4,296 → 6,352 bytes'
        """
        times = f"{np.datetime64(self.mtime_ns, 'ns')} → {np.datetime64(now.mtime_ns, 'ns')}"
        changes = {
            f"size {self.size:,} → {now.size:,} bytes": self.size != now.size,
            f"modified {times} UTC": self.mtime_ns != now.mtime_ns,
            "another file of this name": self.inode != now.inode,
            f"{dict(self.stamps)} → {dict(now.stamps)}": self.stamps != now.stamps,
        }
        return ", ".join(change for change, differs in changes.items() if differs)


def parse_state(info: Mapping[str, Any]) -> FileState:
    """Return the state of a remote file, from fsspec's ``info``.

    >>> parse_state({"size": 3, "ETag": '"a"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    FileState(size=3, mtime_ns=1445412480000000000, inode=None, stamps=(('ETag', '"a"'),))
    >>> parse_state({"size": 3, "LastModified": datetime(2015, 10, 21, 7, 28, tzinfo=UTC)}).mtime_ns
    1445412480000000000
    """
    stamps = tuple((name, str(info[name])) for name in STAMPS if info.get(name))
    mtime_ns = next((_parse_time(info[name]) for name in TIMES if info.get(name)), 0)
    return FileState(size=int(info["size"]), mtime_ns=mtime_ns, stamps=stamps)


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
