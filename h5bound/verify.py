"""A Zarr store compared with the HDF5 file that it was made from, bit for bit.

The file is read anew, and all that is expected follows from that. Compared are the tree, every attribute, shape,
type, fill value and dimension names of every array, and the values wherever the file or the store has any: chunks that
neither has are equal by their fill value. As in a conversion the file is open for a window of memory at a time.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.attributes import KEY, compare_attributes
from h5bound.comparison import (
    COMPARE,
    Compared,
    CompareJob,
    cut_comparison,
    list_differing,
    merge_cells,
    same_bits,
)
from h5bound.convert import window_nbytes
from h5bound.grid import sort_cells
from h5bound.index import open_object
from h5bound.outside import list_allowed
from h5bound.plan import shard_counts
from h5bound.references import ReferencePaths
from h5bound.report import Difference, Skipped, VerificationReport
from h5bound.run import run_units
from h5bound.settings import Limits, settings_of
from h5bound.source import H5Source
from h5bound.store import MARK_KEYS, plan_store
from h5bound.survey import read_survey
from h5bound.target import find_target, quiet_zarr, read_mark
from h5bound.units import UNIT_NBYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    import zarr

    from h5bound.plan import ArrayNode, ArrayPlan, Facts
    from h5bound.source import OpenFile
    from h5bound.store import StorePlan
    from h5bound.survey import Survey
    from h5bound.target import Target


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
        The store is not there, not complete, or not one of h5bound's.
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
    mark = read_mark(place)
    settings = settings_of(mark["settings"])
    nbytes = window_nbytes(window)
    limits = Limits(**mark["limits"])
    survey = read_survey(h5, settings, limits, list_allowed(allow_external))
    with quiet_zarr():
        comparison = compare_tree(h5, survey, plan_store(survey, settings, limits, UNIT_NBYTES), place, mark)
    units = [
        unit
        for number, job in enumerate(comparison.jobs)
        for unit in cut_comparison(number, job, min(UNIT_NBYTES, max(nbytes // 8, 1)))
    ]
    found = run_units(
        h5, COMPARE, comparison.jobs, units, window=nbytes, workers=workers, scheduler=scheduler, progress=progress
    )
    return VerificationReport(
        source=h5.path,
        target=place.url,
        arrays=len({job.path for job in comparison.jobs}),
        attributes=comparison.attributes,
        nbytes=sum(item.nbytes for item in found),
        seconds=time.perf_counter() - started,
        differences=(*comparison.differences, *first_of_each(found)),
        skipped=comparison.skipped,
    )


@dataclass(slots=True)
class Comparison:
    """What is gathered before values are compared."""

    jobs: list[CompareJob] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    skipped: tuple[Skipped, ...] = ()
    attributes: int = 0

    def add(self, path: str, what: str, attribute: str | None = None) -> None:
        """Note a difference down."""
        self.differences.append(Difference(path, what, attribute))


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the comparison of each node needs."""

    opened: OpenFile
    survey: Survey
    plan: StorePlan
    target: Target
    mark: Mapping[str, Any]
    resolve: ReferencePaths

    @property
    def zarr_format(self) -> int:
        """Of the store."""
        return self.target.zarr_format


def compare_tree(
    source: H5Source, survey: Survey, plan: StorePlan, target: Target, mark: Mapping[str, Any]
) -> Comparison:
    """Give the differences in all but the values, and what values are to be compared."""
    found = Comparison(skipped=tuple(map(read_skipped, mark["skipped"])))
    reported = {(item.path, item.attribute) for item in found.skipped}
    for item in plan.skipped:
        if (item.path, item.attribute) not in reported:
            what = f"not in the store, and its report does not say so: {item.reason}"
            found.add(item.path, what, item.attribute)
    opened = source.open()
    try:
        resolve = ReferencePaths(opened.file, survey.addresses)
        compare_nodes(found, Context(opened, survey, plan, target, mark, resolve), reported)
        source.check(opened)
    finally:
        source.close(opened)
    return found


def compare_nodes(found: Comparison, context: Context, reported: set[tuple[str, str | None]]) -> None:
    """Note down how groups and arrays differ in all but their values."""
    import zarr

    target, survey = context.target, context.survey
    root = zarr.open_group(target.store, mode="r", zarr_format=target.zarr_format, use_consolidated=False)
    members = dict(root.members(max_depth=None))
    expected = {group.target for group in survey.groups} | {facts.target for facts in survey.datasets}
    expected |= {array.node.target for array in context.plan.arrays}
    for extra in sorted(set(members) - expected):
        found.add(f"/{extra}", "in the store, and not in the source")
    for group in survey.groups:
        node = members.get(group.target) if group.target else root
        if isinstance(node, zarr.Group):
            compare_node(found, context, group.path, group.attributes, node, None)
        else:
            found.add(group.path, "not a group in the store")
    arrays: dict[str, list[ArrayPlan]] = {}
    for array in context.plan.arrays:
        arrays.setdefault(array.path, []).append(array)
    for facts in survey.datasets:
        path = facts.record.path
        node = members.get(facts.target)
        if node is not None and path in arrays:
            compare_node(found, context, path, facts.attributes, node, facts)
            add_job(found, context, facts, arrays[path], members)
        elif (path, None) not in reported:
            found.add(path, "not in the store")


