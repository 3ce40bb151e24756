"""Reads through h5py: what the type of a dataset says is found once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import h5py
import numpy as np

from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.element_types import read_dtype
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.source import H5Source
from h5bound.reader.via_h5py import plan_cache

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


def test_chunks_that_hdf5_decodes_are_kept_while_they_are_read_in_parts(tmp_path: Path) -> None:
    text = np.array([str(number) for number in range(100_000)], object)
    layout = h5py.VirtualLayout((2,), "i4")
    layout[:] = h5py.VirtualSource(".", "numbers", (2,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("text", data=text, chunks=(100_000,), compression=1)
        file.create_dataset("numbers", data=np.arange(2, dtype="i4"), chunks=(2,), compression=1)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("band", (2, 3000), h5py.string_dtype(), chunks=(2, 10))
        file.create_dataset("huge", (10**6,), h5py.string_dtype(), chunks=(10**6,))
    with H5Source.of(tmp_path / "a.h5").opened() as opened:
        assert [opened.reader(name).strategy for name in ("text", "virtual", "numbers")] == ["h5py", "h5py", "direct"]
        sizes = [opened.file[name].id.get_access_plist().get_chunk_cache()[1] for name in ("text", "numbers")]
        assert sizes == [2 * 16 * len(text), 1 << 20]  # an element has 16 bytes in the file
        parts = [opened.read("text", (slice(start, start + 10_000),)) for start in range(0, len(text), 10_000)]
        assert opened.read("virtual", (slice(0, 2),)).tolist() == [0, 1]
        planned = [plan_cache(opened.file[name]) for name in ("virtual", "band", "huge")]
        assert planned == [8 << 20, 2 * 16 * 2 * 3000, 0]
    assert [item.decode() for item in np.concatenate(parts)] == text.tolist()
