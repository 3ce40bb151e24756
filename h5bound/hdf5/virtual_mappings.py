"""The parts of a virtual dataset: which source each is taken from, and what of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from h5py import h5s

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, describe

if TYPE_CHECKING:
    from h5py import h5p
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VirtualMapping:
    """A part of a virtual dataset, and what it is taken from."""

    file: str
    """as stored; a period stands for the file itself"""
    path: str
    """of the source in it"""
    selection: h5s.SpaceID
    """what is taken of the source"""

    def __str__(self) -> str:
        return f"{self.file!r}, {self.path!r}"

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for any number of sources, numbered in their names (H5Pset_virtual)."""
        return "%" in self.file + self.path

    def fill_in(self, number: int) -> VirtualMapping:
        """Give the mapping of one source of a pattern.

        >>> str(VirtualMapping("f-%b.h5", "100%%", None).fill_in(7))
        "'f-7.h5', '100%'"
        """

        def fill(name: str) -> str:
            return re.sub("%(b|%)", lambda at: str(number) if at[1] == "b" else "%", name)

        return replace(self, file=fill(self.file), path=fill(self.path))


def read_mappings(plist: h5p.PropDCID) -> list[VirtualMapping]:
    """Give the parts of a virtual dataset.

    Raises
    ------
    UnsupportedError
        h5py cannot tell them.
    """
    try:
        return [
            VirtualMapping(plist.get_virtual_filename(i), plist.get_virtual_dsetname(i), plist.get_virtual_srcspace(i))
            for i in range(plist.get_virtual_count())
        ]
    except READ_ERRORS as error:
        raise UnsupportedError(f"h5py cannot tell its virtual sources: {describe(error)}") from error


def list_boxes(plist: h5p.PropDCID, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Give what the parts of a virtual dataset cover at most: a start and a stop for each part, along each axis.

    What is outside of all of them holds the fill value.
    """
    boxes = [_bound(plist.get_virtual_vspace(i), shape) for i in range(plist.get_virtual_count())]
    kept = [box for box in boxes if all(start < stop for start, stop in zip(*box, strict=True))]
    return np.array(kept, np.int64).reshape(len(kept), 2, len(shape))


def _bound(selection: h5s.SpaceID, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kind = selection.get_select_type()
    nowhere = (0,) * len(shape)
    if kind == h5s.SEL_NONE:
        return nowhere, nowhere
    grows = False
    if kind == h5s.SEL_HYPERSLABS and selection.is_regular_hyperslab():
        _, _, counts, blocks = selection.get_regular_hyperslab()
        grows = h5s.UNLIMITED in (*counts, *blocks)
    if kind == h5s.SEL_ALL or grows:
        return nowhere, shape
    first, last = selection.get_select_bounds()
    return first, tuple(min(at + 1, length) for at, length in zip(last, shape, strict=True))


def check_selection(selection: h5s.SpaceID, space: h5s.SpaceID) -> None:
    """Make sure that a source has all that is taken of it.

    HDF5 stores no shape of a source, but what is taken of it. Of what lies beyond the source's end it gives neither an
    error nor the fill value.

    Raises
    ------
    UnsupportedError
        The source is smaller, or has another number of axes.
    """
    kind = selection.get_select_type()
    if kind in (h5s.SEL_ALL, h5s.SEL_NONE):
        return  # HDF5 compares the number of elements itself
    shape = space.get_simple_extent_dims()
    if kind == h5s.SEL_HYPERSLABS and selection.is_regular_hyperslab():
        starts, strides, counts, blocks = selection.get_regular_hyperslab()
        grows = [h5s.UNLIMITED in pair for pair in zip(counts, blocks, strict=True)]
        parts = zip(starts, strides, counts, blocks, strict=True)
        stops = [start + (count - 1) * stride + block for start, stride, count, block in parts]
    else:
        stops = [last + 1 for last in selection.get_select_bounds()[1]]
        grows = [False] * len(stops)
    whole = len(stops) == len(shape)
    if not whole or any(s > n for s, n, grow in zip(stops, shape, grows, strict=True) if not grow):
        raise UnsupportedError(f"it has another shape, {shape}, than what is taken of it")
