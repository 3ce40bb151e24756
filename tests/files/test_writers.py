"""Tests of the files that h5py writes to in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from h5bound.files.writers import find_writer, list_writers

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_open_for_writing_is_found_among_many_that_are_read(tmp_path: Path) -> None:
    readers = [tmp_path / f"{number}.h5" for number in range(3)]
    for reader in readers:
        h5py.File(reader, "w").close()
    written = tmp_path / "written.h5"
    with h5py.File(readers[0]), h5py.File(written, "w") as writer, h5py.File(readers[1]):
        assert find_writer(str(written)) == writer
        with h5py.File(readers[2]):
            assert [file.name for file in list_writers()] == [str(written).encode()]
            assert find_writer(str(readers[2])) is None
            assert find_writer(str(written)) == writer
    assert find_writer(str(written)) is None
    with h5py.File(readers[0], "r+") as writer:  # it was open for reading before
        assert find_writer(str(readers[0])) == writer
