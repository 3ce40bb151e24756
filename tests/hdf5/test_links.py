"""Objects of a walk are opened one after another, and are those that are opened alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import h5py
import pytest

from h5bound.errors import H5BoundError
from h5bound.hdf5 import links
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.links import PathOpener, open_object
from h5bound.planning.selection import list_all_paths
from tests.support.odd_files import ODD_FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def describe_opened(open_path: Callable[[str], Any], path: str) -> Any:
    try:
        item = open_path(path)
    except H5BoundError as error:
        return type(error), str(error)
    return type(item), item


@pytest.mark.parametrize("name", ODD_FILES)
def test_what_is_opened_after_anything_else_is_what_is_opened_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "odd.h5"
    ODD_FILES[name](path)
    with h5py.File(path) as file:
        paths = sorted(list_all_paths(read_hierarchy(file, max_depth=200)))[:100]
        paths += ["/", "", "//", *(f"{path}/{name}" for path in paths[:30] for name in ("data", "none", ".", "x\0y"))]
        random.Random(0).shuffle(paths)
        opener = PathOpener(file)
        for path_ in paths:
            expected = describe_opened(lambda path: open_object(file, path), path_)
            assert describe_opened(opener.open, path_) == expected


def test_a_walk_opens_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def count(group: h5py.h5g.GroupID, name: bytes, step: Any = links._open_hard) -> Any:  # noqa: SLF001
        steps.append(name)
        return step(group, name)

    monkeypatch.setattr(links, "_open_hard", count)
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        group = file
        for _ in range(100):
            group["y"] = group["z"] = 1
            group = group.create_group("g")
        hierarchy = read_hierarchy(file, max_depth=200)
        opener = PathOpener(file)
        for paths in (hierarchy.groups, [record.path for record in hierarchy.datasets]):
            for path in paths:
                assert opener.open(path).name == path
    assert len(steps) == 100 + 200  # the groups are still open when the datasets follow, the deepest one first
