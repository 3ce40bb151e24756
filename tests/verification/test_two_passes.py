"""Comparisons in two passes find what those in one pass find, and decode each chunk and key once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import convert, verify
from h5bound.codecs.chunk_decoder import Decoder

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, STORED, KEYS = (8, 64, 64), (1, 64, 64), (8, 8, 8)
WINDOW = 2**16
COUNTS = (np.arange(8 * 64 * 64) % 251).reshape(SHAPE)


def padded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["<i2", ">f8"], "offsets": [0, 8], "itemsize": 16})
    block = np.zeros(values.shape, dtype)
    block["a"], block["b"] = values, values / 7
    return block


def write(path: Path, values: np.ndarray[Any, Any], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=STORED, **options)


def count_passes(path: Path) -> int:
    """Return the passes that a comparison takes."""
    report = convert(path, path.with_suffix(".dry"), chunks=KEYS, window=WINDOW, dry_run=True)
    rechunking = report.arrays[0].rechunking
    assert rechunking is not None
    return rechunking.passes


@pytest.mark.parametrize(
    ("name", "values", "zarr_format"),
    [
        ("integer", COUNTS.astype("<i4"), 3),
        ("big-endian", COUNTS.astype(">i4"), 2),
        ("NaN", np.where(COUNTS % 5, COUNTS, np.nan).astype("<f8"), 3),
        ("padded compound", padded(COUNTS), 3),
        ("text", COUNTS.astype("S5"), 2),
        ("complex", COUNTS.astype("<f4") + 1j, 3),
        ("opaque", COUNTS.astype("<f4").astype("V4"), 3),
        ("array type", np.broadcast_to((COUNTS % 2)[..., None, None], (*SHAPE, 2, 2)).astype("<i4"), 3),
    ],
)
def test_equal_values_are_equal_and_one_other_is_found(
    tmp_path: Path, name: str, values: Any, zarr_format: Any
) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    if name != "array type":
        write(source, values, compression="gzip")
    else:
        with h5py.File(source, "w") as file:
            dtype = np.dtype((values.dtype, values.shape[3:]))
            file.create_dataset("x", SHAPE, dtype, chunks=STORED)[...] = values
    keys = KEYS + values.shape[3:]
    convert(source, target, chunks=keys, window=WINDOW, zarr_format=zarr_format)
    assert verify(source, target, window=WINDOW).equal
    assert verify(source, target).equal
    array: Any = zarr.open_group(target, mode="r+")["x"]
    chosen = (5, 30, 9) + (1,) * (values.ndim - 3)
    array[chosen] = array[(1, 2, 3) + (0,) * (values.ndim - 3)]
    assert not np.array_equal(values[chosen], array[chosen])
    for window in (WINDOW, 2**30):
        report = verify(source, target, window=window)
        assert [(item.path, item.what[:14]) for item in report.differences] == [("/x", "values differ ")]


def test_each_chunk_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", COUNTS, compression="gzip")
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=KEYS, codecs="gzip:1")
    assert count_passes(tmp_path / "a.h5") == 2
    checked: list[int] = []
    check = Decoder.check

    def count(self: Decoder, encoded: Any, mask: int) -> None:
        checked.append(len(encoded))
        check(self, encoded, mask)

    monkeypatch.setattr(Decoder, "check", count)
    shown: list[tuple[int, int]] = []
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=WINDOW, progress=lambda *done: shown.append(done))
    assert report.equal
    assert report.nbytes == COUNTS.nbytes
    assert len(checked) == SHAPE[0]
    assert shown[-1] == (2 * COUNTS.nbytes, 2 * COUNTS.nbytes)
    assert sorted(shown) == shown


def test_every_place_that_differs_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", COUNTS)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=KEYS)
    array: Any = zarr.open_group(tmp_path / "a.zarr", mode="r+")["x"]
    array[3, 4, 4] = array[3, 60, 4] = 999
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=WINDOW)
    assert [item.what for item in report.differences] == ["values differ in [3:4, 0:8, 0:32], and in 1 more places"]


@pytest.mark.parametrize("fill", [7, None])
def test_chunks_that_were_never_written_are_compared(tmp_path: Path, fill: int | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", SHAPE, "<i4", chunks=(2, 64, 64), compression="gzip", fillvalue=fill)
        dataset[3], dataset[6] = 1, 2
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(8, 8, 8), window=WINDOW)
    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=WINDOW).equal
    array: Any = zarr.open_group(tmp_path / "a.zarr", mode="r+")["x"]
    array[0, 63, 1] = 1
    report = verify(tmp_path / "a.h5", tmp_path / "a.zarr", window=WINDOW)
    assert [item.what[:17] for item in report.differences] == ["values differ in "]


def test_damaged_keys_and_chunks_are_named(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    write(source, COUNTS.astype("<i4"), compression="gzip")
    convert(source, target, chunks=KEYS, window=WINDOW, codecs="zstd:3")
    key = target / "x" / "c" / "0" / "5" / "2"
    whole = key.read_bytes()
    key.write_bytes(whole[:9])
    [difference] = verify(source, target, window=WINDOW).differences
    assert difference.what.startswith("the store cannot be read: x/c/0/5/2: ")
    key.write_bytes(whole)
    with h5py.File(source) as file:
        place = file["x"].id.get_chunk_info(4).byte_offset
    data = bytearray(source.read_bytes())
    data[place + 8 : place + 16] = bytes(8)
    source.write_bytes(data)
    [difference] = [item for item in verify(source, target, window=WINDOW).differences if item.path == "/x"]
    assert difference.what.startswith("the source cannot be read: ")
    report = convert(source, tmp_path / "b.zarr", chunks=KEYS, window=WINDOW, on_unsupported="skip")
    assert [item.path for item in report.skipped] == ["/x"]
    assert verify(source, tmp_path / "b.zarr", window=WINDOW).equal
