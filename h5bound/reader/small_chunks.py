"""Read many small chunks at once: one by one, Python takes longer for a chunk than decoding its bytes.

The chunks that a region overlaps are read in boxes of the chunk grid::

    region ─► boxes ─► offsets, sizes, masks ─► few reads ─► decode, filter by filter ─► one copy into the block

With two threads the gain is larger: each read and each codec releases Python's lock, and taking it again takes longer
than a small chunk does. A chunk of 1 KiB (shuffle, deflate) costs 4 to 5 µs here, 25 to 70 µs one by one, and 15 µs in
HDF5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.chunk_grid import cut_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from h5bound.buffers import Block, Bytes, Region
    from h5bound.chunk_grid import Box, ChunkGrid
    from h5bound.codecs.filters import Decoder
    from h5bound.files.protocols import Readable
    from h5bound.hdf5.chunk_index import ChunkIndex


SMALL_NBYTES = 256 << 10
"""Chunks of fewer decoded bytes are read together."""

BOX_NBYTES = 1 << 20
"""Most decoded bytes of the chunks that are read together; they fit the cache of a processor."""

BOX_CHUNKS = 4096
"""Most chunks that are read together: each is a Python object for a while."""

ENCODED_NBYTES = 8 << 20
"""Most encoded bytes of the chunks that are read together; no compressor makes more of so few decoded bytes."""

GAP_NBYTES = 4096
"""Largest gap in bytes between encoded chunks that are read at once."""

MAX_AXES = 16
"""A box of chunks has two axes for each of the dataset's, and numpy at least 32."""


def is_small(grid: ChunkGrid, region: Region, nbytes: int) -> bool:
    """Return whether a region overlaps several chunks that are small enough to read together."""
    return nbytes < SMALL_NBYTES and len(region) <= MAX_AXES and grid.count(region) > 1


def read_small_chunks(
    file_bytes: Readable,
    *,
    index: ChunkIndex,
    grid: ChunkGrid,
    decoder: Decoder,
    fill: Block | None,
    region: Region,
    raw_view: Block,
) -> bool:
    """Fill a block with a region that is not empty; return False if it cannot be read in this way.

    That is the case if some chunks were never written and `fill`, one raw element, is None. All chunks must have been
    indexed. `raw_view` is the block with one raw element for each of its elements. Raise DamagedError if a chunk does
    not decode to its declared size: reading the chunks one by one finds which.
    """
    for box in cut_boxes(grid.box(region), min(BOX_NBYTES // max(decoder.nbytes, 1), BOX_CHUNKS)):
        offsets, nbytes, masks = index.locate(grid, box).T
        decoded = np.empty((offsets.size, decoder.nbytes), np.uint8)
        missing = offsets < 0
        if missing.any():
            if fill is None:
                return False
            decoded.view(raw_view.dtype)[missing] = fill
        for mask in np.unique(masks[~missing]).tolist():
            same = np.flatnonzero(~missing & (masks == mask))
            encoded = read_ranges(file_bytes, offsets[same], nbytes[same])
            if same.size == offsets.size:
                decoder.decode_all(encoded, decoded, mask)
            else:
                part = np.empty((same.size, decoder.nbytes), np.uint8)
                decoder.decode_all(encoded, part, mask)
                decoded[same] = part
        _copy_box(decoded.view(raw_view.dtype), grid, box, region=region, raw_view=raw_view)
    return True


def read_ranges(file_bytes: Readable, offsets: NDArray[np.int64], nbytes: NDArray[np.int64]) -> list[Bytes]:
    """Return the bytes of ranges, in their order; those that lie close together are read at once.

    Raise DamagedError if they have far more bytes than small chunks can have, or the file ends before.
    """
    total = int(nbytes.sum())
    if total > ENCODED_NBYTES:
        raise DamagedError(f"{total} bytes are stored")
    order = np.argsort(offsets, kind="stable")
    starts = offsets[order]
    stops = np.maximum.accumulate(starts + nbytes[order])
    pieces: list[Bytes] = [np.empty(0, np.uint8)] * offsets.size
    for run in np.split(order, np.flatnonzero(starts[1:] - stops[:-1] > GAP_NBYTES) + 1):
        positions = offsets[run] - offsets[run[0]]
        data = file_bytes.read(int(offsets[run[0]]), int((positions + nbytes[run]).max()))
        data.flags.writeable = False  # a codec may write to it, and damaged chunks may share bytes
        for i, position, size in zip(run.tolist(), positions.tolist(), nbytes[run].tolist(), strict=True):
            pieces[i] = data[position : position + size]
    return pieces


def _copy_box(chunks: Block, grid: ChunkGrid, box: Box, *, region: Region, raw_view: Block) -> None:
    """Copy the elements of a region in a box of whole chunks to their place."""
    ndim = len(box)
    apart = chunks.reshape(*map(len, box), *grid.chunks)
    axes = [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    whole = apart.transpose(axes).reshape([len(places) * c for places, c in zip(box, grid.chunks, strict=True)])
    in_box, in_block = [], []
    for positions, chunk, wanted in zip(box, grid.chunks, region, strict=True):
        origin = positions.start * chunk
        start, stop = max(origin, wanted.start), min(positions.stop * chunk, wanted.stop)
        in_box.append(slice(start - origin, stop - origin))
        in_block.append(slice(start - wanted.start, stop - wanted.start))
    raw_view[tuple(in_block)] = whole[tuple(in_box)]
