"""Every HDF5 type is stored in Zarr exactly, in both formats and through zarr itself, or refused with a reason."""

from __future__ import annotations

import ctypes
import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5d, h5p, h5s, h5t
from zarr.codecs import BytesCodec

from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import enum_members
from h5bound.hdf5.references import Addresses, ReferencePaths
from h5bound.hdf5.type_json import text_from_json, text_to_json, type_to_json
from h5bound.reader.via_h5py import H5pyReader
from h5bound.zarr_model.dtypes import translate_type
from h5bound.zarr_model.fill_values import FillValue, choose_fill_v2, fill_to_json, make_fill_value, read_shown_fill
from h5bound.zarr_model.parts import flatten, plan_parts
from h5bound.zarr_model.structured import StructError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from h5bound.zarr_model.dtypes import ZarrType

    Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.filterwarnings("ignore:The data type:FutureWarning", "ignore::UserWarning")

Format = Literal[2, 3]
FORMATS = [pytest.param(3, id="v3"), pytest.param(2, id="v2")]
NAN = np.array([0x7FC00001, 0xFFC00000, 0x7FA00001, 0x80000000], "<u4").view("<f4")


def changed(tid: h5t.TypeID, change: Callable[[Any], object]) -> h5t.TypeID:
    """Return a copy of a type with one property changed."""
    tid = tid.copy()
    change(tid)
    return tid


def fixed(size: int, pad: int, cset: int = h5t.CSET_ASCII) -> h5t.TypeID:
    """Return a type of fixed-length strings."""
    return changed(h5t.C_S1, lambda t: (t.set_size(size), t.set_strpad(pad), t.set_cset(cset)))


def opaque(size: int, tag: bytes) -> h5t.TypeID:
    """Return an opaque type."""
    return changed(h5t.create(h5t.OPAQUE, size), lambda t: t.set_tag(tag))


def enum(base: h5t.TypeID, **members: int) -> h5t.TypeID:
    """Return an enumeration."""
    tid = h5t.enum_create(base)
    for name, value in members.items():
        tid.enum_insert(name.encode(), value)
    return tid


def compound(size: int, *members: tuple[bytes, int, h5t.TypeID]) -> h5t.TypeID:
    """Return a compound with members at given offsets."""
    tid = h5t.create(h5t.COMPOUND, size)
    for name, offset, member in members:
        tid.insert(name, offset, member)
    return tid


def logical(dtype: Any) -> h5t.TypeID:
    """Return the type that h5py makes for a numpy type."""
    return h5t.py_create(np.dtype(dtype), logical=True)


@dataclass(frozen=True)
class Case:
    """One HDF5 type. Its elements are written as bytes."""

    id: str
    tid: h5t.TypeID
    raw: bool | tuple[bool, bool]
    """Whether chunks can be kept; for v3 and v2 where that differs."""
    dtype: Any = None
    """Type of the Zarr array, where it is not the one that h5py reads."""


