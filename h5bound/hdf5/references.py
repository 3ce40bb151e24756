"""Where HDF5 object references point: the path of the target in the same file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
from h5py import h5o, h5r

from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


Resolve: TypeAlias = "Callable[[h5py.Reference], str]"


@dataclass(frozen=True, slots=True)
class Addresses:
    """What is known of the objects of a file before its references are read."""

    paths: Mapping[int, str] = field(default_factory=dict)
    """by the object's address (``h5py.h5o.get_info(…).addr``)"""
    complete: bool = False
    """whether these are all objects that a reference may lead to"""

    def needed_for(self, dtype: np.dtype[Any] | None) -> Addresses:
        """Give what is needed to read values of a type, and to be sent to the tasks that do: nothing if it has none."""
        return self if dtype is not None and holds_references(dtype) else Addresses()

    def resolver(self, file: h5py.File) -> ReferencePaths:
        """Give what finds the paths of references that were read from the open file."""
        return ReferencePaths(file, self.paths, complete=self.complete)


def holds_references(dtype: np.dtype[Any]) -> bool:
    """Tell whether values of a type, as h5py has it, may have object references in them.

    >>> holds_references(np.dtype([("a", "i4"), ("b", h5py.vlen_dtype(h5py.ref_dtype))]))
    True
    """
    base = dtype.base
    if base.names is not None:
        return any(holds_references(base[name]) for name in base.names)
    inner = h5py.check_vlen_dtype(base)
    return holds_references(inner) if isinstance(inner, np.dtype) else h5py.check_ref_dtype(base) is not None


class ReferencePaths:
    """The path of an object reference's target, "" for a null reference; each target is looked up once.

    HDF5 finds the name of an object by searching the file, so the address of the target is asked for first.

    Parameters
    ----------
    file
        The open file that the references were read from.
    paths
        Known paths by object address (``h5py.h5o.get_info(…).addr``). An object with several hard links then
        has the path that the caller gave it.
    complete
        Whether these are all there are: no other name is looked for.

    Attributes
    ----------
    listed
        Names of the netCDF dimensions of groups by their numbers, by the group's address:
        :mod:`h5bound.hdf5.dimension_scales` lists each group once.
    """

    __slots__ = ("_complete", "_file", "_found", "_paths", "listed")

    def __init__(self, file: h5py.File, paths: Mapping[int, str] | None = None, *, complete: bool = False) -> None:
        self._file = file
        self._paths = {} if paths is None else paths
        self._found: dict[int, str] = {}
        self.listed: dict[int, dict[int, str]] = {}
        self._complete = complete

    def __call__(self, reference: h5py.Reference) -> str:
        """Return the path of the target, beginning with ``/``.

        Raises
        ------
        UnsupportedError
            The target is gone, has no name left, or is not among the known ones where these are all.
        """
        if not reference:
            return ""
        try:
            target = h5r.dereference(reference, self._file.id)
            address = h5o.get_info(target).addr
            path = self._paths.get(address) or self._found.get(address)
            if path is None and not self._complete:
                name = h5r.get_name(reference, self._file.id)
                path = None if name is None else name.decode("utf-8", "surrogateescape")
        except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
            raise UnsupportedError("an object reference whose target is gone") from error
        if not path:
            reason = "is not carried with it" if self._complete else "has no name"
            raise UnsupportedError(f"an object reference whose target {reason}")
        self._found[address] = path
        return path
