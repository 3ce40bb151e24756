"""A file as the keys of a Zarr store, each read alone: for stores that are not written, and for references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5bound.conversion.transfer import encode_unit, read_unit
from h5bound.conversion.write_store import check_external
from h5bound.files.local import LocalLocation, read_range
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import make_settings
from h5bound.planning.run_options import check_conversion
from h5bound.views.lingering import LingeringFile
from h5bound.views.served_keys import is_fixed, plan_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from h5bound.planning.options import Settings
    from h5bound.reader.source import H5Source
    from h5bound.views.served_keys import ServedArray

    Part = Callable[[int], tuple[int, int]]  # begin and end of what is read, for the number of bytes there are


class View:
    """The keys of a file, and the files that they are read from. With `split`, contiguous data is byte ranges."""

    def __init__(
        self, source: H5Source, *, settings: Settings, allowed: Sequence[Path], skip: bool, split: bool = False
    ) -> None:
        self.source = source
        self.keys = plan_keys(source, settings=settings, limits=Limits(), allowed=allowed, skip=skip, split=split)
        self._files = [LingeringFile(source) for source in self.keys.sources]

    def read(self, key: str, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of a key, None if there is no such key."""
        document = self.keys.documents.get(key)
        if document is not None:
            return document[slice(*part(len(document)))]
        found = self.keys.find_chunk(key)
        return None if found is None else self.read_chunk(*found, part)

    def read_chunk(self, array: ServedArray, row: int, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of the chunk in a row of the plan of an array."""
        place, file = array.find_range(row), self.keys.sources[array.job.origin]
        if place is not None and is_direct(file):
            start, stop = part(place[1])
            with array.naming_chunk(row, file):
                data, state = read_range(file.path, place[0] + start, stop - start)
            file.check_state(state)
            return data
        unit = array.make_unit(row)
        with self._files[array.job.origin].reading() as opened:
            array.check_dataset(opened)
            result = read_unit(opened, array.job, unit)
        if array.job.values.allowed is not None:
            check_external(self.keys.external_states)
        ((_, encoded),) = encode_unit(array.job, unit, result)
        return bytes(encoded)[slice(*part(len(encoded)))]

    def check_unchanged(self) -> None:
        """Raise SourceChangedError or SourceNotFoundError if a file changed since it was planned."""
        for source in self.keys.sources:
            source.check_unchanged()
        check_external(self.keys.external_states)

    def close(self) -> None:
        """Close the files until the next read."""
        for file in self._files:
            file.close()


def make_view_settings(on_unsupported: object, **options: Any) -> Settings:
    """Return the settings of a view, whose chunks are those of HDF5; raise OptionError if an option is invalid."""
    check_conversion(on_unsupported, resume=False, overwrite=False, dry_run=False, verify=False)
    return make_settings(codecs="keep", chunks=None, shards=None, **options)


def is_direct(source: H5Source) -> bool:
    """Return whether bytes of a file may be read without HDF5: a local one that nobody writes."""
    return isinstance(source.location, LocalLocation) and is_fixed(source)
