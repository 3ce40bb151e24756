"""Variables of different files that have the same data, or objects that write to it, in one compute."""

from __future__ import annotations

import io
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import dask.array as da
import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from dask import delayed
from h5py import h5d, h5p, h5s, h5t

from h5bound import SourceChangedError, UnsupportedError, from_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

VALUES = np.arange(80.0).reshape(8, 10)

REFUSED = r"it (would|might) be overwritten while values are computed from it"


def make_source(path: Path) -> Path:
    """Write `a` in four chunks."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=VALUES, chunks=(2, 10))
    return path


def make_virtual(path: Path, source: str | Path, name: str = "a") -> Path:
    """Write `a` as a virtual dataset over a dataset of another file."""
    layout = h5py.VirtualLayout(VALUES.shape, "f8")
    layout[...] = h5py.VirtualSource(str(source), name, VALUES.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("a", layout)
    return path


def make_pattern(path: Path) -> Path:
    """Write `a` as a virtual dataset over `a` of any number of files, of which the second is source.h5."""
    with h5py.File(path.with_name("part-0.h5"), "w") as file:
        file["a"] = np.zeros(VALUES.shape)
    path.with_name("part-1.h5").symlink_to("source.h5")
    space, source = h5s.create_simple((16, 10), (h5s.UNLIMITED, 10)), h5s.create_simple(VALUES.shape)
    space.select_hyperslab((0, 0), (h5s.UNLIMITED, 1), stride=VALUES.shape, block=VALUES.shape)
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_virtual(space, b"part-%b.h5", b"a", source)
    with h5py.File(path, "w", libver="latest") as file:
        h5d.create(file.id, b"a", h5t.IEEE_F64LE, space, layout)
    return path


def make_external(path: Path, raw: str | Path, offset: int = 0, name: str = "a") -> Path:
    """Write `a` with external storage."""
    with h5py.File(path, "a") as file:
        file.create_dataset(name, VALUES.shape, "f8", external=[(str(raw), offset, VALUES.nbytes)])
    return path


def write_raw(path: Path) -> Path:
    """Write the bytes of the values, twice."""
    path.write_bytes(VALUES.tobytes() * 2)
    return path


def link(path: Path) -> Path:
    """Return another name of a file."""
    other = path.with_name(f"linked_{path.name}")
    os.link(path, other)
    return other


# what is read, and what is written
SAME: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "virtual": lambda d: (make_virtual(d / "v.h5", "source.h5"), make_source(d / "source.h5")),
    "virtual_by_link": lambda d: (make_virtual(d / "v.h5", link(s := make_source(d / "source.h5"))), s),
    "virtual_chain": lambda d: (
        make_virtual(d / "w.h5", make_virtual(d / "v.h5", "source.h5")),
        make_source(d / "source.h5"),
    ),
    "pattern": lambda d: (make_pattern(d / "v.h5"), make_source(d / "source.h5")),
    "source_of_virtual": lambda d: (s := make_source(d / "source.h5"), make_virtual(d / "v.h5", s)),
    "both_virtual": lambda d: (make_virtual(d / "v.h5", s := make_source(d / "s.h5")), make_virtual(d / "w.h5", s)),
    "external": lambda d: (make_external(d / "x.h5", r := write_raw(d / "raw")), make_external(d / "y.h5", r)),
    "external_by_link": lambda d: (
        make_external(d / "x.h5", r := write_raw(d / "raw")),
        make_external(d / "y.h5", link(r)),
    ),
    "external_of_virtual": lambda d: (
        make_virtual(d / "v.h5", make_external(d / "x.h5", r := write_raw(d / "raw"))),
        make_external(d / "y.h5", r),
    ),
}


def reverse(array: Any) -> Any:
    """Return values that are written in another order than they are read."""
    return array[::-1]


def normalize(array: Any) -> Any:
    """Return values each of which is computed from all."""
    return array - array.mean()


def read(path: Path, name: str = "a") -> NDArray[Any]:
    """Return the values that h5py reads."""
    with h5py.File(path) as file:
        values: NDArray[Any] = file[name][...]
    return values


def read_array(path: Path, directory: Path) -> da.Array:
    """Return the last eight rows of `a`, in blocks that are written as soon as they are read."""
    return from_hdf5(path, "a", chunks=(2, 10), barrier=False, allow_external=[directory])[-8:]


@pytest.mark.parametrize("compute", [reverse, normalize])
@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_the_same_data_in_another_file_is_not_read_after_it_was_overwritten(
    tmp_path: Path, make: Callable[[Path], tuple[Path, Path]], compute: Callable[[Any], Any]
) -> None:
    path, written = make(tmp_path)
    array = read_array(path, tmp_path)
    refused = pytest.raises(SourceChangedError, match=REFUSED) if compute is reverse else nullcontext()
    with h5py.File(path, "a"), h5py.File(tmp_path / "source.h5", "a"), h5py.File(written, "a") as file, refused:
        da.store(compute(array), file["a"])
    np.testing.assert_allclose(read(written), VALUES if compute is reverse else compute(VALUES))


def test_the_same_data_by_directories_in_the_environment_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "below" / "s.h5")
    monkeypatch.setenv("HDF5_VDS_PREFIX", str(source.parent))
    array = read_array(make_virtual(tmp_path / "v.h5", "s.h5"), tmp_path)
    with h5py.File(source, "a") as file, pytest.raises(SourceChangedError, match=REFUSED):
        da.store(array[::-1], file["a"])
    np.testing.assert_array_equal(read(source), VALUES)


def test_the_same_external_file_by_a_directory_of_the_dataset_is_known(tmp_path: Path) -> None:
    array = read_array(make_external(tmp_path / "x.h5", write_raw(tmp_path / "raw")), tmp_path)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        segments = [("raw", 0, VALUES.nbytes)]
        written = file.create_dataset("a", VALUES.shape, "f8", external=segments, efile_prefix=str(tmp_path))
        with pytest.raises(SourceChangedError, match=REFUSED):
            da.store(array[::-1], written)
        np.testing.assert_array_equal(written[...], VALUES)


def test_other_bytes_of_an_external_file_are_other_data(tmp_path: Path) -> None:
    path = make_external(tmp_path / "x.h5", raw := write_raw(tmp_path / "raw"))
    make_external(path, raw, VALUES.nbytes, "b")
    with h5py.File(path, "a") as file:
        da.store(read_array(path, tmp_path)[::-1], file["b"])
    np.testing.assert_array_equal(read(path, "b"), VALUES[::-1])
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_does_not_overwrite_the_source_of_what_it_computes(tmp_path: Path, engine: Any) -> None:
    source = tmp_path / "s.nc"
    xr.Dataset({"a": (("t", "x"), VALUES)}).to_netcdf(source, engine="h5netcdf")
    virtual = make_virtual(tmp_path / "v.h5", source)
    options: dict[str, Any] = {"phony_dims": "sort", "allow_external": [tmp_path]}
    array = xr.open_dataset(virtual, engine="h5bound", chunks=2, **options).a.data[::-1]
    with pytest.raises((SourceChangedError, UnsupportedError), match=f"{REFUSED}|virtual source .* cannot be opened"):
        xr.Dataset({"a": (("t", "x"), array)}).to_netcdf(source, mode="a", engine=engine)
    np.testing.assert_array_equal(read(source), VALUES)


def test_netcdf4_overwrites_no_source_that_is_read_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    source = tmp_path / "s.nc"
    xr.Dataset({"a": (("t", "x"), VALUES)}).to_netcdf(source, engine="h5netcdf")
    array = read_array(make_virtual(tmp_path / "v.h5", source), tmp_path)
    with netCDF4.Dataset(source, "a") as file, pytest.raises(SourceChangedError, match=REFUSED):
        da.store(array[::-1], file["a"])
    np.testing.assert_array_equal(read(source), VALUES)


class Wrapper:
    """Writes to another object."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __setitem__(self, key: Any, values: Any) -> None:
        self.inner[key] = values


