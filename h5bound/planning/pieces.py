"""The places of the elements of an array that is joined from several files.

Blocks of dask arrays, none of which spans two files, find theirs with less (`h5bound.reader.joined_dataset`): a lookup
here takes more than twice as long, which counts for 100,000 blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from h5bound.buffers import Region
    from h5bound.chunk_grid import Shape

    Block = NDArray[Any]
    Convert = Callable[[Block], Block]


NO_FILE = -1
"""Number of the file of elements that no file has."""

IN_STORE = -2
"""Number of the file of elements that are read from the store that files are added to."""


class Share(NamedTuple):
    """What a region of the array and one file share."""

    file: int
    """Number of the file, or NO_FILE, or IN_STORE."""
    inside: Region
    """Elements in the file's dataset."""
    where: slice
    """The same elements along the joined axis, from the start of the region."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pieces:
    """The files of an array, one after another along an axis; each has a piece of at least one element."""

    axis: int
    """The axis along which they are joined."""
    is_new: bool = False
    """Whether the datasets do not have this axis: each file has one element along it."""
    bounds: NDArray[np.int64]
    """Where each piece begins along the axis, and where the last one ends."""
    files: NDArray[np.int64]
    """Number of the file of each piece; NO_FILE for one with the fill value, IN_STORE for one that the store has."""
    skipped: NDArray[np.int64]
    """Elements of each file along the axis that come before its piece."""
    fill: Block | None = None
    """Value of the elements that no file has, 0-d."""
    conversions: Mapping[int, Convert] = field(default_factory=dict)
    """Functions that turn elements of a file into those of the array, by the number of the file."""
    store: Any = None
    """The array of the store that files are added to, which has the elements of files that are not read."""

    def find(self, region: Region) -> Iterator[Share]:
        """Yield what a region shares with each file, in the order of the axis.

        >>> pieces = Pieces(axis=0, bounds=np.array([0, 3, 5]), files=np.array([7, 8]), skipped=np.array([0, 1]))
        >>> [(share.file, share.inside[0], share.where) for share in pieces.find((slice(2, 4),))]
        [(7, slice(2, 3, None), slice(0, 1, None)), (8, slice(1, 2, None), slice(1, 2, None))]
        """
        span = region[self.axis]
        first = int(np.searchsorted(self.bounds, span.start, side="right")) - 1
        for number in range(first, len(self.files)):
            begin, end = int(self.bounds[number]), int(self.bounds[number + 1])
            start, stop = max(begin, span.start), min(end, span.stop)
            if begin >= span.stop:
                return
            shift = int(self.skipped[number]) - begin
            along = () if self.is_new else (slice(start + shift, stop + shift),)
            inside = (*region[: self.axis], *along, *region[self.axis + 1 :])
            yield Share(int(self.files[number]), inside, slice(start - span.start, stop - span.start))

    def have_files(self, coords: NDArray[np.int64], size: int, *, in_store: bool = False) -> NDArray[np.bool_]:
        """Return which intervals of the axis, of `size` from `coords` times it on, have elements that are read.

        With `in_store`, which have elements that the store has.

        >>> files = np.array([IN_STORE, 8])
        >>> pieces = Pieces(axis=0, bounds=np.array([0, 3, 5]), files=files, skipped=np.zeros(2, int))
        >>> coords = np.array([0, 1, 2])
        >>> pieces.have_files(coords, 2).tolist(), pieces.have_files(coords, 2, in_store=True).tolist()
        ([False, True, True], [True, True, False])
        """
        if not len(self.files):
            return np.full(len(coords), not in_store)
        return have_any(self.bounds, (self.files == IN_STORE) == in_store, coords, size=size)

    def drop_axis(self, shape: Shape) -> Shape:
        """Return the shape of the array without the axis that the datasets do not have."""
        return shape[: self.axis] + shape[self.axis + 1 :] if self.is_new else shape

    def measure(self, region: Region, share: Share) -> Shape:
        """Return the shape of what a region shares with a file."""
        lengths = tuple(part.stop - part.start for part in region)
        return (*lengths[: self.axis], share.where.stop - share.where.start, *lengths[self.axis + 1 :])


def find_pieces(
    bounds: NDArray[np.int64], coords: NDArray[np.int64], *, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first piece that each interval of an axis has elements of, and the end of those pieces.

    `bounds` are those of `Pieces`. An interval has `size` elements from `coords` times it on.

    >>> find_pieces(np.array([0, 3, 5]), np.array([0, 1, 2]), size=2)
    (array([0, 0, 1]), array([1, 2, 2]))
    """
    first = np.searchsorted(bounds, coords * size, side="right") - 1
    return first, np.minimum(np.searchsorted(bounds, (coords + 1) * size, side="left"), len(bounds) - 1)


def have_any(
    bounds: NDArray[np.int64], selected: NDArray[np.bool_], coords: NDArray[np.int64], *, size: int
) -> NDArray[np.bool_]:
    """Return which intervals of an axis, as `find_pieces` has them, have elements of selected pieces."""
    counts = np.concatenate([[0], np.cumsum(selected & (np.diff(bounds) > 0))])
    first, stop = find_pieces(bounds, coords, size=size)
    have: NDArray[np.bool_] = counts[stop] > counts[first]
    return have
