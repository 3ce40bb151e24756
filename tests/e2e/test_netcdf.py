"""xarray sees the same in the store as in a netCDF-4 file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr

from h5bound import convert
from tests.support.netcdf_files import NETCDF_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:The data type:FutureWarning", "ignore::UserWarning")
FORMATS = pytest.mark.parametrize("zarr_format", [pytest.param(3, id="v3"), pytest.param(2, id="v2")])
FORMS: tuple[Literal[2], Literal[3]] = (2, 3)
WRITERS: tuple[Literal["h5netcdf"], Literal["netcdf4"]] = ("h5netcdf", "netcdf4")
SEPARATE = {"short", "structures", "plain"}  # files with tests of their own


def list_groups(path: Path) -> list[str]:
    groups = ["/"]
    with h5py.File(path) as file:
        file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
    return groups


def open_both(source: Path, target: Path, **options: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Return what xarray reads from a file and from its store."""
    with xr.open_dataset(source, engine="h5netcdf", **options) as wanted:
        wanted.load()
    with xr.open_zarr(target, chunks=None, **options) as found:
        found.load()
    return wanted, found


@FORMATS
@pytest.mark.parametrize("name", sorted(NETCDF_FILES.keys() - SEPARATE))
def test_xarray_sees_the_store_as_it_sees_the_file(name: str, zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    NETCDF_FILES[name](source)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    for group in list_groups(source):
        for options in ({}, {"decode_cf": False}, {"mask_and_scale": False}):
            wanted, found = open_both(source, target, group=group, **options)
            if not options and "missing" in wanted:  # its scale_factor is a float32, which JSON does not have
                np.testing.assert_allclose(found["missing"], wanted["missing"], rtol=1e-7)
                wanted, found = wanted.drop_vars("missing"), found.drop_vars("missing")
            xr.testing.assert_identical(found, wanted)
            kinds = {key: item.dtype for key, item in wanted.variables.items() if item.dtype.kind != "U"}
            assert {key: found[key].dtype for key in kinds} == kinds


@FORMATS
@pytest.mark.parametrize("name", ["scales_below", "groups", "everything"])
def test_xarray_sees_the_groups_of_the_file(name: str, zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    NETCDF_FILES[name](source)
    convert(source, target, zarr_format=zarr_format)
    with xr.open_datatree(source, engine="h5netcdf") as wanted, xr.open_datatree(target, engine="zarr") as found:
        check_groups(wanted.to_dict(), found.to_dict())
    groups = xr.open_groups(source, engine="h5netcdf")
    check_groups(groups, xr.open_groups(target, engine="zarr"))
    for dataset in groups.values():
        dataset.close()


def check_groups(wanted: Mapping[str, xr.Dataset], found: Mapping[str, xr.Dataset]) -> None:
    """Check that the groups of a store are those of the file."""
    assert found.keys() == wanted.keys()
    for path, dataset in wanted.items():
        xr.testing.assert_identical(found[path], dataset)


@FORMATS
@pytest.mark.parametrize("name", ["conventions", "everything", "text", "coordinates"])
def test_what_xarray_opens_can_be_written_again(name: str, zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    NETCDF_FILES[name](source)
    convert(source, target, zarr_format=zarr_format)
    with xr.open_zarr(target, chunks=None) as store:
        opened = store.drop_vars("unsigned", errors="ignore")  # xarray itself writes it as signed
        for engine in WRITERS:
            opened.to_netcdf(tmp_path / engine, engine=engine)
            with xr.open_dataset(tmp_path / engine, engine="h5netcdf") as again:
                xr.testing.assert_identical(again, opened)
        opened.drop_encoding().to_zarr(tmp_path / "again", zarr_format=zarr_format)  # xarray fails on its own filters
        xr.testing.assert_identical(xr.open_zarr(tmp_path / "again"), opened)
    with xr.open_datatree(target, engine="zarr") as tree:
        tree.to_netcdf(tmp_path / "tree")


@FORMATS
def test_what_xarray_decodes_is_no_list_of_one_in_plain_hdf5(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        for name in ("t", "x"):
            file[name] = np.arange(3)
            file[name].attrs.update({"units": np.array(["days since 2000-01-01"], object), "column-order": ["a"]})
        file["x"].attrs.update({"coordinates": np.array(["t"], object), "scale_factor": np.array([2.0])})
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    wanted, found = open_both(source, target)
    xr.testing.assert_equal(found, wanted)
    assert found["t"].attrs == {"column-order": ["a"]}


def test_xarray_opens_a_store_with_a_variable_that_does_not_fill_its_dimension(tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    NETCDF_FILES["short"](source)
    report = convert(source, target, verify=True)
    assert {note.path for note in report.notes} >= {"/short", "/whole", "/nothing"}
    wanted, found = open_both(source, target)
    assert found["long"].dims == ("time", "x")
    for name, dims in (("short", ("time_2", "x")), ("whole", ("time_2", "x")), ("nothing", ("time_0", "x"))):
        assert found[name].dims == dims
        filled = found[name].shape[0]
        np.testing.assert_array_equal(found[name], wanted[name][:filled])


def test_what_xarray_will_mask_in_format_2_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h5bound.planning.scan_fill.MAX_HOLES_NBYTES", 0)
    source = tmp_path / "a.nc"
    NETCDF_FILES["unwritten"](source)
    found = {
        zarr_format: convert(source, tmp_path / str(zarr_format), zarr_format=zarr_format).notes
        for zarr_format in FORMS
    }
    assert [note.path for note in found[2] if "xarray masks" in note.note] == [
        "/letters",
        "/nothing",
        "/words",
    ]
    assert [note for note in found[3] if "xarray masks" in note.note] == []


@FORMATS
def test_structures_with_arrays_are_groups_of_their_members(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.nc", tmp_path / "a.zarr"
    NETCDF_FILES["structures"](source)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert [note.path for note in report.notes if note.kind == "columns"] == ["/v"]
    with xr.open_dataset(source, engine="h5netcdf") as wanted, xr.open_zarr(target, group="v", chunks=None) as found:
        assert found["x"].values.tolist() == wanted["v"].values["x"].tolist()
        assert found["name"].values.tolist() == wanted["v"].values["name"].tolist()


def test_what_has_no_scales_gets_the_dimensions_of_h5netcdf(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    NETCDF_FILES["plain"](source)
    convert(source, target, links="copy", verify=True)
    for group in list_groups(source):
        wanted, found = open_both(source, target, group=group)
        xr.testing.assert_identical(found, wanted)


@FORMATS
def test_xarray_sees_nothing_of_ours_in_plain_hdf5(zarr_format: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file.create_dataset("color", data=[1, 2], dtype=h5py.enum_dtype({"RED": 1, "BLUE": 2}, "i4"))
        file["flag"] = [True, False]
        file["flag"].attrs.update({"on": True, "both": [True, False], "units": ["m"], "text": "é"})
        file.attrs["version"] = [1]

    report = convert(source, target, zarr_format=zarr_format, verify=True)

    with xr.open_dataset(source, engine="h5netcdf", phony_dims="access") as wanted:
        seen = xr.open_zarr(target, chunks=None)
        xr.testing.assert_identical(seen.assign_attrs(version=1), wanted)
    assert report.forms["enumeration"] == 1
    assert [note.path for note in report.notes if "h5netcdf shows the value alone" in note.note] == ["/"]
