"""A Zarr store compared with the HDF5 file that it was made from, bit for bit.

The file is read anew, and all that is expected follows from that and from the options of the conversion. Compared are
the tree, every attribute, shape, type, fill value and dimension names of every array, the consolidated metadata, and
the values wherever the file or the store has any: chunks that neither has are equal by their fill value. What the store
says was left out for an error is tried again. As in a conversion the file is open for a window of memory at a time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.attributes import KEY, compare_attributes
from h5bound.comparison import COMPARE, CompareJob, cut_comparison, list_differing, same_bits
from h5bound.convert import window_nbytes
from h5bound.grid import map_cells, sort_cells
from h5bound.index import open_object
from h5bound.mark import parse_mark
from h5bound.nodes import compare_copies, list_differing_parts, read_tree, same_json
from h5bound.outside import list_allowed
from h5bound.report import Difference, VerificationReport, plural
from h5bound.run import run_units
from h5bound.source import H5Source
from h5bound.store import MARK_KEYS, plan_store
from h5bound.survey import read_survey
from h5bound.target import find_target, quiet_zarr
from h5bound.units import UNIT_NBYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike

    import h5py

    from h5bound.comparison import Compared
    from h5bound.grid import Cells, Shape
    from h5bound.mark import Mark
    from h5bound.nodes import StoredNode, StoredTree
    from h5bound.origins import Origin
    from h5bound.plan import ArrayPlan, Facts
    from h5bound.references import ReferencePaths
    from h5bound.source import OpenFile
    from h5bound.store import StorePlan
    from h5bound.survey import Survey

SHOWN = 3
"""Keys of one kind that a difference names."""


def verify(
    source: str | PathLike[str] | h5py.File,
    target: str | PathLike[str],
    *,
    window: int | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    allow_external: Sequence[str | PathLike[str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> VerificationReport:
    """Give every difference between a Zarr store and the HDF5 file that it was made from.

    Parameters
    ----------
    source
        The HDF5 file, or an open `h5py.File`, which is left open.
    target
        Path or URL of a store that `convert` wrote.
    window
        How many bytes are read between one open and its close, as for `convert`.
    workers
        Threads; None for dask's choice.
    scheduler
        Address of a dask cluster; None for the scheduler in force.
    allow_external
        Directories from which other files may be read, as for the conversion.
    progress
        Called with the bytes that are done and all bytes, now and then.

    Returns
    -------
    VerificationReport
        Equal if there is no difference. What the conversion left out, and said so, is listed and not compared.

    Raises
    ------
    TargetError
        The store is not there, not complete, or not one of h5bound's; or a document of it is damaged.
    SourceNotFoundError, SourceChangedError
        The file is not there, or is written to meanwhile.

    Examples
    --------
    >>> import h5py, pathlib, tempfile
    >>> from h5bound.convert import convert
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with h5py.File(folder / "a.h5", "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> _ = convert(folder / "a.h5", folder / "a.zarr")
    >>> verify(folder / "a.h5", folder / "a.zarr").equal
    True
    """
    started = time.perf_counter()
    h5 = H5Source.of(source)
    place = find_target(str(target))
    mark = parse_mark(place)
    nbytes = window_nbytes(window)
    survey = read_survey(h5, mark.settings, mark.limits, list_allowed(allow_external))
    plan = plan_store(survey, mark.settings, mark.limits, UNIT_NBYTES)
    with quiet_zarr():
        tree = read_tree(place)
        comparison = compare_tree(survey, plan, tree, mark)
        for node, what in compare_copies(place, tree.nodes):
            comparison.add(comparison.path_of(node), what)
    units = [
        unit
        for number, job in enumerate(comparison.jobs)
        for unit in cut_comparison(number, job, min(UNIT_NBYTES, max(nbytes // 8, 1)))
    ]
    found = run_units(
        [origin.source for origin in survey.origins],
        COMPARE,
        comparison.jobs,
        units,
        window=nbytes,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    return VerificationReport(
        source=h5.path,
        target=place.url,
        arrays=len({job.path for job in comparison.jobs if job.arrays}),
        attributes=comparison.attributes,
        nbytes=sum(item.nbytes for item in found),
        seconds=time.perf_counter() - started,
        differences=(*comparison.differences, *compare_values(comparison, found)),
        skipped=mark.skipped,
    )


@dataclass(slots=True)
class Comparison:
    """What is gathered before values are compared."""

    paths: Mapping[str, str]
    """in the source, by the path in the store"""
    differences: dict[Difference, None] = field(default_factory=dict)
    """each once, in the order they were found"""
    jobs: list[CompareJob] = field(default_factory=list)
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
    survey: Survey
    number: int
    """of the origin whose nodes these are"""
    arrays: Mapping[str, Sequence[ArrayPlan]]
    """plans by the path of their dataset"""
    tree: StoredTree
    mark: Mark
    resolve: ReferencePaths

    @property
    def zarr_format(self) -> int:
        """Of the store."""
        return self.mark.settings.zarr_format

    @property
    def origin(self) -> Origin:
        """The file that the nodes come from."""
        return self.survey.origins[self.number]


def compare_tree(survey: Survey, plan: StorePlan, tree: StoredTree, mark: Mark) -> Comparison:
    """Give the differences in all but the values, and what values are to be compared."""
    found = Comparison({at: path for path, at in survey.targets.items()})
    arrays: dict[str, list[ArrayPlan]] = {}
    for array in plan.arrays:
        arrays.setdefault(array.path, []).append(array)
    compare_skipped(found, survey, plan, tree, mark)
    compare_keys(found, survey, plan, tree)
    compare_details(found, survey, mark)
    for number, origin in enumerate(survey.origins):
        opened = origin.source.open()
        try:
            resolve = origin.addresses.resolver(opened.file)
            context = Context(opened, survey, number, arrays, tree, mark, resolve)
            compare_groups(found, context)
            compare_datasets(found, context)
            origin.source.check(opened)
        finally:
            origin.source.close(opened)
    return found


def compare_skipped(found: Comparison, survey: Survey, plan: StorePlan, tree: StoredTree, mark: Mark) -> None:
    """Note down where what the store says was left out is not what has to be left out.

    Only a dataset may be left out for another reason: that its values could not be read. That is tried again.
    """
    needed = {(item.path, item.attribute) for item in plan.skipped}
    told = {(item.path, item.attribute) for item in mark.skipped}
    for item in plan.skipped:
        if (item.path, item.attribute) not in told:
            what = f"not in the store, and its report does not say so: {item.reason}"
            found.add(item.path, what, item.attribute)
    planned = {array.path for array in plan.arrays}
    for item in mark.skipped:
        if (item.path, item.attribute) in needed:
            continue
        if item.attribute is None and item.path in planned and survey.targets[item.path] not in tree.nodes:
            found.retried[item.path] = item.reason
        else:
            what = f"its report says without need that this was left out: {item.reason}"
            found.add(item.path, what, item.attribute)


def compare_keys(found: Comparison, survey: Survey, plan: StorePlan, tree: StoredTree) -> None:
    """Note down what the store has too many: nodes, and keys that are of none."""
    expected = {group.target for group in survey.groups} | {array.node.target for array in plan.arrays}
    expected |= {survey.targets[array.path] for array in plan.arrays}
    for extra in sorted(tree.nodes.keys() - expected):
        found.add(f"/{extra}", "in the store, and not in the source")
    for owner, keys in tree.strays.items():
        shown = f"{', '.join(sorted(keys)[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
        kind = "of no node" if owner is None else "outside its grid of chunks"
        found.add("/" if owner is None else found.path_of(owner), f"{plural(len(keys), 'key')} {kind}: {shown}")


def compare_details(found: Comparison, survey: Survey, mark: Mark) -> None:
    """Note down how the details of the nodes differ."""
    expected = {survey.targets[path]: (path, details) for path, details in survey.details.items()}
    for target in sorted(mark.details.keys() | expected.keys()):
        path, details = expected.get(target, (found.path_of(target), {}))
        for part in list_differing_parts(mark.details.get(target, {}), details):
            found.add(path, f"{part!r} in the details differs")
        if target not in expected and not mark.details[target]:
            found.add(path, "details of nothing")


def compare_groups(found: Comparison, context: Context) -> None:
    """Note down how the groups of one origin differ."""
    for group in context.survey.groups:
        if group.origin != context.number:
            continue
        node = context.tree.nodes.get(group.target)
        if node is not None and node.array is None:
            compare_node(found, context, group.path, group.attributes, node, None)
        else:
            found.add(group.path, "not a group in the store")


def compare_datasets(found: Comparison, context: Context) -> None:
    """Note down how the arrays of one origin differ in all but their values."""
    for facts in context.survey.datasets:
        path = facts.record.path
        if facts.origin != context.number or path not in context.arrays:
            continue
        node = context.tree.nodes.get(facts.target)
        if node is not None:
            compare_node(found, context, path, facts.attributes, node, facts)
            add_job(found, context, facts)
        elif path in found.retried:
            found.jobs.append(make_job(context, facts, ()))
        else:
            found.add(path, "not in the store")


def compare_node(
    found: Comparison,
    context: Context,
    path: str,
    expected: Mapping[str, Any],
    node: StoredNode,
    facts: Facts | None,
) -> None:
    """Note down how the attributes of a node differ from those of its source."""
    item = open_object(context.opened.file, context.origin.locate(path))
    found.attributes += len(item.attrs)
    have = node.attributes
    held = have.get(KEY)
    if path == "/" and isinstance(held, dict):
        rest = {name: value for name, value in held.items() if name not in MARK_KEYS}
        have = {**have, KEY: rest} if rest else {name: v for name, v in have.items() if name != KEY}
    wanted = dict(expected)
    if facts is not None and context.zarr_format == 2 and facts.dimension_names is not None:
        wanted["_ARRAY_DIMENSIONS"] = list(facts.dimension_names)
    lines = compare_attributes(
        item,
        have,
        context.mark.details.get(node.path, {}),
        zarr_format=context.zarr_format,
        dtype=None if facts is None else facts.type.dtype,
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


def compare_array(found: Comparison, plan: ArrayPlan, facts: Facts, stored: StoredNode) -> None:
    """Note down how shape, type, fill value and dimension names of an array differ."""
    node, array = plan.node, stored.array
    assert array is not None
    if array.shape != node.shape:
        found.add(plan.path, f"shape {array.shape} in the store, {node.shape} in the source")
    kind = "string" if node.dtype.kind == "T" else node.dtype.newbyteorder("=")
    have = "string" if array.dtype.kind in "TO" else array.dtype.newbyteorder("=")
    if have != kind:
        found.add(plan.path, f"type {array.dtype} in the store, {node.dtype} in the source")
    elif not same_fill(plan, facts, stored):
        what = f"fill value {stored.fill_json!r} in the store, {node.fill.json!r} in the source"
        found.add(plan.path, what)
    names = getattr(array.metadata, "dimension_names", node.dimension_names)
    if names != node.dimension_names:
        found.add(plan.path, f"dimension names {names} in the store, {node.dimension_names} in the source")


def same_fill(plan: ArrayPlan, facts: Facts, stored: StoredNode) -> bool:
    """Tell whether an array has the fill value that it has to have, or another spelling of the same bits.

    To have none is not the same as to have any: readers mask what is equal to it.
    """
    fill, held = plan.node.fill, stored.fill_json
    if same_json(held, fill.json):
        return True
    if held is None or fill.json is None or not facts.fill.exact or stored.array is None:
        return False
    return same_bits(np.asarray(stored.array.fill_value, plan.node.dtype), fill.value)


def add_job(found: Comparison, context: Context, facts: Facts) -> None:
    """Note down how the arrays of a dataset differ, and that their values are to be compared."""
    path = facts.record.path
    plans = context.arrays[path]
    nodes = [context.tree.nodes.get(plan.node.target) for plan in plans]
    stored = [node for node in nodes if node is not None and node.array is not None]
    if len(stored) != len(plans):
        found.add(path, "not an array in the store")
        return
    before = len(found.differences)
    for plan, node in zip(plans, stored, strict=True):
        compare_array(found, plan, facts, node)
    if len(found.differences) == before:
        found.jobs.append(make_job(context, facts, stored))


def make_job(context: Context, facts: Facts, stored: Sequence[StoredNode]) -> CompareJob:
    """Give what the comparison of a dataset's values needs; without arrays its values are only read."""
    path = facts.record.path
    shape = facts.record.shape or ()
    plan = context.arrays[path][0]
    write_shape = plan.node.write_shape
    if facts.ends is not None:
        rows = shape[0] if shape else 1
        cells = np.arange(rows if prod(shape) else 0, dtype=np.int64).reshape(-1, 1)
        write_shape = (max(prod(shape[1:]), 1),)
    else:
        if stored and stored[0].array is not None:  # its grid may not be the planned one
            write_shape = stored[0].array.shards or stored[0].array.chunks
        held = context.tree.cells.get(plan.node.target)
        cells = plan_comparison(plan, write_shape, held, context.mark.limits.max_chunks)
    return CompareJob(
        path,
        context.origin.locate(path),
        facts.origin,
        shape,
        plan.node.shape,
        facts.refused,
        facts.type,
        tuple(node.array for node in stored if node.array is not None),
        context.origin.addresses,
        cells,
        write_shape,
    )


def plan_comparison(plan: ArrayPlan, write_shape: Shape, held: Cells | None, limit: int) -> Cells:
    """Give the cells of a grid in which the source or the store has anything."""
    node = plan.node
    grid = node.write_shape if plan.stored is None else node.chunks
    planned = map_cells(plan.cells, node.shape, grid, write_shape, limit)
    return planned if held is None else sort_cells(np.concatenate([planned, held]))


def compare_values(comparison: Comparison, found: Sequence[Compared]) -> Iterator[Difference]:
    """Yield a difference for each dataset whose values differ, or were left out though they can be read."""
    unreadable = {item.path for item in found if item.unreadable}
    for path, what in list_differing(found).items():
        if path not in comparison.retried:
            yield Difference(path, what)
    for path, reason in comparison.retried.items():
        if path not in unreadable:
            yield Difference(path, f"not in the store, and its report says why, but it can be read: {reason}")
