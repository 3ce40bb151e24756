"""A resource that logs each call, in any process, and the same log for HDF5 files."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.files import local, remote
from h5bound.files.open import open_file
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import RawIOBase
    from pathlib import Path

    import h5py
    import pytest
    from numpy.typing import NDArray

    from h5bound.buffers import Region


class Log:
    """A file to which any thread of any process appends lines: the event, the process and a detail."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: str, detail: object = "") -> None:
        line = f"{event} {os.getpid()} {detail}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def lines(self) -> list[list[str]]:
        return [line.split(" ", 2) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def count(self, event: str) -> int:
        return sum(line[0] == event for line in self.lines())

    def processes(self, event: str) -> list[str]:
        return sorted(line[1] for line in self.lines() if line[0] == event)

    def order(self) -> list[str]:
        return [line[0] for line in self.lines()]

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


class FileReader:
    """The reader of the question that h5bound answers: reading crashes unless the reader is open."""

    def __init__(self, path: Path, *, slow: float = 0.0, fail_at: tuple[int, ...] | None = None) -> None:
        self.log = Log(path)
        self.slow = slow  # seconds
        self.fail_at = fail_at
        self._open = False
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_open": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __dask_tokenize__(self) -> object:
        return (str(self.log.path), self.slow, self.fail_at)

    def open(self) -> None:
        with self._lock:
            assert not self._open, "opened twice"
            self._open = True
            self.log.add("open")

    def close(self) -> None:
        with self._lock:
            assert self._open, "closed twice"
            self._open = False
            self.log.add("close")

    def read_block(self, block_id: tuple[int, ...]) -> NDArray[np.int64]:
        if not self._open:
            raise RuntimeError("Segmentation fault!")
        self.log.add("read", block_id)
        if block_id == self.fail_at:
            raise ZeroDivisionError(f"block {block_id}")
        time.sleep(self.slow)
        if not self._open:
            raise RuntimeError("Segmentation fault!")
        return np.full((2, 3), sum(block_id))


def count_files(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """Log each open and close of an HDF5 file, and each block that is read."""
    install_counters(log, monkeypatch.setattr)


def install_counters(log: Log, replace: Callable[[object, str, object], None] = setattr) -> None:
    """Wrap the real functions with counters, in this process."""
    close, read, read_encoded = OpenFile.close, DatasetReader.read, DatasetReader.read_encoded
    reading = threading.local()  # one of them may call the other

    def counted_open(path: str, view: RawIOBase | None = None, **options: bool) -> h5py.File:
        log.add("open", path)
        return open_file(path, view, **options)

    def counted_close(opened: OpenFile) -> None:
        if opened.owned:
            log.add("close", opened.file.filename)
        close(opened)

    def counted(method: Callable[[DatasetReader, Region], Any]) -> Callable[[DatasetReader, Region], Any]:
        def counted_method(reader: DatasetReader, region: Region) -> Any:
            if getattr(reading, "now", False):
                return method(reader, region)
            log.add("read", region)
            reading.now = True
            try:
                return method(reader, region)
            finally:
                reading.now = False

        return counted_method

    replace(local, "open_file", counted_open)
    replace(remote, "open_file", counted_open)
    replace(OpenFile, "close", counted_close)
    replace(DatasetReader, "read", counted(read))
    replace(DatasetReader, "read_encoded", counted(read_encoded))


def eventually(holds: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within ten seconds."""
    for _ in range(500):
        if holds():
            return True
        time.sleep(0.02)
    return False
