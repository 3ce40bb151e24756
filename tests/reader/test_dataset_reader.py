"""Whatever strategy reads a dataset, the values are those of h5py."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from h5bound.errors import CorruptChunkError, UnsupportedError
from h5bound.files.local import LocalFile
from h5bound.reader import chunked, small_chunks
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.encoded import EncodedBlock
from tests.support.raw_sequences import Memory, write_elements
from tests.support.readers import GZIP, VALUES, check, check_all, decode_later, opened
from tests.support.strategies import leave_edges_unfiltered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module", autouse=True, params=[0, small_chunks.SMALL_NBYTES], ids=["one_by_one", "together"])
def chunks_of_any_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read small chunks one by one and together."""
    with patch.object(small_chunks, "SMALL_NBYTES", request.param):
        yield


@dataclass(frozen=True, slots=True)
class Oddity:
    """A dataset, and the strategy by which it is read."""

    id: str
    """Name of the case."""
    write: Callable[[h5py.File], object]
    """Writes the dataset ``x``."""
    strategy: str = "direct"
    """Strategy, "direct" or "h5py"."""
    reason: str = ""
    """Part of the reason for h5py."""


def make(**options: Any) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset("x", **options)


def make_low(kind: h5t.TypeID, shape: tuple[int, ...], raw: bytes | None = None, **settings: Any) -> Any:
    """Return a writer of a dataset that the high level of h5py cannot make."""

    def write(file: h5py.File) -> None:
        plist = h5p.create(h5p.DATASET_CREATE)
        for setting, value in settings.items():
            getattr(plist, setting)(*value)
        dataset = h5d.create(file.id, b"x", kind, h5s.create_simple(shape), plist)
        if raw is not None:
            dataset.write(h5s.ALL, h5s.ALL, np.frombuffer(raw, f"V{kind.get_size()}"), kind)

    return write


def write_virtual(file: h5py.File) -> None:
    file["source"] = VALUES
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[...] = h5py.VirtualSource(file["source"])
    file.create_virtual_dataset("x", layout)


def write_external(file: h5py.File) -> None:
    raw = file.filename + ".raw"
    file.create_dataset("x", data=VALUES, external=[(raw, 0, h5py.h5f.UNLIMITED)])


def odd_int() -> h5t.TypeID:
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(24)
    kind.set_offset(3)
    return kind


def odd_float() -> h5t.TypeID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(23, 15, 8, 0, 15)
    kind.set_size(4)
    kind.set_precision(24)
    kind.set_ebias(127)
    return kind


def spaced_string() -> h5t.TypeID:
    kind = h5t.C_S1.copy()
    kind.set_size(4)
    kind.set_strpad(h5t.STR_SPACEPAD)
    return kind


def pair_with_bits(offset: int) -> h5t.TypeID:
    kind = h5t.create(h5t.COMPOUND, offset + 8)
    kind.insert(b"flag", 0, h5t.STD_B8LE)
    kind.insert(b"bits", offset, h5t.array_create(h5t.STD_B32BE, (2,)))
    return kind


NAN = np.array(0x7FF8_0000_0000_0123, "u8").view("f8")[()]
PAIR = np.dtype({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8], "itemsize": 16})
TEXT = np.array(["a", "", "Ångström", "x" * 300] * 9, object).reshape(6, 6)
FORM = "take another form in memory"
OBJECTS = "become Python objects"

