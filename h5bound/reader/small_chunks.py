"""Many small chunks at once: one by one, Python takes longer for each than its bytes take to decode.

The chunks that a region meets are taken in boxes of the grid::

    region ─► boxes ─► rows of the table ─► few reads ─► decode, filter by filter ─► one copy into the block

With two threads the gain is larger still: each read and each codec lets go of Python's lock, and to get it back takes
longer than a small chunk does. Of 1 KiB chunks (shuffle, deflate) one costs 4 to 5 µs so, 25 to 70 µs one by one,
and 15 µs in HDF5.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from h5bound.buffers import DamagedError
from h5bound.codecs.decoders import HEAD_NBYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from h5bound.buffers import Block, Bytes, Region
    from h5bound.chunk_grid import ChunkGrid
    from h5bound.codecs.filters import Decoder
    from h5bound.files.protocols import FileBytes
    from h5bound.hdf5.chunk_index import ChunkTable


Box: TypeAlias = tuple[range, ...]
"""AttributeBuilder of chunks along each axis of the grid."""

SMALL_NBYTES = 256 << 10
"""Chunks of fewer bytes are taken together."""

BOX_NBYTES = 1 << 20
"""So many bytes of them at once, which a processor's cache still holds."""

BOX_CHUNKS = 4096
"""And so many at the most: each is a Python object for a while."""

STORED_NBYTES = 8 << 20
"""Whatever compressed them has not made more of them than that."""

GAP_NBYTES = 4096
"""Stored bytes no further apart are read at once."""

MAX_AXES = 16
"""A box of chunks has two axes for each of the dataset's, and numpy 32 at the least."""


def is_small(grid: ChunkGrid, region: Region, nbytes: int) -> bool:
    """Tell whether a region meets several chunks of so few bytes that they are better read together."""
    return nbytes < SMALL_NBYTES and len(region) <= MAX_AXES and grid.count(region) > 1


def cut_boxes(grid: ChunkGrid, region: Region, most: int) -> Iterator[Box]:
    """Give the chunks that a region meets in boxes of at most so many, in row-major order.

    >>> from h5bound.chunk_grid import ChunkGrid
    >>> list(cut_boxes(ChunkGrid((40, 30), (10, 10)), (slice(5, 40), slice(0, 20)), 4))
    [(range(0, 2), range(0, 2)), (range(2, 4), range(0, 2))]
    """
    axes, steps = grid.places(region), []
    for places in reversed(axes):
        steps.append(max(min(most, len(places)), 1))
        most //= len(places)
    pieces = [
        [places[i : i + step] for i in range(0, len(places), step)]
        for places, step in zip(axes, reversed(steps), strict=True)
    ]
    return itertools.product(*pieces)


