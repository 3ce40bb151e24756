"""ScanContext what is stored in one piece without HDF5, which says where that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5py import h5i

from h5bound.buffers import Block, DamagedError, Region, new_block
from h5bound.errors import CorruptChunkError
from h5bound.files.local import LocalFile
from h5bound.reader.byte_ranges import plan_spans, read_spans
from h5bound.reader.via_h5py import name_of, read_through_h5py

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py

    from h5bound.files.protocols import FileBytes
    from h5bound.reader.byte_ranges import Spans


class ContiguousReader:
    """Reads a dataset that is stored in one piece."""

    def __init__(self, dataset: h5py.Dataset, stored: FileBytes | None) -> None:
        self._dataset = dataset
        self._shape = dataset.shape
        self._dtype = dataset.dtype
        self._offset = dataset.id.get_offset()
        self._owns = stored is None
        self._bytes = LocalFile(h5i.get_file_id(dataset.id)) if stored is None else stored

    def read(self, region: Region) -> Block:
        """Give the region, which is not empty; few bytes here and there go through h5py."""
        spans = self._plan(region)
        if spans is None:
            return read_through_h5py(self._dataset, region)
        block, raw_view = new_block(tuple(s.stop - s.start for s in region), self._dtype)
        try:
            read_spans(self._bytes, spans, raw_view)
        except DamagedError as error:
            raise CorruptChunkError(f"{name_of(self._dataset)}: {error}") from error
        return block

    def prefetch(self, regions: Sequence[Region]) -> None:
        """Take notice of regions that will be read, each once."""
        plans = filter(None, map(self._plan, regions))
        self._bytes.prefetch(span for spans in plans for span in spans.ranges)

    def _plan(self, region: Region) -> Spans | None:
        return plan_spans(self._offset, self._shape, region, self._dtype.itemsize)

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._owns:
            self._bytes.close()
