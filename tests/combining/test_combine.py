"""`combine`: the store has what the files have, or nothing is written; appends are seen as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from h5bound import combine, references, verify
from h5bound.cli.main import run_command
from h5bound.combining import scan_files
from h5bound.combining.verify_files import MAX_OPEN
from h5bound.errors import H5BoundError, OptionError, SourceChangedError, SourceNotFoundError, TargetError
from h5bound.files import local
from h5bound.files.local import LocalFile
from h5bound.files.open import open_file
from h5bound.reports.combination import digest_combination
from h5bound.reports.conversion import digest_conversion
from tests.support.recorder import Log, count_files

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")

WITHOUT_HDF5 = pytest.mark.skipif(
    h5py.version.hdf5_version_tuple < (2, 0, 0), reason="chunks of many files are read without HDF5 since its version 2"
)

DOCS = Path(__file__).parents[2] / "docs"


def write_day(path: Path, start: int, length: int, *, chunk: int = 2, scale: float = 1.0, **options: Any) -> Path:
    """Write a file of `length` times from `start` on, with the variables t(time, y), n(time) and y(y)."""
    with h5py.File(path, "w", **options) as file:
        for name, values in (("time", np.arange(start, start + length) * 1.0), ("y", np.arange(3.0))):
            unlimited = {"maxshape": (None,), "chunks": (4,)} if name == "time" else {}
            file.create_dataset(name, data=values, **unlimited)
            file[name].make_scale(name)
        values = (np.arange(start * 3, (start + length) * 3) % 251).reshape(-1, 3).astype("i2")
        t = file.create_dataset("t", data=values, chunks=(chunk, 3), maxshape=(None, 3), compression="gzip")
        t.attrs.update(units="K", scale_factor=scale)
        n = file.create_dataset("n", data=np.arange(start, start + length), chunks=(chunk,), maxshape=(None,))
        for dataset, axes in ((t, ("time", "y")), (n, ("time",))):
            for axis, name in enumerate(axes):
                dataset.dims[axis].attach_scale(file[name])
    return path


def write_days(folder: Path, lengths: list[int], **options: Any) -> list[Path]:
    """Write files, one after another in time."""
    starts = np.cumsum([0, *lengths])
    return [write_day(folder / f"{i:03}.nc", int(starts[i]), length, **options) for i, length in enumerate(lengths)]


ADDED = ["t/c/3/0", "t/c/4/0", "t/c/5/0", "n/c/3", "n/c/4", "n/c/5", "time/c/1", "time/c/2"]
"""Chunks that files of 4, 3 and 4 times need from the third file on."""


def read_all(target: Path) -> dict[str, Any]:
    """Return the values of all arrays of a store, through the metadata of its root."""
    group = zarr.open_group(target, mode="r")
    return {name: array[...] for name, array in group.arrays()}


def expect(paths: list[Path]) -> dict[str, Any]:
    """Return the values that the store of some files has."""
    found: dict[str, list[Any]] = {name: [] for name in ("t", "n", "time")}
    for path in paths:
        with h5py.File(path) as file:
            for name, blocks in found.items():
                blocks.append(file[name][...])
    return {**{name: np.concatenate(blocks) for name, blocks in found.items()}, "y": np.arange(3.0)}


def check(target: Path, paths: list[Path]) -> None:
    """Compare the values of a store with those of the files."""
    found, expected = read_all(target), expect(paths)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert found[name].dtype == values.dtype


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_aligned_files_are_copied_chunk_by_chunk(tmp_path: Path, zarr_format: Any) -> None:
    paths = write_days(tmp_path, [4] * 6)
    report = combine(paths, tmp_path / "out.zarr", dim="time", zarr_format=zarr_format, verify=True)
    check(tmp_path / "out.zarr", paths)
    assert report.complete
    assert report.verification is not None
    assert report.verification.equal
    assert report.decoded == 0
    assert {entry.path: entry.how for entry in report.arrays} == {
        "/t": "copied", "/n": "copied", "/time": "copied", "/y": "decoded",
    }  # fmt: skip
    assert report.exit_code == 0


@pytest.mark.parametrize("options", [{}, {"chunks": {"/t": (5, 2)}}, {"codecs": "zstd:3"}, {"shards": {"/t": (8, 3)}}])
def test_files_that_end_within_a_chunk_have_seams(tmp_path: Path, options: dict[str, Any]) -> None:
    paths = write_days(tmp_path, [5, 3, 1, 6])
    report = combine(paths, tmp_path / "out.zarr", dim="time", verify=True, **options)
    check(tmp_path / "out.zarr", paths)
    assert report.decoded > 0
    assert report.verification is not None
    assert report.verification.equal


def test_a_dry_run_says_how_many_bytes_are_copied_and_decoded(tmp_path: Path) -> None:
    paths, target = write_days(tmp_path, [4, 5, 3]), tmp_path / "out.zarr"
    plan = combine(paths, target, dim="time", dry_run=True)
    assert not target.exists()
    assert "to copy, " in plan.summary()
    work = {item.path: item for item in plan.work}
    assert (work["/t"].seams, work["/time"].seams, work["/y"].decoded) == (1, 1, 1)
    assert sum(item.copied_nbytes for item in plan.work) == plan.copied_nbytes
    sharded = combine(paths, target, dim="time", dry_run=True, shards={"/t": (8, 3)})
    assert sharded.copied + sharded.decoded == plan.copied + plan.decoded  # chunks, not shards
    rows = {row[0]: row for row in digest_conversion(replace(sharded.conversion, complete=True)).table.rows}
    assert (rows["/t"][2], rows["/n"][2]) == ("5 with shards", "6")
    report = combine(paths, target, dim="time")
    assert report.to_dict()["copied_bytes"] == plan.copied_nbytes > 0
    assert plan.decoded_nbytes > 0
    assert "to copy, " not in report.summary()
    paths.append(write_day(tmp_path / "003.nc", 12, 4))
    more = combine(paths, target, dim="time", append=True, dry_run=True)
    with h5py.File(paths[3]) as file:
        added = sum(file[name].id.get_storage_size() for name in ("t", "n", "time"))
    assert (more.copied_nbytes, more.decoded_nbytes) == (added, 0)  # the files before it end with a chunk
    combine(paths, target, dim="time", append=True)
    again = combine(paths, target, dim="time", append=True, dry_run=True)
    assert (again.copied_nbytes, again.decoded_nbytes) == (0, 0)


def test_the_store_is_what_xarray_makes_of_the_files(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 3], scale=0.5)
    combine(paths, tmp_path / "out.zarr", dim="time")
    with xr.open_mfdataset(paths, combine="nested", concat_dim="time", engine="h5netcdf", data_vars="minimal",
                           coords="minimal", compat="equals") as expected:  # fmt: skip
        found = xr.open_zarr(tmp_path / "out.zarr")
        xr.testing.assert_equal(found.load(), expected.load())
        assert found.t.attrs == expected.t.attrs


@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    chunks=st.lists(st.integers(1, 4), min_size=6, max_size=6),
    target_chunks=st.none() | st.integers(1, 9),
    split=st.integers(0, 6),
)
def test_any_files_are_joined_or_added(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], chunks: list[int], target_chunks: Any, split: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    starts = np.cumsum([0, *lengths])
    paths = [write_day(folder / f"{i}.nc", int(starts[i]), length, chunk=chunks[i]) for i, length in enumerate(lengths)]
    options: dict[str, Any] = {"chunks": None if target_chunks is None else {"/t": (target_chunks, 2)}}
    if 0 < split < len(paths):
        combine(paths[:split], folder / "out.zarr", dim="time", append=True, **options)
        check(folder / "out.zarr", paths[:split])
    report = combine(paths, folder / "out.zarr", dim="time", append=True, verify=True, **options)
    check(folder / "out.zarr", paths)
    assert report.verification is not None
    assert report.verification.equal, report.verification
    assert verify(paths, folder / "out.zarr").equal


def test_an_interrupted_combination_is_resumed(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 3, 4])
    whole, target = tmp_path / "whole.zarr", tmp_path / "out.zarr"
    combine(paths, whole, dim="time")
    shutil.copytree(whole, target)
    document = json.loads((target / "h5bound.json").read_text())
    assert [entry["path"] for entry in document["combined"]["files"]] == ["000.nc", "001.nc", "002.nc"]
    assert combine(paths, target, dim="time", resume=True).conversion.remark == "already complete"
    with pytest.raises(TargetError, match="exists"):
        combine(paths, target, dim="time")
    with pytest.raises(TargetError, match="3 files, now 2 files"):
        combine(paths[:2], target, dim="time", resume=True)


def test_added_files_rewrite_only_the_chunk_that_they_share(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 3])
    target = tmp_path / "out.zarr"
    combine(paths, target, dim="time")
    before = {path: path.stat().st_mtime_ns for path in target.rglob("c/*") if path.is_file()}
    before |= {path: path.stat().st_mtime_ns for path in (target / "t").rglob("*/*/*") if path.is_file()}
    paths.append(write_day(tmp_path / "002.nc", 7, 4))
    with pytest.raises(TargetError, match="append=True"):
        combine(paths, target, dim="time", resume=True)
    report = combine(paths, target, dim="time", append=True, verify=True)
    assert report.kept == 2
    assert report.added_nbytes == sum((target / key).stat().st_size for key in ADDED)
    assert report.summary().startswith(f"added 1 file: {len(ADDED)} chunks, 8 of them decoded, ")
    assert "; the store now has 3 files along time, " in report.summary()
    assert report.to_dict()["added_files"] == report.added == 1
    assert (report.to_dict()["added_chunks"], report.to_dict()["changed_chunks"]) == (5, 3)
    check(target, paths)
    changed = {str(path.relative_to(target)) for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"t/c/3/0", "n/c/3", "time/c/1"}
    again = combine(paths, target, dim="time", append=True)
    assert again.conversion.remark == "already complete"
    assert [entry.written_nbytes for entry in again.arrays] == [entry.written_nbytes for entry in report.arrays]
    with pytest.raises(TargetError, match="combined with codecs=keep, now codecs=zstd:3;"):
        combine(paths, target, dim="time", codecs="zstd:3", append=True)


def test_a_file_that_grew_is_written_again_where_it_changed(tmp_path: Path) -> None:
    path, target = write_day(tmp_path / "a.nc", 0, 5), tmp_path / "out.zarr"
    combine([path], target, dim="time", append=True)
    before = {key: key.stat().st_mtime_ns for key in (target / "t").rglob("*") if key.is_file()}
    with h5py.File(path, "a") as file:
        for name in ("t", "n", "time"):
            file[name].resize(8, 0)
        file["t"][5:] = 7
        file["n"][5:] = [5, 6, 7]
        file["time"][5:] = [5, 6, 7]
    with pytest.raises(TargetError, match=r"a\.nc changed.*update=True"):
        combine([path], target, dim="time", append=True)
    report = combine([path], target, dim="time", append=True, update=True, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    check(target, [path])
    same = [key.name for key, time in before.items() if key.stat().st_mtime_ns == time and key.name != "zarr.json"]
    assert len(same) == 2  # of three chunks the last one has new elements
    words = "added 0 files, redid 1, kept 0: 2 chunks added, 3 changed, 6 kept, "
    assert report.summary().startswith(words)
    assert report.digest().table.columns == ("dataset", "chunks added", "changed", "kept")
    assert ("/t", "1", "1", "2") in report.digest().table.rows
    told = report.to_dict()
    names = ("redone_files", "added_chunks", "changed_chunks", "unchanged_chunks")
    assert [told[name] for name in names] == [1, 2, 3, 6]


def test_what_differs_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])
    paths.append(write_day(tmp_path / "002.nc", 8, 4, scale=2.0))
    with pytest.raises(OptionError, match="scale_factor") as caught:
        combine(paths, tmp_path / "out.zarr", dim="time")
    assert not (tmp_path / "out.zarr").exists()
    assert getattr(caught.value, "differences", ())
    combine(paths, tmp_path / "out.zarr", dim="time", unpack="float64", attributes="first", verify=True)
    with xr.open_mfdataset(paths, combine="nested", concat_dim="time", engine="h5netcdf", data_vars="minimal",
                           coords="minimal", compat="equals", combine_attrs="override") as wrong:  # fmt: skip
        right = np.concatenate([xr.open_dataset(path, engine="h5netcdf").t.values for path in paths])
        assert wrong.t.shape == right.shape
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "out.zarr").t.values, right)


def test_a_refusal_names_the_bad_files_that_were_left_out(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 3, 4])
    with h5py.File(paths[1], "a") as file:
        file["t"].attrs["units"] = "other"
    paths[2].write_bytes(b"no HDF5")
    document = tmp_path / "report.json"
    for act, name in ((combine, "out.zarr"), (references, "out.json")):
        with pytest.raises(OptionError, match="units") as error:
            act(paths, tmp_path / name, dim="time", skip_bad=True, report=document)
        (note,) = error.value.__notes__
        assert note.startswith("left out: 1 file that cannot be read\n")
        assert str(paths[2]) in note
        assert str(paths[2]) in document.read_text()


def test_bad_files_are_named_or_left_out(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 4])
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    with pytest.raises(H5BoundError, match=r"001\.nc"):
        combine(paths, tmp_path / "out.zarr", dim="time")
    assert not (tmp_path / "out.zarr").exists()
    report = combine(paths, tmp_path / "out.zarr", dim="time", skip_bad=True)
    check(tmp_path / "out.zarr", [paths[0], paths[2]])
    assert [item.path for item in report.bad] == [str(paths[1])]
    assert report.exit_code == 3
    assert str(report).count("001.nc") == 1
    assert "000.nc and 1 more -> " in str(report)
    with pytest.raises(TargetError, match="append=True"):
        combine(paths, tmp_path / "out.zarr", dim="time", skip_bad=True)
    assert verify(paths, tmp_path / "out.zarr").equal  # the store was made without it
    with pytest.raises(H5BoundError, match="1 of 2 files cannot be read\\n"):
        verify(paths[:2], tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("sources", "message"),
    [([], "at least one|empty|no file"), ("*.nothing", "nothing"), (["a.nc", "a.nc"], "twice|2 times")],
)
def test_wrong_lists_of_files_are_refused(
    tmp_path: Path, sources: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_day(tmp_path / "a.nc", 0, 4)
    with pytest.raises(OptionError, match=message):
        combine(sources, tmp_path / "out.zarr", dim="time")


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])

    def touch(_done: int, _total: int) -> None:
        write_day(paths[1], 4, 4, scale=1.0, userblock_size=512)

    with pytest.raises(SourceChangedError, match=r"001\.nc"):
        combine(paths, tmp_path / "out.zarr", dim="time", progress=touch)
    with pytest.raises(TargetError):
        verify(paths, tmp_path / "out.zarr")


def test_a_damaged_key_is_found(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])
    target = tmp_path / "out.zarr"
    combine(paths, target, dim="time")
    assert verify(paths, target).equal
    shutil.copy(target / "t/c/0/0", target / "t/c/1/0")
    assert [str(item.path) for item in verify(paths, target).differences] == ["/t"]
    (target / "t/c/1/0").unlink()
    assert not verify(paths, target).equal
    with pytest.raises((TargetError, OptionError)):
        verify(paths[0], tmp_path / "nothing.zarr")
    for others, message in (
        (paths[:1], r"of 2: 001\.nc of the store is not among"),
        ([*paths, write_day(tmp_path / "002.nc", 8, 4)], r"002\.nc is not in the store"),
        (paths[1:], r"name the files"),
    ):
        with pytest.raises(TargetError, match=message):
            verify(others, target)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = write_days(tmp_path, [4, 3])
    assert run_command(["combine", "*.nc", "out.zarr", "--dim", "time", "--dry-run"]) == 0
    assert "2 files along time" in capsys.readouterr().out
    assert not (tmp_path / "out.zarr").exists()
    assert run_command(["combine", "*.nc", "out.zarr", "--dim", "time", "--verify", "--report", "r.json"]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["dim"] == "time"
    assert run_command(["verify", "000.nc", "001.nc", "out.zarr"]) == 0
    assert run_command(["combine", "*.nc", "out.zarr", "--dim", "tim", "--overwrite"]) == 2
    assert "tim" in capsys.readouterr().err
    check(tmp_path / "out.zarr", paths)
    assert run_command(["combine", "*.nc", "out.zarr"]) == 2


def test_each_file_may_be_an_element_of_a_new_dimension(tmp_path: Path) -> None:
    paths = [write_day(tmp_path / f"{i}.nc", 0, 4) for i in range(3)]
    combine(paths, tmp_path / "out.zarr", new_dim="run", verify=True)
    found = xr.open_zarr(tmp_path / "out.zarr")
    assert found.t.dims == ("run", "time", "y")
    assert found.sizes["run"] == 3


def test_groups_are_joined_alike(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.nc")
        xr.Dataset({"a": ("time", np.arange(3) + number)}, {"time": np.arange(3) + 3 * number}).to_netcdf(
            paths[-1], engine="h5netcdf"
        )
        xr.Dataset({"b": (("time", "z"), np.full((3, 2), number))}).to_netcdf(
            paths[-1], group="inner", mode="a", engine="h5netcdf"
        )
    combine(paths, tmp_path / "out.zarr", dim="time", verify=True)
    tree = xr.open_datatree(tmp_path / "out.zarr", engine="zarr")
    assert np.asarray(tree["a"]).tolist() == [0, 1, 2, 1, 2, 3]
    assert np.asarray(tree["inner/b"])[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_a_cluster_combines_and_verifies(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    paths = write_days(tmp_path, [4, 3, 5, 4])
    with (
        warnings.catch_warnings(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        with Client(cluster):
            report = combine(paths, tmp_path / "out.zarr", dim="time", verify=True)
        options: Any = {"scheduler": cluster.scheduler_address, "cache": False}  # without a client of the caller
        combine(paths[:2], tmp_path / "by_address.zarr", dim="time", **options)
        combine(paths, tmp_path / "by_address.zarr", dim="time", append=True, **options)
        assert verify(paths, tmp_path / "by_address.zarr", scheduler=cluster.scheduler_address).equal
    assert report.verification is not None
    assert report.verification.equal
    check(tmp_path / "out.zarr", paths)


def test_windows_of_a_few_bytes_and_one_thread(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [5] * 5)
    with dask.config.set(scheduler="sync"):
        combine(paths, tmp_path / "out.zarr", dim="time", window=200, chunks={"/t": (3, 1)}, verify=True)
    check(tmp_path / "out.zarr", paths)


def test_one_worker_scans_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_files, "FEWEST", 1)
    monkeypatch.setattr(scan_files, "scan_in_processes", lambda *_: pytest.fail("processes"))
    paths = write_days(tmp_path, [2] * 2)
    combine(paths, tmp_path / "out.zarr", dim="time", workers=1, cache=False)
    with dask.config.set(num_workers=1):
        combine(paths, tmp_path / "again.zarr", dim="time", cache=False)
    with pytest.raises(pytest.fail.Exception, match="processes"):
        combine(paths, tmp_path / "more.zarr", dim="time", workers=2, cache=False)


def test_the_pages_name_every_field(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])
    with h5py.File(paths[1], "a") as file:
        file.attrs["history"] = "made later"
    report = combine(paths, tmp_path / "out.zarr", dim="time", attributes="table")
    own = json.loads((tmp_path / "out.zarr/h5bound.json").read_text())
    (table,) = own["attributes"]
    assert (table["path"], table["name"], table["numbers"]) == ("/", "history", [-1, 0])
    page = (DOCS / "explanation" / "format.md").read_text(encoding="utf-8")
    fields = {*own, *own["combined"], *own["combined"]["rules"], *own["combined"]["files"][0], *table}
    assert {name for name in fields if f"`{name}`" not in page} == set()
    page, document = (DOCS / "reference" / "reports.md").read_text(encoding="utf-8"), report.to_dict()
    (difference,) = report.differences
    assert {name for name in (*document, *difference.to_dict()) if f"`{name}`" not in page} == set()
    titles = {section.title for section in digest_combination(report).sections}
    assert {title for title in titles if f"| `{title}` |" not in page} == set()


def test_chunks_that_were_cut_to_the_first_files_stay_as_they_are(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 3, 60])
    options: dict[str, Any] = {"dim": "time", "chunks": {"/t": (400, 3), "/n": (400,)}, "shards": {"/n": "1 MiB"}}
    combine(paths[:1], tmp_path / "out.zarr", **options)
    report = combine(paths, tmp_path / "out.zarr", append=True, verify=True, **options)
    assert report.verification is not None
    assert report.verification.equal
    check(tmp_path / "out.zarr", paths)
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["t"].chunks == (4, 3)  # type: ignore[union-attr]


def test_without_any_file_the_error_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(H5BoundError, match="one"):
        combine([tmp_path / "one.h5", tmp_path / "two.h5"], tmp_path / "out.zarr", dim="time")


@pytest.mark.parametrize("marker", [b"", b'{"appen'])
def test_files_are_added_to_a_store_whose_marker_says_nothing_yet(tmp_path: Path, marker: bytes) -> None:
    paths = write_days(tmp_path, [4, 3, 2])
    combine(paths[:2], tmp_path / "out.zarr", dim="time")
    (tmp_path / "out.zarr/h5bound-unfinished.json").write_bytes(marker)  # as a kill leaves it
    cell = tmp_path / f"out.zarr/{'0' * 32}.partial/0/0"  # between two passes
    cell.parent.mkdir(parents=True)
    cell.write_bytes(b"1")
    report = combine(paths, tmp_path / "out.zarr", dim="time", append=True, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    check(tmp_path / "out.zarr", paths)
    assert not cell.parent.parent.exists()


def test_a_glob_may_match_what_only_a_later_file_has(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])
    with h5py.File(paths[1], "a") as file:
        file["odd"] = np.zeros((2, 2))
        file["late"] = file["n"][...]
        file["late"].dims[0].attach_scale(file["time"])
    options: dict[str, Any] = {"dim": "time", "exclude": ["/odd"], "missing": "fill", "chunks": {"/late": (3,)}}
    combine(paths, tmp_path / "out.zarr", **options)
    assert zarr.open_array(tmp_path / "out.zarr/late", mode="r").chunks == (3,)
    with pytest.raises(OptionError, match=r"'/lat': matches nothing in .*000\.nc and 1 more; close to it: /late"):
        combine(paths, tmp_path / "new.zarr", **{**options, "chunks": {"/lat": (3,)}})


@WITHOUT_HDF5
def test_files_whose_chunks_are_copied_are_opened_for_the_scan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spy(path: str, **options: Any) -> h5py.File:
        opened.append(path)
        return open_file(path, **options)

    monkeypatch.setattr(local, "open_file", spy)
    paths = write_days(tmp_path, [4, 4, 8])
    combine(paths, tmp_path / "out.zarr", dim="time", cache=False)
    check(tmp_path / "out.zarr", paths)
    assert [opened.count(str(path)) for path in paths[1:]] == [1, 1]  # y is decoded, from the first one


@WITHOUT_HDF5
@pytest.mark.parametrize("change", ["cut", "replace", "delete", "write"])
def test_a_file_that_changes_while_chunks_are_copied_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    paths = write_days(tmp_path, [4, 4])
    other = write_day(tmp_path / "other.nc", 50, 4)

    def begin(path: str) -> LocalFile:
        if change == "delete":
            Path(path).unlink()
        file = read_at(path)
        if change == "cut":
            os.truncate(path, 3000)
        if change == "replace":
            Path(shutil.copy(other, tmp_path / "copy.nc")).replace(path)
        if change == "write":
            os.utime(path, ns=(1, 1))
        return file

    read_at = LocalFile.at
    monkeypatch.setattr(LocalFile, "at", begin)
    monkeypatch.setattr(dask.config, "config", {**dask.config.config, "scheduler": "sync"})
    with pytest.raises((SourceChangedError, SourceNotFoundError), match=r"00\d\.nc"):
        combine(paths, tmp_path / "out.zarr", dim="time", cache=False)
    assert not (tmp_path / "out.zarr" / "zarr.json").exists()


def test_a_file_takes_less_than_100_bytes_of_the_provenance(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 4, 4])
    sizes = []
    for count in (2, 3, 4):
        combine(paths[:count], tmp_path / "out.zarr", dim="time", append=True)
        sizes.append((tmp_path / "out.zarr/h5bound.json").stat().st_size)
    assert 0 < sizes[2] - sizes[1] < 100


def test_float32_of_packing_is_noted_unless_values_are_unpacked(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 4])
    for number, path in enumerate(paths):
        with h5py.File(path, "a") as file:
            file["t"].attrs["scale_factor"] = np.float32(1 / (1 + number))
            if number == 1:  # the first file lacks it
                file["time"].parent.copy("t", "u")
    text = "float32: JSON has no such type, so xarray decodes with float64"

    def list_noted(**options: Any) -> list[tuple[str, str | None]]:
        report = combine(paths, tmp_path / "out.zarr", dim="time", missing="fill", dry_run=True, **options)
        return [(note.path, note.attribute) for note in report.conversion.notes if note.note == text]

    assert list_noted(unpack="float32") == [("/u", "scale_factor")]
    paths = paths[:1]
    assert list_noted() == [("/t", "scale_factor")]


def test_verify_has_few_files_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days, log, number, most = write_days(tmp_path, [2] * 40), Log(tmp_path / "log"), 0, 0
    combine(days, tmp_path / "a.zarr", dim="time")
    count_files(monkeypatch, log)
    assert verify(days, tmp_path / "a.zarr", workers=2).equal
    for event in log.order():
        number += {"open": 1, "close": -1}.get(event, 0)
        most = max(most, number)
    assert 0 < most <= MAX_OPEN + 2  # one more for each thread that reads
