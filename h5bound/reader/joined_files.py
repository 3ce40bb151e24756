"""The datasets of many files, which are joined along a dimension by its name."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from h5bound.buffers import hash_bits
from h5bound.errors import H5BoundError, OptionError, UnsupportedError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.dimension_scales import read_dimension_names
from h5bound.hdf5.references import ReferencePaths
from h5bound.reader.many_datasets import find_in_files, scan_datasets
from h5bound.reader.many_files import ManyFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import h5py

    from h5bound.graph.windows import Lifecycle
    from h5bound.hdf5.dataset import DatasetRecord
    from h5bound.reader.many_datasets import LocatedDataset
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source

MAX_COMPARED = 1 << 20
"""Most bytes of a dataset without the dimension whose values are read to compare them with those of other files."""


class DetailsReader:
    """Reads what joining by the name of a dimension needs of a dataset."""

    def __init__(self, dim: str) -> None:
        self.dim = dim
        self.version = dim, MAX_COMPARED
        self._paths: WeakKeyDictionary[OpenFile, ReferencePaths] = WeakKeyDictionary()

    def __call__(
        self, opened: OpenFile, dataset: h5py.Dataset, record: DatasetRecord
    ) -> tuple[tuple[str | None, ...], str | None]:
        """Return the names of the axes of a dataset; of a small one without the dimension also a digest of its values.

        Values that cannot be read have none: whoever computes them is told why.
        """
        if opened not in self._paths:
            self._paths[opened] = ReferencePaths(opened.file)
        dims = read_dimension_names(dataset, self._paths[opened])
        is_small = record.dtype is not None and not record.dtype.hasobject and dataset.nbytes <= MAX_COMPARED
        if self.dim in dims or not is_small:
            return dims, None
        try:
            block = opened.read(record.path, tuple(slice(0, extent) for extent in record.shape or ()))
        except (H5BoundError, *READ_ERRORS):
            return dims, None
        return dims, hash_bits(block).hex()


class JoinedFiles:
    """Many files whose datasets have the paths of those of the first one.

    Raise H5BoundError if a file cannot be opened. Files that were scanned before are not opened.
    """

    def __init__(
        self,
        sources: Sequence[H5Source],
        dim: str,
        records: Mapping[str, DatasetRecord],
        *,
        allowed: tuple[Path, ...],
        max_open: int,
        make_lifecycle: Callable[[ManyFiles], Lifecycle],
    ) -> None:
        self._sources = sources
        self._records = dict(records)
        self._allowed = allowed
        self._max_open, self._make_lifecycle = max_open, make_lifecycle
        self._details = DetailsReader(dim)
        self._scans = scan_datasets(sources, tuple(records), allowed, details=self._details)
        for source in sources:
            source.make_exclusive_for({record.dtype for record in records.values()})
        files = ManyFiles(sources, max_open=max_open)
        self._lifecycle, self.path = make_lifecycle(files), files.path
        dims = {name for scan in self._scans[:1] for _, dataset in scan.values() for name in dataset.dims or () if name}
        if dim not in dims:
            raise OptionError(
                f"dim={dim!r}: no dataset of {sources[0].path} has a dimension of this name; "
                f"there are {', '.join(sorted(dims)) or 'none'}"
            )

    def find(self, path: str) -> tuple[Lifecycle, DatasetRecord, Sequence[LocatedDataset], int | None]:
        """Return the datasets at a path, with the lifecycle of their files, the record of the first, and the axis.

        The axis is None if they do not have the dimension. Raise the errors of `h5bound.from_hdf5`; they name the file.
        """
        datasets = [scan.get(path) for scan in self._scans]
        located = [item for item, source in zip(datasets, self._sources, strict=True) if item and item[0] is source]
        record, lifecycle = self._records.get(path), self._lifecycle
        if record is None or len(located) < len(datasets):  # a link, perhaps to another file, or some do not have it
            names = [path] * len(self._sources)
            record, located = find_in_files(self._sources, names, self._allowed, details=self._details)
            lifecycle = self._make_lifecycle(ManyFiles([source for source, _ in located], max_open=self._max_open))
        self._check_lengths(path, located)
        return lifecycle, record, located, self._find_axis(located[0][1].dims)

    def show(self, record: DatasetRecord) -> DatasetRecord:
        """Return the record of a dataset of the first file with the shape of the array of all, where all have it."""
        datasets = [scan.get(record.path) for scan in self._scans]
        shapes = [item[1].shape for item in datasets if item is not None]
        axis = self._find_axis(datasets[0][1].dims) if datasets[0] is not None else None
        if axis is None or len(shapes) < len(datasets) or record.shape is None:
            return record
        length = sum(shape[axis] if axis < len(shape) else 0 for shape in shapes)
        return replace(record, shape=(*record.shape[:axis], length, *record.shape[axis + 1 :]))

    def describe_lack(self, path: str) -> str:
        """Return in how many of the files a dataset can be read; "" if that is all, or none."""
        count, total = sum(path in scan for scan in self._scans), len(self._scans)
        return f"only in {count:,} of {total:,} files" if 0 < count < total else ""

    def refuse_group(self, name: str) -> UnsupportedError:
        """Return the error for a group that is in another file."""
        return UnsupportedError(f"{name!r} of {self.path} is a group of another file: pass the files that have it")

    def _check_lengths(self, path: str, located: Sequence[LocatedDataset]) -> None:
        """Raise UnsupportedError if a dataset is shorter than its dimension: after it others have their elements."""
        dim, scale = self._details.dim, self._find_scale(path)
        for number, (source, dataset) in enumerate(located if scale in self._records else ()):
            axis = self._find_axis(dataset.dims)
            if axis is not None and dataset.shape[axis] < self._lengths[scale][number]:
                raise UnsupportedError(
                    f"dataset {path!r} of {source.path} is shorter than its dimension {dim}: it has "
                    f"{dataset.shape[axis]:,} of {self._lengths[scale][number]:,} elements; from_hdf5 joins those"
                )

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """How long the dimension is in each file, by the path of its scale: as its longest dataset, as in netCDF."""
        found: dict[str, list[int]] = {}
        for number, scan in enumerate(self._scans):
            for path, (_, dataset) in scan.items():
                axis = self._find_axis(dataset.dims)
                if axis is not None:
                    lengths = found.setdefault(self._find_scale(path), [0] * len(self._scans))
                    lengths[number] = max(lengths[number], dataset.shape[axis])
        return found

    def _find_scale(self, path: str) -> str:
        """Return the path of the dataset with the name of the dimension that is next above a dataset, if any is."""
        group, dim = path.rpartition("/")[0], self._details.dim
        while group and f"{group}/{dim}" not in self._records:
            group = group.rpartition("/")[0]
        return f"{group}/{dim}"

    def _find_axis(self, dims: tuple[str | None, ...] | None) -> int | None:
        """Return the axis of the dimension, None if there is none."""
        return dims.index(self._details.dim) if dims and self._details.dim in dims else None
