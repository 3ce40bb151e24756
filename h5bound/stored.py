"""Where the stored bytes of a dataset are, and the bytes themselves, read without HDF5's lock."""

from __future__ import annotations

import array
import itertools
import math
import operator
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5f, h5fd, h5s

from h5bound.decoders import Bytes, DamagedError
from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class LocalFile:
    """A descriptor of an open HDF5 file that threads may read from at the same time.

    It is a duplicate of HDF5's own descriptor, so that it is the same file whatever has become of its name,
    and it stays the same file if HDF5 closes its own while a read is under way.

    Raises
    ------
    UnsupportedError
        The file is not read by HDF5's default driver, may be written to, or is being written by others
        (SWMR): what is stored need not be what HDF5 would give.
    """

    __slots__ = ("_descriptor", "_file", "_lock")

    def __init__(self, file: h5f.FileID) -> None:
        if not hasattr(os, "preadv"):
            raise UnsupportedError("this system has no preadv")
        if file.get_access_plist().get_driver() != h5fd.SEC2:
            raise UnsupportedError("the file is not read by HDF5's default driver")
        if file.get_intent() != h5f.ACC_RDONLY:
            raise UnsupportedError("the file is open for writing, or for reading while it is written")
        if h5py.version.hdf5_version_tuple < (2, 0, 0) and file.get_create_plist().get_userblock():
            raise UnsupportedError("this HDF5 leaves the user block out of the offsets of chunks")
        self._file: h5f.FileID | None = file
        self._descriptor = -1
        self._lock = threading.Lock()

    @property
    def descriptor(self) -> int:
        """The descriptor, duplicated when it is first asked for."""
        if self._descriptor < 0:
            with self._lock:
                if self._descriptor < 0 and self._file is not None:
                    self._descriptor = os.dup(self._file.get_vfd_handle())
        return self._descriptor

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill `out` with the bytes from `offset` on.

        Raises
        ------
        DamagedError
            The file ends before.
        """
        view = memoryview(out)
        while view:
            count = os.preadv(self.descriptor, [view[: 1 << 30]], offset)
            if not count:
                raise DamagedError(f"the file ends {len(view)} bytes before it does")
            view, offset = view[count:], offset + count

    def read(self, offset: int, nbytes: int) -> Bytes:
        """Give `nbytes` bytes from `offset` on; none are allocated for what the file does not have."""
        beyond = offset + nbytes - os.fstat(self.descriptor).st_size
        if beyond > 0:
            raise DamagedError(f"the file ends {beyond} bytes before it does")
        out = np.empty(nbytes, np.uint8)
        self.read_into(offset, out)
        return out

    def close(self) -> None:
        """Close the descriptor, if there is one; nothing may read from it any more."""
        with self._lock:
            descriptor, self._descriptor, self._file = self._descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)


RUN_NBYTES = 4096
"""Runs of less are not read one by one; each costs a system call."""


def read_runs(
    local: LocalFile,
    offset: int,
    shape: tuple[int, ...],
    region: tuple[slice, ...],
    cells: NDArray[np.generic],
) -> bool:
    """Fill `cells` with a region of an array that is stored at `offset`; False if its runs are too short.

    A run is what lies together in the file: along the last axis that the region cuts, and all axes after it.
    """
    cut = max((i for i, s in enumerate(region) if s.stop - s.start < shape[i]), default=0)
    itemsize = cells.itemsize
    run = math.prod(cells.shape[cut:]) * itemsize
    if run < min(RUN_NBYTES, cells.nbytes):
        return False
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    first = offset + sum(s.start * stride for s, stride in zip(region, strides, strict=True))
    for index in np.ndindex(cells.shape[:cut]):
        start = first + sum(i * stride for i, stride in zip(index, strides, strict=False))
        local.read_into(start, bytes_of(cells[(*index, ...)]))
    return True


def bytes_of(array: NDArray[np.generic]) -> Bytes:
    """Give the bytes of a C-contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8)


class Overlap(NamedTuple):
    """Where a region meets one chunk, in elements."""

    place: tuple[int, ...]
    """place of the chunk along each axis of the grid"""
    origin: tuple[int, ...]
    """its first element in the dataset"""
    region: tuple[slice, ...]
    """what they share, in the dataset"""
    in_chunk: tuple[slice, ...]
    """the same, from the chunk's origin"""
    in_block: tuple[slice, ...]
    """the same, from the region's start"""


