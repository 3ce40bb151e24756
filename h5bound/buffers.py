"""Plain buffers of bytes, as they are read and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
"""A one-dimensional array of bytes."""
Rows: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""The bytes of one chunk, or a row of them for each of several."""


class DamagedError(Exception):
    """Stored bytes do not decode to the declared size; the reader adds which chunk they are."""


def bytes_of(array: NDArray[np.generic]) -> Bytes:
    """Give the bytes of a C-contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8)
