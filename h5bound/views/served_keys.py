"""The keys that a conversion of a file would write, each of which can be read alone.

A key is a metadata document, which is made at once, or a chunk: the bytes of HDF5 as they are where the plan copies
them, else what is read and encoded as a conversion does (:mod:`h5bound.conversion.transfer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from h5bound.stores.tree import read_chunk_coords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from h5bound.files.file_state import FileState
    from h5bound.reader.source import H5Source
    from h5bound.reports.combination import CombinationReport
    from h5bound.reports.conversion import ConversionReport
    from h5bound.views.served_array import ServedArray

SCHEME = "hdf5://"
"""Begins the name of a file that is served as a store."""

CHUNKS = "c"
"""First part of the keys of chunks below those of their array, in format 3."""


@dataclass(frozen=True, eq=False)
class ServedKeys:
    """All keys of a store that is not written."""

    documents: Mapping[str, bytes]
    """Metadata documents by their keys."""
    arrays: dict[str, ServedArray]
    """Arrays by their paths."""
    sources: Sequence[H5Source]
    """The files, by their numbers: the first, and those behind external links."""
    have_ranges: Sequence[bool]
    """Of each of them, whether its bytes may be read where the plan says, without HDF5."""
    external_states: Mapping[str, FileState]
    """States of the files of virtual datasets and of external storage, by path."""
    report: ConversionReport
    """What a conversion would do, as far as it is known before anything is read."""
    zarr_format: int
    combination: CombinationReport | None = None
    """The same of many files."""

    @property
    def joined_files(self) -> Sequence[H5Source]:
        """The file, or those that are joined, in their order."""
        return getattr(self.sources[0], "sources", self.sources[:1])

    @property
    def all_files(self) -> list[H5Source]:
        """All files that are read."""
        return [*self.joined_files, *self.sources[1:]]

    def find_chunk(self, key: str) -> tuple[ServedArray, int] | None:
        """Return the array and the row of the chunk that a key has; None if the store has no such chunk."""
        path = self._find_array(key)
        coords = read_chunk_coords(self.arrays[path].job.array, key[len(path) + 1 :]) if path else None
        row = None if coords is None else self.arrays[path].find_row(coords)
        return None if row is None else (self.arrays[path], row)

    def list_all(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with a prefix."""
        yield from (key for key in self.documents if key.startswith(prefix))
        for path, array in self.arrays.items():
            if f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
                yield from (key for key in array.list_keys() if key.startswith(prefix))

    def list_names(self, prefix: str) -> list[str]:
        """Return the names of keys and folders below a folder, each once."""
        folder = prefix.rstrip("/")
        names, path = dict.fromkeys(self._folders.get(folder, ())), self._find_array(folder)
        if path:
            array, start = self.arrays[path], f"{folder}/"
            if path == folder and self.zarr_format == 3:
                return [*names, *([CHUNKS] if len(array.plan.chunk_coords) else [])]
            names |= dict.fromkeys(
                key[len(start) :].partition("/")[0] for key in array.list_keys() if key.startswith(start)
            )
        return list(names)

    def _find_array(self, path: str) -> str:
        """Return the path of the array that a key or folder is in, "" if it is in none."""
        while path and path not in self.arrays:
            path = path.rpartition("/")[0]
        return path

    @cached_property
    def _folders(self) -> Mapping[str, Mapping[str, None]]:
        """Names of documents and folders below each folder."""
        folders: dict[str, dict[str, None]] = {}
        for key in self.documents:
            while key:
                key, _, name = key.rpartition("/")
                folders.setdefault(key, {})[name] = None
        return folders
