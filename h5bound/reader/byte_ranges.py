"""Read a region of a contiguous dataset in few spans of bytes. HDF5 only says where the dataset is."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from h5bound.buffers import Block, DamagedError, Region, bytes_of, new_block
from h5bound.errors import CorruptChunkError
from h5bound.reader.via_h5py import H5pyReader, dtype_of, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py
    from numpy.typing import NDArray

    from h5bound.files.protocols import FileBytes, Range


SPAN_NBYTES = 512 << 10
"""Most bytes of a span: rows that lie apart are read together with the bytes between them."""

REQUEST_NBYTES = 64 << 20
"""Bytes of spans that are requested from a server at once."""

SPARSE = 4
"""Rows are read together if at least 1/SPARSE of their span is requested."""

LONG_NBYTES = 32 << 10
"""Longer rows are read one by one."""

SHORT_NBYTES = 4096
"""Spans that contribute fewer bytes are faster in HDF5: each costs a system call, and some 3 µs of Python."""

FAR_NBYTES = 64 << 10
"""Unless their starts lie so far apart: HDF5 then reads so many bytes for each (H5Pset_sieve_buf_size)."""


class Spans(NamedTuple):
    """The spans that are read for a region, in C order. Each is a run of rows: positions along one axis.

    A row has all elements of the region along the axes after that one, and the bytes between them.
    """

    ranges: list[Range]
    """Offset and bytes of each span."""
    row: int
    """Bytes from the first element of a row to the end of its last."""
    extents: tuple[int, ...]
    """Elements of the region in a row, along the axes after that of the rows."""
    strides: tuple[int, ...]
    """Bytes from one row to the next, and from one element to the next along the axes after it."""


def plan_spans(region: tuple[slice, ...], *, offset: int, shape: tuple[int, ...], itemsize: int) -> Spans | None:
    """Return the spans of a region of an array at `offset` in C order; None if they are too short.

    >>> plan_spans((slice(1, 3), slice(0, 60000)), offset=100, shape=(3, 80000), itemsize=1).ranges
    [(80100, 60000), (160100, 60000)]
    >>> plan_spans((slice(1, 3), slice(0, 6000)), offset=100, shape=(3, 8000), itemsize=1)
    Spans(ranges=[(8100, 14000)], row=6000, extents=(6000,), strides=(8000, 1))
    >>> plan_spans((slice(0, 3), slice(7, 8)), offset=100, shape=(3, 80000), itemsize=1).ranges
    [(107, 1), (80107, 1), (160107, 1)]
    """
    extents = [s.stop - s.start for s in region] or [1]
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))] or [itemsize]
    axis = max((i for i, (extent, size) in enumerate(zip(extents, shape, strict=False)) if extent < size), default=0)
    rows, row = extents[axis], strides[axis]
    wanted = span = rows * row
    while (
        axis and wanted <= LONG_NBYTES and rows == extents[axis]
    ):  # make rows of the axis before, each of them this span
        fit = min(extents[axis - 1], 1 + (SPAN_NBYTES - span) // strides[axis - 1])
        wider = (fit - 1) * strides[axis - 1] + span
        if fit < min(extents[axis - 1], 2) or fit * wanted * SPARSE < wider:
            break
        axis, rows, row, wanted, span = axis - 1, fit, span, fit * wanted, wider
    apart = rows * strides[axis] if rows < extents[axis] else strides[max(axis - 1, 0)]
    if wanted < min(SHORT_NBYTES, math.prod(extents) * itemsize) and apart < FAR_NBYTES:
        return None
    region_offset = offset + sum(s.start * stride for s, stride in zip(region, strides, strict=False))
    ranges = []
    for position in np.ndindex(*extents[:axis]):
        start = region_offset + sum(i * stride for i, stride in zip(position, strides, strict=False))
        for i in range(0, extents[axis], rows):
            nbytes = (min(rows, extents[axis] - i) - 1) * strides[axis] + row
            ranges.append((start + i * strides[axis], nbytes))
    return Spans(ranges=ranges, row=row, extents=tuple(extents[axis + 1 :]), strides=tuple(strides[axis:]))


def read_spans(file_bytes: FileBytes, spans: Spans, raw_view: NDArray[np.generic]) -> None:
    """Fill the elements of a C-contiguous array from its spans; raise DamagedError if the file ends before."""
    elements = raw_view.reshape(-1)
    width, filled, requested = math.prod(spans.extents), 0, 0
    scratch: NDArray[np.uint8] | None = None
    for i, (offset, nbytes) in enumerate(spans.ranges):
        if i == requested:
            requested = max(i + 1, bisect_left(spans.ranges, (offset + REQUEST_NBYTES, 0)))
            source = file_bytes.gather(spans.ranges[i:requested])
        rows = (nbytes - spans.row) // spans.strides[0] + 1
        part = elements[filled : filled + rows * width]
        filled += part.size
        if part.nbytes == nbytes:
            source.read_into(offset, bytes_of(part))
            continue
        if scratch is None:  # the first span is the longest
            scratch = np.empty(nbytes, np.uint8)
        source.read_into(offset, scratch[:nbytes])
        shape = rows, *spans.extents
        part.reshape(shape)[...] = np.ndarray(shape, raw_view.dtype, buffer=scratch, strides=spans.strides)


class ContiguousReader:
    """Reader of a contiguous dataset."""

    def __init__(self, dataset: h5py.Dataset, file_bytes: FileBytes) -> None:
        self._dataset = dataset
        self._via_h5py = H5pyReader(dataset)
        self._bytes = file_bytes
        self._shape, self._dtype, self._offset = dataset.shape, dtype_of(dataset), dataset.id.get_offset()

    def read(self, region: Region, *, pooled: bool = False) -> Block:
        """Return a region that is not empty; a few scattered bytes are read by h5py.

        `pooled` is that of `new_block`.
        """
        spans = self._plan(region)
        if spans is None:
            return self._via_h5py.read(region)
        block, raw_view = new_block(tuple(s.stop - s.start for s in region), self._dtype, pooled=pooled)
        try:
            read_spans(self._bytes, spans, raw_view)
        except DamagedError as error:
            raise CorruptChunkError(f"{name_of(self._dataset)}: {error}") from error
        return block

    def read_encoded(self, region: Region) -> Block:
        """Return the region: nothing is encoded."""
        return self.read(region, pooled=True)

    def check(self, region: Region) -> None:
        """Raise CorruptChunkError if the file ends before the end of a region that is not empty."""
        self.read(region)

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Announce regions that will be read, each once."""
        plans = map(self._plan, regions)
        self._bytes.prefetch(span for spans in plans if spans is not None for span in spans.ranges)

    def _plan(self, region: Region) -> Spans | None:
        return plan_spans(region, offset=self._offset, shape=self._shape, itemsize=self._dtype.itemsize)
