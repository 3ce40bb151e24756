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

from h5bound.buffers import DamagedError, Pieces, reuse_freed
from h5bound.chunk_grid import cut_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from h5bound.buffers import Block, Bytes, Region
    from h5bound.chunk_grid import Box, ChunkGrid
    from h5bound.codecs.chunk_decoder import Decoder
    from h5bound.files.local import LocalFile
    from h5bound.hdf5.chunk_index import ChunkIndex


SMALL_NBYTES = 256 << 10
"""Chunks of at most so many decoded bytes are read together: larger ones are faster so too, but take more memory."""

BOX_NBYTES = 4 << 20
"""Most decoded bytes of the chunks that are read together: on two threads, 1 MiB takes up to 1.3 times as long."""

BOX_CHUNKS = 4096
"""Most chunks that are read together: each is a Python object for a while."""

ENCODED_NBYTES = 8 << 20
"""Most encoded bytes of the chunks that are read together; no compressor makes more of so few decoded bytes."""

GAP_NBYTES = 4096
"""Gap in bytes between encoded chunks up to which they are read at once."""

LONG_GAP_NBYTES = 32 << 10
"""The same where the chunks before the gap have as many bytes as it, so that at most twice as much is read."""

MAX_PARTS = 1000
"""Most buffers that are filled at once; POSIX systems allow 1024."""

MAX_AXES = 16
"""A box of chunks has two axes for each of the dataset's, and numpy at least 32."""


def is_small(grid: ChunkGrid, region: Region, nbytes: int) -> bool:
    """Return whether a region overlaps several chunks that are small enough to read together."""
    return nbytes <= SMALL_NBYTES and len(region) <= MAX_AXES and grid.count(region) > 1


def read_small_chunks(
    file: LocalFile,
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
    if raw_view.nbytes > BOX_NBYTES:
        reuse_freed(3 * BOX_NBYTES)
    for box in cut_boxes(grid.box(region), max(min(BOX_NBYTES // max(decoder.nbytes, 1), BOX_CHUNKS), 1)):
        offsets, nbytes, masks = index.locate(grid, box).T
        stored = offsets >= 0
        if stored.all() and (masks == masks[0]).all():
            decoded = decoder.decode_all(read_ranges(file, offsets, nbytes), int(masks[0]))
        elif fill is None and not stored.all():
            return False
        else:
            decoded = np.empty((offsets.size, decoder.nbytes), np.uint8)
            if fill is not None:
                decoded.view(raw_view.dtype)[~stored] = fill
            for mask in np.unique(masks[stored]).tolist():
                same = np.flatnonzero(stored & (masks == mask))
                decoded[same] = decoder.decode_all(read_ranges(file, offsets[same], nbytes[same]), mask)
        _copy_box(decoded.view(raw_view.dtype), grid, box, region=region, raw_view=raw_view)
    return True


def read_ranges(file: LocalFile, offsets: NDArray[np.int64], nbytes: NDArray[np.int64]) -> Pieces:
    """Return the bytes of ranges; those that lie close together are read at once, without the bytes between them.

    Raise DamagedError if they have far more bytes than small chunks can have, or the file ends before.
    """
    total = int(nbytes.sum())
    if total > ENCODED_NBYTES:
        raise DamagedError(f"{total} bytes are stored")
    in_order = (offsets[1:] >= offsets[:-1]).all()
    order = slice(None) if in_order else np.argsort(offsets, kind="stable")
    starts, sizes = offsets[order], nbytes[order]
    places = np.cumsum(sizes) - sizes
    gaps = starts[1:] - starts[:-1] - sizes[:-1]
    buffer, unused = np.empty(total, np.uint8), np.empty(LONG_GAP_NBYTES, np.uint8)
    parts: list[Bytes] = []
    begin = int(starts[0])
    cuts = np.flatnonzero(gaps)
    stops = places[cuts + 1].tolist()
    for gap, start, stop, after in zip(
        gaps[cuts].tolist(), [0, *stops], stops, starts[cuts + 1].tolist(), strict=False
    ):
        parts.append(buffer[start:stop])
        if 0 < gap <= max(GAP_NBYTES, min(stop - start, LONG_GAP_NBYTES)) and len(parts) < MAX_PARTS:
            parts.append(unused[:gap])
        else:
            file.read_parts(begin, parts)
            parts, begin = [], after
    file.read_parts(begin, [*parts, buffer[stops[-1] if stops else 0 :]])
    moved = np.empty_like(places)
    moved[order] = places
    return Pieces(source=buffer, starts=moved, sizes=nbytes)


def _copy_box(chunks: Block, grid: ChunkGrid, box: Box, *, region: Region, raw_view: Block) -> None:
    """Copy the elements of a region in a box of whole chunks to their place."""
    ndim = len(box)
    apart = chunks.reshape(*map(len, box), *grid.chunks)
    axes = [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    in_box, in_block, whole = [], [], True
    for positions, chunk, wanted in zip(box, grid.chunks, region, strict=True):
        origin = positions.start * chunk
        start, stop = max(origin, wanted.start), min(positions.stop * chunk, wanted.stop)
        in_box.append(slice(start - origin, stop - origin))
        in_block.append(slice(start - wanted.start, stop - wanted.start))
        whole = whole and stop - start == len(positions) * chunk
    target = raw_view[tuple(in_block)]
    if whole:
        pairs = [size for positions, chunk in zip(box, grid.chunks, strict=True) for size in (len(positions), chunk)]
        target.reshape(pairs)[...] = apart.transpose(axes)  # a view: axes are only split
    else:
        together = apart.transpose(axes).reshape([len(places) * c for places, c in zip(box, grid.chunks, strict=True)])
        target[...] = together[tuple(in_box)]
