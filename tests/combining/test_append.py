"""Files that are added to a store: all are named, or only the new ones, and those of the store may be gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import combine, convert, verify
from h5bound.errors import OptionError, TargetError, UnsupportedError
from h5bound.reports.conversion import ALREADY_COMPLETE
from tests.combining.test_combine import check, read_all, write_days
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")


def read_keys(target: Path) -> dict[str, bytes]:
    """Return all keys but the provenance, with their bytes."""
    keys = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in keys.items() if key != "h5bound.json"}


def hide(paths: list[Path]) -> list[Path]:
    """Move files away, and return where they are."""
    return [path.rename(path.with_suffix(".gone")) for path in paths]


def unhide(paths: list[Path]) -> None:
    """Move files back."""
    for path in paths:
        path.with_suffix(".gone").rename(path)


OPTIONS: list[dict[str, Any]] = [
    {}, {"zarr_format": 2}, {"chunks": {"/t": (5, 2)}}, {"shards": {"/t": (8, 3)}}, {"codecs": "zstd:3"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_files_of_the_store_need_not_be_there(tmp_path: Path, options: dict[str, Any]) -> None:
    paths, target, whole = write_days(tmp_path, [5, 3, 1, 6]), tmp_path / "out.zarr", tmp_path / "whole.zarr"
    combine(paths[:2], target, dim="time", **options)
    combine(paths, whole, dim="time", **options)
    for number in (2, 3):
        hide(paths[:number])
        report = combine(paths[number], target, dim="time", append=True, verify=True, **options)
        unhide(paths[:number])
        assert report.kept == number
        assert report.verification is not None
        assert report.verification.equal, report.verification
    check(target, paths)
    assert verify(paths, target).equal
    assert read_keys(target) == read_keys(whole)
    assert read_own(target)["written"] == read_own(whole)["written"]
    again = combine(paths[1:3], target, dim="time", append=True, **options)
    assert again.conversion.remark == "already complete"


def test_a_first_run_that_was_killed_is_repeated_as_it_is(tmp_path: Path) -> None:
    paths, target, whole = write_days(tmp_path, [4, 3, 4]), tmp_path / "out.zarr", tmp_path / "whole.zarr"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combine(paths[:2], target, dim="time", append=True, progress=stop)
    assert (target / "h5bound-unfinished.json").exists()
    words = (
        "begun with 2 files, now 3 files; repeat the first files and options, and add other files .* with append=True"
    )
    with pytest.raises(TargetError, match=words):
        combine(paths, target, dim="time", append=True)
    assert combine(paths[:2], target, dim="time", append=True, dry_run=True).conversion.remark == ""
    assert combine(paths[:2], target, dim="time", append=True).complete
    check(target, paths[:2])
    combine(paths, target, dim="time", append=True)
    combine(paths, whole, dim="time")
    assert read_keys(target) == read_keys(whole)


def test_a_conversion_that_was_killed_is_not_taken_for_a_changed_file(tmp_path: Path) -> None:
    paths, target, other = write_days(tmp_path, [4, 3]), tmp_path / "one.zarr", tmp_path / "many.zarr"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(paths[0], target, progress=stop)
    with pytest.raises(TargetError, match="begun with convert, now combine; repeat the first source and options, or"):
        combine(paths, target, dim="time", append=True)
    with pytest.raises(KeyboardInterrupt):
        combine(paths, other, dim="time", progress=stop)
    with pytest.raises(TargetError, match="begun with combine, now convert; repeat the first source and options, or"):
        convert(paths[0], other, resume=True)


def test_a_folder_without_a_store_takes_no_files(tmp_path: Path) -> None:
    paths, target = write_days(tmp_path, [4, 3]), tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(TargetError, match="no store, so nothing can be appended; choose another target"):
        combine(paths, target, dim="time", append=True)
    assert [item.name for item in target.iterdir()] == ["notes.txt"]


def test_chunks_that_are_copied_into_a_shard_keep_those_that_are_there(tmp_path: Path) -> None:
    paths, target = write_days(tmp_path, [4, 4, 4]), tmp_path / "out.zarr"  # two chunks each
    options: dict[str, Any] = {"dim": "time", "shards": {"/t": (16, 3)}}
    combine(paths[:1], target, **options)
    for path in paths[1:]:
        combine(path, target, append=True, **options)
    check(target, paths)


def test_a_file_that_was_only_touched_is_read_again_alone(tmp_path: Path) -> None:
    paths, target = write_days(tmp_path, [4, 3, 4]), tmp_path / "out.zarr"
    combine(paths, target, dim="time")
    before, times = read_keys(target), {key: key.stat().st_mtime_ns for key in target.rglob("c/*") if key.is_file()}
    os.utime(paths[0], ns=(1, 1))
    with pytest.raises(TargetError, match=r"000\.nc changed since the store was made; update=True"):
        combine(paths, target, dim="time", append=True)
    hidden = hide(paths[1:])
    report = combine(paths[0], target, dim="time", append=True, update=True)
    assert hidden == [path.with_suffix(".gone") for path in paths[1:]]
    unhide(paths[1:])
    assert (report.kept, report.added_nbytes) == (2, 0)
    assert report.summary().startswith("added 0 files, redid 1, kept 2: 0 chunks added, 0 changed, 16 kept, 0 B wri")
    assert read_keys(target) == before
    assert {key: key.stat().st_mtime_ns for key in times} == times
    assert verify(paths, target).equal


def test_a_file_whose_external_data_changed_is_told_and_written_again(tmp_path: Path) -> None:
    paths, target = [tmp_path / f"{i}.h5" for i in range(3)], tmp_path / "out.zarr"
    for i, path in enumerate(paths):
        (tmp_path / f"{i}").mkdir()
        np.full(2, i, "f8").tofile(tmp_path / f"{i}" / "data.bin")
        with h5py.File(path, "w") as file:
            file["time"] = [2 * i, 2 * i + 1]
            file["time"].make_scale("time")
            file.create_dataset("t", (2,), "f8", external=[(str(tmp_path / f"{i}" / "data.bin"), 0, 16)])
            file["t"].dims[0].attach_scale(file["time"])
    options: dict[str, Any] = {"dim": "time", "allow_external": [tmp_path]}
    combine(paths[:2], target, **options)
    combine(paths[2], target, append=True, **options)
    np.full(2, 7, "f8").tofile(tmp_path / "1" / "data.bin")
    os.utime(tmp_path / "1" / "data.bin", (2e9, 2e9))
    with pytest.raises(TargetError, match="files that changed since"):
        combine(paths, target, resume=True, **options)
    with pytest.raises(TargetError, match=r"1\.h5 changed since the store was made; update=True"):
        combine(paths, target, append=True, **options)
    report = combine(paths, target, append=True, update=True, verify=True, **options)
    assert (report.kept, read_all(target)["t"].tolist()) == (2, [0, 0, 7, 7, 2, 2])
    assert combine(paths, target, resume=True, **options).conversion.remark == ALREADY_COMPLETE


def test_a_file_in_the_middle_is_named_and_comes_there_with_update(tmp_path: Path) -> None:
    paths, target, whole = write_days(tmp_path, [4, 3, 4, 2]), tmp_path / "out.zarr", tmp_path / "whole.zarr"
    combine([paths[0], paths[2]], target, dim="time")
    with pytest.raises(TargetError, match=r"001\.nc would come before 002\.nc, which the store has.*update=True"):
        combine(paths, target, dim="time", append=True)
    late = r"update=True with sort=True puts a late file to its place, if all files .* named too: 002\.nc;"
    with pytest.raises(OptionError, match=late):
        combine(paths[1], target, dim="time", append=True)
    with pytest.raises(TargetError, match=r"update=True .*, if these files of the store are named too: 002\.nc"):
        combine(paths[:2], target, dim="time", append=True, sort=True)
    with pytest.raises(TargetError, match=r"the elements of 002\.nc in /.* name these files of the store too: 002\.nc"):
        combine(paths[:2], target, dim="time", append=True, update=True, sort=True)
    combine(paths[1:], target, dim="time", append=True, update=True)
    combine(paths, whole, dim="time")
    assert read_keys(target) == read_keys(whole)
    check(target, paths)


def test_what_was_left_out_stays_so_whichever_files_are_named(tmp_path: Path) -> None:
    paths, target = write_days(tmp_path, [4] * 4), tmp_path / "out.zarr"
    for number, path in enumerate(paths):
        with h5py.File(path, "a") as file:
            file["other"] = number
    options: dict[str, Any] = {"dim": "time", "differing": "drop", "missing": "fill"}
    combine(paths[:2], target, **options)
    for path in paths[2:]:
        combine(path, target, append=True, **options)
    check(target, paths)
    assert verify(paths, target).equal


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_variable_that_only_an_added_file_has_is_filled_for_all_others(tmp_path: Path, zarr_format: Any) -> None:
    paths, target, whole = write_days(tmp_path, [3, 4, 5]), tmp_path / "out.zarr", tmp_path / "whole.zarr"
    with h5py.File(paths[1], "a") as file:
        file["new"] = np.arange(4) + 1
        file["new"].dims[0].attach_scale(file["time"])
    options: dict[str, Any] = {"dim": "time", "missing": "fill", "zarr_format": zarr_format}
    combine(paths[:1], target, **options)
    combine(paths[1], target, append=True, **options)
    with pytest.raises(OptionError, match=r"/new: of the files that are named none has it; name .*001\.nc"):
        combine(paths[2], target, append=True, **options)
    combine(paths[1:], target, append=True, **options)
    combine(paths, whole, **options)
    found, expected = read_all(target), read_all(whole)
    assert {name: values.tolist() for name, values in found.items()} == {k: v.tolist() for k, v in expected.items()}
    assert found["new"].tolist() == [0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0]
    assert verify(paths, target).equal


@pytest.mark.parametrize("count", [1, 2])
def test_a_variable_that_gets_the_new_dimension_with_an_added_file_is_refused(tmp_path: Path, count: int) -> None:
    paths, target = [tmp_path / f"{number}.h5" for number in range(2)], tmp_path / "out.zarr"
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.arange(4.0) + number, chunks=(2,)).make_scale("x")
            file.create_dataset("t", data=np.arange(4) + number, chunks=(2,)).attrs["coordinates"] = "x t"
    options: dict[str, Any] = {"new_dim": "run", "differing": "drop"}
    combine(paths[:1], target, **options)
    before = read_keys(target)
    with pytest.raises(TargetError, match=r"name|overwrite=True"):
        combine(paths[-count:], target, append=True, **options)
    assert read_keys(target) == before


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("fill", [None, 9])
def test_files_that_lack_a_variable_have_what_its_attributes_say_is_missing(
    tmp_path: Path, zarr_format: Any, fill: int | None
) -> None:
    paths, targets = write_days(tmp_path, [3, 4, 5, 4]), [tmp_path / "out.zarr", tmp_path / "whole.zarr"]
    for path in (paths[0], paths[2]):
        with h5py.File(path, "a") as file:
            new = file.create_dataset("new", data=file["n"][...], dtype="i4", chunks=(3,), fillvalue=fill)
            new.attrs["_FillValue"] = np.int32(-7)
            new.dims[0].attach_scale(file["time"])
    options: dict[str, Any] = {"dim": "time", "missing": "fill", "zarr_format": zarr_format}
    combine(paths[:1], targets[0], **options)
    combine(paths[:2], targets[0], append=True, **options)
    combine(paths[1:], targets[0], append=True, **options)
    combine(paths, targets[1], **options)
    for target in targets:
        found = read_all(target)
        assert found["new"][3:7].tolist() == found["new"][12:].tolist() == [-7] * 4
        assert found["new"][7:12].tolist() == found["n"][7:12].tolist()
        assert verify(paths, target).equal


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stored_numbers_keep_their_meaning(tmp_path: Path, zarr_format: Any) -> None:
    paths, target = [tmp_path / f"{i}.h5" for i in range(3)], tmp_path / "out.zarr"
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["time"] = [number]
            file["time"].make_scale("time")
            file.create_dataset("v", data=[20.0], fillvalue=np.nan).dims[0].attach_scale(file["time"])
            file["v"].attrs["scale_factor"] = 2.0 if number < 2 else 3.0
    options: dict[str, Any] = {"dim": "time", "unpack": "float64", "zarr_format": zarr_format}
    combine(paths[:2], target, **options)  # packed alike, so as they are
    for update in (False, True):
        with pytest.raises(TargetError, match="the array v would have another scale_factor; the packing differs"):
            combine(paths, target, append=True, update=update, **options)
    combine(paths, target, overwrite=True, **options)
    assert read_all(target)["v"].tolist() == [40.0, 40.0, 60.0]


TIMES: list[tuple[list[float], str, str]] = [
    ([0.3], "days since 2000-01-01", "then days since 2000-01-01: the time 0.3 has no exact form of float64"),
    (
        [1],
        "months since 2000-01-01",
        "then months since 2000-01-01: 'months since 2000-01-01' has no unit of a fixed length",
    ),
    ([1], "1", "then '1': these are no units of times"),
]


@pytest.mark.parametrize(("times", "units", "words"), TIMES)
def test_times_that_have_no_exact_form_in_the_store_are_refused_with_the_way_out(
    tmp_path: Path, times: list[float], units: str, words: str
) -> None:
    paths, target = write_days(tmp_path, [4, 1]), tmp_path / "out.zarr"
    for path, own, values in zip(paths, ("hours since 2000-01-01", units), (range(4), times), strict=True):
        with h5py.File(path, "a") as file:
            file["time"][...] = list(values)
            file["time"].attrs["units"] = own
    combine(paths[:1], target, dim="time")
    before = read_keys(target)
    with pytest.raises(UnsupportedError) as error:
        combine(paths[1], target, dim="time", append=True)
    message = str(error.value)
    assert f"differs: /time: times are hours since 2000-01-01 in the first file, {words}" in message
    assert "001.nc\nwhat to do: write these times anew in the units of the first file, or exclude=" in message
    words = f"the arrays of {target} stay as they are: what would change them needs overwrite=True"
    assert error.value.__notes__ == [words]
    assert read_keys(target) == before


def add_variable(path: Path) -> None:
    """Give a file a variable that others do not have."""
    with h5py.File(path, "a") as file:
        file.create_dataset("new", data=np.arange(4), chunks=(2,), compression="gzip")
        file["new"].dims[0].attach_scale(file["time"])


def overlap(path: Path) -> None:
    """Let a file begin with a time of the file before it."""
    with h5py.File(path, "a") as file:
        file["time"][...] = file["time"][...] - 1


def differ(path: Path) -> None:
    """Give the root and a variable of a file an attribute that others do not have."""
    with h5py.File(path, "a") as file:
        file.attrs["history"] = file["t"].attrs["history"] = "new"


def shift(path: Path) -> None:
    """Give a variable without the dimension other values."""
    with h5py.File(path, "a") as file:
        file["y"][...] = file["y"][...] + 1


LATER: list[tuple[Callable[[Path], None], str, dict[str, Any]]] = [
    (add_variable, "/new: only 1 of 3 files has it", {"missing": "fill"}),
    (add_variable, "/new: only 1 of 3 files has it", {"exclude": ["/new"]}),
    (overlap, "/time: files overlap", {"overlap": "first"}),
    (differ, "the attribute history", {"attributes": "first"}),
    (differ, "the attribute history", {"attributes": "table"}),
    (shift, "/y: ", {"differing": "first"}),
]


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize(("change", "words", "option"), LATER)
def test_what_no_file_of_the_store_needed_may_be_decided_with_the_first_one_that_does(
    tmp_path: Path, change: Callable[[Path], None], words: str, option: dict[str, Any], zarr_format: Any
) -> None:
    paths, target, whole = write_days(tmp_path, [4] * 4), tmp_path / "out.zarr", tmp_path / "whole.zarr"
    change(paths[2])
    options: dict[str, Any] = {"dim": "time", "zarr_format": zarr_format}
    combine(paths[:2], target, **options)
    with pytest.raises(OptionError, match=f"differs: .*{words}") as error:
        combine(paths[:3], target, append=True, **options)
    assert hasattr(error.value, "__notes__") is ("differing" in option)
    for count in (3, 4):
        report = combine(paths[:count], target, append=True, verify=True, **options, **option)
        assert report.verification is not None
        assert report.verification.equal, report.verification
    combine(paths, whole, **options, **option)
    assert read_keys(target) == read_keys(whole)
    one, other = read_own(target), read_own(whole)
    for name in ("settings", "joined", "attributes", "skipped", "details"):
        assert one.get(name) == other.get(name), name
    assert one["combined"]["rules"] == other["combined"]["rules"]
    with pytest.raises(TargetError, match=f"combined with {next(iter(option))}=.*pass the same options"):
        combine(paths, target, append=True, **options)


@pytest.mark.parametrize("option", [{"exclude": ["/t"]}, {"exclude": ["*"]}, {"include": ["/t"]}, {"codecs": "zstd:3"}])
def test_options_that_would_have_made_another_store_are_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    paths, target = write_days(tmp_path, [4, 4]), tmp_path / "out.zarr"
    combine(paths[:1], target, dim="time")
    before = read_keys(target)
    with pytest.raises(TargetError, match="pass the same options"):
        combine(paths, target, dim="time", append=True, **option)
    combine(paths[:1], target, dim="time", overwrite=True, exclude=["/n"])
    with pytest.raises(TargetError, match=r"combined with exclude=\['/n'\], now exclude=\[\]; pass the same options"):
        combine(paths, target, dim="time", append=True)
    combine(paths[:1], target, dim="time", overwrite=True)
    assert read_keys(target) == before


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("how", [{"compression": None}, {"chunks": (3, 3)}, {"dtype": ">i2"}])
def test_a_late_file_that_comes_first_and_is_stored_otherwise_is_refused_with_the_way_out(
    tmp_path: Path, how: dict[str, Any], zarr_format: Any
) -> None:
    paths, target = write_days(tmp_path, [4, 4, 4]), tmp_path / "out.zarr"
    with h5py.File(paths[0], "a") as file:
        values, attributes, axes = file["t"][...], dict(file["t"].attrs), [file["time"], file["y"]]
        del file["t"]
        options = {"chunks": (2, 3), "maxshape": (None, 3), "compression": "gzip"}
        t = file.create_dataset("t", data=values, **{**options, **how})
        t.attrs.update({name: attributes[name] for name in ("units", "scale_factor")})
        for axis, scale in enumerate(axes):
            t.dims[axis].attach_scale(scale)
    combine(paths[1:], target, dim="time", zarr_format=zarr_format)
    before = read_keys(target)
    words = (
        r"array t would have another .*; .*000\.nc comes first, and stores it otherwise: .* end with sort=False; the"
    )
    with pytest.raises(TargetError, match=words):
        combine(paths, target, dim="time", append=True, update=True, zarr_format=zarr_format)
    assert read_keys(target) == before
    combine(paths[0], target, dim="time", append=True, sort=False, zarr_format=zarr_format)
    check(target, [*paths[1:], paths[0]])
    assert verify([*paths[1:], paths[0]], target).equal
