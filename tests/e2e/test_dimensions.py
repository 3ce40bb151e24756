"""The dimensions of a store have the names that netCDF's readers give them, and xarray opens every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import h5netcdf
import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from h5py import h5d, h5s, h5t

from h5bound import convert
from tests.support.dimension_files import DIMENSION_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate dimension names:UserWarning")
FORMATS = pytest.mark.parametrize("zarr_format", [pytest.param(3, id="v3"), pytest.param(2, id="v2")])


def list_netcdf(group: Any, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield path and dimensions of each variable of an open file of netCDF4 or h5netcdf."""
    for name, variable in group.variables.items():
        yield f"{path}/{name}", tuple(variable.dimensions)
    for name, child in group.groups.items():
        yield from list_netcdf(child, f"{path}/{name}")


def list_store(target: Path) -> dict[str, tuple[Any, ...]]:
    """Return the dimensions that xarray sees in a store, by the path of the array."""
    groups = xr.open_groups(target, engine="zarr")
    found = {
        f"{path.rstrip('/')}/{name}": variable.dims
        for path, dataset in groups.items()
        for name, variable in dataset.variables.items()
    }
    for dataset in groups.values():
        dataset.close()
    return found


@FORMATS
@pytest.mark.parametrize("name", sorted(DIMENSION_FILES))
def test_dimensions_have_the_names_that_netcdf_readers_give_them(
    name: str, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    DIMENSION_FILES[name](source)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    found = list_store(target)
    with h5netcdf.File(source, "r", phony_dims="access") as file:
        assert found == dict(list_netcdf(file))
    with h5py.File(source) as file:
        is_netcdf = "_NCProperties" in file.attrs
    if is_netcdf:
        with netCDF4.Dataset(source) as other:
            assert found == dict(list_netcdf(other))


def write_all_kinds(path: Path) -> None:
    """Write a dataset of each kind, beside each other and in a group, in different lengths."""
    with h5py.File(path, "w") as file:
        for group, n in ((file, 2), (file.create_group("g"), 3), (file.create_group("g/inner"), 5)):
            group["sequences"] = np.array([np.arange(i + 1) for i in range(n)], h5py.vlen_dtype("i4"))
            group.create_dataset("no_sequences", (n + 4,), h5py.vlen_dtype("i4"))
            group.create_dataset("arrays", (n,), "(3,3)i4")[:] = np.ones((n, 3, 3))
            group.create_dataset("other_arrays", (n,), f"({n + 7},)f4")[:] = np.ones((n, n + 7))
            group["null"] = h5py.Empty("f4")
            group["null_array"] = h5py.Empty(np.dtype("(2,)f4"))
            group["scalar"] = 1.5
            group["text"] = "é"
            group["texts"] = np.array(["a", "b"], object)
            group["fixed"] = np.array([b"ab"] * n)
            group.create_dataset("empty", (0, n), "f4")
            group["flags"] = np.ones((n, n), bool)
            group["pairs"] = np.zeros(n, [("a", "i4"), ("b", "f8")])
            group.create_dataset("references", data=[file.ref] * n, dtype=h5py.ref_dtype)
            group["opaque"] = np.zeros(n, "V5")
            group.create_dataset("columns", (n,), [("a", "i4", (3, n)), ("b", h5py.vlen_dtype("i4")), ("c", "f8")])
            nested = h5t.vlen_create(h5t.vlen_create(h5t.NATIVE_INT32))
            h5d.create(group.id, b"nested", nested, h5s.create_simple((n,)))
            group["wide"] = np.zeros((n, n), np.longdouble)
            group["complex"] = np.zeros(n, "c16")
            group.create_dataset("enum", (n + 1,), h5py.enum_dtype({"A": 1, "B": 2}))[:] = 1
            group.create_dataset("regions", (n,), h5py.regionref_dtype)
            group.create_dataset("half_named", (n, 3, n + 1), "f4").dims[1].attach_scale(_make_scale(file, "x", 3))


def _make_scale(file: h5py.File, name: str, length: int) -> h5py.Dataset:
    if name not in file:
        file[name] = np.arange(length)
        file[name].make_scale(name)
    return file[name]


@FORMATS
def test_xarray_opens_every_kind_of_dataset(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_all_kinds(source)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    found = list_store(target)
    assert all(isinstance(name, str) for names in found.values() for name in names)
    with xr.open_datatree(target, engine="zarr") as tree:
        tree.load()
        assert len(found) == sum(len(node.to_dataset(inherit=False).variables) for node in tree.subtree)
        assert tree["g/sequences/values"].dims == ("length_6",)
        assert tree["g/sequences/offsets"].dims == ("length_4",)
        assert tree["g/arrays"].dims[1:] == ("length_3", "length_3_2")
        assert tree["g/half_named"].dims == ("length_3", "x", "length_4")
        assert tree["g/null"].dims == ("length_0",)


@FORMATS
def test_only_the_axis_that_is_shorter_than_its_dimension_is_renamed(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    with netCDF4.Dataset(source, "w") as file:
        file.createDimension("t", None)
        file.createVariable("t", "f8", ("t",))[:] = np.arange(4)
        file.createVariable("m", "f8", ("t", "t"))[:3, :4] = 1
        group = file.createGroup("g")
        group.createVariable("short", "f8", ("t",))[:2] = 1
        group.createVariable("long", "f8", ("t",))[:5] = 1
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert {note.path for note in report.notes if "renamed" in note.note} == {"/t", "/m", "/g/short"}
    assert list_store(target) == {"/t": ("t_4",), "/m": ("t_3", "t_4"), "/g/short": ("t_2",), "/g/long": ("t",)}
    xr.open_datatree(target, engine="zarr").close()


@FORMATS
def test_labels_are_names_where_no_scale_is_one(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["image"] = np.zeros((4, 5, 6))
        for axis, label in enumerate(("y", "x")):
            file["image"].dims[axis].label = label
        file["profile"] = np.zeros(3)
        file["profile"].dims[0].label = "y"
        file["scaled"] = np.zeros((3, 2))
        file["scaled"].dims[0].label = "not this"
        file["scaled"].dims[0].attach_scale(_make_scale(file, "s", 3))
        file["plain"] = np.zeros(4)
        file["energies"] = np.zeros(2)
        file["energies"].dims[0].label = "energy"
        file["energy"] = 5.0
        for path, length in (("g/profile", 4), ("g/other", 5), ("s_below/s", 7)):
            file[path] = np.zeros(length)
            file[path].dims[0].label = "s" if path == "s_below/s" else "y"
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert {note.path for note in report.notes if "label" in note.note} >= {"/image", "/profile", "/g/other"}
    assert list_store(target) == {
        "/image": ("y", "x", "length_6"),
        "/profile": ("y_3",),
        "/scaled": ("s", "length_2"),
        "/s": ("s",),
        "/plain": ("phony_dim_1",),
        "/energies": ("energy_2",),
        "/energy": (),
        "/g/profile": ("y",),
        "/g/other": ("y_5",),
        "/s_below/s": ("s_7",),
    }
    xr.open_datatree(target, engine="zarr").close()
