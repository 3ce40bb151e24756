"""HDF5 files at URLs: what state they are in, how they are opened, and what it means when that fails."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, SourceChangedError, SourceNotFoundError
from h5bound.files.file_state import RemoteState, read_state
from h5bound.files.open import open_file
from h5bound.files.remote_file import NO_RANGES, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import TypeVar

    import h5py
    from fsspec import AbstractFileSystem

    from h5bound.files.urls import Address

    Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RemoteLocation:
    """A file at a URL that fsspec knows."""

    address: Address

    @property
    def path(self) -> str:
        """The URL as messages name it."""
        return self.address.shown

    @property
    def key(self) -> Hashable:
        """Equal for equal URLs, whatever the credentials in the options."""
        return self.address.shown, self.address.token

    def identify(self) -> RemoteState:
        """Give the state of the file now: one request.

        Raises
        ------
        SourceNotFoundError
            Nothing is there.
        H5BoundError
            The server cannot be asked, or does not tell how large the file is.
        """
        system, path = self.find_system()
        info = attempt(self.address, _ask, system, path)
        if info.get("type") == "directory":
            raise H5BoundError(f"{self.path}: a folder, not an HDF5 file")
        if info.get("size") is None:
            raise H5BoundError(f"{self.path}: its server does not tell how large it is; download it first")
        if info.get("partial") is False:
            raise H5BoundError(f"{self.path}: {NO_RANGES}")
        return read_state(info)

    def open(self, state: RemoteState) -> tuple[h5py.File, RemoteFile]:
        """Open the file for reading as it was in a state."""
        system, path = self.find_system()

        remote = RemoteFile(system, path, state, self.path, partial(attempt, self.address))
        try:
            return open_file(self.path, remote.view()), remote
        except BaseException:
            remote.check()
            raise

    def find_system(self) -> tuple[AbstractFileSystem, str]:
        """Give the file system of fsspec, and the path of the file in it."""
        from fsspec.core import url_to_fs

        options = {  # fsspec writes into those that are dicts themselves
            name: dict(value) if isinstance(value, dict) else value for name, value in self.address.options.items()
        }
        found: tuple[AbstractFileSystem, str] = attempt(self.address, url_to_fs, self.address.url, **options)
        return found


def _ask(system: AbstractFileSystem, path: str) -> dict[str, Any]:
    system.invalidate_cache(path)  # else a listing from before may answer
    info: dict[str, Any] = system.info(path)
    return info


def attempt(address: Address, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Give what a function of fsspec gives; raise what its failure means, without the error that may hold secrets."""
    try:
        return function(*args, **options)
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        failure = explain(address, error)
    try:
        raise failure  # outside of the except block: the other error is not to be its context
    finally:
        del failure  # else it would hold itself, and all that its traceback does


MEANINGS: tuple[tuple[set[object], type[H5BoundError], str], ...] = (
    ({412, 416, "FileExpired"}, SourceChangedError, "the file changed after it was looked at; make the array again"),
    (
        {401, 403, "PermissionError", "NoCredentialsError", "PartialCredentialsError"},
        H5BoundError,
        "access is denied; pass credentials that may read it in storage_options, or renew those that it has",
    ),
    ({404, 410}, SourceNotFoundError, "no such file"),
    ({"gaierror"}, H5BoundError, "its host has no address; check the name, and the network"),
    ({"TimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}, H5BoundError, "no answer in time"),
    ({"ClientPayloadError", "IncompleteReadError"}, H5BoundError, "an answer was cut short; try again"),
    (
        {"ConnectionError", "ClientConnectionError", "EndpointConnectionError", "ConnectionClosedError"},
        H5BoundError,
        "no connection to its server; check its address, and the network",
    ),
    ({"IsADirectoryError"}, H5BoundError, "a folder, not an HDF5 file"),
    ({"ImportError"}, H5BoundError, "nothing that knows it is installed; h5bound[remote] has s3:// and https://"),
)
"""What errors mean, by HTTP status or by the name of a class; those of aiohttp and botocore are not ours to import."""


def explain(address: Address, error: Exception) -> H5BoundError:
    """Give the error that says what a failure means.

    Not every FileNotFoundError says that there is no such file: `HTTPFileSystem.info` makes one of everything.
    """
    if isinstance(error, H5BoundError):
        return error
    causes = list(list_causes(error))
    found: set[object] = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    statuses = (getattr(cause, "status", None) for cause in causes)
    status = next((status for status in statuses if isinstance(status, int)), None)
    found.add(status)
    told = "" if status else address.tell(str(causes[-1]))
    for signs, kind, meaning in MEANINGS:
        if signs & found:
            more = f" ({told})" if told and kind is H5BoundError else ""
            return kind(f"{address.shown}: {meaning}{more}")
    if "FileNotFoundError" in found and status is None:
        return SourceNotFoundError(f"{address.shown}: no such file")
    answer = f"its server answers {status}" if status else f"it cannot be read: {type(causes[-1]).__name__}"
    return H5BoundError(f"{address.shown}: {answer}{told and f': {told}'}")


def list_causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error, and what caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
