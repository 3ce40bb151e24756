"""Many files as one source: which are open at a time, who closes them, and how a change of any is noticed."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock
from typing import TYPE_CHECKING

import h5py
import pytest

from bench.turns import call_alone
from h5bound.errors import SourceChangedError, SourceNotFoundError
from h5bound.lifecycle.open_limit import open_limit
from h5bound.reader.many_files import ManyFiles
from h5bound.reader.source import H5Source
from tests.support.many_files import make_files, read_numbers, read_within

if TYPE_CHECKING:
    from pathlib import Path

    from h5bound.reader.many_files import OpenFiles
    from h5bound.reader.open_file import OpenFile


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path, 5)


def make_source(paths: list[Path], max_open: int = 64) -> ManyFiles:
    return ManyFiles(list(map(H5Source.of, paths)), max_open=max_open)


def is_open(path: Path) -> bool:
    names = [h5py.h5f.get_name(file) for file in h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)]
    return str(path).encode() in names


def list_open(paths: list[Path]) -> list[int]:
    return [number for number, path in enumerate(paths) if is_open(path)]


def test_a_file_is_opened_by_its_first_user_and_closed_with_all_others(paths: list[Path]) -> None:
    with make_source(paths).opened() as opened:
        assert list_open(paths) == []
        for number in (3, 1, 3):
            with opened.using(number) as file:
                assert file.read("x", (slice(0, 1),)) == number
        assert list_open(paths) == [1, 3]
    assert list_open(paths) == []


def test_the_least_recently_used_of_too_many_files_is_closed(paths: list[Path]) -> None:
    with make_source(paths, max_open=2).opened() as opened:
        assert read_numbers(opened, [0, 1, 0, 2])
        assert list_open(paths) == [0, 2]
        assert read_numbers(opened, [1])
        assert list_open(paths) == [1, 2]


def test_files_in_use_stay_open_although_they_are_too_many(paths: list[Path]) -> None:
    with make_source(paths, max_open=1).opened() as opened:
        with opened.using(0) as first, opened.using(1) as second, opened.using(0) as again:
            assert again is first
            assert list_open(paths) == [0, 1]
            assert first.read("x", (slice(0, 1),)) != second.read("x", (slice(0, 1),))
        assert read_numbers(opened, [2])
        assert list_open(paths) == [2]


@pytest.mark.parametrize("windows", [1, 2])
def test_no_more_files_than_max_open_are_open_at_a_time(tmp_path: Path, windows: int) -> None:
    """Threads wait for files that others read, also those of another window."""
    now, most, lock = 0, 0, Lock()

    def count(change: int) -> None:
        nonlocal now, most
        with lock:
            now += change
            most = max(most, now)

    class CountedSource(H5Source):
        def open(self) -> OpenFile:
            count(1)
            return super().open()

        def close(self, opened: OpenFile) -> None:
            super().close(opened)
            count(-1)

    files = ManyFiles([CountedSource.of(path) for path in make_files(tmp_path, 12)], max_open=3)
    orders = [list(range(12))[::step] * 5 for step in (1, -1, 5, -5, 1, 1)]
    opened = [files.open() for _ in range(windows)]
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read_numbers, opened * (6 // windows), orders))
    for window in opened:
        files.close(window)
    assert (most, now) == (3, 0)


def test_a_window_may_be_opened_while_files_of_others_are_read(paths: list[Path]) -> None:
    source, interval = make_source(paths), sys.getswitchinterval()
    windows = [source.open()]
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_numbers, windows[0], [0, 1] * 20)
            while not reading.done():
                windows += [source.open() for _ in range(10)]
            assert reading.result()
    finally:
        sys.setswitchinterval(interval)
    source.close(windows[0])


def test_threads_read_right_values_while_files_are_closed_for_others(tmp_path: Path) -> None:
    paths = make_files(tmp_path, 12)
    numbers = [list(range(12))[::step] * 5 for step in (1, -1, 5, -5)]
    with ThreadPoolExecutor(4) as pool, make_source(paths, max_open=3).opened() as opened:
        assert all(pool.map(read_numbers, [opened] * 4, numbers))
        assert len(list_open(paths)) <= 3
    assert list_open(paths) == []


def test_a_file_that_is_idle_is_closed_for_another_source_and_opened_again(paths: list[Path]) -> None:
    with make_source(paths).opened() as opened:
        assert read_numbers(opened, [0, 1])
        with opened.using(1):
            open_limit.suspend_all()
            assert list_open(paths) == [1]
        assert read_numbers(opened, [0, 1])


def test_a_file_is_open_once_with_those_who_read_it_alone(paths: list[Path]) -> None:
    with H5Source.of(paths[0]).opened() as alone, make_source(paths).opened() as opened:
        with opened.using(0) as file:
            assert file is alone
        opened.close()
        assert list_open(paths) == [0]
    assert list_open(paths) == []


def read_and_change(source: ManyFiles, path: Path, numbers: list[int]) -> None:
    """Read a file, change it, and read others."""
    with source.opened() as opened:
        assert read_numbers(opened, [2])
        path.write_bytes(bytes(10))
        with pytest.raises(SourceChangedError, match=r"00002.h5") if source.max_open == 1 else nullcontext():
            read_numbers(opened, numbers)
        assert read_numbers(opened, numbers)


@pytest.mark.parametrize("max_open", [64, 1])
def test_a_file_that_changed_after_its_last_read_is_named(paths: list[Path], max_open: int) -> None:
    """A change that is found when the file is closed for another is not forgotten."""
    with pytest.raises(SourceChangedError, match=r"00002.h5: the file changed"):
        read_and_change(make_source(paths, max_open), paths[2], [3])
    assert list_open(paths) == []


def break_while_used(opened: OpenFiles, path: Path) -> None:
    with opened.using(2):
        path.write_bytes(bytes(10))
        raise OSError("the read fails")


def test_a_change_explains_an_error_of_a_read(paths: list[Path]) -> None:
    source = make_source(paths)
    opened = source.open()
    with pytest.raises(SourceChangedError, match=r"00002.h5") as caught:
        break_while_used(opened, paths[2])
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(SourceChangedError, match=r"00002.h5"):
        source.check(opened)
    source.close(opened)
    assert list_open(paths) == []


def test_a_file_that_changed_before_it_was_opened_or_is_gone_is_named(paths: list[Path]) -> None:
    source = make_source(paths)
    paths[0].write_bytes(bytes(10))
    paths[1].unlink()
    with source.opened() as opened:
        with pytest.raises(SourceChangedError, match=r"00000.h5"):
            read_numbers(opened, [0])
        with pytest.raises(SourceNotFoundError, match=r"00001.h5"):
            read_numbers(opened, [1])
        assert read_numbers(opened, [2])
    with pytest.raises(SourceChangedError, match=r"00000.h5"):
        source.check_unchanged()


def close_while_used(opened: OpenFiles, file: h5py.File) -> None:
    with opened.using(0) as taken:
        taken.bytes = None  # as of a file that is open for writing
        file.close()
        raise ValueError("Not a dataset")


def test_a_file_of_the_caller_stays_open_and_must_not_be_closed_while_it_is_read(paths: list[Path]) -> None:
    with h5py.File(paths[0]) as file:
        source = ManyFiles([H5Source.of(file), H5Source.of(paths[1])])
        with source.opened() as opened:
            assert read_numbers(opened, [0, 1])
        assert file
        with source.opened() as opened, pytest.raises(SourceChangedError, match=r"00000.h5: .* closed"):
            close_while_used(opened, file)
    assert list_open(paths) == []


def test_a_pickled_source_is_the_same_source(paths: list[Path]) -> None:
    source = make_source(paths, max_open=3)
    copy = pickle.loads(pickle.dumps(source))
    assert pickle.loads(pickle.dumps(source)) is copy  # as in a pool, which gets it with each block
    assert (copy.key, copy.max_open, copy.path) == (source.key, 3, f"{paths[0]} and 4 more")
    with source.opened() as opened, copy.opened() as other:
        assert opened is other


def test_where_chunks_are_is_shared_by_all_opens_while_it_is_kept(paths: list[Path]) -> None:
    source = make_source(paths)
    with source.keep_open(keep=True):
        shared = source.share()
        with source.opened() as opened:
            assert read_numbers(opened, [1])
        assert [(number, list(indexes or ())) for number, indexes in shared.items()] == [(1, ["x"])]
    del shared, opened
    assert not source.share()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_many_files_are_read_in_a_quarter_of_a_limit_of_descriptors(tmp_path: Path) -> None:
    found = call_alone(read_within, 64, make_files(tmp_path, 200), threads=8)
    assert found["right"]
    assert found["descriptors"] <= 64 // 4 + 2 * 8 + 2  # and the files that threads are reading, and the watch
