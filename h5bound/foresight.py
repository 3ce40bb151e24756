"""Telling a source which blocks will be read before the first of them is."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.windows import Request


class Foreseeing:
    """Reads a block of a request, after what it is read from was told, once, that all of them will be read.

    The order in which dask reads the blocks of a window is nobody's to foresee: only which they are.

    Parameters
    ----------
    read
        Gives a block.
    request
        The blocks of one array in a window of a compute in this process. Pickled to another one nothing is foreseen.
    """

    def __init__(self, read: Callable[..., Any], request: Request) -> None:
        self._read, self._request = read, request
        self._told: Callable[[], Any] = lambda: None
        self._lock = threading.Lock()

    def __call__(self, reader: Any, *args: Any) -> Any:
        """Give a block."""
        blocks = self._request.blocks
        if blocks.foresee is not None and self._told() is not reader:
            with self._lock:
                if self._told() is not reader:
                    blocks.foresee(reader, [blocks.arguments(index) for index in self._request.indices])
                    self._told = weakref.ref(reader)
        return self._read(reader, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unforeseen, (self._read,)


def _unforeseen(read: Callable[..., Any]) -> Callable[..., Any]:
    return read
