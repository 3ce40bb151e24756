"""One conversion at a time into a target: the marker of unfinished work, and who may write because of it.

In a folder the marker is locked by the process that converts into it (flock, on Windows a locked byte of the marker).
The kernel drops the lock when that process ends in whatever way, so a marker that is not locked is that of an
interrupted conversion. It is created exclusively and written in place: renaming another file over it would part it
from its lock. Where the file system has no locks, the exclusive creation is what remains.

Other stores have no locks. There the marker names its owner; it is created only where there is none, which is atomic
in stores that can do so (``set_if_not_exists`` of zarr), and read back. A second conversion that is told to resume or
overwrite takes the marker over, since nothing tells that the first one still runs; the first one sees that before it
marks the store complete, and fails.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from h5bound.errors import TargetError
from h5bound.stores.metadata import dump
from h5bound.stores.target import MARKER, reaching, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from h5bound.stores.target import Target


NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What flock fails with where the file system has no locks, like Lustre without its option flock."""

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""A marker is no symbolic link: what that leads to would be overwritten."""

if sys.platform == "win32":
    import msvcrt

    def lock(descriptor: int) -> None:
        """Lock a byte far behind the content, which others may go on reading; OSError if it is locked."""
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def lock(descriptor: int) -> None:
        """Lock an open file; OSError if it is locked."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Claim(Protocol):
    """The marker of a target, in the hands of one conversion."""

    found: bytes | None
    """what was in the marker before, None if there was none"""

    def write(self, document: Mapping[str, Any]) -> None:
        """Put a document into the marker; one that is cut short is no JSON."""

    def keep(self, document: Mapping[str, Any]) -> None:
        """Take over a marker that has this document, whoever owned it."""

    def is_held(self) -> bool:
        """Tell whether the marker is still this conversion's."""

    def delete(self) -> None:
        """Delete the marker."""

    def release(self) -> None:
        """Let go of the marker, which stays if it is there."""


class FileClaim:
    """A file that is locked.

    Parameters
    ----------
    path
        Of the file, which is created if it is not there.
    target
        What a conversion that has the lock writes to.

    Raises
    ------
    TargetError
        Another conversion has it.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor, created = lock_file(path, target)
        except TargetError:
            raise
        except OSError as error:
            raise TargetError(f"{target}: cannot be written to: {path.name}: {error.strerror}") from error
        self.found = None if created else path.read_bytes()

    def write(self, document: Mapping[str, Any]) -> None:
        """Put a document into the marker, in place."""
        data = dump(document)
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def keep(self, document: Mapping[str, Any]) -> None:
        """Leave the marker as it is: cut short in between, it would not say whose work this is."""

    def is_held(self) -> bool:
        """Tell whether the locked file is still the one that is there."""
        return is_at(self.path, self.descriptor)

    def delete(self) -> None:
        """Delete the marker, before anyone else can have it where the system lets an open file be deleted."""
        if sys.platform == "win32":
            self.release()
        self.path.unlink()

    def release(self) -> None:
        """Let go of the marker."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def lock_file(path: Path, target: str) -> tuple[int, bool]:
    """Give a descriptor of a file, which is locked, and whether it was created for that.

    Raises
    ------
    TargetError
        Another conversion has it.
    """
    while True:
        descriptor, created = open_or_create(path)
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor):
                raise taken(target)
            if is_at(path, descriptor):  # else whoever had it has deleted it meanwhile
                stack.pop_all()
                return descriptor, created


def is_at(path: Path, descriptor: int) -> bool:
    """Tell whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def open_or_create(path: Path) -> tuple[int, bool]:
    """Give a descriptor of a file, and whether it was created for that."""
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                return os.open(path, os.O_RDWR | NO_FOLLOW), False
            except FileNotFoundError:
                continue  # deleted in between


def try_lock(descriptor: int) -> bool:
    """Tell whether an open file could be locked, or cannot be locked by anyone."""
    try:
        lock(descriptor)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


class StoreClaim:
    """The marker of a store that is no folder, with the name of its owner.

    Parameters
    ----------
    target
        The store.

    Raises
    ------
    TargetError
        Another conversion was faster.
    """

    def __init__(self, target: Target) -> None:
        from zarr.core.buffer import default_buffer_prototype

        self.target, self.owner = target, uuid4().hex
        self.found = target.read(MARKER)
        if self.found is None:
            data = default_buffer_prototype().buffer.from_bytes(dump({"owner": self.owner}))
            with reaching(target):
                run(target.store.set_if_not_exists(MARKER, data))
            if not self.is_held():
                raise taken(target.url)

    def write(self, document: Mapping[str, Any]) -> None:
        """Put a document into the marker, under the name of this conversion."""
        self.target.write([(MARKER, dump({**document, "owner": self.owner}))])

    def keep(self, document: Mapping[str, Any]) -> None:
        """Put the name of this conversion into the marker."""
        self.write(document)

    def is_held(self) -> bool:
        """Tell whether the marker has the name of this conversion."""
        return parse_marker(self.target.read(MARKER)).get("owner") == self.owner

    def delete(self) -> None:
        """Delete the marker."""
        self.target.delete(MARKER)

    def release(self) -> None:
        """Nothing holds such a marker."""


class NoClaim:
    """Of a store in which there is nothing before the conversion is finished, and so no marker."""

    found: bytes | None = None

    def write(self, document: Mapping[str, Any]) -> None:
        """Nothing is marked."""

    keep = write

    def is_held(self) -> bool:
        """Give True: no other conversion can see it."""
        return True

    def delete(self) -> None:
        """There is no marker."""

    release = delete


@contextmanager
def claim(target: Target) -> Iterator[Claim]:
    """Give the marker of a target, which is this conversion's alone until the end of the with block.

    Raises
    ------
    TargetError
        Another conversion has it.
    """
    made: Claim = NoClaim()
    if target.marked:
        made = StoreClaim(target) if target.root is None else FileClaim(target.root / MARKER, target.url)
    try:
        yield made
    finally:
        made.release()


def is_claimed(target: Target) -> bool:
    """Tell whether a conversion into a folder runs now; of other stores that is not known."""
    if target.root is None:
        return False
    try:
        descriptor = os.open(target.root / MARKER, os.O_RDWR | NO_FOLLOW)
    except OSError:  # not there, or not to be written to: then nobody converts into it
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def parse_marker(data: bytes | None) -> dict[str, Any]:
    """Give the document of a marker, an empty one where it is none."""
    try:
        document = json.loads(data or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def taken(target: str) -> TargetError:
    """Give the error for a target that another conversion has."""
    return TargetError(f"{target}: another conversion is writing to it now; wait for it, or name another target")
