"""Regions with steps are read as h5py reads them, without the chunks and long rows between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5bound.reader import steps
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.steps import join_steps, split_steps

if TYPE_CHECKING:
    from pathlib import Path


@given(st.data())
def test_any_steps_give_the_same_values(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    values = np.arange(np.prod(shape)).reshape(shape)
    unit = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    stops = [data.draw(st.integers(start + 1, size)) for start, size in zip(starts, shape, strict=True)]
    region = tuple(map(slice, starts, stops, [data.draw(st.integers(1, 5)) for _ in shape]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "SKIPPED_NBYTES", data.draw(st.sampled_from([1, 100])))
        parts, axis = split_steps(region, shape, unit=unit, itemsize=8)
    block = join_steps(values.__getitem__, region, parts=parts, axis=axis)
    np.testing.assert_array_equal(block, values[region])
    assert all(s.step is None for part in parts for s in part)


PADDED: Any = {"names": ["a", "b"], "formats": ["i1", ">f8"], "offsets": [0, 8], "itemsize": 24}


@pytest.mark.parametrize("dtype", [">f8", np.dtype(PADDED), h5py.string_dtype("utf-8", 6), h5py.string_dtype()])
@pytest.mark.parametrize("skipped", [1, 1 << 20])
def test_steps_leave_the_type_as_it_is(monkeypatch: pytest.MonkeyPatch, dtype: Any, skipped: int) -> None:
    monkeypatch.setattr(steps, "SKIPPED_NBYTES", skipped)
    values = np.zeros((9, 4), dtype)
    region = (slice(0, 9, 4), slice(1, 3))
    parts, axis = split_steps(region, values.shape, unit=(1, 1), itemsize=8)
    block = join_steps(values.__getitem__, region, parts=parts, axis=axis)
    assert block.shape == (3, 2)
    assert block.dtype == values.dtype
    assert block.dtype.metadata == values.dtype.metadata
    assert block.base is None


def test_chunks_between_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    values = np.random.default_rng(0).integers(0, 9, (12, 1 << 16), "u1").astype("f8")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 1 << 16), compression="gzip", fletcher32=True)
        places = [file["x"].id.get_chunk_info_by_coord((i, 0)) for i in range(12)]
    with path.open("r+b") as raw:
        for i in set(range(12)) - {1, 6, 11}:
            raw.seek(places[i].byte_offset + 100)
            raw.write(b"damaged")
    with h5py.File(path) as file:
        reader = DatasetReader(file["x"])
        block = reader.read_steps((slice(1, 12, 5), slice(0, 1 << 16, 2)))
        reader.close()
    np.testing.assert_array_equal(block, values[1::5, ::2])
