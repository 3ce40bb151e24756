"""Names of a dataset's dimensions, from HDF5 dimension scales and netCDF-4's use of them.

netCDF-4 keeps its dimensions as HDF5 dimension scales and says more in hidden attributes ("NetCDF-4 File
Format Specification", Unidata). They are consumed here: the names go to the array's ``dimension_names``, what
else they say into the details, so that nothing is lost.
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
    """by the dataset's link name; netCDF dimensions without a variable are left out"""
    notes: dict[str, str]
    """what had to be renamed, by link name"""
    after: int
    """number of the next phony dimension, for groups below"""


def name_dimensions(group: Mapping[str, Dimensions], start: int = 0) -> GroupNames:
    """Return names for the dimensions of all datasets of one group, as xarray has to find them together.

    A dimension without a scale goes by a dimension of the group that is as long, and where there is none is
    called ``phony_dim_N``; two of one length in one dataset are two dimensions (as h5netcdf has it). xarray
    refuses a group where one name has two lengths, which HDF5 allows and netCDF makes of an unlimited dimension
    that a variable was not filled along: the shorter are called ``name_LENGTH``.

    Parameters
    ----------
    group
        The datasets of one group by their link names, in the order of the file.
    start
        The first N: how many phony dimensions the groups above have.

    Examples
    --------
    >>> from h5bound.hdf5.dimension_scales import Dimensions
    >>> plain = Dimensions((None, None), (3, 3), False, False, False, frozenset(), {})
    >>> name_dimensions({"a": plain}).names
    {'a': ('phony_dim_0', 'phony_dim_1')}
    """
    drawn, after = _draw_phony(group, start)
    names = {name: drawn.get(name, dims.names) for name, dims in group.items() if not dims.bare}
    longest: dict[str | None, int] = {}
    for name, found in names.items():
        for dimension, length in zip(found, group[name].shape, strict=True):
            longest[dimension] = max(length, longest.get(dimension, 0))
    notes = {}
    for name, found in names.items():
        pairs = list(zip(found, group[name].shape, strict=True))
        short = [d for d, length in pairs if d is not None and length < longest[d]]
        if short:
            names[name] = tuple(f"{d}_{length}" if d in short else d for d, length in pairs)
            notes[name] = f"shorter than its dimension {', '.join(short)}: renamed to {names[name]}"
    return GroupNames(names, notes, after)


def _draw_phony(group: Mapping[str, Dimensions], start: int) -> tuple[dict[str, tuple[str | None, ...]], int]:
    """Return names for the datasets that no scale names, and the next N."""
    pools: dict[int, list[str]] = {}
    lengths: Counter[int] = Counter()
    for name, dims in group.items():
        if dims.scale and dims.shape:
            pools.setdefault(dims.shape[0], []).append(name)
            lengths[dims.shape[0]] += 0 if dims.unlimited else 1
    unnamed = {n: d for n, d in group.items() if not d.scale and d.shape and not any(d.names)}
    missing: Counter[int] = Counter()
    for dims in unnamed.values():
        missing |= Counter(dims.shape)
    for length, count in missing.items():
        for _ in range(lengths[length], count):
            pools.setdefault(length, []).append(f"phony_dim_{start}")
            start += 1
    return {name: _draw(dims.shape, pools) for name, dims in unnamed.items()}, start


def _draw(shape: tuple[int, ...], pools: dict[int, list[str]]) -> tuple[str, ...]:
    seen: Counter[int] = Counter()
    names = []
    for length in shape:
        names.append(pools[length][seen[length]])
        seen[length] += 1
    return tuple(names)
