"""The files that the user named, and their sources."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from h5bound.combining.file_names import name_file
from h5bound.combining.scan_one import find_source
from h5bound.errors import H5BoundError, OptionError, SourceChangedError
from h5bound.files.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h5bound.combining.file_scan import FileScan
    from h5bound.combining.scan_one import ScanOptions
    from h5bound.reader.source import H5Source


class FoundFiles:
    """Paths, URLs and open files, of which some may turn out to be none.

    Raise OptionError if one is named twice.
    """

    def __init__(self, files: Sequence[Any], options: ScanOptions) -> None:
        self._files = {name_file(file): file for file in files}
        if len(self._files) < len(files):
            names = Counter(map(name_file, files))
            raise OptionError(f"sources: {names.most_common(1)[0][0]} is named twice; name each file once")
        self.options = options
        self._sources: dict[str, H5Source] = {}

    @property
    def given(self) -> list[Any]:
        """The files as the user named them."""
        return list(self._files.values())

    @property
    def names(self) -> list[str]:
        """Their paths and URLs."""
        return list(self._files)

    def list_local(self) -> list[str]:
        """Return the paths of those that are local."""
        return [name for name in self._files if not is_url(name)]

    @cached_property
    def first(self) -> H5Source:
        """The source of the first one that there is. Raise the error of the first of all if there is none."""
        errors: list[H5BoundError] = []
        for file in self.given:
            try:
                return self.find(file)
            except H5BoundError as error:
                errors = errors or [error]
        raise errors[0]

    def find(self, file: Any) -> H5Source:
        """Return the source of one of the files, in the state in which it was found first; it is not opened."""
        name = name_file(file)
        if name not in self._sources:
            self._sources[name] = find_source(file, self.options)
        return self._sources[name]

    def open(self, scans: Sequence[FileScan]) -> list[H5Source]:
        """Return the sources of the files that were scanned; they are not opened.

        Raise SourceChangedError if one is not in the state in which it was scanned.
        """
        sources = []
        for scan in scans:
            source = self.find(self._files[scan.path])
            if scan.state is not None and source.location.read_state() != scan.state:
                raise SourceChangedError(f"{source.path}: the file changed since it was scanned; combine again")
            is_known = scan.state in (None, source.state)  # else it changed after it was found, before it was scanned
            sources.append(source if is_known else find_source(self._files[scan.path], self.options))
        return sources
