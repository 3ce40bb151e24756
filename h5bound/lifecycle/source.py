"""What a compute opens and closes: a source, and of these the HDF5 file at some place.

A source is a small picklable description. Opening one gives the opened thing, which stays in its process and which only
:mod:`h5bound.lifecycle.session` holds.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager


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


@contextmanager
def open_source(source: Source, around: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[Any]:
    """Open a source and yield what is read from it; check it and close it at the end, after an error as well.

    Raise SourceChangedError or SourceNotFoundError if the source changed meanwhile: that explains what else failed.
    The source is opened and checked inside `around`, which does not see the errors of a read.
    """
    with around():
        opened = source.open()
    try:
        try:
            yield source.reader(opened)
        finally:
            with around():
                source.check(opened)
    finally:
        source.close(opened)
