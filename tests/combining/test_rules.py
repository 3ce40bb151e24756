"""The rules by which files are joined, each on the smallest files that need it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import combine
from h5bound.buffers import same_bits
from h5bound.combining.conversions import apply
from h5bound.combining.differences import ALL, FileNames, Findings, list_lines
from h5bound.combining.joined import Joined, Rules
from h5bound.combining.rules import join_files
from h5bound.errors import OptionError, UnsupportedError
from tests.combining.test_file_scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from h5bound.combining.file_scan import FileScan

    Arrays = dict[str, Any]


class Folder:
    """A folder of small netCDF files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scans: list[FileScan] = []

    def add(
        self,
        time: Any,
        *,
        encoding: dict[str, Any] | None = None,
        attrs: dict[str, Any] | None = None,
        **variables: Any,
    ) -> Folder:
        """Write one more file, and scan it: a variable is values along time, or whatever xarray takes."""
        arrays = {name: value if isinstance(value, tuple) else ("time", value) for name, value in variables.items()}
        arrays = arrays or {"v": ("time", np.arange(len(time), dtype="f4"))}
        data = xr.Dataset(arrays, coords={"time": time}, attrs=attrs)
        path = self.path / f"{len(self.scans)}.nc"
        none: dict[Any, Any] = {name: {"_FillValue": None} for name in data.variables if name not in (encoding or {})}
        data.to_netcdf(path, engine="h5netcdf", encoding={**none, **(encoding or {})})
        self.scans.append(scan(path, dim="time"))
        return self

    def join(self, **rules: Any) -> Joined:
        """Join all files."""
        return join_files(self.scans, Rules(**{"dim": "time", **rules}))

    def refuse(self, match: str, kind: type[Exception] = OptionError, **rules: Any) -> Exception:
        """Check that the files are refused."""
        with pytest.raises(kind, match=f"(?s){match}") as caught:
            self.join(**rules)
        return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def read(folder: Folder, joined: Joined, path: str = "/v") -> np.ndarray[Any, Any]:
    """Return the values of a joined variable, put together from the files as the records say."""
    variable = joined.variables[path]
    assert variable.axis is not None
    parts = []
    for place, number in enumerate(joined.order.tolist()):
        with h5py.File(folder.scans[number].path) as file:
            block = file[path][()]
        conversion = variable.conversions[place]
        block = block if conversion is None else apply(conversion, block)
        start = int(variable.skips[place])
        count = int(variable.starts[place + 1] - variable.starts[place])
        parts.append(np.take(block, np.arange(start, start + count), variable.axis))
    return np.concatenate(parts, variable.axis)


def test_equal_files_are_joined_one_after_another(folder: Folder) -> None:
    folder.add([0, 1, 2], v=np.ones((3,), "f4"), lat=("lat", [1.0, 2.0])).add(
        [3, 4], v=np.ones((2,), "f4"), lat=("lat", [1.0, 2.0])
    )
    joined = folder.join()
    variable = joined.variables["/v"]
    assert (variable.axis, variable.shape, variable.starts.tolist()) == (0, (5,), [0, 3, 5])
    assert variable.copied.all()
    assert variable.unwritten.all()
    assert not variable.missing.any()
    assert joined.variables["/lat"].axis is None
    assert joined.differences == ()
    assert joined.to_compare == {}


def test_a_dimension_that_no_file_has_is_refused(folder: Folder) -> None:
    folder.add([0]).refuse("no variable has this dimension; they have time; new_dim='run' makes it", dim="run")
    folder.refuse("the files have this dimension", dim="time", new=True)
    with pytest.raises(OptionError, match="no files"):
        join_files([], Rules(dim="time"))


def test_files_are_sorted_by_the_coordinate_only_if_asked(folder: Folder) -> None:
    folder.add([5, 6]).add([1, 2]).add([3])
    assert folder.join(sort=True).order.tolist() == [1, 2, 0]
    assert folder.join(sort=False).order.tolist() == [0, 1, 2]
    folder.refuse("not in the order of the coordinate.*sort=True")


def test_falling_coordinates_are_in_order_too(folder: Folder) -> None:
    folder.add([6, 5]).add([4]).add([3, 2])
    assert folder.join().order.tolist() == [0, 1, 2]
    assert folder.join(sort=True).order.tolist() == [0, 1, 2]
    assert read(folder, folder.join(), "/time").tolist() == [6, 5, 4, 3, 2]


