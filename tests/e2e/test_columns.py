"""Compounds as columns and sequences as values and offsets: what PyTables, pandas and h5py wrote is in the store."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Literal, cast

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from h5py import h5t

from h5bound import convert, from_hdf5, verify
from h5bound.errors import OptionError
from tests.support.raw_sequences import Memory, write_elements

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")

FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])
COMPOUNDS = pytest.mark.parametrize("compounds", ["struct", "columns"])

TABLES = """
import sys, numpy as np, tables
class Row(tables.IsDescription):
    time = tables.Time64Col()
    day = tables.Time32Col()
    matrix = tables.Float64Col(shape=(2, 3))
    label = tables.StringCol(5)
    flag = tables.BoolCol()
    class inner(tables.IsDescription):
        pair = tables.Int16Col(shape=(2,))
with tables.open_file(sys.argv[1], "w") as file:
    table = file.create_table("/", "table", Row, expectedrows=10)
    for i in range(5):
        row = table.row
        row["time"], row["day"], row["matrix"] = 1.5e9 + i + 0.25, 86400 * i, np.arange(6).reshape(2, 3) + i
        row["label"], row["flag"], row["inner/pair"] = f"r{i}", i % 2, [i, -i]
        row.append()
    pairs = file.create_vlarray("/", "pairs", atom=tables.Int32Atom(shape=(2,)))
    for item in ([[1, 2], [3, 4]], [[5, 6]]):
        pairs.append(item)
    table.flush()
    np.save(sys.argv[2], table.read(), allow_pickle=False)
