"""Whole files converted, and read back through zarr alone; the oracle is h5py."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import hdf5plugin
import numcodecs
import numpy as np
import pytest
import zarr
from h5py import h5a, h5s, h5t
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from h5bound import convert, from_hdf5, verify
from h5bound.cli.demo_file import write_demo
from h5bound.errors import (
    CorruptChunkError,
    SourceChangedError,
    SourceNotFoundError,
    TargetError,
    UnsafeSourceError,
    UnsupportedError,
)
from h5bound.stores.lock import MARKER
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support import odd_files
from tests.support.own_document import read_own
from tests.support.recorder import Log, count_files
from tests.support.strategies import leave_edges_unfiltered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Write = Callable[[h5py.File], object]

NAN = np.array([0x7FF8000000000123], "u8").view("f8")[0]
FORMATS = pytest.mark.parametrize("zarr_format", [3, 2])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Ignore the warnings of zarr about data types and codecs without a specification."""
    with quiet_zarr():
        yield


def write(path: Path, make: Write) -> Path:
    with h5py.File(path, "w") as file:
        make(file)
    return path


def node(target: Path, name: str = "", mode: Literal["r", "r+"] = "r") -> Any:
    group = zarr.open_group(target, mode=mode)
    return group[name] if name else group


def read(target: Path, name: str) -> Any:
    return np.asarray(node(target, name)[...])


@dataclass(frozen=True)
class Case:
    """One dataset ``x``, and what zarr has to read for it."""

    name: str
    make: Write
    how: str
    dtype: str = ""

    def __str__(self) -> str:
        return self.name


def dataset(data: Any = None, **options: Any) -> Write:
    return lambda file: file.create_dataset("x", data=data, **options)


def masked(file: h5py.File) -> None:
    made = file.create_dataset("x", (8,), "<i4", chunks=(4,), compression="gzip", shuffle=True)
    made[:4] = [1, 2, 3, 4]
    made.id.write_direct_chunk((4,), np.arange(4, dtype="<i4").tobytes(), filter_mask=3)


def edges(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_shuffle()
    leave_edges_unfiltered(plist)
    made = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((6,)), plist)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(6, dtype="<i4"))


def sparse(fill: Any, dtype: Any) -> Write:
    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (4, 6), dtype, chunks=(2, 3), fillvalue=fill)
        made[:2, :3] = np.zeros((2, 3), made.dtype)

    return make


def arrays(**options: Any) -> Write:
    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (3,), np.dtype(("<i4", (2, 6))), **options)
        made[...] = np.arange(36).reshape(3, 2, 6)

    return make


COMPOUND = np.dtype([("i", "<i4"), ("s", "S3"), ("f", "<f8")])
MIXED = np.dtype([("i", ">i4"), ("f", "<f4")])
NAN32 = np.array([0x7FC00123], "u4").view("f4")[0]
PADDED = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 8], "itemsize": 16})

