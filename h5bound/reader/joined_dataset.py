"""One dataset of each of many files, joined along an axis: which file has a block, and how it is read from there."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.buffers import is_exact
from h5bound.errors import OptionError, UnsupportedError
from h5bound.hdf5.external_files import EXTERNAL_LAYOUTS
from h5bound.reader.meanings import advise, describe_meanings, is_packed
from h5bound.reader.open_file import DatasetKey, prefetch_regions, read_encoded, read_region

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from h5bound.buffers import Block, Region
    from h5bound.reader.encoded import EncodedBlock
    from h5bound.reader.many_datasets import FileDataset, LocatedDataset
    from h5bound.reader.many_files import OpenFiles


TYPE = re.compile(r"[<>|][iufcS]\d+")
"""Types of plain numbers, and of text of fixed length."""


@dataclass(frozen=True, slots=True)
class DatasetOfFile:
    """The dataset of one of many files."""

    number: int
    """Number of the file."""
    file: str
    """Path of the file."""
    key: DatasetKey
    """The dataset in the file."""
    swapped: bool = False
    """Whether the order of its bytes is not that of the first file."""

    @property
    def path(self) -> str:
        """Path of the dataset in the file."""
        return self.key.path

    @property
    def allowed(self) -> tuple[Path, ...] | None:
        """Real paths of the directories whose files it may read from; None if it reads from no other file."""
        return self.key.allowed


@dataclass(frozen=True, slots=True, eq=False)
class JoinedDataset:
    """The datasets of many files, joined along an axis and cut into blocks, none of which spans two files."""

    datasets: tuple[DatasetOfFile, ...]
    """The datasets in their order."""
    axis: int
    """Number of the axis."""
    starts: tuple[int, ...]
    """Where each dataset starts along the axis."""
    bounds: tuple[tuple[int, ...], ...]
    """Where blocks start and stop along each axis."""

    def locate(self, index: tuple[int, ...]) -> tuple[DatasetOfFile, Region]:
        """Return the dataset that a block is read from, and its region there.

        Axes of an array type come after those of the dataset, and have no bounds.
        """
        number, offsets = 0, [0] * len(self.bounds)
        if len(self.datasets) > 1:
            first = self.bounds[self.axis][index[self.axis]]
            number = bisect_right(self.starts, first) - 1  # of datasets without elements, the one after them
            offsets[self.axis] = self.starts[number]
        return self.datasets[number], tuple(
            slice(stops[i] - offset, stops[i + 1] - offset)
            for stops, i, offset in zip(self.bounds, index, offsets, strict=False)
        )


def check_joinable(located: Sequence[LocatedDataset], axis: int | None) -> None:
    """Raise UnsupportedError, which names the first file that differs, unless all datasets can be joined along an axis.

    Their types, their other axes, and the meaning of their numbers have to be equal. Without an axis, all have to be
    the same, with their values where these were read.
    """
    first_source, first = located[0]
    for source, dataset in located:
        if dataset is first:
            continue
        reason, advice = find_difference(first, dataset, axis)
        if reason:
            raise UnsupportedError(
                f"dataset {dataset.path!r} of {source.path} cannot be joined to that of {first_source.path}: {reason}; "
                f"{advice or 'leave out files, or make them alike'}"
            )


def find_difference(first: FileDataset, other: FileDataset, axis: int | None) -> tuple[str, str]:
    """Return why two datasets cannot be joined along an axis, or are not the same; "" if they can, or are.

    With it how `combine` joins them; "" if it does not either.
    """
    advice = "" if axis is not None else "ZarrStore and combine take that of the first file with differing='first'"
    if other.dtype != first.dtype and (axis is None or not is_swapped(first, other)):
        return f"its type is {other.dtype}, not {first.dtype}", advice or advise_types(first, other)
    if _without(other.shape, axis) != _without(first.shape, axis):
        may = "" if axis is None else f", and only axis {axis} may differ"
        return f"its shape is {other.shape}, not {first.shape}{may}", advice
    if other.dims != first.dims:
        return f"its dimensions are {other.dims}, not {first.dims}", advice
    if other.meaning != first.meaning:
        what = describe_meanings(first.meaning, other.meaning)
        return f"its numbers mean something else: {what}", advice or advise(first.meaning, other.meaning)
    differs = other.digest != first.digest
    return ("its values differ, and it has no axis that is joined", advice) if differs else ("", "")


def advise_types(first: FileDataset, other: FileDataset) -> str:
    """Return how `combine` joins datasets of two types; "" if it does not.

    Where their numbers are packed it may have to unpack them.
    """
    kinds = [TYPE.fullmatch(item.dtype) for item in (first, other)]
    if None in kinds:
        return ""
    one, two = (np.dtype(item.dtype) for item in (first, other))
    if is_packed(first.meaning) or is_packed(other.meaning):
        return "ZarrStore and combine join them with unpack='float64'"
    wider = np.promote_types(one, two)
    exact = is_exact(one, wider) and is_exact(two, wider)
    return "ZarrStore and combine join them with promote=True" if exact else ""


def is_swapped(first: FileDataset, other: FileDataset) -> bool:
    """Return whether the numbers of two datasets have one type, in another order of bytes."""
    if other.dtype == first.dtype or None in (TYPE.fullmatch(first.dtype), TYPE.fullmatch(other.dtype)):
        return False
    return np.dtype(other.dtype) == np.dtype(first.dtype).newbyteorder()


def choose_axis(axis: object, ndim: int, inner: int, *, subject: str) -> int:
    """Return the number of an axis of a dataset; -1 is the last of its array, which `inner` axes of its type end.

    Raise OptionError if there is no such axis, or if it is one of the type.
    """
    number = int(axis) if isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) else ndim
    number += ndim + inner if number < 0 else 0
    if not 0 <= number < ndim:
        shown = f"it has {ndim} axes" if ndim else "it has no axes, being a scalar"
        raise OptionError(f"{subject}: axis={axis!r}: {shown}" + (f", and {inner} of its type" if inner else ""))
    return number


def join_datasets(
    located: Sequence[LocatedDataset],
    axis: int | None,
    bounds: tuple[tuple[int, ...], ...],
    *,
    dtype: str,
    allowed: tuple[Path, ...],
) -> JoinedDataset:
    """Return the joined dataset, or without an axis the one of the first file, whose type is `dtype` as text."""
    keys: dict[tuple[Any, ...], DatasetKey] = {}  # few are different
    datasets = []
    for number, (source, dataset) in enumerate(located if axis is not None else located[:1]):
        swapped = is_swapped(located[0][1], dataset)
        own = str(np.dtype(dataset.dtype)) if swapped else dtype
        parts = dataset.path, dataset.shape, own, allowed if dataset.layout in EXTERNAL_LAYOUTS else None
        if parts not in keys:
            keys[parts] = DatasetKey(path=parts[0], shape=parts[1], dtype=parts[2], allowed=parts[3])
        datasets.append(DatasetOfFile(number=number, file=source.path, key=keys[parts], swapped=swapped))
    starts = tuple(accumulate((dataset.shape[axis] for _, dataset in located), initial=0)) if axis is not None else (0,)
    return JoinedDataset(datasets=tuple(datasets), axis=axis or 0, starts=starts, bounds=bounds)


def join_chunks(located: Sequence[LocatedDataset]) -> tuple[int, ...] | None:
    """Return the chunk shape that blocks are planned with: the largest along each axis, None if none is chunked."""
    shapes = {dataset.chunks for _, dataset in located if dataset.chunks is not None}
    return tuple(map(max, zip(*shapes, strict=True))) if shapes else None


def read_region_of(files: OpenFiles, dataset: DatasetOfFile, region: Region) -> Block:
    """Return a region of the dataset of one file; its slices may have steps."""
    with files.using(dataset.number) as file:
        block = read_region(file, dataset.key, region)
    return block.byteswap().view(block.dtype.newbyteorder()) if dataset.swapped else block


def read_encoded_of(files: OpenFiles, dataset: DatasetOfFile, region: Region) -> Block | EncodedBlock:
    """Return the input of `decode_region`; the values where their bytes are swapped."""
    if dataset.swapped:
        return read_region_of(files, dataset, region)
    with files.using(dataset.number) as file:
        return read_encoded(file, dataset.key, region)


def prefetch_regions_of(files: OpenFiles, reads: list[tuple[DatasetOfFile, Region]]) -> None:
    """Announce regions that will be read, each once: those of each file to its first user."""
    regions: dict[int, list[tuple[DatasetKey, Region]]] = {}
    for dataset, region in reads:
        regions.setdefault(dataset.number, []).append((dataset.key, region))
    for number, of_file in regions.items():
        files.on_first_use(number, partial(prefetch_regions, reads=of_file))


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]
