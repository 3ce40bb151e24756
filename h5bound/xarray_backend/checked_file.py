"""An open file for h5netcdf, in which no path or reference opens another file that is not allowed.

h5netcdf opens every object of the group that it shows and of the groups above it, and follows links as HDF5 does. So
each path is checked where it is opened: what h5netcdf does not open is not looked at, however the rest of the file is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5d, h5i

from h5bound.errors import DatasetNotFoundError, UnsafeSourceError, naming
from h5bound.hdf5.external_check import check_external_files
from h5bound.hdf5.hierarchy import MAX_OBJECTS
from h5bound.hdf5.links import LinkRecord, count_as_links, decode_name, encode_name, follow_path, list_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from h5py import h5g


@dataclass(slots=True)
class _Checks:
    """What the groups of one file share."""

    file: h5py.File
    allowed: Sequence[Path]  # real paths of directories
    passed: set[bytes] = field(default_factory=set)  # paths that need no file that is not allowed
    links: int = 0  # in the groups that were listed

    def check_path(self, path: bytes) -> None:
        """Check what HDF5 opens at an absolute path, before it follows a link of it."""
        if path in self.passed:
            return
        with naming(self.file.filename, DatasetNotFoundError):
            item, _ = follow_path(self.file.id, path)
        if isinstance(item, LinkRecord):
            raise UnsafeSourceError(
                f"{self.file.filename}: {item.path!r} is {item}, and h5netcdf would follow it; open the file that has "
                "the object itself"
            )
        if isinstance(item, h5d.DatasetID):
            self.check_dataset(item, path)
        self.passed.add(path)

    def check_dataset(self, dataset: h5d.DatasetID, path: bytes) -> None:
        """Check the other files of a dataset: HDF5 may open them to find its shape."""
        plist = dataset.get_create_plist()
        if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
            with naming(f"dataset {decode_name(path or h5i.get_name(dataset) or b'?')!r} of {self.file.filename}"):
                check_external_files(self.file, dataset, self.allowed)

    def count_links(self, group: h5g.GroupID, path: bytes) -> None:
        """Count the links of a group that h5netcdf will list."""
        names = list_names(group, MAX_OBJECTS - self.links)
        self.links += sum(count_as_links(name, decode_name(path)) for name in names)
        if self.links > MAX_OBJECTS:
            raise UnsafeSourceError(f"{self.file.filename}: more than {MAX_OBJECTS:,} objects and links; convert it")


class CheckedGroup(h5py.Group):  # type: ignore[misc]  # h5py is untyped
    """A group whose members are checked before they are opened; its groups are of this class, too."""

    def __init__(self, group: h5g.GroupID, path: bytes, checks: _Checks) -> None:
        super().__init__(group)
        self._path, self._checks = path, checks

    def __getitem__(self, name: Any) -> Any:
        """Open the object at a path or of a reference; raise UnsafeSourceError if that needs a file not allowed."""
        path = self._find_path(name) if isinstance(name, (str, bytes)) else b""
        if path:
            self._checks.check_path(path)
        item = super().__getitem__(name)
        if isinstance(item, h5py.Dataset) and not path:
            self._checks.check_dataset(item.id, path)
        if isinstance(item, h5py.Group):
            return CheckedGroup(item.id, path or h5i.get_name(item.id), self._checks)
        return item

    def __contains__(self, name: Any) -> bool:
        above, _, last = self._find_path(name).rpartition(b"/")
        with suppress(KeyError):
            group = self[above or b"/"]
            # Asked first: the error of `__getitem__` names all similar names.
            is_there = not last or (isinstance(group, CheckedGroup) and group.id.links.exists(last))
            return is_there and bool(self[name])
        return False

    get = Mapping.get  # h5py's would not ask `__getitem__`

    def _find_path(self, name: str | bytes) -> bytes:
        """Return the absolute path of a path from here."""
        path = encode_name(name)
        return path if path.startswith(b"/") else self._path.rstrip(b"/") + b"/" + path

    def __iter__(self) -> Iterator[str]:
        self._checks.count_links(self.id, self._path)
        return super().__iter__()  # type: ignore[no-any-return]


class CheckedFile(CheckedGroup, h5py.File):  # type: ignore[misc]  # h5py is untyped
    """An open file whose members are checked before they are opened."""

    def __init__(self, file: h5py.File, allowed: Sequence[Path]) -> None:
        h5py.File.__init__(self, file.id)
        self._path, self._checks = b"/", _Checks(file=file, allowed=allowed)