def compare_node(
    found: Comparison,
    context: Context,
    path: str,
    expected: Mapping[str, Any],
    node: zarr.Group | zarr.Array[Any],
    facts: Facts | None,
) -> None:
    """Note down how the attributes of a node differ from those of its source."""
    item = open_object(context.opened.file, path)
    found.attributes += len(item.attrs)
    have: dict[str, Any] = dict(node.attrs)
    held = have.get(KEY)
    if path == "/" and isinstance(held, dict):
        rest = {name: value for name, value in held.items() if name not in MARK_KEYS}
        have = {**have, KEY: rest} if rest else {name: v for name, v in have.items() if name != KEY}
    wanted = dict(expected)
    if facts is not None and context.zarr_format == 2 and facts.dimension_names is not None:
        wanted["_ARRAY_DIMENSIONS"] = list(facts.dimension_names)
    details = context.mark["details"].get(node.path, {})
    lines = compare_attributes(
        item,
        have,
        details,
        zarr_format=context.zarr_format,
        dtype=None if facts is None else facts.type.dtype,
        netcdf=context.survey.netcdf,
        resolve=context.resolve,
    )
    for line in lines:
        found.add(path, line)
    told = " ".join(lines)
    for name in sorted(set(have) | set(wanted)):
        if have.get(name) != wanted.get(name) and repr(name) not in told:
            found.add(path, "differs" if name in have and name in wanted else "missing or added", name)


def compare_array(found: Comparison, plan: ArrayPlan, facts: Facts, array: zarr.Array[Any]) -> None:
    """Note down how shape, type, fill value and dimension names of an array differ."""
    node = plan.node
    if array.shape != node.shape:
        found.add(plan.path, f"shape {array.shape} in the store, {node.shape} in the source")
    if node.dtype.kind != "T" and array.dtype.newbyteorder("=") != node.dtype.newbyteorder("="):
        found.add(plan.path, f"type {array.dtype} in the store, {node.dtype} in the source")
    fill = np.asarray(array.fill_value, node.dtype) if node.fill.json is not None else node.fill.value
    if facts.fill.exact and node.fill.json is not None and not same_bits(fill, node.fill.value):
        found.add(plan.path, f"fill value {fill!r} in the store, {node.fill.value!r} in the source")
    names = getattr(array.metadata, "dimension_names", node.dimension_names)
    if names != node.dimension_names:
        found.add(plan.path, f"dimension names {names} in the store, {node.dimension_names} in the source")


def add_job(
    found: Comparison, context: Context, facts: Facts, plans: Sequence[ArrayPlan], members: Mapping[str, Any]
) -> None:
    """Note down how the arrays of a dataset differ, and that their values are to be compared."""
    import zarr

    path = facts.record.path
    arrays = [item for item in (members.get(plan.node.target) for plan in plans) if isinstance(item, zarr.Array)]
    if len(arrays) != len(plans):
        found.add(path, "not an array in the store")
        return
    before = len(found.differences)
    for plan, array in zip(plans, arrays, strict=True):
        compare_array(found, plan, facts, array)
    if len(found.differences) > before:
        return
    shape = facts.record.shape or ()
    if facts.ends is not None:
        rows = shape[0] if shape else 1
        cells = np.arange(rows if prod(shape) else 0, dtype=np.int64).reshape(-1, 1)
        write_shape: tuple[int, ...] = (max(prod(shape[1:]), 1),)
    else:
        node = plans[0].node
        write_shape = node.write_shape
        planned = plans[0].cells
        if plans[0].stored is not None and node.shards is not None:
            planned = sort_cells(planned // shard_counts(node))
        cells = merge_cells(planned, stored_cells(context.target, node, arrays[0]), len(node.shape))
    found.jobs.append(
        CompareJob(path, shape, facts.refused, facts.type, tuple(arrays), context.survey.addresses, cells, write_shape)
    )


def stored_cells(target: Target, node: ArrayNode, array: zarr.Array[Any]) -> list[tuple[int, ...]]:
    """Give the cells of which the store has a key."""
    prefix = f"{node.target}/"
    start = "c" if target.zarr_format == 3 else ""
    cells = []
    for key in target.list_keys(prefix):
        name = key.removeprefix(prefix)
        parts = name.split("/" if target.zarr_format == 3 else ".")
        if name.startswith((".z", "zarr.json")) or not name.startswith(start):
            continue
        numbers = parts[1:] if start else parts
        if node.shape and all(part.isdigit() for part in numbers):
            cells.append(tuple(map(int, numbers)))
        elif not node.shape:
            cells.append(())
    return cells


def read_skipped(entry: Mapping[str, Any]) -> Skipped:
    """Give an entry of the mark of what was left out."""
    return Skipped(read_text(entry["path"]), entry["reason"], entry.get("attribute"))


def read_text(spelled: Any) -> str:
    r"""Give back a text that `spell_text` made JSON of.

    >>> read_text("a"), read_text({"base64": "/w=="}) == "\udcff"
    ('a', True)
    """
    if isinstance(spelled, str):
        return spelled
    return base64.b64decode(spelled["base64"]).decode("utf-8", "surrogateescape")


def first_of_each(found: Sequence[Compared]) -> list[Difference]:
    """Give one difference for each dataset whose values differ."""
    return [
        Difference(path, whats[0] if len(whats) == 1 else f"{whats[0]}, and {len(whats) - 1} more places")
        for path, whats in list_differing(found).items()
    ]
