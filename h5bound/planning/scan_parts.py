"""Read what is needed to plan the arrays of a dataset that becomes a group: how long all its sequences are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.planning.scan_fill import read_fill
from h5bound.zarr_model.fill_values import FillValue, make_fill_value, make_zero
from h5bound.zarr_model.parts import flatten, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import h5py
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.hdf5.chunk_index import ChunkManifest
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.planning.scan_context import ScanContext
    from h5bound.reader.open_file import OpenFile
    from h5bound.zarr_model.attributes import AttributesRecord
    from h5bound.zarr_model.parts import Part


LENGTHS_AT_ONCE = 65_536
"""Variable-length sequences whose lengths are read at once."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PartScan:
    """One of the arrays that a dataset becomes."""

    part: Part
    attributes: Mapping[str, Any]
    """Attributes of the array: those of conventions."""
    fill: FillValue
    """Value of elements that were never written; 0 in a flat array."""
    ends: NDArray[np.int64] | None = None
    """Flat: where the elements of each element of the dataset, in C order, end in it."""
    offsets: NDArray[np.int64] | None = None
    """Of offsets: its values."""


def note_members(context: ScanContext, path: str, parts: Sequence[Part]) -> None:
    """Note the members of a compound whose columns have another name in the store."""
    renamed = {}
    for part in parts:
        nodes, names = [context.targets[path]], [path]
        for step, node in zip(part.steps, part.target.split("/"), strict=False):  # offsets have a node more
            nodes.append(node)
            names.append(step if isinstance(step, str) else node)
            if names[-1] != node:
                renamed["/".join(names)] = "/".join(nodes)
    for member, node in renamed.items():
        context.log.note(member, context.describe_renaming(member.rpartition("/")[2]), "renamed", to=node)


def scan_parts(
    context: ScanContext,
    dataset: h5py.Dataset,
    record: DatasetRecord,
    *,
    parts: Sequence[Part],
    attributes: AttributesRecord,
    manifest: ChunkManifest | None,
) -> tuple[PartScan, ...]:
    """Read the fill values of columns, and how long all sequences are."""
    if not parts:
        return ()
    note_members(context, record.path, parts)
    inside = context.origin.locate(record.path)
    known = read_offsets(context.opened, inside, record.shape, parts=[part for part in parts if part.offsets])
    scans = []
    for part in parts:
        conventions = context.choose_conventions(part.type)
        if not part.flat:
            fill = read_fill(
                context,
                dataset,
                record,
                zarr_type=part.type,
                attributes=attributes,
                manifest=manifest,
                steps=part.steps,
            )
            scans.append(PartScan(part=part, attributes=conventions, fill=fill))
            continue
        fill = make_fill_value(make_zero(part.type.dtype), context.settings.zarr_format)
        offsets, ends = known[part.outer]
        values = offsets if part.offsets else None
        scans.append(PartScan(part=part, attributes=conventions, fill=fill, ends=ends, offsets=values))
    return tuple(scans)


def read_offsets(
    opened: OpenFile, path: str, shape: Shape | None, parts: Sequence[Part]
) -> dict[tuple[Any, ...], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return for each array of offsets, by its steps, its values, and the end of its sequences in each element."""
    lengths: dict[Any, list[NDArray[np.int64]]] = {part.steps: [np.zeros(1, np.int64)] for part in parts}
    counts: dict[Any, list[NDArray[np.int64]]] = {part.steps: [np.zeros(0, np.int64)] for part in parts}
    for region in () if shape is None or not parts else cut_rows(shape, LENGTHS_AT_ONCE):
        block = opened.read(path, region)
        elements = block.reshape(-1, *block.shape[len(shape or ()) :])
        for part in parts:
            sequences, bounds = flatten(elements, part.steps)
            each = prod(sequences.shape[1:])
            lengths[part.steps].append(measure(sequences))
            counts[part.steps].append(np.diff(bounds * each))
    results = {}
    for part in parts:
        offsets = np.cumsum(np.concatenate(lengths[part.steps]))
        results[part.steps] = offsets, offsets[np.cumsum(np.concatenate(counts[part.steps]))]
    return results


def cut_rows(shape: tuple[int, ...], count: int) -> Iterator[tuple[slice, ...]]:
    """Yield regions of whole rows in C order, of about `count` elements each.

    >>> list(cut_rows((5,), 4))
    [(slice(0, 4, None),), (slice(4, 5, None),)]
    """
    if not shape:
        yield ()
        return
    rest = tuple(slice(0, length) for length in shape[1:])
    step = max(count // max(prod(shape[1:]), 1), 1)
    for start in range(0, shape[0] if prod(shape[1:]) else 0, step):
        yield slice(start, min(start + step, shape[0])), *rest
