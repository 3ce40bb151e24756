"""The filter table: stored chunks decode to what HDF5 reads, and Zarr reads the same with the codecs of the table."""

from __future__ import annotations

import asyncio
import bz2
import json
import math
import tracemalloc
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import h5py
import hdf5plugin
import numpy as np
import pytest
import zarr
from h5py import h5d, h5p, h5s, h5t, h5z
from numcodecs import blosc, zstd
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from h5bound.buffers import DamagedError, Pieces
from h5bound.codecs import decoders
from h5bound.codecs.batches import check_all
from h5bound.codecs.chunk_decoder import Decoder, make_decoder
from h5bound.codecs.decoders import fletcher32
from h5bound.codecs.filters import FILTERS, to_codec_v3, translate_codecs
from h5bound.codecs.pipeline import Filter
from h5bound.errors import UnsupportedError
from h5bound.hdf5.dataset import read_filters
from h5bound.zarr_model.array_spec import make_codecs

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.repeat(np.cumsum(np.random.default_rng(0).integers(-3, 4, (40, 3)), axis=1), 10, axis=1).astype("<i2")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A filter pipeline, and whether Zarr has codecs for it."""

    id: str
    """Name of the case."""
    filters: tuple[tuple[int, tuple[int, ...]], ...]
    """Numbers and client data values, in order."""
    zarr: bool
    """Whether Zarr reads the stored bytes."""
    dtype: str = "<i2"
    """Type of the values."""
    chunks: tuple[int, int] = (20, 10)
    """Chunk shape of the dataset, which is 40 x 30."""


PIPELINES = [
    Pipeline("gzip", ((1, (6,)),), zarr=True),
    Pipeline("shuffle", ((2, ()),), zarr=True),
    Pipeline("shuffle_gzip", ((2, ()), (1, (4,))), zarr=True),
    Pipeline("shuffle_gzip_big_endian", ((2, ()), (1, (4,))), zarr=True, dtype=">i2"),
    Pipeline("shuffle_gzip_doubles", ((2, ()), (1, (4,))), zarr=True, dtype="<f8"),
    Pipeline("fletcher32", ((3, ()),), zarr=True),
    Pipeline("fletcher32_odd_length", ((3, ()),), zarr=True, dtype="u1", chunks=(3, 7)),
    Pipeline("shuffle_gzip_fletcher32", ((2, ()), (1, (4,)), (3, ())), zarr=True),
    Pipeline("fletcher32_shuffle_gzip", ((3, ()), (2, ()), (1, (4,))), zarr=True),
    Pipeline("fletcher32_shuffle_leaves_bytes", ((3, ()), (2, ())), zarr=False, dtype="<f8", chunks=(20, 10)),
    Pipeline("gzip_shuffle", ((1, (4,)), (2, ())), zarr=False),
    Pipeline("bzip2", ((307, (9,)),), zarr=True),
    Pipeline("zstd", ((32015, (5,)),), zarr=True),
    Pipeline("shuffle_zstd", ((2, ()), (32015, (5,))), zarr=True, dtype="<f4"),
    *(
        Pipeline(f"blosc_{name}_{shuffle}", ((32001, (0, 0, 0, 0, 5, shuffle, code)),), zarr=True)
        for code, name in ((0, "blosclz"), (1, "lz4"), (2, "lz4hc"), (4, "zlib"), (5, "zstd"))
        for shuffle in (0, 1, 2)
    ),
    Pipeline("lzf", ((32000, ()),), zarr=False),
    Pipeline("szip", ((4, (32, 8)),), zarr=False),
    Pipeline("lz4", ((32004, ()),), zarr=False),
    Pipeline("lz4_blocks", ((32004, (64,)),), zarr=False),
    Pipeline("bitshuffle", ((32008, (0, 0)),), zarr=False),
    Pipeline("bitshuffle_lz4", ((32008, (0, 2)),), zarr=False),
    Pipeline("bitshuffle_zstd", ((32008, (0, 3, 1)),), zarr=False),
    Pipeline("bitshuffle_small_blocks", ((32008, (16, 2)),), zarr=False),
]


def with_id(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case.id) for case in cases]


def write(path: Path, case: Pipeline) -> np.ndarray[Any, Any]:
    values = VALUES.astype(case.dtype)
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk(case.chunks)
    for number, options in case.filters:
        if number == 2:
            plist.set_shuffle()
        elif number == 3:
            plist.set_fletcher32()
        elif number == 4:
            plist.set_szip(*options)
        else:
            plist.set_filter(number, h5z.FLAG_OPTIONAL, options)
    with h5py.File(path, "w") as file:
        tid = h5t.py_create(values.dtype)
        h5py.Dataset(h5d.create(file.id, b"x", tid, h5s.create_simple(values.shape), plist))[...] = values
    return values


def read_chunks(dataset: h5py.Dataset) -> dict[tuple[int, ...], bytes]:
    """Return the encoded bytes of each chunk by its chunk coordinates."""
    chunks = {}
    for place in np.ndindex(*(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))):
        origin = tuple(i * c for i, c in zip(place, dataset.chunks, strict=True))
        mask, chunks[place] = dataset.id.read_direct_chunk(origin)
        assert mask == 0
    return chunks


def chunk_of(values: np.ndarray[Any, Any], place: tuple[int, ...], chunks: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return values[tuple(slice(i * c, i * c + c) for i, c in zip(place, chunks, strict=True))]


def stored_example(tmp_path: Path, case: Pipeline) -> tuple[tuple[Filter, ...], bytes, bytes]:
    """Return a pipeline, the encoded bytes of a chunk and the decoded bytes."""
    values = write(tmp_path / "x.h5", case)
    with h5py.File(tmp_path / "x.h5") as file:
        filters, data = read_filters(file["x"].id), read_chunks(file["x"])[0, 0]
    return filters, data, chunk_of(values, (0, 0), case.chunks).tobytes()


def decode(filters: tuple[Filter, ...], data: bytes, nbytes: int, mask: int = 0) -> bytes:
    out = np.empty(nbytes, np.uint8)
    make_decoder(filters, nbytes).decode(np.frombuffer(data, np.uint8), out, mask)
    return out.tobytes()


@pytest.mark.parametrize("case", with_id(PIPELINES))
def test_a_stored_chunk_decodes_to_what_was_written(case: Pipeline, tmp_path: Path) -> None:
    filters, data, expected = stored_example(tmp_path, case)
    assert decode(filters, data, len(expected)) == expected


@pytest.mark.parametrize("case", with_id(PIPELINES))
def test_many_chunks_decode_at_once_to_what_they_decode_to_one_by_one_damaged_or_not(
    case: Pipeline, tmp_path: Path
) -> None:
    values = write(tmp_path / "x.h5", case)
    with h5py.File(tmp_path / "x.h5") as file:
        filters, stored = read_filters(file["x"].id), list(read_chunks(file["x"]).values())
    decoder, rng = make_decoder(filters, math.prod(case.chunks) * values.itemsize), np.random.default_rng(2)
    for turn in range(300):
        chunks = list(map(bytearray, stored))
        if turn >= 2:
            number = rng.integers(len(chunks) - 1)
            damaged = chunks[number]
            damaged[rng.integers(min(len(damaged), 40 if turn % 3 else len(damaged)))] ^= 1 << rng.integers(8)
            if turn % 5 == 0:  # its end may be in the next one
                cut = rng.integers(1, min(len(damaged), 20))
                chunks[number + 1][:0] = damaged[-cut:]
                del damaged[-cut:]
        encoded = [np.frombuffer(chunk, np.uint8) for chunk in chunks[:: -1 if turn % 2 else 1]]
        together, alone = decode_many(decoder, encoded), decode_each(decoder, encoded)
        if case.id == "szip":  # a damaged chunk may leave a part of its buffer as it was
            together, alone = together and b"", alone and b""
        assert together == alone
        assert turn > 1 or together is not None


def decode_many(decoder: Decoder, encoded: list[np.ndarray[Any, Any]]) -> bytes | None:
    """Return the decoded chunks; None if one is damaged."""
    try:
        return decoder.decode_all(Pieces.copy_of(encoded), 0).tobytes()
    except DamagedError:
        return None


def decode_each(decoder: Decoder, encoded: list[np.ndarray[Any, Any]]) -> bytes | None:
    """Return the same, decoded one by one."""
    out = np.empty((len(encoded), decoder.nbytes), np.uint8)
    try:
        for chunk, row in zip(encoded, out, strict=True):
            decoder.decode(chunk, row)
    except DamagedError:
        return None
    return out.tobytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("case", with_id(PIPELINES))
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_zarr_reads_the_stored_bytes_with_the_codecs_of_the_table(
    case: Pipeline, zarr_format: Literal[2, 3], tmp_path: Path
) -> None:
    values = write(tmp_path / "x.h5", case)
    with h5py.File(tmp_path / "x.h5") as file:
        filters, stored = read_filters(file["x"].id), read_chunks(file["x"])
    nbytes = case.chunks[0] * case.chunks[1] * values.itemsize
    codecs, reason = translate_codecs(filters, nbytes)
    assert bool(codecs) == case.zarr
    assert bool(reason) != case.zarr
    if codecs:
        store = raw_store(values, case.chunks, codecs, stored, zarr_format)
        for place in stored:  # read chunk by chunk: edge chunks are whole too
            part = chunk_of(values, place, case.chunks)
            region = tuple(slice(i * c, i * c + c) for i, c in zip(place, case.chunks, strict=True))
            array = zarr.open_array(store, mode="r", zarr_format=zarr_format)
            assert np.asarray(array[region]).astype(part.dtype).tobytes() == part.tobytes()


@pytest.mark.parametrize("name", ["scaleoffset", "nbit"])
def test_a_filter_that_only_hdf5_undoes_is_named(name: str, tmp_path: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_scaleoffset(h5py.h5z.SO_INT, 0) if name == "scaleoffset" else plist.set_filter(h5py.h5z.FILTER_NBIT)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        space, number = h5py.h5s.create_simple((4,)), h5py.h5t.STD_I32LE
        filters = read_filters(h5py.h5d.create(file.id, b"x", number, space, plist))
    assert translate_codecs(filters, 16) == (None, f"no Zarr codec reads what HDF5's filter {name} writes")
    with pytest.raises(UnsupportedError, match=rf"^filter {name} can only be decoded by HDF5"):
        make_decoder(filters, 16)


def raw_store(
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    codecs: tuple[dict[str, Any], ...],
    stored: dict[tuple[int, ...], bytes],
    zarr_format: int,
) -> MemoryStore:
    """Return a store with a Zarr array of metadata and raw chunks, written without zarr's codecs."""
    if zarr_format == 3:
        order = {"name": "bytes", "configuration": {"endian": "big" if values.dtype.str[0] == ">" else "little"}}
        metadata: dict[str, Any] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": values.shape,
            "data_type": values.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [order, *map(to_codec_v3, codecs)],
        }
        objects = {"c/" + "/".join(map(str, place)): data for place, data in stored.items()}
        objects["zarr.json"] = json.dumps(metadata).encode()
    else:
        configs = [codec.get_config() for codec in make_codecs(codecs)]
        metadata = {
            "zarr_format": 2,
            "shape": values.shape,
            "chunks": chunks,
            "dtype": values.dtype.str,
            "fill_value": 0,
            "order": "C",
            "filters": configs[:-1] or None,
            "compressor": configs[-1],
        }
        objects = {".".join(map(str, place)): data for place, data in stored.items()}
        objects[".zarray"] = json.dumps(metadata).encode()
    store = MemoryStore()

    async def put() -> None:
        for key, data in objects.items():
            await store.set(key, default_buffer_prototype().buffer.from_bytes(data))

    asyncio.run(put())
    return store


