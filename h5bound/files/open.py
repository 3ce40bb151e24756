"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from h5bound.errors import H5BoundError, SourceNotFoundError

if TYPE_CHECKING:
    from io import RawIOBase


def open_file(path: str, view: RawIOBase | None = None) -> h5py.File:
    """Give the HDF5 file at ``path``, open for reading; through a Python file if it is not of this machine.

    Raises
    ------
    SourceNotFoundError
        Nothing is there.
    H5BoundError
        It cannot be opened; the message names the way out where there is one.
    """
    if view is None and Path(path).exists() and not Path(path).is_file():  # to open a pipe would wait for a writer
        what = "a directory" if Path(path).is_dir() else "no regular file"
        raise H5BoundError(f"{path}: {what}, not an HDF5 file")
    try:
        return h5py.File(view or path, "r")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: no such file") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise H5BoundError(f"{path}: {_explain(error)}") from error


_WAYS_OUT = {
    "file signature not found": "not an HDF5 file",
    "consistency flags": "marked as open for writing: close the program that writes it, or if that writes for readers "
    "(SWMR), pass h5py.File(FILE, 'r', swmr=True); if there is none, one ended without closing the file: clear the "
    "mark with `h5clear -s FILE`",
    "is already open": "open in this process for writing: pass the open h5py.File itself, or close it",
    "truncated file": "truncated: it is shorter than HDF5 recorded; fetch it again",
    "Permission denied": "it may not be read by this user: `chmod +r FILE`, or ask whose it is",
    "unable to lock file": "locked by a program that writes to it, perhaps the one that runs this: close it there, or "
    "set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks",
}


def _explain(error: Exception) -> str:
    message, version = str(error), h5py.version.hdf5_version
    for part, meaning in _WAYS_OUT.items():
        if part in message:
            return f"{meaning} (HDF5 {version})"
    return f"HDF5 {version} cannot open it: {message}"
