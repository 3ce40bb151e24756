"""The errors of h5bound. Each has one argument, the message, and can be pickled.

::

    H5BoundError
    ├── SourceNotFoundError   (FileNotFoundError)    the source file does not exist
    ├── DatasetNotFoundError  (KeyError)             the file has no dataset of that name
    ├── UnsupportedError      (NotImplementedError)  an object has no exact form on the other side
    ├── SourceChangedError    (RuntimeError)         the file changed after the array was made
    ├── CorruptChunkError     (ValueError)           an encoded chunk does not decode to its declared size
    ├── UnsafeSourceError     (PermissionError)      a file reaches outside itself, or exceeds a limit
    ├── TargetError           (OSError)              the target exists, is unfinished, or is of another source
    └── OptionError           (ValueError)           an option has an invalid value
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class H5BoundError(Exception):
    """The base class of all errors that h5bound raises itself."""


class SourceNotFoundError(H5BoundError, FileNotFoundError):
    """The source file does not exist."""


class DatasetNotFoundError(H5BoundError, KeyError):
    """The file has no dataset of that name."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class UnsupportedError(H5BoundError, NotImplementedError):
    """The object exists, but cannot be read or converted exactly."""


class SourceChangedError(H5BoundError, RuntimeError):
    """The source file was replaced, edited, truncated or deleted after the array was made from it."""


class CorruptChunkError(H5BoundError, ValueError):
    """A stored chunk is damaged: it has a wrong length or checksum, or does not decode."""


class UnsafeSourceError(H5BoundError, PermissionError):
    """The source reaches outside its own file, or exceeds a limit that protects memory and time."""


class TargetError(H5BoundError, OSError):
    """The target exists already, is unfinished, or was made from another source."""


class OptionError(H5BoundError, ValueError):
    """An option has an invalid value."""


@contextmanager
def naming(
    subject: str,
    errors: type[Exception] | tuple[type[Exception], ...] = (UnsafeSourceError, SourceNotFoundError, UnsupportedError),
    *,
    raising: type[H5BoundError] | None = None,
) -> Iterator[None]:
    """Add a subject to the messages of errors, and raise them as another type if one is passed.

    >>> with naming("dataset '/x' of a.h5", ZeroDivisionError, raising=CorruptChunkError):
    ...     1 / 0
    Traceback (most recent call last):
    h5bound.errors.CorruptChunkError: dataset '/x' of a.h5: division by zero
    """
    try:
        yield
    except errors as error:
        raise (raising or type(error))(f"{subject}: {error}") from error
