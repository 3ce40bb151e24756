"""A local directory as a target."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h5bound.errors import TargetError
from h5bound.stores.keys import FolderKeys
from h5bound.stores.lock import MARKER, LockedFile, busy, is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from zarr.storage import LocalStore


@dataclass(frozen=True, slots=True, eq=False)
class LocalBackend:
    """A folder, written file by file under a locked marker."""

    store: LocalStore
    marker = MARKER
    takes_arrays_first = False
    resumable = True

    @property
    def keys(self) -> FolderKeys:
        """The keys of the store."""
        return FolderKeys(Path(self.store.root))

    def travels(self, *, writing: bool) -> bool:
        """Return True."""
        return True

    def check_free(self, url: str, source: str) -> None:
        """Raise TargetError if a conversion is writing now, or a file is at the path."""
        root = self.keys.root
        if root.is_file():
            name = "the source itself" if str(root.resolve()) == source else "a file"
            raise TargetError(f"{url}: this is {name}, not a folder for a store; name another target")
        if is_locked(root / MARKER):
            raise busy(url)

    def begin(self, url: str, message: str, *, overwrite: bool) -> AbstractContextManager[LocalBackend]:
        """Return a context that gives this backend: what is written stays, under the marker."""
        return nullcontext(self)

    @contextmanager
    def lock(self, url: str) -> Iterator[LockedFile]:
        """Yield the marker. Raise TargetError if another conversion has locked it."""
        marker = LockedFile(self.keys.root / MARKER, url)
        try:
            yield marker
        finally:
            marker.release()
