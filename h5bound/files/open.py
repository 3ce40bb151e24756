"""Open an HDF5 file with h5py, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from h5bound.errors import H5BoundError, SourceNotFoundError

if TYPE_CHECKING:
    from io import RawIOBase


def open_file(path: str, view: RawIOBase | None = None) -> h5py.File:
    """Open an HDF5 file for reading, through a Python file `view` if it is remote.

    Raise SourceNotFoundError if there is no file, H5BoundError if it cannot be opened.
    """
    if view is None and Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for a writer
        description = "a directory" if Path(path).is_dir() else "not a regular file"
        raise H5BoundError(f"{path}: this is {description}, not an HDF5 file")
    try:
        return h5py.File(view or path, "r")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:
        version = f"HDF5 {h5py.version.hdf5_version}"
        meaning = next((meaning for part, meaning in _MEANINGS.items() if part in str(error)), None)
        detail = f"{meaning} (library: {version})" if meaning else f"{version} cannot open the file: {error}"
        raise H5BoundError(f"{path}: {detail}") from error


_MEANINGS = {
    "file signature not found": "this is not an HDF5 file",
    "consistency flags": "the file is marked as open for writing. Close the program that writes it, or, if it writes "
    "in SWMR mode, pass h5py.File(FILE, 'r', swmr=True). If no program writes it, one ended without closing the file: "
    "clear the mark with `h5clear -s FILE`",
    "is already open": "the file is open for writing in this process: pass the open h5py.File itself, or close it",
    "truncated file": "the file is truncated: it is shorter than HDF5 recorded; fetch it again",
    "Permission denied": "this user may not read the file: `chmod +r FILE`, or ask its owner",
    "unable to lock file": "the file is locked by a program that writes to it, perhaps this one: close it there, or "
    "set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks",
}
