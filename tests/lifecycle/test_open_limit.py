"""The limit of open sources: who is closed for another one, and what the holders notice of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from h5bound.errors import SourceChangedError
from h5bound.lifecycle import open_limit as limits
from h5bound.lifecycle.handle import Handle, Window
from h5bound.lifecycle.session import Session
from tests.lifecycle.test_session import CountingSource

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW = Window("w", only_window=True)


class FileLikeSource(CountingSource):
    """A source that takes two descriptors, and may once find none left."""

    descriptors = 2
    exhausted = False

    def open(self) -> str:
        """Count, or fail as where no descriptor is left."""
        if self.exhausted:
            self.exhausted = False
            raise RuntimeError("cannot be opened") from OSError(errno.EMFILE, "Too many open files")
        return super().open()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[list[FileLikeSource], list[Session]]:
    """Return three sources that are held where there is room for three, the first one used last."""
    monkeypatch.setattr(limits, "MOST_DESCRIPTORS", 6)
    sources = [FileLikeSource(f"held-{i}") for i in range(3)]
    sessions = list(map(Session, sources))
    for session in [*sessions, sessions[0]]:
        session.acquire(("a", "w"))
        session.release()
    return sources, sessions


def closes(sources: Sequence[CountingSource]) -> list[int]:
    return [source.calls["close"] for source in sources]


def test_the_least_recently_used_is_closed_for_another_and_opened_again(
    held: tuple[list[FileLikeSource], list[Session]],
) -> None:
    sources, sessions = held
    assert closes(sources) == [0, 0, 0]
    other = Session(FileLikeSource("other"))
    other.acquire(None)
    assert closes(sources) == [0, 1, 0]
    sessions[1].acquire(("a", "w"))
    assert closes(sources) == [0, 1, 1]
    sessions[1].release()
    other.release()
    for session in sessions:
        session.release_hold(("a", "w"))
    assert closes(sources) == [1, 2, 1]
    assert [source.calls["open"] for source in sources] == [1, 2, 1]


def test_what_is_read_or_has_changed_stays_open(held: tuple[list[FileLikeSource], list[Session]]) -> None:
    sources, sessions = held
    sources[1].changed = True
    sessions[2].acquire(("a", "w"))
    sessions[0].acquire(("a", "w"))
    other = Session(FileLikeSource("other"))
    other.acquire(None)  # there is no room, and it opens all the same
    assert closes(sources) == [0, 0, 0]
    other.release()
    sessions[2].release()
    sessions[0].release()
    with pytest.raises(SourceChangedError):
        sessions[1].release_hold(("a", "w"))
    for session in sessions[::2]:
        session.release_hold(("a", "w"))
    assert closes(sources) == [1, 1, 1]


def test_a_source_is_not_opened_early_where_another_would_be_closed_for_it(
    held: tuple[list[FileLikeSource], list[Session]],
) -> None:
    sources, sessions = held
    source = FileLikeSource("early")
    handle = Handle(source)
    handle.open(WINDOW)
    assert not source.calls
    with handle.reading(WINDOW):
        assert closes(sources) == [0, 1, 0]
    handle.close(WINDOW)
    for session in sessions:
        session.release_hold(("a", "w"))
    assert closes([source, *sources]) == [1] * 4


def test_a_source_without_descriptors_is_never_closed_for_another(
    held: tuple[list[FileLikeSource], list[Session]],
) -> None:
    sources, sessions = held
    source = CountingSource("resource")
    session = Session(source)
    session.acquire(("a", "w"))
    session.release()
    assert limits.open_limit.suspend_all() == 3
    assert closes([source, *sources]) == [0, 1, 1, 1]
    for other in [*sessions, session]:
        other.release_hold(("a", "w"))
    assert source.calls == {"open": 1, "close": 1}


def test_where_no_descriptor_is_left_the_idle_are_closed_and_the_open_is_tried_again(
    held: tuple[list[FileLikeSource], list[Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, sessions = held
    monkeypatch.setattr(limits, "MOST_DESCRIPTORS", 100)
    source = FileLikeSource("exhausted")
    source.exhausted = True
    session = Session(source)
    session.acquire(None)
    assert closes(sources) == [1, 1, 1]
    session.release()
    source.exhausted = True
    with pytest.raises(RuntimeError, match="cannot be opened"):
        session.acquire(None)
    for other in sessions:
        other.release_hold(("a", "w"))
    assert not limits.open_limit.suspend_all()