def test_overlaps_are_cut_as_asked(folder: Folder) -> None:
    folder.add([0, 1, 2], v=np.full(3, 1.0)).add([1, 2, 3], v=np.full(3, 2.0)).add([3, 4], v=np.full(2, 3.0))
    folder.refuse("files overlap: 3 values of the coordinate in several of them.*overlap='first' or overlap='last'")
    first, last = folder.join(overlap="first"), folder.join(overlap="last")
    assert read(folder, first, "/time").tolist() == read(folder, last, "/time").tolist() == [0, 1, 2, 3, 4]
    assert read(folder, first).tolist() == [1, 1, 1, 2, 3]
    assert read(folder, last).tolist() == [1, 2, 2, 3, 3]
    assert [row.kind for row in first.differences] == ["decided"]


def test_no_value_of_a_coordinate_is_cut_that_no_other_file_has(folder: Folder) -> None:
    folder.add([0, 2, 4]).add([1, 3, 5])
    for overlap, what in {"refuse": "their ranges, in no value", "first": "would leave", "last": "would leave"}.items():
        folder.refuse(f"{what}.*what to do: leave files out", UnsupportedError, overlap=overlap)


def test_the_advice_on_an_overlap_is_one_that_is_taken(folder: Folder) -> None:
    folder.add([3, 4, 5]).add([1, 2, 3])
    folder.refuse("what to do: sort=True with overlap='first' or overlap='last' takes")
    assert read(folder, folder.join(sort="/time", overlap="first"), "/time").tolist() == [1, 2, 3, 4, 5]
    folder.add([1, 2, 3, 4, 5, 6])
    folder.refuse("would leave out.*what to do: overlap='last' takes", overlap="first")


def test_two_files_of_one_time_are_refused(folder: Folder) -> None:
    folder.add([1]).add([1]).refuse("files overlap: 1 value")
    assert folder.join(overlap="first").variables["/v"].shape == (1,)


def test_gaps_are_told(folder: Folder) -> None:
    folder.add([0, 1, 2]).add([3, 4]).add([9, 10])
    (row,) = folder.join().differences
    assert (row.kind, row.variable, row.what) == ("note", "/time", "1 gap against the step of 1, up to 5")
    assert row.files == "1.nc"


def test_irregular_coordinates_have_no_gaps(folder: Folder) -> None:
    assert folder.add([0, 1, 5]).add([6, 40]).join().differences == ()


def test_variables_without_the_dimension_are_the_same_or_refused(folder: Folder) -> None:
    folder.add([0], lat=("lat", [1.0, 2.0])).add([1], lat=("lat", [1.0, 3.0]))
    folder.refuse("it has no dimension time, and is not the same.*differing='first'")
    assert folder.join(differing="first").variables["/lat"].source == 0
    assert "/lat" not in folder.join(differing="drop").variables


def test_large_variables_without_the_dimension_are_left_to_compare(folder: Folder) -> None:
    for time in (0, 1):
        folder.add([time], big=("x", np.zeros(200_000)))
    assert {path: places.tolist() for path, places in folder.join().to_compare.items()} == {"/big": [1]}


def test_attributes_are_the_same_refused_first_or_in_a_table(folder: Folder) -> None:
    for i in range(3):
        folder.add([i], attrs={"history": f"run {i}", "title": "x"})
    error = folder.refuse('the attribute history is "run 0" in the first file, then "run 1", …')
    assert "1.nc, 2.nc (2 files)" in str(error)
    assert "attributes='first' takes" in str(error)
    assert {"history": "run 0", "title": "x"}.items() <= folder.join(attributes="first").groups["/"].items()
    joined = folder.join(attributes="table")
    assert "history" not in joined.groups["/"]
    assert joined.groups["/"]["title"] == "x"
    (table,) = joined.tables
    assert (table.path, table.name, table.values, table.numbers.tolist()) == (
        "/", "history", ("run 0", "run 1", "run 2"), [0, 1, 2]
    )  # fmt: skip


PACKED = [{"scale_factor": 0.1, "add_offset": 273.0}, {"scale_factor": 0.2, "add_offset": 250.0}]


