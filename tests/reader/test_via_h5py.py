"""Reads through h5py: what the type of a dataset says is found once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import h5py
import numpy as np

from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import read_dtype
from h5bound.reader.dataset_reader import DatasetReader

if TYPE_CHECKING:
    from pathlib import Path


def test_a_nested_type_is_read_once_for_all_reads(tmp_path: Path) -> None:
    kind: Any = h5py.enum_dtype({"A": 0, "B": 7}, "u1")
    for level in range(5):
        kind = np.dtype([(f"a{level}", kind), (f"b{level}", "i4")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = np.zeros(20, kind)
        values["b4"] = range(20)
        dataset = file.create_dataset("x", data=values, chunks=(1,))
        reader = DatasetReader(dataset)
        assert reader.strategy == "h5py"
        with (
            patch("h5bound.reader.via_h5py.read_type", side_effect=read_type) as types,
            patch("h5bound.reader.via_h5py.read_dtype", side_effect=read_dtype) as dtypes,
        ):
            blocks = [reader.read((slice(start, start + 1),)) for start in range(20)]
            stepped = reader.read_steps((slice(0, 20, 2),))
        assert (types.call_count, dtypes.call_count) == (1, 1)
    assert np.array_equal(np.concatenate(blocks), values)
    assert np.array_equal(stepped, values[::2])
