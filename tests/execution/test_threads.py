"""Work units in threads, without a graph."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from h5bound.execution.threads import run_in_threads
from h5bound.execution.work import ByteCount, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


@dataclass(eq=False)
class Noted:
    """A source that notes its opens and closes, and what is read and used meanwhile."""

    events: list[str] = field(default_factory=list)
    exclusive: bool = False
    key: Hashable = "noted"
    change: bool = False

    def open(self) -> Noted:
        self.events.append("open")
        return self

    def reader(self, opened: Noted) -> Noted:
        return opened

    def check(self, _opened: Noted) -> None:
        if self.change:
            raise ValueError("the source changed")

    def close(self, _opened: Noted) -> None:
        self.events.append("close")


@dataclass(frozen=True)
class Unit:
    number: int
    nbytes: int = 10
    array: int = 0
    chunk_coords: tuple[int, ...] = ()


def run(source: Noted, count: int, *, read: Callable[[int], object], told: list[int] | None = None) -> list[int]:
    """Run so many units in windows of two; return what was used."""

    def read_unit(opened: Noted, _job: object, unit: Unit) -> int:
        opened.events.append(f"read {unit.number}")
        read(unit.number)
        return unit.number

    def use_unit(_job: object, _unit: Unit, number: int) -> int:
        source.events.append(f"use {number}")
        return number

    counted = ByteCount(10 * count, None if told is None else lambda done, _: told.append(done))
    work = Work("test", read=read_unit, use=use_unit)
    units = [Unit(number) for number in range(count)]
    return run_in_threads(source, work, [None], units=units, window=20, threads=2, counted=counted)


def test_units_are_used_after_the_close_of_their_window() -> None:
    source, told = Noted(), list[int]()
    assert run(source, 5, read=lambda _: None, told=told) == [0, 1, 2, 3, 4]
    events = source.events
    assert (events.count("open"), events.count("close")) == (3, 3)
    closes = [place for place, event in enumerate(events) if event == "close"]
    for number in range(5):
        assert events.index(f"read {number}") < closes[number // 2] < events.index(f"use {number}")
    assert told == [10, 20, 30, 40, 50]


def test_progress_is_told_while_a_window_is_read() -> None:
    told: list[int] = []
    begun = threading.Event()

    def read(number: int) -> None:
        if number == 2:
            begun.set()
        if number == 3:
            begun.wait()
            time.sleep(0.1)
            assert told == [10, 20]

    run(Noted(), 4, read=read, told=told)
    assert told == [10, 20, 30, 40]


def test_after_an_error_what_runs_is_waited_for_and_nothing_else_begins() -> None:
    source, ended = Noted(), list[int]()

    def read(number: int) -> None:
        if number == 2:
            raise OSError("unit 2")
        if number == 3:
            time.sleep(0.2)
            ended.append(number)

    with pytest.raises(OSError, match="unit 2"):
        run(source, 9, read=read)
    assert ended == [3]
    assert source.events[-1] == "close"
    assert {"read 4", "use 2", "use 3"}.isdisjoint(source.events)


def test_of_a_window_whose_source_changed_nothing_is_used() -> None:
    source = Noted()

    def read(number: int) -> None:
        source.change = source.change or number == 3

    with pytest.raises(ValueError, match="the source changed"):
        run(source, 6, read=read)
    assert source.events[-1] == "close"
    assert {"use 0", "use 1"} <= {*source.events}
    assert {"use 2", "use 3", "read 4"}.isdisjoint(source.events)


@pytest.mark.parametrize("number", [3, 4, 8])
def test_an_interrupt_while_units_are_handed_out_ends_what_has_not_begun(number: int) -> None:
    class Jobs(list[None]):
        """Jobs of which the access of this number is interrupted: four of a window of four read, then four use."""

        accesses = 0

        def __getitem__(self, _place: object) -> None:  # type: ignore[override]
            self.accesses += 1
            if self.accesses == number:
                raise KeyboardInterrupt

    def slow(name: str, unit: Unit) -> int:
        source.events.append(f"{name} {unit.number}")
        time.sleep(0.1)
        return unit.number

    source = Noted()
    work = Work("test", read=lambda _, __, unit: slow("read", unit), use=lambda _, unit, __: slow("use", unit))
    units = [Unit(place) for place in range(4)]
    with pytest.raises(KeyboardInterrupt):
        run_in_threads(source, work, Jobs(), units=units, window=40, threads=1, counted=ByteCount(40, None))
    ran = [event for event in source.events if event not in ("open", "close")]
    before = [] if number <= 4 else [f"read {place}" for place in range(4)]
    assert ran[: len(before)] == before
    assert len(ran) <= len(before) + 1  # one may have begun
    assert source.events[-1] == "close" or number > 4
    assert source.events.count("close") == 1


def test_an_interrupt_while_a_thread_is_started_waits_for_what_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool does not know that thread, and nobody the future of its unit."""
    source, start = Noted(), threading.Thread.start

    def interrupt(thread: threading.Thread) -> None:
        start(thread)
        if threading.active_count() == before + 2:
            begun.wait()
            raise KeyboardInterrupt

    def read(number: int) -> None:
        running.append(threading.current_thread())
        if number == 0:
            begun.wait()
        else:
            begun.set()
            time.sleep(0.2)
            ended.append(number)

    before, begun = threading.active_count(), threading.Event()
    running, ended = list[threading.Thread](), list[int]()
    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(source, 6, read=read)
    assert ended == [1]
    assert source.events[-1] == "close"
    for thread in running:
        thread.join()
