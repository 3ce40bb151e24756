"""Every attribute is stored exactly or skipped with a reason, and xarray sees what it sees in the file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import h5py
import numpy as np
import pytest
import xarray as xr
from h5py import h5a, h5s, h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.dimension_scales import is_netcdf
from h5bound.hdf5.hierarchy import read_hierarchy
from h5bound.hdf5.type_json import TEXT_TYPE
from h5bound.stores.differences import list_differing_parts
from h5bound.verification.nodes import compare_attributes
from h5bound.zarr_model.attribute_values import LARGE_NBYTES, value_from_json
from h5bound.zarr_model.attributes import read_attributes
from h5bound.zarr_model.dimension_names import name_dimensions
from h5bound.zarr_model.fill_values import fill_attribute_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from h5bound.zarr_model.attributes import AttributesRecord

Format = Literal[2, 3]
FORMATS = [pytest.param(3, id="v3"), pytest.param(2, id="v2")]
PAYLOAD = np.array([0x7FC00001, 0x3F800000], "<u4").view("<f4")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        yield opened


def through_json(record: AttributesRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return values and details after a round trip through JSON in UTF-8."""
    values = json.dumps(record.values, ensure_ascii=False)
    details = json.dumps(record.details, ensure_ascii=False, allow_nan=False)
    return json.loads(values.encode()), json.loads(details.encode())


def find_differences(
    item: h5py.Group, values: dict[str, Any], details: dict[str, Any] | None = None, **options: Any
) -> list[str]:
    """Return how attributes and details of a store differ from those of an object."""
    record = read_attributes(item, **options)
    parts = list_differing_parts(details or {}, record.details)
    differences = compare_attributes(item, values, record.values, details=record.details)
    return [f"{name}: {text}" for name, text in differences] + [f"{part!r} in the details" for part in parts]


def write_raw(item: h5py.Group, name: bytes, tid: h5t.TypeID, raw: bytes, shape: tuple[int, ...] = ()) -> None:
    """Write an attribute of any type from bytes."""
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    held = np.frombuffer(bytearray(raw), np.dtype(("V", tid.get_size()))).reshape(shape)
    h5a.create(item.id, name, tid, space).write(held, tid)


@dataclass(frozen=True)
class Case:
    """One attribute value that is stored under its own name."""

    id: str
    value: Any
    json: Any
    entry: dict[str, Any] | None = None
    """Its entry in the details; None for none."""
    dtype: Any = None


