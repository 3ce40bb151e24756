"""Plan in which pieces the elements of a large chunk or shard are compared: pure, over integers."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod
from typing import TYPE_CHECKING

from h5bound.planning.read_boxes import cap, grow
from h5bound.planning.work_units import UNIT_NBYTES
from h5bound.zarr_model.array_spec import estimate_itemsize

if TYPE_CHECKING:
    from h5bound.chunk_grid import Shape
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan_dataset import DatasetScan


IN_PIECES = ("chunked", "contiguous")
"""Layouts of which any whole chunks are read without decoding others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCut:
    """How the keys of an array are cut for a comparison."""

    piece: Shape
    """Elements of a piece along each axis."""
    of_source: bool
    """Whether the source too is read in pieces."""


def plan_cut(dataset_scan: DatasetScan, plan: ArrayPlan, *, chunks: Shape, shards: Shape | None) -> KeyCut | None:
    """Return how the keys of an array are cut for a comparison; None if each is compared at once.

    `chunks` and `shards` are those of the store. Keys that are cut from one read, columns, and objects of Python are
    compared at once.
    """
    dtype = plan.node.dtype
    if plan.boxes is not None or plan.part is not None or dtype.kind == "T" or dtype.hasobject:
        return None
    of_source = dataset_scan.record.layout in IN_PIECES and dataset_scan.pieces is None
    any_size = (1,) * len(chunks)
    piece = cut_key(
        plan.node.shape,
        source=(dataset_scan.chunks if of_source else None) or any_size,
        key=shards or chunks,
        inner=any_size if shards is None else chunks,  # a chunk without others in it is decoded at once
        itemsize=estimate_itemsize(dtype),
        nbytes=UNIT_NBYTES,
    )
    return None if piece is None else KeyCut(piece=piece, of_source=of_source)


def cut_key(shape: Shape, *, source: Shape, key: Shape, inner: Shape, itemsize: int, nbytes: int) -> Shape | None:
    """Return the shape of pieces of about `nbytes` of a key, of whole chunks of the source and of the store.

    Return None if there is one piece.

    >>> images = {"shape": (60, 512, 512), "key": (64, 512, 512), "itemsize": 4, "nbytes": 2**23}
    >>> cut_key(**images, source=(1, 512, 512), inner=(2, 512, 512))
    (8, 512, 512)
    >>> cut_key(**images, source=(64, 512, 512), inner=(1, 512, 512))
    """
    whole = tuple(map(min, key, shape))
    step = tuple(cap(lcm(a, b), length, b) for a, b, length in zip(source, inner, whole, strict=True))
    if prod(whole) * itemsize <= nbytes:
        return None
    piece = grow(step, whole, caps=[whole], axes=range(len(whole))[::-1], room=nbytes // itemsize)
    return None if all(size >= length for size, length in zip(piece, whole, strict=True)) else piece
