"""The record of one of many files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from h5bound.combining.file_scan import FileScan, describe_file, write_json
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import Settings
from h5bound.planning.scan import scan_source
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from pathlib import Path


def scan(path: Path, *, dim: str | None = None) -> FileScan:
    source = H5Source.of(path)
    with source.opened() as opened:
        return describe_file(scan_source(source, opened, settings=Settings(), limits=Limits()), opened, dim=dim)


def write(path: Path, start: int = 0, *, level: int = 1) -> None:
    with h5py.File(path, "w") as file:
        file["time"] = np.arange(start, start + 4, dtype="f8")
        file["lat"] = np.arange(3, dtype="f4")
        data = np.arange(12.0).reshape(4, 3)
        file.create_dataset("g/t2m", data=data, chunks=(2, 3), compression="gzip", compression_opts=level)
        file["time"].make_scale("time")
        file["lat"].make_scale("lat")
        for axis, name in enumerate(("time", "lat")):
            file["g/t2m"].dims[axis].attach_scale(file[name])
        file["g/t2m"].attrs["units"] = "K"
        file["g"].attrs["note"] = "x"


def test_a_record_has_what_is_compared_and_where_chunks_are(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    found = scan(tmp_path / "a.h5")
    assert found.groups == {"/": {}, "/g": {"note": "x"}}
    variable = found.variables["/g/t2m"]
    assert (variable.shape, variable.schema.dimensions, variable.schema.dtype) == ((4, 3), ("time", "lat"), "<f8")
    assert variable.attributes == {"units": "K"}
    assert variable.manifest is not None
    assert variable.manifest.chunk_coords.tolist() == [[0, 0], [1, 0]]
    assert (variable.find_axis("lat"), variable.find_axis("x"), variable.values) == (1, None, None)


def test_files_that_can_be_joined_have_equal_schemas(tmp_path: Path) -> None:
    for name, start, level in (("a.h5", 0, 1), ("b.h5", 4, 1), ("c.h5", 8, 2)):
        write(tmp_path / name, start, level=level)
    one, two, three = (scan(tmp_path / name).variables["/g/t2m"].schema for name in ("a.h5", "b.h5", "c.h5"))
    assert one == two
    assert hash(one) == hash(two)
    assert one != three


def test_coordinates_are_kept_and_variables_without_the_dimension_are_digested(tmp_path: Path) -> None:
    for name, start in (("a.h5", 0), ("b.h5", 4)):
        write(tmp_path / name, start)
    one, two = (scan(tmp_path / name, dim="time").variables for name in ("a.h5", "b.h5"))
    np.testing.assert_array_equal(two["/time"].values, [4, 5, 6, 7])
    assert two["/time"].digest is two["/g/t2m"].digest is None
    assert one["/lat"].digest == two["/lat"].digest is not None
    every = scan(tmp_path / "a.h5").variables
    assert every["/time"].digest != scan(tmp_path / "b.h5").variables["/time"].digest
    assert every["/g/t2m"].digest is not None


def test_json_text_tells_types_apart_and_nan_equal() -> None:
    texts = {write_json(value) for value in ({"a": 1}, {"a": 1.0}, {"a": True}, {"a": float("nan")})}
    assert len(texts) == 4
    assert write_json({"a": 1, "b": float("nan")}) == write_json({"b": float("nan"), "a": 1})
