"""A writable session of an icechunk repository as a target: a conversion is one commit, or none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from h5bound.errors import OptionError, TargetError
from h5bound.stores.keys import StoreKeys
from h5bound.stores.lock import MARKER, Marker
from h5bound.stores.metadata import CONSOLIDATED, EMBEDDED, dump
from h5bound.stores.target import Target
from h5bound.zarr_model.node_names import OWN_KEY, NameLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.stores.metadata import Document


FOREIGN = frozenset({MARKER, OWN_KEY, ".zgroup", ".zarray", ".zattrs", ".zmetadata"})
"""Keys of the root for which icechunk raises an error, since Zarr v3 has no such keys."""


class IcechunkTarget(Target):
    """The store of a session. icechunk itself refuses the commit of the slower one of two conversions."""

    store: Any
    marker = ""
    takes_arrays_first = True
    provenance_key = "zarr.json"
    takes_nan = False
    resumable = False

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store."""
        return StoreKeys(self.store, FOREIGN)

    def find_limits(self) -> NameLimits:
        """Return that the store holds any name."""
        return NameLimits()

    def check_format(self) -> None:
        """Raise OptionError if the store cannot be written to in this format, or not committed."""
        if self.zarr_format == 2:
            raise OptionError("zarr_format=2: icechunk holds format 3")
        if type(self.store.session).__name__ == "ForkSession":
            raise OptionError("a forked icechunk session cannot be committed; pass writable_session(branch).store")

    def write_root(self, documents: Document, provenance: Document) -> None:
        """Write the metadata document of the root with the provenance in it.

        Zarr's readers take no notice of the consolidated metadata in these stores, so it is in a field of them.
        """
        root = documents["zarr.json"]
        copies = {**root[CONSOLIDATED], EMBEDDED: provenance}
        self.keys.write([("zarr.json", dump({**root, CONSOLIDATED: copies}))])

    def read_provenance(self) -> Any:
        """Return the JSON of the provenance, None if there is none. Raise ValueError if it is no JSON."""
        copies = (super().read_provenance() or {}).get(CONSOLIDATED)
        return copies.get(EMBEDDED) if isinstance(copies, dict) else None

    @contextmanager
    def begin(self, message: str, *, overwrite: bool) -> Iterator[tuple[Target, Marker]]:
        """Yield this target without a marker, and commit the session or discard all changes.

        Raise TargetError if the session has changes already: they would be in the same commit.
        """
        session = self.store.session
        if session.has_uncommitted_changes:
            raise TargetError(
                f"{self.url}: the session has changes; commit or discard them, a conversion is one commit"
            )
        try:
            yield self, Marker()
            try:
                session.commit(message)
            except Exception as error:
                raise TargetError(f"{self.url}: icechunk refused the commit, and nothing was kept: {error}") from error
        except BaseException:
            session.discard_changes()
            raise
