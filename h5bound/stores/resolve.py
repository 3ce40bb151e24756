"""Resolve a path, a URL or a store object to a target."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from h5py import is_hdf5

from h5bound.errors import OptionError, TargetError
from h5bound.files.paths import expand_path
from h5bound.files.urls import USER, quote_url, redact, redact_all
from h5bound.stores.icechunk import IcechunkTarget
from h5bound.stores.keys import reaching
from h5bound.stores.target import LocalTarget, Target
from h5bound.stores.zarr_internals import run
from h5bound.stores.zip_file import ZipTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from zarr.abc.store import Store

    StoreLike = str | PathLike[str] | Store


def open_target(
    place: StoreLike,
    zarr_format: Literal[2, 3],
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = False,
) -> Target:
    """Return the target for a path, a URL or a store object. Only of a zip file is anything read.

    A path is that of a directory, or of a zip file if it ends in ``.zip``. `zarr_format` is written, or read;
    `storage_options` are for fsspec, which opens URLs. Raise OptionError if `place` is something else or the options
    do not apply to it, TargetError if a URL cannot be used or a store cannot be written to.
    """
    from zarr.storage import LocalStore, ZipStore

    url = ""
    store: Store
    if isinstance(place, (str, os.PathLike)):
        url = expand_path(place, "target")
        if re.match("file:/[^/]", url):
            raise OptionError(f"{url!r}: name a directory, a .zip file, or a URL like file:///directory")
        path = url.removeprefix("file://")
        if "://" in path:
            store, storage_options = open_url(url, storage_options, read_only=read_only), None
        else:
            absolute = Path(path).absolute()  # the workers of a cluster have other working directories
            is_zip = absolute.suffix == ".zip"
            store = ZipStore(absolute, mode="r") if is_zip else LocalStore(absolute, read_only=read_only)
    else:
        store = check_store(place, read_only=read_only)
    if storage_options:
        raise OptionError("storage_options, target_options: they are only for URLs, which fsspec opens")
    return make_target(store, zarr_format, url or describe_store(store), read_only=read_only)


def make_target(store: Store, zarr_format: Literal[2, 3], url: str, *, read_only: bool) -> Target:
    """Return the target of the class for an open store. `url` is its name in errors."""
    from zarr.storage import LocalStore, StorePath, ZipStore

    if type(store) is LocalStore:  # not opened: that would make the directory
        return LocalTarget(LocalStore(store.root.absolute(), read_only=read_only), zarr_format, url)
    if isinstance(store, ZipStore):
        if read_only and store.path is not None:  # the caller's, closed after writing, may truncate the file
            store = ZipStore(store.path, mode="r")
        zip_file = ZipTarget(store, zarr_format, url)
        if not store.read_only or zip_file.is_zip():
            run(StorePath.open(store, ""))
        return zip_file
    run(StorePath.open(store, ""))
    icechunk = sys.modules.get("icechunk")  # not imported: then the store is not icechunk's
    if icechunk is None or not isinstance(store, icechunk.IcechunkStore):
        return Target(store, zarr_format, url)
    target = IcechunkTarget(store, zarr_format, url)
    if not read_only:
        target.check_format()
    return target


def find_target(place: StoreLike, storage_options: Mapping[str, Any] | None = None) -> Target:
    """Return the target at a place to read it, in the format of the store there: 3 if there is no store.

    Raise OptionError and TargetError as `open_target` does.
    """
    target = open_target(place, 3, storage_options, read_only=True)
    root = target.keys.root if isinstance(target, LocalTarget) else None
    if root is not None and root.exists() and not root.is_dir():
        kind = "an HDF5 file" if is_hdf5(root) else "a file"
        raise TargetError(f"{target.url}: this is {kind}, not a Zarr store; name the source first, then the store")
    with reaching(target.url):
        return target if target.keys.read(".zgroup") is None else replace(target, zarr_format=2)


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
    passwords = any(":" in user for user in re.findall(USER, url))
    return passwords or any("?" in part for part in parts) or any(redact(part) != quote_url(part) for part in web)


def find_local(store: Store) -> Store:
    """Return zarr's own store if fsspec's is a local directory: fsspec's writes files in place."""
    from zarr.storage import LocalStore

    fs = getattr(store, "fs", None)
    protocol = getattr(getattr(fs, "sync_fs", fs), "protocol", ())
    is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
    return LocalStore(store.path, read_only=store.read_only) if is_local else store  # type: ignore[attr-defined]


def check_store(store: object, *, read_only: bool) -> Store:
    """Return a checked store object; raise OptionError if it is not a store, TargetError if it cannot be written to."""
    from zarr.abc.store import Store
    from zarr.storage import ZipStore

    if not isinstance(store, Store):
        raise OptionError(
            f"target: a path, a URL or a Zarr store, not {type(store).__name__}; of an icechunk repository pass "
            "writable_session(branch).store, for a store of obstore zarr.storage.ObjectStore(store)"
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
