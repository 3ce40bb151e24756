"""A real HTTP server for a folder: it serves ranges (RFC 9110), records its requests, and misbehaves on demand."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the server."""

    method: str
    target: str
    """Path and query."""
    status: int
    span: tuple[int, int]
    """Half-open interval of the bytes of the file that were sent."""

    @property
    def nbytes(self) -> int:
        return self.span[1] - self.span[0] if self.method == "GET" else 0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the server misbehaves."""

    status: int = 0
    """Status of every answer, unless 0."""
    after: int = 0
    """Number of requests that are answered correctly first."""
    cut: int = 0
    """Bytes that are missing from each answer, before the connection is closed."""
    ranges: bool = True
    """False: ranges are ignored, and the whole file is sent."""
    stamps: bool = True
    """False: no ETag and no Last-Modified."""
    weak: bool = False
    """True: ETags are weak, and match no ``If-Match``."""
    user: str = ""
    """Required ``name:password``."""
    query: str = ""
    """Required query."""
    pause: float = 0.0
    """Seconds before each answer."""


PART_NBYTES = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms until its header is acknowledged
    server: RangeServer

    def do_HEAD(self) -> None:
        with self.server.counted():
            self._answer()

    def do_GET(self) -> None:
        with self.server.counted():
            self._answer()

    def _answer(self) -> None:
        self.server.before(len(self.server.requests))
        behaviour, url = self.server.behaviour, urlsplit(self.path)
        path = self.server.folder / unquote(url.path).lstrip("/")
        time.sleep(behaviour.pause)
        wrong = len(self.server.requests) >= behaviour.after
        if behaviour.status and wrong:
            self._send(behaviour.status)
        elif behaviour.user and self.headers.get("Authorization") != self.server.authorization:
            self._send(401)
        elif behaviour.query and url.query != behaviour.query:
            self._send(403)
        elif not path.is_file():
            self._send(404)
        else:
            self._send_file(path, cut=behaviour.cut if wrong else 0)

    def _send_file(self, path: Path, *, cut: int) -> None:
        stat = path.stat()
        size = stat.st_size
        etag = f'{"W/" * self.server.behaviour.weak}"{stat.st_mtime_ns:x}-{size:x}"'
        stamps = {"ETag": etag, "Last-Modified": formatdate(stat.st_mtime, usegmt=True)}
        headers = stamps if self.server.behaviour.stamps else {}
        until = self.headers.get("If-Unmodified-Since")
        is_newer = until is not None and parsedate_to_datetime(until).timestamp() < int(stat.st_mtime)
        is_other = self.headers.get("If-Match", etag) != etag or (
            self.server.behaviour.weak and "If-Match" in self.headers
        )
        if (is_other or is_newer) and headers:
            self._send(412)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not self.server.behaviour.ranges:
            self._send(200, (0, size), path, headers, cut)
            return
        start, stop = int(asked[1]), min(int(asked[2] or size) + 1, size)
        if start >= stop:
            self._send(416)
            return
        headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        self._send(206, (start, stop), path, headers, cut)

    def _send(
        self,
        status: int,
        span: tuple[int, int] = (0, 0),
        path: Path | None = None,
        headers: dict[str, str] | None = None,
        cut: int = 0,
    ) -> None:
        request = Request(self.command, self.path, status, span)
        self.server.requests.append(request)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(span[1] - span[0]))
        self.end_headers()
        if self.command == "GET" and path is not None:
            with path.open("rb") as file:
                file.seek(span[0])
                left = span[1] - span[0] - cut
                while left:  # clients may leave in the middle
                    left -= self.wfile.write(file.read(min(left, PART_NBYTES)))
            self.close_connection = self.close_connection or cut > 0

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


class RangeServer(ThreadingHTTPServer):
    """Serves a folder on a port of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.behaviour = Behaviour()
        self.before: Callable[[int], None] = lambda _number: None  # called with the number of each request
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def authorization(self) -> str:
        """The required header."""
        return f"Basic {b64encode(self.behaviour.user.encode()).decode()}"

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    def nbytes(self) -> int:
        return sum(request.nbytes for request in self.requests)

    def forget(self) -> None:
        self.requests.clear()
        self.most_at_once = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: clients may leave before they have read everything."""


@contextmanager
def serve(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder until the end of the with block."""
    with RangeServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