class Slotted:
    """Writes to a variable of a file by its name."""

    __slots__ = ("__file", "__weakref__", "name")

    def __init__(self, variable: Any) -> None:
        self.__file = variable.file
        self.name = variable.name

    def __setitem__(self, key: Any, values: Any) -> None:
        self.__file[self.name][key] = values


class Hidden:
    """Writes to what is not in its attributes."""

    def __init__(self, inner: Any) -> None:
        self.write = inner.__setitem__

    def __setitem__(self, key: Any, values: Any) -> None:
        self.write(key, values)


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "attribute": Wrapper,
    "nested": lambda inner: Wrapper(Wrapper(inner)),
    "slot": Slotted,
    "hidden": Hidden,
}


@pytest.mark.parametrize("compute", [reverse, normalize])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_objects_that_write_to_what_is_read_are_seen(
    tmp_path: Path, wrap: Callable[[Any], Any], compute: Callable[[Any], Any]
) -> None:
    path = make_source(tmp_path / "s.h5")
    array = read_array(path, tmp_path)
    refused = pytest.raises(SourceChangedError, match=REFUSED) if compute is reverse else nullcontext()
    with h5py.File(path, "a") as file, refused:
        da.store(compute(array), wrap(file["a"]))
    np.testing.assert_allclose(read(path), VALUES if compute is reverse else compute(VALUES))


