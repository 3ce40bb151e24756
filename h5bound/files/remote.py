"""HDF5 files at URLs: their state, opening them, and the errors of fsspec in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, OptionError, SourceChangedError, SourceNotFoundError
from h5bound.files.file_state import FileState, advise_list, parse_state
from h5bound.files.open import open_file
from h5bound.files.remote_file import NO_RANGES, RemoteFile, RemoteView

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import TypeVar

    import h5py
    from fsspec import AbstractFileSystem

    from h5bound.files.urls import Address

    Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RemoteLocation:
    """The location of a file at a URL that fsspec knows."""

    address: Address

    @property
    def path(self) -> str:
        """The URL without secrets."""
        return self.address.shown

    @property
    def key(self) -> Hashable:
        """Equal for equal URLs, even with other credentials in the options."""
        return self.address.shown, self.address.token

    def read_state(self) -> FileState:
        """Return the state of the file now, with one request.

        Raise SourceNotFoundError if there is no file, H5BoundError if the server cannot be asked or gives no ranges.
        """
        system, path = self.find_system()
        system.invalidate_cache(path)  # fsspec may answer from an old listing
        system = getattr(system, "fs", system) if is_cache(system) else system
        info: dict[str, Any] = attempt(self.address, system.info, path)
        if info.get("type") == "directory":
            raise H5BoundError(f"{self.path}: this is a directory, not an HDF5 file")
        if info.get("size") is None:
            raise H5BoundError(f"{self.path}: the server does not send the size of the file; download the file first")
        if info.get("partial") is False:
            raise H5BoundError(f"{self.path}: {NO_RANGES}")
        return parse_state(info)

    def open(self, state: FileState) -> tuple[h5py.File, RemoteFile]:
        """Open the file in this state for reading."""
        remote = self.connect(state)
        try:
            return open_file(self.path, RemoteView(remote)), remote
        except BaseException:
            remote.check()
            raise

    def connect(self, state: FileState) -> RemoteFile:
        """Return the bytes of the file in this state, without any request yet."""
        system, path = self.find_system()
        return RemoteFile(system=system, path=path, state=state, name=self.path, attempt=partial(attempt, self.address))

    def find_system(self) -> tuple[AbstractFileSystem, str]:
        """Return the file system of fsspec, and the path of the file in it."""
        from fsspec.core import url_to_fs

        options = {  # copied, because fsspec writes into nested dicts
            name: dict(value) if isinstance(value, dict) else value for name, value in self.address.options.items()
        }
        system, path = attempt(self.address, url_to_fs, self.address.url, **options)
        return system, path


def is_cache(system: AbstractFileSystem) -> bool:
    """Return whether a file system of fsspec caches files of another one."""
    from fsspec.implementations.cached import CachingFileSystem

    return isinstance(system, CachingFileSystem)


def attempt(address: Address, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Call a function of fsspec; raise its errors in plain words, without the original one and its secrets."""
    try:
        return function(*args, **options)
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        failure = explain(address, error)
    try:
        raise failure  # outside of the except block: the original must not be its context
    finally:
        del failure  # else the error would refer to itself through its traceback


MEANINGS: tuple[tuple[type[H5BoundError], str, set[object]], ...] = (
    (
        SourceChangedError,
        "the file changed after it was first read; make the array or store again",
        {412, 416, "FileExpired"},
    ),
    (
        H5BoundError,
        "access is denied; pass credentials that may read the file in storage_options, or renew them",
        {401, 403, "PermissionError", "NoCredentialsError", "PartialCredentialsError"},
    ),
    (H5BoundError, "the server does not answer in time", {"TimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}),
    (H5BoundError, "an answer was cut short; try again", {"ClientPayloadError", "IncompleteReadError"}),
    (
        H5BoundError,
        "there is no connection to the server; check the address and the network",
        {"gaierror", "ConnectionError", "ClientConnectionError", "EndpointConnectionError", "ConnectionClosedError"},
    ),
    (H5BoundError, "this is a directory, not an HDF5 file", {"IsADirectoryError"}),
    (
        OptionError,
        "no installed package knows this kind of URL; pip install 'h5bound[remote]' brings those for s3:// and https://",
        {"ImportError"},
    ),
    (SourceNotFoundError, "no such file", {404, 410, "FileNotFoundError"}),
)
"""Meanings of errors by HTTP status or class name: aiohttp and botocore may be missing, so no classes are used."""


def explain(address: Address, error: Exception) -> H5BoundError:
    """Return the error that says what a failure means.

    An HTTP status decides where there is one: `HTTPFileSystem.info` raises FileNotFoundError for every status.
    """
    if isinstance(error, H5BoundError):
        return error
    causes = list(_list_causes(error))
    statuses = (getattr(cause, "status", None) for cause in causes)
    status = next((status for status in statuses if isinstance(status, int)), None)
    names: set[object] = {base.__name__ for cause in causes for base in type(cause).__mro__}
    quoted = "" if status else address.quote_safely(str(causes[-1]))
    for error_class, meaning, signs in MEANINGS:
        if signs & ({status} if status else names):
            detail = f" ({quoted})" if quoted and error_class is H5BoundError else ""
            advice = advise_list(address.shown) if error_class is SourceNotFoundError else ""
            return error_class(f"{address.shown}: {meaning}{detail}{advice}")
    answer = f"the server answers {status}" if status else f"the file cannot be read: {type(causes[-1]).__name__}"
    return H5BoundError(f"{address.shown}: {answer}{f': {quoted}' if quoted else ''}")


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
