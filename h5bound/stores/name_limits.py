"""Which node names a target can hold: a folder is asked by trying them, other stores are known."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from h5bound.stores.zarr_internals import unwrap
from h5bound.zarr_model.node_names import PORTABLE, NameLimits

if TYPE_CHECKING:
    from zarr.abc.store import Store


FORBIDDEN = ("<", ">", ":", '"', "|", "?", "*", "a.", "a ", "\n")
"""Names that Windows and its file systems do not hold."""

TWINS = (("Ab", "aB"), ("é", "e\u0301"), ("ß", "ẞ"))
"""Pairs of names that some file systems take for one."""


def find_limits(store: Store) -> NameLimits:
    """Return the limits of a store that is not a zip file or icechunk's.

    Stores of fsspec that are not asynchronous by themselves lead to other machines' file systems (SFTP, SMB), which
    cannot be asked.
    """
    from zarr.storage import LocalStore, MemoryStore

    inner = unwrap(store)
    if isinstance(inner, LocalStore):
        return ask_folder(inner.root)
    if isinstance(inner, MemoryStore):
        return NameLimits()
    prefix = getattr(getattr(inner, "store", None), "prefix", None)  # of obstore
    if isinstance(prefix, Path):
        limits = ask_folder(prefix)
        return NameLimits(folds=limits.folds, windows=limits.windows, controls=True, longest=limits.longest)
    fs = getattr(inner, "fs", None)
    sync_fs = getattr(fs, "sync_fs", None)
    if sync_fs is not None:
        return NameLimits() if sync_fs.protocol == "memory" else PORTABLE
    return NameLimits(controls=True)


def ask_folder(root: Path) -> NameLimits:
    """Return the limits of a folder, or of the first above it that is there, found by making folders in it.

    They are gone when the function returns. Where nothing can be made, nothing will be written either: then they are
    the limits that the system usually has.
    """
    above = next((path for path in (root, *root.parents) if path.is_dir()), Path())
    usual = sys.platform in ("darwin", "win32")
    longest = os.pathconf(above, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    try:
        with TemporaryDirectory(prefix=".h5bound-", dir=above) as place:
            folds = any(is_one(Path(place, str(number)), *pair) for number, pair in enumerate(TWINS))
            windows = os.name == "nt" or not holds(Path(place, "names"), FORBIDDEN)
    except OSError:
        folds, windows = usual, sys.platform == "win32"
    return NameLimits(folds=folds, windows=windows, longest=longest)


def is_one(place: Path, one: str, other: str) -> bool:
    """Return whether two names are one in a new folder, or one of them is altered."""
    return not holds(place, (one, other))


def holds(place: Path, names: tuple[str, ...]) -> bool:
    """Return whether a new folder holds each of these names as it is."""
    place.mkdir()
    try:
        for name in names:
            (place / name).mkdir()
    except (OSError, ValueError):
        return False
    return {path.name for path in place.iterdir()} == set(names)