I4, F4 = h5t.STD_I32LE, h5t.IEEE_F32LE
I16 = changed(h5t.STD_I64LE, lambda t: (t.set_size(16), t.set_precision(128)))
QUAD = changed(
    h5t.IEEE_F64LE,
    lambda t: (t.set_size(16), t.set_precision(128), t.set_fields(127, 112, 15, 0, 112), t.set_ebias(16383)),
)
NESTED = compound(8, (b"a", 0, I4), (b"in", 4, compound(4, (b"x", 0, h5t.STD_I16LE), (b"y", 2, h5t.STD_I16LE))))
CASES = [
    Case("int8", h5t.STD_I8LE, raw=True),
    Case("int64", h5t.STD_I64LE, raw=True),
    Case("uint64-big", h5t.STD_U64BE, raw=True),
    Case("float16", h5t.IEEE_F16LE, raw=True),
    Case("float32-big", h5t.IEEE_F32BE, raw=True),
    Case("float64", h5t.IEEE_F64LE, raw=True),
    Case("bfloat16", changed(F4, lambda t: (t.set_fields(15, 7, 8, 0, 7), t.set_size(2))), raw=False),
    Case("20 bits of 32", changed(I4, lambda t: (t.set_precision(20), t.set_offset(4))), raw=False),
    Case("bitfield", h5t.STD_B16BE, raw=True),
    Case("bool", logical(bool), raw=True),
    Case("bool-of-int32", enum(I4, FALSE=0, TRUE=1), raw=False),
    Case("enum", enum(h5t.STD_I16BE, RED=1, GREEN=-7), raw=True),
    Case("complex64", logical("c8"), raw=True),
    Case("complex128-big", logical(">c16"), raw=True),
    Case("complex-padded", compound(16, (b"r", 0, F4), (b"i", 8, F4)), raw=False),
    *([Case("complex-native", h5t.COMPLEX_IEEE_F64BE, raw=True)] if hasattr(h5t, "COMPLEX") else []),
    Case("time", h5t.UNIX_D64BE, raw=True, dtype="V8"),
    Case("128-bit integer", I16, raw=True, dtype="V16"),
    Case("24-bit integer", changed(h5t.STD_U32BE, lambda t: t.set_size(3)), raw=True, dtype="V3"),
    Case("float of x86", h5t.LDOUBLE_LE if hasattr(h5t, "LDOUBLE_LE") else h5t.NATIVE_LDOUBLE, raw=True, dtype="V16"),
    Case("float of 112 bits of mantissa", QUAD, raw=True, dtype="V16"),
    Case("complex of x86", compound(32, (b"r", 0, h5t.NATIVE_LDOUBLE), (b"i", 16, h5t.NATIVE_LDOUBLE)), raw=True),
    Case("array of times", h5t.array_create(h5t.UNIX_D32LE, (2,)), raw=True, dtype="V4"),
    Case(
        "compound-with-odd-members",
        compound(44, (b"t", 0, h5t.UNIX_D64LE), (b"a", 8, I4), (b"n", 12, I16), (b"x", 28, h5t.NATIVE_LDOUBLE)),
        raw=True,
    ),
    Case("opaque-with-a-tag-that-asks-for-objects", opaque(8, b"NUMPY:O"), raw=True, dtype="V8"),
    Case("string-null-padded", fixed(4, h5t.STR_NULLPAD, h5t.CSET_UTF8), raw=True),
    Case("string-null-terminated", fixed(4, h5t.STR_NULLTERM), raw=False),
    Case("string-space-padded", fixed(4, h5t.STR_SPACEPAD), raw=False),
    Case("char", fixed(1, h5t.STR_NULLTERM), raw=True),
    Case("opaque", opaque(5, b""), raw=True),
    Case("opaque-with-tag", opaque(5, "é".encode()), raw=True),
    Case("datetime", logical(h5py.opaque_dtype(np.dtype("<M8[10us]"))), raw=True, dtype="<M8[10us]"),
    Case("timedelta-big", logical(h5py.opaque_dtype(np.dtype(">m8[D]"))), raw=True, dtype=">m8[D]"),
    Case("datetime-without-unit", logical(h5py.opaque_dtype(np.dtype("<M8"))), raw=True, dtype="<i8"),
    Case("array", h5t.array_create(h5t.STD_I16BE, (2, 3)), raw=True),
    Case("array-of-array", h5t.array_create(h5t.array_create(I4, (2,)), (3,)), raw=True),
    Case("array-of-space-padded", h5t.array_create(fixed(4, h5t.STR_SPACEPAD), (2,)), raw=False),
    Case("compound", compound(8, (b"a", 0, I4), ("é".encode(), 4, F4)), raw=True),
    Case(
        "compound-big",
        compound(8, (b"a", 0, h5t.STD_I32BE), (b"b", 4, F4)),
        raw=(False, True),
    ),
    Case("compound-padded", compound(16, (b"a", 0, I4), (b"b", 8, F4)), raw=False),
    Case("compound-out-of-order", compound(8, (b"a", 4, I4), (b"b", 0, I4)), raw=True),
    Case(
        "compound-of-all",
        compound(
            23,
            (b"flag", 0, logical(bool)),
            (b"kind", 1, enum(h5t.STD_U8LE, A=1, B=2)),
            (b"text", 2, fixed(3, h5t.STR_NULLPAD)),
            (b"z", 5, logical("c8")),
            (b"o", 13, opaque(2, b"tag")),
            (b"t", 15, logical(h5py.opaque_dtype(np.dtype("<M8[s]")))),
        ),
        raw=True,
    ),
    Case("compound-with-space-padded", compound(8, (b"a", 0, I4), (b"s", 4, fixed(4, 2))), raw=False),
]
CASE_PARAMS = [pytest.param(case, id=case.id) for case in CASES]
BYTES = bytes([65, 66, 0x20, 0x20, 67, 0, 68, 0x20, 69, 70, 71, 72, 0, 1])


