"""Large chunks and shards are compared in pieces: what is found is the same, and takes less memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import combine, convert, verify
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.verification import pieces

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*Numcodecs codecs are not in the Zarr version 3:UserWarning")

SHAPE = (22, 20, 100)
VALUES = (np.arange(22 * 20 * 100) % 253).reshape(SHAPE).astype("f4")
VALUES[3, 3, 3] = np.nan

PIECE_NBYTES = 20_000
"""Instead of 8 MiB: a piece has a few chunks, and a key many pieces."""


@pytest.fixture
def read_regions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the regions that are read of the source, which grow."""
    monkeypatch.setattr(pieces, "UNIT_NBYTES", PIECE_NBYTES)
    regions: list[Any] = []
    read = DatasetReader.read_via_h5py

    def count(self: DatasetReader, region: Any) -> Any:
        regions.append(region)
        return read(self, region)

    monkeypatch.setattr(DatasetReader, "read_via_h5py", count)
    return regions


SOURCES = [
    pytest.param({"chunks": (2, 5, 100), "compression": "gzip"}, id="chunked"),
    pytest.param({}, id="contiguous"),
]
TARGETS = [
    pytest.param({"chunks": (2, 5, 100), "shards": (8, 20, 100)}, id="shards"),
    pytest.param({"chunks": (4, 5, 50), "shards": (16, 20, 100)}, id="other chunks in shards"),
    pytest.param({"chunks": (8, 20, 100)}, id="chunks"),
    pytest.param({"chunks": (8, 20, 100), "zarr_format": 2}, id="format 2"),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_pieces_have_whole_chunks_and_one_other_value_is_found_once(
    tmp_path: Path, read_regions: list[Any], source: dict[str, Any], target: dict[str, Any]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **source)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", **target)
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert report.equal
    assert report.nbytes == VALUES.nbytes
    sizes = [np.prod([part.stop - part.start for part in region]) * 4 for region in read_regions]
    assert sum(sizes) == VALUES.nbytes
    assert max(sizes) <= PIECE_NBYTES
    assert not source or all(region[0].start % 2 == 0 and region[1].start % 5 == 0 for region in read_regions)
    array: Any = zarr.open_group(tmp_path / "a.zarr", mode="r+")["x"]
    array[3, 3, 3] = -array[3, 3, 3]  # another bit of NaN
    array[7, 19, 9] = 1000
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr")
    key = (target.get("shards") or target["chunks"])[0]
    assert [item.what for item in report.differences] == [f"values differ in [0:{key}, 0:20, 0:100]"]


def test_what_cannot_be_read_is_named(tmp_path: Path, read_regions: list[Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("x", data=VALUES, chunks=(2, 20, 100), compression="gzip", fletcher32=True)
        place = stored.id.get_chunk_info(4)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(2, 20, 100), shards=(8, 20, 100), codecs="gzip:1")
    shard = tmp_path / "a.zarr" / "x" / "c" / "1" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[20:40] = bytes(20)
    shard.write_bytes(data)
    differences = verify(tmp_path / "a.h5", tmp_path / "a.zarr").differences
    assert [item.what.partition("/0: ")[0] for item in differences] == ["the store cannot be read: x/c/1/0"]
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(place.byte_offset + 20)
        raw.write(bytes(20))
    differences = verify(tmp_path / "a.h5", tmp_path / "a.zarr").differences
    assert [item.what.partition(": fletcher32")[0] for item in differences] == [
        "the source cannot be read: chunk at (8, 0, 0)"
    ]
    assert len(read_regions) > 8


def test_shards_of_joined_files_are_compared_in_pieces(tmp_path: Path, read_regions: list[Any]) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(4)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset("x", data=VALUES[5 * number : 5 * number + 5], chunks=(2, 20, 100))
            file["t"] = np.arange(5) + 5 * number
            file["t"].make_scale("t")
            dataset.dims[0].attach_scale(file["t"])
    combine(paths, tmp_path / "a.zarr", dim="t", chunks=(2, 20, 100), shards=(8, 20, 100))
    assert verify(paths, tmp_path / "a.zarr").equal
    array: Any = zarr.open_group(tmp_path / "a.zarr", mode="r+")["x"]
    array[13, 19, 9] = 1000
    report = verify(paths, tmp_path / "a.zarr")
    assert [item.what for item in report.differences] == ["values differ in [8:16, 0:20, 0:100]"]


def test_a_large_shard_takes_less_memory_than_itself(tmp_path: Path) -> None:
    values = np.tile(np.arange(2**18, dtype="f4") // 64, (48, 1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(1, 2**18))
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", shards=values.shape, codecs="zstd:1")
    tracemalloc.start()
    try:
        assert verify(tmp_path / "a.h5", tmp_path / "a.zarr", workers=1).equal
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes
