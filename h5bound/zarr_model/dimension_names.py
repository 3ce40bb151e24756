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
    from collections.abc import Set as AbstractSet

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
class FileDimensions:
    """The dimensions of a whole file that have scales."""

    unlimited: Mapping[str, int]
    """Length of each unlimited dimension by the path of its scale: that of its longest dataset, as netCDF has it."""
    by_name: Mapping[str, AbstractSet[int]]
    """All lengths of the dimensions of one name."""

    @classmethod
    def of(cls, datasets: Collection[Dimensions]) -> FileDimensions:
        """Return those of some datasets."""
        unlimited = {dims.scales[0]: 0 for dims in datasets if dims.scale and dims.unlimited and dims.scales}
        by_name: dict[str, set[int]] = {}
        for dims in datasets:
            for name, path, length in zip(dims.names, dims.scales, dims.shape, strict=bool(dims.scales)):
                if path in unlimited:
                    unlimited[path] = max(length, unlimited[path])
                if name is not None:
                    by_name.setdefault(name, set()).add(length)
        return cls({path: length for path, length in unlimited.items() if path is not None}, by_name)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the names of a group depend on in the groups above."""

    next_phony: int = 0
    """Number of the next phony dimension."""
    scales: Mapping[str, int] = field(default_factory=dict)
    """Lengths of their scales, by name."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Lengths of their dimensions that have labels as names."""


def name_dimensions(
    group: Mapping[str, Dimensions], around: Surroundings = Surroundings(), *, file: FileDimensions | None = None
) -> GroupNames:
    """Return names for the dimensions of all datasets of one group, given by link name in the order of the file.

    A dimension without a scale has its label as name. If no dimension of a dataset has either, each has the name of a
    scale of the group with the same length, or if there is none, ``phony_dim_N`` with N from `around` on; two of one
    length in one dataset are two dimensions. A dataset of one dimension that is called like a scale of a group above,
    and is as long, has that dimension (all as in h5netcdf).

    xarray refuses a group where one name has two lengths. HDF5 allows that, and netCDF writes it for a variable that
    was not filled along an unlimited dimension: the shorter ones are renamed to ``name_LENGTH``. So are labels that
    would have another length in a group above or below, since xarray refuses such a tree, or the name of a scalar.
    `file` has the dimensions of all groups; None if there is one group.

    >>> from h5bound.hdf5.dimension_scales import Dimensions
    >>> unnamed = Dimensions(names=(None, None), shape=(3, 3))
    >>> name_dimensions({"a": unnamed}).names
    {'a': ('phony_dim_0', 'phony_dim_1')}
    >>> name_dimensions({"a": Dimensions(names=("x", None), shape=(3, 4))}).names
    {'a': ('x', 'length_4')}
    """
    file = file or FileDimensions.of(group.values())
    assigned, next_phony = _assign_names(group, around, file)
    variables = {name: dims for name, dims in group.items() if not dims.bare}
    scalars = frozenset(name for name, dims in variables.items() if not dims.shape)
    labels = {name: _choose_labels(dims, around, file, scalars=scalars) for name, dims in variables.items()}
    names: dict[str, tuple[str, ...]] = {}
    for name, dims in variables.items():
        known = tuple(own or label for own, label in zip(dims.names, labels[name], strict=True))
        names[name] = name_by_length(dims.shape, known if any(known) else assigned.get(name, ()))
    final = _rename_short(variables, names, file)
    scales = {name: dims.shape[0] for name, dims in group.items() if dims.scale and dims.shape}
    labelled = {
        axis[0]: axis[1]
        for name, dims in variables.items()
        for axis in zip(final[name], dims.shape, labels[name], strict=True)
        if axis[2]
    }
    below = Surroundings(next_phony, {**around.scales, **scales}, {**around.labels, **labelled})
    notes = {name: _describe(names[name], final[name], labels[name]) for name in variables}
    return GroupNames(final, {name: text for name, text in notes.items() if text}, below)


def _describe(names: tuple[str, ...], final: tuple[str, ...], labels: tuple[str | None, ...]) -> str:
    """Return in what the dimensions of a dataset differ from those that netCDF's readers see; "" if in nothing."""
    texts = []
    if any(labels):
        called = ", ".join(filter(None, labels))
        texts.append(f"its dimensions are called by their labels, {called}; h5netcdf calls them phony_dim_N")
    if names != final:
        short = [old for old, new in zip(names, final, strict=True) if old != new]
        filled = "" if any(labels) else "; netCDF's readers fill it up with the fill value"
        texts.append(f"shorter than its dimension {', '.join(short)}: renamed to {final}{filled}")
    return "; ".join(texts)


def _choose_labels(
    dims: Dimensions, around: Surroundings, file: FileDimensions, *, scalars: AbstractSet[str]
) -> tuple[str | None, ...]:
    """Return the names that the labels of a dataset give to those of its dimensions that have no scale.

    xarray refuses a group with a dimension that is called like one of its `scalars`.
    """
    if not dims.labels:
        return (None,) * len(dims.names)
    chosen: list[str | None] = []
    for name, label, length in zip(dims.names, dims.labels, dims.shape, strict=True):
        others = {*file.by_name.get(label or "", ()), around.labels.get(label or "", length)}
        fits = others <= {length} and label not in scalars
        chosen.append(None if name or not label else label if fits else f"{label}_{length}")
    return tuple(chosen)


def name_by_length(shape: Sequence[int], names: Sequence[str | None] = ()) -> tuple[str, ...]:
    """Return the names of the axes of an array: `names` for the first ones.

    An axis that nothing names is ``length_N``, which fits in with all others of a group.

    >>> name_by_length((2, 3, 3), ("x",))
    ('x', 'length_3', 'length_3_2')
    """
    chosen_names: list[str] = []
    for length, name in zip(shape, [*names, *[None] * (len(shape) - len(names))], strict=True):
        number, chosen = 1, name or f"length_{length}"
        while name is None and chosen in chosen_names:
            number += 1
            chosen = f"length_{length}_{number}"
        chosen_names.append(chosen)
    return tuple(chosen_names)


def _rename_short(
    group: Mapping[str, Dimensions], names: Mapping[str, tuple[str, ...]], file: FileDimensions
) -> dict[str, tuple[str, ...]]:
    """Return the names with new ones for each axis that is shorter than its dimension."""
    current = dict(names)
    while True:
        longest: dict[str, int] = {}
        for name, dimensions in current.items():
            dims = group[name]
            for axis, (dimension, length) in enumerate(zip(dimensions, dims.shape, strict=True)):
                path = dims.scales[axis] if dims.scales and dimension == dims.names[axis] else None
                longest[dimension] = max(length, longest.get(dimension, 0), file.unlimited.get(path or "", 0))
        before = dict(current)
        for name, dimensions in before.items():
            pairs = zip(dimensions, group[name].shape, strict=True)
            current[name] = tuple(d if length == longest[d] else f"{d}_{length}" for d, length in pairs)
        if current == before:
            return current


def _assign_names(
    group: Mapping[str, Dimensions], around: Surroundings, file: FileDimensions
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Return names for all dimensions of datasets without any scale, and the next N."""
    candidates: dict[int, list[str]] = {}
    fixed: Counter[int] = Counter()
    for name, dims in group.items():
        if dims.scale and dims.shape:
            length = max(dims.shape[0], file.unlimited.get(dims.scales[0] or "", 0) if dims.scales else 0)
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