"""


def run_writer(code: str, *arguments: Path) -> None:
    """Run a program that writes with another HDF5 library, in a process of its own."""
    pytest.importorskip("tables")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)], check=True)


def read_columns(group: zarr.Group, details: dict[str, Any]) -> Any:
    """Return a group of columns as a structured array: what the documentation says."""
    names = [member["name"] for member in details["type"]["members"]]
    columns = [cast("Any", group[name])[...] for name in names]
    return np.rec.fromarrays(columns, [(n, c.dtype, c.shape[1:]) for n, c in zip(names, columns, strict=True)])


@FORMATS
@COMPOUNDS
def test_a_table_of_pytables_is_what_pytables_reads(
    zarr_format: Literal[2, 3], compounds: Literal["struct", "columns"], tmp_path: Path
) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    run_writer(TABLES, source, tmp_path / "rows.npy")
    rows = np.load(tmp_path / "rows.npy")
    report = convert(source, target, zarr_format=zarr_format, compounds=compounds, verify=True)
    assert (report.exit_code, report.skipped) == (0, ())
    assert report.verification is not None
    assert report.verification.equal
    assert dict(report.forms) == {"columns": 1, "sequences": 1, "bytes": 1, "attribute": 3}  # empty titles
    table: Any = zarr.open_group(target, mode="r")["table"]
    for name in ("matrix", "label", "flag", "inner/pair"):
        expected = rows["inner"]["pair"] if name == "inner/pair" else rows[name]
        np.testing.assert_array_equal(table[name][...].astype(expected.dtype), expected)
    raw = table["time"][...]
    np.testing.assert_array_equal(raw.view("<i4").reshape(*raw.shape, 2) @ [1e-6, 1], rows["time"])
    np.testing.assert_array_equal(table["day"][...].view("<i4"), rows["day"])
    pairs: Any = zarr.open_group(target, mode="r")["pairs"]
    assert pairs["values"][...].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert pairs["offsets"][...].tolist() == [0, 2, 3]
    with xr.open_datatree(target, engine="zarr") as tree:
        np.testing.assert_array_equal(tree["table"]["matrix"], rows["matrix"])
    read = from_hdf5(source, "table").compute()
    assert read["time"].tobytes() == raw.tobytes()
    np.testing.assert_array_equal(read["matrix"], rows["matrix"])


PANDAS = """
import sys, pandas as pd
frame = pd.DataFrame({"a": [1, 2, 3], "b": [1.5, 2.0, 3.0], "c": ["x", "y", "zz"]}, index=[10, 20, 30])
frame.to_hdf(sys.argv[1], key="t", format="table")
frame.to_hdf(sys.argv[1], key="f", format="fixed")
"""


@FORMATS
def test_frames_of_pandas_turn_back_into_what_h5py_reads(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    run_writer(PANDAS, source)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    details = json.loads((target / "h5bound.json").read_text())["details"]
    store: Any = zarr.open_group(target, mode="r")
    with h5py.File(source) as file:
        expected = file["t/table"][...]
        rows = read_columns(store["t/table"], details["t/table"])
        assert all(np.array_equal(rows[name], expected[name]) for name in expected.dtype.names)
        assert np.array_equal(store["f/axis1"][...], file["f/axis1"][...])


@FORMATS
@COMPOUNDS
def test_nested_sequences_and_compounds_hold_what_h5py_reads(
    zarr_format: Literal[2, 3], compounds: Literal["struct", "columns"], tmp_path: Path
) -> None:
    text, ragged = h5py.string_dtype(), h5py.vlen_dtype(np.dtype(">i4"))
    rows = np.zeros((2, 2), [("x", "<f4"), ("words", text, (2,)), ("s", ragged), ("in", [("w", text), ("n", "<i2")])])
    rows["x"], rows["in"]["n"] = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    for i, index in enumerate(np.ndindex(2, 2)):
        rows["words"][index] = [f"a{i}", "é" * i]
        rows["s"][index] = np.arange(i, dtype=">i4")
        rows["in"]["w"][index] = f"w{i}"
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file.create_dataset("t", (4, 2), rows.dtype, chunks=(1, 2))[:2] = rows
        file.create_dataset("none", (0,), rows.dtype)
        file.create_dataset("one", (), rows.dtype)[()] = rows[1, 1]
    assert convert(source, target, zarr_format=zarr_format, compounds=compounds, verify=True).exit_code == 0
    table: Any = zarr.open_group(target, mode="r")["t"]
    assert table["x"][...].tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]
    assert table["in/n"][...].tolist() == [[5, 6], [7, 8], [0, 0], [0, 0]]
    assert table["in/w"][...].tolist() == [["w0", "w1"], ["w2", "w3"], ["", ""], ["", ""]]
    assert table["words"][1, 1].tolist() == ["a3", "ééé"]
    assert table["s/offsets"][...].tolist() == [0, 0, 1, 3, 6, 6, 6, 6, 6]
    assert table["s/values"][...].tolist() == [0, 0, 1, 0, 1, 2]
    assert table["x"].chunks == (4, 2)
    one: Any = zarr.open_group(target, mode="r")["one"]
    assert (float(one["x"][...]), one["s/values"][...].tolist()) == (4.0, [0, 1, 2])
    assert convert(source, target, zarr_format=zarr_format, compounds=compounds, resume=True).exit_code == 0
    offsets: Any = zarr.open_group(target, mode="r+")["t/s/values"]
    offsets[5] = 9
    assert [item.path for item in verify(source, target).differences] == ["/t"]


@FORMATS
def test_sequences_of_sequences_and_of_compounds_with_text(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    source, target, memory = tmp_path / "a.h5", tmp_path / "a.zarr", Memory()
    number = h5t.STD_I32LE
    lists = [[[1, 2], [], [3]], [], [[4]]]
    text = h5t.py_create(h5py.string_dtype(), logical=True)
    pair = h5t.create(h5t.COMPOUND, 4 + text.get_size())
    pair.insert(b"k", 0, number)
    pair.insert(b"w", 4, text)
    nested = h5t.vlen_create(number)
    with h5py.File(source, "w") as file:
        rows = [[memory.sequence(number, np.array(inner, "<i4").tobytes()) for inner in row] for row in lists]
        elements = [memory.sequence(nested, b"".join(row)) for row in rows]
        write_elements(file, "lists", h5t.vlen_create(nested), elements, chunks=2)
        items = np.int32(7).tobytes() + memory.text("é"), np.int32(8).tobytes() + memory.text("bc")
        pairs = [
            memory.sequence(pair, items[0] + items[1]),
            memory.sequence(pair, b""),
            memory.sequence(pair, items[1]),
        ]
        write_elements(file, "pairs", h5t.vlen_create(pair), pairs)
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    store: Any = zarr.open_group(target, mode="r")
    assert store["lists/offsets"][...].tolist() == [0, 3, 3, 4]
    assert store["lists/values/offsets"][...].tolist() == [0, 2, 2, 3, 4]
    assert store["lists/values/values"][...].tolist() == [1, 2, 3, 4]
    assert store["pairs/offsets"][...].tolist() == [0, 2, 2, 3]
    assert store["pairs/values/k"][...].tolist() == [7, 8, 8]
    assert store["pairs/values/w"][...].tolist() == ["é", "bc", "bc"]
    assert [row.tolist() for row in from_hdf5(source, "pairs").compute()] == [
        [(7, "é".encode()), (8, b"bc")],
        [],
        [(8, b"bc")],
    ]


def test_a_text_that_is_too_long_for_a_struct_makes_columns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        rows = np.array([("x" * 20_000, 1), ("", 2)], [("text", h5py.string_dtype()), ("n", "<i4")])
        file.create_dataset("t", data=rows)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify=True)
    assert (report.exit_code, dict(report.forms)) == (0, {"columns": 1})
    table: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")["t"]
    assert [len(item) for item in table["text"][...].tolist()] == [20_000, 0]


def test_chunks_and_shards_apply_to_columns_with_as_many_axes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("t", (100,), np.dtype([("a", "<i4"), ("m", "<f4", (3,))]), chunks=(10,))[:50] = (
            1,
            [1, 2, 3],
        )
    options: Any = {"chunks": {"/t": (20,), "*": (30, 3)}, "shards": {"/t": (40,)}, "verify": True}
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", **options).exit_code == 0
    table: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")["t"]
    assert (table["a"].chunks, table["a"].shards) == ((20,), (40,))
    assert table["m"].chunks == (30, 3)
    assert int(table["a"][...].sum()) == 50


def test_a_glob_for_one_column_names_the_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = np.zeros(3, [("a", "i4"), ("b", "i4", (2,))])
    with pytest.raises(OptionError, match="the arrays that /table becomes are named by its path, /table"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks={"/table/a": (2,)})
