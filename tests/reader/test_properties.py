"""Properties that hold for any dataset: what is read equals what h5py reads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import h5py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h5bound.hdf5.chunk_index import INDEXING, IndexingRule
from h5bound.reader import chunked
from h5bound.reader import small_chunks as batch
from h5bound.reader.dataset_reader import DatasetReader
from tests.support.strategies import Case, cases, regions, write_case

if TYPE_CHECKING:
    import numpy as np


def check_equal(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert got.tobytes() == want.tobytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=cases(),
    data=st.data(),
    mode=st.sampled_from(["r", "r+"]),
    listed=st.booleans(),
    box=st.sampled_from([0, 100, 5000]),
)
def test_any_region_of_any_chunked_dataset_equals_what_h5py_reads(
    case: Case, data: st.DataObject, mode: str, box: int, *, listed: bool
) -> None:
    """The chunks are read one by one, or in boxes of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.h5"
        write_case(path, case)
        with (
            h5py.File(path, mode) as file,
            patch.object(chunked, "INDEXING", INDEXING if listed else IndexingRule(0, 0)),
            patch.multiple(batch, SMALL_NBYTES=batch.SMALL_NBYTES if box else 0, BOX_NBYTES=box),
        ):
            dataset = file["x"]
            reader = DatasetReader(dataset)
            assert reader.strategy == "direct", reader.reason
            for _ in range(4):
                region = data.draw(regions(case.shape))
                check_equal(reader.read(region), dataset[region])
            reader.close()
