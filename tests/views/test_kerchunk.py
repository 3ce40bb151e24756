"""References in kerchunk's forms are read by fsspec, zarr, xarray and kerchunk as what h5py reads."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings

from h5bound import OptionError, TargetError, UnsupportedError, references
from h5bound.buffers import same_bits
from tests.support.awkward_file import write_awkward
from tests.support.strategies import Case, cases, write_case

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(4000, dtype=">i4").reshape(40, 100)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning"),
    pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification"),
]


def open_references(refs: Any, **options: Any) -> Any:
    """Return the store that fsspec makes of references."""
    options |= {"fo": refs, "skip_instance_cache": True}
    return zarr.open_group("reference://", mode="r", storage_options=options)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Return a path for the parquet form, if what writes and reads it is installed."""
    pytest.importorskip("kerchunk")
    pytest.importorskip("fastparquet")
    return tmp_path / "a.parquet"


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the file with each awkward way to store data, and what it holds."""
    path = tmp_path_factory.mktemp("awkward") / "a.h5"
    return path, write_awkward(path)


@pytest.mark.parametrize("form", [2, 3, "parquet"])
def test_all_awkward_data_is_what_h5py_reads(
    awkward: tuple[Path, dict[str, Any]], request: pytest.FixtureRequest, form: Any
) -> None:
    path, wanted = awkward
    if form == "parquet":
        target = request.getfixturevalue("parquet")
        references(path, target, allow_external=[path.parent])
        group = open_references(str(target), remote_protocol="file")
    else:
        group = open_references(references(path, zarr_format=form, allow_external=[path.parent]))
    for name, values in wanted.items():
        found = group[name][...]
        np.testing.assert_array_equal(found, values, err_msg=name)
        assert values.dtype.kind in "OSM" or found.dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
    assert {name for name, _ in group.members()} == {*wanted, "null"}


@given(case=cases())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_dataset_is_what_h5py_reads(tmp_path: Path, case: Case) -> None:
    path = tmp_path / "a.h5"
    write_case(path, case)
    for zarr_format in (2, 3):
        group = open_references(references(path, zarr_format=zarr_format, inline_limit="1 MiB"))
        with h5py.File(path) as file:
            for name in list(file):
                wanted = file[name][...]
                assert same_bits(np.asarray(group[name][...], wanted.dtype), wanted)


def write_netcdf(path: Path) -> xr.Dataset:
    """Write a netCDF file with packed values, text, and chunks that were never written."""
    temperature = np.linspace(250, 300, 60).reshape(6, 10)
    made = xr.Dataset(
        {"t": (("y", "x"), temperature, {"units": "K"}), "name": ("y", ["a", "bé", "", "d", "e", "f"])},
        {"x": np.arange(10.0)},
    )
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 275.0, "_FillValue": -1}
    made.to_netcdf(path, encoding={"t": {"zlib": True, "chunksizes": (2, 5), **packed}})
    with h5py.File(path, "a") as file:
        file.create_dataset("partly", (40,), "f4", chunks=(2,), fillvalue=-9)[4:28] = range(24)
        file["partly"].attrs["_FillValue"] = np.array([-9], "f4")
        scale = file.create_dataset("z", data=np.arange(40))
        scale.make_scale("z")
        file["partly"].dims[0].attach_scale(scale)
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        return opened.load()


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_xarray_reads_them_with_the_engine_kerchunk(tmp_path: Path, request: pytest.FixtureRequest, form: str) -> None:
    pytest.importorskip("kerchunk")
    target = request.getfixturevalue("parquet") if form == "parquet" else tmp_path / "a.json"
    wanted = write_netcdf(tmp_path / "a.nc")
    references(tmp_path / "a.nc", target)
    options = {"remote_protocol": "file"} if form == "parquet" else {}
    with xr.open_dataset(str(target), engine="kerchunk", storage_options=options) as found:
        xr.testing.assert_identical(found.load(), wanted)


def test_parquet_is_written_in_files_of_many_references(parquet: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("h5bound.views.kerchunk.RECORD", 7)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("g/a::b", data=VALUES, chunks=(7, 30), compression="gzip")
        file.create_dataset("holes", (1000,), "i2", chunks=(10,), fillvalue=3)
        file["holes"].attrs["_FillValue"] = np.int16(3)
        file["holes"][[20, 700, 990]] = 7
        file.create_dataset("empty", (0, 3), "i2")
        file["scalar"] = 5
        file[".zoo/x"] = [1]
    with pytest.raises(UnsupportedError, match=r"begin with \.z"):
        references(path, parquet)
    for odd in ("a::b", "{a}"):
        with pytest.raises(OptionError, match="cannot be in a path with"):
            references(path, tmp_path / odd / "a.parquet")
    report = references(path, parquet, exclude=["/.zoo"])
    group = open_references(str(parquet), remote_protocol="file")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(group["g/a%3A%3Ab"][...], VALUES)
        for name in ("holes", "empty", "scalar"):
            np.testing.assert_array_equal(group[name][...], file[name][...])
    counts = {array.target: (array.ranges, array.encoded) for array in report.arrays}
    assert counts["holes"] == (3, 6 + 6 + 1)  # of the rest of their files of 7; the last one has 2 places
    with pytest.raises(TargetError, match="it exists"):
        references(path, parquet)
    with pytest.raises(UnsupportedError, match="never written"):
        references(path, parquet, include=["/holes"], overwrite=True, inline_limit=19)
    assert open_references(str(parquet), remote_protocol="file")["scalar"][...] == 5


def test_what_is_no_reference_file_is_not_replaced(parquet: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with h5py.File(path, "w") as file:
        file["x"] = [1]
    parquet.mkdir()
    (parquet / "part.0.parquet").write_text("data of others")
    for target in (path, parquet):
        with pytest.raises(TargetError, match="no references"):
            references(path, target, overwrite=True)
    (parquet / ".zmetadata").write_text('{"record_size": 1}')
    path.rename(parquet / "a.h5")
    with pytest.raises(TargetError, match="which is read, is there"):
        references(parquet / "a.h5", parquet, overwrite=True)
    other = tmp_path / "b.json"
    with pytest.raises(OptionError, match="overwrite a file that is read"):
        references(parquet / "a.h5", other, report=parquet / "a.h5")
    with pytest.raises(OptionError, match="inside the target"):
        references(parquet / "a.h5", other, report=other)
    assert not other.exists()


def test_files_beside_the_references_stay_as_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1]
    other = tmp_path / "a.json.partial"
    other.write_text("data of others")
    references(tmp_path / "a.h5", tmp_path / "a.json")
    assert other.read_text() == "data of others"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.json", "a.json.partial"]


def test_a_file_of_references_is_written_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h5bound.views.contiguous.LARGEST", 2)
    for module in ("kerchunk", "chunk_references"):
        monkeypatch.setattr(f"h5bound.views.{module}.BATCH", 64)
    count = 2**12
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((count, 2), "i1")

    def measure(target: Path | None) -> float:
        tracemalloc.start()
        made = references(tmp_path / "a.h5", target)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(made["refs"]) if target is None else made.arrays[0].ranges) >= count
        return peak / count

    measure(tmp_path / "first.json")  # what is imported and kept stays
    assert measure(tmp_path / "a.json") < 0.6 * measure(None)
