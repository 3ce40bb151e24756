"""Scans of unusual files: huge declarations, names that are not UTF-8, many references and dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dask
import h5py
import numpy as np
import pytest
import zarr

from h5bound import convert
from h5bound.errors import OptionError, UnsupportedError
from h5bound.hdf5 import dimension_scales as dimensions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read(path: Path) -> NDArray[Any]:
    return np.asarray(zarr.open_array(path, mode="r")[:])


DECLARED: dict[str, tuple[Any, dict[str, Any]]] = {
    "sequences": (h5py.vlen_dtype("i4"), {"chunks": (1 << 16,)}),
    "contiguous sequences": (h5py.vlen_dtype("i4"), {}),
    "compounds with text": (np.dtype([("a", "i4"), ("s", h5py.string_dtype())]), {"chunks": (1 << 16,)}),
}


@pytest.mark.parametrize(("dtype", "options"), DECLARED.values(), ids=DECLARED)
def test_a_trillion_declared_elements_are_not_read(tmp_path: Path, dtype: Any, options: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1 << 40,), dtype, **options)
        file["y"] = np.arange(3)
    with pytest.raises(UnsupportedError, match=r"/x: 1,099,511,627,776 elements of varying length"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", on_unsupported="skip", verify=True)
    assert [skipped.path for skipped in report.skipped] == ["/x"]


def test_names_that_are_not_utf_8_or_reserved_by_a_store_are_converted(tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"zarr.json.partial", b"h5bound-unfinished.json", b".zgroup.partial"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, name in enumerate(names):
            space = h5py.h5s.create_simple((2,))
            dataset = h5py.Dataset(h5py.h5d.create(file.id, name, h5py.h5t.STD_I32LE, space))
            dataset[:] = number
        group = h5py.h5g.create(file.id, b"\xe9")
        h5py.h5d.create(group, b"inside", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((2,)))
    formats: tuple[Literal[2, 3], ...] = (2, 3)
    for zarr_format in formats:
        report = convert(tmp_path / "a.h5", tmp_path / f"{zarr_format}.zarr", zarr_format=zarr_format, verify=True)
        assert report.skipped == ()
        arrays = {item.path: tmp_path / f"{zarr_format}.zarr" / item.target for item in report.converted}
        for number, name in enumerate(names):
            assert read(arrays[f"/{name.decode('utf-8', 'surrogateescape')}"]).tolist() == [number] * 2


@pytest.mark.slow
def test_byte_order_is_kept_in_another_process(tmp_path: Path) -> None:
    dtypes = [">M8[ns]", ">m8[s]", "<M8[ms]", ">f8", ">i2"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, dtype in enumerate(dtypes):
            values = np.arange(6).astype(dtype)
            opaque = values.astype(h5py.opaque_dtype(values.dtype)) if values.dtype.kind in "mM" else values
            file.create_dataset(f"x{number}", data=opaque, chunks=(4,))
    with dask.config.set(scheduler="processes", num_workers=2):
        report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", codecs="zstd:3", verify=True)
    assert report.complete
    for number, dtype in enumerate(dtypes):
        values = read(tmp_path / "a.zarr" / f"x{number}").astype(dtype)
        assert values.tobytes() == np.arange(6).astype(dtype).tobytes()


def test_a_target_may_be_a_file_url(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
    assert convert(tmp_path / "a.h5", f"file://{tmp_path}/a.zarr", verify=True).complete
    assert read(tmp_path / "a.zarr" / "x").tolist() == [0, 1, 2]


def test_a_report_that_cannot_be_written_is_refused_before_the_conversion(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
    for report in (tmp_path, tmp_path / "missing" / "report.json"):
        with pytest.raises(OptionError, match="no report can be written there"):
            convert(tmp_path / "a.h5", tmp_path / "a.zarr", report=report)
    assert not (tmp_path / "a.zarr").exists()


def test_the_targets_of_references_are_known_from_the_scan_and_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        groups = [file.create_group(f"g{i}/inner") for i in range(20)]
        file["refs"] = np.array([group.ref for group in groups], h5py.ref_dtype)
        file["refs"].attrs["first"] = groups[0].ref
        file["g0/again"] = groups[7]
    monkeypatch.setattr(h5py.h5r, "get_name", None)  # HDF5 would search the whole file for each
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify=True).exit_code == 0
    paths = zarr.open_array(tmp_path / "a.zarr" / "refs", mode="r")[:]
    assert list(np.asarray(paths)) == [f"/g{i}/inner" if i != 7 else "/g0/again" for i in range(20)]


def test_the_dimensions_of_a_group_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(30):
            made = file.create_dataset(f"group/d{i}", (2, 2), "i1")
            made.make_scale()
            made.attrs["_Netcdf4Coordinates"] = np.array([1000 + i, 2000 + i], "i4")
    listed: list[str] = []
    real = dimensions._read_group_ids  # noqa: SLF001 - how often it is called is what is tested

    def count(group: h5py.Group, resolve: Any) -> dict[int, tuple[str, str]]:
        listed.append(group.name)
        return real(group, resolve)

    monkeypatch.setattr(dimensions, "_read_group_ids", count)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert sorted(listed) == ["/", "/group"]
