"""Scan one file, here or in another process: a record as text and bytes, or why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import h5py

from h5bound.combining.file_scan import describe_file
from h5bound.combining.scan_form import FORM_VERSION, encode_scan
from h5bound.conversion.provenance import PLANNING_VERSION
from h5bound.errors import H5BoundError
from h5bound.files.scan_cache import make_version
from h5bound.files.urls import is_url
from h5bound.h5py_compat import describe
from h5bound.planning.scan import scan_source
from h5bound.reader.source import H5Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from h5bound.files.file_state import FileState
    from h5bound.files.scan_cache import CachedScan
    from h5bound.hdf5.hierarchy import Limits
    from h5bound.planning.options import Settings
    from h5bound.planning.scan import SourceScan
    from h5bound.reader.open_file import OpenFile

UNRELATED = ("codecs", "chunks", "shards")
"""Settings that no record depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What decides the record of a file."""

    dim: str | None
    """The dimension along which files are joined: there are digests of variables without it."""
    settings: Settings
    limits: Limits
    allowed: tuple[Path, ...] = ()
    """Real paths of directories whose files may be opened."""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    """Options of fsspec for URLs."""

    def make_version(self) -> str:
        """Return the version of records in the cache that depend on these options."""
        settings = {name: value for name, value in self.settings.to_dict().items() if name not in UNRELATED}
        parts = [FORM_VERSION, PLANNING_VERSION, h5py.version.hdf5_version, self.dim]
        return make_version(*parts, settings, asdict(self.limits), [str(path) for path in self.allowed])

    def scan(self, source: H5Source, opened: OpenFile) -> SourceScan:
        """Return the scan of an open file."""
        return scan_source(source, opened, settings=self.settings, limits=self.limits, allowed=self.allowed)


@dataclass(frozen=True, slots=True)
class Scanned:
    """The record of a file, or why there is none."""

    state: FileState | None = None
    entry: CachedScan | None = None
    error: str = ""
    alone: bool = True
    """Whether the record holds as long as the file is in its state: it depends on no other file."""


def scan_one(file: Any, options: ScanOptions) -> Scanned:
    """Return the record of a file, which is open only meanwhile, or why it cannot be read.

    `file` is its source, or its path or URL.
    """
    try:
        source = file if isinstance(file, H5Source) else find_source(file, options)
        with source.opened() as opened:
            record = describe_file(options.scan(source, opened), opened, dim=options.dim)
        return Scanned(source.state, encode_scan(record), alone=not record.external_states)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with this file, others are scanned
        return Scanned(error=describe_error(error))


def scan_paths(paths: Sequence[str], options: ScanOptions) -> list[Scanned]:
    """Return the records of files by their paths or URLs."""
    return [scan_one(path, options) for path in paths]


def find_source(file: Any, options: ScanOptions) -> H5Source:
    """Return the source of a file, which is not opened."""
    return H5Source.of(file, options.storage_options if is_url(file) else None)


def describe_error(error: Exception) -> str:
    """Return why a file cannot be read."""
    return str(error) if isinstance(error, H5BoundError) else f"h5py cannot read it: {describe(error)}"
