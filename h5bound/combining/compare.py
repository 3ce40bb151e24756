"""Compare a store of many files with them, bit for bit: its metadata with the plan, its values with the files.

All chunks of joined arrays are compared, also those that the plan does not write.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.chunk_grid import list_chunk_coords
from h5bound.combining.joined_scan import ALL_FILES
from h5bound.conversion.provenance import parse_provenance, read_provenance
from h5bound.conversion.write_store import check_unchanged, describe_documents, make_jobs
from h5bound.planning.source_values import describe_values
from h5bound.reports.verification import VerificationReport
from h5bound.stores.differences import list_edited
from h5bound.stores.keys import reaching
from h5bound.stores.metadata import digest
from h5bound.stores.tree import read_tree
from h5bound.verification.pieces import plan_cut
from h5bound.verification.results import check_same_store, list_all_differences
from h5bound.verification.tree import begin_comparison, compare_datasets, compare_documents
from h5bound.verification.two_passes import compare_values
from h5bound.verification.values import CompareJob
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.combining.combination import Combination
    from h5bound.conversion.provenance import Provenance
    from h5bound.execution.work import Progress, Run
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target
    from h5bound.verification.tree import Comparison


def verify_combination(
    combination: Combination, store: Target, *, run: Run, window: int, progress: Progress | None
) -> VerificationReport:
    """Return the report of a comparison of a store with its files.

    `run` is :func:`h5bound.execution.run.run_units` without the arguments that are passed here. Raise TargetError if it
    is not complete, or was replaced meanwhile, and SourceChangedError if a file changed.
    """
    started = time.perf_counter()
    scan, plan = combination.scan, combination.plan
    with reaching(store.url):
        document = read_provenance(store)
        provenance = parse_provenance(store, document)
    jobs = make_jobs(store, scan, plan, skip=False)
    nodes, root = describe_documents(store.zarr_format, scan, jobs)
    comparison = compare_combined(combination, store, provenance=provenance, documents={**nodes, **root})
    for name, value in {**combination.inputs, **combination.tables}.items():
        if name not in ("h5bound", "coordinates") and document.get(name) != json.loads(json.dumps(value)):
            comparison.add("/", f"{name!r} in {store.provenance_key} is not that of these files")
    results = compare_values(comparison.jobs, comparison.cut(window), run=run, progress=progress)
    check_unchanged(scan)
    check_same_store(store, document)
    return VerificationReport(
        source=scan.sources[0].path,
        target=store.url,
        arrays=len({job.path for job in comparison.jobs if job.arrays}),
        attributes=comparison.attributes
        + sum(len(item.attributes) for item in scan.datasets if item.pieces is not None),
        nbytes=sum(item.nbytes for item in results),
        seconds=time.perf_counter() - started,
        differences=tuple(list_all_differences(comparison, results, "")),
        skipped=provenance.skipped,
    )


def compare_combined(
    combination: Combination,
    store: Target,
    *,
    provenance: Provenance,
    documents: Mapping[str, Document],
) -> Comparison:
    """Return the differences in all but the values, and the jobs that compare values.

    `documents` are the metadata documents that the plan makes, by their keys. What the store has of files that are not
    read is not compared.
    """
    scan, plan = combination.scan, combination.plan
    in_store = {item.path for item in combination.joined.variables.values() if combination.files[item.source].in_store}
    with quiet_zarr():
        comparison = begin_comparison(scan, plan, read_tree(store), provenance=provenance)
        compare_with_plan(comparison, documents)
        for number, origin in enumerate(scan.origins):
            if number != ALL_FILES:
                with origin.source.opened() as opened:
                    own = (item for item in scan.datasets if item.origin == number and item.record.path not in in_store)
                    compare_datasets(comparison, opened, own)
        add_joined(comparison)
        compare_documents(comparison, store)
    return comparison


def compare_with_plan(comparison: Comparison, documents: Mapping[str, Document]) -> None:
    """Compare the metadata documents of the nodes with those that the plan makes."""
    planned = {key: digest(document) for key, document in documents.items()}
    for key, difference in list_edited(planned, comparison.tree.digest_documents()):
        comparison.add(comparison.path_of(key.rpartition("/")[0]), f"the metadata document {key} {difference}")


def add_joined(comparison: Comparison) -> None:
    """Add the joined arrays, whose metadata do not differ, with all of their chunks."""
    plans = {plan.path: plan for plan in comparison.plan.arrays}
    differing = {difference.path for difference in comparison.differences}
    for item in comparison.scan.datasets:
        plan = plans.get(item.record.path)
        node = comparison.tree.nodes.get(item.target)
        if item.pieces is None or plan is None or item.record.path in differing:
            continue
        if node is None or node.array is None:
            comparison.add(item.record.path, "not an array in the store")
            continue
        write_shape = plan.node.write_shape
        values = describe_values(comparison.scan, item, plan, write_shape=write_shape)
        values = replace(values, pieces=replace(item.pieces, store=node.array))
        coords = list_chunk_coords(plan.node.shape, write_shape, comparison.provenance.limits.max_chunks)
        coords = coords[item.pieces.have_files(coords[:, item.pieces.axis], write_shape[item.pieces.axis])]
        cut = plan_cut(item, plan, chunks=node.array.chunks, shards=node.array.shards)
        comparison.jobs.append(CompareJob(values=values, arrays=(node.array,), cut=cut))
        comparison.chunk_coords.append(coords)
        comparison.sequence_ends.append(None)
