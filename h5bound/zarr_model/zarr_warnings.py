"""Silence zarr's warnings about metadata that h5bound makes on purpose, in one thread and not in the others."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


_lock = Lock()

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class _Text(str):
    """The start of a message, in place of the pattern of a warning filter; it matches in `quiet_zarr` alone."""

    __slots__ = ()

    def match(self, text: str) -> bool:
        """Return whether a warning is silenced."""
        return _quiet.get() and text.startswith(self)


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence zarr's warnings about codecs of numcodecs and data types without a specification.

    They are written where the source has no exact form without them, and the report of a conversion names them.

    `warnings.catch_warnings` is not for threads: it restores the filters of the whole process, and where two threads
    overlap, filters of one stay for ever. So the filters that are added here stay, and match in this context alone;
    zarr passes the context on to its own thread.
    """
    from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

    with _lock:
        for text, category in (("Numcodecs codecs are not", ZarrUserWarning), ("", UnstableSpecificationWarning)):
            entry: Any = ("ignore", _Text(text), category, None, 0)
            filters: Any = warnings.filters  # of which the first that matches decides, and others may replace them
            if entry not in filters[:2]:
                with suppress(ValueError):
                    filters.remove(entry)
                filters.insert(0, entry)
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)