ODDITIES = [
    Oddity("gzip_shuffle", make(data=VALUES, **GZIP)),
    Oddity("gzip_shuffle_fletcher32", make(data=VALUES, fletcher32=True, **GZIP)),
    Oddity("chunked_unfiltered", make(data=VALUES, chunks=(4, 5))),
    Oddity("big_endian", make(data=VALUES.astype(">i4"), **GZIP)),
    Oddity("one_chunk", make(data=VALUES, chunks=VALUES.shape, compression="gzip")),
    Oddity(
        "chunk_larger_than_the_dataset", make(data=VALUES, chunks=(20, 30), maxshape=(None, 99), compression="gzip")
    ),
    Oddity("bool", make(data=VALUES % 2 == 0, **GZIP)),
    Oddity("complex", make(data=VALUES * (1 + 2j), **GZIP)),
    Oddity("half", make(data=(VALUES % 999).astype("f2"), **GZIP)),
    Oddity("fixed_string", make(data=VALUES.astype("S6"), **GZIP)),
    Oddity("opaque", make(data=VALUES.view("V4"), **GZIP)),
    Oddity("datetime", make(data=VALUES.astype("M8[s]").astype(h5py.opaque_dtype("M8[s]")), **GZIP)),
    Oddity("enum", make(data=VALUES, dtype=h5py.enum_dtype({"a": 0, "b": 7919}, "<i4"), **GZIP)),
    Oddity("compound_with_padding", make(data=np.ones((11, 13), PAIR), **GZIP)),
    Oddity("array_type", make(shape=(11, 13), dtype=np.dtype(("<i4", (2, 3))), **GZIP)),
    Oddity("never_written", make(shape=(11, 13), dtype="i4", **GZIP)),
    Oddity("fill_value", make(shape=(11, 13), dtype="i4", fillvalue=-7, **GZIP)),
    Oddity("fill_nan_payload", make(shape=(11, 13), dtype="f8", fillvalue=NAN, **GZIP)),
    Oddity("fill_compound", make(shape=(11, 13), dtype=PAIR, fillvalue=np.array((3, 0.5), PAIR)[()], **GZIP)),
    Oddity("fill_string", make(shape=(11, 13), dtype="S5", fillvalue=b"none", **GZIP)),
    Oddity("fill_never", make(shape=(11, 13), dtype="i4", fillvalue=5, fill_time="never", chunks=(4, 5))),
    Oddity("no_elements", make(shape=(0, 13), dtype="i4", maxshape=(None, 13), **GZIP)),
    Oddity("contiguous", make(data=VALUES)),
    Oddity("contiguous_big_endian", make(data=VALUES.astype(">f8"))),
    Oddity("contiguous_scalar", make(data=7.5)),
    Oddity("contiguous_compound", make(data=np.ones(5, PAIR))),
    Oddity("contiguous_never_written", make(shape=(5, 6), dtype="i4", fillvalue=3), "h5py", "never written"),
    Oddity("compact", make_low(h5t.STD_I32LE, (3,), bytes(range(12)), set_layout=(h5d.COMPACT,)), "h5py", "compact"),
    Oddity("external", write_external, "h5py", "stored in other files"),
    Oddity("virtual", write_virtual, "h5py", "is virtual"),
    Oddity(
        "vlen_string", make(data=TEXT, dtype=h5py.string_dtype(), chunks=(4, 5), compression="gzip"), "h5py", OBJECTS
    ),
    Oddity("vlen_string_scalar", make(data="text", dtype=h5py.string_dtype()), "h5py", OBJECTS),
    Oddity("reference", make(data=np.array([], h5py.ref_dtype)), "h5py", OBJECTS),
    Oddity("integer_of_24_bits", make_low(odd_int(), (5,), bytes(range(20))), "h5py", FORM),
    Oddity("float_of_24_bits", make_low(odd_float(), (5,), bytes(range(20))), "h5py", FORM),
    Oddity("bit_field", make_low(h5t.STD_B16BE, (5,), bytes(range(10)))),
    Oddity("chunked_bit_field", make_low(h5t.STD_B8LE, (9,), bytes(range(9)), set_chunk=((4,),), set_deflate=(5,))),
    Oddity("compound_with_bit_fields", make_low(pair_with_bits(1), (2,), bytes(range(18)))),
    Oddity("compound_with_bit_fields_and_gaps", make_low(pair_with_bits(4), (2,), bytes(range(24))), "h5py", FORM),
    Oddity("space_padded_string", make_low(spaced_string(), (2,), b"ab  c   "), "h5py", FORM),
    Oddity("scale_offset", make(data=VALUES, chunks=(4, 5), scaleoffset=0), "h5py", "filter scaleoffset"),
]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in ODDITIES])
def test_every_oddity_reads_as_h5py_reads_it(case: Oddity, libver: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        case.write(file)
    with opened(tmp_path / "x.h5") as (dataset, reader):
        assert reader.strategy == case.strategy
        assert case.reason in reader.reason
        assert bool(reader.reason) == (case.strategy == "h5py")
        check_all(dataset, reader)


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("maxshape", [(11, 13), (22, 13), (None, 13), (11, None), (22, None), (None, None)], ids=str)
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
@pytest.mark.parametrize("filters", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
def test_every_kind_of_chunk_index_reads_as_h5py_reads_it(
    libver: str, maxshape: tuple[int | None, ...], filters: dict[str, str], tmp_path: Path, *, early: bool
) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((4, 5))
        if filters:
            plist.set_deflate(4)
        if early:
            plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        limits = tuple(h5s.UNLIMITED if n is None else n for n in maxshape)
        dataset = h5d.create(file.id, b"x", h5t.STD_I32LE, h5s.create_simple((11, 13), limits), plist)
        h5py.Dataset(dataset)[:8, :] = VALUES[:8]
    with opened(tmp_path / "x.h5") as (dataset, reader):
        assert reader.strategy == "direct"
        check_all(dataset, reader)


HDF5_2 = h5py.version.hdf5_version_tuple >= (2, 0, 0)
"""Before, HDF5 does not count the user block in offsets: h5py gives the encoded chunks, and reads contiguous data."""


@pytest.mark.parametrize("userblock", [512, 4096])
@pytest.mark.parametrize("options", [{}, {"chunks": (4, 5)}, GZIP], ids=["contiguous", "plain", "gzip"])
def test_a_user_block_moves_nothing(userblock: int, options: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("x", data=VALUES, **options)
    with opened(tmp_path / "x.h5") as (dataset, reader):
        assert reader.strategy == ("direct" if options or HDF5_2 else "h5py")
        check_all(dataset, reader)


@pytest.mark.parametrize("known", [True, False])
def test_unfiltered_edge_chunks_are_read_as_such_or_left_to_h5py(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((4, 5))
    plist.set_shuffle()
    leave_edges_unfiltered(plist)
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        space = h5s.create_simple((11, 13))
        h5py.Dataset(h5d.create(file.id, b"x", h5t.STD_I32LE, space, plist))[...] = VALUES
    if not known:
        monkeypatch.setattr(chunked, "read_edge_unfiltered", lambda *_: None)
    with opened(tmp_path / "x.h5") as (dataset, reader):
        assert reader.strategy == ("direct" if known else "h5py")
        check_all(dataset, reader)


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 5)}, GZIP], ids=["contiguous", "plain", "gzip"])
@pytest.mark.parametrize("how", ["core", "stdio", "fileobj", "r+", "swmr"])
def test_a_file_that_is_not_local_and_read_only_is_asked_through_hdf5(
    how: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=VALUES, **options)
    source: Any = io.BytesIO(path.read_bytes()) if how == "fileobj" else path
    settings: dict[str, Any] = {"core": {"driver": "core"}, "stdio": {"driver": "stdio"}, "swmr": {"swmr": True}}
    with opened(source, mode="r+" if how == "r+" else "r", **settings.get(how, {})) as (dataset, reader):
        with pytest.raises(UnsupportedError, match="the file is"):
            LocalFile.of(dataset.file.id)
        assert reader.strategy == ("direct" if options else "h5py")
        check_all(dataset, reader)


