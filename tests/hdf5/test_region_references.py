"""What a region reference selects is said in words from which h5py selects the same elements."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5r, h5s

from h5bound import convert, verify
from h5bound.hdf5.references import ReferencePaths

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 10)


def hyperslab(*arguments: Any, **options: Any) -> h5s.SpaceID:
    """Return a dataspace in which a hyperslab is selected."""
    space = h5s.create_simple(SHAPE)
    space.select_hyperslab(*arguments, **options)
    return space


def points(*indices: tuple[int, int]) -> h5s.SpaceID:
    """Return a dataspace in which elements are selected, in this order."""
    space = h5s.create_simple(SHAPE)
    if indices:
        space.select_elements(list(indices))
    else:
        space.select_none()
    return space


def rows(*numbers: int) -> h5s.SpaceID:
    """Return a dataspace in which some rows are selected."""
    space = points()
    for number in numbers:
        space.select_hyperslab((number, 0), (1, SHAPE[1]), op=h5s.SELECT_OR)
    return space


def select(selection: dict[str, Any]) -> h5s.SpaceID:
    """Return a dataspace with a selection, as docs/explanation/format.md says."""
    space = h5s.create_simple(SHAPE)
    if "points" in selection:
        space.select_elements(selection["points"]) if selection["points"] else space.select_none()
    boxes = selection.get("boxes", [selection] if "start" in selection else [])
    for number, box in enumerate(boxes):
        count = tuple(h5s.UNLIMITED if n is None else n for n in box["count"])
        stride, block = (tuple(box[name]) if name in box else None for name in ("stride", "block"))
        op = h5s.SELECT_OR if number else h5s.SELECT_SET
        space.select_hyperslab(tuple(box["start"]), count, stride, block, op)
    return space


CASES = [
    pytest.param(h5s.create_simple(SHAPE), {}, id="all"),
    pytest.param(hyperslab((1, 2), (1, 1), block=(2, 3)), {"start": [1, 2], "count": [2, 3]}, id="box"),
    pytest.param(
        hyperslab((0, 1), (3, 3), stride=(2, 3)),
        {"start": [0, 1], "count": [3, 3], "stride": [2, 3], "block": [1, 1]},
        id="steps",
    ),
    pytest.param(
        hyperslab((0, 0), (h5s.UNLIMITED, 2), stride=(2, 1)),
        {"start": [0, 0], "count": [None, 2], "stride": [2, 1], "block": [1, 1]},
        id="unlimited",
    ),
    pytest.param(
        rows(1, 2, 5),
        {"boxes": [{"start": [1, 0], "count": [2, 10]}, {"start": [5, 0], "count": [1, 10]}]},
        id="boxes",
    ),
    pytest.param(points((5, 5), (0, 0)), {"points": [[5, 5], [0, 0]]}, id="points"),
    pytest.param(points(), {"points": []}, id="nothing"),
]


@pytest.mark.parametrize(("space", "selection"), CASES)
def test_a_selection_is_what_h5py_selects_again(space: h5s.SpaceID, selection: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", data=np.arange(60).reshape(SHAPE))
        reference = h5r.create(dataset.id, b".", h5r.DATASET_REGION, space)
        assert json.loads(ReferencePaths(file)(reference)) == {"path": "/d", **selection}
        again = h5r.create(dataset.id, b".", h5r.DATASET_REGION, select(selection))
        assert ReferencePaths(file)(again) == ReferencePaths(file)(reference)
        if selection.get("count", [0])[0] is not None:  # h5py reads no unlimited selection
            assert np.array_equal(dataset[again], dataset[reference])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_granules_of_a_satellite_name_their_part_of_the_data(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        data = file.create_dataset("All_Data/VIIRS/Radiance", data=np.arange(60).reshape(SHAPE))
        names = np.dtype([("name", h5py.string_dtype()), ("part", h5py.regionref_dtype)])
        file.create_dataset("table", data=np.array([("é", data.regionref[:2]), ("", h5py.RegionReference())], names))
        for i in range(2):
            granule = file.create_dataset(f"Data_Products/VIIRS_Gran_{i}", (3,), h5py.regionref_dtype)
            granule[0], granule[1] = data.regionref[3 * i : 3 * i + 3, :], data.regionref[...]
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    assert report.forms["references"] == 3
    store: Any = zarr.open_group(target, mode="r")
    first, whole, none = store["Data_Products/VIIRS_Gran_1"][:]
    assert json.loads(first) == {"path": "/All_Data/VIIRS/Radiance", "start": [3, 0], "count": [3, 10]}
    assert json.loads(whole) == {"path": "/All_Data/VIIRS/Radiance"}
    assert none == ""
    part = json.loads(first)
    region = tuple(slice(start, start + count) for start, count in zip(part["start"], part["count"], strict=True))
    assert store[part["path"]][region].tolist() == np.arange(30, 60).reshape(3, 10).tolist()
    assert [json.loads(text) if text else "" for text in store["table"][:]["part"].tolist()] == [
        {"path": "/All_Data/VIIRS/Radiance", "start": [0, 0], "count": [2, 10]},
        "",
    ]
    store = zarr.open_group(target, mode="r+")
    store["Data_Products/VIIRS_Gran_1"][0] = first.replace("3, 0", "2, 0")
    assert [item.path for item in verify(source, target).differences] == ["/Data_Products/VIIRS_Gran_1"]
