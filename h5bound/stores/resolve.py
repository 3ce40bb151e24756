"""Which store a path, a URL or a store object stands for."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from h5bound.errors import OptionError, TargetError
from h5bound.files.urls import USER, quote_url, redact, redact_all
from h5bound.stores.generic import GenericBackend, reaching
from h5bound.stores.icechunk import IcechunkBackend
from h5bound.stores.local import LocalBackend
from h5bound.stores.target import Target
from h5bound.stores.zarr_internals import run
from h5bound.stores.zip_file import ZipBackend

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from zarr.abc.store import Store

    from h5bound.stores.target import Backend

    StoreLike = str | PathLike[str] | Store


def open_target(
    place: StoreLike,
    zarr_format: Literal[2, 3],
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = False,
) -> Target:
    """Return the store at a path or URL, or the one that is passed. Nothing is read from it, except of a zip file.

    Parameters
    ----------
    place
        The path of a directory, or of a zip file if it ends in ``.zip``; a URL for fsspec; or a Zarr store.
    zarr_format
        Format to write, or to read.
    storage_options
        Options for fsspec, if `place` is a URL.
    read_only
        Whether the store is only read.

    Raises
    ------
    OptionError
        `place` is none of these, or the options are not for it.
    TargetError
        The URL cannot be used, or the store cannot be written to.
    """
    url = ""
    if isinstance(place, (str, os.PathLike)):
        url = os.fspath(place)
        if not url or "\0" in url or re.match("file:/[^/]", url):
            raise OptionError(f"{url!r}: name a folder, a .zip file, or a URL like file:///folder")
        path = url.removeprefix("file://")
        if "://" in path:
            store, storage_options = open_url(url, storage_options, read_only=read_only), None
        else:
            store = open_path(Path(path), read_only=read_only)
    else:
        store = check_store(place, read_only=read_only)
    if storage_options:
        raise OptionError("storage_options: they are only for URLs, which fsspec opens")
    return Target(choose_backend(store, zarr_format, read_only=read_only), zarr_format, url or describe_store(store))


def choose_backend(store: Store, zarr_format: Literal[2, 3], *, read_only: bool) -> Backend:
    """Return what converts into a store of this class, with the store open."""
    from zarr.storage import LocalStore, StorePath, ZipStore

    icechunk = sys.modules.get("icechunk")  # not imported: then the store is not icechunk's
    if type(store) is LocalStore:  # not opened: that would make the folder
        return LocalBackend(LocalStore(store.root.absolute(), read_only=read_only))
    if isinstance(store, ZipStore):
        if read_only and store.path is not None:  # the caller's, closed after writing, may truncate the file
            store = ZipStore(store.path, mode="r")
        backend = ZipBackend(store)
        if not store.read_only or backend.is_zip():
            run(StorePath.open(store, ""))
        return backend
    run(StorePath.open(store, ""))
    if icechunk is not None and isinstance(store, icechunk.IcechunkStore):
        return IcechunkBackend.of(store, zarr_format, read_only=read_only)
    return GenericBackend(store)


def find_target(place: StoreLike, storage_options: Mapping[str, Any] | None = None) -> Target:
    """Return the store at a place to read it, in the format that it has there: 3 if it has none.

    Raise OptionError and TargetError as `open_target` does.
    """
    target = open_target(place, 3, storage_options, read_only=True)
    with reaching(target.url):
        return target if target.keys.read(".zgroup") is None else Target(target.backend, 2, target.url)


def open_path(path: Path, *, read_only: bool) -> Store:
    """Return the store at a local path; a zip file is only read through it."""
    from zarr.storage import LocalStore, ZipStore

    path = path.absolute()  # the workers of a cluster have other working directories
    return ZipStore(path, mode="r") if path.suffix == ".zip" else LocalStore(path, read_only=read_only)


def open_url(url: str, storage_options: Mapping[str, Any] | None, *, read_only: bool) -> Store:
    """Return the store at a URL.

    Raise TargetError if there are credentials in the URL, or no file system for it is installed. Listings are not
    cached: they would not show what other processes wrote or deleted.
    """
    if has_credentials(url):
        raise TargetError(
            f"{redact(url)}: credentials in a URL would appear in every report; pass them in storage_options"
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
    """Return whether a URL, or one in a chain of them, may hold a password or a signature.

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


def find_local(store: Store) -> Store:
    """Return zarr's own store of a local directory in place of fsspec's, which writes files in place."""
    from zarr.storage import LocalStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", ())
    is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
    return LocalStore(store.path, read_only=store.read_only) if is_local else store  # type: ignore[attr-defined]


def check_store(store: object, *, read_only: bool) -> Store:
    """Return a store object as it is used. Raise OptionError if it is none, TargetError if it cannot be written to."""
    from zarr.abc.store import Store
    from zarr.storage import ZipStore

    if not isinstance(store, Store):
        raise OptionError(
            f"target: a path, a URL or a Zarr store, not {type(store).__name__}; "
            "of an icechunk repository pass writable_session(branch).store"
        )
    if not read_only and (store.read_only or not store.supports_writes):
        raise TargetError(f"{describe_store(store)}: nothing can be written to it, it is opened read-only")
    if not read_only and not store.supports_deletes and not isinstance(store, ZipStore):
        raise TargetError(
            f"{describe_store(store)}: nothing can be deleted from it, and a conversion deletes its marker"
        )
    return find_local(store)


def describe_store(store: Store) -> str:
    """Return the name of a store object in reports and errors, without the names and passwords in its URLs."""
    session = getattr(store, "session", None)
    if session is not None:
        return f"icechunk://{session.branch or session.snapshot_id}"
    return redact_all(re.sub(r"//[^/@\s]*@", "//", str(store)))
