"""One zip file as a target: it is complete, or nothing of it is there."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.errors import TargetError
from h5bound.stores.generic import StoreKeys, is_picklable
from h5bound.stores.lock import LockedFile, NoMarker
from h5bound.stores.zarr_internals import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from zarr.storage import ZipStore


@dataclass(frozen=True, slots=True, eq=False)
class ZipBackend:
    """A zip file: a read-only store where the user named a path, else the user's own store, opened for writing."""

    store: ZipStore
    marker = ""
    takes_arrays_first = False
    resumable = False

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store; none where the path is not that of a zip file."""
        from zarr.storage import MemoryStore

        return StoreKeys(MemoryStore() if self.store.read_only and not self.is_zip() else self.store)

    def is_zip(self) -> bool:
        """Return whether there is a zip file at the path, or the store has no path."""
        return self.store.path is None or zipfile.is_zipfile(self.store.path)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store: only to read it."""
        return not writing and is_picklable(self.store)

    def check_free(self, url: str, source: str) -> None:
        """Raise TargetError if a file without keys is at the path."""
        if self.store.read_only and find_path(self).exists() and self.keys.is_empty():
            raise TargetError(
                f"{url}: this file exists and is no Zarr store; it is not overwritten, delete it yourself"
            )

    def begin(self, url: str, message: str, *, overwrite: bool) -> AbstractContextManager[ZipBackend]:
        """Return a context that gives the store to write to, which is closed at the end."""
        return replace_file(self, url, overwrite=overwrite) if self.store.read_only else close_store(self)

    def lock(self, url: str) -> AbstractContextManager[NoMarker]:
        """Return a context without a marker: `begin` keeps other conversions out."""
        return nullcontext(NoMarker())


def find_path(backend: ZipBackend) -> Path:
    """Return the path of a zip file that was named by it."""
    assert backend.store.path is not None
    return backend.store.path


@contextmanager
def replace_file(backend: ZipBackend, url: str, *, overwrite: bool) -> Iterator[ZipBackend]:
    """Yield a zip file that replaces the target at the end.

    It is next to the target, as is a lock file. A conversion that is killed leaves both, and the next one starts over.
    """
    from zarr.storage import ZipStore

    path = find_path(backend)
    partial = path.with_name(f"{path.name}.partial")
    lock = LockedFile(path.with_name(f"{path.name}.h5bound-lock"), url)
    try:
        if lock.content is None and partial.exists():
            raise TargetError(f"{partial}: this conversion would write to it, but it is there already; delete it")
        refuse_other(path, url, overwrite=overwrite)
        store = run(ZipStore.open(partial, mode="w"))
        try:
            yield ZipBackend(store)
            store.close()
            refuse_other(path, url, overwrite=overwrite)
            if backend.is_zip():
                backend.store.close()  # the one to replace
            partial.replace(path)
        except BaseException as error:
            error.add_note(f"{url}: nothing was written; convert again")
            with suppress(Exception):  # on a full disk this fails too
                store.close()
            partial.unlink(missing_ok=True)
            raise
    finally:
        lock.delete()
        lock.release()


def refuse_other(path: Path, url: str, *, overwrite: bool) -> None:
    """Raise TargetError if another program has written the file since the target was checked."""
    if not overwrite and path.exists():
        raise TargetError(f"{url}: another program has written it meanwhile; overwrite=True replaces it")


@contextmanager
def close_store(backend: ZipBackend) -> Iterator[ZipBackend]:
    """Yield the caller's store and close it; after an error it is emptied before, if it has a path to be made again."""
    try:
        yield backend
    except BaseException:
        if backend.store.path is not None:
            backend.keys.clear()
        raise
    finally:
        backend.store.close()
