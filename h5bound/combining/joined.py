"""What many files become together, as records: which variable has which shape, and what each file contributes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.combining.conversions import Conversion
    from h5bound.combining.file_scan import VariableSchema
    from h5bound.reports.many_files import Difference
    from h5bound.zarr_model.byte_layout import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How files are joined, and what is done where they differ; by default that is refused."""

    dim: str
    """The dimension along which files are joined."""
    new: bool = False
    """Whether the dimension is new, and each file is one element of it."""
    sort: bool | str | None = None
    """Whether files are sorted by the coordinate of `dim`, or by a variable of this path, or joined as given; None as
    given, which has to be the order of the coordinate."""
    overlap: Literal["refuse", "first", "last"] = "refuse"
    """Which file has the values at a coordinate that several files have."""
    differing: Literal["refuse", "first", "drop"] = "refuse"
    """What a variable without `dim` is that is not the same in all files."""
    attributes: Literal["refuse", "first", "table"] = "refuse"
    """Attributes that differ: those of the first file, or by file in a table of the provenance, and not in the node."""
    unpack: Literal["float32", "float64"] | None = None
    """Type of the values of variables whose packing differs."""
    promote: bool = False
    """Whether types that differ become one that holds all their values."""
    missing: Literal["refuse", "fill"] = "refuse"
    """Whether files may lack a variable."""
    zarr_format: int = 3
    """Format of the store, in which fill values have their form."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AttributeTable:
    """An attribute that has several values, which the provenance keeps by file."""

    path: str
    """Path of the variable or group."""
    name: str
    values: tuple[Any, ...]
    """Its different values in JSON."""
    numbers: NDArray[np.int64]
    """Number of its value for each file, in the final order; -1 where there is none."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JoinedVariable:
    """One variable of the store. All arrays by file are in the final order."""

    path: str
    """Path in the files."""
    target: str
    """Path in the store."""
    schema: VariableSchema
    """That of the first file that has it; its type, axes, chunks and fill value are those in the store."""
    axis: int | None
    """The axis along `dim`; None for a variable that is taken from one file."""
    shape: Shape
    starts: NDArray[np.int64]
    """Where the elements of each file begin along the axis, and the end; [0] without one."""
    skips: NDArray[np.int64]
    """How many elements along the axis of each file are left out before its first: others have them too."""
    source: int
    """The file, in the final order, that attributes and schema come from; without an axis the values too."""
    attributes: Mapping[str, Any]
    details: Mapping[str, Any]
    """What its node in the store does not say of it."""
    conversions: Sequence[Conversion | None]
    """What is done with the values of each file; None to take them as they are."""
    missing: NDArray[np.bool_]
    """The files that lack it: their elements have the filler."""
    filler: Array | None = None
    """The value that means that there is none, 0-d, as an attribute says; None for the fill value."""
    copied: NDArray[np.bool_]
    """The files whose encoded chunks are those of the store, where they fall on its grid."""
    unwritten: NDArray[np.bool_]
    """The files whose elements that were never written have the fill value of the store."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Joined:
    """All that the store will have."""

    dim: str
    order: NDArray[np.int64]
    """Numbers of the files as they were given, in the final order."""
    variables: Mapping[str, JoinedVariable]
    """By path in the files, those of the first file first."""
    groups: Mapping[str, Mapping[str, Any]]
    """Attributes of the groups."""
    group_details: Mapping[str, Mapping[str, Any]]
    """What the nodes of the groups do not say of them."""
    tables: tuple[AttributeTable, ...]
    differences: tuple[Difference, ...]
    """What options decided, and notes, for the report."""
    to_compare: Mapping[str, NDArray[np.int64]]
    """Variables without `dim` whose values are to be compared with those of their `source`: the files, in the final
    order, of which no digest is known."""
