"""Many small chunks are read at once, and as h5py reads them."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import h5py
import hdf5plugin
import numpy as np
import pytest

from h5bound.codecs import decoders
from h5bound.codecs.lz4_blocks import find_frames
from h5bound.errors import CorruptChunkError
from h5bound.files.local import LocalFile
from h5bound.reader import small_chunks
from tests.support.readers import GZIP, VALUES, check, check_all, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True, params=[0, small_chunks.SMALL_NBYTES], ids=["one_by_one", "together"])
def chunks_of_any_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read small chunks one by one and together."""
    with patch.object(small_chunks, "SMALL_NBYTES", request.param):
        yield


def test_a_small_plain_chunk_of_another_size_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("short", VALUES.shape, VALUES.dtype, chunks=(4, 5)).id.write_direct_chunk((4, 5), b"abc")
    with opened(tmp_path / "x.h5", "short") as (_, reader):
        assert not reader.read(np.s_[0:4, 0:5]).any()
        with pytest.raises(CorruptChunkError, match=r"chunk at \(4, 5\): 3 bytes are stored where 80"):
            reader.read(np.s_[0:11, 0:13])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({**hdf5plugin.Blosc()}, id="blosc"),
        pytest.param({**hdf5plugin.LZ4()}, id="lz4"),
        pytest.param({"shuffle": True, **hdf5plugin.Zstd()}, id="zstd"),
        pytest.param({**hdf5plugin.Bitshuffle(cname="none")}, id="bitshuffle"),
        pytest.param({**hdf5plugin.Bitshuffle()}, id="bitshuffle_lz4"),
        pytest.param({"fletcher32": True}, id="fletcher32"),
        pytest.param({"shuffle": True}, id="shuffle"),
    ],
)
def test_small_chunks_that_are_shorter_than_declared_are_named(options: dict[str, Any], tmp_path: Path) -> None:
    values = np.arange(16 * 8, dtype="<i4").reshape(16, 8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(4, 8), **options)
        less = file.create_dataset("less", data=values[:2], chunks=(2, 8), **options)
        short = file.create_dataset("short", data=values, chunks=(4, 8), **options)
        short.id.write_direct_chunk((4, 0), less.id.read_direct_chunk((0, 0))[1])
        masked = file.create_dataset("masked", data=values, chunks=(4, 8), **options)
        masked.id.write_direct_chunk((4, 0), values[4:8].tobytes(), 0xFF)
        for cut in range(3):
            damaged = file.create_dataset(f"cut{cut}", data=values, chunks=(4, 8), **options)
            chunk = damaged.id.read_direct_chunk((4, 0))[1]
            damaged.id.write_direct_chunk((4, 0), chunk[: len(chunk) - 1 - cut * (len(chunk) // 3)])
        holes = file.create_dataset("holes", (32, 8), "<i4", chunks=(4, 8), fillvalue=3, **options)
        holes[8:24] = values
    for name in ("x", "holes", "masked"):
        with opened(tmp_path / "x.h5", name) as (dataset, reader):
            check_all(dataset, reader)
            check(reader.read(np.s_[1:15, 2:7]), dataset[1:15, 2:7])
    for name in ("short", "cut0", "cut1", "cut2"):
        with opened(tmp_path / "x.h5", name) as (_, reader):
            check(reader.read(np.s_[0:4, 0:8]), values[:4])
            with pytest.raises(CorruptChunkError, match=rf"{name} in .*, chunk at \(4, 0\)"):
                reader.read(np.s_[0:16, 0:8])


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"fletcher32": True}], ids=str)
def test_small_chunks_behind_the_end_of_a_file_that_was_cut_short_are_no_zeros(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.ones(10_000), chunks=(100,), **options)
    with opened(tmp_path / "x.h5") as (_, reader):
        assert reader.read(np.s_[0:200,]).all()
        os.truncate(tmp_path / "x.h5", 4096)
        with pytest.raises(CorruptChunkError, match="past the end of the file"):
            reader.read(np.s_[0:10_000,])