def test_values_not_yet_flushed_and_a_dataset_that_has_grown_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=VALUES, maxshape=(None, None), **GZIP)
        reader = DatasetReader(dataset)
        check_all(dataset, reader)
        dataset[...] = -VALUES
        check_all(dataset, reader)
        dataset.resize((30, 40))
        dataset[20:, 20:] = 5
        check_all(dataset, reader)
        reader.close()


def test_contiguous_data_are_read_in_spans_and_few_bytes_of_each_row_through_h5py(tmp_path: Path) -> None:
    values = np.arange(40 * 50 * 60, dtype="<i2").reshape(40, 50, 60)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = values
    with opened(tmp_path / "x.h5") as (dataset, reader), patch.object(dataset.__class__, "__getitem__") as asked:
        for region in np.s_[3:7, 0:50, 0:60], np.s_[3:7, 5:50, 3:20], np.s_[3:4, 7:8, 3:5], np.s_[0:1, 0:1, 0:60]:
            assert reader.read(region).tobytes() == values[region].tobytes()
        assert asked.call_count == 0
        reader.read(np.s_[3:7, 5:50, 3:7])
        assert asked.call_count == 1
    with opened(tmp_path / "x.h5") as (dataset, reader):
        check_all(dataset, reader)


def test_filtered_chunks_are_held_encoded_unless_that_is_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    monkeypatch.setattr(small_chunks, "SMALL_NBYTES", 0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("small", data=np.arange(2000).reshape(40, 50), **GZIP)
        file.create_dataset("noise", data=noise, chunks=(40, 50), compression="gzip")
        file.create_dataset("plain", data=noise, chunks=(4, 5))
        file.create_dataset("holes", (40, 50), "i4", **GZIP)[:4] = 1
    whole = (slice(0, 40), slice(0, 50))
    for name, region, later in (
        ("small", whole, True),
        ("small", (slice(1, 2), slice(0, 1)), False),  # one element would keep its chunk
        ("noise", whole, False),
        ("plain", whole, False),
        ("holes", whole, False),
        ("holes", (slice(0, 4), slice(0, 50)), True),
    ):
        with opened(tmp_path / "a.h5", name) as (dataset, reader):
            assert isinstance(reader.read_encoded(region), EncodedBlock) == later
            check(decode_later(reader, region), dataset[region])


def test_threads_may_decode_one_encoded_block_at_once(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, (4, 200_000)).astype("<i4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 200_000), **hdf5plugin.LZ4())
    with opened(tmp_path / "x.h5") as (_, reader):
        encoded = reader.read_encoded(np.s_[0:4, 0:200_000])
    assert isinstance(encoded, EncodedBlock)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(encoded.decode) for _ in range(64)]
        assert all(block.result().tobytes() == values.tobytes() for block in found)


def test_a_block_of_one_chunk_takes_the_block_and_one_chunk(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, (2, 500, 1000)).astype("<i2")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 500, 1000), compression="gzip", shuffle=True)
        stored = file["x"].id.get_chunk_info(0).size
    with opened(tmp_path / "x.h5") as (_, reader):
        reader.read(np.s_[0:1, 0:1, 0:1])
        tracemalloc.start()
        block = reader.read(np.s_[1:2, 0:500, 0:1000])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert block.tobytes() == values[1:].tobytes()
    assert peak < 2 * block.nbytes + stored + 50_000