TEXT_4 = {"class": "string", "nbytes": 4, "strpad": "null-padded", "cset": "ascii"}
ARRAY_3 = {"class": "array", "shape": [3], "base": "<i8"}
CASES = [
    Case("int64", np.int64(-(2**63)), -(2**63)),
    Case("uint64", np.uint64(2**64 - 1), 2**64 - 1, {"type": "<u8"}),
    Case("int16-big", np.array(5, ">i2"), 5, {"type": ">i2"}),
    Case("float64", 0.1, 0.1),
    Case("float64-whole", 1.0, 1.0),
    Case("float32", np.float32(0.1), 0.10000000149011612, {"type": "<f4"}),
    Case("float16", np.float16(0.1), 0.0999755859375, {"type": "<f2"}),
    Case("minus-zero", -0.0, -0.0),
    Case("bool", True, True),
    Case("bools", np.array([True, False]), [True, False]),
    Case("array", np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    Case("array-of-one", np.array([5]), [5]),
    Case("nan", np.nan, np.nan, {"type": "<f8"}),
    Case("infinities", np.array([np.inf, -np.inf, 1.5]), [np.inf, -np.inf, 1.5], {"type": "<f8"}),
    Case("nan-payload", PAYLOAD, [np.nan, 1.0], {"type": "<f4", "base64": "AQDAfwAAgD8="}),
    Case("zero-size", np.zeros((0,), "<i4"), [], {"type": "<i4"}),
    Case("zero-size-2d", np.zeros((0, 3)), [], {"type": "<f8", "shape": [0, 3]}),
    Case("string", "né", "né"),
    Case("string-empty", "", ""),
    Case("string-that-says-nan", "NaN", "NaN"),
    Case("string-ascii", "abc", "abc", {"type": {**cast("dict[str, Any]", TEXT_TYPE), "cset": "ascii"}}, "ascii"),
    Case("strings", ["a", "é"], ["a", "é"]),
    Case("strings-2d", np.array([["a"], ["b"]], object), [["a"], ["b"]]),
    Case("fixed-string", np.bytes_(b"abcd"), "abcd", {"type": TEXT_4}),
    Case("fixed-strings", np.array([b"ab", b"abcd"]), ["ab", "abcd"], {"type": TEXT_4}),
    Case("array-type", np.zeros((2, 3), "<i8"), [[0, 0, 0], [0, 0, 0]], {"type": ARRAY_3}, np.dtype(("<i8", (3,)))),
]


def name_axes(record: AttributesRecord) -> tuple[str | None, ...] | None:
    """Return the names that dimension scales give, None if there are none."""
    return record.dimensions.names if record.dimensions is not None and any(record.dimensions.names) else None


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_a_value_that_json_can_express_is_under_its_own_name(case: Case, file: h5py.File) -> None:
    if case.dtype == "ascii":
        file.attrs.create("x", case.value, dtype=h5py.string_dtype("ascii"))
    elif case.dtype is not None:
        file.attrs.create("x", case.value, shape=(2, 3), dtype=case.dtype)
    else:
        file.attrs["x"] = case.value
    record = read_attributes(file)
    values, details = through_json(record)
    assert json.dumps(values) == json.dumps({"x": case.json})
    assert details.get("attributes", {}).get("x") == case.entry
    assert find_differences(file, values, details) == []
    if h5py.check_string_dtype(file.attrs.get_id("x").dtype) is None:
        raw = np.asarray(file.attrs["x"])
        back = value_from_json(values["x"], case.entry or {}, raw.dtype)
        assert back is not None
        assert (back.shape, back.tobytes()) == (raw.shape, raw.tobytes())


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.array([np.inf, 1.0]), PAYLOAD], ids=repr)
@pytest.mark.parametrize("nan", ["literal", "text"])
def test_floats_that_are_not_finite_are_literals_or_text_and_noted(value: Any, nan: str, file: h5py.File) -> None:
    file.attrs["x"] = value
    record = read_attributes(file, nan=nan)
    values, details = through_json(record)
    flat = values["x"] if isinstance(values["x"], list) else [values["x"]]
    assert isinstance(flat[0], str if nan == "text" else float)
    assert np.array_equal([float(item) for item in flat], np.atleast_1d(value), equal_nan=True)
    raw = np.asarray(value)
    back = value_from_json(values["x"], details["attributes"]["x"], raw.dtype)
    assert back is not None
    assert (back.shape, back.tobytes()) == (raw.shape, raw.tobytes())
    assert len(record.notes) == 1
    assert list(compare_attributes(file, values, record.values, details=record.details)) == []


def test_a_fill_value_of_format_2_is_text_since_readers_take_that_of_the_array(file: h5py.File) -> None:
    dataset = file.create_dataset("d", data=[1.0])
    dataset.attrs["_FillValue"] = np.nan
    record = read_attributes(dataset, zarr_format=2)
    assert (record.values, record.notes) == ({"_FillValue": "NaN"}, [])


COMPOUND = np.dtype([("a", "<i4"), ("s", h5py.string_dtype())])
PLAIN = np.dtype([("a", "<i4"), ("b", "S2"), ("c", "<c8")])
SHOWN = [
    pytest.param(1 - 2j, "1-2j", "AAAAAAAA8D8AAAAAAAAAwA==", id="complex"),
    pytest.param(np.array([1 + 2j, 3 + 4j], "c8"), ["1+2j", "3+4j"], "AACAPwAAAEAAAEBAAACAQA==", id="complex numbers"),
    pytest.param(np.void(b"\x00\xff"), "0x00ff", "AP8=", id="opaque"),
    pytest.param(np.array((1, b"\xb0C", 1j), PLAIN), '{"a": 1, "b": "°C", "c": "1j"}', None, id="compound"),
    pytest.param(np.array([(1, "né")], COMPOUND), ['{"a": 1, "s": "né"}'], [{"a": 1, "s": "né"}], id="with string"),
    pytest.param(np.bytes_(b"\xb0C"), "°C", ["sEM="], id="fixed text in Latin-1"),
    pytest.param(np.array([b"\x81", b"m"]), ["\x81", "m"], ["gQ==", "bQ=="], id="not even Windows-1252"),
    pytest.param(np.array(b"\xb0C", object), "°C", ["sEM="], id="text in Latin-1"),
    pytest.param(np.array([b"\xb0C", "é".encode()], object), ["°C", "é"], ["sEM=", "w6k="], id="one of two texts"),
    pytest.param(np.datetime64(5, "s"), "1970-01-01T00:00:05", "BQAAAAAAAAA=", id="time"),
    pytest.param(np.array([5, 6], "m8[h]"), ["5 hours", "6 hours"], None, id="durations"),
    pytest.param(np.longdouble("0.1"), 0.1, None, id="long double"),
]


