"""The mappings of a virtual dataset: which elements of which source each of its parts shows."""

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
    """The source of a part of a virtual dataset."""

    file: str
    """File of the source as stored; a period for the file itself."""
    path: str
    """Path of the source in its file."""
    selection: h5s.SpaceID
    """Selected elements of the source."""

    def __str__(self) -> str:
        return f"{self.file!r}, {self.path!r}"

    @property
    def is_pattern(self) -> bool:
        """Whether the mapping is to any number of sources, with numbers in their names (H5Pset_virtual)."""
        return "%" in self.file + self.path

    def fill_in(self, number: int) -> VirtualMapping:
        """Return the mapping of one source of a pattern.

        >>> str(VirtualMapping("f-%b.h5", "100%%", None).fill_in(7))
        "'f-7.h5', '100%'"
        """

        def fill(name: str) -> str:
            return re.sub("%(b|%)", lambda match: str(number) if match[1] == "b" else "%", name)

        return replace(self, file=fill(self.file), path=fill(self.path))


def read_mappings(plist: h5p.PropDCID) -> list[VirtualMapping]:
    """Return the mappings of a virtual dataset that select elements: HDF5 does not open the sources of others.

    Raise UnsupportedError if h5py cannot read them. h5py has no source selection for a mapping without elements.
    """
    try:
        return [
            VirtualMapping(
                file=plist.get_virtual_filename(i),
                path=plist.get_virtual_dsetname(i),
                selection=plist.get_virtual_srcspace(i),
            )
            for i in range(plist.get_virtual_count())
            if not is_empty(plist.get_virtual_vspace(i))
        ]
    except READ_ERRORS as error:
        raise UnsupportedError(f"h5py cannot read its virtual sources: {describe(error)}") from error


def is_empty(selection: h5s.SpaceID) -> bool:
    """Return whether a selection has no elements."""
    selected = selection.get_select_type()
    return bool(selected == h5s.SEL_NONE or (selected == h5s.SEL_ALL and 0 in selection.get_simple_extent_dims()))


def list_boxes(plist: h5p.PropDCID, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return start and stop of the box around each mapping, along each axis; elements outside have the fill value."""
    boxes = [_bound(plist.get_virtual_vspace(i), shape) for i in range(plist.get_virtual_count())]
    filled = [box for box in boxes if all(start < stop for start, stop in zip(*box, strict=True))]
    return np.array(filled, np.int64).reshape(len(filled), 2, len(shape))


def find_sources(
    plist: h5p.PropDCID, shape: tuple[int, ...], region: tuple[slice, ...]
) -> list[tuple[tuple[slice, ...], str]]:
    """Return the parts of a region that mappings show, by the boxes around these, and the source of each."""
    found = []
    for i in range(plist.get_virtual_count()):
        starts, stops = _bound(plist.get_virtual_vspace(i), shape)
        edges = zip(region, starts, stops, strict=True)
        part = tuple(slice(max(piece.start, start), min(piece.stop, stop)) for piece, start, stop in edges)
        if all(piece.start < piece.stop for piece in part):
            found.append((part, f"{plist.get_virtual_filename(i)!r}, {plist.get_virtual_dsetname(i)!r}"))
    return found


def _bound(selection: h5s.SpaceID, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    selected = selection.get_select_type()
    zeros = (0,) * len(shape)
    if selected == h5s.SEL_NONE:
        return zeros, zeros
    grows = False
    if selected == h5s.SEL_HYPERSLABS and selection.is_regular_hyperslab():
        _, _, counts, blocks = selection.get_regular_hyperslab()
        grows = h5s.UNLIMITED in (*counts, *blocks)
    if selected == h5s.SEL_ALL or grows:
        return zeros, shape
    starts, lasts = selection.get_select_bounds()
    return starts, tuple(min(last + 1, length) for last, length in zip(lasts, shape, strict=True))


def check_selection(selection: h5s.SpaceID, space: h5s.SpaceID) -> None:
    """Raise UnsupportedError if a source does not have all elements that a mapping selects.

    HDF5 stores the selection, not the shape of the source. For elements beyond the end of the source it neither
    raises an error nor reads the fill value.
    """
    selected = selection.get_select_type()
    if selected in (h5s.SEL_ALL, h5s.SEL_NONE):
        return  # HDF5 compares the number of elements itself
    shape = space.get_simple_extent_dims()
    if selected == h5s.SEL_HYPERSLABS and selection.is_regular_hyperslab():
        starts, strides, counts, blocks = selection.get_regular_hyperslab()
        grows = [h5s.UNLIMITED in pair for pair in zip(counts, blocks, strict=True)]
        axes = zip(starts, strides, counts, blocks, strict=True)
        stops = [start + (count - 1) * stride + block for start, stride, count, block in axes]
    else:
        stops = [last + 1 for last in selection.get_select_bounds()[1]]
        grows = [False] * len(stops)
    if len(stops) != len(shape) or any(
        stop > length for stop, length, grow in zip(stops, shape, grows, strict=True) if not grow
    ):
        raise UnsupportedError(f"the source has shape {shape}, which does not hold the selected elements")
