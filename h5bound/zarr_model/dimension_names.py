"""Names of the dimensions of all datasets of a group, from their dimension scales.

:mod:`h5bound.hdf5.dimension_scales` reads the scales of one dataset. xarray needs names that fit together in a group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.hdf5.dimension_scales import Dimensions


@dataclass(frozen=True, slots=True)
class GroupNames:
    """Names of the dimensions of all datasets of one group."""

    names: dict[str, tuple[str | None, ...]]
    """Names by the dataset's link name, without netCDF dimensions that have no variable."""
    notes: dict[str, str]
    """Renamed dimensions, by link name."""
    next_phony: int
    """Number of the next phony dimension, for the groups below."""


def name_dimensions(group: Mapping[str, Dimensions], start: int = 0) -> GroupNames:
    """Return names for the dimensions of all datasets of one group, given by link name in the order of the file.

    A dimension without a scale has the name of a dimension of the group with the same length, or if there is none,
    ``phony_dim_N`` with N from `start` on; two of one length in one dataset are two dimensions (as in h5netcdf). xarray
    refuses a group where one name has two lengths. HDF5 allows that, and netCDF writes it for a variable that was not
    filled along an unlimited dimension: the shorter ones are renamed to ``name_LENGTH``.

    >>> from h5bound.hdf5.dimension_scales import Dimensions
    >>> unnamed = Dimensions(names=(None, None), shape=(3, 3))
    >>> name_dimensions({"a": unnamed}).names
    {'a': ('phony_dim_0', 'phony_dim_1')}
    """
    assigned, next_phony = _assign_names(group, start)
    names = {name: assigned.get(name, dims.names) for name, dims in group.items() if not dims.bare}
    longest: dict[str | None, int] = {}
    for name, dimensions in names.items():
        for dimension, length in zip(dimensions, group[name].shape, strict=True):
            longest[dimension] = max(length, longest.get(dimension, 0))
    notes = {}
    for name, dimensions in names.items():
        pairs = list(zip(dimensions, group[name].shape, strict=True))
        short = [d for d, length in pairs if d is not None and length < longest[d]]
        if short:
            names[name] = tuple(f"{d}_{length}" if d in short else d for d, length in pairs)
            notes[name] = f"shorter than its dimension {', '.join(short)}: renamed to {names[name]}"
    return GroupNames(names, notes, next_phony)


def _assign_names(group: Mapping[str, Dimensions], start: int) -> tuple[dict[str, tuple[str | None, ...]], int]:
    """Return names for all dimensions without a scale, and the next N."""
    candidates: dict[int, list[str]] = {}
    fixed: Counter[int] = Counter()
    for name, dims in group.items():
        if dims.scale and dims.shape:
            candidates.setdefault(dims.shape[0], []).append(name)
            fixed[dims.shape[0]] += 0 if dims.unlimited else 1
    unnamed = {n: d for n, d in group.items() if not d.scale and d.shape and not any(d.names)}
    needed: Counter[int] = Counter()
    for dims in unnamed.values():
        needed |= Counter(dims.shape)
    for length, count in needed.items():
        for _ in range(fixed[length], count):
            candidates.setdefault(length, []).append(f"phony_dim_{start}")
            start += 1
    names: dict[str, tuple[str | None, ...]] = {}
    for name, dims in unnamed.items():
        unused = {length: iter(candidates[length]) for length in dims.shape}
        names[name] = tuple(next(unused[length]) for length in dims.shape)
    return names, start
