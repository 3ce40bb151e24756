"""Members of compounds have one order, whatever HDF5 has done to the type of an open dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from h5py import h5a, h5d, h5s, h5t

import h5bound
from h5bound.hdf5.datatypes import read_type
from h5bound.hdf5.type_json import type_to_json
from h5bound.reports.conversion import ALREADY_COMPLETE

ROWS = np.array([(100, 1, 7), (101, 2, 8), (102, 3, 9)], [("a", "<i4"), ("b", "u1"), ("c", "u1")])
IN_FILE = ["b", "a", "c"]


def make_type() -> h5t.TypeID:
    """Return a compound that is not stored in the order of its offsets, and that no read leaves unconverted."""
    nibble = h5t.STD_U8LE.copy()
    nibble.set_precision(4)
    members = {"a": (0, h5t.STD_I32LE), "b": (4, nibble), "c": (5, h5t.STD_U8LE)}
    compound = h5t.create(h5t.COMPOUND, 8)
    for name in IN_FILE:
        compound.insert(name.encode(), *members[name])
    return compound


LAYOUT = np.dtype({"names": ["a", "b", "c"], "formats": ["<i4", "u1", "u1"], "offsets": [0, 4, 5], "itemsize": 8})

PADDED = np.array(ROWS.tolist(), LAYOUT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with a table, alone, with text, in an array type, in a compound, in sequences, as an attribute."""
    path, compound = tmp_path / "order.h5", make_type()
    outer = h5t.create(h5t.COMPOUND, 16)
    outer.insert(b"n", 8, compound)
    outer.insert(b"m", 0, h5t.STD_I64LE)
    text = h5t.create(h5t.COMPOUND, 24)
    text.insert(b"n", 8, compound)
    text.insert(b"t", 16, h5t.py_create(h5py.string_dtype(), logical=True))
    text.insert(b"m", 0, h5t.STD_I64LE)
    with h5py.File(path, "w") as file:
        space = h5s.create_simple((3,))
        h5d.create(file.id, b"plain", compound, space).write(h5s.ALL, h5s.ALL, PADDED)
        pairs = h5d.create(file.id, b"pairs", h5t.array_create(compound, (3,)), h5s.create_simple((1,)))
        pairs.write(h5s.ALL, h5s.ALL, PADDED, h5t.array_create(h5t.py_create(LAYOUT), (3,)))
        nested = np.zeros(3, np.dtype([("m", "<i8"), ("n", LAYOUT)]))
        nested["m"], nested["n"] = [5, 6, 7], PADDED
        h5d.create(file.id, b"nested", outer, space).write(h5s.ALL, h5s.ALL, nested)
        texts = np.zeros(3, np.dtype([("m", "<i8"), ("n", LAYOUT), ("t", h5py.string_dtype())]))
        texts["m"], texts["n"], texts["t"] = [5, 6, 7], PADDED, ["x", "yy", "zzz"]
        h5d.create(file.id, b"texts", text, space).write(h5s.ALL, h5s.ALL, texts)
        sequences = np.empty(1, h5py.vlen_dtype(LAYOUT))
        sequences[0] = PADDED
        h5d.create(file.id, b"sequences", h5t.vlen_create(compound), h5s.create_simple((1,))).write(
            h5s.ALL, h5s.ALL, sequences
        )
        h5a.create(file.id, b"rows", compound, space).write(PADDED)
    return path


@pytest.fixture(params=["not read yet", "sorted by HDF5"])
def opened(path: Path, request: pytest.FixtureRequest) -> Iterator[h5py.File]:
    """Yield the file, with its datasets as they are stored, or after reads that sort their types in place."""
    with h5py.File(path) as file:
        held = list(file.values())
        assert file["plain"].dtype.names == tuple(IN_FILE)
        if request.param != "not read yet":
            for dataset in held:
                dataset[...]
            assert h5py.Dataset(h5d.open(file.id, b"plain")).dtype.names == ("a", "b", "c")
        yield file


def test_types_are_told_in_one_order(opened: h5py.File) -> None:
    for name, dataset in opened.items():
        json = str(type_to_json(read_type(dataset.id)))
        assert json.index("'a'") < json.index("'b'") < json.index("'c'"), name


def test_arrays_outlive_reads_that_sort_the_type(opened: h5py.File) -> None:
    array = h5bound.from_hdf5(opened, "plain")
    assert array.dtype.names == ("a", "b", "c")
    for _ in range(2):
        np.testing.assert_array_equal(array.compute(), PADDED)
    np.testing.assert_array_equal(h5bound.from_hdf5(opened, "pairs").compute(), PADDED[np.newaxis])
    nested = h5bound.from_hdf5(opened, "nested").compute()
    assert nested.dtype.names == ("m", "n")
    np.testing.assert_array_equal(nested["n"], PADDED)
    texts = h5bound.from_hdf5(opened, "texts").compute()
    assert texts.dtype.names == ("m", "n", "t")
    assert texts["t"].tolist() == [b"x", b"yy", b"zzz"]
    np.testing.assert_array_equal(texts["n"], PADDED)
    sequences = h5bound.from_hdf5(opened, "sequences").compute()
    np.testing.assert_array_equal(sequences[0], PADDED)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stores_are_the_same_before_and_after(opened: h5py.File, tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    store = tmp_path / "order.zarr"
    assert h5bound.convert(opened, store, zarr_format=zarr_format).complete
    for dataset in list(opened.values()):
        dataset[...]
    assert h5bound.verify(opened, store).equal
    np.testing.assert_array_equal(zarr.open_array(store, path="plain")[...], ROWS)
    again = h5bound.convert(opened, store, zarr_format=zarr_format, resume=True)
    assert again.remark == ALREADY_COMPLETE


def test_the_engine_reads_by_name(opened: h5py.File, path: Path) -> None:
    opened["plain"][...]
    dataset = xr.open_dataset(path, engine="h5bound", phony_dims="sort", drop_variables=["sequences"])
    assert dataset["plain"].dtype.names == ("a", "b", "c")
    np.testing.assert_array_equal(dataset["plain"].values, PADDED)
    np.testing.assert_array_equal(dataset["nested"].values["n"], PADDED)
