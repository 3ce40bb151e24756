"""The files that are joined, in their final order, and what of them several rules need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h5bound.combining.joined_attributes import NodeAttributes
from h5bound.planning.selection import parent_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from h5bound.combining.differences import Findings
    from h5bound.combining.file_scan import FileScan, VariableScan
    from h5bound.combining.joined import Rules
    from h5bound.combining.ordering import Cuts

    ByFile = Sequence[VariableScan | None]  # a variable in each file; None where it is missing

EMPTY: Mapping[str, Any] = {}
"""Details of a node without any."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Context:
    """The files in their final order, and what was decided so far."""

    scans: Sequence[FileScan]
    rules: Rules
    findings: Findings
    cuts: Mapping[str, Cuts]
    """What each file contributes along `dim`, by the path of the coordinate."""
    coordinates: frozenset[str]
    """Paths of variables that others name as their coordinates."""
    bounds: Mapping[str, str]
    """Path of the coordinate by that of its bounds, which have its units."""
    to_compare: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """As :class:`~h5bound.combining.joined.Joined` has it."""

    def find(self, path: str) -> list[VariableScan | None]:
        """Return a variable in each file."""
        return [scan.variables.get(path) for scan in self.scans]

    def describe(self, path: str, by_file: ByFile) -> list[NodeAttributes | None]:
        """Return the attributes of a variable in each file."""
        return [
            None if item is None else NodeAttributes(item.attributes, scan.details.get(path, EMPTY))
            for scan, item in zip(self.scans, by_file, strict=True)
        ]

    def find_scope(self, path: str) -> str | None:
        """Return the path of the coordinate that belongs to a variable; None if there is none."""
        group = parent_of(path)
        while True:
            name = f"{group.rstrip('/')}/{self.rules.dim}"
            if any(is_coordinate(scan.variables.get(name), self.rules.dim) for scan in self.scans):
                return name
            if group == "/":
                return None
            group = parent_of(group)


def find_first(by_file: ByFile) -> tuple[int, VariableScan]:
    """Return the number of the first file that has a variable, and its record there."""
    return next((i, item) for i, item in enumerate(by_file) if item is not None)


def is_coordinate(item: VariableScan | None, dim: str) -> bool:
    """Return whether a variable is the coordinate of a dimension, if it is called like it."""
    return item is not None and item.schema.dimensions in ((dim,), ())
