"""Datasets to read, and checks that what is read is what h5py reads."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.reader.dataset_reader import DatasetReader
from h5bound.reader.encoded import EncodedBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = np.arange(11 * 13, dtype="<i4").reshape(11, 13) * 7919
GZIP = {"chunks": (4, 5), "compression": "gzip", "shuffle": True}


@contextmanager
def opened(
    path: Path, name: str = "x", mode: str = "r", **options: Any
) -> Iterator[tuple[h5py.Dataset, DatasetReader]]:
    """Open a file, and yield one of its datasets and a reader of it."""
    with h5py.File(path, mode, **options) as file:
        reader = DatasetReader(file[name])
        try:
            yield file[name], reader
        finally:
            reader.close()


def regions_of(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Return the whole, the inside, the last element, the first row, and nothing."""
    return [
        tuple(slice(0, n) for n in shape),
        tuple(slice(n // 3, n - n // 4) for n in shape),
        tuple(slice(max(n - 1, 0), n) for n in shape),
        tuple(slice(0, min(n, 1) if axis == 0 else n) for axis, n in enumerate(shape)),
        tuple(slice(0, 0) for _ in shape),
    ]


def check_all(dataset: h5py.Dataset, reader: DatasetReader) -> None:
    """Check several regions of a dataset, read and read encoded."""
    for region in regions_of(dataset.shape):
        check(reader.read(region), dataset[region or ...])
        check(decode_later(reader, region), dataset[region or ...])


def decode_later(reader: DatasetReader, region: tuple[slice, ...]) -> Any:
    """Return an encoded region, decoded for the second time, which is what its pickle holds."""
    encoded = reader.read_encoded(region)
    if not isinstance(encoded, EncodedBlock):
        return encoded
    assert sum(data.nbytes for _, _, data in encoded.parts) <= encoded.decode().nbytes
    before = [bytes(data) for _, _, data in encoded.parts]
    first, copy, second = encoded.decode(), pickle.loads(pickle.dumps(encoded)), encoded.decode()
    assert [bytes(data) for _, _, data in encoded.parts] == before
    assert first.tobytes() == copy.tobytes() == second.tobytes()
    return second


def check(got: Any, want: Any) -> None:
    """Check that a block is new, and equal to what h5py reads, bit for bit."""
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert got.flags.c_contiguous
    assert got.flags.writeable
    if got.dtype.hasobject:
        assert repr(got.tolist()) == repr(want.tolist())
    else:
        assert got.tobytes() == want.tobytes()
