"""Many files seen as one Zarr store have the keys and bytes that `combine` writes of them."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from h5bound import H5BoundError, OptionError, SourceChangedError, UnsupportedError, ZarrStore, combine, references
from h5bound.cli.main import run_command
from h5bound.reader.source import H5Source
from h5bound.zarr_model.node_names import OWN_KEY
from tests.combining.test_combine import expect, write_day, write_days
from tests.support.http_server import serve
from tests.views.test_zarr_store import collect, read_all

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")


def combined(paths: Any, **options: Any) -> MemoryStore:
    """Return the store that `combine` writes."""
    store = MemoryStore()
    combine(paths, store, **options)
    return store


@FORMATS
@pytest.mark.parametrize("lengths", [[4, 4, 4], [5, 3, 1, 6]], ids=["aligned", "seams"])
def test_every_key_is_that_of_the_combined_store(tmp_path: Path, lengths: list[int], zarr_format: Any) -> None:
    paths = write_days(tmp_path, lengths)
    store = ZarrStore(paths, dim="time", zarr_format=zarr_format)
    other = combined(paths, dim="time", zarr_format=zarr_format)
    assert read_all(store) == read_all(other)
    for folder in ("t", "t/c", "n"):
        assert collect(store.list_dir(folder)) == collect(other.list_dir(folder)), folder
    found: Any = zarr.open_group(store, mode="r")
    for name, values in expect(paths).items():
        np.testing.assert_array_equal(found[name][...], values)


def test_every_rule_of_combine_holds(tmp_path: Path) -> None:
    paths = [*write_days(tmp_path, [4, 4]), write_day(tmp_path / "x.nc", 8, 4, scale=2.0)]
    with pytest.raises(OptionError, match="scale_factor"):
        ZarrStore(paths, dim="time")
    rules: Any = {"dim": "time", "unpack": "float64", "attributes": "first"}
    assert read_all(ZarrStore(paths, **rules)) == read_all(combined(paths, **rules))
    rules = {"new_dim": "run", "differing": "first"}
    same = [write_day(tmp_path / f"run{i}.nc", 0, 4) for i in range(3)]
    assert read_all(ZarrStore(f"{tmp_path}/run*.nc", **rules)) == read_all(combined(same, **rules))
    over = [write_day(tmp_path / f"over{i}.nc", 3 * i, 4) for i in range(3)]
    for overlap in ("first", "last"):
        rules = {"dim": "time", "overlap": overlap}
        assert read_all(ZarrStore(over, **rules)) == read_all(combined(over, **rules))
    rules = {"dim": "time", "sort": True}
    assert read_all(ZarrStore(paths[1::-1], **rules)) == read_all(combined(paths[:2], **rules))
    with h5py.File(paths[1], "a") as file:
        del file["n"]
    rules = {"dim": "time", "missing": "fill"}
    assert read_all(ZarrStore(paths[:2], **rules)) == read_all(combined(paths[:2], **rules))


def list_ranges(refs: dict[str, Any], name: str) -> list[Any]:
    """Return the ranges of an array."""
    return [place for key, place in refs["refs"].items() if key.startswith(f"{name}/") and isinstance(place, list)]


def test_references_name_ranges_of_all_files(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 4])
    refs = references(paths, dim="time")
    assert {url for url, _, _ in list_ranges(refs, "t")} == {f"file://{path}" for path in paths}
    assert [len(list_ranges(refs, name)) for name in ("t", "n", "time", "y")] == [6, 6, 3, 1]
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    with xr.open_dataset(
        "reference://", engine="zarr", consolidated=False, storage_options={"fo": f"{tmp_path}/refs.json"},
    ) as found, xr.open_mfdataset(
        paths, combine="nested", concat_dim="time", engine="h5netcdf", data_vars="minimal", coords="minimal",
        compat="equals",
    ) as expected:  # fmt: skip
        xr.testing.assert_equal(found.load(), expected.load())


def test_chunks_of_several_files_are_inlined_if_they_are_small(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [5, 3, 6])
    report = references(paths, tmp_path / "refs.json", dim="time")
    encoded = {array.path: (array.ranges, array.encoded) for array in report.arrays}
    assert encoded["/t"] == (5, 2)
    reasons = {array.path: array.reasons for array in report.arrays}["/time"]
    assert reasons == ("1 of 4 chunks is no whole chunk of one file: chunks of 4 elements, files of 5, 3, 6",)
    found: Any = zarr.open_group("reference://", mode="r", storage_options={"fo": f"{tmp_path}/refs.json"})
    for name, values in expect(paths).items():
        np.testing.assert_array_equal(found[name][...], values, err_msg=name)
    with pytest.raises(UnsupportedError, match=r"combine the files[^$]*/t: .* chunks of 2 elements, files of 5, 3, 6"):
        references(paths, dim="time", inline_limit=10)


@pytest.mark.parametrize("name", ["t", "time"])
def test_a_file_that_changed_is_not_read(tmp_path: Path, name: str) -> None:
    paths = write_days(tmp_path, [4, 5, 3])
    store = pickle.loads(pickle.dumps(ZarrStore(paths, dim="time")))
    array: Any = zarr.open_group(store, mode="r")[name]
    np.testing.assert_array_equal(array[...], expect(paths)[name])
    with h5py.File(paths[1], "a") as file:
        with pytest.raises(SourceChangedError, match=r"001\.nc.* (for writing|changed)"):
            array[4:8]
        file["t"][0] = 7
    with pytest.raises(SourceChangedError, match=r"001\.nc.* changed"):
        array[4:8]
    np.testing.assert_array_equal(array[:2], expect(paths)[name][:2])
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        array[4:8]
    assert store == pickle.loads(pickle.dumps(store))


def test_files_that_are_written_to_are_refused(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4])
    with h5py.File(paths[1], "a"), pytest.raises(OptionError, match=r"001\.nc: it is open for writing"):
        ZarrStore(paths, dim="time")
    with pytest.raises(OptionError, match="name either dim"):
        ZarrStore(paths)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dims'"):
        ZarrStore(paths, dims="time")
    with pytest.raises(OptionError, match="links='copy'"):
        ZarrStore(paths, dim="time", links="copy")


def test_a_part_of_many_files_opens_those_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_days(tmp_path, [2])
    data = (tmp_path / "000.nc").read_bytes()
    paths = [tmp_path / f"{i:03}.h5" for i in range(70)]
    for path in paths:
        path.write_bytes(data)
    store = ZarrStore(paths, new_dim="file")
    opened, before = [], H5Source.open

    def count(source: H5Source) -> Any:
        opened.append(source.path)
        return before(source)

    monkeypatch.setattr(H5Source, "open", count)
    group: Any = zarr.open_group(store, mode="r")
    assert group["t"].shape == (70, 2, 3)
    np.testing.assert_array_equal(group["t"][60], group["t"][7])
    assert opened == []  # ranges are read without HDF5
    assert group["n"][40:44].tolist() == [[0, 1]] * 4
    descriptors = len([*Path("/proc/self/fd").iterdir()])
    np.testing.assert_array_equal(group["t"][...], np.broadcast_to(group["t"][0], (70, 2, 3)))
    assert len([*Path("/proc/self/fd").iterdir()]) <= descriptors + 4


def test_the_command_line_refers_to_many_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in write_days(tmp_path, [4, 4])]
    target = str(tmp_path / "refs.json")
    assert run_command(["refs", *paths, target, "--dim", "time", "--base-url", "s3://bucket/days"]) == 0
    assert "2 files" in capsys.readouterr().out
    refs = json.loads(Path(target).read_text())
    assert {url for url, _, _ in list_ranges(refs, "t")} == {"s3://bucket/days/000.nc", "s3://bucket/days/001.nc"}
    assert run_command(["refs", f"{tmp_path}/*.nc", target, "--overwrite", "--sort", "--dim", "time"]) == 0
    assert run_command(["refs", *paths, target, "--overwrite"]) == 2
    assert "--dim" in capsys.readouterr().err
    write_day(tmp_path / "002.nc", 8, 4, scale=2.0)
    assert run_command(["refs", f"{tmp_path}/*.nc", target, "--overwrite", "--dim", "time"]) == 2
    assert "scale_factor" in capsys.readouterr().err


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("lengths", [(4, 4, 4), (6, 4, 2), (5, 3, 1)])
def test_contiguous_data_of_many_files_is_ranges(tmp_path: Path, lengths: tuple[int, ...], axis: int) -> None:
    paths, blocks = [tmp_path / f"{i}.h5" for i in range(3)], []
    for path, length in zip(paths, lengths, strict=True):
        blocks.append(np.random.default_rng(length).random((length, 100) if axis == 0 else (2, length, 80)))
        with h5py.File(path, "w") as file:
            file["x"] = blocks[-1]
            file["x"].dims[axis].label = "along"
            file["n"] = np.arange(length)
            file["n"].dims[0].label = "along"
    refs = references(paths, dim="along", sort=False)
    assert len(list_ranges(refs, "x")) == {4: 3, 6: 6, 5: 9}[lengths[0]] * (2 if axis and lengths[0] != 4 else 1)
    assert len(list_ranges(refs, "n")) == (3 if lengths[0] == 4 else 0)
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    found: Any = zarr.open_group("reference://", mode="r", storage_options={"fo": f"{tmp_path}/refs.json"})
    np.testing.assert_array_equal(found["x"][...], np.concatenate(blocks, axis))
    np.testing.assert_array_equal(found["n"][...], np.concatenate([np.arange(length) for length in lengths]))


def test_readers_of_icechunk_find_all_files(tmp_path: Path) -> None:
    pytest.importorskip("icechunk")
    from tests.views.test_virtual_chunks import make_repository, read

    paths = write_days(tmp_path, [5, 3, 6])
    repository = make_repository(tmp_path)
    report = references(paths, repository.writable_session("main").store, dim="time")
    assert sum(array.ranges for array in report.arrays) > 0
    for name, values in expect(paths).items():
        np.testing.assert_array_equal(read(repository)[name][...], values)


@pytest.mark.filterwarnings("ignore:The .fastparquet. engine is deprecated")
def test_readers_of_parquet_find_all_files(tmp_path: Path) -> None:
    pytest.importorskip("kerchunk")
    paths = write_days(tmp_path, [5, 3, 6])
    references(paths, tmp_path / "refs.parquet", dim="time")
    options = {"fo": f"{tmp_path}/refs.parquet", "remote_protocol": "file"}
    found: Any = zarr.open_group("reference://", mode="r", storage_options=options)
    for name, values in expect(paths).items():
        np.testing.assert_array_equal(found[name][...], values)


@pytest.mark.slow
def test_files_on_a_server_are_read_as_ranges(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 3])
    with serve(tmp_path) as server:
        urls = [f"{server.url}/{path.name}" for path in paths]
        store = ZarrStore(urls, dim="time")
        assert read_all(store) | {OWN_KEY: b""} == read_all(combined(paths, dim="time")) | {OWN_KEY: b""}
        assert {url for url, _, _ in list_ranges(references(urls, dim="time"), "t")} == set(urls)
        with h5py.File(paths[1], "a") as file:
            file["t"][0] = 7
        with pytest.raises(SourceChangedError, match=r"001\.nc"):
            zarr.open_group(store, mode="r")["t"][...]  # type: ignore[index]
        store.close()


def test_the_names_below_a_folder_are_those_that_the_user_knows(tmp_path: Path) -> None:
    for name in ("2025", "2026"):
        (tmp_path / "all" / name).mkdir(parents=True)
    paths = [write_day(tmp_path / "a.nc", 0, 4), write_day(tmp_path / "b.nc", 4, 4)]
    links = [tmp_path / "all" / "2025" / "x.nc", tmp_path / "all" / "2026" / "y.nc"]
    for link, path in zip(links, paths, strict=True):
        link.symlink_to(path)
    found = list_ranges(references(links, dim="time", base_url="s3://bucket/"), "t")
    assert {url for url, _, _ in found} == {"s3://bucket/2025/x.nc", "s3://bucket/2026/y.nc"}


@FORMATS
def test_every_key_of_odd_data_is_that_of_the_combined_store(tmp_path: Path, zarr_format: Any) -> None:
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            options: Any = {
                "lzf": {"compression": "lzf"}, "text": {"dtype": h5py.string_dtype()}, "big": {"dtype": ">i4"},
                "masked": {"dtype": "<i4", "compression": "gzip"}, "holes": {"fillvalue": 3}, "bool": {"dtype": bool},
            }  # fmt: skip
            for name, kind in options.items():
                dataset = file.create_dataset(name, (4 + number,), chunks=(2,), **{"dtype": "<i2", **kind})
                dataset.dims[0].label = "along"
                dataset[2:] = [f"é{i}" for i in range(2 + number)] if name == "text" else np.arange(2 + number)
            file["masked"].id.write_direct_chunk((2,), np.arange(2, dtype="<i4").tobytes(), filter_mask=1)
            file.create_dataset("sequences", (2,), h5py.vlen_dtype("i4"))[0] = [1, 2]
            file["note"] = "the same in all files"
    rules: Any = {"dim": "along", "sort": False, "zarr_format": zarr_format}
    assert read_all(ZarrStore(paths, **rules)) == read_all(combined(paths, **rules))
    encoded = {array.path: array.reasons for array in references(paths[:2], tmp_path / "refs.json", dim="along").arrays}
    assert encoded["/masked"] == ("4 of 5 chunks were never written, or without one of their filters",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunks": (4, 3), "compression": "gzip"}, r"2 of 6 chunks: the chunks differ in 001\.nc"),
        ({"chunks": (2, 3)}, r"2 of 6 chunks: the filters differ in 001\.nc"),
    ],
)
def test_chunks_of_a_file_that_is_stored_otherwise_are_refused_by_its_name(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    paths = [tmp_path / f"{i:03}.nc" for i in range(3)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            kind = options if number == 1 else {"chunks": (2, 3), "compression": "gzip"}
            file.create_dataset("t", data=np.random.default_rng(number).random((4, 3)), maxshape=(None, 3), **kind)
            file["t"].dims[0].label = "time"
    with pytest.raises(UnsupportedError, match=words):
        references(paths, tmp_path / "out.json", dim="time", sort=False, inline_limit=8)
    references([paths[0], paths[2]], tmp_path / "out.json", dim="time", sort=False, inline_limit=8)


def test_many_threads_read_chunks_of_several_files(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [5, 3, 1, 6])
    store = ZarrStore(paths, dim="time")
    wanted = read_all(combined(paths, dim="time"))
    keys = [key for key in wanted if key.startswith(("t/", "n/", "time/")) and "/c/" in key] * 10
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(store.get_sync, keys)]
    assert [item.to_bytes() for item in found] == [wanted[key] for key in keys]  # type: ignore[union-attr]


def test_files_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    paths = write_days(tmp_path, [4, 4, 4])
    paths[1].write_bytes(b"not HDF5")
    with pytest.raises(H5BoundError, match=r"001\.nc"):
        ZarrStore(paths, dim="time")
    told: list[tuple[int, int]] = []
    store = ZarrStore(paths, dim="time", skip_bad=True, max_open=1, progress=lambda *step: told.append(step))
    assert told[-1] == (3, 3)
    assert read_all(store) == read_all(combined([paths[0], paths[2]], dim="time"))
    assert [item.path for item in store.report.bad] == [str(paths[1])]  # type: ignore[union-attr]
    report = references(paths, tmp_path / "out.json", dim="time", skip_bad=True)
    assert [item.path for item in report.bad] == [str(paths[1])]
    assert report.exit_code == 3
    assert "1 file left out" in report.summary()
    assert f"{paths[0]} and 1 more -> " in repr(report)
    shown = store._repr_html_()
    assert "seams" not in shown
    assert "<th>stored</th>" in shown
    for options in ({"skip_bad": True}, {"max_open": 2}):
        with pytest.raises(OptionError, match="files"):
            ZarrStore(paths[0], **options)


def test_files_in_memory_are_read_through_hdf5(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        files.append(BytesIO())
        with h5py.File(files[-1], "w") as file:
            file["t"] = np.arange(3) + 3 * number
            file.create_dataset("gzip", data=file["t"][...], chunks=(3,), compression="gzip")
            for name in ("t", "gzip"):
                file[name].dims[0].label = "time"
    for source, length in ((files[0], 3), (files, 6)):
        options: dict[str, Any] = {"dim": "time"} if length == 6 else {}
        (tmp_path / "refs.json").write_text(json.dumps(references(source, **options)))
        for store in (ZarrStore(source, **options), "reference://"):
            reading = {"storage_options": {"fo": str(tmp_path / "refs.json")}} if isinstance(store, str) else {}
            group: Any = zarr.open_group(store, mode="r", **reading)  # type: ignore[arg-type]
            assert group["t"][...].tolist() == group["gzip"][...].tolist() == list(range(length))
