"""The targets of HDF5 references, as paths in the same file, or in the store that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from json import dumps
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
from h5py import h5o, h5r

from h5bound.errors import UnsupportedError
from h5bound.h5py_compat import READ_ERRORS, read_address
from h5bound.hdf5.links import decode_name
from h5bound.hdf5.region_references import describe_selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


Resolve: TypeAlias = "Callable[[h5py.Reference], str]"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The known objects of a file, to which its references may lead."""

    paths: Mapping[int, str] = field(default_factory=dict)
    """Paths by object address (``h5py.h5o.get_info(…).addr``)."""
    complete: bool = False
    """Whether these are all objects: the path of any other is ""; else HDF5 searches the file for it."""
    link_names: Mapping[str, str] = field(default_factory=dict)
    """The last component in HDF5 of paths where it is another."""

    def move(self, targets: Mapping[str, str]) -> Addresses:
        """Return the addresses with paths in the store, without a leading slash in `targets`."""
        pairs = {path: f"/{target}" for path, target in targets.items()}
        names = {pairs[path]: path.rpartition("/")[2] for path in pairs if not pairs[path].endswith(path)}
        moved = {address: pairs.get(path, path) for address, path in self.paths.items()}
        return Addresses(moved, self.complete, names)

    def needed_for(self, dtype: np.dtype[Any] | None) -> Addresses:
        """Return the addresses for tasks that read values of a type; no paths if the type has no references."""
        return self if dtype is not None and holds_references(dtype) else Addresses()


def holds_references(dtype: np.dtype[Any]) -> bool:
    """Return whether values of a type, as h5py has it, may hold object references.

    >>> holds_references(np.dtype([("a", "i4"), ("b", h5py.vlen_dtype(h5py.ref_dtype))]))
    True
    """
    base = dtype.base
    if base.names is not None:
        return any(holds_references(base[name]) for name in base.names)
    inner = h5py.check_vlen_dtype(base)
    return holds_references(inner) if isinstance(inner, np.dtype) else h5py.check_ref_dtype(base) is not None


def find_object_address(item: h5o.ObjectID) -> int:
    """Return the address of an open object."""
    address = read_address(item)
    return int(h5o.get_info(item).addr) if address is None else address


class ReferencePaths:
    """The path of an object reference's target, "" for a null reference. Each target is looked up once.

    Of a region reference it is JSON text, with what :mod:`h5bound.hdf5.region_references` says of its selection.

    HDF5 finds the name of an object by searching the file, so the `known` objects are looked up first. They decide for
    objects with several hard links. ``seen`` collects the paths, until the caller takes them out; "" is that of targets
    that are no known object. ``netcdf_names`` is a cache of :mod:`h5bound.hdf5.dimension_scales`: names of netCDF
    dimensions by number, by the address of their group.
    """

    __slots__ = ("_file", "_known", "_resolved", "netcdf_names", "seen")

    def __init__(self, file: h5py.File, known: Addresses | None = None) -> None:
        self._file = file
        self._known = known or Addresses()
        self._resolved: dict[int, str] = {}
        self.seen: set[str] = set()
        self.netcdf_names: dict[int, dict[int, tuple[str, str]]] = {}

    def __call__(self, reference: h5py.Reference) -> str:
        """Return the path of the target. Raise UnsupportedError if it has none, unless all objects are known."""
        if not reference:
            return ""
        path, problem = self._find(reference)
        if problem and not self._known.complete:
            raise UnsupportedError(problem)
        self.seen.add(path)
        return self._add_region(reference, path) if isinstance(reference, h5py.RegionReference) else path

    def find(self, item: h5py.Group | h5py.Dataset) -> str:
        """Return the path to which a reference to an open object leads, as `__call__` does."""
        path = self._known.paths.get(find_object_address(item.id))
        if path is None:
            return self(item.ref)
        self.seen.add(path)
        return path

    def link_name(self, path: str) -> str:
        """Return the last component in HDF5 of a path that was returned."""
        return self._known.link_names.get(path, path.rpartition("/")[2])

    def _add_region(self, reference: h5py.RegionReference, path: str) -> str:
        """Return the path of a region reference's target with what it selects there."""
        selection: dict[str, Any] = {}
        try:
            selection = describe_selection(h5r.get_region(reference, self._file.id))
        except READ_ERRORS as error:
            if path:
                raise UnsupportedError("what a region reference selects cannot be read") from error
        return dumps({"path": path, **selection}, ensure_ascii=False)

    def _find(self, reference: h5py.Reference) -> tuple[str, str]:
        """Return the path of the target, or "" and why it has none."""
        try:
            target = h5r.dereference(reference, self._file.id)
            address = find_object_address(target)
            path = self._known.paths.get(address) or self._resolved.get(address)
            if path is None and not self._known.complete:
                name = h5r.get_name(reference, self._file.id)
                path = None if name is None else decode_name(name)
        except READ_ERRORS:
            return "", "the target of an object reference does not exist"
        if not path:
            return "", "the target of an object reference has no name"
        self._resolved[address] = path
        return path, ""
