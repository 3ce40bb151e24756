"""Show the progress of a conversion or a comparison: a bar in a terminal or notebook, or calls of a function.

rich draws the bar in a terminal, on stderr; without rich it is a line of text. In a notebook rich needs ipywidgets and
leaves nothing in the saved notebook, so there the bar is a line of HTML that is updated. Where neither is, like in a
pipe, nothing is shown.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import get_terminal_size
from threading import Lock
from typing import TYPE_CHECKING

from h5bound.reports.text import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Draw = Callable[["Step"], None]

REDRAW_SECONDS = 0.1
"""Least time between two drawings of a bar in a notebook."""

FIRST_SECONDS, SURE_SECONDS = 2, 30
"""The time left is shown after so many seconds if 5 % are done, and after so many whatever is done."""

BAR_WIDTH = 16
"""Columns of the bar in a terminal, which leaves room for the numbers in 80."""

terminal_in_use = Lock()
"""Held by the bar on the terminal: two of them would write over each other."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a phase is."""

    phase: str
    """Like ``converting``."""
    done: int = 0
    """Bytes."""
    total: int | None = None
    """Bytes; None while they are not known."""
    seconds: float = 0.0
    """Since the beginning of the phase."""
    noun: str = ""
    """What is counted in place of bytes, like ``files``."""

    def describe(self) -> str:
        """Return the bytes done, the bytes a second and the time left.

        >>> Step("converting", done=300 * 2**20, total=1200 * 2**20, seconds=2.0).describe()
        '300.0 MiB of 1.2 GiB, 150.0 MiB/s, 0:06 left'
        >>> Step("scanning", done=300, total=1200, seconds=2.0, noun="files").describe()
        '300 of 1,200 files, 0:06 left'
        """
        if self.total is None:
            return ""
        if self.noun:
            parts = [f"{self.done:,} of {self.total:,} {self.noun}"]
        else:
            parts = [f"{format_nbytes(self.done)} of {format_nbytes(self.total)}"]
        if self.done and self.seconds:
            if not self.noun:
                parts.append(f"{format_nbytes(round(self.done / self.seconds))}/s")
            left = self.seconds * (self.total - self.done) / self.done
            if self.done == self.total:
                parts.append(f"{self.seconds:.1f} s")
            elif self.seconds >= FIRST_SECONDS and (20 * self.done >= self.total or self.seconds >= SURE_SECONDS):
                parts.append(f"{format_duration(left)} left")
        return ", ".join(parts)


