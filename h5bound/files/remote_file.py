"""The bytes of a remote file: ranges for the readers of chunks, and a Python file of cached blocks for HDF5.

Garbage is not collected during a request. HDF5 asks for bytes under its lock, and a thread of fsspec loads them. If
that thread then collected h5py objects, closing them would wait for the lock of HDF5: a deadlock.
"""

from __future__ import annotations

import gc
import io
import os
import threading
from collections import OrderedDict
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from h5bound.buffers import Bytes, past_end
from h5bound.errors import H5BoundError, SourceChangedError
from h5bound.files.prefetch import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fsspec import AbstractFileSystem

    from h5bound.files.file_state import FileState
    from h5bound.files.prefetch import Piece, Span
    from h5bound.files.protocols import Range


OVERDUE = 20
"""Multiple of Python's own threshold at which garbage is collected even if requests follow without a pause."""

NO_RANGES = (
    "the server does not send parts of files (HTTP ranges); put simplecache:: before the URL, which first loads the "
    "whole file, or download it"
)

BLOCK_NBYTES = 256 << 10
"""Size of a cached block in bytes."""

BLOCKS = 128
"""Blocks that are cached while the file is open: 32 MiB."""

REQUESTS_PER_DOUBLING = 8
"""Requests after which two blocks are loaded with one, then four, and then eight."""


class NoCollection:
    """A context in which no thread collects garbage by itself; any number of threads may be in it."""

    def __init__(self) -> None:
        self._threads = 0  # in it
        self._enabled = False  # whether collection was enabled when the first of them came
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        enabled = gc.isenabled()
        gc.disable()  # before the lock is taken, which the end of a collected object might need
        with self._lock:
            self._enabled |= enabled or gc.isenabled()  # the last of the others may have left since
            gc.disable()
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads and self._enabled:
                self._enabled = False
                gc.enable()
        if not gc.isenabled() and self._enabled and gc.get_count()[0] > OVERDUE * gc.get_threshold()[0]:
            gc.collect(1)


NO_COLLECTION = NoCollection()
"""The one context for all requests of this process."""


class RemoteFile:
    """A file of fsspec in one state; threads may read it at the same time.

    Where the server supports it, each request is for that state only: with ``If-Match`` and an ETag (HTTP), or with a
    version (S3 with versioning). Elsewhere the check of the source, before it is closed, detects a change.

    `name` is the URL for messages. `attempt` calls a function of the file system, and raises its errors in plain words.
    """

    is_remote: ClassVar[bool] = True

    def __init__(
        self, *, system: AbstractFileSystem, path: str, state: FileState, name: str, attempt: Callable[..., Any]
    ) -> None:
        protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        stamps = dict(state.stamps)
        self.name, self.size = name, state.size
        self._system, self._path, self._attempt = system, path, attempt
        self._pin: dict[str, Any] = {}
        is_http = bool(protocols & {"http", "https"})
        self._checked = not is_http  # whether the server has been seen to send ranges
        if is_http:
            etag = stamps.get("ETag", "")
            match = {"If-Match": etag} if etag.startswith('"') else {}  # a weak one matches nothing (RFC 9110, 13.1.1)
            self._pin = {"headers": {**system.kwargs.get("headers", {}), "Accept-Encoding": "identity", **match}}
        elif "s3" in protocols and stamps.get("VersionId", "null") != "null":
            self._pin = {"version_id": stamps["VersionId"]}
        cached = protocols & {"filecache", "blockcache"}
        threaded = system.async_impl and not cached
        self._turns = nullcontext() if threaded else threading.Lock()  # other file systems know no threads
        self._pieces = Pieces()
        self._failure: H5BoundError | None = None

    @cached_property
    def is_pinned(self) -> bool:
        """Whether the server sends bytes of this state only, which is tried once: not all know ``If-Match``."""
        headers = self._pin.get("headers", {})
        if "If-Match" not in headers:
            return "version_id" in self._pin
        pin = {"headers": {**headers, "If-Match": '"another"'}}
        try:
            with self._turns, NO_COLLECTION:
                self._attempt(self._system.cat_file, self._path, start=0, end=1, **pin)
        except H5BoundError as error:
            return isinstance(error, SourceChangedError)
        return False

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Announce ranges that will be gathered, each once, by any thread and in any order."""
        self._pieces.prefetch(self._spans(ranges))

    def gather(self, ranges: Iterable[Range]) -> Gathered:
        """Request these ranges at once, joining those that lie close, and return an object to read them from."""
        pieces, to_request = self._pieces.take(dict.fromkeys(self._spans(ranges)))
        try:
            for piece, data in zip(to_request, self.fetch([piece.span for piece in to_request]), strict=True):
                piece.data.set_result(data)
        except BaseException as error:
            self._pieces.forget(to_request)
            for piece in to_request:
                if not piece.data.done():
                    piece.data.set_exception(error)
            raise
        return Gathered(pieces, self.size)

    def _spans(self, ranges: Iterable[Range]) -> list[Span]:
        """Return start and stop of the ranges that lie in the file."""
        return [(offset, offset + nbytes) for offset, nbytes in ranges if 0 <= offset <= self.size - nbytes]

    def fetch(self, spans: list[Span]) -> list[bytes]:
        """Load the bytes of spans, with all requests at once; raise H5BoundError if one fails."""
        try:
            with NO_COLLECTION:
                first = [] if self._checked or not spans else [self._fetch_checked(spans[0])]
                return first + self._fetch(spans[len(first) :])
        except H5BoundError as error:
            self._failure = error
            raise

    def _fetch(self, spans: list[Span]) -> list[bytes]:
        if not spans:
            return []
        starts, stops = map(list, zip(*spans, strict=True))

        def load() -> list[bytes]:
            paths = [self._path] * len(spans)
            answers = self._system.cat_ranges(paths, starts, stops, on_error="raise", **self._pin)
            for answer in answers:
                if isinstance(answer, Exception):  # some versions of fsspec return errors in spite of on_error
                    raise answer
            return list(answers)

        with self._turns:
            parts: list[bytes] = self._attempt(load)
        for (start, stop), part in zip(spans, parts, strict=True):
            self._check_length(part, stop - start)
        return parts

    def _fetch_checked(self, span: Span) -> bytes:
        """Load a span through fsspec's file, which does not load all of a file from a server without ranges."""
        start, stop = span

        def load() -> bytes:
            options = {"block_size": stop - start, "cache_type": "none", "size": self.size, **self._pin}
            with self._system.open(self._path, "rb", **options) as file:
                file.seek(start)
                try:
                    return bytes(file.read(stop - start))
                except ValueError:  # the only reason why HTTPFile raises it
                    raise H5BoundError(f"{self.name}: {NO_RANGES}") from None

        part: bytes = self._attempt(load)
        self._check_length(part, stop - start)
        self._checked = self._checked or start > 0
        return part

    def _check_length(self, part: bytes, nbytes: int) -> None:
        if len(part) != nbytes:
            raise H5BoundError(
                f"{self.name}: an answer was cut short, {len(part):,} of {nbytes:,} bytes arrived; try again"
            )

    def check(self) -> None:
        """Raise the error of a failed read once: HDF5 or the caller may have continued without these bytes."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Forget announced ranges that were not read."""
        self._pieces = Pieces()


