"""Fixtures for all tests: no test may leave an HDF5 object open."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from h5py import h5f
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("DASK_H5BOUND__CACHE", "False")  # before dask reads it: tests leave the user's cache alone

with suppress(ImportError):
    import hdf5plugin  # noqa: F401 - netCDF4 registers a Blosc filter that h5py cannot write with, so this one is registered first

settings.register_profile("untimed", deadline=None)  # no test depends on the speed of the machine
settings.load_profile("untimed")


def open_objects() -> int:
    """Count the HDF5 files, groups and datasets that are open in this process."""
    return int(h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE | h5f.OBJ_GROUP | h5f.OBJ_DATASET))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Make SIGINT interrupt this process and its children, also when the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail a test that leaves an HDF5 file, group or dataset open."""
    yield
    if open_objects():
        gc.collect()
    assert open_objects() == 0, "the test left HDF5 objects open"
