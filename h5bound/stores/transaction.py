"""What becomes of a store when its conversion ends: kept whole, or as if nothing had been written."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from h5bound.errors import TargetError
from h5bound.stores.lock import FileClaim
from h5bound.stores.target import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h5bound.stores.target import Target


@contextmanager
def committed(target: Target, source: str, *, overwrite: bool) -> Iterator[Target]:
    """Give the target to write to; what is written there is kept at the end, and not after an error.

    A path that ends in ``.zip`` is written under another name, and renamed at the end. A `ZipStore` is closed, and
    emptied first after an error. The session of an icechunk store is committed: one commit, or none. Folders and
    object stores hold what is written at once, so that it can be resumed, under the marker.

    Raises
    ------
    TargetError
        An icechunk session has changes already, which would be in that commit too.
    """
    if target.kind == "icechunk":
        with one_commit(target.store, target.url, f"h5bound: {source}"):
            yield target
    elif target.kind != "zip":
        yield target
    elif target.store.read_only:
        with renamed_zip(target, overwrite=overwrite) as partial:
            yield partial
    else:
        with closed_zip(target):
            yield target


@contextmanager
def one_commit(store: Any, url: str, message: str) -> Iterator[None]:
    """Commit the session of an icechunk store, or discard all changes."""
    session = store.session
    if session.has_uncommitted_changes:
        raise TargetError(f"{url}: the session has changes; commit or discard them, a conversion is one commit")
    try:
        yield
        try:
            session.commit(message)
        except Exception as error:
            raise TargetError(f"{url}: icechunk takes no commit, and nothing was kept: {error}") from error
    except BaseException:
        session.discard_changes()
        raise


@contextmanager
def renamed_zip(target: Target, *, overwrite: bool) -> Iterator[Target]:
    """Give a zip file beside the one that it becomes in the end, and beside that a lock.

    A conversion that was killed leaves both, and the next one begins anew.
    """
    from zarr.storage import ZipStore

    path = target.store.path  # type: ignore[attr-defined]
    partial = path.with_name(f"{path.name}.partial")
    lock = FileClaim(path.with_name(f"{path.name}.h5bound-lock"), target.url)
    try:
        if lock.found is None and partial.exists():
            raise TargetError(f"{partial}: what this conversion would be written to is there already; delete it")
        refuse_other(target, overwrite=overwrite)
        store = run(ZipStore.open(partial, mode="w"))
        try:
            yield replace(target, store=store)
            store.close()
            refuse_other(target, overwrite=overwrite)
            if target.is_there:
                target.store.close()  # what it replaces
            partial.replace(path)
        except BaseException as error:
            error.add_note(f"{target.url}: nothing was written; convert again")
            with suppress(Exception):  # on a full disk it cannot even be ended
                store.close()
            partial.unlink(missing_ok=True)
            raise
    finally:
        lock.delete()
        lock.release()


def refuse_other(target: Target, *, overwrite: bool) -> None:
    """Refuse a file that another program has put there since the target was looked at.

    Raises
    ------
    TargetError
        There is one, and it is not to be overwritten.
    """
    if not overwrite and target.store.path.exists():  # type: ignore[attr-defined]
        raise TargetError(f"{target.url}: written by another program meanwhile; overwrite=True replaces it")


@contextmanager
def closed_zip(target: Target) -> Iterator[None]:
    """Close a zip store, and empty it first after an error, where it can be made anew."""
    try:
        yield
    except BaseException:
        if target.store.path is not None:  # type: ignore[attr-defined]
            target.clear()
        raise
    finally:
        target.store.close()