class ChunkGrid:
    """The regular grid of a dataset's chunks.

    Parameters
    ----------
    shape
        Extent of the dataset in elements.
    chunks
        Extent of a chunk in elements; it may exceed the dataset's.

    Examples
    --------
    >>> grid = ChunkGrid((10, 10), (4, 8))
    >>> [overlap.in_chunk[0] for overlap in grid.meet((slice(3, 6), slice(0, 1)))]
    [slice(3, 4, None), slice(0, 2, None)]
    """

    __slots__ = ("chunks", "counts", "shape", "strides")

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self.shape = shape
        self.chunks = chunks
        self.counts = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))  # chunks along each axis
        self.strides = tuple(math.prod(self.counts[axis + 1 :]) for axis in range(len(shape)))

    def number(self, place: tuple[int, ...]) -> int:
        """Give the place of a chunk in row-major order, from its place along each axis."""
        return sum(map(operator.mul, place, self.strides))

    def cuts(self, place: tuple[int, ...]) -> bool:
        """Tell whether the dataset ends within the chunk."""
        return any((i + 1) * c > n for i, c, n in zip(place, self.chunks, self.shape, strict=True))

    def meet(self, region: tuple[slice, ...]) -> Iterator[Overlap]:
        """Give the chunks that a region meets, in row-major order."""
        axes = [_meet_axis(s.start, s.stop, c) for s, c in zip(region, self.chunks, strict=True)]
        for sides in itertools.product(*axes):
            yield Overlap(*zip(*sides, strict=True))


def _meet_axis(start: int, stop: int, chunk: int) -> list[tuple[int, int, slice, slice, slice]]:
    """Give what an `Overlap` holds, along one axis."""
    sides = []
    for i in range(start // chunk, -(-stop // chunk)):
        origin = i * chunk
        a, b = max(origin, start), min(origin + chunk, stop)
        sides.append((i, origin, slice(a, b), slice(a - origin, b - origin), slice(a - start, b - start)))
    return sides


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one chunk."""

    offset: int
    """of its first byte in the file"""
    nbytes: int
    """how many there are"""
    mask: int
    """bit i: filter i of the pipeline was skipped"""
    data: Bytes | None = None
    """the bytes, where HDF5 has handed them over; `offset` means nothing then"""


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where every stored chunk of a dataset is: a row each, ordered by number."""

    numbers: NDArray[np.int64]
    """place of the chunk in row-major order"""
    offsets: NDArray[np.int64]
    """of its first byte in the file"""
    nbytes: NDArray[np.int64]
    """of what is stored"""
    masks: NDArray[np.int64]
    """bit i: filter i of the pipeline was skipped"""

    def find(self, number: int) -> Stored | None:
        """Give what is stored of a chunk; None if it was never written."""
        row = int(np.searchsorted(self.numbers, number))
        if row == self.numbers.size or self.numbers[row] != number:
            return None
        return Stored(int(self.offsets[row]), int(self.nbytes[row]), int(self.masks[row]))


def list_chunks(dataset: h5d.DatasetID, grid: ChunkGrid) -> ChunkTable | None:
    """Give the table of all chunks: about 1.5 µs and 32 bytes a chunk, under HDF5's lock.

    HDF5 finds one chunk by its coordinates in time linear in their number (`H5Dget_chunk_info_by_coord`: 2 to
    5 ms among 100,000), so that more than a few are better listed.

    None means that the list cannot be trusted. HDF5 (2.0 and before) lists wrong coordinates where its index is an
    extensible array and the one unlimited axis is not the first: it goes on counting along that axis, so that
    every chunk is said to lie at 0 along the axes before. Only a list with another place there is no such list.
    """
    places, rows = array.array("q"), array.array("q")

    def note(info: h5d.StoreInfo) -> None:
        places.extend(info.chunk_offset)
        rows.extend((info.byte_offset, info.size, info.filter_mask))

    dataset.chunk_iter(note)
    index = np.frombuffer(places, np.int64).reshape(-1, len(grid.shape)) // np.array(grid.chunks, np.int64)
    limits = dataset.get_space().get_simple_extent_dims(maxdims=True)
    unlimited = [axis for axis, limit in enumerate(limits) if limit == h5s.UNLIMITED]
    if len(unlimited) == 1 and unlimited[0] and not index[:, : unlimited[0]].any():
        return None
    numbers = index @ np.array(grid.strides, np.int64)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    if (index >= np.array(grid.counts, np.int64)).any() or (numbers[1:] == numbers[:-1]).any():
        return None
    offsets, nbytes, masks = np.frombuffer(rows, np.int64).reshape(-1, 3)[order].T.copy()
    return ChunkTable(numbers, offsets, nbytes, masks)
