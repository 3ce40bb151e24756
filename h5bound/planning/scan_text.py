"""Find text that is not UTF-8 during the scan: only the values show that Zarr can hold it as bytes alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import region_of
from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.planning.declared_sizes import MAX_COUNTED
from h5bound.planning.scan_parts import LENGTHS_AT_ONCE, cut_rows
from h5bound.zarr_model.fill_values import read_shown_fill
from h5bound.zarr_model.parts import flatten
from h5bound.zarr_model.structured import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import h5py
    from numpy.typing import NDArray

    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.scan_context import ScanContext
    from h5bound.zarr_model.dtypes import ZarrType
    from h5bound.zarr_model.parts import Part

    Region = tuple[slice, ...]
    Types = tuple[ZarrType, tuple[Part, ...]]


def find_bytes(
    context: ScanContext, dataset: h5py.Dataset, path: str, *, types: Types, regions: Iterable[Region]
) -> Types:
    """Return the types of a dataset and its parts, with bytes for text of which not all is UTF-8.

    `regions` are those that it stores. Values that cannot be read are reported when they are to be converted.
    """
    zarr_type, parts = types
    left = {part.steps for part in parts if part.type.form == "string"}
    left |= {()} if zarr_type.form == "string" else set()
    odd: set[tuple[Any, ...]] = set()
    if not left:
        return types

    in_rows = {steps for steps in left if all(isinstance(step, str) for step in steps)}
    if in_rows:
        fill = read_shown_fill(dataset)[np.newaxis]
        odd |= {steps for steps in in_rows if not is_utf8(flatten(fill, steps)[0])}

    def read() -> Iterator[NDArray[Any]]:
        inside = context.origin.locate(path)
        for region in regions:
            block = context.opened.read(inside, region)
            yield block.reshape(-1, *block.shape[len(region) :])

    with suppress(H5BoundError, *READ_ERRORS):
        for elements in read():
            odd |= {steps for steps in left - odd if not is_utf8(flatten(elements, steps)[0])}
            if odd == left:
                break
    changed = (replace(part, type=part.type.as_bytes()) if part.steps in odd else part for part in parts)
    return zarr_type.as_bytes() if () in odd and not parts else zarr_type, tuple(changed)


def list_stored(
    record: DatasetRecord, manifest: ChunkManifest | None, boxes: NDArray[np.int64] | None
) -> Iterator[Region]:
    """Yield regions of the elements that a dataset stores: its chunks, its rows, or rows of a virtual dataset's parts.

    Parts that declare more elements than could be read are left out.
    """
    shape, chunks = record.shape or (), record.chunks
    if boxes is not None:
        yield from chain.from_iterable(_cut_box(start, stop) for start, stop in boxes.tolist())
    elif manifest is not None and chunks is not None:
        yield from (region_of(tuple(coords), shape, chunks) for coords in manifest.chunk_coords.tolist())
    elif record.stored_nbytes:
        yield from cut_rows(shape, LENGTHS_AT_ONCE)


def _cut_box(start: list[int], stop: list[int]) -> Iterator[Region]:
    lengths = tuple(b - a for a, b in zip(start, stop, strict=True))
    if prod(lengths) <= MAX_COUNTED:
        for region in cut_rows(lengths, LENGTHS_AT_ONCE):
            yield tuple(slice(a + s.start, a + s.stop) for a, s in zip(start, region, strict=True))