class Meter:
    """The progress of one call: the function that `convert` and `verify` call with bytes done and in total."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.begin("")

    def begin(self, phase: str, noun: str = "") -> None:
        """Begin a phase whose size is not known yet; `noun` is what is counted in place of bytes."""
        self.phase, self.noun, self.started = phase, noun, time.monotonic()
        if phase:
            self.draw(Step(phase))

    def __call__(self, done: int, total: int) -> None:
        """Show the bytes done, and the total."""
        seconds = time.monotonic() - self.started
        self.draw(Step(phase=self.phase, done=done, total=total, seconds=seconds, noun=self.noun))


@contextmanager
def show_progress(progress: Callable[[int, int], None] | bool | None) -> Iterator[Meter]:  # noqa: FBT001 - as the user gave it
    """Yield the meter for an argument `progress`: of a bar, of a function, or one that shows nothing.

    A meter is passed on, so that what is called within a call continues its bar.
    """
    if isinstance(progress, Meter):
        yield progress
    elif callable(progress):
        function = progress
        yield Meter(lambda step: None if step.total is None else function(step.done, step.total))
    elif progress:
        with show_bar() as draw:
            yield Meter(draw)
    else:
        yield Meter(ignore)


def split_progress(
    progress: Callable[[int, int], None] | bool | None,  # noqa: FBT001 - as the user gave it
) -> tuple[Callable[[int, int], None] | bool | None, Callable[[int, int], None] | bool | None]:
    """Return the argument `progress` of two phases; a function is told of both as one, each is half of its total.

    The total is twice the bytes of the first phase; where that has none, it is that of the second one.

    >>> first, second = split_progress(lambda done, total: print(done, total))
    >>> first(1, 3), first(3, 3), second(5, 10), second(10, 10)
    1 6
    3 6
    4 6
    6 6
    (None, None, None, None)
    """
    if not callable(progress) or isinstance(progress, Meter):
        return progress, progress
    function, half = progress, 0

    def tell_first(done: int, total: int) -> None:
        nonlocal half
        half = total
        function(done, 2 * half)

    def tell_second(done: int, total: int) -> None:
        function(half + done * (half or total) // total, 2 * half or total)

    return tell_first, tell_second


def ignore(_step: Step) -> None:
    """Show nothing."""


@contextmanager
def show_bar() -> Iterator[Draw]:
    """Yield what draws a bar where it can be seen, else what draws nothing."""
    if is_notebook():
        with draw_in_notebook() as draw:
            yield draw
    elif (
        sys.stderr is not None  # as without a console on Windows
        and sys.stderr.isatty()
        and os.environ.get("TERM") not in ("dumb", "unknown")
        and terminal_in_use.acquire(blocking=False)
    ):
        try:
            with draw_in_terminal() if find_spec("rich") else draw_line() as draw:
                yield draw
        finally:
            terminal_in_use.release()
    else:
        yield ignore


def is_notebook() -> bool:
    """Return whether this code runs in a notebook, and not in the shell of IPython."""
    shells = sys.modules.get("IPython")
    return shells is not None and type(shells.get_ipython()).__name__ not in ("NoneType", "TerminalInteractiveShell")


@contextmanager
def draw_in_terminal() -> Iterator[Draw]:
    """Yield what draws a bar of rich, which disappears at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(BAR_WIDTH), text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, text="")

        def draw(step: Step) -> None:
            bar.update(task, description=step.phase, completed=step.done, total=step.total, text=step.describe())

        yield draw


@contextmanager
def draw_line() -> Iterator[Draw]:
    """Yield what draws the same without rich: a line of text, which disappears at the end."""
    last, drawn = Step(""), float("-inf")

    def draw(step: Step) -> None:
        nonlocal last, drawn
        now = time.monotonic()
        if step.phase != last.phase or now - drawn >= REDRAW_SECONDS:
            last, drawn = step, now
            write(f"{step.phase} {step.describe()}")

    def write(text: str) -> None:
        columns = get_terminal_size().columns - 1
        print(f"\r{text[:columns]:{columns}}", end="\r", file=sys.stderr, flush=True)

    try:
        yield draw
    finally:
        write("")


@contextmanager
def draw_in_notebook() -> Iterator[Draw]:
    """Yield what draws a line of HTML, which stays as it is at the end."""
    from html import escape

    from IPython.display import display

    empty = {"text/html": "", "text/plain": ""}
    handle = display(empty, raw=True, display_id=True)
    last, drawn = Step(""), float("-inf")

    def draw(step: Step) -> None:
        nonlocal last, drawn
        now = time.monotonic()
        if step.phase == last.phase and step.done != step.total and now - drawn < REDRAW_SECONDS:
            return
        last, drawn = step, now
        value = "" if step.total is None else f' value="{step.done}" max="{max(step.total, 1)}"'
        bar = f'<progress{value} style="vertical-align: middle; width: 20em"></progress>'
        html = f"<div>{escape(step.phase)} {bar} {escape(step.describe())}</div>"
        handle.update({"text/html": html, "text/plain": f"{step.phase} {step.describe()}"}, raw=True)

    try:
        yield draw
    finally:
        if last.total is None:  # a bar without a value would move for ever
            handle.update(empty, raw=True)


def format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds.

    >>> format_duration(5.2), format_duration(3725)
    ('0:05', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
