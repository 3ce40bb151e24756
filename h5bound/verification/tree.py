"""The tree of a store compared with that of its source: nodes, keys, what was left out, and what values there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from h5bound.chunk_grid import find_absent, map_chunk_coords, sort_chunk_coords
from h5bound.lifecycle.source import open_source
from h5bound.planning.source_values import list_rows
from h5bound.reports import plural
from h5bound.stores.tree import list_differing_parts
from h5bound.verification.nodes import Comparison, Context, compare_array, compare_node
from h5bound.verification.values import compare_unwritten, make_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.conversion.provenance import Provenance
    from h5bound.lifecycle.source import Source
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.stores.tree import StoredNode, StoredTree
    from h5bound.verification.values import CompareJob


SHOWN = 3
"""Keys of one kind that a difference names."""


def compare_tree(
    scan: SourceScan, plan: StorePlan, tree: StoredTree, provenance: Provenance, sources: Sequence[Source]
) -> Comparison:
    """Give the differences in all but the values, and what values are to be compared."""
    found = Comparison({at: path for path, at in scan.targets.items()})
    arrays: dict[str, list[ArrayPlan]] = {}
    for array in plan.arrays:
        arrays.setdefault(array.path, []).append(array)
    compare_skipped(found, scan, plan, tree, provenance)
    compare_keys(found, scan, plan, tree)
    compare_details(found, scan, provenance)
    for number, (origin, source) in enumerate(zip(scan.origins, sources, strict=True)):
        with open_source(source) as opened:
            resolve = origin.addresses.resolver(opened.file)
            context = Context(opened, scan, number, arrays, tree, provenance, resolve)
            compare_groups(found, context)
            compare_datasets(found, context)
    return found


def compare_skipped(
    found: Comparison, scan: SourceScan, plan: StorePlan, tree: StoredTree, provenance: Provenance
) -> None:
    """Note down where what the store says was left out is not what has to be left out.

    Only a dataset may be left out for another reason: that its values could not be read. That is tried again.
    """
    needed = {(item.path, item.attribute) for item in plan.skipped}
    told = {(item.path, item.attribute) for item in provenance.skipped}
    for item in plan.skipped:
        if (item.path, item.attribute) not in told:
            what = f"not in the store, and its report does not say so: {item.reason}"
            found.add(item.path, what, item.attribute)
    planned = {array.path for array in plan.arrays}
    for item in provenance.skipped:
        if (item.path, item.attribute) in needed:
            continue
        if item.attribute is None and item.path in planned and scan.targets[item.path] not in tree.nodes:
            found.retried[item.path] = item.reason
        else:
            what = f"its report says without need that this was left out: {item.reason}"
            found.add(item.path, what, item.attribute)


def compare_keys(found: Comparison, scan: SourceScan, plan: StorePlan, tree: StoredTree) -> None:
    """Note down what the store has too many: nodes, and keys that are of none."""
    expected = {group.target for group in scan.groups} | {array.node.target for array in plan.arrays}
    expected |= {scan.targets[array.path] for array in plan.arrays}
    for extra in sorted(tree.nodes.keys() - expected):
        found.add(f"/{extra}", "in the store, and not in the source")
    for owner, keys in tree.strays.items():
        shown = f"{', '.join(sorted(keys)[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
        kind = "of no node" if owner is None else "outside its grid of chunks"
        found.add("/" if owner is None else found.path_of(owner), f"{plural(len(keys), 'key')} {kind}: {shown}")


def compare_details(found: Comparison, scan: SourceScan, provenance: Provenance) -> None:
    """Note down how the details of the nodes differ."""
    expected = {scan.targets[path]: (path, details) for path, details in scan.details.items()}
    for target in sorted(provenance.details.keys() | expected.keys()):
        path, details = expected.get(target, (found.path_of(target), {}))
        for part in list_differing_parts(provenance.details.get(target, {}), details):
            found.add(path, f"{part!r} in the details differs")
        if target not in expected and not provenance.details[target]:
            found.add(path, "details of nothing")


def compare_groups(found: Comparison, context: Context) -> None:
    """Note down how the groups of one origin differ."""
    for group in context.scan.groups:
        if group.origin != context.number:
            continue
        node = context.tree.nodes.get(group.target)
        if node is not None and node.array is None:
            compare_node(found, context, group.path, group.attributes, node, None)
        else:
            found.add(group.path, "not a group in the store")


def compare_datasets(found: Comparison, context: Context) -> None:
    """Note down how the arrays of one origin differ in all but their values."""
    for dataset_scan in context.scan.datasets:
        path = dataset_scan.record.path
        if dataset_scan.origin != context.number or path not in context.arrays:
            continue
        node = context.tree.nodes.get(dataset_scan.target)
        if node is not None:
            compare_node(found, context, path, dataset_scan.attributes, node, dataset_scan)
            add_job(found, context, dataset_scan)
        elif path in found.retried:
            add_values(found, context, dataset_scan, ())
        else:
            found.add(path, "not in the store")


def add_job(found: Comparison, context: Context, dataset_scan: DatasetScan) -> None:
    """Note down how the arrays of a dataset differ, and that their values are to be compared."""
    path = dataset_scan.record.path
    plans = context.arrays[path]
    nodes = [context.tree.nodes.get(plan.node.target) for plan in plans]
    stored = [node for node in nodes if node is not None and node.array is not None]
    if len(stored) != len(plans):
        found.add(path, "not an array in the store")
        return
    before = len(found.differences)
    for plan, node in zip(plans, stored, strict=True):
        compare_array(found, plan, dataset_scan, node)
    if len(found.differences) == before:
        add_values(found, context, dataset_scan, stored)


def add_values(found: Comparison, context: Context, dataset_scan: DatasetScan, stored: Sequence[StoredNode]) -> None:
    """Note down that the values of a dataset are to be compared; without arrays they are only read."""
    plan = context.arrays[dataset_scan.record.path][0]
    job = make_job(context.scan, dataset_scan, plan, stored)
    if dataset_scan.ends is not None:
        chunk_coords = list_rows(dataset_scan.record.shape)
    else:
        held = context.tree.chunk_coords.get(plan.node.target)
        chunk_coords = plan_comparison(plan, job.values.write_shape, held, context.provenance.limits.max_chunks)
    found.jobs.append(job)
    found.chunk_coords.append(chunk_coords)
    if stored and dataset_scan.ends is None:
        compare_absent(found, context, job, plan, chunk_coords)


def compare_absent(
    found: Comparison, context: Context, job: CompareJob, plan: ArrayPlan, chunk_coords: ChunkCoords
) -> None:
    """Note down how what neither the source nor the store has differs, and what a store without a fill value lacks.

    Whatever was never written has one value, so that one element tells.
    """
    if job.arrays[0].fill_value is None:
        held = context.tree.chunk_coords.get(plan.node.target)
        missing = len(chunk_coords) - (0 if held is None else len(held))
        if missing:
            found.add(job.path, f"{plural(missing, 'chunk')} missing, and there is no fill value for them")
    absent = find_absent(
        chunk_coords, tuple(-(-n // size) for n, size in zip(plan.node.shape, job.values.write_shape, strict=True))
    )
    if absent is not None:
        what = compare_unwritten(context.opened, job, absent)
        if what:
            found.add(job.path, what)


def plan_comparison(plan: ArrayPlan, write_shape: Shape, held: ChunkCoords | None, limit: int) -> ChunkCoords:
    """Give the cells of a grid in which the source or the store has anything."""
    node = plan.node
    grid = node.write_shape if plan.manifest is None else node.chunks
    planned = map_chunk_coords(plan.chunk_coords, node.shape, grid, write_shape, limit)
    return planned if held is None else sort_chunk_coords(np.concatenate([planned, held]))