def write_shown(file: h5py.File, name: str, value: np.ndarray[Any, Any]) -> None:
    """Write an attribute; bytes among Python objects are text of variable length."""
    dtype = h5py.string_dtype("ascii") if value.dtype.kind == "O" else value.dtype
    if value.dtype.kind in "mM":
        dtype = h5py.opaque_dtype(value.dtype)
    file.attrs.create(name, value.astype(dtype), dtype=dtype)


@pytest.mark.parametrize(("value", "shown", "exact"), SHOWN)
def test_a_value_that_json_cannot_express_is_shown_and_its_bits_are_in_the_details(
    value: Any, shown: Any, exact: Any, file: h5py.File
) -> None:
    raw = np.asarray(value)
    write_shown(file, "x", raw)
    record = read_attributes(file)
    values, details = through_json(record)
    assert values["x"] == shown
    entry = details["attributes"]["x"]
    assert exact in (entry.get("base64"), entry.get("value"), None)
    assert [(note.kind, note.attribute) for note in record.notes if note.kind] == [("attribute", "x")]
    if not raw.dtype.hasobject:
        back = value_from_json(None, entry, file.attrs.get_id("x").dtype)
        assert back is not None
        assert back.tobytes() == raw.tobytes()
    assert find_differences(file, values, details) == []
    values["x"] = "another"
    assert find_differences(file, values, details) != []
    values["x"], entry["shape"] = shown, [7]
    assert find_differences(file, values, details) != []


def test_xarray_writes_what_is_shown(file: h5py.File, tmp_path: Path) -> None:
    for i, case in enumerate(SHOWN):
        write_shown(file, f"x{i}", np.asarray(case.values[0]))
    write_raw(file, b"time", h5t.UNIX_D32LE, b"\1\2\3\4")
    values = read_attributes(file).values
    data = xr.Dataset(attrs=values)
    for engine in ("h5netcdf", "netcdf4"):
        data.to_netcdf(tmp_path / f"{engine}.nc", engine=engine)
    data.to_zarr(tmp_path / "a.zarr")
    assert len(values) == len(SHOWN) + 1


def test_enum_values_are_under_their_name_and_the_names_in_the_details(file: h5py.File) -> None:
    dtype = h5py.enum_dtype({"RED": 1, "GREEN": 2}, basetype="<i2")
    file.attrs.create("x", 2, dtype=dtype)
    values, details = through_json(read_attributes(file))
    assert values["x"] == 2
    members = {"RED": 1, "GREEN": 2}
    assert details["attributes"]["x"] == {"type": {"class": "enum", "base": "<i2", "members": members}}
    assert find_differences(file, values, details) == []


@pytest.mark.parametrize(
    ("dtype", "json_"), [("S1", ""), ("<f4", []), (h5py.string_dtype(), [])], ids=["char", "float32", "string"]
)
def test_a_null_dataspace_differs_from_an_empty_array(dtype: Any, json_: Any, file: h5py.File) -> None:
    file.attrs["x"] = h5py.Empty(np.dtype(dtype))
    values, details = through_json(read_attributes(file))
    assert values == {"x": json_}
    assert details["attributes"]["x"]["shape"] is None
    assert find_differences(file, values, details) == []


@pytest.mark.parametrize(
    ("base", "sequences", "json_"),
    [
        pytest.param(">i2", [[1, 258], []], [[1, 258], []], id="big-endian"),
        pytest.param(h5py.string_dtype(), [["é"], ["a", ""]], [["é"], ["a", ""]], id="strings"),
        pytest.param("<f8", [[np.nan], [1.0]], [["NaN"], [1.0]], id="with NaN"),
    ],
)
def test_sequences_are_nested_lists(base: Any, sequences: Any, json_: Any, file: h5py.File) -> None:
    base = np.dtype(base)
    held = np.empty(2, object)
    held[:] = [np.array(sequence, base) for sequence in sequences]
    file.attrs.create("x", held, dtype=h5py.vlen_dtype(base))
    values, details = through_json(read_attributes(file))
    assert details["attributes"]["x"]["value"] == json_
    assert [json.loads(part) for part in values["x"]] == json_
    assert find_differences(file, values, details) == []


