"""Read what is stored in one piece: HDF5 says where, and the bytes are read without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.buffers import Block, DamagedError, Region, new_block
from h5bound.errors import CorruptChunkError
from h5bound.reader.byte_ranges import plan_spans, read_spans
from h5bound.reader.via_h5py import name_of, read_through_h5py

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py

    from h5bound.files.protocols import FileBytes
    from h5bound.reader.byte_ranges import Spans


class ContiguousReader:
    """Reads a dataset that is stored in one piece."""

    def __init__(self, dataset: h5py.Dataset, file_bytes: FileBytes) -> None:
        self._dataset = dataset
        self._bytes = file_bytes
        self._shape, self._dtype, self._offset = dataset.shape, dataset.dtype, dataset.id.get_offset()

    def read(self, region: Region) -> Block:
        """Return a region that is not empty; few bytes here and there are read by h5py."""
        spans = self._plan(region)
        if spans is None:
            return read_through_h5py(self._dataset, region)
        block, raw_view = new_block(tuple(s.stop - s.start for s in region), self._dtype)
        try:
            read_spans(self._bytes, spans, raw_view)
        except DamagedError as error:
            raise CorruptChunkError(f"{name_of(self._dataset)}: {error}") from error
        return block

    read_encoded = read  # nothing is encoded

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Announce regions that will be read, each once."""
        plans = map(self._plan, regions)
        self._bytes.prefetch(span for spans in plans if spans is not None for span in spans.ranges)

    def _plan(self, region: Region) -> Spans | None:
        return plan_spans(region, offset=self._offset, shape=self._shape, itemsize=self._dtype.itemsize)
