"""Python's garbage, left where it is while a remote file is read.

HDF5 asks for the bytes of a remote file while it has its lock, and fsspec has a thread of its own that gets them. Were
that thread to collect garbage just then, and h5py objects among it, their end would wait for HDF5's lock: neither would
go on. So nothing is collected by itself while anything is asked for.
"""

from __future__ import annotations

import gc
import io
import os
import threading
from collections import OrderedDict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from h5bound.buffers import Bytes, DamagedError
from h5bound.errors import H5BoundError
from h5bound.files.prefetch import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fsspec import AbstractFileSystem

    from h5bound.files.file_state import RemoteState
    from h5bound.files.prefetch import Piece, Span
    from h5bound.files.protocols import Range


OVERDUE = 20
"""Where requests never stop, garbage is collected, by who has got an answer, when this many times as much is new as
Python waits for."""


class Uncollected:
    """A context in which no thread collects garbage by itself; any number of threads may be in it."""

    def __init__(self) -> None:
        self._threads = 0  # in it
        self._enabled = False  # whether collection was when the first of them came
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        enabled = gc.isenabled()
        gc.disable()  # before the lock is taken: an object that is collected might want it
        with self._lock:
            self._enabled |= enabled
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads and self._enabled:
                self._enabled = False
                gc.enable()
        if not gc.isenabled() and self._enabled and gc.get_count()[0] > OVERDUE * gc.get_threshold()[0]:
            gc.collect(1)


UNCOLLECTED = Uncollected()
"""For all requests of this process."""

NO_RANGES = "its server does not give parts of files (HTTP ranges); download it first"

BLOCK_NBYTES = 256 << 10
"""HDF5's metadata are asked for in blocks of so many bytes."""

BLOCKS = 128
"""So many blocks are kept while the file is open: 32 MiB."""

PATIENCE = 8
"""After so many requests for a block, two are asked for in one, after as many more four, and then eight."""


class RemoteFile:
    """A file of fsspec in one state, which threads may read at the same time.

    Each request asks for that very state where the server can be asked so: ``If-Match`` with an ETag (HTTP), a version
    (S3 with versioning). Elsewhere a change shows when the source is checked before it is closed.

    Parameters
    ----------
    system
        The file system.
    path
        Of the file in it.
    state
        What was found there.
    name
        The URL as messages name it.
    attempt
        Calls a function of the file system, and raises what its failure means.
    """

    is_remote: ClassVar[bool] = True

    def __init__(
        self,
        system: AbstractFileSystem,
        path: str,
        state: RemoteState,
        name: str,
        attempt: Callable[..., Any],
    ) -> None:
        protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        self.name, self.size = name, state.size
        self._system, self._path, self._attempt = system, path, attempt
        self._pin: dict[str, Any] = {}
        web = bool(protocols & {"http", "https"})
        self._checked = not web  # whether the server was seen to give ranges
        if web:
            self._pin = {"headers": _pin_headers(system, state)}
        elif "s3" in protocols and state.stamp("VersionId") not in ("", "null"):
            self._pin = {"version_id": state.stamp("VersionId")}
        self._turns = nullcontext() if system.async_impl else threading.Lock()  # other file systems know no threads
        self._pieces = Pieces()
        self._failure: H5BoundError | None = None

    def view(self) -> io.RawIOBase:
        """Give the file as HDF5 reads it."""
        return View(self)

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Take notice of ranges that will be gathered, each once, by any thread and in any order."""
        self._pieces.prefetch(self._spans(ranges))

    def gather(self, ranges: Iterable[Range]) -> Gathered:
        """Give what these ranges can be read from, asked for at once, and together where they lie close."""
        found, missing = self._pieces.take(dict.fromkeys(self._spans(ranges)))
        try:
            for piece, data in zip(missing, self.fetch([piece.span for piece in missing]), strict=True):
                piece.data.set_result(data)
        except BaseException as error:
            self._pieces.forget(missing)
            for piece in missing:
                if not piece.data.done():
                    piece.data.set_exception(error)
            raise
        return Gathered(found, self.size)

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Give `nbytes` bytes from `offset` on."""
        return self.gather([(offset, nbytes)]).read(offset, nbytes)

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with the bytes from `offset` on."""
        self.gather([(offset, out.size)]).read_into(offset, out)

    def _spans(self, ranges: Iterable[Range]) -> list[Span]:
        """Give start and stop of each range that the file has."""
        return [(offset, offset + nbytes) for offset, nbytes in ranges if 0 <= offset <= self.size - nbytes]

    def fetch(self, spans: list[Span]) -> list[bytes]:
        """Give what stands between each start and stop, asking for all of it at once.

        Raises
        ------
        H5BoundError
            It cannot be had.
        """
        try:
            with UNCOLLECTED:
                some = [] if self._checked or not spans else [self._fetch_checked(spans[0])]
                return some + self._fetch(spans[len(some) :])
        except H5BoundError as error:
            self._failure = error
            raise

    def _fetch(self, spans: list[Span]) -> list[bytes]:
        if not spans:
            return []
        starts, stops = map(list, zip(*spans, strict=True))
        with self._turns:
            parts: list[bytes | Exception] = self._attempt(
                self._system.cat_ranges, [self._path] * len(spans), starts, stops, on_error="raise", **self._pin
            )
        whole: list[bytes] = [self._attempt(_give, part) for part in parts]
        for (start, stop), part in zip(spans, whole, strict=True):
            self._check_length(part, stop - start)
        return whole

    def _fetch_checked(self, span: Span) -> bytes:
        """Give one span by way of fsspec's file, which looks at what the server answers before it loads all of it."""
        start, stop = span

        def load() -> bytes:
            options = {"block_size": stop - start, "cache_type": "none", "size": self.size, **self._pin}
            with self._system.open(self._path, "rb", **options) as file:
                file.seek(start)
                try:
                    return bytes(file.read(stop - start))
                except ValueError:  # HTTPFile has no other
                    raise H5BoundError(f"{self.name}: {NO_RANGES}") from None

        part: bytes = self._attempt(load)
        self._check_length(part, stop - start)
        self._checked = self._checked or start > 0
        return part

    def _check_length(self, part: bytes, nbytes: int) -> None:
        if len(part) != nbytes:
            raise H5BoundError(f"{self.name}: an answer was cut short, {len(part)} of {nbytes} bytes; try again")

    def check(self) -> None:
        """Raise why a read failed since this was last asked: HDF5 may have made do with that, or its caller."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Drop what was foreseen and not read."""
        self._pieces.clear()


