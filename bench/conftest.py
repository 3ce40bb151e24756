"""Every benchmark closes what it opens."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from h5py import h5f

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail a benchmark that leaves an HDF5 file open."""
    yield
    if h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE):
        gc.collect()
    assert h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE) == 0, "the benchmark left HDF5 files open"