def most_chunks(decoder: Decoder) -> int:
    """Give how many chunks a box has at the most."""
    return min(BOX_NBYTES // max(decoder.nbytes, 1), BOX_CHUNKS)


def read_boxes(
    stored: FileBytes,
    table: ChunkTable,
    grid: ChunkGrid,
    decoder: Decoder,
    fill: Block | None,
    region: Region,
    raw_view: Block,
) -> bool:
    """Fill in a region from its chunks; False if it has chunks that were never written, and no `fill` for them.

    Parameters
    ----------
    stored
        The bytes of the file.
    table
        Where its chunks are.
    grid
        Of the dataset.
    decoder
        Of one chunk.
    fill
        The value of what was never written, as one cell.
    region
        In the dataset; not empty.
    cells
        The block, a cell for each element.

    Raises
    ------
    DamagedError
        A chunk does not decode to what is declared; to read them one by one tells which.
    """
    for box in cut_boxes(grid, region, most_chunks(decoder)):
        rows = table.find_all(grid.number_all(box))
        chunks = np.empty((rows.size, decoder.nbytes), np.uint8)
        there = rows >= 0
        if not there.all():
            if fill is None:
                return False
            chunks.view(raw_view.dtype)[~there] = fill
        if there.any():
            decode_rows(stored, table, rows, decoder, chunks)
        _put(chunks.view(raw_view.dtype), grid, box, region, raw_view)
    return True


def decode_rows(
    stored: FileBytes, table: ChunkTable, rows: NDArray[np.int64], decoder: Decoder, out: NDArray[np.uint8]
) -> None:
    """Decode the chunk in each of these rows of a table into the same row of `out`; none where it is -1."""
    masks = np.where(rows < 0, -1, table.masks[rows])
    for mask in np.unique(masks[rows >= 0]).tolist():
        same = np.flatnonzero(masks == mask)
        found = read_pieces(stored, table.offsets[rows[same]], table.nbytes[rows[same]])
        if same.size == rows.size:
            decoder.decode_all(found, out, mask)
        else:
            part = np.empty((same.size, decoder.nbytes), np.uint8)
            decoder.decode_all(found, part, mask)
            out[same] = part


def are_whole(stored: FileBytes, table: ChunkTable, grid: ChunkGrid, decoder: Decoder, region: Region) -> bool:
    """Tell whether all chunks of a region went through all filters, and say that they have their declared size.

    Parameters
    ----------
    stored, table, grid, region
        As for `read_boxes`.
    decoder
        Of one chunk; it `tells_sizes`.

    Raises
    ------
    DamagedError
        The file ends before one of them.
    """
    for box in cut_boxes(grid, region, most_chunks(decoder)):
        rows = table.find_all(grid.number_all(box))
        rows = rows[rows >= 0]
        nbytes = table.nbytes[rows]
        heads = NO_HEADS
        if rows.size and decoder.compresses:
            heads = read_heads(stored, table.offsets[rows], nbytes)
        elif rows.size:  # behind the end of a file that was cut short since it was opened HDF5 has zeros
            last = rows[int(np.argmax(table.offsets[rows]))]
            stored.read(int(table.offsets[last] + table.nbytes[last]) - 1, 1)
        if table.masks[rows].any() or not decoder.are_whole(heads, nbytes):
            return False
    return True


NO_HEADS = np.empty((0, HEAD_NBYTES), np.uint8)


def read_heads(stored: FileBytes, offsets: NDArray[np.int64], nbytes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give a row of `HEAD_NBYTES` bytes at each of these offsets, whatever stands in it after so many bytes."""
    heads = np.zeros((offsets.size, HEAD_NBYTES), np.uint8)
    for run, places, data in _read_runs(stored, offsets, nbytes):
        if data.size:
            heads[run] = data[np.minimum(places[:, np.newaxis] + np.arange(HEAD_NBYTES), data.size - 1)]
    return heads


def read_pieces(stored: FileBytes, offsets: NDArray[np.int64], nbytes: NDArray[np.int64]) -> list[Bytes]:
    """Give so many bytes at each of these offsets."""
    pieces: list[Bytes] = [np.empty(0, np.uint8)] * offsets.size
    for run, places, data in _read_runs(stored, offsets, nbytes):
        for i, place, size in zip(run.tolist(), places.tolist(), nbytes[run].tolist(), strict=True):
            pieces[i] = data[place : place + size]
    return pieces


def _read_runs(
    stored: FileBytes, offsets: NDArray[np.int64], nbytes: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Bytes]]:
    """Read what lies close at once: give which of the offsets these are, their places in the bytes, and the bytes.

    Raises
    ------
    DamagedError
        They are far more than chunks of their size can be, or the file ends before.
    """
    if int(nbytes.sum()) > STORED_NBYTES:
        raise DamagedError(f"{int(nbytes.sum())} bytes are stored")
    order = np.argsort(offsets, kind="stable")
    starts = offsets[order]
    stops = np.maximum.accumulate(starts + nbytes[order])
    for run in np.split(order, np.flatnonzero(starts[1:] - stops[:-1] > GAP_NBYTES) + 1):
        places = offsets[run] - offsets[run[0]]
        data = stored.read(int(offsets[run[0]]), int((places + nbytes[run]).max()))
        data.flags.writeable = False  # a codec may write to it, and damaged chunks may share bytes
        yield run, places, data


def _put(chunks: Block, grid: ChunkGrid, box: Box, region: Region, raw_view: Block) -> None:
    """Copy what a box of whole chunks has of a region to where it belongs."""
    ndim = len(box)
    apart = chunks.reshape(*map(len, box), *grid.chunks)
    axes = [axis for pair in zip(range(ndim), range(ndim, 2 * ndim), strict=True) for axis in pair]
    whole = apart.transpose(axes).reshape([len(places) * c for places, c in zip(box, grid.chunks, strict=True)])
    in_box, in_block = [], []
    for places, chunk, wanted in zip(box, grid.chunks, region, strict=True):
        origin = places.start * chunk
        start, stop = max(origin, wanted.start), min(places.stop * chunk, wanted.stop)
        in_box.append(slice(start - origin, stop - origin))
        in_block.append(slice(start - wanted.start, stop - wanted.start))
    raw_view[tuple(in_block)] = whole[tuple(in_box)]