def test_bools_keep_bytes_that_are_neither_0_nor_1(file: h5py.File) -> None:
    bool_type = h5t.py_create(np.dtype("?"))
    write_raw(file, b"x", bool_type, b"\x00\x01\x5a", (3,))
    write_raw(file, b"y", bool_type, b"\x5a")
    values, details = through_json(read_attributes(file))
    assert values == {"x": [False, True, True], "y": True}
    assert details["attributes"]["x"] == {"type": "bool", "base64": "AAFa"}
    assert find_differences(file, values, details) == []


def test_one_sequence_is_a_list(file: h5py.File) -> None:
    held = np.empty((), object)
    held[()] = np.array([1, 2], "i4")
    h5a.create(file.id, b"x", h5t.vlen_create(h5t.STD_I32LE), h5s.create(h5s.SCALAR)).write(held)
    file.attrs.create("y", held.reshape(1), dtype=h5py.vlen_dtype("i4"))
    assert read_attributes(file).values["x"] == [1, 2]
    assert read_attributes(file, netcdf=True).values["y"] == [1, 2]
    assert read_attributes(file, netcdf=False).values["y"] == ["[1, 2]"]


def test_references_name_their_target(file: h5py.File) -> None:
    target = file.create_group("g/é")
    file.attrs["one"] = target.ref
    file.attrs.create("many", np.array([file.ref, h5py.Reference()], h5py.ref_dtype), dtype=h5py.ref_dtype)
    values, details = through_json(read_attributes(file, hdmf=True))
    assert values["one"] == {"_REFERENCE": {"source": ".", "path": "/g/é"}}
    assert [item["_REFERENCE"]["path"] for item in values["many"]] == ["/", ""]
    assert details == {}
    assert find_differences(file, values, hdmf=True) == []


def test_what_h5py_cannot_read_is_skipped_by_itself(file: h5py.File) -> None:
    file.attrs["before"] = 1
    h5a.create(file.id, b"regions", h5t.vlen_create(h5t.STD_REF_DSETREG), h5s.create_simple((2,)))
    file.attrs["zone"] = 2
    record = read_attributes(file)
    assert record.values == {"before": 1, "zone": 2}
    assert "region references" in dict(record.skipped)["regions"]


def test_what_h5py_has_no_type_for_is_shown_in_hexadecimal(file: h5py.File) -> None:
    write_raw(file, b"time", h5t.UNIX_D32LE, b"\1\2\3\4")
    write_raw(file, b"int24", resized(h5t.STD_I32LE, 3), bytes(range(6)), (2,))
    write_raw(file, b"times", h5t.array_create(h5t.UNIX_D32LE, (2,)), bytes(8))
    record = read_attributes(file)
    values, details = through_json(record)
    assert values == {"time": "0x01020304", "int24": ["0x000102", "0x030405"], "times": ["0x00000000"] * 2}
    entries = details["attributes"]
    assert entries["time"] == {
        "type": {"class": "time", "nbytes": 4, "order": "little"},
        "shape": [],
        "base64": "AQIDBA==",
    }
    assert (record.skipped, find_differences(file, values, details)) == ([], [])


def test_region_references_are_text_with_a_path_and_a_selection(file: h5py.File) -> None:
    dataset = file.create_dataset("é/d", (4, 5), "<i4")
    file.attrs["one"] = dataset.regionref[:2, 1:]
    held = np.array([dataset.regionref[...], h5py.RegionReference()], h5py.regionref_dtype)
    file.attrs.create("many", held, dtype=h5py.regionref_dtype)
    values, details = through_json(read_attributes(file))
    assert json.loads(values["one"]) == {"path": "/é/d", "start": [0, 1], "count": [2, 4]}
    assert values["many"] == ['{"path": "/é/d"}', ""]
    assert find_differences(file, values, details) == []


