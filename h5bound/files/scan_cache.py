"""What was read of files before, in the user's cache folder: it holds for as long as a file is in the same state.

A cache only saves time. One that cannot be read or written, is locked, full or damaged, is as good as none: nothing is
raised. Entries are JSON text and bytes, never pickles, in one file of SQLite that any number of processes share.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
import zlib
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dask

from h5bound.errors import OptionError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from h5bound.files.file_state import FileState

Item = TypeVar("Item")

LOGGER = logging.getLogger(__name__)

MAX_NBYTES = 1 << 30
"""Most bytes of the cache; then the oldest entries make room."""

FILE_NAME = "scans-1.sqlite"
"""Name of the file, with the version of its form."""

TABLE = """
CREATE TABLE IF NOT EXISTS scans
    (kind TEXT, path BLOB, version TEXT, state TEXT, text BLOB, data BLOB, UNIQUE (kind, path, version))
"""

ROWS = 400
"""Entries that one statement or transaction takes."""

TIMEOUT = 5
"""Seconds to wait for another process that writes."""

SETTLED_NS = 2_000_000_000
"""Age of a change, in nanoseconds, from which on the next one has another time stamp."""


@dataclass(frozen=True, slots=True)
class CachedScan:
    """One entry."""

    text: str
    """JSON text."""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ScanCache:
    """A cache in a folder; always empty without one. Its file is open during each call only."""

    folder: Path | None
    max_nbytes: int = MAX_NBYTES

    def get_many(self, kind: str, version: str, states: Mapping[str, FileState]) -> dict[str, CachedScan]:
        """Return the entries of files that are in these states, by the names under which they are kept."""
        scans: dict[str, CachedScan] = {}
        if self.folder is None or not states:
            return scans
        try:
            with closing(self._connect()) as connection:
                for names in split(states, ROWS):
                    query = "SELECT path, state, text, data FROM scans WHERE kind=? AND version=? AND path IN ({})"
                    keys = {encode(name): name for name in names}
                    query = query.format(",".join("?" * len(keys)))
                    for key, state, text, data in connection.execute(query, (kind, version, *keys)):
                        if state == write_state(states[keys[key]]):
                            scans[keys[key]] = CachedScan(zlib.decompress(text).decode(), zlib.decompress(data))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it only saves time
            self._give_up(error)
        return scans

    def put_many(self, kind: str, version: str, entries: Iterable[tuple[str, FileState, CachedScan]]) -> None:
        """Keep entries of files that were in these states just now, by names; those that may still change are not."""
        if self.folder is None:
            return
        rows = [
            (kind, encode(name), version, write_state(state), compress(entry.text.encode()), compress(entry.data))
            for name, state, entry in entries
            if tells_changes(state)
        ]
        try:
            with closing(self._connect()) as connection:
                for some in split(rows, ROWS):
                    with connection:
                        connection.executemany("INSERT OR REPLACE INTO scans VALUES (?, ?, ?, ?, ?, ?)", some)
                        self._make_room(connection)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it only saves time
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        assert self.folder is not None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(self.folder / FILE_NAME, timeout=TIMEOUT)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(TABLE)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest entries if there are more bytes than the limit: a quarter, so that it lasts."""
        pages, unused, nbytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        excess = (pages - unused) * nbytes - self.max_nbytes
        if excess <= 0:
            return
        excess += self.max_nbytes // 4
        last = -1
        for row, size in connection.execute("SELECT rowid, length(text) + length(data) FROM scans ORDER BY rowid"):
            last, excess = row, excess - size
            if excess <= 0:
                break
        connection.execute("DELETE FROM scans WHERE rowid <= ?", (last,))

    def _give_up(self, error: Exception) -> None:
        """Go on without the cache; delete one that is damaged."""
        import sqlite3

        LOGGER.debug("no cache in %s: %s", self.folder, error)
        if self.folder is not None and (type(error) is sqlite3.DatabaseError or isinstance(error, zlib.error)):
            for name in (f"{FILE_NAME}-journal", FILE_NAME):
                with suppress(OSError):
                    (self.folder / name).unlink()


def open_cache(*, enabled: bool = True) -> ScanCache:
    """Return the cache in the folder of the dask setting ``h5bound.cache``: True for the user's, False for none."""
    place = dask.config.get("h5bound.cache", True) if enabled else False
    if isinstance(place, (str, os.PathLike)) and os.fspath(place):
        return ScanCache(Path(place).expanduser())
    if place not in (True, False, None, ""):
        raise OptionError(f"h5bound.cache={place!r}: give a folder, True for the usual one, or False for no cache")
    return ScanCache(find_user_folder() if place is True or place == 1 else None)


def find_user_folder() -> Path | None:
    """Return the folder of h5bound in the user's cache folder; None if there is no home."""
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "h5bound"


def make_version(*parts: Any) -> str:
    """Return the version of entries that depend on these values of JSON, and on the version of h5bound."""
    from h5bound.reports.entries import read_version  # a third of the modules that an array of one file would load

    text = json.dumps([read_version(), *parts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def tells_changes(state: FileState) -> bool:
    """Return whether the next change of a file will give it another state.

    Two changes at one time stamp cannot be told apart, so a file that was written just now is not known well enough.
    """
    return bool(state.stamps) or 0 < state.mtime_ns < time.time_ns() - SETTLED_NS


def write_state(state: FileState) -> str:
    """Return a state as text, with the time that also tells a file written in place whose time was set back."""
    return json.dumps(astuple(state))


def encode(name: str) -> bytes:
    """Return the bytes of a name, which need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def compress(data: bytes) -> bytes:
    """Return data compressed, quickly."""
    return zlib.compress(data, 1)


def split(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
