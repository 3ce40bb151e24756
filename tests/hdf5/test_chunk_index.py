"""The index of chunks: when it is read, and when what HDF5 lists is not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import h5py
import numpy as np
import pytest

from h5bound.chunk_grid import ChunkGrid
from h5bound.errors import CorruptChunkError
from h5bound.hdf5 import chunk_index
from h5bound.hdf5.chunk_index import IndexingRule, index_chunks, list_chunks
from h5bound.reader import chunked
from tests.support.readers import VALUES, opened

if TYPE_CHECKING:
    from pathlib import Path


def test_a_list_with_the_wrong_coordinates_of_an_extensible_array_is_not_trusted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_dataset("x", data=VALUES, chunks=(4, 5), maxshape=(22, None))
        file.create_dataset("y", data=VALUES, chunks=(4, 5), maxshape=(None, 26))
    with h5py.File(tmp_path / "x.h5") as file:
        assert index_chunks(file["x"].id, ChunkGrid((11, 13), (4, 5))) is None
        manifest = index_chunks(file["y"].id, ChunkGrid((11, 13), (4, 5)))
        assert manifest is not None
        assert manifest.chunk_coords.tolist() == [[i, j] for i in range(3) for j in range(3)]


def test_a_single_chunk_that_hdf5_lists_in_another_row_is_not_trusted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_dataset("x", (200, 13), "i4", chunks=(4, 5), maxshape=(200, None))[4:8, 0:5] = 1
    with h5py.File(tmp_path / "x.h5") as file:
        manifest = index_chunks(file["x"].id, ChunkGrid((200, 13), (4, 5)))
        assert manifest is None or manifest.chunk_coords.tolist() == [[1, 0]]  # later HDF5 lists it rightly


def test_a_list_with_chunks_outside_of_the_grid_is_not_trusted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=VALUES, chunks=(4, 5))
        listed = list_chunks(dataset.id, ChunkGrid((11, 13), (4, 5)))
        assert listed is not None
        for axis, beyond in ((0, 12), (1, 15)):
            origins = listed.origins.copy()
            origins[-1, axis] = beyond
            with (
                patch.object(chunk_index, "find_chunks", return_value=None),
                patch.object(chunk_index, "list_chunks", return_value=listed._replace(origins=origins)),
            ):
                assert index_chunks(dataset.id, ChunkGrid((11, 13), (4, 5))) is None


def test_a_chunk_of_a_small_grid_that_hdf5_lists_but_does_not_find_is_damaged(tmp_path: Path) -> None:
    path, grid = tmp_path / "x.h5", ChunkGrid((8,), (4,))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(8), chunks=(4,), compression="gzip")
    with h5py.File(path) as file:
        manifest, listed = index_chunks(file["x"].id, grid), list_chunks(file["x"].id, grid)
        assert manifest is not None
        assert listed is not None
        assert manifest.chunk_coords.tolist() == [[0], [1]]
        assert manifest.offsets.tolist() == listed.offsets.tolist()
        assert manifest.nbytes.tolist() == listed.nbytes.tolist()
    data = bytearray(path.read_bytes())
    last = data.index(b"TREE\x01\x00") + 24 + 2 * 32  # the key after the chunks: where the axis ends
    data[last + 8 : last + 16] = bytes(8)
    path.write_bytes(data)
    with h5py.File(path) as file, pytest.raises(CorruptChunkError, match="does not find it"):
        index_chunks(file["x"].id, grid)


def test_one_element_of_many_chunks_does_not_index_them_all(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.arange(20_000), chunks=(1,))
    with (
        opened(tmp_path / "x.h5") as (_, reader),
        patch.object(chunk_index, "index_chunks", side_effect=index_chunks) as indexed,
    ):
        for i in range(20):
            assert reader.read((slice(i * 900, i * 900 + 1),)) == i * 900
        assert not indexed.called
        assert reader.read((slice(0, 4000),)).tolist() == list(range(4000))
        assert indexed.call_count == 1


def test_chunks_are_indexed_once_more_than_one_in_so_many_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "INDEXING", IndexingRule(0, 4))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.arange(16 * 10), chunks=(10,), compression="gzip")
    with (
        opened(tmp_path / "x.h5") as (_, reader),
        patch.object(chunk_index, "index_chunks", side_effect=index_chunks) as indexed,
    ):
        reader.prefetch([(slice(0, 40),)])  # four of sixteen
        for region in [slice(0, 10), slice(5, 15), slice(3, 7)]:
            reader.read((region,))
        assert not indexed.called
        reader.read_encoded((slice(0, 1),))
        assert indexed.called


def test_a_declared_grid_of_2_to_the_50_chunks_is_not_walked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (1 << 50, 8), "i1", chunks=(1, 8), compression="gzip", fillvalue=9)
        dataset[123456789012345] = range(8)
    with opened(tmp_path / "x.h5") as (_, reader):
        got = reader.read((slice(123456789012344, 123456789012347), slice(0, 8)))
        assert got.tolist() == [[9] * 8, list(range(8)), [9] * 8]
