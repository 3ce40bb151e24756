"""Virtual datasets read as h5py reads them: with empty parts, unlimited, numbered, and with sources in their file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from h5py import h5d, h5p, h5s, h5t

from h5bound import UnsupportedError, convert, from_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = np.arange(4.0)


def map_parts(file: h5py.File, *parts: tuple[slice, str, str, int], length: int = 6) -> None:
    """Write the virtual dataset ``v``: a part for each slice, source file, dataset and length of the source."""
    layout = h5py.VirtualLayout((length,), "f8")
    for where, name, path, size in parts:
        layout[where] = h5py.VirtualSource(name, path, shape=(size,))
    file.create_virtual_dataset("v", layout, fillvalue=-1)


def write_empty_part(file: h5py.File) -> None:
    file["d"] = ROW
    file.create_dataset("e", (0,), "f8", maxshape=(None,), chunks=(2,))
    map_parts(file, (slice(0, 0), ".", "e", 0), (slice(0, 4), ".", "d", 4), (slice(6, 6), "nowhere.h5", "e", 0))


def write_nothing(file: h5py.File) -> None:
    map_parts(file, (slice(0, 0), "nowhere.h5", "e", 0))


def write_no_elements(file: h5py.File) -> None:
    file.create_dataset("e", (0,), "f8")
    map_parts(file, (slice(0, 0), ".", "e", 0), length=0)


def write_no_selection(file: h5py.File) -> None:
    file["d"] = np.arange(10.0)
    plist = h5p.create(h5p.DATASET_CREATE)
    for select, start in (("select_none", ()), ("select_hyperslab", ((2,), (6,)))):
        target, source = h5s.create_simple((6,)), h5s.create_simple((10,))
        getattr(target, select)(*(((0,), (6,)) if start else ()))
        getattr(source, select)(*start)
        plist.set_virtual(target, b".", b"d", source)
    h5d.create(file.id, b"v", h5t.NATIVE_DOUBLE, h5s.create_simple((6,)), plist)


def write_own_name(file: h5py.File) -> None:
    file["d"] = ROW
    map_parts(file, (slice(0, 4), "a.h5", "d", 4), (slice(4, 8), file.filename, "d", 4), length=8)


def write_unlimited(file: h5py.File, rows: int = 4) -> None:
    file.create_dataset("d", data=np.arange(rows * 5).reshape(rows, 5), maxshape=(None, 5), chunks=(2, 5))
    layout = h5py.VirtualLayout((rows // 2, 5), "i8", maxshape=(None, 5))
    source = h5py.VirtualSource(".", "d", shape=(rows, 5), maxshape=(None, 5))
    layout[0 : h5s.UNLIMITED, :] = source[0 : h5s.UNLIMITED, :]
    file.create_virtual_dataset("v", layout)


def write_unlimited_and_empty(file: h5py.File) -> None:
    write_unlimited(file, rows=0)


def write_numbered(file: h5py.File, name: str = ".", count: int = 2) -> None:
    """Write a dataset of rows, each of which is a dataset with a number in its name."""
    for number in range(count):
        file[f"d{number}"] = np.arange(5) + 10 * number
    plist, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple((0, 5), (h5s.UNLIMITED, 5))
    space.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), (1, 5), (1, 5))
    plist.set_virtual(space, name.encode(), b"d%b", h5s.create_simple((5,)))
    h5d.create(file.id, b"v", h5t.NATIVE_INT64, space, plist)


def write_numbered_in_own_name(file: h5py.File) -> None:
    write_numbered(file, name="a.h5")


def write_numbered_without_sources(file: h5py.File) -> None:
    write_numbered(file, count=0)


WRITERS: list[Callable[[h5py.File], None]] = [
    write_empty_part, write_nothing, write_no_elements, write_no_selection, write_own_name, write_unlimited,
    write_unlimited_and_empty, write_numbered, write_numbered_in_own_name, write_numbered_without_sources,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_virtual_datasets_read_as_h5py_reads_them(write: Callable[[h5py.File], None], tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    with h5py.File(source, "w", libver="latest") as file:
        write(file)
    with h5py.File(source) as file:
        wanted = file["v"][()]
    check(from_hdf5(source, "v").compute(), wanted)
    with xr.open_dataset(source, engine="h5bound") as dataset:
        check(dataset["v"].values, wanted)
    forms: tuple[Literal[2], Literal[3]] = (2, 3)
    for zarr_format in forms:
        target = tmp_path / f"{zarr_format}.zarr"
        report = convert(source, target, zarr_format=zarr_format, verify=True)
        assert report.exit_code == 0
        store: Any = zarr.open_group(target, mode="r")
        check(store["v"][...], wanted)


def check(found: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(found, wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)


def test_a_numbered_source_whose_own_source_is_missing_is_refused(tmp_path: Path) -> None:
    """HDF5 would read fill values for it, and go on."""
    source = tmp_path / "a.h5"
    with h5py.File(source, "w", libver="latest") as file:
        write_numbered(file, count=1)
        layout = h5py.VirtualLayout((5,), "i8")
        layout[:] = h5py.VirtualSource(".", "none", shape=(5,))
        file.create_virtual_dataset("d1", layout)
    with h5py.File(source) as file:
        assert file["v"].shape == (2, 5)
    with pytest.raises(UnsupportedError, match="'none'"):
        from_hdf5(source, "v")
