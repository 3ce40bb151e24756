"""Conversions to other chunks: each stored chunk is decoded once, and the store is the same for any window."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import convert, verify
from h5bound.codecs.filters import Decoder

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (8, 256, 256)
STORED = (1, 256, 256)  # chunks that are large enough to be decoded one by one
VALUES = (np.arange(8 * 256 * 256) % 2503).reshape(SHAPE).astype("<i4")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the encoded size of each chunk that is decoded."""
    sizes: list[int] = []
    decode = Decoder.decode

    def count(self: Decoder, encoded: Any, out: Any, mask: int) -> None:
        sizes.append(len(encoded))
        decode(self, encoded, out, mask)

    monkeypatch.setattr(Decoder, "decode", count)
    return sizes


def write(path: Path, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, **options)


def read(path: Path) -> Any:
    return zarr.open_group(path, mode="r")["x"][...]  # type: ignore[index]


def list_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all keys that are not metadata documents."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (4, 256, 256)},
        {"chunks": (1, 64, 64)},
        {"chunks": (8, 64, 64)},
        {"chunks": (8, 16, 16)},
        {"chunks": (3, 7, 256)},
        {"chunks": (8, 16, 16), "shards": (8, 64, 32)},
        {"chunks": (8, 16, 16), "zarr_format": 2},
    ],
    ids=str,
)
def test_each_stored_chunk_is_decoded_once(tmp_path: Path, decoded: list[int], options: dict[str, Any]) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", **options)
    assert len(decoded) == SHAPE[0]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal


def test_only_keys_that_hold_stored_data_are_written(tmp_path: Path, decoded: list[int]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", SHAPE, "<i4", chunks=STORED, compression="gzip", fillvalue=7)
        dataset[3], dataset[6] = 1, 2
        expected = dataset[...]
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(2, 128, 128))
    assert len(decoded) == 2
    assert report.arrays[0].chunks == 8
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), expected)


def test_a_contiguous_dataset_is_read_in_whole_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), VALUES)


def test_a_resumed_conversion_writes_only_the_keys_that_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", chunks=STORED, compression="gzip")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16))
    whole = list_files(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(RuntimeError):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16), progress=fail)
    for key in list(whole)[::3]:
        (tmp_path / "a.zarr" / key).unlink(missing_ok=True)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 16, 16), resume=True)
    assert list_files(tmp_path / "a.zarr") == whole


def fail(_done: int, _total: int) -> None:
    """Fail once the first bytes are written."""
    raise RuntimeError
