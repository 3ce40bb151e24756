"""Compare attributes, shape, type, fill value and dimension names of the nodes of a store with their source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from h5bound.buffers import same_bits
from h5bound.conversion.provenance import PROVENANCE_KEYS
from h5bound.planning.scan_dataset import DatasetScan
from h5bound.reports import Difference
from h5bound.stores.tree import same_json
from h5bound.verification.attributes import compare_attributes
from h5bound.zarr_model.attributes import H5BOUND_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from h5bound.conversion.provenance import Provenance
    from h5bound.hdf5.references import ReferencePaths
    from h5bound.planning.external_links import Origin
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import GroupScan
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.tree import StoredNode


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OpenOrigin:
    """One file of the source while it is open."""

    opened: OpenFile
    """The open file."""
    origin: Origin
    """Where its objects are in the store."""
    resolve: ReferencePaths
    """Paths of the targets of its references."""


def compare_node(
    item: h5py.Group | h5py.Dataset,
    record: GroupScan | DatasetScan,
    node: StoredNode,
    *,
    path: str,
    file: OpenOrigin,
    provenance: Provenance,
) -> Iterator[Difference]:
    """Yield how the attributes of a node differ from those of an object in the source, and from those of its scan."""
    zarr_format = provenance.settings.zarr_format
    stored, planned = dict(node.attributes), dict(record.attributes)
    inner = stored.get(H5BOUND_KEY)
    if path == "/" and isinstance(inner, dict):
        stored[H5BOUND_KEY] = {name: value for name, value in inner.items() if name not in PROVENANCE_KEYS}
        if not stored[H5BOUND_KEY]:
            del stored[H5BOUND_KEY]
    names = getattr(record, "dimension_names", None)
    if zarr_format == 2 and names is not None:
        planned["_ARRAY_DIMENSIONS"] = list(names)
    lines = compare_attributes(
        item,
        stored,
        provenance.details.get(node.path, {}),
        zarr_format=zarr_format,
        dtype=record.type.dtype if isinstance(record, DatasetScan) else None,
        netcdf=file.origin.netcdf,
        resolve=file.resolve,
    )
    yield from (Difference(path, line) for line in lines)
    text = " ".join(lines)
    for name in sorted(stored.keys() | planned.keys()):
        in_both = name in stored and name in planned
        if not (in_both and same_json(stored[name], planned[name])) and repr(name) not in text:
            yield Difference(path, "differs" if in_both else "missing or added", name)


def compare_array(plan: ArrayPlan, dataset_scan: DatasetScan, stored: StoredNode) -> Iterator[Difference]:
    """Yield how shape, type, fill value and dimension names of an array differ."""
    node, array, path = plan.node, stored.array, plan.path
    assert array is not None
    if plan.strategy in ("sequences", "planned"):
        yield from (Difference(path, f"added to {stored.path}", name) for name in stored.attributes)
    if array.shape != node.shape:
        yield Difference(path, f"shape {array.shape} in the store, {node.shape} in the source")
    planned_type = "string" if node.dtype.kind == "T" else node.dtype.newbyteorder("=")
    stored_type = "string" if array.dtype.kind in "TO" else array.dtype.newbyteorder("=")
    if stored_type != planned_type:
        yield Difference(path, f"type {array.dtype} in the store, {node.dtype} in the source")
    elif not same_fill(plan, dataset_scan, stored):
        yield Difference(path, f"fill value {stored.fill_json!r} in the store, {node.fill.json!r} in the source")
    names = getattr(array.metadata, "dimension_names", node.dimension_names)
    if names != node.dimension_names:
        yield Difference(path, f"dimension names {names} in the store, {node.dimension_names} in the source")


def same_fill(plan: ArrayPlan, dataset_scan: DatasetScan, stored: StoredNode) -> bool:
    """Return whether an array has the planned fill value, or the same bits in other JSON.

    No fill value is not the same as any fill value: readers mask what is equal to it.
    """
    planned = plan.node.fill
    if same_json(stored.fill_json, planned.json):
        return True
    if stored.fill_json is None or planned.json is None or not dataset_scan.fill.exact or stored.array is None:
        return False
    return same_bits(np.asarray(stored.array.fill_value, plan.node.dtype), planned.value)
