"""The cache of scans: what it returns, and that nothing that is wrong with it is more than lost time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import dask
import pytest

from h5bound.errors import OptionError
from h5bound.files import scan_cache
from h5bound.files.file_state import FileState
from h5bound.files.scan_cache import CachedScan, ScanCache, find_user_folder, make_version, open_cache, tells_changes

if TYPE_CHECKING:
    from pathlib import Path

STATE = FileState(size=1, mtime_ns=1, inode=2, stamps=(("ETag", "a"),))


def test_an_entry_is_found_while_the_file_is_in_its_state(tmp_path: Path) -> None:
    cache = ScanCache(tmp_path / "new")
    entry = CachedScan('{"a": 1}', b"\0\1")
    cache.put_many("files", "v", [("odd\udcff", STATE, entry), ("b", STATE, CachedScan("2"))])
    changed = FileState(size=1, mtime_ns=2, inode=2, stamps=STATE.stamps)
    assert cache.get_many("files", "v", {"odd\udcff": STATE, "b": changed, "c": STATE}) == {"odd\udcff": entry}
    assert cache.get_many("files", "w", {"b": STATE}) == cache.get_many("datasets", "v", {"b": STATE}) == {}


def test_a_later_entry_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    cache = ScanCache(tmp_path)
    for text in ("1", "2"):
        cache.put_many("files", "v", [("a", STATE, CachedScan(text))])
    assert cache.get_many("files", "v", {"a": STATE}) == {"a": CachedScan("2")}


def test_a_file_that_was_written_just_now_is_not_kept(tmp_path: Path) -> None:
    now = FileState(size=1, mtime_ns=time.time_ns(), inode=2)
    assert not tells_changes(now)
    assert not tells_changes(FileState(size=1, mtime_ns=0))
    assert tells_changes(FileState(size=1, mtime_ns=now.mtime_ns - 3_000_000_000, inode=2))
    cache = ScanCache(tmp_path)
    cache.put_many("files", "v", [("a", now, CachedScan("1"))])
    assert cache.get_many("files", "v", {"a": now}) == {}


def test_the_oldest_entries_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_cache, "ROWS", 10)
    cache = ScanCache(tmp_path, max_nbytes=200_000)
    noise = [hash_bytes(i) for i in range(100)]
    names = [f"{i:03}" for i in range(100)]
    cache.put_many("files", "v", [(name, STATE, CachedScan("", data)) for name, data in zip(names, noise, strict=True)])
    kept = cache.get_many("files", "v", dict.fromkeys(names, STATE))
    assert 20 <= len(kept) < 50
    assert sorted(kept) == names[-len(kept) :]
    assert (tmp_path / scan_cache.FILE_NAME).stat().st_size < 300_000


def hash_bytes(seed: int) -> bytes:
    """Return 4 KiB that cannot be compressed."""
    import random

    return random.Random(seed).randbytes(4096)


def test_a_damaged_cache_is_replaced(tmp_path: Path) -> None:
    cache, file = ScanCache(tmp_path), tmp_path / scan_cache.FILE_NAME
    file.write_bytes(b"no database" * 1000)
    assert cache.get_many("files", "v", {"a": STATE}) == {}
    cache.put_many("files", "v", [("a", STATE, CachedScan("1"))])
    assert cache.get_many("files", "v", {"a": STATE}) == {"a": CachedScan("1")}
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE scans SET text = x'00'")
    connection.close()
    assert cache.get_many("files", "v", {"a": STATE}) == {}
    assert not file.exists()


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ScanCache(tmp_path / "file" / "below")
    cache.put_many("files", "v", [("a", STATE, CachedScan("1"))])
    assert cache.get_many("files", "v", {"a": STATE}) == {}


def test_a_cache_that_another_process_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_cache, "TIMEOUT", 0.01)
    cache = ScanCache(tmp_path)
    cache.put_many("files", "v", [("a", STATE, CachedScan("1"))])
    connection = sqlite3.connect(tmp_path / scan_cache.FILE_NAME)
    connection.execute("BEGIN EXCLUSIVE")
    cache.put_many("files", "v", [("b", STATE, CachedScan("2"))])
    assert cache.get_many("files", "v", {"a": STATE}) == {}
    connection.rollback()
    connection.close()
    assert set(cache.get_many("files", "v", {"a": STATE, "b": STATE})) == {"a"}


PROGRAM = """
import sys
from pathlib import Path
from h5bound.files.file_state import FileState
from h5bound.files.scan_cache import CachedScan, ScanCache
state = FileState(size=1, mtime_ns=1, inode=2, stamps=(("ETag", "a"),))
for i in range(50):
    ScanCache(Path(sys.argv[1])).put_many("files", "v", [(f"{sys.argv[2]}{i}", state, CachedScan("1"))])
"""


@pytest.mark.slow
def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", PROGRAM, str(tmp_path), name] for name in "abc"]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in running] == [0, 0, 0]
    names = [f"{name}{i}" for name in "abc" for i in range(50)]
    assert len(ScanCache(tmp_path).get_many("files", "v", dict.fromkeys(names, STATE))) == 150


def test_the_setting_moves_it_or_switches_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with dask.config.set({"h5bound.cache": True}):
        assert open_cache().folder == find_user_folder()
        assert open_cache(enabled=False).folder is None
    with dask.config.set({"h5bound.cache": str(tmp_path / "x")}):
        assert open_cache().folder == tmp_path / "x"
    with dask.config.set({"h5bound.cache": False}):
        assert open_cache().folder is None
        assert open_cache().get_many("files", "v", {"a": STATE}) == {}
    with dask.config.set({"h5bound.cache": 7}), pytest.raises(OptionError, match="give a folder"):
        open_cache()


def test_a_version_depends_on_all_its_parts() -> None:
    assert make_version("a", 1) == make_version("a", 1)
    assert len({make_version("a", 1), make_version("a", 2), make_version("a", "1")}) == 3
