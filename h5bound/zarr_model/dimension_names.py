"""Names of the dimensions of all datasets of a group, from their dimension scales.

:mod:`h5bound.hdf5.dimension_scales` reads the scales of one dataset. xarray needs a name for each axis of each array,
and names that fit together in a group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from h5bound.hdf5.dimension_scales import Dimensions


@dataclass(frozen=True, slots=True)
class GroupNames:
    """Names of the dimensions of all datasets of one group."""

    names: dict[str, tuple[str, ...]]
    """Names by the dataset's link name, without netCDF dimensions that have no variable."""
    notes: dict[str, str]
    """Dimensions with other names than netCDF's readers have for them, by link name."""
    below: Surroundings
    """What the groups below need to know."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the names of a group depend on outside of it."""

    next_phony: int = 0
    """Number of the next phony dimension."""
    scales: Mapping[str, int] = field(default_factory=dict)
    """Lengths of the scales of the groups above, by name."""


def name_dimensions(
    group: Mapping[str, Dimensions],
    around: Surroundings = Surroundings(),
    *,
    lengths: Mapping[str, int] | None = None,
) -> GroupNames:
    """Return names for the dimensions of all datasets of one group, given by link name in the order of the file.

    A dimension without a scale has its label as name. If no dimension of a dataset has either, each has the name of a
    scale of the group with the same length, or if there is none, ``phony_dim_N`` with N from `around` on; two of one
    length in one dataset are two dimensions. A dataset of one dimension that is called like a scale of a group above,
    and is as long, has that dimension (all as in h5netcdf).

    xarray refuses a group where one name has two lengths. HDF5 allows that, and netCDF writes it for a variable that
    was not filled along an unlimited dimension: the shorter ones are renamed to ``name_LENGTH``. `lengths` are
    those of :func:`measure_dimensions`, for all groups of the file.

    >>> from h5bound.hdf5.dimension_scales import Dimensions
    >>> unnamed = Dimensions(names=(None, None), shape=(3, 3))
    >>> name_dimensions({"a": unnamed}).names
    {'a': ('phony_dim_0', 'phony_dim_1')}
    >>> name_dimensions({"a": Dimensions(names=("x", None), shape=(3, 4))}).names
    {'a': ('x', 'length_4')}
    """
    lengths = measure_dimensions(group.values()) if lengths is None else lengths
    assigned, next_phony = _assign_names(group, around, lengths)
    names: dict[str, tuple[str, ...]] = {}
    notes: dict[str, list[str]] = {}
    for name, dims in group.items():
        if not dims.bare:
            known, labels = _known_names(dims)
            names[name] = name_by_length(dims.shape, known if any(known) else assigned.get(name, ()))
            if labels:
                notes[name] = [f"the labels {', '.join(labels)} are names of dimensions, which h5netcdf does not know"]
    for name, renamed in _rename_short(group, names, lengths).items():
        short = [old for old, new in zip(names[name], renamed, strict=True) if old != new]
        notes.setdefault(name, []).append(f"shorter than its dimension {', '.join(short)}: renamed to {renamed}")
        names[name] = renamed
    scales = {name: dims.shape[0] for name, dims in group.items() if dims.scale and dims.shape}
    below = Surroundings(next_phony, {**around.scales, **scales})
    return GroupNames(names, {name: "; ".join(texts) for name, texts in notes.items()}, below)


def _known_names(dims: Dimensions) -> tuple[tuple[str | None, ...], list[str]]:
    """Return the names of the dimensions of a dataset by its scales and labels, and which of the labels are names."""
    if not dims.labels:
        return dims.names, []
    pairs = list(zip(dims.names, dims.labels, strict=True))
    return tuple(name or label for name, label in pairs), [label for name, label in pairs if not name and label]


def measure_dimensions(datasets: Collection[Dimensions]) -> dict[str, int]:
    """Return the length of each unlimited dimension by the path of its scale: that of its longest dataset."""
    lengths = {dims.scales[0]: 0 for dims in datasets if dims.scale and dims.unlimited and dims.scales}
    for dims in datasets:
        for path, length in zip(dims.scales, dims.shape, strict=bool(dims.scales)):
            if path in lengths:
                lengths[path] = max(length, lengths[path])
    return {path: length for path, length in lengths.items() if path is not None}


def name_by_length(shape: Sequence[int], names: Sequence[str | None] = ()) -> tuple[str, ...]:
    """Return the names of the axes of an array: `names` for the first ones.

    An axis that nothing names is ``length_N``, which fits in with all others of a group.

    >>> name_by_length((2, 3, 3), ("x",))
    ('x', 'length_3', 'length_3_2')
    """
    found: list[str] = []
    for length, name in zip(shape, [*names, *[None] * (len(shape) - len(names))], strict=True):
        number, chosen = 1, name or f"length_{length}"
        while name is None and chosen in found:
            number += 1
            chosen = f"length_{length}_{number}"
        found.append(chosen)
    return tuple(found)


def _rename_short(
    group: Mapping[str, Dimensions], names: Mapping[str, tuple[str, ...]], lengths: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    """Return new names of the datasets with an axis that is shorter than its dimension."""
    current, renamed = dict(names), True
    while renamed:
        longest: dict[str, int] = {}
        for name, dimensions in current.items():
            dims = group[name]
            for axis, (dimension, length) in enumerate(zip(dimensions, dims.shape, strict=True)):
                path = dims.scales[axis] if dims.scales and dimension == dims.names[axis] else None
                longest[dimension] = max(length, longest.get(dimension, 0), lengths.get(path or "", 0))
        before = dict(current)
        for name, dimensions in before.items():
            pairs = zip(dimensions, group[name].shape, strict=True)
            current[name] = tuple(d if length == longest[d] else f"{d}_{length}" for d, length in pairs)
        renamed = current != before
    return {name: dimensions for name, dimensions in current.items() if dimensions != names[name]}


def _assign_names(
    group: Mapping[str, Dimensions], around: Surroundings, lengths: Mapping[str, int]
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Return names for all dimensions of datasets without any scale, and the next N."""
    candidates: dict[int, list[str]] = {}
    fixed: Counter[int] = Counter()
    for name, dims in group.items():
        if dims.scale and dims.shape:
            length = max(dims.shape[0], lengths.get(dims.scales[0] or "", 0) if dims.scales else 0)
            candidates.setdefault(length, []).append(name)
            fixed[length] += 0 if dims.unlimited else 1
    unnamed = {n: d for n, d in group.items() if not d.scale and d.shape and not any(d.names)}
    start, needed = around.next_phony, Counter[int]()
    for dims in unnamed.values():
        needed |= Counter(dims.shape)
    for length, count in needed.items():
        for _ in range(fixed[length], count):
            candidates.setdefault(length, []).append(f"phony_dim_{start}")
            start += 1
    names: dict[str, tuple[str, ...]] = {}
    for name, dims in unnamed.items():
        unused = {length: iter(candidates[length]) for length in dims.shape}
        names[name] = tuple(next(unused[length]) for length in dims.shape)
        if dims.shape == (around.scales.get(name),):
            names[name] = (name,)
    return names, start
