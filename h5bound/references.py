"""Where HDF5 object references point: the path of the target in the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
from h5py import h5o, h5r

from h5bound.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    """

    __slots__ = ("_file", "_paths")

    def __init__(self, file: h5py.File, paths: Mapping[int, str] | None = None) -> None:
        self._file = file
        self._paths = dict(paths or {})

    def __call__(self, reference: h5py.Reference) -> str:
        """Return the path of the target, beginning with ``/``.

        Raises
        ------
        UnsupportedError
            The target is gone, or has no name left.
        """
        if not reference:
            return ""
        try:
            target = h5r.dereference(reference, self._file.id)
            address = h5o.get_info(target).addr
            path = self._paths.get(address)
            if path is None:
                name = h5r.get_name(reference, self._file.id)
                path = None if name is None else name.decode("utf-8", "surrogateescape")
        except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
            raise UnsupportedError("an object reference whose target is gone") from error
        if not path:
            raise UnsupportedError("an object reference whose target has no name")
        self._paths[address] = path
        return path
