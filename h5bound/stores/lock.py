"""The marker of an unfinished conversion, and the lock that keeps a second conversion out.

In a directory, the conversion locks the marker itself (flock; on Windows a locked byte). The kernel drops the lock when
the process ends, however it ends, so an unlocked marker belongs to an interrupted conversion. The marker is created
exclusively and written in place, since a file renamed over it would not have the lock. On a file system without locks,
only the exclusive creation protects. (`filelock` is not used: it leaves its file behind, and fails with ENOLCK and
ENOTSUP.)

Any other store has no lock. Its marker names its owner. A conversion creates it only if it is missing, atomically in
stores that can (`set_if_not_exists`), and reads it back. A conversion with resume or overwrite takes the marker over,
since its owner may no longer run. The old owner notices that before it writes a work unit or the root, and fails.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from h5bound.errors import TargetError
from h5bound.stores.keys import make_buffer, reaching
from h5bound.stores.metadata import dump
from h5bound.stores.zarr_internals import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from h5bound.stores.keys import StoreKeys


MARKER = "h5bound-unfinished.json"
"""The key that is in the store from the first write to the last."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of flock where the file system has no locks, such as Lustre without the option ``flock``."""

BINARY, NO_FOLLOW = getattr(os, "O_BINARY", 0), getattr(os, "O_NOFOLLOW", 0)
"""Flags to change no line ends (Windows), and to open no symbolic link: its target would be overwritten."""

if sys.platform == "win32":
    import msvcrt

    def lock(descriptor: int) -> None:
        """Lock a byte far behind the content, which others may still read; OSError if it is locked."""
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def lock(descriptor: int) -> None:
        """Lock an open file; OSError if it is locked."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Marker:
    """The base of markers, and the marker of stores that show nothing before the conversion is complete: no key."""

    content: bytes | None = None
    """Bytes of the marker before this conversion, None if it did not exist."""
    owner = ""
    """Name of the conversion in the marker, where no lock protects it."""

    def write(self, document: Mapping[str, Any]) -> None:
        """Write a document."""

    def take_over(self, document: Mapping[str, Any]) -> None:
        """Write the document of a conversion that is continued, if the marker has to name its owner."""

    def is_ours(self) -> bool:
        """Return whether the marker is still that of this conversion."""
        return True

    def delete(self) -> None:
        """Delete the marker."""


class LockedFile(Marker):
    """A locked file, not rewritten by `take_over`: a truncated marker could not be attributed.

    Raise TargetError if another conversion has the lock. `url` names the target.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor, created = open_locked(path)
        except BlockingIOError as error:
            raise busy(url) from error
        except OSError as error:
            raise TargetError(f"{url}: cannot be written to: {path.name}: {error.strerror}") from error
        self.content = None if created else path.read_bytes()

    def write(self, document: Mapping[str, Any]) -> None:
        """Write a document in place; a truncated one is not valid JSON."""
        data = dump(document, compact=True)
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def is_ours(self) -> bool:
        """Return whether the locked file is still the one at its path."""
        return is_at(self.path, self.descriptor)

    def delete(self) -> None:
        """Delete the file, while it is locked where the system allows that."""
        if sys.platform == "win32":
            self.release()
        self.path.unlink()

    def release(self) -> None:
        """Close the file, which unlocks it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class OwnedKey(Marker):
    """A key with the name of its owner. Raise TargetError if another conversion was faster."""

    def __init__(self, keys: StoreKeys, url: str) -> None:
        self.keys, self.owner = keys, uuid4().hex
        self.content = keys.read(MARKER)
        if self.content is None:
            with reaching(url):
                run(keys.store.set_if_not_exists(MARKER, make_buffer(dump({"owner": self.owner}))))
            if not self.is_ours():
                raise busy(url)

    def write(self, document: Mapping[str, Any]) -> None:
        """Write a document and the name of this conversion."""
        self.keys.write([(MARKER, dump({**document, "owner": self.owner}, compact=True))])

    take_over = write

    def is_ours(self) -> bool:
        """Return whether the marker has the name of this conversion."""
        return parse_marker(self.keys.read(MARKER)).get("owner") == self.owner

    def delete(self) -> None:
        """Delete the key."""
        self.keys.delete([MARKER])


def open_locked(path: Path) -> tuple[int, bool]:
    """Return the descriptor of a locked file, and whether it was created. BlockingIOError if another has the lock."""
    while True:
        try:
            descriptor, created = os.open(path, os.O_RDWR | BINARY | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, created = os.open(path, os.O_RDWR | BINARY | NO_FOLLOW), False
            except FileNotFoundError:
                continue  # deleted in between
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor):
                raise BlockingIOError
            if is_at(path, descriptor):  # if not, its owner has just deleted it
                stack.pop_all()
                return descriptor, created


def try_lock(descriptor: int) -> bool:
    """Lock a file; return False if another process or thread has locked it, True also if locks are not supported."""
    try:
        lock(descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if error.errno not in NO_LOCKS:
            raise
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether the file is there and locked."""
    try:
        descriptor = os.open(path, os.O_RDWR | BINARY | NO_FOLLOW)
    except OSError:  # it does not exist or is not writable, so no conversion writes to it
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def parse_marker(data: bytes | None) -> dict[str, Any]:
    """Return the document of a marker, an empty one if the marker is missing or truncated."""
    try:
        document = json.loads(data or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def busy(url: str) -> TargetError:
    """Return the error for a target that another conversion has locked."""
    return TargetError(f"{url}: another conversion is writing to it now; wait for it, or name another target")
