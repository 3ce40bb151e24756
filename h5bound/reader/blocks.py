"""The functions that block tasks call on an open file.

::

    read_encoded(file, key, region) ──► close ──► decode_region ──► block
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h5bound.reader.chunked import EncodedBlock

if TYPE_CHECKING:
    from h5bound.buffers import Block, Region
    from h5bound.reader.open_file import DatasetKey, OpenFile


@dataclass(frozen=True, slots=True)
class BlockRegions:
    """The arguments of `read_region` for each block of an array."""

    key: DatasetKey
    bounds: tuple[tuple[int, ...], ...]
    """Where the blocks start and stop along each axis of the dataset; axes of an array type come after these."""

    def __call__(self, index: tuple[int, ...]) -> tuple[DatasetKey, Region]:
        """Return the arguments for the block at an index."""
        return self.key, tuple(slice(stops[i], stops[i + 1]) for stops, i in zip(self.bounds, index, strict=False))


def read_region(file: OpenFile, key: DatasetKey, region: Region) -> Block:
    """Return a region of a dataset."""
    return file.dataset(key).read(region)


def read_encoded(file: OpenFile, key: DatasetKey, region: Region) -> Block | EncodedBlock:
    """Return what `decode_region` makes a region of: its encoded chunks where they take less memory than the region."""
    return file.dataset(key).read_encoded(region)


def decode_region(encoded: Block | EncodedBlock) -> Block:
    """Return a region from what `read_encoded` returned; the file may be closed."""
    return encoded.decode() if isinstance(encoded, EncodedBlock) else encoded


def prefetch_regions(file: OpenFile, reads: list[tuple[DatasetKey, Region]]) -> None:
    """Announce the regions of one dataset that will be read, each once."""
    key = reads[0][0]
    file.dataset(key)
    file.prefetch(key.path, [region for _, region in reads])
