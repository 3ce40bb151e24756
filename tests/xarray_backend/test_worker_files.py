"""What a task of a worker tells of the files that it reads."""

from __future__ import annotations

import gc
import shutil
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from h5bound.overwriting.task_parts import unwrap
from h5bound.reader.source import H5Source
from h5bound.xarray_backend.worker_files import WorkerFile, find_block_reads, find_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    packed = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}
    dataset = xr.Dataset({"plain": ("x", np.arange(6.0)), "packed": ("x", np.arange(6.0))})
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"packed": packed})
    return path


def test_the_file_of_a_variable_is_found_inside_all_wrappers(path: Path) -> None:
    dataset = xr.open_dataset(path, engine="h5bound")
    for variable in (dataset.plain, dataset.packed[1:3], dataset.packed[[0, 2]], dataset.plain[::2]):
        wrapped = variable.variable._data  # noqa: SLF001 - as xarray puts it into the graph
        assert find_source(wrapped) is unwrap(wrapped).source
        assert unwrap(wrapped).source.path == str(path)


@pytest.mark.parametrize("value", [None, 1, np.zeros(3), "a", xr.Variable("x", [1])])
def test_what_is_no_variable_of_a_file_has_no_source(value: Any) -> None:
    assert find_source(value) is None


def test_outside_of_a_worker_no_task_reads(path: Path) -> None:
    assert find_block_reads(H5Source.of(path)) is None


def test_a_worker_has_one_file_for_all_variables_while_one_of_them_lives(path: Path) -> None:
    first = WorkerFile.of(H5Source.of(path), "tcp://a")
    assert WorkerFile.of(H5Source.of(path), "tcp://a") is first
    assert WorkerFile.of(H5Source.of(path), "tcp://b") is not first
    found = weakref.ref(first)
    del first
    gc.collect()
    assert found() is None


def open_variable(path: Path) -> Any:
    """Return a variable as xarray puts it into the graph."""
    return xr.open_dataset(path, engine="h5bound").plain.variable._data  # noqa: SLF001


def is_a_block_read(_variable: Any, path: Path) -> bool:
    """Return whether the task that runs this is known to read the file."""
    return find_block_reads(H5Source.of(path)) is not None


def test_a_task_reads_blocks_if_it_depends_on_a_variable_of_the_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.nc"
    shutil.copy(path, other)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        variable = client.submit(open_variable, path)
        given = ((variable, path), (variable, other), (None, path))
        assert [client.submit(is_a_block_read, *one).result() for one in given] == [True, False, False]
