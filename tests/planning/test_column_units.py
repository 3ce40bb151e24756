"""Columns of a dataset are read by their rows: each row is decoded once, in conversions and verifications."""

from __future__ import annotations

from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import ZarrStore, convert, verify
from h5bound.planning.work_units import Unit, order_units
from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.shared_blocks import MAX_HELD, SharedBlocks

if TYPE_CHECKING:
    from pathlib import Path


def test_units_of_columns_come_by_their_rows_and_others_as_they_are() -> None:
    units = [Unit(array, np.array([[row]]), 1) for array in range(4) for row in range(2)]
    ordered = order_units(units, [None, "/a", "/a", None])
    assert [(unit.array, int(unit.chunk_coords[0, 0])) for unit in ordered] == [
        (0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (2, 1), (3, 0), (3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_each_row_is_read_once_for_all_columns(
    zarr_format: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = np.dtype([(f"m{number}", "f8") for number in range(32)])
    rows = np.arange(80_000 * 32.0).view(kind)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=rows, chunks=(8_000,), compression="gzip", compression_opts=1)
    reads: list[str] = []
    for name in ("read", "read_via_h5py"):
        read = getattr(DatasetReader, name)

        def count(self: Any, region: Any, read: Any = read, name: str = name) -> Any:
            reads.append(name)
            return read(self, region)

        monkeypatch.setattr(DatasetReader, name, count)

    options: dict[str, Any] = {"compounds": "columns", "zarr_format": zarr_format}
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", **options).exit_code == 0
    assert reads == ["read"] * 5  # of two chunks of HDF5 each

    assert verify(tmp_path / "a.h5", tmp_path / "a.zarr").equal
    assert reads[5:] == ["read_via_h5py"] * 5


def test_one_thread_reads_a_block_for_all_and_few_are_held() -> None:
    blocks, barrier = SharedBlocks(), Barrier(4)
    reads: list[None] = []

    def read() -> Any:
        reads.append(None)
        return np.zeros(3)

    def get() -> None:
        barrier.wait()
        blocks.get("a", read)

    threads = [Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    for number in range(MAX_HELD):
        blocks.get(number, read)
    blocks.get("a", read)
    assert len(reads) == 2 + MAX_HELD


def test_a_block_that_could_not_be_read_is_tried_again() -> None:
    blocks = SharedBlocks()
    with pytest.raises(OSError, match="no"):
        blocks.get("a", lambda: (_ for _ in ()).throw(OSError("no")))
    assert blocks.get("a", lambda: np.ones(1)).tolist() == [1]


def test_rows_of_a_file_that_its_holder_writes_to_are_read_anew(tmp_path: Path) -> None:
    rows = np.zeros(3, [("a", "i4"), ("b", "i4", (2,))])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = rows
        column: Any = zarr.open_group(ZarrStore(file), mode="r")["x/a"]
        assert column[...].tolist() == [0, 0, 0]
        rows["a"] = [1, 2, 3]
        file["x"][...] = rows
        assert column[...].tolist() == [1, 2, 3]