@pytest.mark.parametrize("name", ["gzip", "plain", "contiguous", "text"])
def test_threads_read_one_dataset_at_once(name: str, tmp_path: Path) -> None:
    values = np.arange(200 * 300).reshape(200, 300)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("gzip", data=values, chunks=(20, 30), compression="gzip", shuffle=True)
        file.create_dataset("plain", data=values, chunks=(20, 30))
        file.create_dataset("contiguous", data=values)
        file.create_dataset("text", data=values.astype("S6").astype(object), dtype=h5py.string_dtype(), chunks=(20, 30))
    with opened(tmp_path / "x.h5", name) as (dataset, reader), ThreadPoolExecutor(8) as pool:
        want = dataset[...]
        rng = np.random.default_rng(0)
        ends = np.sort(rng.integers(0, 200, (100, 2)))
        regions = [(slice(int(a), int(b)), slice(int(a) // 2, 300)) for a, b in ends]
        for region, got in zip(regions, pool.map(reader.read, regions), strict=True):
            assert np.array_equal(got, want[region])


def count_descriptors(path: Path) -> int:
    """Return how often this process has a file open."""
    return sum(os.path.realpath(link) == str(path.resolve()) for link in Path("/proc/self/fd").iterdir())


def test_close_lets_go_of_everything_once_the_last_read_has_ended(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP)
    file = h5py.File(tmp_path / "x.h5")
    reader = DatasetReader(file["x"])
    entered, go = threading.Event(), threading.Event()
    original = os.preadv

    def slow(descriptor: int, parts: Any, offset: int) -> int:
        entered.set()
        assert go.wait(10)
        return original(descriptor, parts, offset)

    with patch.object(os, "preadv", slow), ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.read, np.s_[0:11, 0:13])
        assert entered.wait(10)
        reader.close()
        reader.close()
        go.set()
        assert np.array_equal(reading.result(), VALUES)
    with pytest.raises(ValueError, match="closed"):
        reader.read(np.s_[0:1, 0:1])
    file.close()
    assert count_descriptors(tmp_path / "x.h5") == 0


def test_a_shared_descriptor_is_left_open_for_the_others(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP)
        file.create_dataset("y", data=VALUES)
    with h5py.File(tmp_path / "x.h5") as file:
        local = LocalFile.of(file.id)
        first, second = DatasetReader(file["x"], local), DatasetReader(file["y"], local)
        assert np.array_equal(first.read(np.s_[0:11, 0:13]), VALUES)
        first.close()
        assert np.array_equal(second.read(np.s_[0:11, 0:13]), VALUES)
        second.close()
        assert count_descriptors(tmp_path / "x.h5") == 2
        local.close()
        local.close()
    assert count_descriptors(tmp_path / "x.h5") == 0


def spoil_chunk(path: Path, data: bytes, mask: int = 0) -> None:
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((4, 5), data, filter_mask=mask)


@pytest.mark.parametrize(
    ("data", "mask", "found"),
    [
        pytest.param(b"not zlib", 0, "deflate: it is not a zlib stream of 80 bytes", id="undecodable"),
        pytest.param(bytes(79), 3, "79 bytes are stored where 80 are declared", id="too_short_unfiltered"),
        pytest.param(bytes(81), 3, "81 bytes are stored where 80 are declared", id="too_long_unfiltered"),
        pytest.param(bytes(79), 2, "has 79 bytes where 80 are declared", id="too_short_for_shuffle"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_damaged_chunk_is_named(data: bytes, mask: int, found: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP)
    spoil_chunk(path, data, mask)
    with opened(path, mode=mode) as (_, reader):
        assert np.array_equal(reader.read(np.s_[0:4, 0:13]), VALUES[:4])
        for region in np.s_[0:11, 0:13], np.s_[4:8, 5:10], np.s_[7:8, 5:6]:
            with pytest.raises(CorruptChunkError, match=found) as caught:
                reader.read(region)
            assert str(caught.value).startswith(f"/x in {path}, chunk at (4, 5): ")


def test_a_wrong_checksum_is_named_and_h5py_refuses_it_too(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(4, 5), fletcher32=True)
    spoil_chunk(path, bytes(80) + b"junk")
    with opened(path) as (dataset, reader):
        with pytest.raises(CorruptChunkError, match=r"chunk at \(4, 5\): fletcher32: it has the Fletcher-32 checksum"):
            reader.read(np.s_[0:11, 0:13])
        with pytest.raises(OSError, match="filter returned failure"):
            dataset[...]


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 5)}, GZIP], ids=["contiguous", "plain", "gzip"])
def test_a_file_cut_short_while_it_is_open_is_never_read_as_zeros(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **options)
    with opened(path) as (_, reader):
        reader.read(np.s_[0:1, 0:1])
        os.truncate(path, path.stat().st_size - 40)
        for read in (reader.read, reader.read_encoded):
            with pytest.raises(CorruptChunkError, match="past the end of the file"):
                read(np.s_[0:11, 0:13])


def test_a_chunk_said_to_be_huge_is_refused_without_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP)
        info = file["x"].id.get_chunk_info(0)
    data = path.read_bytes()
    entry = info.size.to_bytes(4, "little") + bytes(4) + bytes(24)  # size, mask, coordinates of the first chunk
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, (0xF0000000).to_bytes(4, "little") + bytes(28)))
    tracemalloc.start()
    with opened(path) as (_, reader), pytest.raises(CorruptChunkError, match="past the end of the file"):
        reader.read(np.s_[0:4, 0:5])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_filter_that_hdf5_does_not_have_is_named(tmp_path: Path) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((4, 5))
    plist.set_filter(512, 1, (1, 2))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = h5d.create(file.id, b"x", h5t.STD_I32LE, h5s.create_simple((4, 5)), plist)
        dataset.write_direct_chunk((0, 0), bytes(80))
    with opened(tmp_path / "x.h5") as (_, reader):
        assert (reader.strategy, "filter 512" in reader.reason) == ("h5py", True)
        with pytest.raises(UnsupportedError, match=r"/x in .*x\.h5: HDF5 has no filter 512"):
            reader.read(np.s_[0:4, 0:5])