CASES = [
    *(
        Case(f"{dtype} in {layout}", dataset(np.arange(24).reshape(4, 6).astype(dtype), **options), how, dtype)
        for dtype in ("|i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8", ">f8", "<c8", ">c16", "|b1")
        for layout, options, how in (
            ("chunks", {"chunks": (3, 4)}, "copied"),
            ("gzip", {"chunks": (3, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}, "copied"),
            ("one piece", {}, "decoded"),
        )
    ),
    Case("lzf", dataset(np.arange(1000), chunks=(300,), compression="lzf"), "decoded"),
    Case("scale-offset", dataset(np.arange(1000), chunks=(300,), scaleoffset=0), "decoded"),
    Case("chunk larger than the dataset", dataset(np.arange(5), chunks=(9,), maxshape=(None,)), "copied"),
    Case("filter mask", masked, "mixed"),
    Case("unfiltered edge chunks", edges, "mixed"),
    Case("NaN payloads", dataset(np.array([NAN, -0.0, np.inf]), chunks=(2,)), "copied"),
    Case("NaN payload equal to no fill value", dataset(np.array([NAN, np.nan]), fillvalue=np.nan), "decoded"),
    Case("fill of NaN with a payload", sparse(NAN, "<f8"), "copied"),
    Case("fill of half NaN with a payload", sparse(np.array([0x7E01], "u2").view("f2")[0], "<f2"), "mixed"),
    Case("fill of -0.0", sparse(-0.0, "<f4"), "copied"),
    Case("fill of text", sparse(b"ab\xff", "S4"), "copied"),
    Case("fill of a compound", sparse(np.array((7, b"xy", NAN), COMPOUND), COMPOUND), "copied"),
    Case("fixed strings", dataset(np.array([b"a", b"", b"abc"], "S3"), chunks=(2,)), "copied"),
    Case("compound", dataset(np.array([(1, b"a", NAN), (2, b"", 0.5)], COMPOUND), chunks=(2,)), "copied"),
    Case("compound of both byte orders", dataset(np.array([(1, 2.5)], MIXED), chunks=(1,)), "decoded"),
    Case("compound with padding", dataset(np.array([(1, 2), (3, 4)], PADDED), chunks=(1,)), "decoded"),
    Case("array type", arrays(), "decoded"),
    Case("array type in chunks", arrays(chunks=(2,), compression="gzip", shuffle=True), "copied"),
    Case("opaque", dataset(np.array([b"\x01\x02"] * 3, "V2"), chunks=(2,)), "copied"),
    Case(
        "datetimes",
        dataset(np.arange(3).astype("M8[s]").astype(h5py.opaque_dtype(np.dtype("M8[s]"))), chunks=(2,)),
        "copied",
    ),
    Case("variable-length text", dataset(["a", "", "naïve", "x" * 1000], dtype=h5py.string_dtype()), "decoded"),
    Case("scalar", dataset(np.float32(1.5)), "decoded"),
    Case("scalar text", dataset("text"), "decoded"),
    Case("zero-size", dataset(np.zeros((0, 3))), "metadata"),
    Case("zero-size in chunks", dataset(np.zeros((0, 3)), chunks=(2, 3), maxshape=(None, 3)), "metadata"),
    Case("never written", dataset(shape=(4,), dtype="<i4", fillvalue=7), "metadata"),
    Case("null", dataset(h5py.Empty("f4")), "metadata"),
    Case("enum", dataset([0, 2, 0], dtype=h5py.enum_dtype({"A": 0, "B": 2}, "i1"), chunks=(2,)), "copied"),
]


def expected(path: Path) -> Any:
    with h5py.File(path) as file:
        found = file["x"]
        if found.shape is None:
            return np.zeros(0, found.dtype)
        if h5py.check_string_dtype(found.dtype) is not None and found.dtype.kind == "O":
            return np.asarray(found.asstr()[()])
        return found[()]


def assert_same(one: Any, other: Any) -> None:
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind == "V" and one.dtype.names is None:
        assert one.tobytes() == np.ascontiguousarray(other).tobytes()
        return
    assert one.shape == other.shape
    if other.dtype.names:
        for name in other.dtype.names:
            assert_same(one[name], other[name])
    elif other.dtype.kind == "O":
        assert one.tolist() == other.tolist()
    else:
        assert one.astype(other.dtype).tobytes() == other.tobytes()


@FORMATS
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_kind_of_dataset_is_read_by_zarr_as_h5py_reads_it(
    case: Case, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source, target = write(tmp_path / "a.h5", case.make), tmp_path / "a.zarr"
    report = convert(source, target, zarr_format=zarr_format)
    assert_same(read(target, "x"), expected(source))
    (entry,) = report.arrays
    if zarr_format == 3:
        assert entry.how == case.how
    assert report.exit_code == 0
    assert verify(source, target).equal


@FORMATS
@pytest.mark.parametrize("chunks", [(2, 5), (5, 1), (2, 2)], ids=str)
def test_the_axes_of_an_array_type_may_be_cut_into_chunks(
    chunks: tuple[int, ...], zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    values = np.arange(4 * 2 * 3, dtype="<i2").reshape(4, 2, 3)

    def make(file: h5py.File) -> None:
        for name, options in (("x", {}), ("chunked", {"chunks": (3,), "compression": "gzip"})):
            file.create_dataset(name, (4,), np.dtype(("<i2", (2, 3))), **options)[...] = values
        file.create_dataset("unwritten", (4,), np.dtype(("<i2", (2, 3))), chunks=(3,))[:2] = values[:2]

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, chunks=(3, *chunks), zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    with h5py.File(source) as file:
        for name in file:
            np.testing.assert_array_equal(read(target, name), file[name][()])


@FORMATS
def test_a_null_dataspace_of_arrays_or_sequences_is_carried(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["x"] = h5py.Empty(np.dtype(("<i4", (2,))))
        file["sequences"] = h5py.Empty(h5py.vlen_dtype(np.dtype("i4")))
        file["other"] = [1]

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    assert read(target, "x").shape == (0, 2)


@FORMATS
def test_what_was_never_written_behind_a_user_block_is_its_fill_value(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    pair = np.dtype([("i", "i4"), ("text", h5py.string_dtype())])

    def make(file: h5py.File) -> None:
        file.create_dataset("i", (5,), "<u4", fillvalue=9)
        file.create_dataset("f", (5,), "<f8", fillvalue=NAN)
        file.create_dataset("text", (5,), h5py.string_dtype())
        file.create_dataset("pair", (5,), pair)

    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w", userblock_size=1024) as file:
        make(file)
    with source.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file" * 50)
    with h5py.File(source) as file:
        for name in file:
            array = from_hdf5(source, name).compute()
            assert repr(array.tolist()) == repr(file[name][()].tolist())
            assert array.dtype.hasobject or array.tobytes() == file[name][()].tobytes()
    report = convert(source, target, zarr_format=zarr_format, verify=True, on_unsupported="skip")
    assert report.verification is not None
    assert report.verification.equal
    assert read(target, "i").tolist() == [9] * 5
    assert read(target, "f").tobytes() == np.full(5, NAN).tobytes()


KEPT: dict[str, dict[str, Any]] = {
    "zstd": dict(hdf5plugin.Zstd(clevel=3)),
    "shuffle and zstd": {**hdf5plugin.Zstd(), "shuffle": True},
    "zstd and a checksum": {**hdf5plugin.Zstd(), "fletcher32": True},
    **{
        f"blosc {name} with {word}": dict(hdf5plugin.Blosc(cname=name, clevel=5, shuffle=shuffle))
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, word in ((0, "no shuffle"), (1, "shuffle"), (2, "bit shuffle"))
    },
    "bzip2": dict(hdf5plugin.BZip2()),
}


@pytest.mark.parametrize(("zarr_format", "shards"), [(3, None), (3, (80, 30)), (2, None)], ids=["3", "shards", "2"])
@pytest.mark.parametrize("name", KEPT)
def test_chunks_of_plugin_filters_are_kept_undecoded_and_zarr_reads_them(
    name: str, shards: Any, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    values = np.cumsum(np.random.default_rng(2).integers(-3, 4, (70, 45)), axis=1).astype("<i4")
    source, target = write(tmp_path / "a.h5", dataset(values, chunks=(40, 15), **KEPT[name])), tmp_path / "a.zarr"
    report = convert(source, target, shards=shards, zarr_format=zarr_format, verify=True)
    assert [(entry.how, entry.chunks) for entry in report.arrays] == [("copied", 6)]
    assert_same(read(target, "x"), values)
    assert report.verification is not None
    assert report.verification.equal
    with h5py.File(source) as file:
        masks, stored = zip(
            *(file["x"].id.read_direct_chunk((i, j)) for i in (0, 40) for j in (0, 15, 30)), strict=True
        )
    assert masks == (0,) * 6
    files = [path for path in (target / "x").rglob("*") if path.is_file() and not path.name.startswith((".z", "zarr"))]
    if shards:
        assert all(any(data in path.read_bytes() for path in files) for data in stored)
    else:
        assert sorted(path.read_bytes() for path in files) == sorted(stored)


@FORMATS
@pytest.mark.parametrize(
    ("name", "mask"),
    [("zstd", 1), ("shuffle and zstd", 1), ("shuffle and zstd", 3), ("blosc lz4 with shuffle", 1), ("zstd", None)],
    ids=str,
)
def test_only_the_odd_chunks_of_plugin_filters_are_encoded_anew(
    name: str, mask: int | None, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    values = np.arange(70 * 40, dtype="<i4").reshape(70, 40)

    def make(file: h5py.File) -> None:
        made = file.create_dataset("like", (70, 40), "<i4", chunks=(40, 20), **KEPT[name])
        plist = made.id.get_create_plist()
        if mask is None:
            leave_edges_unfiltered(plist)
        del file["like"]
        made = h5py.Dataset(h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((70, 40)), plist))
        made[...] = values
        if mask is not None:
            data = values[:40, 20:].tobytes()
            zipped = mask < 2 ** plist.get_nfilters() - 1
            made.id.write_direct_chunk((0, 20), numcodecs.Zstd().encode(data) if zipped else data, filter_mask=mask)

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    assert_same(expected(source), values)
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert [(entry.how, entry.chunks) for entry in report.arrays] == [("mixed", 4)]
    assert report.arrays[0].reasons == (
        f"{2 if mask is None else 1} of 4 chunks re-encoded: HDF5 skipped a filter for them",
    )
    assert_same(read(target, "x"), values)
    assert report.verification is not None
    assert report.verification.equal


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize("codecs", ["zstd:3", "blosc-lz4", "gzip:1", "none"])
def test_everything_is_encoded_with_the_codec_that_was_asked_for(
    codecs: str, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source = tmp_path / "a.h5"
    write_demo(source, frames=12)
    report = convert(
        source, tmp_path / "a.zarr", codecs=codecs, zarr_format=zarr_format, verify=True, exclude=["/weather/wind"]
    )
    assert {entry.how for entry in report.arrays} == {"decoded", "metadata"}
    assert report.verification is not None
    assert report.verification.equal


@pytest.mark.parametrize("shards", [(8, 6), "1 KiB", {"/x": (4, 6)}], ids=str)
@pytest.mark.parametrize("codecs", ["keep", "zstd"])
def test_shards_hold_kept_and_encoded_chunks(shards: Any, codecs: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 9, (17, 14))

    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (17, 14), "<i4", chunks=(4, 3), compression="gzip")
        made[:9] = values[:9]
        made[12:] = values[12:]

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, shards=shards, codecs=codecs, window="4 KiB", verify=True)
    assert report.arrays[0].how == ("copied" if codecs == "keep" else "decoded")
    assert node(target, "x").shards is not None
    assert_same(read(target, "x"), expected(source))
    assert report.verification is not None
    assert report.verification.equal


@pytest.mark.parametrize("kind", ["numbers", "text"])
@pytest.mark.parametrize("codecs", ["none", "zstd:3", "gzip:5", "blosc-lz4:5"])
@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, (8, 6))], ids=["2", "3", "shards"])
def test_new_chunks_are_those_that_zarr_itself_writes(
    kind: str, codecs: str, shards: Any, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    words = np.array(["", "größe", "x" * 300] * 79 + [""], object).reshape(17, 14)
    values, dtype = (words, h5py.string_dtype()) if kind == "text" else (np.arange(238).reshape(17, 14), ">i2")
    source, target = write(tmp_path / "a.h5", dataset(values, dtype=dtype, chunks=(4, 3))), tmp_path / "a.zarr"
    report = convert(source, target, codecs=codecs, shards=shards, zarr_format=zarr_format, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    found = read(target, "x")
    np.testing.assert_array_equal(found, expected(source))
    ours = {path: path.read_bytes() for path in (target / "x").rglob("*[0-9]") if path.is_file()}
    assert ours
    with zarr.config.set({"array.write_empty_chunks": True}):
        node(target, "x", mode="r+")[...] = found
    if shards is None and codecs != "gzip:5":  # in a shard zarr sorts chunks otherwise, and it has another gzip
        assert ours == {path: path.read_bytes() for path in ours}


@pytest.mark.parametrize("chunks", [(5, 5), (40, 1), {"/y": (1, 1), "*": (3, 12)}], ids=str)
def test_other_chunks_hold_the_same_values_and_only_where_something_is_stored(chunks: Any, tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (12, 12), "<i4", chunks=(4, 4), fillvalue=-1)
        made[:4, :4] = 7
        file["y"] = np.zeros((2, 2))

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, chunks=chunks, verify=True)
    assert report.arrays[0].reasons == ("other chunks were asked for",)
    assert 0 < report.arrays[0].chunks < 12 * 12 / np.prod(node(target, "x").chunks) + 3
    assert report.verification is not None
    assert report.verification.equal
    assert_same(read(target, "x"), expected(source))


def test_a_chunk_that_is_not_stored_has_no_key(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.h5", sparse(5, "<i4")), tmp_path / "a.zarr"
    convert(source, target)
    assert [path.relative_to(target).as_posix() for path in (target / "x" / "c").rglob("*") if path.is_file()] == [
        "x/c/0/0"
    ]


def test_a_huge_declared_grid_costs_nothing(tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    odd_files.write_huge_grid(source)
    report = convert(source, tmp_path / "a.zarr", verify=True)
    assert [(entry.how, entry.chunks) for entry in report.arrays] == [("copied", 1)]
    assert report.verification is not None
    assert report.verification.equal


@FORMATS
def test_what_no_part_of_a_virtual_dataset_covers_is_not_written(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    def add(file: h5py.File, name: str, shape: tuple[int, ...], where: Any, dtype: Any = "i8") -> None:
        layout = h5py.VirtualLayout(shape, dtype)
        if where is not None:
            layout[where] = h5py.VirtualSource(".", "d", shape=(4, 10))
        file.create_virtual_dataset(name, layout, fillvalue=-1)

    def make(file: h5py.File) -> None:
        file["d"] = np.arange(40).reshape(4, 10)
        add(file, "huge", (1 << 40, 10), slice(7, 11))
        add(file, "strides", (4000, 10), slice(5, 4000, 1000))
        add(file, "columns", (4, 20), (slice(None), slice(1, 20, 2)))
        add(file, "nothing", (100, 10), None)

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    nothing = 0 if zarr_format == 3 else 1  # xarray would mask what is not written
    assert {entry.path: entry.chunks for entry in report.arrays}.items() >= {"/huge": 1, "/nothing": nothing}.items()
    with h5py.File(source) as file:
        for name in ("strides", "columns", "nothing"):
            np.testing.assert_array_equal(node(target, name)[...], file[name][...])
        np.testing.assert_array_equal(node(target, "huge")[:50], file["huge"][:50])
        np.testing.assert_array_equal(node(target, "huge")[1 << 39], file["huge"][1 << 39])


@FORMATS
def test_chunks_of_a_file_that_is_open_for_writing_are_those_that_hdf5_reads(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    odd_files.write_edge_unfiltered(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.create_dataset("partly written", (100,), "f4", chunks=(10,), fillvalue=3)[20:30] = 7
        convert(file, tmp_path / "a.zarr", zarr_format=zarr_format)
        for name in list(file):
            np.testing.assert_array_equal(node(tmp_path / "a.zarr", name)[...], file[name][...])


@FORMATS
def test_what_was_never_written_holds_its_fill_value(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    pair = np.dtype([("i", "i4"), ("f", "f8")])
    value = np.array((7, np.nan), pair)

    def make(file: h5py.File) -> None:
        cases: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
            ("flat", (5,), {}),
            ("chunks", (5,), {"chunks": (2,)}),
            ("scalar", (), {}),
        ]
        for name, shape, options in cases:
            file.create_dataset(name, shape, pair, fillvalue=value, **options)
            file.create_dataset(f"opaque {name}", shape, np.dtype("V3"), fillvalue=np.void(b"abc"), **options)
            file.create_dataset(f"text {name}", shape, h5py.string_dtype(), fillvalue="hé", **options)
        file["two"] = np.zeros(2, pair)
        layout = h5py.VirtualLayout((10_000,), pair)
        layout[3:5] = h5py.VirtualSource(".", "two", (2,))
        file.create_virtual_dataset("virtual", layout, fillvalue=value)

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    assert convert(source, target, zarr_format=zarr_format, verify=True).exit_code == 0
    with h5py.File(source) as file:
        for name, dataset in file.items():
            found, wanted = np.asarray(node(target, name)[...]), dataset[()]
            if name.startswith("text"):
                assert set(np.ravel(found)) == {"hé"}
            else:
                assert found.tobytes() == np.asarray(wanted).tobytes(), name


def test_attributes_of_committed_types_and_of_dimensions_are_kept(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["type"] = np.dtype("i4")
        file["type"].attrs["doc"] = "é"
        file.create_dataset("x", (3,), file["type"])
        title = "This is a netCDF dimension but not a netCDF variable.         5"
        file.create_dataset("used", data=np.arange(5)).make_scale(title)
        file.create_dataset("told", (5,), "f4").make_scale(title)
        file["told"].attrs["important"] = 42
        file.create_dataset("bare", (5,), "f4").make_scale(title)

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, verify=True)
    assert report.exit_code == 0
    root = zarr.open_group(target, mode="r")
    assert sorted(root.array_keys()) == ["told", "used", "x"]
    assert node(target, "used")[:].tolist() == [0, 1, 2, 3, 4]
    assert node(target, "told").attrs["important"] == 42
    assert read_own(target)["details"]["type"] == {"type_attributes": {"doc": "é"}}


def test_in_format_2_xarray_masks_what_the_source_says_is_missing(tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3, dtype="f4")
        file["x"].make_scale()
        file["y"] = np.arange(3, dtype="i4")
        file["y"].attrs["_FillValue"] = np.int32(1)
        file["y"].dims[0].attach_scale(file["x"])
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=2, verify=True)
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as wanted, xr.open_zarr(tmp_path / "a.zarr") as found:
        np.testing.assert_array_equal(found["y"], wanted["y"])
        assert np.isnan(found["y"][1])


@pytest.mark.parametrize(
    ("options", "arrays", "links", "left_out"),
    [
        ({"include": ["/b"]}, ["/b"], [], ["/a", "/g", "/soft"]),
        ({"include": ["/a", "/b"]}, ["/a"], [("/b", "/a")], ["/g", "/soft"]),
        ({"exclude": ["/a"]}, ["/b"], [("/g/c", "/b"), ("/soft", "/g/c")], ["/a"]),
        ({"include": ["/g/*"]}, ["/g/c"], [], ["/a", "/b", "/soft"]),
        ({"exclude": ["/b", "/soft"]}, ["/a"], [("/g/c", "/a")], ["/b", "/soft"]),
    ],
    ids=str,
)
def test_a_dataset_goes_by_whichever_of_its_names_is_wanted(
    options: dict[str, Any], arrays: list[str], links: list[tuple[str, str]], left_out: list[str], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(3)
        file["b"] = file["a"]
        file["g/c"] = file["a"]
        file["soft"] = h5py.SoftLink("/g/c")
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify=True, **options)
    assert report.verification is not None
    assert report.verification.equal
    assert [entry.path for entry in report.arrays] == arrays
    assert sorted((link.path, link.to) for link in report.links) == links
    assert sorted(item.path for item in report.skipped) == left_out
    assert node(tmp_path / "a.zarr", arrays[0].strip("/"))[:].tolist() == [0, 1, 2]


def test_what_is_only_declared_is_not_written_for_its_fill_value(tmp_path: Path) -> None:
    payload = np.array([0x7E01], "u2").view("f2")[0]
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        file.create_dataset("x", (1 << 30,), "f2", chunks=(1 << 20,), fillvalue=payload)
        file.create_dataset("small", (1000,), "f2", chunks=(100,), fillvalue=payload)
    with pytest.raises(UnsafeSourceError, match=r"/x: 2,147,483,648 bytes are declared and 0 stored"):
        convert(source, tmp_path / "a.zarr")
    report = convert(source, tmp_path / "a.zarr", exclude=["/x"], verify=True)
    assert report.verification is not None
    assert report.verification.equal


def test_chunks_are_counted_over_all_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("x", "y"):
            file[name] = np.arange(60)
    chunks = {"*": (1,)}
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=chunks, max_chunks=120).complete
    with pytest.raises(UnsafeSourceError, match=r"/y: 60 chunks .* more than 59"):
        convert(tmp_path / "a.h5", tmp_path / "b.zarr", chunks=chunks, max_chunks=119)


@FORMATS
def test_variable_length_sequences_become_values_and_offsets(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    pieces = [np.arange(n, dtype=">f4") for n in (3, 0, 5, 1)]

    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (2, 2), h5py.vlen_dtype(np.dtype("<f4")))
        for i, piece in enumerate(pieces):
            made[i // 2, i % 2] = piece
        made.attrs["units"] = "m"

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    group = node(target, "x")
    values, offsets = group["values"][:], group["offsets"][:]
    for i, piece in enumerate(pieces):
        assert values[offsets[i] : offsets[i + 1]].tolist() == piece.tolist()
    assert group.attrs["units"] == "m"
    assert read_own(target)["details"]["x"]["sequences"] == {"shape": [2, 2]}
    assert "in another form: dataset of sequences /x: a group with the arrays values and offsets" in repr(report)
    assert report.verification is not None
    assert report.verification.equal


@FORMATS
@pytest.mark.parametrize("shape", [(), (30,), (6, 5)], ids=str)
def test_arrays_of_sequences_are_read_where_they_are(
    shape: tuple[int, ...], zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    held = np.empty((*shape, 4), object)
    for i in range(held.size):
        held.flat[i] = np.arange(i, i + i % 7, dtype="i4")

    def make(file: h5py.File) -> None:
        file.create_dataset("x", shape, np.dtype((h5py.vlen_dtype(np.dtype("i4")), (4,))))[...] = held

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    chunks = {"/x": (16,)} if zarr_format == 3 else None
    report = convert(source, target, zarr_format=zarr_format, chunks=chunks, window=1024, verify=True)
    group = node(target, "x")
    values, offsets = group["values"][:], group["offsets"][:]
    assert [values[start:stop].tolist() for start, stop in pairwise(offsets)] == [item.tolist() for item in held.flat]
    assert report.exit_code == 0


def test_references_become_paths_and_links_details_of_their_group(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["b/data"] = [1, 2]
        file["z"] = file["b/data"]
        file["soft"] = h5py.SoftLink("/nowhere")
        made = file.create_dataset("x", (3,), h5py.ref_dtype)
        made[0] = file["z"].ref
        made[1] = file["b"].ref

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, verify=True)
    assert read(target, "x").tolist() == ["/b/data", "/b", ""]
    group = node(target)
    assert dict(group["x"].attrs) == {}
    assert "in another form: dataset of references /x: paths of their targets, as text" in repr(report)
    assert read_own(target)["details"][""]["links"] == [
        {"name": "soft", "source": ".", "path": "/nowhere", "kind": "soft"},
        {"name": "z", "source": ".", "path": "/b/data", "kind": "hard"},
    ]
    assert [(link.path, link.kind, link.to) for link in report.links] == [
        ("/soft", "soft", "/nowhere"),
        ("/z", "hard", "/b/data"),
    ]
    assert report.verification is not None
    assert report.verification.equal


@pytest.mark.parametrize(
    "make", [odd_files.write_hard_links, odd_files.write_odd_names, odd_files.write_committed_type]
)
@FORMATS
def test_odd_trees_are_converted_whole(
    make: Callable[[Path], None], zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source = tmp_path / "a.h5"
    make(source)
    report = convert(source, tmp_path / "a.zarr", zarr_format=zarr_format, verify=True, on_unsupported="skip")
    assert report.verification is not None
    assert report.verification.equal
    inside = (tmp_path / "a.zarr").resolve()
    assert all(path.resolve().is_relative_to(inside) for path in inside.rglob("*"))


def test_what_cannot_be_carried_is_refused_at_once_and_all_of_it_before_the_first_write(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["good"] = [1]
        file.create_dataset("regions", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
        file.create_dataset("far", (2,), "i1", external=[("other.raw", 0, 2)])
        h5a.create(file["good"].id, b"roi", h5t.vlen_create(h5t.STD_REF_DSETREG), h5s.create(h5s.SCALAR))

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    with pytest.raises((UnsupportedError, UnsafeSourceError)) as caught:
        convert(source, target)
    for name in ("/regions", "/far", "'roi'", "other.raw", "on_unsupported='skip'"):
        assert name in str(caught.value)
    assert not target.exists()
    report = convert(source, target, on_unsupported="skip", verify=True)
    assert {(item.path, item.attribute) for item in report.skipped} == {
        ("/regions", None),
        ("/far", None),
        ("/good", "roi"),
    }
    assert report.exit_code == 3
    assert report.verification is not None
    assert report.verification.equal


def test_what_include_and_exclude_leave_out_is_listed_and_not_an_error(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        for name in ("a/x", "a/y", "b/x", "c"):
            file[name] = [1]

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, include=["/a", "*/x"], exclude=["/a/y"], verify=True)
    assert [entry.path for entry in report.converted] == ["/", "/a", "/a/x", "/b", "/b/x"]
    assert [item.path for item in report.skipped] == ["/a/y", "/c"]
    assert report.verification is not None
    assert report.verification.equal


def test_a_committed_type_that_is_left_out_is_listed(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file["x"] = [1]
        file["kind"] = np.dtype("<i4")
        file["kind"].attrs["of"] = "counts"
        file["other"] = np.dtype("<i8")

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, exclude=["/kind"], verify=True)
    assert [item.path for item in report.skipped] == ["/kind"]
    assert [item.path for item in report.notes] == ["/other"]
    assert report.exit_code == 0
    assert "1 object left out by include or exclude" in report.summary()
    assert report.verification is not None
    assert report.verification.equal


def test_external_storage_and_virtual_sources_are_read_only_where_allowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    raw = tmp_path / "in" / "raw.bin"
    raw.write_bytes(np.arange(4, dtype="<i4").tobytes())
    write(tmp_path / "in" / "part.h5", lambda file: file.create_dataset("p", data=np.arange(3)))
    layout = h5py.VirtualLayout((3,), "<i8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "in" / "part.h5"), "p", (3,))

    def make(file: h5py.File) -> None:
        file.create_dataset("raw", (4,), "<i4", external=[(str(raw), 0, 16)])
        file.create_virtual_dataset("virtual", layout)

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    with pytest.raises(UnsafeSourceError, match=r"(?s)raw.bin.*part.h5"):
        convert(source, target)
    convert(source, target, allow_external=[tmp_path / "in"])
    assert read(target, "raw").tolist() == [0, 1, 2, 3]
    assert read(target, "virtual").tolist() == [0, 1, 2]
    assert verify(source, target, allow_external=[tmp_path / "in"]).equal
    assert not verify(source, target).equal
    (tmp_path / "in" / "part.h5").unlink()
    with pytest.raises(UnsafeSourceError, match="no such file"):
        convert(source, tmp_path / "b.zarr", allow_external=[tmp_path / "in"])


def test_a_link_out_of_an_allowed_directory_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "in" / "raw.bin").symlink_to(tmp_path / "secret")
    source = write(
        tmp_path / "a.h5",
        lambda file: file.create_dataset("x", (4,), "<i4", external=[(str(tmp_path / "in" / "raw.bin"), 0, 16)]),
    )
    with pytest.raises(UnsafeSourceError):
        convert(source, tmp_path / "a.zarr", allow_external=[tmp_path / "in"])


def test_a_virtual_dataset_with_a_missing_source_is_refused(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((3,), "<i8")
    layout[:] = h5py.VirtualSource(".", "gone", (3,))
    source = write(tmp_path / "a.h5", lambda file: file.create_virtual_dataset("x", layout))
    with pytest.raises(UnsupportedError, match=r"gone.*fill values"):
        convert(source, tmp_path / "a.zarr")


def test_the_root_is_marked_with_source_settings_and_version(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.h5", dataset([1, 2])), tmp_path / "a.zarr"
    convert(source, target, codecs="zstd:1")
    mark = read_own(target)
    stat = source.stat()
    assert mark["source"] == {"path": "a.h5", "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    assert mark["settings"]["codecs"] == "zstd:1"
    assert mark["h5bound"]
    assert not (target / MARKER).exists()


@FORMATS
def test_consolidated_metadata_is_what_zarr_itself_would_consolidate(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_demo(source, frames=12)
    convert(source, target, zarr_format=zarr_format)
    ours = dict(zarr.open_consolidated(target, zarr_format=zarr_format).members(max_depth=None))
    with pytest.warns(ZarrUserWarning, match=r"h5bound\.json is not recognized"):  # as any key that is not Zarr's
        plain = dict(zarr.open_group(target, mode="r", use_consolidated=False).members(max_depth=None))
    assert ours.keys() == plain.keys()
    assert all(dict(ours[name].attrs) == dict(plain[name].attrs) for name in ours)


def test_a_target_that_exists_is_refused_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.h5", dataset([1, 2])), tmp_path / "a.zarr"
    convert(source, target)
    with pytest.raises(TargetError, match="overwrite"):
        convert(source, target)
    convert(source, target, overwrite=True, exclude=["/x"])
    assert list(node(target)) == []


def test_what_is_no_store_is_never_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", dataset([1, 2]))
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"meow")
    for target in (precious, source):
        with pytest.raises(TargetError):
            convert(source, target, overwrite=True)
    assert (precious / "cat.jpg").read_bytes() == b"meow"


def damage(path: Path, name: str) -> None:
    with h5py.File(path) as file:
        info = file[name].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset)
        raw.write(bytes(info.size))


def test_a_damaged_chunk_ends_the_conversion_or_leaves_its_dataset_out(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("bad", data=np.arange(100), chunks=(50,), compression="gzip")
        file["good"] = [1]

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    damage(source, "bad")
    with pytest.raises(CorruptChunkError, match="bad"):
        convert(source, target, codecs="zstd")
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)
    with pytest.raises(zarr.errors.GroupNotFoundError):
        zarr.open_group(target, mode="r")
    report = convert(source, target, codecs="zstd", on_unsupported="skip", overwrite=True, verify=True)
    assert [item.path for item in report.skipped] == ["/bad"]
    assert list(node(target)) == ["good"]
    assert report.verification is not None
    assert report.verification.equal


def test_an_interrupted_conversion_is_resumed_with_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_demo(source, frames=12)
    appeared: list[str] = []

    def interrupted(partial: str, path: str) -> None:
        if len(appeared) == 7:
            raise KeyboardInterrupt
        appeared.append(path)
        Path(partial).rename(path)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, window="1 MiB", workers=1)
    monkeypatch.undo()
    assert (target / MARKER).exists()
    with pytest.raises(TargetError, match="resume"):
        convert(source, target)
    with pytest.raises(TargetError, match="cannot resume: the store was begun with codecs=keep, now codecs=zstd"):
        convert(source, target, resume=True, codecs="zstd")
    before = {path: path.stat().st_mtime_ns for path in target.rglob("0") if path.is_file()}
    report = convert(source, target, resume=True, window="1 MiB", verify=True)
    assert report.verification is not None
    assert report.verification.equal
    assert any(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_source_that_changes_meanwhile_leaves_no_store(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.h5", dataset(np.arange(1000), chunks=(10,))), tmp_path / "a.zarr"

    def touch(_done: int, _total: int) -> None:
        os.utime(source)

    with pytest.raises(SourceChangedError):
        convert(source, target, window=400, progress=touch)
    with pytest.raises(TargetError, match="unfinished"):
        verify(source, target)


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_demo(source, frames=12)
    plan = convert(source, target, dry_run=True)
    assert not target.exists()
    assert not plan.complete
    done = convert(source, target)
    assert [(a.path, a.how, a.chunks, a.reasons) for a in plan.arrays] == [
        (a.path, a.how, a.chunks, a.reasons) for a in done.arrays
    ]


def test_the_report_is_written_and_progress_told(tmp_path: Path) -> None:
    source, told = write(tmp_path / "a.h5", dataset(np.arange(1000), chunks=(10,))), []
    report = convert(
        source, tmp_path / "a.zarr", report=tmp_path / "r.json", window=800, progress=lambda *at: told.append(at)
    )
    assert json.loads((tmp_path / "r.json").read_text()) == report.to_dict()
    assert told[-1] == (8000, 8000)
    assert told == sorted(told)


def test_a_file_that_the_caller_holds_open_is_converted_and_stays_open(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(10), chunks=(3,), compression="gzip")
        report = convert(file, tmp_path / "a.zarr")
        assert file
        assert report.arrays[0].how == "copied"
    assert read(tmp_path / "a.zarr", "x").tolist() == list(range(10))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_it_runs_on_whatever_scheduler_is_in_force(scheduler: str, tmp_path: Path) -> None:
    import dask

    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write_demo(source, frames=12)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        report = convert(source, target, window="4 MiB")
    assert report.complete
    assert verify(source, target).equal


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        convert(tmp_path / "none.h5", tmp_path / "a.zarr")


@pytest.mark.parametrize("option", ["max_objects", "max_depth", "max_chunks"])
def test_a_limit_names_the_option_that_lifts_it(option: str, tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("a/b/c/x", data=np.arange(10), chunks=(1,))

    source = write(tmp_path / "a.h5", make)
    options: Any = {option: 2}
    with pytest.raises(UnsafeSourceError, match=option):
        convert(source, tmp_path / "a.zarr", **options)
    options[option] = 20
    assert convert(source, tmp_path / "a.zarr", **options).complete
    assert verify(source, tmp_path / "a.zarr").equal


@pytest.mark.slow
def test_a_cluster_converts_and_compares(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    source, told = tmp_path / "a.h5", []
    write_demo(source, frames=12)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        report = convert(
            source,
            tmp_path / "a.zarr",
            scheduler=cluster.scheduler_address,
            window="8 MiB",
            codecs="zstd",
            progress=lambda *at: told.append(at),
        )
        assert verify(source, tmp_path / "a.zarr").equal
    assert report.complete
    assert told[-1][0] == told[-1][1]


@FORMATS
def test_compounds_with_text_that_is_not_utf8_become_columns_with_bytes(
    zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    def make(file: h5py.File) -> None:
        text = h5py.string_dtype()
        rows = [(1, b"a", "\u00e9".encode()), (2, b"\xff", b"m")]
        file["rows"] = np.array(rows, [("number", "i4"), ("text", text), ("utf8", text)])

    source, target = write(tmp_path / "a.h5", make), tmp_path / "a.zarr"
    report = convert(source, target, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    assert report.forms["columns"] == report.forms["bytes"] == 1
    assert read(target, "rows/text")[:].tolist() == [b"a", b"\xff"]
    assert read(target, "rows/utf8")[:].tolist() == ["\u00e9", "m"]


def test_the_reason_for_a_chunk_that_was_never_written_says_so(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("x", (4,), "<f2", chunks=(2,), fillvalue=np.array([0x7E01], "u2").view("f2")[0])[0] = 1

    report = convert(write(tmp_path / "a.h5", make), tmp_path / "a.zarr", verify=True)
    assert report.arrays[0].reasons == ("1 of 2 chunks never written: given their fill value",)


class LoggingStore(MemoryStore):
    """A store that logs the chunks that are written to it."""

    log: Log

    async def set(self, key: str, value: Any, byte_range: tuple[int, int] | None = None) -> None:
        if "/c/" in key:
            self.log.add("write", key)
        await super().set(key, value, byte_range)


@pytest.mark.parametrize(
    ("options", "opens"),
    [({}, 1), ({"codecs": "zstd"}, 1), ({"window": 1}, 11), ({"overwrite": True}, 2), ({"dry_run": True}, 1)],
    ids=str,
)
def test_the_source_is_opened_once_and_closed_before_a_chunk_is_written(
    options: dict[str, Any], opens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("x", data=np.arange(60), chunks=(6,))
        file.create_dataset("text", data=["a", "b"], dtype=h5py.string_dtype())  # is read before the first write

    source, store = write(tmp_path / "a.h5", make), LoggingStore()
    store.log = log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    convert(source, store, workers=1, **options)
    order = [event for event in log.order() if event != "read"]
    assert order.count("open") == order.count("close") == opens
    assert order.count("write") == (0 if "dry_run" in options else 11)
    for index in (index for index, event in enumerate(order) if event == "write"):
        assert order[:index].count("open") == order[:index].count("close")


def test_a_file_with_text_in_compounds_is_open_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 crashes in a window that reads such values while another closes the handle that opened the dataset first."""
    values = np.array([(f"{i}" * 9, i) for i in range(40)], [("text", h5py.string_dtype()), ("n", "<i4")])
    source, log = write(tmp_path / "a.h5", dataset(values, chunks=(2,))), Log(tmp_path / "log")
    count_files(monkeypatch, log)
    report = convert(source, tmp_path / "a.zarr", window=1, workers=8, verify=True)
    assert report.verification is not None
    assert report.verification.equal
    assert len(from_hdf5(source, "x", window=1).compute(num_workers=8)) == 40
    opens = list(accumulate({"open": 1, "close": -1}.get(event, 0) for event in log.order()))
    assert (max(opens), opens[-1]) == (1, 0)


def test_a_verification_opens_the_source_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.h5", dataset(np.arange(60), chunks=(6,)))
    convert(source, tmp_path / "a.zarr")
    log = Log(tmp_path / "log")
    count_files(monkeypatch, log)
    assert verify(source, tmp_path / "a.zarr").equal
    assert [event for event in log.order() if event != "read"] == ["open", "close"]


def test_a_chunk_that_is_encoded_again_by_blosc_has_the_element_size_of_its_metadata(tmp_path: Path) -> None:
    values = np.arange(40, dtype="<i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", (40,), "<i2", chunks=(20,), shuffle=True, **hdf5plugin.Blosc())
        made[:20] = values[:20]
        made.id.write_direct_chunk((20,), values[20:].tobytes(), filter_mask=3)  # no filter was applied
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr").converted[1].how == "mixed"
    array = zarr.open_array(tmp_path / "a.zarr", path="x", mode="r")
    np.testing.assert_array_equal(array[:], values)
    blosc = json.loads((tmp_path / "a.zarr" / "x" / "zarr.json").read_text())["codecs"][-1]["configuration"]
    assert [(tmp_path / "a.zarr" / "x" / "c" / str(i)).read_bytes()[3] for i in (0, 1)] == [blosc["typesize"]] * 2


def test_the_order_of_elements_is_that_of_hdf5_whatever_zarr_is_set_to(tmp_path: Path) -> None:
    values = np.arange(3 * 41).reshape(3, 41)
    source = write(tmp_path / "a.h5", dataset(values, chunks=(2, 20)))
    with zarr.config.set({"array.order": "F"}):
        assert convert(source, tmp_path / "a.zarr", zarr_format=2).converted[1].how == "copied"
    group: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["x"][:], values)


def test_a_conversion_without_memory_says_what_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 500 MiB")

    monkeypatch.setattr("h5bound.conversion.job.encode_chunk", fail)
    with pytest.raises(MemoryError) as caught:
        convert(path, tmp_path / "a.zarr")
    assert "overwrite=True, and a smaller window=, fewer workers= or smaller shards" in caught.value.__notes__[0]
