"""What an HDF5 region reference selects, in JSON from which h5py selects the same elements.

======== ===========================================================================================================
start    of a box: its first index along each axis
count    its elements along each axis; null: up to the end of the axis, however long that is. With `stride` or `block`
         the number of blocks: all four are the arguments of ``h5py.h5s.SpaceID.select_hyperslab``
boxes    of any other set of elements: a list of boxes
points   of single elements in an order: a list of indices
======== ===========================================================================================================

None of them: all elements. No points: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5py import h5s

if TYPE_CHECKING:
    from h5bound.hdf5.type_json import JSON


def describe_selection(space: h5s.SpaceID) -> dict[str, JSON]:
    """Return what is selected in a dataspace.

    >>> space = h5s.create_simple((6, 10))
    >>> space.select_hyperslab((1, 0), (2, 5), stride=(1, 2))
    >>> describe_selection(space)
    {'start': [1, 0], 'count': [2, 5], 'stride': [1, 2], 'block': [1, 1]}
    """
    kind = space.get_select_type()
    if kind == h5s.SEL_NONE:
        return {"points": []}
    if kind == h5s.SEL_POINTS:
        return {"points": space.get_select_elem_pointlist().tolist()}
    if kind == h5s.SEL_ALL:
        return {}
    if not space.is_regular_hyperslab():
        corners = space.get_select_hyper_blocklist()  # of each box the first and the last index
        starts, counts = corners[:, 0], corners[:, 1] - corners[:, 0] + 1
        pairs = zip(starts.tolist(), counts.tolist(), strict=True)
        return {"boxes": [{"start": start, "count": count} for start, count in pairs]}
    start, stride, count, block = zip(*map(_simplify, *space.get_regular_hyperslab()), strict=True)
    box: dict[str, JSON] = {"start": list(start), "count": list(count)}
    return box if max(*stride, *block) == 1 else {**box, "stride": list(stride), "block": list(block)}


def _simplify(start: int, stride: int, count: int, block: int) -> tuple[int, int, int | None, int]:
    """Return the hyperslab along one axis, blocks that touch each other as elements of one."""
    number = None if count == h5s.UNLIMITED else int(count)
    if number == 1 or stride == block:
        return int(start), 1, None if number is None else number * int(block), 1
    return int(start), int(stride), number, int(block)
