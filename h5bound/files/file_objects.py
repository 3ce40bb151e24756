"""File objects of Python and fsspec: the path or URL that they stand for, or the location of one that has none."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from h5bound.errors import H5BoundError, OptionError, SourceChangedError, UnsupportedError
from h5bound.files.file_state import FileState
from h5bound.files.open import open_file

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    import h5py


class NamedFile:
    """A file object that h5py, which takes the `repr` for the name of the file, calls the same in every process."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __repr__(self) -> str:
        return self._name


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """The location of a file that only a Python object of this process can read, such as an `io.BytesIO`."""

    file: Any
    """Binary file; HDF5 seeks and reads in it while it holds its lock."""
    nbytes: int
    """Size in bytes."""
    token: str = field(default_factory=lambda: uuid4().hex)
    """Different for each location: nobody knows whether two objects have the same bytes."""

    @property
    def path(self) -> str:
        """The type of the object, for messages."""
        return f"<{type(self.file).__name__}>"

    @property
    def key(self) -> Hashable:
        """The token."""
        return self.token

    def read_state(self) -> FileState:
        """Return the state when the location was made: asking again would move the position under HDF5's reads."""
        return FileState(size=self.nbytes, mtime_ns=0)

    def open(self, _state: FileState) -> tuple[h5py.File, None]:
        """Open the file for reading. Raise H5BoundError if the object is closed: h5py may raise a SystemError."""
        if getattr(self.file, "closed", False):
            raise H5BoundError(f"{self.path}: this is a closed file; keep it open until the compute ends")
        return open_file(self.path, cast("io.RawIOBase", NamedFile(self.file, self.path))), None

    def __reduce__(self) -> tuple[Any, ...]:
        raise UnsupportedError(
            f"{self.path}: the file exists in this process only and cannot be sent to another; compute on threads, or "
            "write it to a path"
        )


def resolve_object(file: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the path or URL of a file object, with its options for fsspec, or an `ObjectLocation`; all else as it is.

    Raise OptionError if it is not a binary file for reading, UnsupportedError if fsspec would open something else.
    """
    if isinstance(file, (str, bytes)):
        return file, {}
    system, path = getattr(file, "fs", None), getattr(file, "path", None)
    if system is not None and hasattr(system, "unstrip_protocol"):
        return find_url(file, system, str(path))
    if isinstance(file, os.PathLike) or not (hasattr(file, "read") and hasattr(file, "seek")):
        return file, {}
    check_mode(file)
    raw = file.raw if isinstance(file, io.BufferedReader) else file
    if isinstance(raw, io.FileIO) and not isinstance(raw.name, int):
        path = os.path.realpath(os.fsdecode(raw.name))
        if not Path(path).exists() or not os.path.samestat(os.fstat(file.fileno()), Path(path).stat()):
            raise SourceChangedError(f"{path}: the file was replaced after it was opened; open it again")
        return path, {}
    position = file.tell()
    nbytes = file.seek(0, os.SEEK_END)
    file.seek(position)
    return ObjectLocation(file=file, nbytes=nbytes), {}


def check_mode(file: Any) -> None:
    """Raise OptionError if a file object is closed, or not open in binary mode for reading only."""
    if getattr(file, "closed", False):
        raise OptionError(f"{file!r} is closed: pass its path, or open it again")
    mode = getattr(file, "mode", "rb")
    if isinstance(file, io.TextIOBase) or (isinstance(mode, str) and set(mode) & set("wax+t")):
        raise OptionError(f"{file!r}: pass the path, or a file that is open for reading bytes only, mode 'rb'")
    if getattr(file, "compression", None) is not None:
        raise OptionError(f"{file!r}: HDF5 cannot read through compression; decompress the file first")


def find_url(file: Any, system: Any, path: str) -> tuple[str, Mapping[str, Any]]:
    """Return the URL of a file of fsspec, and the options with which fsspec finds the same file system again."""
    from fsspec.core import url_to_fs

    check_mode(file)
    protocols = (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
    if "file" in protocols:
        return path, {}
    options = dict(system.storage_options)
    url = system.unstrip_protocol(path)
    inner = getattr(system, "fs", None)
    if inner is not None:  # a chain, such as simplecache::https://…
        own = {name: value for name, value in options.items() if name not in ("target_protocol", "target_options")}
        url = f"{protocols[0]}::{inner.unstrip_protocol(path)}"
        options = {protocols[0]: own, options.get("target_protocol"): options.get("target_options") or {}}
    try:
        same = url_to_fs(url, **options) == (system, path)
    except Exception:  # noqa: BLE001 - each file system has errors of its own
        same = False
    if not same:
        raise UnsupportedError(
            f"a file of fsspec's {type(system).__name__} cannot be opened again from what it shows: pass its URL, and "
            "storage_options"
        )
    return url, options
