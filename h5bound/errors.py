"""The errors of h5bound. Each has one argument, the message, and can be pickled.

H5BoundError
├── SourceNotFoundError   (FileNotFoundError)    the source file does not exist
├── DatasetNotFoundError  (KeyError)             the file has no dataset of that name
├── UnsupportedError      (NotImplementedError)  an object has no exact form on the other side
├── SourceChangedError    (RuntimeError)         the file changed after the array was made
├── CorruptChunkError     (ValueError)           a chunk does not decode to its declared size, or the file is truncated
├── UnsafeSourceError     (PermissionError)      a file reaches outside itself, or exceeds a limit
├── TargetError           (OSError)              the target exists, is unfinished, or is of another source
└── OptionError           (ValueError)           an option has an invalid value
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LOGGER = logging.getLogger(__name__)


class H5BoundError(Exception):
    """The base class of all errors that h5bound raises itself.

    It is raised as such where a file cannot be opened, is not HDF5, or a server refuses access: the message says what
    the file is, or how to get access.
    """


class SourceNotFoundError(H5BoundError, FileNotFoundError):
    """The source file does not exist.

    Check the path. The files of a pattern are passed as a list, as `glob.glob` gives it.
    """


class DatasetNotFoundError(H5BoundError, KeyError):
    """The file has no dataset of that name, or that name is a group.

    The message has names that are close to it; ``h5bound ls FILE`` lists all.
    """

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class UnsupportedError(H5BoundError, NotImplementedError):
    """The object exists, but cannot be read or converted exactly.

    In a conversion ``on_unsupported="skip"`` leaves it out and lists it. If a filter is missing,
    ``pip install 'h5bound[filters]'`` brings most of them.
    """


class SourceChangedError(H5BoundError, RuntimeError):
    """The source file was replaced, edited, truncated or deleted after the array was made from it.

    Make the array or store again. Convert a file when nobody writes to it.
    """


class CorruptChunkError(H5BoundError, ValueError):
    """A stored chunk is damaged: it has a wrong length or checksum, or does not decode. Or the file is truncated.

    Restore the file from a copy; ``h5bound check FILE`` says what is whole. To have the rest, read other parts of the
    dataset, or convert with ``exclude``.
    """


class UnsafeSourceError(H5BoundError, PermissionError):
    """The source reaches outside its own file, or exceeds a limit that protects memory and time.

    If you trust the file, pass the folder of the other one in ``allow_external``, or raise the limit that the message
    names.
    """


class TargetError(H5BoundError, OSError):
    """The target exists already, is unfinished, or was made from another source, or another process writes to it.

    ``resume=True`` goes on with an unfinished store, ``overwrite=True`` replaces it; or name another path.
    """


class OptionError(H5BoundError, ValueError):
    """An option has an invalid value, contradicts another, or applies to nothing.

    The message says which values there are. Nothing was written.
    """


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


def append_notes(error: BaseException, message: str) -> str:
    """Return a message with the notes of its error in the first line, such as how to continue a conversion."""
    first, newline, details = message.partition("\n")
    return "; ".join([first, *getattr(error, "__notes__", ())]) + newline + details


def shorten_tracebacks(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a public function whose errors are not buried by the steps in h5bound that led to them.

    Other errors keep their tracebacks, and so do all while the logger ``h5bound`` shows details (DEBUG). A cause of
    ours is not shown, nor the traceback of another one whose text is in the message.
    """

    @wraps(function)
    def call(*args: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        try:
            return function(*args, **keywords)
        except H5BoundError as error:
            if LOGGER.isEnabledFor(logging.DEBUG):
                raise
            cause = error.__cause__
            while isinstance(cause, H5BoundError):
                cause = cause.__cause__
            if cause is not None and str(cause) in str(error):
                cause = cause.with_traceback(None)
            raise error.with_traceback(None) from cause

    return call
