"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable


class Source(Protocol):
    """Something that can be opened, checked and closed."""

    @property
    def key(self) -> Hashable:
        """Equal for the sources of one process that share one open."""

    exclusive: ClassVar[bool]  # whether it can be open only once in a process

    def open(self) -> Any:
        """Open it and give back the opened thing."""

    def reader(self, opened: Any) -> Any:
        """Give what the blocks of this source are read from: others may share the opened thing."""

    def check(self, opened: Any) -> None:
        """Raise SourceChangedError if the opened thing is no longer what the array was made from."""

    def close(self, opened: Any) -> None:
        """Close the opened thing."""
