"""A session: who opens the source, who closes it, and what is left after a failure."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from h5bound.errors import SourceChangedError
from h5bound.lifecycle.handle import Handle, Window
from h5bound.lifecycle.session import Session, find_session, open_source, release_hold

if TYPE_CHECKING:
    from collections.abc import Callable

ALL_BLOCKS = Window("w", only_window=True, clustered=False)


class CountingSource:
    """A source that counts what is done to it, and may change."""

    exclusive = True

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: Counter[str] = Counter()
        self.changed = False

    def open(self) -> str:
        """Count, and return something that is open."""
        self.calls["open"] += 1
        return "opened"

    def reader(self, opened: Any) -> Any:
        """Return the opened object."""
        return opened

    def check(self, opened: Any) -> None:
        """Raise if the source changed."""
        assert opened == "opened"
        if self.changed:
            raise SourceChangedError(f"{self.key}: changed")

    def close(self, opened: Any) -> None:
        """Count."""
        assert opened == "opened"
        self.calls["close"] += 1


@pytest.fixture
def source(request: pytest.FixtureRequest) -> CountingSource:
    return CountingSource(request.node.name)


def test_the_first_hold_opens_and_the_last_release_closes(source: CountingSource) -> None:
    session = Session(source)
    for hold in (("a", "w"), ("b", "w")):
        session.acquire(hold)
        session.release()
    session.release_hold(("a", "w"))
    assert source.calls == {"open": 1}
    session.release_hold(("b", "w"))
    assert source.calls == {"open": 1, "close": 1}


def test_a_failed_handle_keeps_nothing_open_but_readers_in_flight_do(source: CountingSource) -> None:
    session = Session(source)
    session.acquire(("a", "w"))
    session.acquire(("a", "w"))
    session.release(failed="a")
    assert source.calls["close"] == 0
    session.release()
    assert source.calls == {"open": 1, "close": 1}


def test_a_changed_source_is_closed_and_raises(source: CountingSource) -> None:
    session = Session(source)
    session.acquire(("a", "w"))
    session.release()
    source.changed = True
    with pytest.raises(SourceChangedError):
        session.release_hold(("a", "w"))
    assert source.calls == {"open": 1, "close": 1}


def test_expected_windows_keep_the_source_open_until_they_were_released(source: CountingSource) -> None:
    session, windows = Session(source), Counter(w=2)
    session.expect(windows)
    for _ in range(2):
        session.acquire(("a", "w"))
        session.release()
        assert source.calls["close"] == 0
        session.release_hold(("a", "w"))
    assert source.calls == {"open": 1, "close": 1}
    session.expect_no_more(windows)
    assert source.calls == {"open": 1, "close": 1}


def test_a_handle_that_is_collected_closes_the_source(source: CountingSource) -> None:
    handle = Handle(source)
    with handle.reading(ALL_BLOCKS, 0):
        pass
    assert source.calls == {"open": 1}
    del handle
    gc.collect()
    assert source.calls == {"open": 1, "close": 1}


def test_a_block_that_raises_closes_the_source_and_a_later_block_opens_it_again(source: CountingSource) -> None:
    handle = Handle(source)
    with suppress(ZeroDivisionError), handle.reading(ALL_BLOCKS, 0):
        raise ZeroDivisionError
    assert source.calls == {"open": 1, "close": 1}
    with handle.reading(ALL_BLOCKS, 1):
        assert source.calls["open"] == 2
    assert source.calls == {"open": 2, "close": 2}


def test_an_exclusive_source_is_opened_once_for_all_that_need_it(source: CountingSource) -> None:
    with open_source(source), open_source(source):
        session = find_session(source, source.key)
        session.acquire(("a", "w"))
        session.release()
    assert source.calls == {"open": 1}
    assert release_hold(("a", "w")) is None
    assert source.calls == {"open": 1, "close": 1}


class LateLock:
    """A lock that does something once before it is acquired, as another thread may."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.before: list[Callable[[], object]] = []

    def acquire(self, **options: Any) -> bool:
        """Acquire it."""
        while self.before:
            self.before.pop()()
        return self.lock.acquire(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.lock.release()


def test_a_handle_that_another_thread_releases_first_is_no_error(
    source: CountingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = LateLock()
    with monkeypatch.context() as patch:
        patch.setattr("h5bound.lifecycle.session.threading.Lock", lambda: lock)
        session = Session(source)
    session.acquire(("one", "w"))
    session.release()
    lock.before.append(lambda: session.release_handle("other"))
    session.release_handle("one")
    assert source.calls == {"open": 1, "close": 1}
