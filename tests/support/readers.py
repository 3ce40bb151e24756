"""Datasets to read, and checks that what is read is what h5py reads."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.reader.chunked import EncodedBlock
from h5bound.reader.dataset_reader import DatasetReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = np.arange(11 * 13, dtype="<i4").reshape(11, 13) * 7919
GZIP = {"chunks": (4, 5), "compression": "gzip", "shuffle": True}


@contextmanager
def opened(
    path: Path, name: str = "x", mode: str = "r", **options: Any
) -> Iterator[tuple[h5py.Dataset, DatasetReader]]:
    with h5py.File(path, mode, **options) as file:
        reader = DatasetReader(file[name])
        try:
            yield file[name], reader
        finally:
            reader.close()


def regions_of(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Give the whole, the inside, the last element, the first row, and nothing."""
    return [
        tuple(slice(0, n) for n in shape),
        tuple(slice(n // 3, n - n // 4) for n in shape),
        tuple(slice(max(n - 1, 0), n) for n in shape),
        tuple(slice(0, min(n, 1) if axis == 0 else n) for axis, n in enumerate(shape)),
        tuple(slice(0, 0) for _ in shape),
    ]


def check_all(dataset: h5py.Dataset, reader: DatasetReader) -> None:
    for region in regions_of(dataset.shape):
        check(reader.read(region), dataset[region or ...])
        check(decode_later(reader, region), dataset[region or ...])


def decode_later(reader: DatasetReader, region: tuple[slice, ...]) -> Any:
    """Give what was fetched of a region, decoded for the second time, or from a pickle."""
    fetched = reader.read_encoded(region)
    if not isinstance(fetched, EncodedBlock):
        return fetched
    assert sum(data.nbytes for _, _, data in fetched.parts) <= fetched.decode().nbytes
    before = [bytes(data) for _, _, data in fetched.parts]
    first, copy, second = fetched.decode(), pickle.loads(pickle.dumps(fetched)), fetched.decode()
    assert [bytes(data) for _, _, data in fetched.parts] == before
    assert first.tobytes() == copy.tobytes() == second.tobytes()
    return second


def check(got: Any, want: Any) -> None:
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert got.flags.c_contiguous
    assert got.flags.writeable
    if got.dtype.hasobject:
        assert repr(got.tolist()) == repr(want.tolist())
    else:
        assert got.tobytes() == want.tobytes()
