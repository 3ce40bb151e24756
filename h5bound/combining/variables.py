"""What one variable of many files becomes: joined along the dimension, or taken from one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.along import describe_missing, join_along
from h5bound.combining.context import EMPTY, find_first
from h5bound.combining.differences import LEAVE_OUT
from h5bound.combining.joined import JoinedVariable
from h5bound.combining.joined_attributes import NodeAttributes, join_attributes
from h5bound.reader.meanings import PACKING, TIMES

if TYPE_CHECKING:
    from h5bound.combining.along import Joining
    from h5bound.combining.context import ByFile, Context

DIFFERING = "differing='first' takes that of the first file, differing='drop' leaves it out"
"""What to do about variables that should be the same in all files."""


def join_variable(context: Context, path: str) -> Joining | None:
    """Return what a variable becomes, and the tables of its attributes; None if it is left out, or refused."""
    by_file, rules, findings = context.find(path), context.rules, context.findings
    missing = [i for i, item in enumerate(by_file) if item is None]
    _, first = find_first(by_file)
    elsewhere = [i for i, scan in enumerate(context.scans) if path in scan.variables and path in scan.elsewhere]
    if elsewhere:
        what = "it is in another file, behind an external link"
        findings.leave_out(path, what, elsewhere)
        return None
    what, numbers, there = describe_missing(np.array([item is None for item in by_file]))
    if missing and rules.missing == "refuse":
        action = f"missing='fill' takes its fill value {there}; {LEAVE_OUT.format(path)}"
        findings.refuse(path, what, numbers, action=action)
        return None
    short = [i for i, item in enumerate(by_file) if item is not None and rules.dim in item.schema.short]
    if short:
        what = f"it is shorter than its dimension {rules.dim}, and only netCDF's readers fill it up"
        findings.leave_out(path, what, short)
        return None
    others = [i for i, item in enumerate(by_file) if item is not None and item.target != first.target]
    if others:
        findings.refuse(path, "its name in the store differs", others, action="names='portable' may help", option=False)
    if is_joined(context, path, by_file):
        return join_along(context, path, by_file)
    if missing:
        findings.decide(path, what, numbers, action="taken from those that have it")
    return take_one(context, path, by_file)


def is_joined(context: Context, path: str, by_file: ByFile) -> bool:
    """Return whether a variable is joined along the dimension.

    Along a new one all are but coordinates that all files share, as ``xarray.concat`` has it.
    """
    rules, name = context.rules, path.rpartition("/")[2]
    if not rules.new:
        return any(item is not None and item.find_axis(rules.dim) is not None for item in by_file)
    if name == rules.dim:
        return True
    if any(item is not None and item.schema.dimensions == (name,) for item in by_file):
        return False
    return path not in context.coordinates or bool(find_others(path, context, by_file)[0])


def find_others(path: str, context: Context, by_file: ByFile) -> tuple[list[int], list[int]]:
    """Return the files in which a variable is not that of the first one, and those of which that is not known."""
    differing, unknown = [], []
    present = [i for i, item in enumerate(by_file) if item is not None]
    first = describe_value(path, context, present[0])
    for i in present[1:]:
        other = describe_value(path, context, i)
        if other[0] != first[0] or (other[1] != first[1] and None not in (other[1], first[1])):
            differing.append(i)
        elif other[1] is None or first[1] is None:
            unknown.append(i)
    return differing, unknown


def describe_value(path: str, context: Context, number: int) -> tuple[Any, bytes | None]:
    """Return what a variable without the dimension is in one file, and the digest of its values."""
    scan = context.scans[number]
    item = scan.variables[path]
    node = NodeAttributes(item.attributes, scan.details.get(path, EMPTY))
    meaning = [node.write(name) for name in (*PACKING, *TIMES)]
    schema = item.schema
    return (schema.form, schema.dtype, schema.hdf5_type, schema.dimensions, item.shape, meaning), item.digest


def take_one(context: Context, path: str, by_file: ByFile) -> Joining | None:
    """Return a variable that is the same in all files, as the first one has it, unless an option says otherwise."""
    rules, findings = context.rules, context.findings
    differing, unknown = find_others(path, context, by_file)
    what = f"it has no dimension {rules.dim}, and is not the same"
    if differing and rules.differing == "refuse":
        findings.refuse(path, what, differing, action=f"{DIFFERING}; {LEAVE_OUT.format(path)}")
        return None
    if differing and rules.differing == "drop":
        findings.decide(path, what, differing, action="left out")
        return None
    if differing:
        findings.decide(path, what, differing, action="as the first file has it")
    if unknown:
        context.to_compare[path] = np.array(unknown, np.int64)
    nodes = context.describe(path, by_file)
    handled = (*PACKING, *TIMES) if differing else ()
    values, details, tables = join_attributes(path, nodes, handled=handled, rules=rules, findings=findings)
    count = len(by_file)
    source, first = find_first(by_file)
    variable = JoinedVariable(
        path=path,
        target=first.target,
        schema=first.schema,
        axis=None,
        shape=first.shape,
        starts=np.zeros(1, np.int64),
        skips=np.zeros(count, np.int64),
        source=source,
        attributes=values,
        details=details,
        conversions=[None] * count,
        missing=np.array([item is None for item in by_file]),
        copied=np.ones(count, bool),
        unwritten=np.ones(count, bool),
    )
    return variable, tables