def test_ranges_in_any_order_have_their_own_bytes_though_they_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, 1 << 16).astype("u1")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = data
        begin = file["x"].id.get_offset()
    with h5py.File(tmp_path / "x.h5") as file:
        stored = LocalFile.of(file.id)
        for reach in (100, 5000, 60_000):
            offsets, nbytes = rng.integers(0, reach, 50), rng.integers(0, 300, 50)
            found = small_chunks.read_ranges(stored, begin + offsets, nbytes)
            for offset, size, start in zip(offsets, nbytes, found.starts, strict=True):
                assert found.source[start : start + size].tobytes() == data[offset : offset + size].tobytes()
        stored.close()


def test_small_chunks_are_read_at_once_where_they_lie_together(tmp_path: Path) -> None:
    values = np.arange(200 * 70, dtype="<i4").reshape(200, 70)
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_dataset("x", data=values, **GZIP)
    with (
        opened(tmp_path / "x.h5") as (_, reader),
        patch.object(small_chunks, "SMALL_NBYTES", 64 << 10),
        patch.object(LocalFile, "read_parts", autospec=True, side_effect=LocalFile.read_parts) as asked,
    ):
        check(reader.read(np.s_[1:199, 2:70]), values[1:199, 2:70])
        assert 1 <= asked.call_count < 10  # of 700 chunks


@pytest.mark.parametrize(("width", "calls"), [(4, 1), (3, 1), (2, 1), (1, 10)])
def test_chunks_between_small_ones_are_read_too_if_they_are_no_more(tmp_path: Path, width: int, calls: int) -> None:
    values = np.arange(10 * 4 * 1024, dtype="<f8").reshape(10, 4096)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 1024))
    with (
        opened(tmp_path / "x.h5") as (_, reader),
        patch.object(small_chunks, "SMALL_NBYTES", 64 << 10),
        patch.object(LocalFile, "read_parts", autospec=True, side_effect=LocalFile.read_parts) as asked,
    ):
        check(reader.read(np.s_[0:10, 0 : width * 1024]), values[:, : width * 1024])
        assert asked.call_count == calls


@pytest.mark.parametrize(
    ("options", "chunk", "joined"),
    [
        (hdf5plugin.Bitshuffle(cname="lz4"), 64, True),  # one block, cut short by the chunk
        (hdf5plugin.Bitshuffle(cname="lz4", nelems=32), 64, True),
        (hdf5plugin.Bitshuffle(cname="lz4", nelems=32), 80, False),  # the last block is shorter
        (hdf5plugin.Bitshuffle(cname="lz4"), 67, False),  # the last elements are not in a block
        (hdf5plugin.Bitshuffle(cname="zstd"), 64, True),
        (hdf5plugin.LZ4(), 64, True),
        (hdf5plugin.LZ4(nbytes=128), 64, True),
        (hdf5plugin.LZ4(nbytes=96), 64, False),
    ],
)
@pytest.mark.parametrize("imagecodecs", [True, False])
def test_small_framed_chunks_are_decoded_as_one_where_their_blocks_are_of_one_size(
    options: dict[str, Any],
    chunk: int,
    *,
    joined: bool,
    imagecodecs: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoders, "has_imagecodecs", lambda: imagecodecs)  # of LZ4 it is not required
    values = np.random.default_rng(0).integers(0, 50, 20 * chunk).astype("<i4")
    values[: 2 * chunk] = np.random.default_rng(1).integers(-(2**31), 2**31, 2 * chunk)  # these do not compress
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(chunk,), **options)
    monkeypatch.setattr(small_chunks, "SMALL_NBYTES", 64 << 10)
    with (
        opened(tmp_path / "x.h5") as (dataset, reader),
        patch.object(decoders, "find_frames", side_effect=find_frames) as asked,
    ):
        check(reader.read((slice(0, 20 * chunk),)), dataset[:])
        assert asked.call_count == (0 if joined else 20)