@pytest.mark.parametrize("netcdf", [False, True])
def test_references_are_text_where_hdmf_does_not_read_them(netcdf: bool, file: h5py.File) -> None:
    file.attrs["x"] = file.create_group("g").ref
    file.attrs.create("many", np.array([file.ref, h5py.Reference()], h5py.ref_dtype), dtype=h5py.ref_dtype)
    record = read_attributes(file, netcdf=netcdf)
    values, details = through_json(record)
    assert values == {"x": "/g", "many": ["/", ""]}
    assert details["attributes"]["x"]["value"] == {"_REFERENCE": {"source": ".", "path": "/g"}}
    assert [(note.kind, note.attribute) for note in record.notes] == [
        ("reference_attribute", "many"),
        ("reference_attribute", "x"),
    ]
    assert find_differences(file, values, details, netcdf=netcdf) == []


def resized(tid: h5t.TypeID, size: int) -> h5t.TypeID:
    """Return a copy of a type with another size."""
    tid = tid.copy()
    tid.set_size(size)
    return tid


def test_a_reference_to_a_deleted_object_is_skipped(file: h5py.File) -> None:
    file.attrs["gone"] = file.create_group("g").ref
    del file["g"]
    assert dict(read_attributes(file).skipped).keys() == {"gone"}


def test_an_opaque_value_with_a_tag_that_h5py_refuses_is_read_as_bytes(file: h5py.File) -> None:
    tid = h5t.create(h5t.OPAQUE, 2)
    tid.set_tag(b"mine")
    write_raw(file, b"x", tid, b"\x01\x02\x03\x04", (2,))
    values, details = through_json(read_attributes(file))
    assert details["attributes"]["x"] == {
        "type": {"class": "opaque", "nbytes": 2, "tag": "mine"},
        "shape": [2],
        "base64": "AQIDBA==",
    }
    assert find_differences(file, values, details) == []


def test_a_long_double_keeps_its_bytes(file: h5py.File) -> None:
    file.attrs["x"] = np.longdouble(1) / 3
    values, details = through_json(read_attributes(file))
    assert details["attributes"]["x"]["type"]["class"] == "float"
    assert find_differences(file, values, details) == []


@pytest.mark.parametrize("name", ["_ARRAY_DIMENSIONS", "_LINKS", "_DTYPE"])
def test_a_name_with_a_meaning_in_the_store_does_not_collide(name: str, file: h5py.File) -> None:
    file.attrs[name] = "mine"
    record = read_attributes(file)
    values, details = through_json(record)
    assert (values, details) == ({}, {"attributes": {name: {"value": "mine"}}})
    assert len(record.notes) == 1
    assert find_differences(file, values, details) == []


def test_an_attribute_named_reference_is_an_ordinary_one(file: h5py.File) -> None:
    file.attrs["_REFERENCE"] = "x"
    assert read_attributes(file).values == {"_REFERENCE": "x"}


def test_a_name_that_is_not_utf8_keeps_its_bytes(file: h5py.File) -> None:
    write_raw(file, b"caf\xe9", h5t.STD_I32LE, b"\x05\0\0\0")
    values, details = through_json(read_attributes(file))
    entry = {"name": {"base64": "Y2Fm6Q=="}, "value": 5, "type": "<i4"}
    assert (values, details) == ({"café": 5}, {"odd_names": [entry]})
    assert find_differences(file, values, details) == []
    details["odd_names"][0]["value"] = 6
    assert find_differences(file, values, details) == ["'odd_names' in the details"]


def test_another_attribute_keeps_its_name_where_one_that_is_not_utf8_is_shown_alike(file: h5py.File) -> None:
    write_raw(file, b"caf\xe9", h5t.STD_I32LE, b"\x05\0\0\0")
    file.attrs["café"] = 6
    record = read_attributes(file)
    assert record.values["café"] == 6
    assert "not shown" in record.notes[0].note
    assert find_differences(file, record.values, record.details) == []


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        pytest.param({"x": 1}, "x", id="int instead of float"),
        pytest.param({"x": 1.5}, "x", id="another value"),
        pytest.param({}, "x", id="missing"),
        pytest.param({"x": [1.0]}, "x", id="another shape"),
    ],
)
def test_a_difference_is_named(stored: dict[str, Any], named: str, file: h5py.File) -> None:
    file.attrs["x"] = 1.0
    assert find_differences(file, {"x": 1.0}) == []
    found = find_differences(file, stored)
    assert len(found) == 1
    assert found[0].startswith(f"{named}: ")


