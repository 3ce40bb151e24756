"""The filters of a dataset, as the file describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Options: TypeAlias = tuple[int, ...]
"""Client data values of a filter: unsigned 32-bit integers."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a pipeline, as the file describes it."""

    id: int
    """Number in the registry of HDF5 filters."""
    flags: int
    """1 for an optional filter, else 0."""
    options: Options
    name: str
    """Name stored with the filter, often empty."""
