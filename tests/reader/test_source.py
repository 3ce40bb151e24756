"""The source of arrays: opened, checked and closed around whatever is read."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound.errors import SourceChangedError, SourceNotFoundError, naming
from h5bound.files.unlocked import reading_unlocked
from h5bound.lifecycle.session import open_source
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one dataset."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2, 3]
    return path


def break_file(path: Path, *, fails: bool) -> None:
    path.write_bytes(bytes(10))
    if fails:
        raise OSError("the read fails")


def test_the_file_is_open_in_the_context_only(path: Path) -> None:
    with H5Source.of(path).opened() as opened:
        assert opened.file["x"][1] == 2
    assert not opened.file


def test_an_error_of_a_read_is_raised_as_it_is_and_closes_the_file(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), H5Source.of(path).opened() as opened:
        _ = 1 / 0
    assert not opened.file


@pytest.mark.parametrize("fails", [False, True])
def test_a_change_of_the_file_explains_what_was_read_and_what_failed(path: Path, *, fails: bool) -> None:
    source = H5Source.of(path)
    with pytest.raises(SourceChangedError, match="make the array or store again") as caught, source.opened() as opened:
        break_file(path, fails=fails)
    assert isinstance(caught.value.__context__, OSError) == fails
    assert not opened.file


def test_a_file_that_is_gone_is_not_found(path: Path) -> None:
    with pytest.raises(SourceNotFoundError), H5Source.of(path).opened():
        path.unlink()


def test_what_stands_around_sees_the_open_and_the_check_and_not_the_read(path: Path) -> None:
    seen = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append("in")
        with naming("here", (SourceChangedError, ValueError)):
            yield
        seen.append("out")

    with pytest.raises(ValueError, match=r"^of the read$"), open_source(H5Source.of(path), around):
        raise ValueError("of the read")
    assert seen == ["in", "out", "in", "out"]
    with pytest.raises(SourceChangedError, match=r"^here: "), open_source(H5Source.of(path), around):
        path.write_bytes(bytes(10))


def test_a_file_that_is_kept_open_is_opened_once_and_holds_no_dataset_between_its_uses(path: Path) -> None:
    source = H5Source.of(path)
    with source.keep_open(keep=True):
        with open_source(source) as second, open_source(source) as first:
            assert first is not second
        assert first.file
        assert not second.file  # one file at most is set aside
        with source.opened() as again:
            assert again is first
            reader = again.reader("x")
        with pytest.raises(ValueError, match="closed"):
            reader.read((slice(0, 1),))
        assert not pickle.loads(pickle.dumps(source)).keeps_open
        source.keeps_open = False
        with source.opened() as last:
            assert last is first
        assert not last.file


@pytest.mark.parametrize("keep", [True, False])
def test_no_file_is_open_after_it_was_kept_open(path: Path, *, keep: bool) -> None:
    source = H5Source.of(path)
    with source.keep_open(keep=keep):
        with source.opened() as opened:
            pass
        assert bool(opened.file) == keep
    assert not opened.file


def test_a_file_whose_types_nest_values_of_variable_length_is_open_once_at_a_time(path: Path) -> None:
    source = H5Source.of(path)
    source.make_exclusive_for([None, np.dtype("f4"), h5py.string_dtype(), h5py.vlen_dtype(np.dtype("i4"))])
    assert not source.exclusive
    source.make_exclusive_for([np.dtype([("text", h5py.string_dtype())])])
    with source.opened() as opened, pickle.loads(pickle.dumps(source)).opened() as other:
        assert opened is other
    assert not opened.file


def test_a_file_that_was_read_beside_its_writer_is_not_trusted_after_the_compute_that_wrote(path: Path) -> None:
    source = H5Source.of(path)
    with reading_unlocked(str(path)):
        with h5py.File(path, "a") as file:
            file["new"] = np.zeros(10)
        opened = source.open()
        source.check(opened)
    with pytest.raises(SourceChangedError, match="another compute of this process wrote to the file"):
        source.check(opened)
    source.close(opened)
    with pytest.raises(SourceChangedError, match="size"):
        source.open()


def test_a_file_that_became_shorter_or_another_one_is_not_read_beside_its_writer(path: Path) -> None:
    source = H5Source.of(path)
    with reading_unlocked(str(path)):
        with h5py.File(path, "w"):
            pass
        with pytest.raises(SourceChangedError, match="size"):
            source.open()
        path.rename(path.with_name("old.h5"))
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(1000)
        with pytest.raises(SourceChangedError, match="another file of this name"):
            source.open()
