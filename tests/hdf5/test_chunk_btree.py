"""B-trees of version 1 are read as HDF5 lists them, or not at all."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from h5py import h5f, h5p

from h5bound.chunk_grid import ChunkGrid
from h5bound.h5py_compat import READ_ERRORS, find_library, read_address
from h5bound.hdf5.chunk_btree import ListedChunks, read_btree
from h5bound.hdf5.chunk_index import list_chunks
from h5bound.reader.dataset_reader import DatasetReader

if TYPE_CHECKING:
    from pathlib import Path


def read_both(path: Path) -> tuple[ListedChunks | None, ListedChunks | None]:
    """Return the chunks as they are read, and as HDF5 lists them; None where one of them refuses."""
    with h5py.File(path) as file:
        dataset = file["x"]
        grid = ChunkGrid(dataset.shape, dataset.chunks)
        try:
            listed = list_chunks(dataset.id, grid)
        except READ_ERRORS:
            listed = None
        return read_btree(dataset.id, grid), listed


def same(one: ListedChunks | None, other: ListedChunks | None) -> bool:
    return one is not None and other is not None and all(map(np.array_equal, one, other))


@pytest.mark.parametrize(
    ("shape", "chunks", "options"),
    [
        pytest.param((5000,), (1,), {}, id="levels"),
        pytest.param((40, 30, 7), (4, 5, 3), {"compression": "gzip"}, id="edges"),
        pytest.param((300, 4), (2, 4), {"track_order": True, "shuffle": True}, id="header_of_version_2"),
        pytest.param((3,), (5,), {"maxshape": (None,)}, id="one"),
        pytest.param((200, 3), (1, 1), {"maxshape": (None, None), "dtype": "V17"}, id="odd_elements"),
    ],
)
def test_all_chunks_are_found_where_hdf5_finds_them(
    shape: tuple[int, ...], chunks: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", shape, **{"dtype": "<i4", "chunks": chunks, **options})
        for i in range(20):
            dataset.attrs[f"a{i}"] = f"a text for which the header is continued elsewhere: {i}"
        dataset[...] = np.zeros(shape, dataset.dtype)
    read, listed = read_both(tmp_path / "x.h5")
    assert listed is not None
    assert same(read, listed)


def test_chunks_written_in_any_order_and_some_never_are_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", (1000, 20), "<i4", chunks=(5, 5))
        for i in np.random.default_rng(0).permutation(200)[:150].tolist():
            dataset[5 * i : 5 * i + 5, i % 20] = i
    assert same(*read_both(tmp_path / "x.h5"))


@pytest.mark.parametrize("libver", ["v108", "latest"])
def test_other_indexes_and_data_never_written_are_left_to_hdf5(libver: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        dataset = file.create_dataset("x", (100,), "<i4", chunks=(5,), maxshape=(None,))
        if libver == "latest":
            dataset[...] = 1
    assert read_both(tmp_path / "x.h5")[0] is None


def test_a_file_with_a_user_block_or_open_for_writing_is_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        dataset = file.create_dataset("x", data=np.zeros(100), chunks=(5,))
        assert read_btree(dataset.id, ChunkGrid((100,), (5,))) is None
    assert read_both(tmp_path / "x.h5")[0] is None


def test_a_damaged_tree_gives_what_hdf5_lists_and_finds_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((20, 40), "<i4"), chunks=(1, 5))
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    nodes = [place for place in range(len(data)) if data.startswith(b"TREE\x01", place)]
    assert len(nodes) > 2
    for _ in range(300):
        damaged = bytearray(data)
        damaged[nodes[rng.integers(len(nodes))] + rng.integers(600)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        read, listed = read_both(path)
        assert read is None or same(read, listed)
        refused += read is None
    assert 100 < refused < 300


def test_a_damaged_header_is_no_other_tree(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((20, 40), "<i4"), chunks=(1, 5))
        header = read_address(file["x"].id)
        assert header == h5py.h5o.get_info(file["x"].id).addr
        assert header is not None
    data, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[header + rng.integers(200)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read, listed = read_both(path)
        except (*READ_ERRORS, AttributeError):  # it cannot be opened, or is no dataset
            continue
        assert read is None or listed is None or same(read, listed)


def test_an_image_of_the_cache_is_not_passed_by(tmp_path: Path) -> None:
    """HDF5 then reads nodes from the image: those at their own addresses are of an earlier state."""
    library = find_library()
    assert library is not None
    path = tmp_path / "a.h5"
    create, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    create.set_file_space_strategy(h5f.FSPACE_STRATEGY_PAGE, False, 1)  # with a superblock that can name an image
    file = h5py.File(h5f.create(bytes(path), h5f.ACC_EXCL, create, access))
    file.create_dataset("x", (4000,), "<i4", chunks=(10,), maxshape=(None,))[:200] = 1
    file.close()
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_LATEST)
    config = struct.pack("@i??i", 1, True, False, -1)  # H5AC_cache_image_config_t
    assert library.H5Pset_mdc_image_config(ctypes.c_int64(access.id), config) >= 0
    file = h5py.File(h5f.open(bytes(path), h5f.ACC_RDWR, access))
    file["x"][200:] = 2
    file.close()
    assert b"MDCI" in path.read_bytes()
    expected = np.repeat([1, 2], [200, 3800])
    with h5py.File(path) as file:
        reader = DatasetReader(file["x"])
        np.testing.assert_array_equal(reader.read((slice(0, 4000),)), expected)
        reader.close()
