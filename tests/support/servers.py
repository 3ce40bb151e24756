"""Servers on loopback that speak the real protocols."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BytesIO
    from os import PathLike
    from pathlib import Path

KEY, SECRET = "AKIAH5BOUNDTESTKEY", "sEcReT/h5bound+test"
"""Credentials that must not appear anywhere."""


@contextmanager
def serve_s3() -> Iterator[str]:
    """Run moto's S3 server and yield its address, like ``http://127.0.0.1:40000``."""
    threaded = pytest.importorskip("moto.moto_server.threaded_moto_server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = threaded.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()  # moto keeps its state for the whole process
        yield url
    finally:
        server.stop()


@contextmanager
def serve_folder(folder: Path, *, lists: bool = True) -> Iterator[str]:
    """Run a web server for a folder, with or without directory listings, and yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def list_directory(self, path: str | PathLike[str]) -> BytesIO | None:
            if lists:
                return super().list_directory(path)
            self.send_error(403)
            return None

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
