"""What a compute opens and closes: a source.

A source is a small picklable description. What opening it returns stays in its process.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager


class Source(Protocol):
    """Something that can be opened, checked and closed."""

    @property
    def key(self) -> Hashable:
        """Equal for the sources of one process that share one open."""

    exclusive: bool  # whether it can be open only once in a process

    def open(self) -> Any:
        """Open the source and return what was opened."""

    def reader(self, opened: Any) -> Any:
        """Return what the blocks of this source are read from; sources with equal keys share what was opened."""

    def check(self, opened: Any) -> None:
        """Raise SourceChangedError if the source is no longer what the array was made from."""

    def close(self, opened: Any) -> None:
        """Close what was opened."""


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
