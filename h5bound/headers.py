"""What the first bytes of compressed chunks say that they decode to.

HDF5 does not compare what a filter gives with what is declared: of a chunk that decodes to too little it gives what
was left in memory. Where a format says its size first, and its decoder keeps to that or fails, it is known before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Heads: TypeAlias = NDArray[np.uint8]

HEAD_NBYTES = 18
"""So many bytes have the size in every format here."""


def zstd_nbytes(head: bytes) -> int:
    """Give the content size in a Zstandard frame's header, -1 if it has none (RFC 8878, section 3.1.1.1)."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    single, flag = head[4] & 0x20, head[4] >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[head[4] & 3]
    size = head[start : start + width]
    if not width or len(size) < width:
        return -1
    return int.from_bytes(size, "little") + (256 if width == 2 else 0)


def sizes_of_zstd(heads: Heads, _stored: NDArray[np.int64], _options: tuple[int, ...]) -> NDArray[np.int64]:
    """Give the content sizes of Zstandard frames."""
    return np.array([zstd_nbytes(head.tobytes()) for head in heads], np.int64)


def sizes_of_blosc(heads: Heads, stored: NDArray[np.int64], _options: tuple[int, ...]) -> NDArray[np.int64]:
    """Give the sizes in the headers of Blosc 1 buffers; -1 where one says another size for itself than is stored.

    >>> head = np.array([[2, 1, 0x21, 4, 80, 0, 0, 0, 80, 0, 0, 0, 50, 0, 0, 0, 0, 0]], np.uint8)
    >>> sizes_of_blosc(head, np.array([50]), ()), sizes_of_blosc(head, np.array([51]), ())
    (array([80]), array([-1]))
    """
    words = np.ascontiguousarray(heads[:, 4:16]).view("<u4").astype(np.int64)
    return np.where(words[:, 2] == stored, words[:, 0], -1)


def sizes_of_lz4(heads: Heads, _stored: NDArray[np.int64], _options: tuple[int, ...]) -> NDArray[np.int64]:
    """Give the sizes at the beginning of HDF5's LZ4 framing."""
    return np.ascontiguousarray(heads[:, :8]).view(">i8")[:, 0].astype(np.int64)


def sizes_of_bitshuffle(heads: Heads, stored: NDArray[np.int64], options: tuple[int, ...]) -> NDArray[np.int64]:
    """Give the sizes of what bitshuffle was given: framed as LZ4 where it compressed, else they are those stored."""
    return sizes_of_lz4(heads, stored, options) if (*options, 0)[4] else stored
