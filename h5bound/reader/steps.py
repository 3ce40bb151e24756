"""Regions with steps, as a few regions without."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.buffers import Block, Region

SKIPPED_NBYTES = 256 << 10
"""Fewest bytes of the dataset between two positions that are read one by one: a read costs 30 to 50 µs of Python."""


def split_steps(
    region: Region, shape: tuple[int, ...], *, unit: tuple[int, ...], itemsize: int
) -> tuple[list[Region], int]:
    """Return regions without steps that together have all values of a region with steps, and the axis to join them on.

    The positions along one axis are read one by one where much of the dataset lies between them, and no two of them in
    one chunk of the shape `unit`; otherwise what lies between is read as well.

    >>> split_steps((slice(0, 100, 50), slice(0, 9)), (100, 4000), unit=(1, 1), itemsize=8)
    ([(slice(0, 1, None), slice(0, 9, None)), (slice(50, 51, None), slice(0, 9, None))], 0)
    >>> split_steps((slice(0, 100, 50), slice(0, 9)), (100, 40), unit=(1, 1), itemsize=8)
    ([(slice(0, 100, None), slice(0, 9, None))], 0)
    """
    whole = tuple(slice(s.start, s.stop) for s in region)
    for axis, s in enumerate(region):
        between = (s.step or 1) - 1
        if between + 1 >= unit[axis] and between * prod(shape[axis + 1 :]) * itemsize >= SKIPPED_NBYTES:
            positions = range(s.start, s.stop, s.step)
            return [(*whole[:axis], slice(i, i + 1), *whole[axis + 1 :]) for i in positions], axis
    return [whole], 0


def join_steps(read: Callable[[Region], Block], region: Region, parts: list[Region], axis: int) -> Block:
    """Return a region with steps from what `split_steps` returned; `read` reads a region without."""
    taken = [slice(None, None, s.step) for s in region]
    if len(parts) > 1:
        taken[axis] = slice(None)
    blocks = [read(part)[tuple(taken)] for part in parts]
    if len(blocks) == 1:
        return blocks[0].copy()  # a view would keep the whole
    shape = list(blocks[0].shape)
    shape[axis] = len(blocks)
    # without `out` the byte order, the places of fields and the metadata of the type get lost
    return np.concatenate(blocks, axis, out=np.empty(shape, blocks[0].dtype))
