"""Files that another process appends to in SWMR mode, read through a File that was opened with ``swmr=True``."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import H5BoundError, H5Store, SourceChangedError, UnsupportedError, convert, from_hdf5, verify
from h5bound.listing.entries import list_file
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.slow

NAMES = ["plain", "gzip", "scale_offset"]

WRITER = """
import h5py, numpy as np, select, sys
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    options = {"shape": (0, 4), "maxshape": (None, 4), "chunks": (10, 4), "dtype": "i4"}
    file.create_dataset("plain", **options)
    file.create_dataset("gzip", compression="gzip", shuffle=True, **options)
    file.create_dataset("scale_offset", scaleoffset=8, **options)
    file.swmr_mode = True
    rows = 0
    while not (rows and select.select([sys.stdin], [], [], 0.01)[0]):
        for dataset in file.values():
            dataset.resize(rows + 7, axis=0)
            dataset[rows:] = np.arange(rows * 4, (rows + 7) * 4).reshape(7, 4) % 250
            dataset.flush()
        rows += 7
        if rows == 35:
            print("ready", flush=True)
"""


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Append to a file in another process until the end of the context."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        yield
        assert writer.poll() is None
        writer.communicate("stop\n")
    assert not writer.returncode


def values(rows: int) -> NDArray[Any]:
    return np.arange(rows * 4, dtype="i4").reshape(rows, 4) % 250


def check(block: NDArray[Any]) -> int:
    """Check that a block has the values that were written, and return its number of rows."""
    np.testing.assert_array_equal(block, values(len(block)))
    return len(block)


def wait_for_writes(_done: int, _total: int) -> None:
    """Wait while more is written."""
    time.sleep(0.1)


def test_arrays_have_the_shape_and_values_that_were_flushed_when_they_were_made(tmp_path: Path) -> None:
    with written(tmp_path / "a.h5"), h5py.File(tmp_path / "a.h5", "r", swmr=True) as file:
        for name in NAMES * 2:
            array, store = from_hdf5(file, name, chunks=(20, 4)), H5Store(file, chunks={})
            dataset = xr.open_dataset(file, engine="h5bound", chunks={}, phony_dims="access")
            time.sleep(0.03)
            assert check(array.compute()) <= check(store[name].compute()) <= check(dataset[name].values)
            assert len(from_hdf5(file, name, chunks={})) > len(array)


def test_threads_and_a_dataset_that_the_caller_holds_do_not_disturb_each_other(tmp_path: Path) -> None:
    with written(tmp_path / "a.h5"), h5py.File(tmp_path / "a.h5", "r", swmr=True) as file:
        held = file["plain"]  # HDF5 reads wrong chunks if another handle of it were refreshed
        with ThreadPoolExecutor(4) as threads:
            for name in NAMES * 2:
                reads = [threads.submit(from_hdf5(file, name, chunks=(20, 4)).compute) for _ in range(4)]
                assert all(check(read.result()) for read in reads)
                check(held[...])


def test_a_conversion_has_the_state_that_was_scanned_and_equals_it(tmp_path: Path) -> None:
    with written(tmp_path / "a.h5"):
        for number in range(3):
            target = tmp_path / f"{number}.zarr"
            with h5py.File(tmp_path / "a.h5", "r", swmr=True) as file:
                report = convert(file, target, verify=True)
                assert verify(file, target).equal
            assert report.verification is not None
            assert report.verification.equal
            with quiet_zarr():
                group: Any = zarr.open_group(target, mode="r")
                assert all(check(group[name][:]) for name in NAMES)


def test_an_array_is_opened_in_swmr_mode_again_where_the_caller_has_closed_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with written(path):
        with h5py.File(path, "r", swmr=True) as file:
            array = from_hdf5(file, "gzip", chunks={})
        check(array.compute())
        check(pickle.loads(pickle.dumps(array)).compute())
    check(array.compute())
    path.rename(tmp_path / "b.h5")
    path.write_bytes((tmp_path / "b.h5").read_bytes())
    with pytest.raises(SourceChangedError, match="another file of this name"):
        array.compute()


def test_an_array_is_read_after_its_own_process_has_appended_to_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as writer:
        dataset = writer.create_dataset("x", data=np.arange(40), chunks=(10,), maxshape=(None,))
        writer.swmr_mode = True
        with h5py.File(tmp_path / "a.h5", "r", swmr=True) as file:
            arrays = [from_hdf5(file, "x", chunks={}), from_hdf5(tmp_path / "a.h5", "x", chunks={})]
            dataset.resize((45,))
            dataset.flush()
            for array in arrays:
                np.testing.assert_array_equal(array.compute(), np.arange(40))


def test_files_that_a_file_in_swmr_mode_leads_to_are_read_in_swmr_mode(tmp_path: Path) -> None:
    with written(tmp_path / "a.h5"):
        with h5py.File(tmp_path / "main.h5", "w", libver="latest") as file:
            file["linked"] = h5py.ExternalLink("a.h5", "/gzip")
            layout = h5py.VirtualLayout((35, 4), "i4")
            layout[:] = h5py.VirtualSource("a.h5", "gzip", (35, 4), "i4", maxshape=(None, 4))[:35]
            file.create_virtual_dataset("virtual", layout)
        with pytest.raises(H5BoundError, match=r"a\.h5: the file is marked as open for writing.*swmr=True"):
            from_hdf5(tmp_path / "main.h5", "linked", allow_external=[tmp_path])
        with pytest.raises(UnsupportedError, match=r"a\.h5.*the file is marked as open for writing.*swmr=True"):
            from_hdf5(tmp_path / "main.h5", "virtual", allow_external=[tmp_path])
        (entry,) = list_file(tmp_path / "a.h5", "/gzip").entries
        assert entry.dataset is not None
        assert (entry.dataset.record.shape or (0,))[0] >= 35
        with h5py.File(tmp_path / "main.h5", "r", swmr=True) as file:
            array = from_hdf5(file, "linked", allow_external=[tmp_path])
            assert check(array.compute()) >= 35
            assert check(H5Store(file, allow_external=[tmp_path])["virtual"].compute()) == 35
            with pytest.raises(SourceChangedError, match=r"a\.h5: the file changed while it was read"):
                convert(file, tmp_path / "a.zarr", allow_external=[tmp_path], progress=wait_for_writes)
            convert(file, tmp_path / "b.zarr", exclude=["/virtual"], allow_external=[tmp_path])
        with quiet_zarr():
            converted: Any = zarr.open_group(tmp_path / "b.zarr", mode="r")["linked"]
        assert check(converted[:]) >= 35
        check(array.compute())
