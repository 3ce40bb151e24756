"""Any other Zarr store as a target: fsspec's, obstore's, memory, a class of the user's own."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.stores.keys import StoreKeys
from h5bound.stores.lock import MARKER, OwnedKey
from h5bound.stores.zarr_internals import unwrap

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from zarr.abc.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class GenericBackend:
    """A store that is written key by key, under a marker with the name of its owner."""

    store: Store
    marker = MARKER
    takes_arrays_first = False

    @property
    def keys(self) -> StoreKeys:
        """The keys of the store."""
        return StoreKeys(self.store)

    @property
    def resumable(self) -> bool:
        """Whether a key that an interrupted conversion left is whole.

        Of fsspec's file systems only those that are asynchronous by themselves are object stores, which write a key
        whole. The others write files in place.
        """
        return not hasattr(getattr(self.store, "fs", None), "sync_fs") or is_memory(self.store)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store."""
        return not is_memory(unwrap(self.store)) and is_picklable(self.store)

    def check_free(self, url: str, source: str) -> None:
        """Do nothing: nothing says whether the owner of a marker still runs."""

    def begin(self, url: str, message: str, *, overwrite: bool) -> AbstractContextManager[GenericBackend]:
        """Return a context that gives this backend: what is written stays, under the marker."""
        return nullcontext(self)

    def lock(self, url: str) -> AbstractContextManager[OwnedKey]:
        """Return a context that gives the marker. Raise TargetError if another conversion was faster."""
        return nullcontext(OwnedKey(self.keys, url))


def is_memory(store: Store) -> bool:
    """Return whether a store is in the memory of this process, so that a copy elsewhere is another store."""
    from zarr.storage import MemoryStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", "")
    return isinstance(store, MemoryStore) or protocol == "memory"


def is_picklable(store: Store) -> bool:
    """Return whether a store can be sent to other processes."""
    try:
        pickle.dumps(store)
    except Exception:  # noqa: BLE001 - each store has a reason of its own
        return False
    return True
