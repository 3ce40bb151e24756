"""Which store a path, a URL or a store object stands for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import is_zipfile

from h5bound.errors import OptionError, TargetError
from h5bound.files.urls import USER, quote_url, redact, redact_all
from h5bound.stores.target import Target, reaching, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from zarr.abc.store import Store
    from zarr.storage import FsspecStore

    StoreLike = str | PathLike[str] | Store


def open_target(
    place: StoreLike,
    zarr_format: Literal[2, 3],
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = False,
) -> Target:
    """Give the store at a path or URL, or the one that is passed. Nothing is asked of it yet.

    Parameters
    ----------
    place
        A path: a directory, or one zip file where it ends in ``.zip``. A URL that fsspec knows. A Zarr store.
    zarr_format
        What is read or written there.
    storage_options
        Of fsspec, for a URL.
    read_only
        Whether nothing is to be written.

    Raises
    ------
    OptionError
        It is nothing of the kind, or the options are for nothing.
    TargetError
        The URL cannot be used, or the store not be written to.
    """
    if isinstance(place, (str, os.PathLike)):
        text = os.fspath(place)
        if not text or "\0" in text or re.match("file:/[^/]", text):
            raise OptionError(f"{text!r}: name a folder, a .zip file, or a URL like file:///folder")
        path = text.removeprefix("file://")
        if "://" in path:
            return Target(open_url(text, storage_options, read_only=read_only), zarr_format, text)
        store = open_path(Path(path), read_only=read_only)
    else:
        text, store = "", check_store(place, zarr_format, read_only=read_only)
    if storage_options:
        raise OptionError("storage_options: they are for URLs that fsspec knows")
    return Target(store, zarr_format, text or describe_store(store))


def find_target(place: StoreLike, storage_options: Mapping[str, Any] | None = None) -> Target:
    """Give the store at a place to read from, in the format that it has there; 3 if nothing tells.

    Raises
    ------
    OptionError, TargetError
        As for `open_target`.
    """
    third = open_target(place, 3, storage_options, read_only=True)
    second = Target(third.store, 2, third.url)
    with reaching(third):
        return second if second.read(".zgroup") is not None else third


def open_path(path: Path, *, read_only: bool) -> Store:
    """Give the store at a local path; a zip file is only read through it."""
    from zarr.storage import LocalStore, StorePath, ZipStore

    path = path.absolute()  # the workers of a cluster stand elsewhere
    if path.suffix != ".zip":
        return LocalStore(path, read_only=read_only)
    store = ZipStore(path, mode="r")
    if is_zipfile(path):
        run(StorePath.open(store, ""))
    return store


def open_url(url: str, storage_options: Mapping[str, Any] | None, *, read_only: bool) -> Store:
    """Give the store at a URL.

    Listings are not cached: they would not show what other processes wrote or deleted.

    Raises
    ------
    TargetError
        There are credentials in it, or nothing that knows it is installed.
    """
    if has_credentials(url):
        raise TargetError(
            f"{redact(url)}: credentials in a URL would stand in every report; pass them in storage_options"
        )
    try:
        from zarr.storage import FsspecStore

        options = {"use_listings_cache": False, **(storage_options or {})}
        store = FsspecStore.from_url(url, storage_options=options, read_only=read_only)
    except (ImportError, ValueError, OSError) as error:
        words = redact_all(str(error))
        raise TargetError(f"{url}: {words} (pip install 'h5bound[remote]' brings s3:// and https://)") from error
    return find_local(store)


def has_credentials(url: str) -> bool:
    """Tell whether there may be a password or a signature in a URL, or in one of a chain.

    >>> [has_credentials(url) for url in ("s3://bucket/a", "abfs://container@account/a", "memory://a#1")]
    [False, False, False]
    >>> urls = ("ftp://me:pass@host/a", "simplecache::https://host/a?sig=x", "https://me@host")
    >>> [has_credentials(url) for url in urls]
    [True, True, True]
    """
    parts = url.split("::")
    web = [part for part in parts if part.lower().startswith(("http://", "https://"))]
    passwords = any(":" in user for user in USER.findall(url))
    return passwords or any("?" in part for part in parts) or any(redact(part) != quote_url(part) for part in web)


def find_local(store: FsspecStore) -> Store:
    """Give zarr's own store of a local directory in place of fsspec's, which writes files in place."""
    from zarr.storage import LocalStore

    protocol = getattr(store.fs, "sync_fs", store.fs).protocol
    known = (protocol,) if isinstance(protocol, str) else protocol
    return LocalStore(store.path, read_only=store.read_only) if "file" in known else store


def check_store(store: object, zarr_format: Literal[2, 3], *, read_only: bool) -> Store:
    """Give a store object as it is to be used.

    Raises
    ------
    OptionError
        It is no store, or cannot have that format.
    TargetError
        It cannot be written to.
    """
    from zarr.abc.store import Store
    from zarr.storage import FsspecStore, LocalStore, StorePath, ZipStore

    if not isinstance(store, Store):
        raise OptionError(
            f"target: a path, a URL or a Zarr store, not {type(store).__name__}; "
            "of an icechunk repository pass writable_session(branch).store"
        )
    if not read_only and (store.read_only or not store.supports_writes):
        raise TargetError(f"{describe_store(store)}: nothing can be written to it, it is opened read-only")
    if not read_only and not store.supports_deletes and not isinstance(store, ZipStore):
        raise TargetError(f"{describe_store(store)}: nothing can be deleted from it, such as the mark of a beginning")
    if read_only and isinstance(store, ZipStore) and store.path is not None:
        return open_path(store.path, read_only=True)  # one that was closed after writing may truncate it if used again
    if type(store) is LocalStore:
        return LocalStore(store.root.absolute(), read_only=read_only)
    if Target(store, zarr_format, "").kind == "icechunk" and zarr_format == 2 and not read_only:
        raise OptionError("zarr_format=2: icechunk holds format 3")
    if type(getattr(store, "session", None)).__name__ == "ForkSession" and not read_only:
        raise OptionError("a forked icechunk session takes no commit; pass writable_session(branch).store")
    run(StorePath.open(store, ""))
    return find_local(store) if isinstance(store, FsspecStore) else store


def describe_store(store: Store) -> str:
    """Give what a store object is called in reports and errors."""
    if Target(store, 3, "").kind == "icechunk":
        session = store.session  # type: ignore[attr-defined]
        return f"icechunk://{session.branch or session.snapshot_id}"
    return redact_all(hide_user(str(store)))


def hide_user(text: str) -> str:
    """Give a text without the names and passwords in its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