def fill_with_bytes(file: h5py.File, tid: h5t.TypeID) -> h5py.Dataset:
    """Create a dataset "d" of 5 elements in chunks of 2, the last chunk never written."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((2,))
    made = h5d.create(file.id, b"d", tid, h5s.create_simple((5,)), plist)
    base = tid
    while base.get_class() == h5t.ARRAY:
        base = base.get_super()
    values = np.frombuffer((BYTES * 40)[: 4 * tid.get_size()], "u1")
    if base.get_class() in (h5t.ENUM, h5t.COMPOUND):
        values = values % 2
    space = made.get_space()
    space.select_hyperslab((0,), (4,))
    made.write(h5s.create_simple((4,)), space, values.copy(), tid)
    return file["d"]


def store(
    dataset: h5py.Dataset, path: Path, zarr_format: Format, chunks: tuple[int, ...] = ()
) -> tuple[ZarrType, FillValue, zarr.Array[Any]]:
    """Write a dataset to Zarr, without the chunks that HDF5 never wrote, and open it again."""
    resolve = ReferencePaths(dataset.file)
    zarr_type = translate_type(dataset, zarr_format=zarr_format, resolve=resolve)
    fill = make_fill_value(zarr_type.convert(read_shown_fill(dataset), resolve), zarr_format)
    text = zarr_type.dtype.kind == "T"
    keywords: dict[str, Any] = {}
    if zarr_format == 3 and not text:
        keywords["serializer"] = BytesCodec(endian="big" if zarr_type.dtype.byteorder == ">" else "little")
    array = zarr.create_array(
        path,
        shape=dataset.shape + zarr_type.element_shape,
        chunks=(chunks or dataset.chunks or (1,) * dataset.ndim) + zarr_type.element_shape,
        dtype="string" if text else zarr_type.dtype,
        fill_value=fill.value[()],
        compressors=None,
        zarr_format=zarr_format,
        config={"write_empty_chunks": True},
        **keywords,
    )
    document = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    metadata = json.loads(document.read_text())
    document.write_text(json.dumps(metadata | {"fill_value": fill.json}))
    for i in range(dataset.id.get_num_chunks()):
        start = dataset.id.get_chunk_info(i).chunk_offset
        region = tuple(slice(s, min(s + c, n)) for s, c, n in zip(start, dataset.chunks, dataset.shape, strict=True))
        array[region] = zarr_type.convert(H5pyReader(dataset).read(region), resolve)
    return zarr_type, fill, zarr.open_array(path, mode="r")


def everything(dataset: h5py.Dataset) -> Array:
    """Read a whole dataset."""
    return H5pyReader(dataset).read(tuple(slice(0, length) for length in dataset.shape))


def same(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same elements, bit for bit, apart from padding."""
    if one.dtype.names is not None:
        return one.dtype.names == other.dtype.names and all(same(one[name], other[name]) for name in one.dtype.names)
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("case", CASE_PARAMS)
def test_zarr_gives_what_h5py_reads_bit_for_bit(case: Case, zarr_format: Format, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = fill_with_bytes(file, case.tid)
        zarr_type, fill, array = store(dataset, tmp_path / "a.zarr", zarr_format)
        shown = everything(dataset)
        assert fill.exact
        assert same(zarr_type.restore(cast("Array", array[...])), shown)
        if case.dtype is not None:
            assert zarr_type.dtype == np.dtype(case.dtype)


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("case", CASE_PARAMS)
def test_a_type_is_raw_only_where_stored_bytes_are_zarrs_bytes(case: Case, zarr_format: Format, tmp_path: Path) -> None:
    expected = case.raw if isinstance(case.raw, bool) else case.raw[3 - zarr_format]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = fill_with_bytes(file, case.tid)
        zarr_type, _, _ = store(dataset, tmp_path / "a.zarr", zarr_format)
        assert (zarr_type.reason == "") == expected, zarr_type.reason
        if not zarr_type.reason:
            chunk = "c/1" if zarr_format == 3 else "1"
            key = chunk + ("/0" if zarr_format == 3 else ".0") * len(zarr_type.element_shape)
            assert dataset.id.read_direct_chunk((2,))[1] == (tmp_path / "a.zarr" / key).read_bytes()


UNSUPPORTED = [
    pytest.param(h5t.vlen_create(h5t.STD_REF_DSETREG), "region references", id="sequence of region references"),
    pytest.param(compound(4, (b"\xff", 0, I4)), "not UTF-8", id="member name in Latin-1"),
    pytest.param(compound(16, (b"v", 0, h5t.vlen_create(I4))), "sequences", id="compound with sequence"),
    pytest.param(compound(16, (b"m", 4, h5t.array_create(F4, (3,)))), "arrays", id="compound with array"),
]


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize(("tid", "reason"), UNSUPPORTED)
def test_what_zarr_cannot_hold_is_refused_with_its_reason(tid: h5t.TypeID, reason: str, zarr_format: Format) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        translate_type(tid, zarr_format=zarr_format)


def test_a_compound_in_a_compound_is_a_struct_in_format_3_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = fill_with_bytes(file, NESTED)
        zarr_type, _, array = store(dataset, tmp_path / "a.zarr", 3)
        assert zarr_type.reason == ""
        assert same(zarr_type.restore(cast("Array", array[...])), everything(dataset))
        with pytest.raises(StructError, match="in format 2 compounds"):
            translate_type(dataset, zarr_format=2)


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("values", [["a", "é\U0001f600", "", "x" * 70]], ids=["ASCII, astral, empty and long strings"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_variable_length_strings_become_text(
    values: list[str], encoding: str, zarr_format: Format, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (9,), h5py.string_dtype(encoding), chunks=(4,), fillvalue="n")
        dataset[:4] = [value.encode() for value in values]
        zarr_type, fill, array = store(dataset, tmp_path / "a.zarr", zarr_format)
        assert zarr_type.form == "string"
        assert fill.json == "n"
        assert fill.exact
        assert cast("Array", array[...]).tolist() == [*values, *["n"] * 5]
        assert zarr_type.restore(cast("Array", array[...])).tolist() == dataset[...].tolist()


def test_a_string_that_is_not_utf8_is_refused_and_never_altered(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (1,), h5py.string_dtype())
        dataset[0] = b"caf\xe9"
        with pytest.raises(UnsupportedError, match=r"not UTF-8.*caf\\xe9"):
            translate_type(dataset).convert(dataset[...])


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_object_references_become_paths_and_null_the_empty_string(zarr_format: Format, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        target = file.create_dataset("g/é", data=1)
        dataset = file.create_dataset("d", (4,), h5py.ref_dtype, chunks=(3,))
        dataset[:2] = [target.ref, file.ref]
        _, fill, array = store(dataset, tmp_path / "a.zarr", zarr_format)
        assert fill.json == ""
        assert cast("Array", array[...]).tolist() == ["/g/é", "/", "", ""]


def test_a_reference_becomes_the_path_that_the_caller_gave_its_target(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        target = file.create_dataset("b", data=1)
        file["a"] = target
        address = h5py.h5o.get_info(target.id).addr
        assert ReferencePaths(file, Addresses({address: "/first"}))(target.ref) == "/first"


def test_a_reference_whose_target_is_gone_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        reference = file.create_dataset("b", data=1).ref
        del file["b"]
        with pytest.raises(UnsupportedError, match="target"):
            ReferencePaths(file)(reference)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_strings_and_references_in_a_compound_become_utf32_of_the_longest(zarr_format: Format, tmp_path: Path) -> None:
    dtype = np.dtype([("name", h5py.string_dtype()), ("n", "<i4"), ("to", h5py.ref_dtype)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("group")
        dataset = file.create_dataset("d", (3,), dtype, chunks=(2,))
        dataset[0] = ("né", 1, group.ref)
        dataset[1] = ("longer", 2, h5py.Reference())
        zarr_type, fill, array = store(dataset, tmp_path / "a.zarr", zarr_format)
        assert zarr_type.dtype == np.dtype([("name", "<U6"), ("n", "<i4"), ("to", "<U6")])
        assert fill.exact
        assert cast("Array", array[...]).tolist() == [("né", 1, "/group"), ("longer", 2, ""), ("", 0, "")]


@pytest.mark.parametrize(
    ("base", "sequences"),
    [
        pytest.param("<i4", [[1, 2], [], [3]], id="int32"),
        pytest.param(">i2", [[1, 258], [3], []], id="big-endian, which h5py 3.16 reads unswapped"),
        pytest.param("<f8", [[], [], []], id="empty"),
        pytest.param(bool, [[True], [False, True], []], id="bool"),
        pytest.param(h5py.string_dtype(), [["a", "é"], [], [""]], id="strings"),
    ],
)
def test_sequences_become_values_and_lengths(base: Any, sequences: list[list[Any]], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        base = np.dtype(base)
        dataset = file.create_dataset("d", (3,), h5py.vlen_dtype(base))
        for i, sequence in enumerate(sequences):
            dataset[i] = np.array(sequence, base)
        whole, (part, offsets) = plan_parts(dataset.id.get_type(), "struct", zarr_format=3)
        found, bounds = flatten(everything(dataset), part.steps)
        values = part.type.convert(found)
        assert (whole.form, part.target, offsets.target) == ("group", "values", "offsets")
        assert np.diff(bounds).tolist() == [len(sequence) for sequence in sequences]
        assert values.tolist() == [item for sequence in sequences for item in sequence]
        assert values.dtype == part.type.dtype


FILLS = [
    pytest.param("<f4", NAN[0], id="quiet NaN with payload"),
    pytest.param("<f4", NAN[1], id="negative NaN"),
    pytest.param(">f4", NAN[3], id="negative zero"),
    pytest.param("<f8", -np.inf, id="minus infinity"),
    pytest.param("<f2", 0.1, id="float16"),
    pytest.param("<i8", -(2**63), id="int64 min"),
    pytest.param(">u8", 2**64 - 1, id="uint64 max"),
    pytest.param("?", True, id="bool"),
    pytest.param("<c16", complex(-0.0, np.nan), id="complex"),
    pytest.param("S4", b"a\xff\x00b", id="bytes"),
    pytest.param([("a", "<f4"), ("b", ">i2"), ("c", "S2")], (NAN[0], -3, b"\xfe"), id="compound"),
]


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize(("dtype", "value"), FILLS)
def test_a_chunk_never_written_reads_as_in_hdf5_or_the_fill_is_not_exact(
    dtype: Any, value: Any, zarr_format: Format, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        wanted = np.array(value, dtype)
        dataset = file.create_dataset("d", (3,), dtype, chunks=(2,), fillvalue=wanted)
        zarr_type, fill, array = store(dataset, tmp_path / "a.zarr", zarr_format)
        found = zarr_type.restore(cast("Array", array[...]))
        assert same(found, dataset[...]) == fill.exact
        payload = bool(wanted.dtype.kind == "f" and np.isnan(wanted))
        assert fill.exact == (zarr_format == 3 or not payload)


def test_zarr_does_not_return_a_signalling_nan_as_fill_value() -> None:
    _, exact = fill_to_json(NAN[2:3].reshape(()), 3)
    assert not exact


@pytest.mark.parametrize("undefined", [False, True], ids=["fill time never", "no fill value"])
def test_where_hdf5_leaves_memory_unset_the_fill_value_is_what_h5py_reads(undefined: bool, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        if not undefined:
            plist.set_fill_value(np.array(7, "<i4"))
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
        h5d.create(file.id, b"d", I4, h5s.create_simple((4,)), plist)
        dataset = file["d"]
        assert read_shown_fill(dataset) == dataset[0] == 0


def test_an_array_type_whose_elements_have_two_fill_values_has_no_exact_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (3,), h5py.string_dtype(), chunks=(2,), fillvalue="x")
        assert make_fill_value(translate_type(dataset).convert(read_shown_fill(dataset)), 3).value == "x"
        plain = file.create_dataset("p", (3,), np.dtype(("<i4", (2,))), chunks=(2,))
        assert make_fill_value(read_shown_fill(plain), 3).exact


@pytest.mark.parametrize(
    ("attribute", "json", "exact"),
    [
        pytest.param(None, None, False, id="none: null, lest xarray masks data"),
        pytest.param(np.array([7], "<i2"), 7, True, id="the same as the fill value"),
        pytest.param(np.array([8], "<i2"), 8, False, id="another"),
        pytest.param(np.array(["x"], "S1"), None, False, id="of another kind"),
    ],
)
def test_in_format_2_the_fill_value_is_the_attribute(attribute: Array | None, json: int | None, exact: bool) -> None:
    fill = choose_fill_v2(FillValue(np.array(7, "<i2"), 7, exact=True), attribute)
    assert (fill.json, fill.exact) == (json, exact)


def test_metadata_says_what_the_zarr_type_does_not() -> None:
    assert translate_type(enum(I4, A=1, B=2)).details == {"enum": {"A": 1, "B": 2}}
    assert translate_type(opaque(3, b"tag")).details == {"type": {"class": "opaque", "nbytes": 3, "tag": "tag"}}
    assert translate_type(h5t.array_create(I4, (2, 3))).details["element_shape"] == [2, 3]
    assert translate_type(fixed(4, h5t.STR_SPACEPAD)).details == {
        "type": {"class": "string", "nbytes": 4, "strpad": "space-padded", "cset": "ascii"}
    }


def test_plain_types_need_no_metadata() -> None:
    for tid in (I4, h5t.IEEE_F64BE, logical(bool), logical("c16"), fixed(1, h5t.STR_NULLTERM)):
        zarr_type = translate_type(tid)
        assert zarr_type.details == {}
    assert translate_type(logical(h5py.string_dtype())).details == {}


@pytest.mark.parametrize("case", CASE_PARAMS)
def test_a_translation_can_be_pickled(case: Case) -> None:
    zarr_type = translate_type(case.tid)
    again = pickle.loads(pickle.dumps(zarr_type))
    assert (again.dtype, again.source, again.reason) == (zarr_type.dtype, zarr_type.source, zarr_type.reason)


@pytest.mark.parametrize("case", CASE_PARAMS)
def test_a_type_becomes_json_in_utf8(case: Case) -> None:
    json.dumps(type_to_json(case.tid), ensure_ascii=False, allow_nan=False).encode()


def test_an_enumeration_of_128_bits_has_its_values() -> None:
    library = ctypes.CDLL(h5p.__file__)
    tid = h5t.enum_create(I16)
    for name, value in ((b"A", 3), (b"B", -(2**100))):
        assert library.H5Tenum_insert(ctypes.c_int64(tid.id), name, value.to_bytes(16, "little", signed=True)) >= 0
    assert enum_members(tid) == [(b"A", 3), (b"B", -(2**100))]
    assert translate_type(tid).dtype == np.dtype("V16")


@pytest.mark.parametrize("name", [b"plain", "é".encode(), b"\xff\xfe"], ids=["ASCII", "UTF-8", "Latin-1"])
def test_text_that_is_not_utf8_comes_back_from_json(name: bytes) -> None:
    spelled = json.loads(json.dumps(text_to_json(name), ensure_ascii=False).encode())
    assert text_from_json(spelled).encode("utf-8", "surrogateescape") == name


def test_a_scalar_and_an_empty_dataset_are_read_as_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scalar"] = 1.5
        assert H5pyReader(file["scalar"]).read(()).shape == ()
        file.create_dataset("sequence", (), h5py.vlen_dtype("<i4"))[()] = np.array([1, 2], "<i4")
        values, bounds = flatten(H5pyReader(file["sequence"]).read(()).reshape(1), (np.dtype("<i4"),))
        assert (values.tolist(), bounds.tolist()) == ([1, 2], [0, 2])
        empty = file.create_dataset("empty", (0, 3), "<f4", maxshape=(None, 3))
        assert H5pyReader(empty).read((slice(0, 0), slice(0, 3))).shape == (0, 3)


def test_a_fill_value_with_elements_that_differ_has_to_be_written() -> None:
    for values, exact in (([3, 3], True), ([3, 4], False), ([0.0, -0.0], False)):
        assert make_fill_value(np.array(values), 3).exact == exact