def test_a_damaged_chunk_among_joined_ones_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 50, 20 * 64).astype("<i4")
    for name, options in ("bitshuffle", hdf5plugin.Bitshuffle(cname="lz4")), ("lz4", hdf5plugin.LZ4()):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            dataset = file.create_dataset("x", data=values, chunks=(64,), **options)
            stored = bytearray(dataset.id.read_direct_chunk((320,))[1])
            stored[16:] = bytes(len(stored) - 16)  # copies of what is 0 bytes before
            dataset.id.write_direct_chunk((320,), bytes(stored))
        monkeypatch.setattr(small_chunks, "SMALL_NBYTES", 64 << 10)
        with opened(tmp_path / f"{name}.h5") as (_, reader):
            with pytest.raises(CorruptChunkError, match=rf"chunk at \(320,\): {name}: it does not decompress"):
                reader.read((slice(0, 1280),))
            assert reader.read((slice(0, 320),)).tobytes() == values[:320].tobytes()


def test_small_chunks_read_together_are_those_of_h5py_whatever_was_stored_of_each(tmp_path: Path) -> None:
    values = np.arange(40 * 50, dtype="<i4").reshape(40, 50)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, fill_time in (("x", "ifset"), ("never", "never")):
            dataset = file.create_dataset(
                name, values.shape, "<i4", fillvalue=-5, fill_time=fill_time, maxshape=(None, None), **GZIP
            )
            dataset[:20, 3:27] = values[:20, 3:27]
            chunk = np.ascontiguousarray(values[24:28, 30:35])
            shuffled = np.ascontiguousarray(chunk.view("u1").reshape(-1, 4).T).tobytes()
            dataset.id.write_direct_chunk((24, 30), chunk.tobytes(), 0b11)
            dataset.id.write_direct_chunk((28, 30), shuffled, 0b10)
            dataset.id.write_direct_chunk((32, 30), zlib.compress(chunk), 0b01)
    for name in ("x", "never"):
        with opened(tmp_path / "x.h5", name) as (dataset, reader), patch.object(small_chunks, "BOX_NBYTES", 2000):
            check_all(dataset, reader)
            check(reader.read(np.s_[2:39, 1:50]), dataset[2:39, 1:50])


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (zlib.compress(b"abc"), "shuffle: it has 3 bytes where 80 are declared"),
        (zlib.compress(bytes(81)), "deflate: it is not a zlib stream of 80 bytes"),
        (b"no stream", "deflate: it is not a zlib stream of 80 bytes"),
    ],
    ids=["short", "long", "none"],
)
def test_a_damaged_chunk_among_small_ones_is_named(stored: bytes, what: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP).id.write_direct_chunk((4, 5), stored)
    with opened(tmp_path / "x.h5") as (_, reader):
        check(reader.read(np.s_[0:11, 0:5]), VALUES[:, :5])
        with pytest.raises(CorruptChunkError, match=rf"x.* chunk at \(4, 5\): {what}"):
            reader.read(np.s_[0:11, 0:13])


def test_small_chunks_that_say_they_are_large_in_the_file_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **GZIP)
    monkeypatch.setattr(small_chunks, "ENCODED_NBYTES", 60)
    monkeypatch.setattr(small_chunks, "BOX_CHUNKS", 2)
    with (
        opened(tmp_path / "x.h5") as (dataset, reader),
        patch.object(LocalFile, "read_parts", autospec=True, side_effect=LocalFile.read_parts) as asked,
    ):
        check_all(dataset, reader)
        assert all(call.args[2] <= 100 for call in asked.call_args_list)


def test_a_small_chunk_that_inflates_to_too_little_or_too_much_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, stored in (("short", b"abc"), ("long", b"abc" * 100_000)):
            dataset = file.create_dataset(name, (10,), "u1", chunks=(10,), compression="gzip")
            dataset.id.write_direct_chunk((0,), zlib.compress(stored))
    for name in ("short", "long"):
        with opened(tmp_path / "x.h5", name) as (_, reader), pytest.raises(CorruptChunkError, match=name):
            reader.read((slice(0, 10),))
