"""The Zarr store that a conversion writes: its keys, and the begin and end of a conversion into it.

Chunks are written first and metadata documents last, those of the root last of all. Until then no node can be opened.

==============  ========================================  ======================================================
class           store                                     what an unfinished conversion leaves
==============  ========================================  ======================================================
LocalTarget     a local directory                         chunks and the marker
ZipTarget       one zip file, written by this process     nothing: the file appears when it is whole
IcechunkTarget  a session of a repository                 nothing: one commit or none
Target          fsspec's and obstore's stores, memory …   chunks and the marker
==============  ========================================  ======================================================

To add a store, add a module with a subclass of `Target`, and a line in
:func:`h5bound.stores.resolve.make_target`.
"""

from __future__ import annotations

import json
import pickle
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import h5py

from h5bound.errors import TargetError
from h5bound.stores.keys import StoreKeys
from h5bound.stores.local import DirectoryKeys
from h5bound.stores.lock import MARKER, LockedFile, OwnedKey, busy, is_locked
from h5bound.stores.metadata import dump
from h5bound.stores.name_limits import find_limits
from h5bound.stores.zarr_internals import unwrap
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from zarr.abc.store import Store
    from zarr.storage import LocalStore

    from h5bound.stores.lock import Marker
    from h5bound.stores.metadata import Document
    from h5bound.zarr_model.node_names import NameLimits


@dataclass(frozen=True, eq=False)
class Target:
    """A Zarr store that is written key by key, under a marker with the name of its owner; subclasses override how.

    It can be pickled if the store can.
    """

    store: Store = field(repr=False)
    """The store as zarr has it, perhaps with credentials in `storage_options`."""
    zarr_format: Literal[2, 3]
    url: str
    """Name in reports and errors."""
    marker = MARKER
    """Key of an unfinished conversion; "" where nothing can be seen before a conversion is complete."""
    remote = True
    """Whether each key may be a request to a server."""
    takes_arrays_first = False
    """Whether the metadata document of an array has to be there before its chunks."""
    takes_more = True
    """Whether a store that is complete can be written to."""
    provenance_key = OWN_KEY
    """Key of the document that holds the provenance."""
    takes_nan = True
    """Whether metadata documents may hold NaN, as Python writes it."""

    @property
    def keys(self) -> DirectoryKeys | StoreKeys:
        """The keys of the store."""
        return StoreKeys(self.store)

    @property
    def resumable(self) -> bool:
        """Whether a key that an interrupted conversion left is whole.

        Of fsspec's file systems only those that are asynchronous by themselves are object stores, which write a key
        whole. The others write files in place.
        """
        return not hasattr(getattr(self.store, "fs", None), "sync_fs") or is_memory(self.store)

    def find_limits(self) -> NameLimits:
        """Return what node names the store cannot hold; a folder is asked."""
        return find_limits(self.store)

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store."""
        if is_memory(unwrap(self.store)):
            return False
        try:
            pickle.dumps(self.store)
        except Exception:  # noqa: BLE001 - each store has a reason of its own
            return False
        return True

    def check_reach(self, scheduler: str | None, *, writing: bool) -> None:
        """Raise TargetError if tasks run in other processes, and these cannot reach the store.

        `scheduler` is the address of a cluster, None for the scheduler in force.
        """
        from h5bound.execution.scheduler import runs_on_threads

        if not runs_on_threads(scheduler) and not self.travels(writing=writing):
            raise TargetError(
                f"{self.url}: only this process can use it, and tasks run in others; "
                "name a directory or a URL, or set dask.config.set(scheduler='threads')"
            )

    def check_free(self, source: str) -> None:
        """Raise TargetError if another conversion is known to write to it, or its path is a file, perhaps `source`."""

    def begin(self, message: str, *, overwrite: bool) -> AbstractContextManager[tuple[Target, Marker]]:
        """Return a context with the target to write to and its marker. At its end writes are made permanent, or undone.

        `message` describes the commit, where there is one. Raise TargetError if another conversion has the target.
        """
        return nullcontext((self, OwnedKey(StoreKeys(self.store), self.url)))

    def write_root(self, documents: Document, provenance: Document) -> None:
        """Write the provenance and the metadata documents of the root, of which the last makes the store a store."""
        entries = dump(provenance, compact="combined" in provenance)  # of thousands of files, read by nobody
        for key, data in [(OWN_KEY, entries), *((key, dump(document)) for key, document in documents.items())]:
            self.keys.write([(key, data)])

    def read_provenance(self) -> Any:
        """Return the JSON of the provenance, None if there is none. Raise ValueError if it is no JSON."""
        data = self.keys.read(self.provenance_key)
        return None if data is None else json.loads(data)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path. Raise TargetError if the store has any and cannot delete them."""
        try:
            self.keys.delete_prefix(prefix)
        except NotImplementedError as error:
            raise TargetError(
                f"{self.url}: {prefix} was written in part before it could not be read, and nothing can be deleted "
                "from a zip; skip it with exclude= or convert into a directory"
            ) from error


class LocalTarget(Target):
    """A directory, written file by file under a locked marker."""

    store: LocalStore
    remote = False
    resumable = True

    @property
    def keys(self) -> DirectoryKeys:
        """The keys of the store."""
        return DirectoryKeys(self.store.root)

    def travels(self, *, writing: bool) -> bool:
        """Return that other processes reach the directory."""
        return True

    def check_free(self, source: str) -> None:
        """Raise TargetError if a conversion is writing now, or a file is at the path."""
        root = self.keys.root
        if root.exists() and not root.is_dir():
            name = "the source itself" if str(root.resolve()) == source else "a file"
            advice = "name another target"
            if name == "a file" and h5py.is_hdf5(root):
                name, advice = "an HDF5 file", "name the target after the sources"
            raise TargetError(f"{self.url}: this is {name}, not a directory for a store; {advice}")
        if is_locked(root / MARKER):
            raise busy(self.url)

    @contextmanager
    def begin(self, message: str, *, overwrite: bool) -> Iterator[tuple[Target, Marker]]:
        """Yield this target and its marker. Raise TargetError if another conversion has locked it."""
        marker = LockedFile(self.keys.root / MARKER, self.url)
        try:
            yield self, marker
        finally:
            marker.release()


def is_memory(store: Store) -> bool:
    """Return whether a store is in the memory of this process: its copy in another process is another store."""
    from zarr.storage import MemoryStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", "")
    return isinstance(store, MemoryStore) or protocol == "memory"