def test_a_chunk_that_only_h5py_decodes_and_refuses_is_named_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(4, 5), compression="gzip", scaleoffset=0)
    spoil_chunk(tmp_path / "x.h5", b"not that")
    with opened(tmp_path / "x.h5") as (_, reader), pytest.raises(CorruptChunkError, match=r"block at \(0, 0\)"):
        reader.read(np.s_[0:11, 0:13])


def test_a_null_dataspace_has_nothing_to_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = h5py.Empty("f8")
    with opened(tmp_path / "x.h5") as (_, reader), pytest.raises(UnsupportedError, match="null dataspace"):
        reader.read(())


FAULTS = """
import resource, sys, threading
import h5py
from h5bound.reader.dataset_reader import DatasetReader

def read(reader, dataset):
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for region in dataset.iter_chunks():
            reader.read(region)
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

with h5py.File(sys.argv[1]) as file:
    reader = DatasetReader(file["x"])
    thread = threading.Thread(target=read, args=(reader, file["x"]))
    thread.start()
    thread.join()
    reader.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is not known")
def test_the_memory_of_one_chunk_serves_the_next(tmp_path: Path) -> None:
    """Read again, 8 chunks of 2 MiB take no new pages; without `reuse_freed` it is some 6,000."""
    values = np.random.default_rng(0).integers(0, 99, (8, 1 << 19)).astype("<i4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 1 << 19), **hdf5plugin.Bitshuffle(cname="lz4"))
    command = [sys.executable, "-c", FAULTS, str(tmp_path / "x.h5")]
    place = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}  # dask's nannies set one
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=place)
    assert int(done.stdout) < 500


@pytest.mark.slow
def test_no_codec_library_is_loaded_before_a_dataset_needs_it() -> None:
    code = (
        "import sys, h5bound.reader.dataset_reader\n"
        "print({'deflate', 'numcodecs', 'imagecodecs', 'hdf5plugin', 'zarr', 'blosc2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


I16 = h5t.STD_I64LE.copy()
I16.set_size(16)
I16.set_precision(128)
TEXT = h5t.py_create(h5py.string_dtype(), logical=True)


def compound_of(member: h5t.TypeID) -> h5t.TypeID:
    """Return a compound of an integer and a member."""
    tid = h5t.create(h5t.COMPOUND, 4 + member.get_size())
    tid.insert(b"k", 0, h5t.STD_I32LE)
    tid.insert(b"m", 4, member)
    return tid


def test_sequences_that_h5py_cannot_read_are_read(tmp_path: Path) -> None:
    path, memory = tmp_path / "a.h5", Memory()
    numbers, big = np.arange(3, dtype=">i4"), h5t.STD_I32BE
    inner = [memory.sequence(big, numbers[:count].tobytes()) for count in (2, 0, 3)]
    key = np.int32(7).tobytes()
    with h5py.File(path, "w") as file:
        file["target"] = 1
        address = np.uint64(h5py.h5o.get_info(file["target"].id).addr).tobytes()
        cases = {
            "time": (h5t.UNIX_D64LE, [b"12345678", b"abcdefgh"]),
            "wide": (I16, [b"0123456789abcdef"]),
            "text": (compound_of(TEXT), [key + memory.text("a"), key + memory.text("bé")]),
            "nested": (compound_of(h5t.vlen_create(big)), [key + item for item in inner]),
            "reference": (compound_of(h5t.STD_REF_OBJ), [key + address]),
        }
        for name, (base, elements) in cases.items():
            rows = [memory.sequence(base, b"".join(elements)), memory.sequence(base, b"")]
            write_elements(file, name, h5t.vlen_create(base), rows)
    with h5py.File(path) as file:
        read = {name: DatasetReader(file[name]).read((slice(0, 2),)) for name in cases}
        assert {name: len(values[1]) for name, values in read.items()} == dict.fromkeys(cases, 0)
        assert read["time"][0].tobytes() == b"12345678abcdefgh"
        assert read["wide"][0].tobytes() == b"0123456789abcdef"
        assert read["text"][0].tolist() == [(7, b"a"), (7, "bé".encode())]
        assert [item.tolist() for item in read["nested"][0]["m"]] == [[0, 1], [], [0, 1, 2]]
        assert file[read["reference"][0]["m"][0]].name == "/target"
