"""A source that stays open between its uses."""

from __future__ import annotations

import pickle
from typing import ClassVar

from h5bound.lifecycle.kept_open import keep_open
from h5bound.lifecycle.source import open_source


class CountingSource:
    """A source that counts its opens and closes."""

    exclusive: ClassVar[bool] = False
    key = "source"

    def __init__(self) -> None:
        self.opens, self.closes = 0, 0
        self.tidied: list[int] = []

    def open(self) -> int:
        self.opens += 1
        return self.opens

    def reader(self, opened: int) -> int:
        return opened

    def check(self, opened: int) -> None:
        assert opened

    def close(self, opened: int) -> None:
        assert opened
        self.closes += 1


def test_uses_that_follow_one_another_share_one_open() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append) as kept:
        for _ in range(2):
            with open_source(kept):
                assert (source.opens, source.closes) == (1, 0)
            assert source.tidied[-1] == 1
        with kept.last_use(), open_source(kept):
            pass
        assert (source.opens, source.closes) == (1, 1)


def test_one_opened_thing_is_set_aside_at_most() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append) as kept:
        with open_source(kept), open_source(kept):
            pass
        assert (source.opens, source.closes) == (2, 1)
    assert source.closes == 2


def test_what_the_last_use_does_not_take_is_closed_after_it() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append) as kept:
        with open_source(kept):
            pass
        with kept.last_use():
            assert source.closes == 0
        assert source.closes == 1


def test_without_keeping_each_use_opens_and_closes() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append, keep=False) as kept:
        for number in (1, 2):
            with open_source(kept):
                pass
            assert (source.opens, source.closes) == (number, number)


def test_in_another_process_it_is_the_source_itself() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append) as kept:
        with open_source(kept):
            pass
        assert isinstance(pickle.loads(pickle.dumps(kept)), CountingSource)


def test_after_a_release_each_use_opens_and_closes() -> None:
    source = CountingSource()
    with keep_open(source, source.tidied.append) as kept:
        with open_source(kept):
            pass
        kept.release()
        assert (source.opens, source.closes) == (1, 1)
        with open_source(kept):
            pass
        assert (source.opens, source.closes) == (2, 2)
