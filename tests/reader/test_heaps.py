"""Heaps of values of variable length from which HDF5 would never return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from h5bound import from_hdf5
from h5bound._check import check
from h5bound.errors import CorruptChunkError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = h5py.string_dtype()
IN_COMPOUND = np.dtype([("n", "i4"), ("text", TEXT, (2,))])


@pytest.mark.parametrize("userblock", [0, 512] if h5py.version.hdf5_version_tuple >= (2, 0, 0) else [0])
@pytest.mark.parametrize("chunks", [None, (3,)])
@pytest.mark.parametrize("dtype", [TEXT, IN_COMPOUND])
def test_free_space_of_no_size_is_an_error(
    tmp_path: Path, dtype: np.dtype[Any], chunks: tuple[int, ...] | None, userblock: int
) -> None:
    path = tmp_path / "a.h5"
    values = np.zeros(6, dtype)
    texts = values if dtype is TEXT else values["text"]
    texts[...] = "value"
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("x", data=values, dtype=dtype, chunks=chunks)
    data = bytearray(path.read_bytes())
    second = data.index(b"GCOL") + 16 + 24
    data[second : second + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(CorruptChunkError, match=r"/x in .*a\.h5: the heap of values of variable length at byte \d+"):
        from_hdf5(path, "x").compute()
    assert {damage.path for damage in check(path).damages} == {"/x"}


def test_the_heaps_of_sequences_in_sequences_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        inner = file.create_dataset("inner", (1,), h5py.vlen_dtype("i1"), chunks=(1,))
        inner[0] = np.arange(3, dtype="i1")
        place = inner.id.read_direct_chunk((0,))[1]
    with h5py.File(path, "a") as file:  # opened again, it gets another heap
        outer = file.create_dataset("outer", (1,), h5py.vlen_dtype("V16"), chunks=(1,))
        outer[0] = np.frombuffer(place * 2, "V16")
        made = file.create_dataset("x", (1,), h5py.vlen_dtype(h5py.vlen_dtype("i1")), chunks=(1,))
        made.id.write_direct_chunk((0,), outer.id.read_direct_chunk((0,))[1])
    assert [item.tolist() for item in from_hdf5(path, "x").compute()[0]] == [[0, 1, 2]] * 2
    data = bytearray(path.read_bytes())
    first = data.index(b"GCOL")
    assert first == int.from_bytes(place[4:12], "little")
    data[first + 16 + 24 : first + 16 + 40] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(CorruptChunkError, match=rf"/x in .* heap of values of variable length at byte {first} is"):
        from_hdf5(path, "x").compute()
