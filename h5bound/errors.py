"""The errors of h5bound, each with one argument: what was found, where, and what would work.

::

    H5BoundError
    ├── SourceNotFoundError   (FileNotFoundError)    the source file is not there
    ├── DatasetNotFoundError  (KeyError)             the file holds no such dataset
    ├── UnsupportedError      (NotImplementedError)  it is there, and has no exact form on the other side
    ├── SourceChangedError    (RuntimeError)         the file is not the one the array was made from
    ├── CorruptChunkError     (ValueError)           a stored chunk does not decode to its declared size
    ├── UnsafeSourceError     (PermissionError)      it reaches outside the file, or passes a limit
    └── TargetError           (OSError)              the target exists, is incomplete, or is of another source

They cross processes: every one pickles to itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class H5BoundError(Exception):
    """The root of all errors that h5bound raises itself."""


class SourceNotFoundError(H5BoundError, FileNotFoundError):
    """The source file is not there."""


class DatasetNotFoundError(H5BoundError, KeyError):
    """The file holds no dataset of that name."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class UnsupportedError(H5BoundError, NotImplementedError):
    """The object is there, but cannot be carried exactly."""


class SourceChangedError(H5BoundError, RuntimeError):
    """The source file was replaced, edited, truncated or deleted since it was looked at."""


class CorruptChunkError(H5BoundError, ValueError):
    """A stored chunk is damaged: wrong length, wrong checksum, or it does not decode."""


class UnsafeSourceError(H5BoundError, PermissionError):
    """The source reaches outside its own file, or passes a limit that guards memory and time."""


class TargetError(H5BoundError, OSError):
    """The target exists already, is incomplete, or was made from another source."""


class OptionError(ValueError):
    """An option has a value that it cannot have."""


@contextmanager
def naming(
    subject: str,
    errors: type[Exception] | tuple[type[Exception], ...] = (UnsafeSourceError, SourceNotFoundError, UnsupportedError),
    *,
    raising: type[H5BoundError] | None = None,
) -> Iterator[None]:
    """Put a subject before the messages of errors, and raise them as another type if one is passed.

    Examples
    --------
    >>> with naming("dataset '/x' of a.h5", ZeroDivisionError, raising=CorruptChunkError):
    ...     1 / 0
    Traceback (most recent call last):
    h5bound.errors.CorruptChunkError: dataset '/x' of a.h5: division by zero
    """
    try:
        yield
    except errors as error:
        raise (raising or type(error))(f"{subject}: {error}") from error