def test_an_object_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    path = make_source(tmp_path / "s.h5")
    with h5py.File(path, "a") as file, pytest.raises(SourceChangedError, match=r"in a .*\.Hidden, which may write to"):
        da.store(read_array(path, tmp_path)[::-1], Hidden(file["a"]))


def test_objects_that_write_elsewhere_are_not_refused(tmp_path: Path) -> None:
    path = make_source(tmp_path / "s.h5")
    array = read_array(path, tmp_path)[::-1]
    found = np.zeros(VALUES.shape)
    mapped = np.memmap(tmp_path / "mapped", "f8", "w+", shape=VALUES.shape)
    da.store(array, Hidden(found))  # no file is open for writing
    assert (found == VALUES[::-1]).all()
    other = h5py.File(tmp_path / "other.h5", "w").create_dataset("c", VALUES.shape, "f8")
    with other.file, h5py.File(path, "a") as file:
        group = zarr.open_group(tmp_path / "z.zarr", mode="w")
        targets = [
            np.zeros(VALUES.shape),  # dask stores once in targets that are equal
            np.ones((1, *VALUES.shape))[0],
            mapped,
            np.asarray(mapped)[:],
            Wrapper(other),
            group.create_array("a", shape=VALUES.shape, dtype="f8"),
            Wrapper(group.create_array("b", shape=VALUES.shape, dtype="f8")),
            file.create_dataset("c", VALUES.shape, "f8"),
            Wrapper(file.create_dataset("d", VALUES.shape, "f8")),
        ]
        da.store([array] * len(targets), targets)
        array.to_zarr(tmp_path / "y.zarr")
        for target in targets:
            np.testing.assert_array_equal(getattr(target, "inner", target)[:], VALUES[::-1])
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("view", [lambda mapped: mapped, lambda mapped: np.asarray(mapped)[:], Wrapper])
def test_memory_maps_over_external_storage_are_seen(tmp_path: Path, view: Callable[[Any], Any]) -> None:
    array = read_array(make_external(tmp_path / "x.h5", raw := write_raw(tmp_path / "raw")), tmp_path)
    mapped = np.memmap(raw, "f8", "r+", shape=VALUES.shape)
    with pytest.raises(SourceChangedError, match=REFUSED):
        da.store(array[::-1], view(mapped))
    np.testing.assert_array_equal(mapped, VALUES)


def open_stdio(path: Path) -> h5py.File:
    """Return a file on disk that is open with another driver than h5py's default."""
    h5py.File(path, "w").close()
    return h5py.File(path, "r+", driver="stdio")


DRIVERS: dict[str, Callable[[Path], h5py.File]] = {
    "core": lambda path: h5py.File(path.name, "w", driver="core", backing_store=False),
    "core_and_disk": lambda path: h5py.File(path, "w", driver="core"),
    "file_object": lambda _: h5py.File(io.BytesIO(), "w"),
    "family": lambda path: h5py.File(path.with_name("a%d.h5"), "w", driver="family", memb_size=1000),
    "stdio": open_stdio,
}


@pytest.mark.parametrize("compute", [reverse, normalize])
@pytest.mark.parametrize("opened", DRIVERS.values(), ids=DRIVERS)
def test_a_file_of_any_driver_is_not_read_after_it_was_overwritten(
    tmp_path: Path, opened: Callable[[Path], h5py.File], compute: Callable[[Any], Any]
) -> None:
    refused = pytest.raises(SourceChangedError, match=REFUSED) if compute is reverse else nullcontext()
    with opened(tmp_path / "a.h5") as file:
        file["a"] = VALUES
        with refused:
            da.store(compute(from_hdf5(file, "a", chunks=(2, 10), barrier=False)), file["a"])
        np.testing.assert_allclose(file["a"], VALUES if compute is reverse else compute(VALUES))


def test_what_a_task_returns_may_write_to_a_file_that_is_open_for_writing(tmp_path: Path) -> None:
    path = make_source(tmp_path / "s.h5")
    array = read_array(path, tmp_path)
    with h5py.File(path, "a") as file, pytest.raises(SourceChangedError, match="stored in what a task returns, which"):
        da.store(array[::-1], delayed(lambda: file["a"])())
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4", "scipy"])
def test_xarray_writes_another_file_while_the_one_that_is_read_is_open_for_writing(tmp_path: Path, engine: Any) -> None:
    path = make_source(tmp_path / "s.h5")
    dataset = xr.open_dataset(path, engine="h5bound", chunks={}, phony_dims="sort")
    with h5py.File(path, "a"):
        dataset.copy(data={"a": dataset.a.data[::-1]}).to_netcdf(tmp_path / "other.nc", engine=engine)
    with xr.open_dataset(tmp_path / "other.nc", engine=engine) as found:
        np.testing.assert_array_equal(found.a, VALUES[::-1])