def test_details_that_are_missing_are_a_difference(file: h5py.File) -> None:
    file.attrs["x"] = np.float32(1)
    values, details = through_json(read_attributes(file))
    assert find_differences(file, values, details) == []
    assert find_differences(file, values, {}) == ["'attributes' in the details"]


@pytest.mark.slow
def test_large_numbers_are_kept_as_bytes_without_a_python_object_each(tmp_path: Path) -> None:
    values = np.arange(12_500_000, dtype="<f8")
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.attrs["x"] = values
        begin = time.perf_counter()
        record = read_attributes(file)
        seconds = time.perf_counter() - begin
        entry = record.details["attributes"]["x"]
        assert values.nbytes > LARGE_NBYTES
        assert len(entry["base64"]) < 1.34 * values.nbytes
        assert seconds < 5
        assert find_differences(file, record.values, record.details) == []


def test_attributes_are_in_creation_order_where_the_file_has_it(file: h5py.File) -> None:
    group = file.create_group("g", track_order=True)
    for name in "zab":
        group.attrs[name] = 1
    assert list(read_attributes(group).values) == ["z", "a", "b"]


# _FillValue


@pytest.mark.parametrize(
    ("attribute", "dtype"),
    [
        pytest.param(np.array([1, 2], "<i4"), "<i4", id="two numbers"),
        pytest.param(np.array([np.nan]), "<i4", id="NaN for integers"),
        pytest.param(np.array([b"x"]), "S1", id="char"),
        pytest.param(np.array([1]), "<M8[s]", id="for datetimes"),
        pytest.param(None, "<f4", id="null"),
    ],
)
def test_a_fill_value_with_which_xarray_cannot_open_the_store_is_refused(attribute: Any, dtype: str) -> None:
    with pytest.raises(UnsupportedError):
        fill_attribute_to_json(attribute, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["<i2", "<u8", "<f4", ">f8", "<c8", "?"])
def test_xarray_decodes_the_fill_value_that_h5bound_writes(dtype: str) -> None:
    from xarray.backends.zarr import FillValueCoder

    value = np.array([1], dtype)
    json_ = json.loads(json.dumps(fill_attribute_to_json(value, np.dtype(dtype))))
    assert FillValueCoder.decode(json_, np.dtype(dtype)) == value[0]


# Dimensions


def test_a_float32_scale_factor_is_noted_because_json_has_no_such_type(file: h5py.File) -> None:
    dataset = file.create_dataset("d", (2,), "<i2")
    dataset.attrs["scale_factor"] = np.float32(0.1)
    assert "float64" in read_attributes(dataset).notes[0].note
    dataset.attrs["scale_factor"] = 0.1
    assert read_attributes(dataset).notes == []


def test_a_bare_dimension_is_noted_and_named(file: h5py.File) -> None:
    dataset = file.create_dataset("time", (3,), "<f4")
    dataset.make_scale("This is a netCDF dimension but not a netCDF variable.         3")
    record = read_attributes(dataset)
    assert record.dimensions is not None
    assert record.dimensions.bare
    assert record.values == {}
    assert [note.note for note in record.notes] == ["netCDF dimension without a variable"]
    assert name_dimensions({"time": record.dimensions}).names == {}


def test_all_that_scales_say_is_in_the_names_or_the_details(file: h5py.File) -> None:
    file["x"] = np.arange(3)
    file["also"] = np.arange(3)
    file["x"].make_scale("ex")
    file["also"].make_scale()
    data = file.create_dataset("d", (2, 3), "<f4")
    data.dims[1].attach_scale(file["x"])
    data.dims[1].attach_scale(file["also"])
    data.dims[0].label = "rows"
    record = read_attributes(data)
    assert name_axes(record) == (None, "also")
    assert record.details["dimension_list"] == [[], ["/x", "/also"]]
    assert record.values == {"DIMENSION_LABELS": ["rows", ""]}
    scale = read_attributes(file["x"])
    assert (scale.values, name_axes(scale)) == ({}, ("x",))
    assert scale.details["scale"] == "ex"
    assert is_netcdf(file, read_hierarchy(file).datasets)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("NAME", "metres along the beam", "metres along the beam"),
        ("NAME", np.bytes_(b"abc"), "abc"),
        ("NAME", 5, 5),
        ("NAME", np.array([b"a", b"b"]), ["a", "b"]),
        ("REFERENCE_LIST", "mine", "mine"),
    ],
    ids=str,
)
def test_scale_attributes_that_hdf5_did_not_write_are_ordinary_attributes(
    file: h5py.File, name: str, value: Any, kept: Any
) -> None:
    file["x"] = np.arange(3)
    file["x"].make_scale("as it was")
    file["x"].attrs[name] = value
    record = read_attributes(file["x"])
    assert record.values == {name: kept}
    assert record.details["scale"] == ("" if name == "NAME" else "as it was")
    assert name_axes(record) == ("x",)


