"""Where the data of variables is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import h5py
import netCDF4
import numpy as np

from h5bound.overwriting.places import DataPlace, locate_targets, locate_variables
from h5bound.overwriting.targets import VariablePath, find_targets

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_places_overlap_in_one_file_only() -> None:
    data = DataPlace("a", 8)
    assert data.overlaps(DataPlace("a", 8))
    assert not data.overlaps(DataPlace("a", 16))
    assert not data.overlaps(DataPlace("b", 8))
    assert data.overlaps(DataPlace("a", start=80, stop=90))  # the bytes may be those of any object
    assert DataPlace("a", start=80, stop=90).overlaps(DataPlace("a", start=89, stop=91))
    assert not DataPlace("a", start=80, stop=90).overlaps(DataPlace("a", start=90, stop=91))


def test_the_virtual_dataset_that_is_a_source_of_itself_has_one_place(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[...] = h5py.VirtualSource(".", "a", (3,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    (places,) = locate_variables([VariablePath(str(tmp_path / "a.h5"), "/a")]).values()
    assert len(places) == 1


def test_a_variable_that_is_named_like_a_dimension_is_found_by_both_names(tmp_path: Path) -> None:
    path = str(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", 3)
        file.createDimension("x", 4)
        file.createVariable("t", "f8", ("x",))
    by_name, by_path = (VariablePath(path, f"/{name}") for name in ("t", "_nc4_non_coord_t"))
    located = locate_variables([by_name, by_path])
    assert located[by_name] & located[by_path]


def test_what_cannot_be_opened_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    os.link(tmp_path / "a.h5", tmp_path / "b.h5")
    names = [VariablePath(str(tmp_path / file), "/a") for file in ("a.h5", "b.h5", "none.h5")]
    first, second, missing = locate_variables(names).values()
    assert first == second != missing


def test_a_file_that_was_opened_from_another_directory_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["a"] = np.zeros(3)
        monkeypatch.chdir("/")
        targets = find_targets(file["a"])
        assert targets is not None
        (written,) = locate_targets(targets).values()
        (read,) = locate_variables([VariablePath(str(tmp_path / "a.h5"), "/a")]).values()
        assert written == read
