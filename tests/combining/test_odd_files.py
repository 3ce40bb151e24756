"""Files with what few others have: compounds, null dataspaces, attributes of another type, and appends that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import H5Store, combine, from_hdf5, verify
from h5bound.errors import H5BoundError, OptionError, TargetError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

COMPOUND = np.dtype([("a", "<i4"), ("b", "<f8")])


def write(path: Path, times: list[int], values: Any, **options: Any) -> Path:
    """Write a file with a coordinate and one variable."""
    with h5py.File(path, "w") as file:
        file["time"] = times
        file["time"].make_scale("time")
        file.create_dataset("v", data=values, **options).dims[0].attach_scale(file["time"])
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_compounds_are_joined_also_where_their_fill_values_differ(tmp_path: Path, zarr_format: Any) -> None:
    values = np.array([(1, 2.0), (3, 4.0)], COMPOUND)
    fill = np.array((7, 8.0), COMPOUND)[()]
    paths = [write(tmp_path / "0.h5", [0, 1], values, chunks=(2,))]
    paths.append(write(tmp_path / "1.h5", [2, 3], values, chunks=(2,), fillvalue=fill))
    combine(paths, tmp_path / "out.zarr", dim="time", zarr_format=zarr_format)
    found: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["v"]
    assert found[:].tolist() == [*values.tolist(), *values.tolist()]
    assert verify(paths, tmp_path / "out.zarr").equal


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_types_are_promoted_in_both_formats(tmp_path: Path, zarr_format: Any) -> None:
    paths = [
        write(tmp_path / "0.h5", [0, 1], np.array([1, 2], "i4")),
        write(tmp_path / "1.h5", [2, 3], np.array([0.5, 6], "f8")),
    ]
    combine(paths, tmp_path / "out.zarr", dim="time", promote=True, zarr_format=zarr_format)
    found: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["v"]
    assert (found.dtype, found[:].tolist()) == (np.dtype("f8"), [1.0, 2.0, 0.5, 6.0])
    assert verify(paths, tmp_path / "out.zarr").equal


def test_null_dataspaces_are_the_same_in_all_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [i], [1.0]) for i in range(2)]
    for path in paths:
        with h5py.File(path, "r+") as file:
            file["nothing"] = h5py.Empty("f4")
    combine(paths, tmp_path / "out.zarr", dim="time")
    assert verify(paths, tmp_path / "out.zarr").equal


def test_a_table_keeps_attributes_in_their_place_that_differ_only_in_their_type(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [i], [1.0]) for i in range(2)]
    for path, level in zip(paths, (np.int32(3), np.int64(3)), strict=True):
        with h5py.File(path, "r+") as file:
            file["time"].attrs["level"] = level
    with pytest.raises(OptionError, match="the attribute level has another type"):
        combine(paths, tmp_path / "out.zarr", dim="time")
    combine(paths, tmp_path / "out.zarr", dim="time", attributes="table")
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["time"].attrs["level"] == 3


def test_attributes_of_the_same_text_are_equal_as_another_library_stores_them(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [i], [1.0]) for i in range(3)]
    for path, units in zip(paths, ("m", np.bytes_("m"), "m"), strict=True):
        with h5py.File(path, "r+") as file:
            file["v"].attrs["units"] = units
    report = combine(paths[:2], tmp_path / "out.zarr", dim="time", verify=True)
    assert [(row.kind, row.variable, row.files) for row in report.differences] == [("note", "/v", "1.h5")]
    combine(paths, tmp_path / "out.zarr", dim="time", append=True, verify=True)
    assert verify(paths, tmp_path / "out.zarr").equal
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["v"].attrs["units"] == "m"


def test_chunks_of_another_level_of_deflate_are_copied(tmp_path: Path) -> None:
    values = np.arange(2000) % 7
    paths = [
        write(tmp_path / f"{i}.h5", [*range(2000 * i, 2000 * i + 2000)], values, chunks=(500,), compression=level)
        for i, level in enumerate((1, 9))
    ]
    report = combine(paths, tmp_path / "out.zarr", dim="time", verify=True)
    (found,) = (item for item in report.arrays if item.path == "/v")
    assert found.how == "copied"
    with h5py.File(paths[1]) as file:
        assert (tmp_path / "out.zarr/v/c/5").read_bytes() == file["v"].id.read_direct_chunk((500,))[1]
    assert verify(paths, tmp_path / "out.zarr").equal


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_append_that_is_refused_leaves_the_store_as_it_was(tmp_path: Path, *, dry_run: bool) -> None:
    paths = [
        write(tmp_path / "0.h5", [0, 1], np.array([1, 2], "i4")),
        write(tmp_path / "1.h5", [2, 3], np.array([0.5, 6], "f8")),
    ]
    target = tmp_path / "out.zarr"
    combine(paths[:1], target, dim="time", promote=True)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    why = (
        "/?v would have another .*the type is int32 in the first file, then float64: all are float64; in 1.h5; the form"
    )
    with pytest.raises(TargetError, match=f"the array {why}"):
        combine(paths, target, dim="time", promote=True, append=True, dry_run=dry_run)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_files_without_a_coordinate_cannot_be_sorted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["v"] = [1.0]
        file["v"].dims[0].label = "time"
    with pytest.raises(OptionError, match="no coordinate of time has numbers to sort by in each file"):
        combine(tmp_path / "0.h5", tmp_path / "out.zarr", dim="time", sort=True)
    with pytest.raises(OptionError, match=r"sort='/w': no file has this variable$"):
        combine(tmp_path / "0.h5", tmp_path / "out.zarr", dim="time", sort="/w")
    with pytest.raises(OptionError, match="sort='/group/v': no file has this variable; close to it: /v"):
        combine(tmp_path / "0.h5", tmp_path / "out.zarr", dim="time", sort="/group/v")
    with pytest.raises(OptionError, match="dim='time' and new_dim='run' exclude each other"):
        combine(tmp_path / "0.h5", tmp_path / "out.zarr", dim="time", new_dim="run")


def test_chunks_go_that_a_file_does_not_have_any_more(tmp_path: Path) -> None:
    target, paths = tmp_path / "out.zarr", [tmp_path / "0.h5", tmp_path / "1.h5"]
    write(paths[0], [0, 1], [1.0, 2.0], chunks=(1,))
    write(paths[1], [2, 3, 4, 5], [3.0, 4.0, 5.0, 6.0], chunks=(1,))
    combine(paths, target, dim="time")
    with h5py.File(paths[1], "w") as file:  # shorter, and its first chunk is not written
        file["time"] = [2, 3, 4]
        file["time"].make_scale("time")
        values = file.create_dataset("v", shape=(3,), dtype="f8", chunks=(1,))
        values.dims[0].attach_scale(file["time"])
        values[1] = 7.0
    combine(paths, target, dim="time", append=True, update=True)
    found: Any = zarr.open_group(target, mode="r")["v"]
    assert found[:].tolist() == [1.0, 2.0, 0.0, 7.0, 0.0]
    assert verify(paths, target).equal


def test_an_append_to_icechunk_is_one_commit(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    paths = [write(tmp_path / f"{i}.h5", [2 * i, 2 * i + 1], [i, i + 0.5], chunks=(1,)) for i in range(2)]
    combine(paths[:1], repository.writable_session("main").store, dim="time")
    combine(paths, repository.writable_session("main").store, dim="time", append=True)
    write(paths[1], [2], [8.0], chunks=(1,))
    combine(paths, repository.writable_session("main").store, dim="time", append=True, update=True)
    assert len(list(repository.ancestry(branch="main"))) == 4
    store = repository.readonly_session("main").store
    found: Any = zarr.open_group(store, mode="r")["v"]
    assert found[:].tolist() == [0.0, 0.5, 8.0]
    assert verify(paths, store).equal


def test_nothing_is_added_to_a_zip(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [i], [1.0]) for i in range(2)]
    combine(paths[:1], tmp_path / "out.zip", dim="time")
    with pytest.raises(TargetError, match="nothing can be added to a zip file"):
        combine(paths, tmp_path / "out.zip", dim="time", append=True)
    assert verify(paths[:1], tmp_path / "out.zip").equal


def test_a_dimension_or_a_glob_that_is_not_there_is_told_with_what_is_close(tmp_path: Path) -> None:
    path = write(tmp_path / "0.h5", [0], [1.0])
    with pytest.raises(
        OptionError, match="dim='tiem': no variable has this dimension; they have time; close to it: time"
    ):
        combine(path, tmp_path / "out.zarr", dim="tiem")
    with pytest.raises(OptionError, match=r"include='tmie': matches nothing in .*; close to it: /time"):
        combine(path, tmp_path / "out.zarr", dim="time", include=["tmie"])


def test_zones_are_refused_that_readers_take_for_different_times(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [3600 * i], [1.0]) for i in range(2)]
    for zone, is_read in (("+01:00", True), ("+1:00", False), ("+0100", False)):
        for path, clock in zip(paths, ("00:00:00", f"01:00:00 {zone}"), strict=True):
            with h5py.File(path, "r+") as file:
                file["time"].attrs["units"] = f"seconds since 2000-01-01 {clock}"
        if is_read:
            combine(paths, tmp_path / "out.zarr", dim="time")
        else:
            with pytest.raises(H5BoundError, match="times are seconds since 2000"):
                combine(paths, tmp_path / "other.zarr", dim="time")


def test_a_variable_that_is_shorter_than_its_dimension_is_not_joined(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [2 * i, 2 * i + 1], [5.0, 6.0]) for i in range(2)]
    for path in paths:
        with h5py.File(path, "r+") as file:
            file["short"] = [7]  # netCDF's readers see two elements
            file["short"].dims[0].attach_scale(file["time"])
    with pytest.raises(UnsupportedError, match="/short: it is shorter than its dimension time"):
        combine(paths, tmp_path / "out.zarr", dim="time")
    store = H5Store(paths, dim="time")
    with pytest.raises(UnsupportedError, match=r"0\.h5 is shorter than its dimension time: it has 1 of 2 elements"):
        store["short"]
    assert (store["v"].shape, from_hdf5(paths, "short").compute().tolist()) == ((4,), [7, 7])
    combine(paths, tmp_path / "out.zarr", dim="time", exclude=["/short"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_complex_numbers_are_promoted(tmp_path: Path, zarr_format: Any) -> None:
    values = [np.array([1 + 2j], "c8"), np.array([3 - 4j], ">c16"), np.array([5], "f8")]
    paths = [write(tmp_path / f"{i}.h5", [i], value, chunks=(1,)) for i, value in enumerate(values)]
    whole = write(tmp_path / "whole.h5", [3], np.array([2**53 + 1]))
    with pytest.raises(UnsupportedError, match="no type of numpy has all values of these"):
        combine([*paths, whole], tmp_path / "out.zarr", dim="time", promote=True, zarr_format=zarr_format)
    with pytest.raises(OptionError, match="promote=True makes all complex128"):
        combine(paths, tmp_path / "out.zarr", dim="time", zarr_format=zarr_format)
    combine(paths, tmp_path / "out.zarr", dim="time", promote=True, zarr_format=zarr_format)
    found: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")["v"]
    assert (found.dtype.kind, found[:].tolist()) == ("c", [1 + 2j, 3 - 4j, 5])
    assert verify(paths, tmp_path / "out.zarr").equal


@pytest.mark.parametrize("options", [{}, {"shards": {"/v": (4,)}}])
@pytest.mark.parametrize("case", ["overlap, all named", "overlap", "update"])
def test_what_a_file_did_not_write_takes_the_place_of_other_elements_and_of_no_more(
    tmp_path: Path, options: dict[str, Any], case: str
) -> None:
    target, paths = tmp_path / "out.zarr", [tmp_path / f"{i}.h5" for i in range(3)]
    write(paths[0], [0, 1, 2], [1.0, 2.0, 3.0], chunks=(2,), maxshape=(None,))
    write(paths[1], [3, 4, 5], [4.0, 5.0, 6.0], chunks=(2,), maxshape=(None,))
    options = {"dim": "time", "overlap": "last", **options}
    combine(paths[:2], target, **options)
    paths = [paths[0], paths[1]] if case == "update" else paths
    with h5py.File(paths[-1], "w") as file:
        file["time"] = [3, 4, 5]
        file["time"].make_scale("time")
        file.create_dataset("v", shape=(3,), dtype="f8", chunks=(2,)).dims[0].attach_scale(file["time"])
        file["v"][2] = 9.0
    named = paths if case == "overlap, all named" else paths[-1]
    combine(named, target, append=True, update=case == "update", **options)
    found: Any = zarr.open_group(target, mode="r")["v"]
    assert found[:].tolist() == [1.0, 2.0, 3.0, 0.0, 0.0, 9.0]
    assert verify(paths, target).equal


def test_an_array_that_an_added_file_would_drop_is_told(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.h5", [i], [1.0]) for i in range(2)]
    for number, path in enumerate(paths):
        with h5py.File(path, "r+") as file:
            file["level"] = number
    combine(paths[:1], tmp_path / "out.zarr", dim="time", differing="drop")
    with pytest.raises(TargetError, match=r"array level would be gone; .* is not the same: left out; in 1\.h5"):
        combine(paths, tmp_path / "out.zarr", dim="time", differing="drop", append=True)


def test_chunks_of_files_that_are_not_named_stay_where_the_others_take_two_passes(tmp_path: Path) -> None:
    target, paths = tmp_path / "out.zarr", [tmp_path / f"{i}.h5" for i in range(2)]
    values = np.arange(40 * 64.0).reshape(40, 64)
    options: dict[str, Any] = {"dim": "time", "chunks": {"/v": (8, 4)}, "window": 1024}

    def write_half(path: Path, rows: slice, first: int) -> None:
        """Write 20 times, of the values those from `first` on."""
        with h5py.File(path, "w") as file:
            file["time"] = np.arange(rows.start, rows.stop)
            file["time"].make_scale("time")
            data = file.create_dataset("v", (20, 64), "f8", chunks=(1, 64), maxshape=(None, 64))
            data[first:] = values[rows][first:]
            data.dims[0].attach_scale(file["time"])

    for path, rows in zip(paths, (slice(0, 20), slice(20, 40)), strict=True):
        write_half(path, rows, 0)
    planned = combine(paths, target, dry_run=True, **options).conversion.arrays[1].rechunking
    assert planned is not None
    assert planned.passes == 2
    combine(paths, target, **options)
    write_half(paths[1], slice(20, 40), 12)
    combine(paths[1], target, append=True, update=True, **options)
    values[20:32] = 0
    np.testing.assert_array_equal(zarr.open_group(target, mode="r")["v"][:], values)  # type: ignore[index]
    assert verify(paths, target).equal