def pack(folder: Folder, packings: Sequence[dict[str, Any]], dtype: str = "i2") -> None:
    for i, packing in enumerate(packings):
        values = np.linspace(260.0, 270.0, 5)
        values[2] = np.nan
        encoding = {"v": {"dtype": dtype, "_FillValue": -99, **packing}}
        folder.add(np.arange(5) + 5 * i, v=values, encoding=encoding)


def decode(folder: Folder) -> list[np.ndarray[Any, Any]]:
    """Return what xarray decodes, file by file."""
    decoded = []
    for item in folder.scans:
        with xr.open_dataset(item.path, engine="h5netcdf") as data:
            decoded.append(data["v"].values)
    return decoded


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packing_that_differs_is_unpacked_as_xarray_does(folder: Folder, dtype: str) -> None:
    pack(folder, PACKED)
    folder.refuse("scale_factor is 0.1 .float64., then 0.2.*unpack='float32'")
    joined = folder.join(unpack=dtype)
    expected = np.concatenate([item.astype(dtype) for item in decode(folder)])
    assert same_bits(read(folder, joined), expected)
    variable = joined.variables["/v"]
    assert (np.dtype(variable.schema.dtype), variable.schema.fill) == (np.dtype(dtype), '["NaN",true]')
    assert not {"scale_factor", "add_offset", "_FillValue"} & variable.attributes.keys()
    assert not variable.copied.any()
    assert ("rounded" in joined.differences[0].action) == (dtype == "float32")


def test_packing_that_is_the_same_stays(folder: Folder) -> None:
    pack(folder, [PACKED[0], PACKED[0]])
    joined = folder.join(unpack="float32")
    assert joined.variables["/v"].copied.all()
    assert joined.variables["/v"].attributes["scale_factor"] == 0.1


def test_fill_values_are_repacked_where_that_is_exact(folder: Folder) -> None:
    for i, fill in enumerate((np.nan, 1e20)):
        values = np.array([1.0, np.nan, 3.0], "f4")
        folder.add(np.arange(3) + 3 * i, v=values, encoding={"v": {"_FillValue": np.float32(fill)}})
    joined = folder.join()
    np.testing.assert_array_equal(read(folder, joined), [1, np.nan, 3, 1, np.nan, 3])
    assert joined.variables["/v"].copied.tolist() == [True, False]
    with pytest.raises(OptionError, match=r"_FillValue is 1\.0"):
        join_files(folder.scans[::-1], Rules(dim="time", sort=False))


def test_times_are_brought_to_the_units_of_the_first_file(folder: Folder) -> None:
    units = ("days since 2000-01-01", "hours since 2000-01-02")
    for i, unit in enumerate(units):
        time = ("time", np.array([0.0, 24.0]) / (24 if i == 0 else 1) + 24 * i, {"units": unit})
        folder.add(time, v=np.zeros(2))
    joined = folder.join()
    assert read(folder, joined, "/time").tolist() == [0, 1, 2, 3]
    assert joined.variables["/time"].attributes["units"] == units[0]
    assert [row.kind for row in joined.differences] == ["note"]


def test_files_that_count_time_each_from_its_own_day_are_one_row(folder: Folder) -> None:
    for i in range(4):
        folder.add(("time", np.array([0.0]), {"units": f"days since 2000-01-0{i + 1}"}), v=np.zeros(1))
    (row,) = folder.join().differences
    assert row.what == "times are days since 2000-01-01 in the first file, then days since 2000-01-02, …"
    assert row.files == "1.nc … 3.nc (3 files)"


def test_long_attributes_are_shown_where_they_differ(folder: Folder) -> None:
    for i in range(3):
        folder.add([i], attrs={"history": f"Tue Jun 30 12:00:00 2026: ncks -O in{i}.nc out{i}.nc"})
    assert '26: ncks -O in0.nc out0.nc" in the first file, then …26: ncks -O in1.nc out1.nc", …; in 1.nc' in str(
        folder.refuse("history")
    )