@pytest.mark.parametrize("case", with_id(PIPELINES))
def test_no_damage_gives_other_bytes_than_hdf5_or_a_crash(case: Pipeline, tmp_path: Path) -> None:
    filters, data, expected = stored_example(tmp_path, case)
    rng = np.random.default_rng(1)
    damaged = [data[:cut] for cut in range(0, len(data), max(1, len(data) // 40))]
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    checked = {1, 3} & {entry.id for entry in filters}
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        dataset = file["x"]
        for copy in damaged:
            try:
                got = decode(filters, copy, len(expected))
            except DamagedError:
                continue
            assert got == expected or not checked, "a checksum did not catch it"
            dataset.id.write_direct_chunk((0, 0), copy)
            read = dataset[: case.chunks[0], : case.chunks[1]]  # HDF5 takes it too, and sees the same in it
            assert read.tobytes() == got


@pytest.mark.parametrize(
    ("number", "data"),
    [
        pytest.param(1, zlib.compress(bytes(50_000_000)), id="deflate"),
        pytest.param(307, bz2.compress(bytes(50_000_000)), id="bzip2"),
        pytest.param(32015, zstd.compress(bytes(50_000_000)), id="zstd"),
        pytest.param(32001, blosc.compress(bytes(50_000_000), b"lz4", 5, 1), id="blosc"),
        pytest.param(32004, (50_000_000).to_bytes(8, "big") + bytes(400), id="lz4"),
        pytest.param(32008, (50_000_000).to_bytes(8, "big") + bytes(400), id="bitshuffle"),
        pytest.param(4, (50_000_000).to_bytes(4, "little") + bytes(400), id="szip"),
        pytest.param(32000, b"\xff" * 400, id="lzf"),
    ],
)
def test_a_chunk_that_would_unpack_to_much_more_is_refused_without_the_memory(number: int, data: bytes) -> None:
    options = {1: (6,), 32008: (0, 4, 2, 0, 2)}.get(number, (141, 8, 16, 100))
    filters = (Filter(number, 0, options, ""),)
    tracemalloc.start()
    with pytest.raises(DamagedError, match=FILTERS[number].name):
        decode(filters, data, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_no_more_blocks_are_listed_than_can_be_stored() -> None:
    nbytes = 4_000_000
    head = nbytes.to_bytes(8, "big") + (1).to_bytes(4, "big")  # in blocks of one byte
    filters = (Filter(32004, 0, (), ""),)
    tracemalloc.start()
    with pytest.raises(DamagedError, match="lz4: it ends within a block"):
        decode(filters, head + bytes(4 * nbytes), nbytes)  # each stored in no byte
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 4 * nbytes  # of the test's own


def test_a_chunk_of_less_than_its_size_is_refused_where_hdf5_returns_unset_memory() -> None:
    with pytest.raises(DamagedError, match=r"declared|not a zlib stream"):
        decode((Filter(2, 0, (1,), ""), Filter(1, 0, (4,), "")), zlib.compress(bytes(500)), 1000)


def test_bytes_after_a_zlib_stream_are_ignored_as_hdf5_does() -> None:
    assert decode((Filter(1, 0, (4,), ""),), zlib.compress(b"abcd") + b"junk", 4) == b"abcd"


@pytest.mark.parametrize("nbytes", [0, 1, 2, 3, 4095, 4096, 4097, 100_001])
@pytest.mark.parametrize("high", [1, 2, 256])
def test_fletcher32_is_the_checksum_that_hdf5_stores(nbytes: int, high: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, high, nbytes).astype(np.uint8)
    first = second = 0
    for word in np.frombuffer(data.tobytes() + b"\0" * (nbytes % 2), ">u2"):
        first += int(word)
        second += first
    assert fletcher32(data) == wrap(second) << 16 | wrap(first)


def wrap(total: int) -> int:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("nbytes", [0, 1, 2, 81, 4096])
def test_the_checksums_of_many_chunks_are_those_of_each(nbytes: int) -> None:
    values = np.random.default_rng(nbytes).integers(0, 256, (4, nbytes), np.uint8)
    values[0], values[1] = 0, 255
    sums = np.array([fletcher32(row) for row in values], "<u4").view(np.uint8).reshape(4, 4)
    chunks = np.concatenate([values, sums], axis=1)
    checked = check_all(Pieces.of(chunks), nbytes, ())
    assert (checked is None) == (nbytes == 0)
    assert checked is None or (checked.rows(nbytes) == values).all()
    chunks[2, -1] ^= 1
    assert check_all(Pieces.of(chunks), nbytes, ()) is None


def test_fletcher32_runs_over_more_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, 50_001).astype(np.uint8)
    expected = fletcher32(data)
    monkeypatch.setattr(decoders, "WORDS_AT_ONCE", 4096)
    assert fletcher32(data) == expected


@pytest.mark.parametrize("words", [(0xFFFF, 0), (0, 0), (1, 0xFFFE), (0xFF, 0xFF00), (0xFFFF, 0xFFFF)])
def test_fletcher32_of_sums_at_the_modulus_is_what_hdf5_stores(words: tuple[int, int], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.array(words, ">u2"), chunks=(2,), fletcher32=True)
        data = file["x"].id.read_direct_chunk((0,))[1]
    assert fletcher32(np.frombuffer(data[:-4], np.uint8)) == int.from_bytes(data[-4:], "little")


def test_a_checksum_with_swapped_bytes_as_old_hdf5_wrote_it_is_accepted(tmp_path: Path) -> None:
    filters, data, expected = stored_example(tmp_path, Pipeline("", ((3, ()),), zarr=True))
    old = data[:-4] + bytes([data[-3], data[-4], data[-1], data[-2]])
    assert decode(filters, old, len(expected)) == expected
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["x"].id.write_direct_chunk((0, 0), old)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"][:20, :10].tobytes() == expected


@pytest.mark.parametrize("mask", range(8))
def test_a_filter_that_the_mask_names_is_not_undone(mask: int) -> None:
    values = np.arange(100, dtype="<i2")
    data = values.tobytes()
    if not mask & 1:
        data = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 2).T).tobytes()
    if not mask & 2:
        data = zlib.compress(data)
    if not mask & 4:
        data += fletcher32(np.frombuffer(data, np.uint8)).to_bytes(4, "little")
    filters = (Filter(2, 0, (2,), ""), Filter(1, 0, (4,), ""), Filter(3, 0, (), ""))
    assert decode(filters, data, 200, mask) == values.tobytes()


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        pytest.param([(6, (0,))], "filter 6 ", id="not_in_the_table"),
        pytest.param([(1, (4,)), (32000, ())], "after another compressor", id="two_compressors"),
        pytest.param([(2, ())], "settings", id="shuffle_without_a_size"),
        pytest.param([(2, (0,))], "settings", id="shuffle_of_nothing"),
        pytest.param([(4, (141, 32, 32, 400, 1))], "settings", id="szip_with_a_setting_too_many"),
        pytest.param([(32001, (2, 2, 4, 400, 5, 1, 3))], "settings", id="blosc_snappy"),
        pytest.param([(32008, (0, 4, 2, 12, 2))], "settings", id="bitshuffle_odd_blocks"),
    ],
)
def test_what_is_left_to_hdf5_is_named_with_its_reason(filters: list[tuple[int, tuple[int, ...]]], reason: str) -> None:
    pipeline = tuple(Filter(number, 0, options, "") for number, options in filters)
    with pytest.raises(UnsupportedError, match=reason):
        make_decoder(pipeline, 400)


@pytest.mark.parametrize("number", [4, 32000, 32008])
def test_a_filter_whose_library_is_not_installed_is_left_to_hdf5(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UnsupportedError, match=r"needs imagecodecs: pip install 'h5bound\[filters\]'"):
        make_decoder((Filter(number, 0, (0, 4, 2, 0, 2), ""),), 400)


def test_hdf5_has_all_plugins_that_these_tests_write_with() -> None:
    assert set(hdf5plugin.get_config().registered_filters) >= {"bshuf", "blosc", "lz4", "bzip2", "zstd"}
