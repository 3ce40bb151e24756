"""Where each object of a source is in the store: the names of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.hdf5.dimension_scales import NOT_A_COORDINATE
from h5bound.planning.selection import list_paths, parent_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.planning.origins import Origin
    from h5bound.zarr_model.node_names import NodeNamer


def name_targets(origins: Sequence[Origin], name_nodes: NodeNamer) -> dict[str, str]:
    """Return the path in the store of every group, dataset and committed type by its path in the report."""
    siblings: dict[str, list[str]] = {}
    for origin in origins:
        for path in (*list_paths(origin.hierarchy), *origin.hierarchy.committed_types):
            if path != "/":
                siblings.setdefault(parent_of(path), []).append(path.rpartition("/")[2])
    targets = {"/": ""}
    for origin in origins:
        for group in origin.hierarchy.groups:  # a group comes before the groups in it
            names = siblings.get(group, [])
            variables = name_variables(names) if origin.netcdf else {name: name for name in names}
            escaped = name_nodes(list(variables.values()))
            base, path = targets[group], group.rstrip("/")
            targets |= {f"{path}/{name}": f"{base}/{escaped[variables[name]]}".lstrip("/") for name in names}
    return targets


def name_variables(names: Sequence[str]) -> dict[str, str]:
    """Return the names that netCDF-4 readers use for the objects of one group, each once.

    A variable with the name of a dimension that is not its axis has a prefix in the file (netCDF-C,
    ``NON_COORD_PREPEND``). The dimension has no data then, so the two can swap names.

    >>> name_variables(["_nc4_non_coord_x", "x", "t"])
    {'_nc4_non_coord_x': 'x', 'x': '_nc4_non_coord_x', 't': 't'}
    """
    prefixed = {name.removeprefix(NOT_A_COORDINATE): name for name in names if name.startswith(NOT_A_COORDINATE)}
    shown = {name: short for short, name in prefixed.items() if short and not short.startswith(NOT_A_COORDINATE)}
    return {name: shown.get(name) or (prefixed[name] if prefixed.get(name) in shown else name) for name in names}
