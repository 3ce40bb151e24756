"""Datasets of sequences that h5py cannot write, written as HDF5 has them in memory."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

if TYPE_CHECKING:
    from collections.abc import Sequence


class Memory:
    """What sequences and text point to, as long as it is needed."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def text(self, text: str) -> bytes:
        """Return the bytes of an element of text of variable length."""
        return self._hold(text.encode() + b"\0").tobytes()

    def sequence(self, base: h5t.TypeID, elements: bytes) -> bytes:
        """Return the bytes of an element that is a sequence of elements."""
        return np.uintp(len(elements) // base.get_size()).tobytes() + self._hold(elements).tobytes()

    def _hold(self, data: bytes) -> np.uintp:
        self._held.append(ctypes.create_string_buffer(data, max(len(data), 1)))
        return np.uintp(ctypes.addressof(self._held[-1]))


def write_elements(
    file: h5py.File, name: str, tid: h5t.TypeID, elements: Sequence[bytes], *, chunks: int = 0
) -> h5py.Dataset:
    """Create a dataset of elements with these bytes in memory; with `chunks`, in chunks of so many."""
    raw = np.frombuffer(b"".join(elements), np.dtype(("V", tid.get_size())))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        plist.set_chunk((chunks,))
    made = h5d.create(file.id, name.encode(), tid, h5s.create_simple((len(elements),)), plist)
    made.write(h5s.ALL, h5s.ALL, raw.copy(), tid)
    return file[name]
