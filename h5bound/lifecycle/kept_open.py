"""A source that stays open between uses that follow one another, like the scan of a file and the read of its chunks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from h5bound.lifecycle.source import Source


class KeptOpen:
    """A source whose first close only sets the opened thing aside, for the next open.

    Each use still checks the source at its end. `set_aside` is called with what is set aside, to let go of what
    the use has opened in it. In another process this is the source itself.
    """

    exclusive: ClassVar[bool] = False

    def __init__(self, source: Source, set_aside: Callable[[Any], None], *, keep: bool) -> None:
        self._source = source
        self._set_aside = set_aside
        self._keep = keep
        self._idle: list[Any] = []  # opened, and used by nobody

    @property
    def key(self) -> Hashable:
        """The key of the source."""
        return self._source.key

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrap, (self._source,)

    def open(self) -> Any:
        """Return what was set aside, or open the source."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._source.open()

    def reader(self, opened: Any) -> Any:
        """Return what the blocks of the source are read from."""
        return self._source.reader(opened)

    def check(self, opened: Any) -> None:
        """Raise SourceChangedError if the source changed since it was opened."""
        self._source.check(opened)

    def close(self, opened: Any) -> None:
        """Set the opened thing aside, or close it if there is one already, or the last use has begun."""
        if self._keep and not self._idle:
            self._set_aside(opened)
            self._idle.append(opened)
        else:
            self._source.close(opened)

    @contextmanager
    def last_use(self) -> Iterator[None]:
        """Enter the last use: from here on a close closes the source, and nothing is open at the end of the context."""
        self._keep = False
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Close what was set aside, and keep nothing open from here on."""
        self._keep = False
        while self._idle:
            self._source.close(self._idle.pop())


@contextmanager
def keep_open(source: Source, set_aside: Callable[[Any], None], *, keep: bool = True) -> Iterator[KeptOpen]:
    """Yield a source that stays open between its uses if `keep`, and is closed at the end of the context."""
    kept = KeptOpen(source, set_aside, keep=keep)
    try:
        yield kept
    finally:
        kept.release()


def _unwrap(source: Source) -> Source:
    return source
