"""A writable session of an icechunk repository as a target: a conversion is one commit, or none."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from h5bound.errors import OptionError, TargetError
from h5bound.stores.generic import StoreKeys, is_picklable
from h5bound.stores.lock import MARKER, NoMarker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


FOREIGN = frozenset({MARKER, ".zgroup", ".zarray", ".zattrs", ".zmetadata"})
"""Keys of the root that are not keys of Zarr v3: icechunk raises an error for them."""


@dataclass(frozen=True, slots=True, eq=False)
class IcechunkBackend:
    """The store of a session."""

    store: Any
    marker = ""
    takes_arrays_first = True
    resumable = False

    @classmethod
    def of(cls, store: Any, zarr_format: Literal[2, 3], *, read_only: bool) -> Self:
        """Return the backend of a store. Raise OptionError if it cannot be written to in this format."""
        if not read_only and zarr_format == 2:
            raise OptionError("zarr_format=2: icechunk holds format 3")
        if not read_only and type(store.session).__name__ == "ForkSession":
            raise OptionError("a forked icechunk session cannot be committed; pass writable_session(branch).store")
        return cls(store)

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store."""
        return StoreKeys(self.store, FOREIGN)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store; icechunk refuses to pickle some."""
        return is_picklable(self.store)

    def check_free(self, url: str, source: str) -> None:
        """Do nothing: icechunk itself refuses the commit of the slower one of two."""

    @contextmanager
    def begin(self, url: str, message: str, *, overwrite: bool) -> Iterator[IcechunkBackend]:
        """Yield this backend, and commit the session or discard all changes.

        Raise TargetError if the session has changes already: they would be in the same commit.
        """
        session = self.store.session
        if session.has_uncommitted_changes:
            raise TargetError(f"{url}: the session has changes; commit or discard them, a conversion is one commit")
        try:
            yield self
            try:
                session.commit(message)
            except Exception as error:
                raise TargetError(f"{url}: icechunk refused the commit, and nothing was kept: {error}") from error
        except BaseException:
            session.discard_changes()
            raise

    def lock(self, url: str) -> AbstractContextManager[NoMarker]:
        """Return a context without a marker: nothing is seen before the commit."""
        return nullcontext(NoMarker())