class Gathered:
    """Ranges of a file that were requested together: the piece of each, by start and stop of the range."""

    def __init__(self, pieces: Mapping[Span, Piece], size: int) -> None:
        self._pieces, self._size = pieces, size

    def _view(self, offset: int, nbytes: int) -> Bytes:
        piece = self._pieces.get((offset, offset + nbytes))
        if piece is None:
            raise past_end(offset, nbytes, self._size)
        return np.frombuffer(piece.data.result(), np.uint8, nbytes, offset - piece.span[0])

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Return one of the ranges, as an array of its own."""
        return self._view(offset, nbytes).copy()

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with one of the ranges."""
        out[:] = self._view(offset, out.size)


class RemoteView(io.RawIOBase):
    """A remote file for HDF5, which reads it under its lock: small reads come from cached blocks, large ones do not.

    The metadata of most files lie in few places. Where they are spread, several blocks are loaded with one request;
    fsspec's BlockCache, whose requests never grow, would need many more. HDF5 takes the `repr` as the name of the file.
    """

    def __init__(self, remote: RemoteFile) -> None:
        super().__init__()
        self._remote = remote
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()  # by number, the last one used at the end
        self._requests = 0

    def __repr__(self) -> str:
        return self._remote.name

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._remote.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; return the number of bytes read, fewer at the end of the file."""
        out = memoryview(buffer).cast("B")
        start, stop = self._position, min(self._position + len(out), self._remote.size)
        if stop <= start:
            return 0
        if stop - start >= BLOCK_NBYTES:
            data = self._remote.fetch([(start, stop)])[0]
        else:
            numbers = range(start // BLOCK_NBYTES, (stop - 1) // BLOCK_NBYTES + 1)
            skip = start - numbers[0] * BLOCK_NBYTES
            data = b"".join(map(self._block, numbers))[skip : skip + stop - start]
        out[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            length = 1 << min(self._requests // REQUESTS_PER_DOUBLING, 3)
            first = number // length * length
            start, stop = first * BLOCK_NBYTES, min((first + length) * BLOCK_NBYTES, self._remote.size)
            row = self._remote.fetch([(start, stop)])[0]
            self._requests += 1
            for offset in range(0, stop - start, BLOCK_NBYTES):
                self._blocks[first + offset // BLOCK_NBYTES] = row[offset : offset + BLOCK_NBYTES]
            while len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