def _give(part: bytes | Exception) -> bytes:
    """Give the bytes, or raise: some versions of fsspec give the error, whatever they are told."""
    if isinstance(part, Exception):
        raise part
    return part


def _pin_headers(system: AbstractFileSystem, state: RemoteState) -> dict[str, str]:
    """Give the headers that ask for the bytes of one state (RFC 9110, 13.1.1: a weak ETag matches nothing)."""
    etag = state.stamp("ETag")
    match = {"If-Match": etag} if etag.startswith('"') else {}
    return {**system.kwargs.get("headers", {}), "Accept-Encoding": "identity", **match}


class Gathered:
    """Ranges of a file that were asked for together.

    Parameters
    ----------
    pieces
        The piece that has each range, by start and stop of the range.
    size
        Of the file, in bytes.
    """

    def __init__(self, pieces: Mapping[Span, Piece], size: int) -> None:
        self._pieces, self._size = pieces, size

    def _view(self, offset: int, nbytes: int) -> Bytes:
        piece = self._pieces.get((offset, offset + nbytes))
        if piece is None:
            raise DamagedError(f"the file ends {offset + nbytes - self._size} bytes before it does")
        return np.frombuffer(piece.data.result(), np.uint8, nbytes, offset - piece.span[0])

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Give one of the ranges, as an array of its own."""
        return self._view(offset, nbytes).copy()

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with one of the ranges."""
        out[:] = self._view(offset, out.size)


class View(io.RawIOBase):
    """A remote file as HDF5 reads it, under its lock: small reads from blocks that are kept, large ones as they are.

    The metadata of most files lie in few places. Where they do not, blocks are asked for in longer rows. HDF5 takes the
    `repr` for the name of the file.
    """

    def __init__(self, remote: RemoteFile) -> None:
        super().__init__()
        self._remote = remote
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()  # by number, the one that was used last at the end
        self._requests = 0

    def __repr__(self) -> str:
        return self._remote.name

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that any part can be read."""
        return True

    def tell(self) -> int:
        """Give where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; gives that."""
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._remote.size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; gives how many bytes there were."""
        out = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(out), self._remote.size)
        if stop <= start:
            return 0
        if stop - start >= BLOCK_NBYTES:
            data = self._remote.fetch([(start, stop)])[0]
        else:
            numbers = range(start // BLOCK_NBYTES, (stop - 1) // BLOCK_NBYTES + 1)
            first = start - numbers[0] * BLOCK_NBYTES
            data = b"".join(map(self._block, numbers))[first : first + stop - start]
        out[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            length = 1 << min(self._requests // PATIENCE, 3)
            first = number // length * length
            start, stop = first * BLOCK_NBYTES, min((first + length) * BLOCK_NBYTES, self._remote.size)
            row = self._remote.fetch([(start, stop)])[0]
            self._requests += 1
            for at in range(0, stop - start, BLOCK_NBYTES):
                self._blocks[first + at // BLOCK_NBYTES] = row[at : at + BLOCK_NBYTES]
            while len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