def test_times_without_an_exact_form_are_refused(folder: Folder) -> None:
    for i, (name, value) in enumerate((("days", 0.0), ("hours", 25.0))):
        folder.add(("time", np.array([value]), {"units": f"{name} since 2000-01-0{i + 1}"}), v=np.zeros(1))
    folder.refuse("the time 25.0 has no exact form", UnsupportedError)
    folder.scans.clear()
    for i, calendar in enumerate(("standard", "noleap")):
        unit = {"units": f"days since 2000-01-0{i + 1}", "calendar": calendar}
        folder.add(("time", np.array([i]), unit), v=np.zeros(1))
    folder.refuse("the calendars differ", UnsupportedError)


def test_bounds_have_the_units_of_their_coordinate(folder: Folder) -> None:
    for i in range(2):
        unit = {"units": f"days since 2000-01-0{i + 1}", "bounds": "time_bnds"}
        folder.add(("time", np.array([1.0]), unit), time_bnds=(("time", "nv"), np.array([[0.5, 1.5]])))
    joined = folder.join()
    assert read(folder, joined, "/time_bnds").tolist() == [[0.5, 1.5], [1.5, 2.5]]


def test_types_are_promoted_where_that_is_exact(folder: Folder) -> None:
    folder.add([0], v=np.array([1], "i2")).add([1], v=np.array([70_000], "i4"))
    folder.refuse("the type is int16 in the first file, then int32.*promote=True makes all int32")
    joined = folder.join(promote=True)
    assert read(folder, joined).tolist() == [1, 70_000]
    assert joined.variables["/v"].schema.dtype == "<i4"
    assert joined.variables["/v"].copied.tolist() == [False, True]


def test_types_without_an_exact_promotion_are_refused(folder: Folder) -> None:
    folder.add([0], v=np.array([1], "i8")).add([1], v=np.array([1.5], "f8"))
    folder.refuse("no type of numpy has all values of these", UnsupportedError, promote=True)


def test_another_order_of_bytes_is_no_other_type(folder: Folder) -> None:
    folder.add([0], v=np.array([1], "<i4")).add([1], v=np.array([2], ">i4"))
    joined = folder.join()
    assert read(folder, joined).tolist() == [1, 2]
    assert [row.what for row in joined.differences] == ["the order of bytes is another one"]


def test_a_variable_that_files_lack_is_refused_or_filled(folder: Folder) -> None:
    folder.add([0, 1], v=np.zeros(2)).add([2, 3, 4], v=np.zeros(3), w=np.ones(3)).add([5], v=np.zeros(1), w=np.ones(1))
    folder.refuse("some files lack it; in 0.nc.*missing='fill'")
    variable = folder.join(missing="fill").variables["/w"]
    assert (variable.shape, variable.starts.tolist(), variable.missing.tolist()) == (
        (6,),
        [0, 2, 5, 6],
        [True, False, False],
    )
    assert variable.source == 1
    folder.add([6], v=np.zeros(1)).add([7], v=np.zeros(1))
    what = (
        r"/w: only 2 of 5 files have it; in 1\.nc, 2\.nc \(2 files\).*missing='fill' takes its fill value in the others"
    )
    folder.refuse(what)
    (row,) = folder.join(missing="fill").differences
    assert (row.what, row.action) == (
        "only 2 of 5 files have it",
        "its fill value, 0.0, which no reader masks, is in the others",
    )


def test_other_axes_are_refused(folder: Folder) -> None:
    folder.add([0], v=(("time", "x"), np.zeros((1, 2)))).add([1], v=(("time", "x"), np.zeros((1, 3))))
    folder.refuse(r"its axes are \(time, x=2\) in the first file, then \(time, x=3\)", UnsupportedError)


def test_other_filters_are_only_told(folder: Folder) -> None:
    for i in range(2):
        folder.add([i], v=np.zeros(1), encoding={"v": {"zlib": bool(i), "chunksizes": (1,), "_FillValue": None}})
    joined = folder.join()
    assert joined.variables["/v"].copied.tolist() == [True, False]
    assert [row.kind for row in joined.differences] == ["note"]


