"""HDF5 files at URLs: what state they are in, how they are opened, and what it means when that fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, SourceChangedError, SourceNotFoundError
from h5bound.remotefile import NO_RANGES, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping
    from typing import TypeVar

    import h5py
    from fsspec import AbstractFileSystem

    from h5bound.address import Address

    Result = TypeVar("Result")

STAMPS = ("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "Content-MD5", "md5Hash", "sha", "CRC")
"""What file systems of fsspec call that which is another for other bytes."""

TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""What they call the time of the last change; ``memory://`` has that of its making."""


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What tells one state of a remote file from another, as its server gives it."""

    size: int  # bytes
    mtime_ns: int  # 0: the server does not say
    stamps: tuple[tuple[str, str], ...]  # those of STAMPS that the server gives, by name

    def same_file(self, other: RemoteState) -> bool:
        """Tell whether both are one file, which is known only of one that was not written to."""
        return self.same_state(other)

    def same_state(self, other: RemoteState) -> bool:
        """Tell whether both are one file that was not written to in between."""
        return self == other

    def stamp(self, *names: str) -> str:
        """Give the first of some stamps that the server gives, or nothing."""
        return next((value for name in names for key, value in self.stamps if key == name), "")


@dataclass(frozen=True, slots=True)
class RemotePlace:
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
        from h5bound.source import open_file

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


def read_state(info: Mapping[str, Any]) -> RemoteState:
    """Give the state that the answer of fsspec's ``info`` describes.

    >>> read_state({"size": 3, "ETag": '"a"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    RemoteState(size=3, mtime_ns=1445412480000000000, stamps=(('ETag', '"a"'),))
    >>> read_state({"size": 3, "LastModified": datetime(2015, 10, 21, 7, 28, tzinfo=UTC)}).mtime_ns
    1445412480000000000
    """
    stamps = tuple((name, str(info[name])) for name in STAMPS if info.get(name))
    times = [read_time(info[name]) for name in TIMES if info.get(name)]
    return RemoteState(int(info["size"]), next(iter(times), 0), stamps)


def read_time(value: Any) -> int:
    """Give a time in nanoseconds since 1970; 0 if it is none."""
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        except ValueError:
            return 0
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return int(value * 1e9) if isinstance(value, (int, float)) else 0


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
