"""Contiguous data as chunks: byte ranges of the file that a Zarr array without codecs can have."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt, prod
from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import count_chunks, list_chunk_coords
from h5bound.hdf5.chunk_index import ChunkManifest

if TYPE_CHECKING:
    from h5bound.chunk_grid import Shape
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.open_file import OpenFile

LARGEST = 16 * 2**20
"""Most bytes of a range, unless there are no even ones."""

LEAST_PART = 16
"""Ranges that are even may be this many times smaller than the largest."""


def split_contiguous(opened: OpenFile, inside: str, scan: DatasetScan) -> DatasetScan:
    """Return the scan of a dataset whose data is in one piece as one of chunks; any other as it is.

    `inside` is its path in the open file.
    """
    shape = scan.record.shape
    if scan.record.layout != "contiguous" or scan.type.reason or not scan.record.stored_nbytes or shape is None:
        return scan
    dataset = opened.open_dataset(inside).id
    begin, itemsize = dataset.get_offset(), dataset.get_type().get_size()
    chunks = plan_ranges(shape, itemsize, room=opened.file.id.get_filesize() - begin)
    manifest = make_manifest(shape, chunks, itemsize, begin=begin)
    record = replace(scan.record, layout="chunked", chunks=chunks, edge_unfiltered=False)
    return replace(scan, record=record, manifest=manifest)


def make_manifest(shape: Shape, chunks: Shape, itemsize: int, *, begin: int) -> ChunkManifest:
    """Return the places of the chunks of contiguous data that begins at an offset; each is adjacent elements."""
    coords = list_chunk_coords(shape, chunks, prod(count_chunks(shape, chunks)))
    steps = np.array([prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
    return ChunkManifest(
        chunk_coords=coords,
        offsets=begin + coords * np.array(chunks, np.int64) @ steps * itemsize,
        nbytes=np.full(len(coords), prod(chunks) * itemsize, np.int64),
        masks=np.zeros(len(coords), np.int64),
    )


def plan_ranges(shape: Shape, itemsize: int, room: int) -> Shape:
    """Return the shape of the chunks of contiguous data, each adjacent elements, at most `LARGEST` bytes if possible.

    `room` is the bytes from the first element to the end of the file. A Zarr chunk is always whole, so the chunks
    divide an axis evenly, or what follows the last elements in the file takes the place of those past the end.

    >>> plan_ranges((100, 1000, 1000), 8, room=10**9), plan_ranges((3, 5), 8, room=120)
    ((2, 1000, 1000), (3, 5))
    >>> plan_ranges((10_000_019,), 8, room=10**9), plan_ranges((10_000_019,), 8, room=80_000_152)
    ((2097152,), (10000019,))
    """
    chunks = list(shape)
    for axis, length in enumerate(shape):
        row = prod(shape[axis + 1 :]) * itemsize
        if length * row <= LARGEST:
            break
        most = LARGEST // row
        if not most:
            chunks[axis] = 1
            continue
        even = find_divisor(length, most)
        end = (prod(shape[:axis]) - 1) * length * row + -(-length // most) * most * row
        chunks[axis] = even if even * LEAST_PART >= most else most if end <= room else length
        break
    return tuple(chunks)


def find_divisor(length: int, most: int) -> int:
    """Return the largest divisor of a length that is at most `most`.

    >>> find_divisor(100, 30), find_divisor(97, 30)
    (25, 1)
    """
    pairs = ((low, length // low) for low in range(1, min(most, isqrt(length)) + 1) if length % low == 0)
    return max(one for pair in pairs for one in pair if one <= most)