def test_a_new_dimension_stacks_all_but_shared_coordinates(folder: Folder) -> None:
    for i in range(2):
        data = xr.Dataset(
            {"v": ("x", [1.0 + i, 2.0])},
            coords={"x": [1, 2], "same": ("x", [3.0, 4.0]), "other": ("x", [i, i])},
        )
        path = folder.path / f"{i}.nc"
        data.to_netcdf(path, engine="h5netcdf")
        folder.scans.append(scan(path))
    joined = folder.join(dim="run", new=True)
    axes = {path: (item.axis, item.shape) for path, item in joined.variables.items()}
    assert axes == {"/v": (0, (2, 2)), "/x": (None, (2,)), "/same": (None, (2,)), "/other": (0, (2, 2))}
    assert joined.variables["/v"].schema.dimensions == ("run", "x")


def test_a_scalar_becomes_the_coordinate_of_a_new_dimension(folder: Folder) -> None:
    for i, time in enumerate((5, 3)):
        data = xr.Dataset({"v": ("x", [1.0, 2.0])}, coords={"time": time})
        data.to_netcdf(folder.path / f"{i}.nc", engine="h5netcdf")
        folder.scans.append(scan(folder.path / f"{i}.nc"))
    joined = folder.join(new=True, sort=True)
    assert joined.order.tolist() == [1, 0]
    assert joined.variables["/time"].shape == (2,)


def test_groups_are_joined_alike(tmp_path: Path) -> None:
    scans = []
    for i in range(2):
        path = tmp_path / f"{i}.h5"
        with h5py.File(path, "w") as file:
            file["time"] = np.arange(2) + 2 * i
            file["time"].make_scale("time")
            for name in ("a/v", "a/b/v"):
                file[name] = np.arange(2.0) + 2 * i
                file[name].dims[0].attach_scale(file["time"])
        scans.append(scan(path, dim="time"))
    joined = join_files(scans, Rules(dim="time"))
    assert {path: item.shape for path, item in joined.variables.items()} == dict.fromkeys(
        ("/a/b/v", "/a/v", "/time"), (4,)
    )


def test_sequences_along_the_dimension_are_refused(tmp_path: Path) -> None:
    scans = []
    for i in range(2):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["time"] = np.arange(2) + 2 * i
            file["time"].make_scale("time")
            file.create_dataset("v", (2,), h5py.vlen_dtype("i4"))
            file["v"].dims[0].attach_scale(file["time"])
        scans.append(scan(tmp_path / f"{i}.h5", dim="time"))
    with pytest.raises(UnsupportedError, match="sequences cannot be joined"):
        join_files(scans, Rules(dim="time"))


def test_the_error_has_all_differences_and_fits_on_a_screen(folder: Folder) -> None:
    many: Arrays = {f"v{i:02}": np.zeros(1, "f4") for i in range(60)}
    folder.add([0], **many).add([1], **{name: value.astype("f8") for name, value in many.items()})
    error = folder.refuse("60 differences")
    assert len(str(error).splitlines()) <= 22
    copy = pickle.loads(pickle.dumps(error))
    assert len(copy.differences) == 60
    assert str(copy) == str(error)


def test_text_of_other_lengths_is_joined_in_the_longest(tmp_path: Path) -> None:
    for number, length in enumerate((3, 5, 2)):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["name"] = np.array([b"x" * length, b"y"], f"S{length}")
    with pytest.raises(OptionError, match="text has 3 bytes in the first file, and 5 in the longest"):
        combine(f"{tmp_path}/*.h5", tmp_path / "out.zarr", new_dim="run")
    report = combine(f"{tmp_path}/*.h5", tmp_path / "out.zarr", new_dim="run", promote=True, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    found = zarr.open_array(tmp_path / "out.zarr/name", mode="r")
    assert found.dtype == "S5"
    assert np.asarray(found[...]).tolist() == [[b"xxx", b"y"], [b"xxxxx", b"y"], [b"xx", b"y"]]


def test_a_screen_that_is_too_small_says_where_all_differences_are() -> None:
    findings = Findings(FileNames(["0.nc", "1.nc"]))
    for number in range(40):
        findings.refuse(f"/v{number}", f"the attribute a{number} differs", [1], action="attributes='first'")
    lines = list_lines(findings.rows, height=12, width=100)
    assert len(lines) <= 12
    assert lines[-2:] == [ALL, "what to do: attributes='first'"]
    assert ALL not in list_lines(findings.rows[:5], height=12, width=100)
    assert len(list_lines(findings.rows, height=None, width=100)) == 41
