"""Attributes, shape, type, fill value and dimension names of the nodes of a store compared with their source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import same_bits
from h5bound.conversion.provenance import PROVENANCE_KEYS
from h5bound.hdf5.links import open_object
from h5bound.reports import Difference
from h5bound.stores.tree import same_json
from h5bound.verification.attributes import compare_attributes
from h5bound.zarr_model.attributes import H5BOUND_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.chunk_grid import ChunkCoords
    from h5bound.conversion.provenance import Provenance
    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.external_links import Origin
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.tree import StoredNode, StoredTree
    from h5bound.verification.values import CompareJob


@dataclass(slots=True)
class Comparison:
    """What is gathered before values are compared."""

    paths: Mapping[str, str]
    """in the source, by the path in the store"""
    differences: dict[Difference, None] = field(default_factory=dict)
    """each once, in the order they were found"""
    jobs: list[CompareJob] = field(default_factory=list)
    """what values are to be compared"""
    chunk_coords: list[ChunkCoords] = field(default_factory=list)
    """where, for each job"""
    retried: dict[str, str] = field(default_factory=dict)
    """why datasets were left out that can be carried now if they can be read, by path"""
    attributes: int = 0

    def add(self, path: str, what: str, attribute: str | None = None) -> None:
        """Note a difference down."""
        self.differences[Difference(path, what, attribute)] = None

    def path_of(self, target: str) -> str:
        """Give the path in the source of what stands at a path of the store, or that very path."""
        return self.paths.get(target, f"/{target}")


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the comparison of each node needs."""

    opened: OpenFile
    scan: SourceScan
    number: int
    """of the origin whose nodes these are"""
    arrays: Mapping[str, Sequence[ArrayPlan]]
    """plans by the path of their dataset"""
    tree: StoredTree
    provenance: Provenance
    resolve: ReferencePaths

    @property
    def zarr_format(self) -> int:
        """Of the store."""
        return self.provenance.settings.zarr_format

    @property
    def origin(self) -> Origin:
        """The file that the nodes come from."""
        return self.scan.origins[self.number]


def compare_node(
    found: Comparison,
    context: Context,
    path: str,
    expected: Mapping[str, Any],
    node: StoredNode,
    dataset_scan: DatasetScan | None,
) -> None:
    """Note down how the attributes of a node differ from those of its source."""
    item = open_object(context.opened.file, context.origin.locate(path))
    found.attributes += len(item.attrs)
    have = node.attributes
    held = have.get(H5BOUND_KEY)
    if path == "/" and isinstance(held, dict):
        rest = {name: value for name, value in held.items() if name not in PROVENANCE_KEYS}
        have = {**have, H5BOUND_KEY: rest} if rest else {name: v for name, v in have.items() if name != H5BOUND_KEY}
    wanted = dict(expected)
    if dataset_scan is not None and context.zarr_format == 2 and dataset_scan.dimension_names is not None:
        wanted["_ARRAY_DIMENSIONS"] = list(dataset_scan.dimension_names)
    lines = compare_attributes(
        item,
        have,
        context.provenance.details.get(node.path, {}),
        zarr_format=context.zarr_format,
        dtype=None if dataset_scan is None else dataset_scan.type.dtype,
        netcdf=context.origin.netcdf,
        resolve=context.resolve,
    )
    for line in lines:
        found.add(path, line)
    told = " ".join(lines)
    for name in sorted(set(have) | set(wanted)):
        both = name in have and name in wanted
        if not (both and same_json(have[name], wanted[name])) and repr(name) not in told:
            found.add(path, "differs" if both else "missing or added", name)


def compare_array(found: Comparison, plan: ArrayPlan, dataset_scan: DatasetScan, stored: StoredNode) -> None:
    """Note down how shape, type, fill value and dimension names of an array differ."""
    node, array = plan.node, stored.array
    if plan.strategy in ("sequences", "planned"):
        for name in stored.attributes:
            found.add(plan.path, f"added to {stored.path}", name)
    assert array is not None
    if array.shape != node.shape:
        found.add(plan.path, f"shape {array.shape} in the store, {node.shape} in the source")
    kind = "string" if node.dtype.kind == "T" else node.dtype.newbyteorder("=")
    have = "string" if array.dtype.kind in "TO" else array.dtype.newbyteorder("=")
    if have != kind:
        found.add(plan.path, f"type {array.dtype} in the store, {node.dtype} in the source")
    elif not same_fill(plan, dataset_scan, stored):
        what = f"fill value {stored.fill_json!r} in the store, {node.fill.json!r} in the source"
        found.add(plan.path, what)
    names = getattr(array.metadata, "dimension_names", node.dimension_names)
    if names != node.dimension_names:
        found.add(plan.path, f"dimension names {names} in the store, {node.dimension_names} in the source")


def same_fill(plan: ArrayPlan, dataset_scan: DatasetScan, stored: StoredNode) -> bool:
    """Tell whether an array has the fill value that it has to have, or another spelling of the same bits.

    To have none is not the same as to have any: readers mask what is equal to it.
    """
    fill, held = plan.node.fill, stored.fill_json
    if same_json(held, fill.json):
        return True
    if held is None or fill.json is None or not dataset_scan.fill.exact or stored.array is None:
        return False
    return same_bits(np.asarray(stored.array.fill_value, plan.node.dtype), fill.value)
