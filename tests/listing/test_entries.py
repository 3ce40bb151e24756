"""What is listed of a file, what is only counted, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound.errors import DatasetNotFoundError
from h5bound.listing.entries import DatasetEntry, list_file, split_path
from h5bound.listing.words import describe_shape, describe_storage
from tests.support.entry_file import write_entry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with groups in groups, links, and datasets of several layouts."""
    path = tmp_path / "a.h5"
    with write_entry(path) as file:
        for name in ("deep/er/x", "deep/er/y", "deep/z"):
            file[name] = np.zeros(3, "i2")
        file["deep/er/soft"] = h5py.SoftLink("/entry")
        file["type"] = np.dtype("f4")
        file["text"] = ["a", "bb"]
        file["null"] = h5py.Empty("f4")
        layout = h5py.VirtualLayout((3,), "i2")
        layout[:] = h5py.VirtualSource(file["deep/z"])
        file.create_virtual_dataset("virtual", layout)
    return path


def find(path: Path, name: str) -> DatasetEntry:
    """Return what is listed of one dataset."""
    (entry,) = list_file(path, name).entries
    assert entry.dataset is not None
    return entry.dataset


def test_what_is_deeper_is_counted_where_it_is_hidden(path: Path) -> None:
    whole, part = list_file(path), list_file(path, depth=2)
    assert part.counts == whole.counts == {"group": 4, "dataset": 8, "link": 1, "type": 1}
    assert (part.stored_nbytes, part.nbytes, part.varying) == (whole.stored_nbytes, whole.nbytes, 1)
    hidden = {entry.path: entry.hidden for entry in part.entries if any(entry.hidden)}
    assert hidden == {"/deep/er": (0, 2, 1)}
    assert {entry.path for entry in whole.entries} - {entry.path for entry in part.entries} == {
        f"/deep/er/{name}" for name in ("x", "y", "soft")
    }


@pytest.mark.parametrize(("start", "depth"), [("/deep", 1), ("deep/", 1), ("/./deep", 1), ("/deep/er", 0)])
def test_a_depth_counts_from_where_the_list_starts(path: Path, start: str, depth: int) -> None:
    found = list_file(path, start, depth=depth)
    assert found.start == "/" + "/".join(split_path(start))
    deepest = max(len(split_path(entry.path)) for entry in found.entries)
    assert deepest == len(split_path(start)) + depth


def test_an_object_that_is_not_there_is_not_found(path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="deep/no"):
        list_file(path, "deep/no")


@pytest.mark.parametrize(
    ("name", "shape", "storage"),
    [
        ("entry/temperature", "(time=3, x=40)", ["3 chunks (1, 40)", "deflate 4", "{stored} B of 480 B"]),
        ("deep/z", "(3)", ["contiguous", "6 B"]),
        ("text", "(2)", ["contiguous", "32 B + text"]),
        ("null", "null", ["contiguous", "0 B"]),
        ("virtual", "(3)", ["virtual", "6 B"]),
    ],
)
def test_shapes_and_storage_are_said_in_few_words(path: Path, name: str, shape: str, storage: list[str]) -> None:
    found = find(path, name)
    assert describe_shape(found) == shape
    assert describe_storage(found) == [part.format(stored=found.record.stored_nbytes) for part in storage]


@pytest.mark.parametrize(
    ("name", "access", "reason"),
    [("deep/z", "direct", ""), ("text", "h5py", "become Python objects"), ("virtual", "h5py", "virtual")],
)
def test_how_a_dataset_is_read_has_a_reason_unless_it_is_read_directly(
    path: Path, name: str, access: Any, reason: str
) -> None:
    found = find(path, name)
    assert found.access == access
    assert reason in found.reason
    assert bool(reason) == bool(found.reason)
