"""The rules by which many files become one store: what each variable and group is, or what stands against it.

All of it is decided from the records of the files, before any value is read or written. Along the dimension, a variable
of the store is those of all files one after another. One without the dimension is the same in all files. What differs
otherwise is refused, in one table, unless an option decides it::

    file_scan.FileScan, one a file ──► join_files ──► joined.Joined
                                           │
                                           └────────► differences.refuse_differences

Filters, chunks and byte order may differ: then chunks are decoded.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.along import measure
from h5bound.combining.context import EMPTY, Context, is_coordinate
from h5bound.combining.differences import FileNames, Findings, refuse_differences
from h5bound.combining.joined import Joined
from h5bound.combining.joined_attributes import NodeAttributes, join_attributes
from h5bound.combining.ordering import cut_files, name_unit, read_coordinate, sort_files
from h5bound.combining.variables import join_variable
from h5bound.errors import OptionError
from h5bound.planning.array_options import name_close
from h5bound.planning.selection import parent_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.combining.file_scan import FileScan
    from h5bound.combining.joined import AttributeTable, JoinedVariable, Rules
    from h5bound.combining.ordering import Cuts


def join_files(scans: Sequence[FileScan], rules: Rules) -> Joined:
    """Return what many files become together.

    Raise OptionError or UnsupportedError, with all that stands against it in one table, if they cannot be joined.
    """
    if not scans:
        raise OptionError("there are no files to join")
    check_dimension(scans, rules)
    order = order_files(scans, rules)
    scans = [scans[i] for i in order.tolist()]
    findings = Findings(FileNames([scan.path for scan in scans]))
    context = Context(
        scans=scans,
        rules=rules,
        findings=findings,
        cuts=cut_scopes(scans, rules, findings),
        coordinates=frozenset(list_named(scans, ("coordinates",))),
        bounds=list_named(scans, ("bounds", "climatology")),
    )
    variables: dict[str, JoinedVariable] = {}
    tables: list[AttributeTable] = []
    for path in dict.fromkeys(path for scan in scans for path in scan.variables):
        joined = join_variable(context, path)
        if joined is not None:
            variables[path] = joined[0]
            tables += joined[1]
    groups: dict[str, Mapping[str, Any]] = {}
    details: dict[str, Mapping[str, Any]] = {}
    for path in dict.fromkeys(path for scan in scans for path in scan.groups):
        groups[path], details[path], found = join_group(context, path)
        tables += found
    if any(row.kind == "refused" for row in findings.rows):
        raise refuse_differences(findings.rows)
    return Joined(
        dim=rules.dim,
        order=order,
        variables=variables,
        groups=groups,
        group_details=details,
        tables=tuple(tables),
        differences=tuple(findings.rows),
        to_compare=context.to_compare,
    )


def join_group(context: Context, path: str) -> tuple[dict[str, Any], dict[str, Any], list[AttributeTable]]:
    """Return the attributes of a group, its details, and the tables of those that are kept by file."""
    scans, findings = context.scans, context.findings
    elsewhere = [i for i, scan in enumerate(scans) if path in scan.elsewhere]
    if elsewhere:
        what = "it is in another file, behind an external link"
        findings.leave_out(path, what, elsewhere)
    kinds = [("group" if path in scan.groups else "variable" if path in scan.variables else "") for scan in scans]
    if "variable" in kinds:
        findings.leave_out(path, "a group in other files", [i for i, kind in enumerate(kinds) if kind == "variable"])
    nodes = [
        NodeAttributes(scan.groups[path], scan.details.get(path, EMPTY)) if path in scan.groups else None
        for scan in scans
    ]
    return join_attributes(path, nodes, handled=(), rules=context.rules, findings=findings)


def check_dimension(scans: Sequence[FileScan], rules: Rules) -> None:
    """Raise OptionError if no variable has the dimension, or some has the new one."""
    names = {name for scan in scans for item in scan.variables.values() for name in item.schema.dimensions}
    if rules.new and rules.dim in names:
        raise OptionError(f"new_dim={rules.dim!r}: the files have this dimension; dim={rules.dim!r} joins along it")
    if not rules.new and rules.dim not in names:
        shown = ", ".join(sorted(names)[:8]) or "none"
        close = get_close_matches(rules.dim, sorted(names), 1)
        advice = f"close to it: {close[0]}" if close else f"new_dim={rules.dim!r} makes it"
        raise OptionError(f"dim={rules.dim!r}: no variable has this dimension; they have {shown}; {advice}")


def order_files(scans: Sequence[FileScan], rules: Rules) -> NDArray[np.int64]:
    """Return the numbers of the files in the order in which they are joined."""
    if not rules.sort:
        return np.arange(len(scans))
    named = [f"/{rules.sort.strip('/')}"] if isinstance(rules.sort, str) else None
    paths = named or list_scopes(scans, rules.dim)
    for path in paths:
        values = read_coordinate([scan.variables.get(path) for scan in scans])
        if values is not None and all(np.isfinite(item).all() for item in values):
            return sort_files(values)
    if named and not any(named[0] in scan.variables for scan in scans):
        close = name_close(named[0], sorted({path for scan in scans for path in scan.variables}))
        raise OptionError(f"sort={rules.sort!r}: no file has this variable{close}")
    what = f"{' and '.join(paths)} does not have" if paths else f"no coordinate of {rules.dim} has"
    raise OptionError(f"sort={rules.sort!r}: {what} numbers to sort by in each file; give the files in their order")


def list_scopes(scans: Sequence[FileScan], dim: str) -> list[str]:
    """Return the paths of the coordinates of a dimension, that of the upper group first."""
    found = {
        path
        for scan in scans
        for path, item in scan.variables.items()
        if path.rpartition("/")[2] == dim and is_coordinate(item, dim)
    }
    return sorted(found, key=lambda path: (path.count("/"), path))


def cut_scopes(scans: Sequence[FileScan], rules: Rules, findings: Findings) -> dict[str, Cuts]:
    """Return what each file contributes along the dimension, by the path of its coordinate."""
    cuts = {}
    for path in list_scopes(scans, rules.dim):
        found = [scan.variables.get(path) for scan in scans]
        values = read_coordinate(found)
        if values is None:
            findings.note(path, "the coordinate has no numbers to compare in each file", [], action="joined as given")
        elif all(len(one) == measure(item, rules.dim) for one, item in zip(values, found, strict=True)):
            unit = name_unit(next(item for item in found if item is not None))
            in_store = [scan.in_store for scan in scans]
            cuts[path] = cut_files(path, values, rules=rules, findings=findings, unit=unit, in_store=in_store)
    return cuts


def list_named(scans: Sequence[FileScan], attributes: Sequence[str]) -> dict[str, str]:
    """Return the paths of variables that others name in these attributes, with the path of one that does."""
    found: dict[str, str] = {}
    seen: set[tuple[int, str]] = set()
    for scan in scans:
        for path, item in scan.variables.items():
            group = parent_of(path).rstrip("/")
            if (id(item.attributes), group) in seen:
                continue
            seen.add((id(item.attributes), group))
            for text in (item.attributes.get(name) for name in attributes):
                if isinstance(text, str):
                    found |= {f"{group}/{name}": path for name in text.split()}
    return found