def test_dimension_ids_that_netcdf_did_not_write_are_ordinary_attributes(file: h5py.File) -> None:
    dataset = file.create_dataset("x", (2, 2), "<f4")
    dataset.attrs["_Netcdf4Dimid"] = np.uint8(3)
    dataset.attrs["_Netcdf4Coordinates"] = np.array([0, 1], ">i8")
    record = read_attributes(dataset)
    assert record.values == {"_Netcdf4Dimid": 3, "_Netcdf4Coordinates": [0, 1]}
    dataset.attrs["_Netcdf4Dimid"] = np.int32(3)
    assert read_attributes(dataset).details["_Netcdf4Dimid"] == 3


def test_attributes_that_only_look_like_scales_are_kept(file: h5py.File) -> None:
    dataset = file.create_dataset("image", (2, 2), "u1")
    dataset.attrs["CLASS"] = np.bytes_("IMAGE")
    dataset.attrs["NAME"] = "n"
    dataset.attrs["DIMENSION_LIST"] = 5
    record = read_attributes(dataset)
    assert record.values == {"CLASS": "IMAGE", "NAME": "n", "DIMENSION_LIST": 5}
    assert name_axes(record) is None
    assert not is_netcdf(file, read_hierarchy(file).datasets)


def test_an_array_of_one_is_a_number_in_netcdf_and_a_list_elsewhere(file: h5py.File) -> None:
    file.attrs["x"] = np.array([5])
    assert read_attributes(file).values == {"x": [5]}
    record = read_attributes(file, netcdf=True)
    values, details = through_json(record)
    assert values == {"x": 5}
    assert details["attributes"]["x"] == {"shape": [1]}
    assert find_differences(file, values, details, netcdf=True) == []


def test_floats_that_a_number_cannot_express_keep_their_bytes_within_other_values(file: h5py.File) -> None:
    held = np.empty(1, object)
    held[0] = np.array([0x7FC00001, 0x3F800000], "<u4").view("<f4")
    file.attrs.create("lists", held, (1,), h5py.vlen_dtype(np.dtype("<f4")))
    values, details = through_json(read_attributes(file))
    assert "AQDAfw==" in json.dumps([values, details])  # the payload
    assert find_differences(file, values, details) == []


def test_equal_bytes_of_other_types_and_shapes_stay_apart(file: h5py.File) -> None:
    values: dict[str, Any] = {
        "f4": PAYLOAD[:1].reshape(()),
        "i4": PAYLOAD[:1].view("<i4").reshape(()),
        "u4": PAYLOAD[:1].view("<u4").reshape(()),
        ">u4": PAYLOAD[:1].view(">u4").reshape(()),
        "one": PAYLOAD[:1].view("<i4"),
        "one of one": PAYLOAD[:1].view("<i4").reshape(1, 1),
        "S4": PAYLOAD[:1].view("S4").reshape(()),
        "empty": "",
        "long": "é" * 600,
    }
    file.attrs.update(values)
    for _ in range(2):  # the second time they are known
        shown, details = through_json(read_attributes(file))
        assert shown["i4"] == shown["u4"] == 0x7FC00001
        assert shown[">u4"] == 0x0100C07F
        assert (shown["one"], shown["one of one"], shown["empty"], shown["long"]) == (
            [0x7FC00001], [[0x7FC00001]], "", "é" * 600,
        )  # fmt: skip
        assert {name: details["attributes"][name]["type"] for name in ("f4", "i4", "u4", ">u4")} == {
            "f4": "<f4", "i4": "<i4", "u4": "<u4", ">u4": ">u4",
        }  # fmt: skip
        assert details["attributes"]["f4"]["base64"] == "AQDAfw=="
        assert details["attributes"]["S4"]["base64"]
        shown_as_netcdf, _ = through_json(read_attributes(file, netcdf=True))
        assert (shown_as_netcdf["one"], shown_as_netcdf["one of one"]) == (0x7FC00001, [0x7FC00001])
