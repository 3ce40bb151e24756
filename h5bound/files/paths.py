"""Local paths as users type them."""

from __future__ import annotations

import os
from os import PathLike

from h5bound.errors import OptionError

STREAMS = {"-", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/0", "/dev/fd/1", "/dev/fd/2"}
"""Names of the standard streams."""

ADVICE = {
    "target": "; name a directory, a .zip file, or a URL like file:///directory",
    "allow_external": "; name a directory, for the current one pass '.'",
}
"""What to do where a text is no path, by option."""


def expand_path(place: object, option: str = "") -> str:
    """Return a path with ``~`` replaced by the home directory. A URL is returned as it is.

    Raise OptionError if it is not a path, empty, or a standard stream: HDF5 and Zarr need to move within a file.

    >>> expand_path("-", "source")
    Traceback (most recent call last):
    h5bound.errors.OptionError: source='-': standard streams cannot be used; give a path (a file named - is ./-)
    """
    prefix = f"{option}=" if option else ""
    if not isinstance(place, (str, bytes, PathLike)):
        raise OptionError(f"{prefix}{place!r}: give a path, not {type(place).__name__}")
    path = os.fsdecode(place)
    if not path or "\0" in path or not is_encodable(path):
        raise OptionError(f"{prefix}{path[:80]!r}: this is not a path{ADVICE.get(option, '')}")
    if path in STREAMS:
        raise OptionError(f"{prefix}{path!r}: standard streams cannot be used; give a path (a file named - is ./-)")
    return os.path.expanduser(path)  # noqa: PTH111 - a Path would change URLs


def is_encodable(path: str) -> bool:
    """Return whether the file system can have the text as a name: not with halves of UTF-16 pairs."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
