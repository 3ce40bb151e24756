"""A file as the keys of a Zarr store, each read alone: for stores that are not written, and for references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h5bound.conversion.transfer import encode_unit, read_unit
from h5bound.conversion.write_store import check_external
from h5bound.hdf5.external_files import resolve_directories
from h5bound.planning.options import make_settings
from h5bound.planning.run_options import check_conversion, check_limits
from h5bound.views.lingering import LingeringFile
from h5bound.views.served_keys import plan_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.reader.source import H5Source
    from h5bound.views.served_keys import ServedArray

    Part = Callable[[int], tuple[int, int]]  # begin and end of what is read, for the number of bytes there are


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """The options of a view, checked."""

    settings: Settings
    limits: Limits
    allowed: tuple[Path, ...]
    """Real paths of directories whose files may be read."""
    skip: bool
    """Whether what Zarr cannot hold is left out."""


def make_options(
    *,
    on_unsupported: object,
    allow_external: object,
    max_objects: object,
    max_depth: object,
    max_chunks: object,
    **settings: object,
) -> ViewOptions:
    """Return the options of a view, whose chunks are those of HDF5; raise OptionError if one is invalid."""
    check_conversion(on_unsupported, resume=False, overwrite=False, dry_run=False, verify=False)
    return ViewOptions(
        settings=make_settings(codecs="keep", chunks=None, shards=None, **settings),
        limits=check_limits(max_objects=max_objects, max_depth=max_depth, max_chunks=max_chunks),
        allowed=resolve_directories(allow_external),
        skip=on_unsupported == "skip",
    )


class View:
    """The keys of a file, and the files that they are read from. With `split`, contiguous data is byte ranges."""

    def __init__(self, source: H5Source, options: ViewOptions, *, split: bool = False) -> None:
        self.source = source
        self.keys = plan_keys(
            source, settings=options.settings, limits=options.limits, allowed=options.allowed, skip=options.skip,
            split=split,
        )  # fmt: skip
        self.files = [
            LingeringFile(source, has_ranges=has_ranges)
            for source, has_ranges in zip(self.keys.sources, self.keys.have_ranges, strict=True)
        ]

    def read(self, key: str, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of a key, None if there is no such key."""
        document = self.keys.documents.get(key)
        if document is not None:
            return document[slice(*part(len(document)))]
        found = self.keys.find_chunk(key)
        return None if found is None else self.read_chunk(*found, part)

    def read_chunk(self, array: ServedArray, row: int, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of the chunk in a row of the plan of an array."""
        place, file = array.find_range(row), self.files[array.job.origin]
        if place is not None and file.has_ranges:
            start, stop = part(place[1])
            with array.naming_chunk(row, file.source):
                return file.read_range(place[0] + start, stop - start)
        unit = array.make_unit(row)
        with file.reading() as opened:
            array.check_dataset(opened)
            result = read_unit(opened, array.job, unit)
        if array.job.values.allowed is not None:
            check_external(self.keys.external_states)
        ((_, encoded),) = encode_unit(array.job, unit, result)
        return bytes(encoded)[slice(*part(len(encoded)))]

    def measure(self, array: ServedArray, row: int) -> int:
        """Return the number of bytes of the chunk in a row of the plan of an array."""
        place = array.find_range(row)
        return len(self.read_chunk(array, row)) if place is None else place[1]

    def measure_all(self, prefix: str) -> int:
        """Return the number of bytes of all keys below a folder."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        return sum(len(document) for key, document in self.keys.documents.items() if key.startswith(start)) + sum(
            self.measure(array, row)
            for path, array in self.keys.arrays.items()
            if f"{path}/".startswith(start) or start.startswith(f"{path}/")
            for row in array.find_rows(start)
        )

    def check_unchanged(self) -> None:
        """Raise SourceChangedError or SourceNotFoundError if a file changed since it was planned."""
        for source in self.keys.sources:
            source.check_unchanged()
        check_external(self.keys.external_states)

    def close(self) -> None:
        """Close the files until the next read."""
        for file in self.files:
            file.close()
