"""The Zarr store that a conversion writes: its keys, and what begins and ends a conversion into it.

Chunks are written first and metadata documents last, those of the root last of all. Until then no node can be opened.

================  ========================================  ====================================================
module            store                                     what an unfinished conversion leaves
================  ========================================  ====================================================
`local`           a local directory                         chunks and the marker
`generic`         fsspec's and obstore's stores, memory …   chunks and the marker
`zip_file`        one zip file, written by this process     nothing: the file appears when it is whole
`icechunk`        a session of a repository                 nothing: one commit or none
================  ========================================  ====================================================

Another kind of store is one more module with a `Backend`, and a line in :func:`h5bound.stores.resolve.choose_backend`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from h5bound.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from zarr.abc.store import Store

    from h5bound.stores.generic import OwnedKey, StoreKeys
    from h5bound.stores.local import FolderKeys
    from h5bound.stores.lock import LockedFile, NoMarker

    Marker = LockedFile | OwnedKey | NoMarker


class Backend(Protocol):
    """One kind of store: how a conversion begins, how it ends or is undone, and what keeps a second one out."""

    marker: str
    """Key of an unfinished conversion; "" where nothing can be seen before a conversion is complete."""
    takes_arrays_first: bool
    """Whether the metadata document of an array has to be there before its chunks."""

    @property
    def store(self) -> Store:
        """The store as zarr has it."""

    @property
    def keys(self) -> FolderKeys | StoreKeys:
        """The keys of the store."""

    @property
    def resumable(self) -> bool:
        """Whether a key that an interrupted conversion left is whole."""

    def travels(self, *, writing: bool) -> bool:
        """Return whether a copy in another process reaches the same store."""

    def check_free(self, url: str, source: str) -> None:
        """Raise TargetError if a conversion is writing, as far as that is known, or a file is in the way.

        `url` names the target in the error, `source` is the path of the HDF5 file.
        """

    def begin(self, url: str, message: str, *, overwrite: bool) -> AbstractContextManager[Backend]:
        """Return a context that gives the backend to write to: committed at its end, undone after an error."""

    def lock(self, url: str) -> AbstractContextManager[Marker]:
        """Return a context that gives the marker. Raise TargetError if another conversion has it."""


@dataclass(frozen=True, eq=False)
class Target:
    """A store, and the format that it has. It can be pickled if the store can."""

    backend: Backend = field(repr=False)
    """Its store may hold credentials in `storage_options`."""
    zarr_format: Literal[2, 3]
    url: str
    """Name in reports and errors."""

    @property
    def store(self) -> Store:
        """The store as zarr has it."""
        return self.backend.store

    @property
    def keys(self) -> FolderKeys | StoreKeys:
        """The keys of the store."""
        return self.backend.keys

    def check_reach(self, scheduler: str | None, *, writing: bool) -> None:
        """Raise TargetError if tasks run in other processes, and these cannot reach the store.

        Parameters
        ----------
        scheduler
            Address of a cluster; None for the scheduler in force.
        writing
            Whether the tasks write to the store.
        """
        from h5bound.execution.run import runs_on_threads

        if not runs_on_threads(scheduler) and not self.backend.travels(writing=writing):
            raise TargetError(
                f"{self.url}: only this process can use it, and tasks run in others; "
                "name a folder or a URL, or set dask.config.set(scheduler='threads')"
            )

    @contextmanager
    def begin(self, message: str, *, overwrite: bool) -> Iterator[tuple[Target, Marker]]:
        """Yield the target to write to and its marker. What is written is kept at the end, or undone after an error.

        `message` describes the commit, where there is one. Raise TargetError if another conversion has the target.
        """
        with self.backend.begin(self.url, message, overwrite=overwrite) as backend, backend.lock(self.url) as marker:
            yield replace(self, backend=backend), marker

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path. Raise TargetError if there are some, and the store cannot delete."""
        try:
            self.keys.delete_prefix(prefix)
        except NotImplementedError as error:
            raise TargetError(
                f"{self.url}: {prefix} was written in part before it could not be read, and nothing can be deleted "
                "from a zip; leave it out with exclude, or convert into a folder"
            ) from error
