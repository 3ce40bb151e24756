"""One zip file as a target: it appears when it is complete."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.errors import TargetError
from h5bound.stores.keys import StoreKeys
from h5bound.stores.lock import LockedFile, Marker
from h5bound.stores.target import Target
from h5bound.stores.zarr_internals import run
from h5bound.zarr_model.node_names import NameLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from zarr.storage import ZipStore


class ZipTarget(Target):
    """A zip file: a read-only store where the user named a path, else the user's own store, opened for writing."""

    store: ZipStore
    marker = ""
    remote = False
    resumable = False
    takes_more = False

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store; none where the path is not that of a zip file."""
        from zarr.storage import MemoryStore

        return StoreKeys(MemoryStore() if self.store.read_only and not self.is_zip() else self.store)

    def find_limits(self) -> NameLimits:
        """Return that the store holds any name."""
        return NameLimits()

    @property
    def path(self) -> Path:
        """The path of a zip file that was named by it."""
        assert self.store.path is not None
        return self.store.path

    def is_zip(self) -> bool:
        """Return whether there is a zip file at the path, or the store has no path."""
        return self.store.path is None or zipfile.is_zipfile(self.store.path)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store: only to read it."""
        return not writing and super().travels(writing=writing)

    def check_free(self, source: str) -> None:
        """Raise TargetError if a file without keys is at the path."""
        if self.store.read_only and self.path.exists() and self.keys.is_empty():
            raise TargetError(
                f"{self.url}: not a Zarr store, so it stays as it is, also with overwrite=True; choose another "
                "target or delete it"
            )

    def begin(self, message: str, *, overwrite: bool) -> AbstractContextManager[tuple[Target, Marker]]:
        """Return a context that gives the target to write to, which is closed at the end, without a marker."""
        return self.replace_file(overwrite=overwrite) if self.store.read_only else self.close_store()

    @contextmanager
    def replace_file(self, *, overwrite: bool) -> Iterator[tuple[Target, Marker]]:
        """Yield a zip file that replaces the target at the end.

        It is next to the target, as is a lock file. A killed conversion leaves both, and the next one starts over.
        """
        from zarr.storage import ZipStore

        path = self.path
        partial = path.with_name(f"{path.name}.partial")
        lock = LockedFile(path.with_name(f"{path.name}.h5bound-lock"), self.url)
        try:
            if lock.content is None and partial.exists():
                raise TargetError(f"{partial}: this conversion would write to it, but it is there already; delete it")
            self.refuse_other(overwrite=overwrite)
            store = run(ZipStore.open(partial, mode="w"))
            try:
                yield replace(self, store=store), Marker()
                store.close()
                self.refuse_other(overwrite=overwrite)
                if self.is_zip():
                    self.store.close()  # the one to replace
                partial.replace(path)
            except BaseException as error:
                error.add_note(f"{self.url}: nothing was written; convert again")
                with suppress(Exception):  # on a full disk this fails too
                    store.close()
                partial.unlink(missing_ok=True)
                raise
        finally:
            lock.delete()
            lock.release()

    def refuse_other(self, *, overwrite: bool) -> None:
        """Raise TargetError if another program has written the file since the target was checked."""
        if not overwrite and self.path.exists():
            raise TargetError(
                f"{self.url}: another program has written it during the conversion; overwrite=True replaces it"
            )

    @contextmanager
    def close_store(self) -> Iterator[tuple[Target, Marker]]:
        """Yield the caller's store and close it; after an error, empty it first if it has a path."""
        try:
            yield self, Marker()
        except BaseException:
            if self.store.path is not None:
                self.keys.clear()
            raise
        finally:
            self.store.close()
