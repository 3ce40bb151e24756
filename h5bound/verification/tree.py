"""Compare nodes, keys and skipped objects of a store with those of its source, and plan which values to compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h5py
import numpy as np

from h5bound.chunk_grid import count_chunks, find_absent, map_chunk_coords, sort_chunk_coords
from h5bound.planning.source_values import cut_units, describe_values, list_rows
from h5bound.reports.entries import Difference
from h5bound.reports.text import name_first, plural
from h5bound.stores.differences import list_differing_parts, list_edited
from h5bound.verification.consolidated import compare_copies
from h5bound.verification.nodes import compare_array, compare_attributes
from h5bound.verification.pieces import plan_cut
from h5bound.verification.two_passes import plan_passes
from h5bound.verification.values import CompareJob, compare_offsets, compare_unwritten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from h5bound.chunk_grid import ChunkCoords, Shape
    from h5bound.conversion.provenance import Provenance
    from h5bound.planning.plan import ArrayPlan
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.scan_group import GroupScan
    from h5bound.planning.store_plan import StorePlan
    from h5bound.planning.work_units import Unit
    from h5bound.reader.open_file import OpenFile
    from h5bound.stores.target import Target
    from h5bound.stores.tree import StoreNode, StoreTree


@dataclass(slots=True, eq=False, kw_only=True)
class Comparison:
    """A store, its source, and their differences before values are compared."""

    scan: SourceScan
    """Scan of the source."""
    plan: StorePlan
    """Plan of the store, which the store must equal."""
    tree: StoreTree
    """Nodes and keys of the store."""
    provenance: Provenance
    """Provenance in the root of the store."""
    paths: dict[str, str]
    """Paths in the source by the path in the store."""
    differences: dict[Difference, None] = field(default_factory=dict)
    """Differences, each once, in the order in which they were found."""
    jobs: list[CompareJob] = field(default_factory=list)
    """Datasets whose values are to be compared."""
    chunk_coords: list[ChunkCoords] = field(default_factory=list)
    """Chunks to compare, for each job; of sequences rows of the dataset."""
    sequence_ends: list[NDArray[np.int64] | None] = field(default_factory=list)
    """For each job of sequences: where the elements of each element of the dataset end in the array."""
    retried: dict[str, str] = field(default_factory=dict)
    """Datasets that were skipped as unreadable and are tried again: the reason by path."""
    attributes: int = 0
    """Number of attributes that were compared."""

    def add(self, path: str, what: str, attribute: str | None = None) -> None:
        """Add a difference."""
        self.differences[Difference(path, what, attribute)] = None

    def cut(self, window: int) -> list[Unit]:
        """Return the units of all jobs; `window` is in bytes."""
        return cut_units([job.values for job in self.jobs], self.chunk_coords, window, sequence_ends=self.sequence_ends)

    def path_of(self, target: str) -> str:
        """Return the path in the source of a node of the store, or the path in the store if the source has none."""
        return self.paths.get(target, f"/{target}")


def compare_tree(scan: SourceScan, plan: StorePlan, tree: StoreTree, *, provenance: Provenance) -> Comparison:
    """Return the differences in all but the values, and the jobs that compare values."""
    comparison = begin_comparison(scan, plan, tree, provenance=provenance)
    for number, origin in enumerate(scan.origins):
        with origin.source.opened() as opened:
            compare_groups(comparison, opened, (group for group in scan.groups if group.origin == number))
            compare_datasets(comparison, opened, (item for item in scan.datasets if item.origin == number))
    return comparison


def begin_comparison(scan: SourceScan, plan: StorePlan, tree: StoreTree, *, provenance: Provenance) -> Comparison:
    """Return a comparison with the differences in what is skipped, in the keys and in the details."""
    paths = {target: path for path, target in scan.targets.items()}
    comparison = Comparison(scan=scan, plan=plan, tree=tree, provenance=provenance, paths=paths)
    compare_skipped(comparison)
    compare_keys(comparison)
    compare_details(comparison)
    return comparison


def compare_skipped(comparison: Comparison) -> None:
    """Compare the skipped objects and attributes that the store lists with those of the plan.

    A dataset may also have been skipped because its values could not be read: it is read again.
    """
    planned, reported = comparison.plan.skipped, comparison.provenance.skipped
    planned_keys, reported_keys = ({(item.path, item.attribute) for item in items} for items in (planned, reported))
    paths = {array.path for array in comparison.plan.arrays}
    for item in planned:
        if (item.path, item.attribute) not in reported_keys:
            comparison.add(
                item.path, f"not in the store, and its report does not say so: {item.reason}", item.attribute
            )
    for item in reported:
        if (item.path, item.attribute) in planned_keys:
            continue
        is_dataset = item.attribute is None and item.path in paths
        if is_dataset and comparison.scan.targets[item.path] not in comparison.tree.nodes:
            comparison.retried[item.path] = item.reason
        else:
            what = f"listed as skipped, but the source has nothing to skip here: {item.reason}"
            comparison.add(item.path, what, item.attribute)


def compare_keys(comparison: Comparison) -> None:
    """Find nodes that the source does not have, and keys that belong to no node."""
    scan, arrays = comparison.scan, comparison.plan.arrays
    planned = {group.target for group in scan.groups} | {array.node.target for array in arrays}
    paths = {array.path for array in arrays}
    planned |= {target for item in scan.datasets if item.record.path in paths for target in item.groups}
    for target in sorted(comparison.tree.nodes.keys() - planned):
        comparison.add(f"/{target}", "in the store, and not in the source")
    for owner, keys in comparison.tree.strays.items():
        reason = "of no node" if owner is None else "outside its grid of chunks"
        path = "/" if owner is None else comparison.path_of(owner)
        comparison.add(path, f"{plural(len(keys), 'key')} {reason}: {name_first(sorted(keys))}")


def compare_details(comparison: Comparison) -> None:
    """Compare the details of the nodes, which the provenance holds."""
    scan, actual = comparison.scan, comparison.provenance.details
    planned = {scan.targets[path]: (path, details) for path, details in scan.details.items()}
    for target in sorted(actual.keys() | planned.keys()):
        path, details = planned.get(target, (comparison.path_of(target), {}))
        for part in list_differing_parts(actual.get(target, {}), details):
            comparison.add(path, f"{part!r} in the details differs")
        if target not in planned and not actual[target]:
            comparison.add(path, "details of a node that has none")


def compare_documents(comparison: Comparison, target: Target) -> None:
    """Compare the consolidated metadata with the nodes, and each metadata document with its digest.

    Where a node differs otherwise, the digest of its documents says nothing more.
    """
    differing = {difference.path for difference in comparison.differences}
    for node, difference in compare_copies(target, comparison.tree.nodes):
        comparison.add(comparison.path_of(node), difference)
        differing |= {"/", comparison.path_of(node)}
    for key, difference in list_edited(comparison.provenance.documents, comparison.tree.digest_documents()):
        path = comparison.path_of(key.rpartition("/")[0])
        if path not in differing:
            comparison.add(path, f"the metadata document {key} {difference}")


def compare_groups(comparison: Comparison, opened: OpenFile, groups: Iterable[GroupScan]) -> None:
    """Compare the groups of one file."""
    for group in groups:
        node = comparison.tree.nodes.get(group.target)
        if node is not None and node.array is None:
            compare_attributes_of(comparison, opened, group, node=node, path=group.path)
        else:
            comparison.add(group.path, "not a group in the store")


def compare_datasets(comparison: Comparison, opened: OpenFile, datasets: Iterable[DatasetScan]) -> None:
    """Compare the arrays of one file in all but their values, and list the values to compare."""
    plans: dict[str, list[ArrayPlan]] = {}
    for array in comparison.plan.arrays:
        plans.setdefault(array.path, []).append(array)
    for dataset_scan in datasets:
        path = dataset_scan.record.path
        if path not in plans:
            continue
        node = comparison.tree.nodes.get(dataset_scan.target)
        if node is not None:
            compare_attributes_of(comparison, opened, dataset_scan, node=node, path=path)
            compare_arrays(comparison, opened, dataset_scan, plans=plans[path])
        elif path in comparison.retried:
            add_job(comparison, dataset_scan, next(plan for plan in plans[path] if plan.planned_values is None))
        else:
            comparison.add(path, "not in the store")


def compare_attributes_of(
    comparison: Comparison, opened: OpenFile, record: GroupScan | DatasetScan, node: StoreNode, *, path: str
) -> None:
    """Compare the attributes of a group or dataset."""
    scan = comparison.scan
    item = opened.open_object(scan.origins[record.origin].locate(path))
    assert not isinstance(item, h5py.Datatype)
    comparison.attributes += len(item.attrs)
    actual, planned = dict(node.attributes), dict(record.attributes)
    names = None if node.array is None else getattr(record, "dimension_names", None)
    if comparison.provenance.settings.zarr_format == 2 and names is not None:
        planned["_ARRAY_DIMENSIONS"] = list(names)
    for name, difference in compare_attributes(item, actual, planned, details=scan.details.get(path, {})):
        comparison.add(path, difference, name)


def compare_arrays(
    comparison: Comparison, opened: OpenFile, dataset_scan: DatasetScan, plans: Sequence[ArrayPlan]
) -> None:
    """Compare the arrays of a dataset; if they do not differ, list their values to compare."""
    targets = [comparison.tree.nodes.get(plan.node.target) for plan in plans]
    nodes = [node for node in targets if node is not None and node.array is not None]
    if len(nodes) != len(plans):
        comparison.add(dataset_scan.record.path, "not an array in the store")
        return
    differences = [
        difference for plan, node in zip(plans, nodes, strict=True) for difference in compare_array(plan, node)
    ]
    comparison.differences |= dict.fromkeys(differences)
    if differences:
        return
    for plan, node in zip(plans, nodes, strict=True):
        if plan.planned_values is not None:
            if difference := compare_offsets(plan.planned_values, node):
                comparison.add(plan.path, difference)
            continue
        job, chunk_coords = add_job(comparison, dataset_scan, plan, node=node)
        if not job.values.flat:
            compare_absent(comparison, opened, job, plan=plan, chunk_coords=chunk_coords)


def add_job(
    comparison: Comparison, dataset_scan: DatasetScan, plan: ArrayPlan, node: StoreNode | None = None
) -> tuple[CompareJob, ChunkCoords]:
    """Add an array whose values are compared, and return its job and chunks; without `node` they are only read."""
    array = None if node is None else node.array
    write_shape = plan.node.write_shape if array is None else array.shards or array.chunks
    values = describe_values(comparison.scan, dataset_scan, plan, write_shape=write_shape)
    if values.flat:
        chunk_coords = list_rows(dataset_scan.record.shape)
    else:
        chunk_coords = plan_comparison(comparison, plan, values.write_shape)
    arrays = () if array is None else (array,)
    cut = None if array is None else plan_cut(dataset_scan, plan, chunks=array.chunks, shards=array.shards)
    job = CompareJob(values=values, arrays=arrays, layout=plan_passes(plan, chunk_coords), cut=cut)
    comparison.jobs.append(job)
    comparison.chunk_coords.append(chunk_coords)
    comparison.sequence_ends.append(plan.sequence_ends)
    return job, chunk_coords


def plan_comparison(comparison: Comparison, plan: ArrayPlan, write_shape: Shape) -> ChunkCoords:
    """Return the coordinates of the chunks in which the source or the store has any data."""
    node = plan.node
    grid = node.write_shape if plan.manifest is None else node.chunks
    limit = comparison.provenance.limits.max_chunks
    planned = map_chunk_coords(plan.chunk_coords, shape=node.shape, source=grid, target=write_shape, limit=limit)
    actual = comparison.tree.chunk_coords.get(node.target)
    return planned if actual is None else sort_chunk_coords(np.concatenate([planned, actual]))


def compare_absent(
    comparison: Comparison, opened: OpenFile, job: CompareJob, plan: ArrayPlan, chunk_coords: ChunkCoords
) -> None:
    """Compare one element of the chunks that were never written, since all of them have one value.

    In a store without a fill value every chunk must be there.
    """
    if job.arrays[0].fill_value is None:
        missing = len(chunk_coords) - len(comparison.tree.chunk_coords.get(plan.node.target, ()))
        if missing:
            comparison.add(job.path, f"{plural(missing, 'chunk')} missing, and there is no fill value for them")
    absent = find_absent(chunk_coords, count_chunks(plan.node.shape, job.values.write_shape))
    if absent is not None and (difference := compare_unwritten(opened, job, absent)):
        comparison.add(job.path, difference)
