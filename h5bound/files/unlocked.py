"""Files that another HDF5 library, as a rule netCDF4, writes in this process, and that may be read without a lock.

Each library locks the files that it writes from the others, and knows nothing of what the others have in memory. A file
may be read without a lock while nothing in it changes but what is not read, as during a compute that has asked netCDF4
to write all that it has defined (:mod:`h5bound.overwriting`).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER_WRITER = (
    "this process has it open for writing, not with h5py: where that is netCDF4, write with engine='h5netcdf', or load "
    "the values before they are written"
)
"""What is wrong with a file that another HDF5 library writes in this process, and what to do."""

_unlocked: Counter[str] = Counter()
"""Number of computes that read a file without a lock, by its real path."""

_lock = threading.Lock()


@contextmanager
def reading_unlocked(path: str) -> Iterator[None]:
    """Return a context in which a file is opened without a lock, and may be written meanwhile."""
    with _lock:
        _unlocked[path] += 1
    try:
        yield
    finally:
        with _lock:
            _unlocked[path] -= 1


def is_read_unlocked(path: str) -> bool:
    """Return whether a file may be opened without a lock."""
    return _unlocked[path] > 0


def is_written_here(path: str) -> bool:
    """Return whether this process has a file open for writing, with whatever library; False where no system tells."""
    with suppress(OSError):
        stat = Path(path).stat()
        return (stat.st_dev, stat.st_ino) in list_written_here()
    return False


def list_written_here() -> set[tuple[int, int]]:
    """Return the devices and inodes of what this process has open for writing; none where no system tells."""
    files = set()
    with suppress(OSError, ImportError):
        import fcntl

        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):  # the list has its own descriptor, which is closed
                if fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
                    stat = os.fstat(number)
                    files.add((stat.st_dev, stat.st_ino))
    return files
