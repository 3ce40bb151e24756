"""Coordinates of small chunks: what the provenance keeps of them decides what the store's own chunks would."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from h5bound import combine, verify
from h5bound.combining.kept_coordinates import SMALL_CHUNK, read_values, write_values
from h5bound.errors import H5BoundError, TargetError
from tests.combining.test_combine import write_day
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")

DTYPES = ("<f8", ">f8", "<f4", "<f2", "<i8", ">i4", "<u2", "|u1", "|i1")


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, st.integers(0, 40))))
def test_numbers_are_kept_bit_for_bit(values: np.ndarray[Any, Any]) -> None:
    found = read_values(write_values(values), values.dtype)
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


def write_times(
    path: Path, times: Sequence[float], *, dtype: str = "f8", units: str = "hours since 2000-01-01"
) -> Path:
    """Write a file of times, each in a chunk of its own, and of a variable along them."""
    with h5py.File(path, "w") as file:
        file.create_dataset("time", data=np.array(times, dtype), chunks=(1,), maxshape=(None,))
        file["time"].attrs["units"] = units
        file["time"].make_scale("time")
        file.create_dataset("t", data=np.array(times, "f4"), chunks=(2,), maxshape=(None,))
        file["t"].dims[0].attach_scale(file["time"])
    return path


def tell(paths: Sequence[Path], target: Path, **options: Any) -> object:
    """Return what an append says: its differences, or its error."""
    try:
        report = combine([*paths], target, dim="time", append=True, dry_run=True, **options)
    except H5BoundError as error:
        return type(error), str(error).replace(str(target), "")
    return report.differences, report.files, report.added, report.work


TOLD: list[tuple[list[float], dict[str, Any], str]] = [
    ([8, 9], {}, ""),
    ([20, 21], {}, "gap"),
    ([2, 3, 5], {}, "overlap"),
    ([7, 8], {"overlap": "first"}, "overlap"),
    ([5, 8], {"overlap": "last"}, "overlap"),
    ([9, 9], {}, "twice"),
    ([-2, -1], {}, "order"),
    ([-2, -1], {"sort": True}, "update=True"),
    ([-2, -1], {"sort": False}, ""),
]


@pytest.mark.parametrize("dtype", ["<f8", ">i4"])
@pytest.mark.parametrize(("times", "options", "word"), TOLD, ids=lambda item: str(item))
def test_what_is_kept_decides_what_the_store_would(
    tmp_path: Path, times: list[float], options: dict[str, Any], word: str, dtype: str
) -> None:
    first = [
        write_times(tmp_path / "a.h5", [0, 1, 2, 3], dtype=dtype),
        write_times(tmp_path / "b.h5", [4, 5, 7], dtype=dtype),
    ]
    targets = [tmp_path / name / "out.zarr" for name in ("kept", "read")]
    overlap = {name: value for name, value in options.items() if name == "overlap"}
    for target in targets:
        combine(first, target, dim="time", **overlap)
    document = read_own(targets[1])
    assert list(document.pop("coordinates")) == ["/time"]
    (targets[1] / "h5bound.json").write_text(json.dumps(document))
    shutil.rmtree(targets[0] / "time" / "c")  # so that it cannot be read
    new = write_times(tmp_path / "c.h5", times, dtype=dtype)
    kept, read = (tell([new], target, **options) for target in targets)
    assert kept == read
    assert word in str(kept)


def test_appends_keep_what_the_files_become(tmp_path: Path) -> None:
    hours = [[0, 6, 12], [48, 54], [60, 66]]
    days = [write_times(tmp_path / f"{number}.h5", times) for number, times in enumerate(hours)]
    days.insert(1, write_times(tmp_path / "days.h5", [1, 2], units="days since 2000-01-01"))
    target, whole = tmp_path / "out.zarr", tmp_path / "whole.zarr"
    for path in days:
        combine(path, target, dim="time", append=True, overlap="first", sort=False)
    combine(days, whole, dim="time", overlap="first", sort=False)
    for store in (target, whole):
        values = read_values(read_own(store)["coordinates"]["/time"], np.dtype("f8"))
        assert values.tolist() == [0, 6, 12, 24, 48, 54, 60, 66]
        assert verify(days, store).equal


def test_values_of_large_chunks_are_not_kept(tmp_path: Path) -> None:
    with h5py.File(write_day(tmp_path / "a.nc", 0, SMALL_CHUNK + 1), "a") as file:
        del file["time"]
        file.create_dataset("time", data=np.arange(SMALL_CHUNK + 1.0), chunks=(SMALL_CHUNK + 1,)).make_scale("time")
    combine(tmp_path / "a.nc", tmp_path / "out.zarr", new_dim="run")
    assert "coordinates" not in read_own(tmp_path / "out.zarr")


def test_a_damaged_document_is_told(tmp_path: Path) -> None:
    path, target = write_times(tmp_path / "a.h5", [0, 1]), tmp_path / "out.zarr"
    combine(path, target, dim="time")
    document = read_own(target)
    document["coordinates"]["/time"] = document["coordinates"]["/time"][:-8]
    (target / "h5bound.json").write_text(json.dumps(document))
    with pytest.raises(TargetError, match=r"the provenance in h5bound\.json cannot be used"):
        combine(path, target, dim="time", append=True)
